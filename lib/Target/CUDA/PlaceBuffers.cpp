//===- PlaceBuffers.cpp - which buffers are the host's and which the device's ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "BufferClasses.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Target/CUDA/Passes.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/GPU/Transforms/ParallelLoopMapper.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Builders.h"

namespace lowbit {
#define GEN_PASS_DEF_PLACEBUFFERS
#include "lowbit/Target/CUDA/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;
using namespace lowbit::cuda;

/// A host op on more elements than this is more than arithmetic on shapes.
static constexpr int64_t kShapeElements = 64;

static SmallVector<Value> dynamicSizes(OpBuilder &builder, Location loc, Value buffer) {
  auto type = cast<MemRefType>(buffer.getType());
  SmallVector<Value> sizes;
  for (int64_t d = 0; d < type.getRank(); ++d)
    if (type.isDynamicDim(d))
      sizes.push_back(memref::DimOp::create(builder, loc, buffer, d));
  return sizes;
}

static MemRefType rowMajor(Value buffer) {
  auto type = cast<MemRefType>(buffer.getType());
  return MemRefType::get(type.getShape(), type.getElementType());
}

/// Copies between strided views, as an op that may run on either side.
static Operation *copyElements(OpBuilder &builder, Location loc, Value from, Value to) {
  auto rank = cast<MemRefType>(from.getType()).getRank();
  AffineMap id = builder.getMultiDimIdentityMap(rank);
  return linalg::GenericOp::create(
      builder, loc, TypeRange(), from, to, ArrayRef<AffineMap>{id, id},
      SmallVector<utils::IteratorType>(rank, utils::IteratorType::parallel),
      [](OpBuilder &nested, Location at, ValueRange args) {
        linalg::YieldOp::create(nested, at, args[0]);
      });
}

namespace {
struct PlaceBuffers : lowbit::impl::PlaceBuffersBase<PlaceBuffers> {
  void runOnOperation() override {
    func::FuncOp function = getOperation();
    BufferClasses classes(function);
    this->classes = &classes;
    SmallVector<Operation *> ops;
    SmallVector<memref::AllocOp> allocations;
    SmallVector<memref::DeallocOp> deallocations;
    function.walk([&](Operation *op) {
      if (auto alloc = dyn_cast<memref::AllocOp>(op))
        allocations.push_back(alloc);
      else if (auto dealloc = dyn_cast<memref::DeallocOp>(op))
        deallocations.push_back(dealloc);
      else
        ops.push_back(op);
    });
    for (Operation *op : ops) {
      if (isa<linalg::LinalgOp, rt::LaunchOp>(op))
        place(op);
      else if (auto load = dyn_cast<memref::LoadOp>(op); load && isHostAccess(op))
        fetch(load);
      else if (auto store = dyn_cast<memref::StoreOp>(op); store && isHostAccess(op))
        storeOnDevice(store);
      else if (auto copy = dyn_cast<memref::CopyOp>(op))
        transfer(copy);
    }
    // Deallocations first: classes know the buffers by what allocated them.
    for (memref::DeallocOp dealloc : deallocations)
      moveDeallocation(dealloc);
    for (memref::AllocOp alloc : allocations)
      moveAllocation(alloc);
    describeHost(function);
  }

  static bool isHostAccess(Operation *op) { return !op->getParentOfType<linalg::LinalgOp>(); }
  /// Where allocations of the class decide; inputs and weights are on both sides.
  bool isOnDevice(Value buffer) const {
    const BufferUse &use = (*classes)[buffer];
    return use.isAllocated && use.isOnDevice();
  }
  bool isOnHost(Value buffer) const {
    const BufferUse &use = (*classes)[buffer];
    return use.isAllocated && !use.isOnDevice();
  }

  void place(Operation *op);
  Value upload(OpBuilder &builder, Operation *user, Value buffer);
  void fetch(memref::LoadOp load);
  void storeOnDevice(memref::StoreOp store);
  void transfer(memref::CopyOp copy);
  void moveAllocation(memref::AllocOp alloc);
  void moveDeallocation(memref::DeallocOp dealloc);
  void describeHost(func::FuncOp function);

  const BufferClasses *classes = nullptr;
  bool synchronizes = false;
};
} // namespace

/// What the runtime has to know to replay the launches of one run in another.
void PlaceBuffers::describeHost(func::FuncOp function) {
  Builder builder(&getContext());
  SmallVector<int64_t> reads;
  for (BlockArgument argument : function.getArguments())
    if (isa<BaseMemRefType>(argument.getType()) && (*classes)[argument].hostReads)
      reads.push_back(argument.getArgNumber());
  if (!reads.empty())
    function->setAttr(kHostReads, builder.getDenseI64ArrayAttr(reads));
  if (synchronizes)
    function->setAttr(kSynchronizes, builder.getUnitAttr());
}

/// A host op keeps its place and says so; a device op gets device copies of what the host made.
void PlaceBuffers::place(Operation *op) {
  if (classes->isHosts(op)) {
    op->setAttr(kOnHost, UnitAttr::get(&getContext()));
    ++onHost;
    for (Value output : writtenBuffers(op)) {
      auto type = cast<MemRefType>(output.getType());
      if (!type.hasStaticShape() || type.getNumElements() > kShapeElements)
        op->emitRemark("runs on the host: the host decides by its results");
    }
    return;
  }
  for (Value input : readBuffers(op)) {
    if (!isOnHost(input))
      continue;
    OpBuilder builder(op);
    Value copy = upload(builder, op, input);
    input.replaceUsesWithIf(
        copy, [&](OpOperand &use) { return op->isAncestor(use.getOwner()); });
  }
}

/// A device copy for `user` alone.
Value PlaceBuffers::upload(OpBuilder &builder, Operation *user, Value buffer) {
  Location loc = user->getLoc();
  Value source = buffer, compact;
  SmallVector<Value> sizes = dynamicSizes(builder, loc, buffer);
  if (!cast<MemRefType>(buffer.getType()).getLayout().isIdentity()) {
    source = compact = memref::AllocOp::create(builder, loc, rowMajor(buffer), sizes);
    copyElements(builder, loc, buffer, compact)->setAttr(kOnHost, builder.getUnitAttr());
  }
  Value copy = rt::DeviceAllocOp::create(builder, loc, rowMajor(buffer), sizes);
  rt::TransferOp::create(builder, loc, source, copy);
  ++transfers;
  if (compact)
    memref::DeallocOp::create(builder, loc, compact);
  OpBuilder after(&getContext());
  after.setInsertionPointAfter(user);
  rt::DeviceFreeOp::create(after, loc, copy);
  return copy;
}

/// The host's view of device memory: a copy, made outside of the loops that do not change it.
void PlaceBuffers::fetch(memref::LoadOp load) {
  Value buffer = load.getMemRef();
  if (!isOnDevice(buffer))
    return;
  Operation *at = load;
  for (Operation *parent = load->getParentOp(); !isa<func::FuncOp>(parent);
       parent = parent->getParentOp()) {
    if (parent->isAncestor(buffer.getParentRegion()->getParentOp()))
      break;
    auto changes = [&](Operation *op) {
      bool writes = llvm::any_of(writtenBuffers(op), [&](Value v) {
        return classes->haveSameMemory(v, buffer);
      });
      if (auto store = dyn_cast<memref::StoreOp>(op))
        writes = classes->haveSameMemory(store.getMemRef(), buffer);
      if (auto copy = dyn_cast<memref::CopyOp>(op))
        writes = classes->haveSameMemory(copy.getTarget(), buffer);
      return writes ? WalkResult::interrupt() : WalkResult::advance();
    };
    if (parent->walk(changes).wasInterrupted())
      break;
    at = parent;
  }
  OpBuilder builder(at);
  Location loc = load.getLoc();
  SmallVector<Value> sizes = dynamicSizes(builder, loc, buffer);
  Value source = buffer, compact;
  if (!cast<MemRefType>(buffer.getType()).getLayout().isIdentity()) {
    source = compact = rt::DeviceAllocOp::create(builder, loc, rowMajor(buffer), sizes);
    copyElements(builder, loc, buffer, compact);
  }
  Value copy = memref::AllocOp::create(builder, loc, rowMajor(buffer), sizes);
  rt::TransferOp::create(builder, loc, source, copy);
  ++downloads;
  synchronizes = true;
  load.emitRemark("the host waits for a value that the GPU computes");
  load.getMemrefMutable().assign(copy);
  OpBuilder after(&getContext());
  after.setInsertionPointAfter(at);
  memref::DeallocOp::create(after, loc, copy);
  if (compact)
    rt::DeviceFreeOp::create(after, loc, compact);
}

/// A store into device memory is a kernel of one thread.
void PlaceBuffers::storeOnDevice(memref::StoreOp store) {
  if (!isOnDevice(store.getMemRef()))
    return;
  OpBuilder builder(store);
  Location loc = store.getLoc();
  Value zero = arith::ConstantIndexOp::create(builder, loc, 0),
        one = arith::ConstantIndexOp::create(builder, loc, 1);
  AffineMap identity = builder.getMultiDimIdentityMap(1);
  auto nest = [&](gpu::Processor processor) {
    auto loop = scf::ParallelOp::create(builder, loc, zero, one, one);
    auto mapping = gpu::ParallelLoopDimMappingAttr::get(&getContext(), processor, identity, identity);
    (void)gpu::setMappingAttr(loop, mapping);
    builder.setInsertionPointToStart(loop.getBody());
    return loop;
  };
  nest(gpu::Processor::BlockX);
  scf::ParallelOp thread = nest(gpu::Processor::ThreadX);
  store->moveBefore(thread.getBody()->getTerminator());
  ++stores;
}

/// Copies across the border; lowbit-expand-copies has left none that is not contiguous.
void PlaceBuffers::transfer(memref::CopyOp copy) {
  if (!isOnDevice(copy.getSource()) && !isOnDevice(copy.getTarget()))
    return;
  OpBuilder builder(copy);
  synchronizes |= isOnDevice(copy.getSource()) && !isOnDevice(copy.getTarget());
  rt::TransferOp::create(builder, copy.getLoc(), copy.getSource(), copy.getTarget());
  copy.erase();
  ++transfers;
}

void PlaceBuffers::moveAllocation(memref::AllocOp alloc) {
  if (!isOnDevice(alloc))
    return;
  OpBuilder builder(alloc);
  alloc.replaceAllUsesWith(
      rt::DeviceAllocOp::create(builder, alloc.getLoc(), alloc.getType(), alloc.getDynamicSizes())
          .getResult());
  ++onDevice;
  alloc.erase();
}

void PlaceBuffers::moveDeallocation(memref::DeallocOp dealloc) {
  if (!isOnDevice(dealloc.getMemref()))
    return;
  OpBuilder builder(dealloc);
  rt::DeviceFreeOp::create(builder, dealloc.getLoc(), dealloc.getMemref());
  dealloc.erase();
}
