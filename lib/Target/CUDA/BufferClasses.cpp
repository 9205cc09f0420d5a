//===- BufferClasses.cpp - which buffers share memory, and who reaches it ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "BufferClasses.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/ViewLikeInterface.h"

using namespace lowbit;
using namespace lowbit::cuda;

static bool isBuffer(Value value) { return isa<BaseMemRefType>(value.getType()); }

SmallVector<Value> cuda::readBuffers(Operation *op) {
  SmallVector<Value> buffers;
  if (auto linalgOp = dyn_cast<linalg::LinalgOp>(op)) {
    for (OpOperand *input : linalgOp.getDpsInputOperands())
      if (isBuffer(input->get()))
        buffers.push_back(input->get());
    for (OpOperand &output : linalgOp.getDpsInitsMutable())
      if (linalgOp.payloadUsesValueFromOperand(&output))
        buffers.push_back(output.get());
    op->walk([&](memref::LoadOp load) { buffers.push_back(load.getMemRef()); });
  } else if (auto launch = dyn_cast<rt::LaunchOp>(op)) {
    llvm::append_range(buffers, launch.getInputs());
  }
  return buffers;
}

SmallVector<Value> cuda::writtenBuffers(Operation *op) {
  if (auto linalgOp = dyn_cast<linalg::LinalgOp>(op))
    return llvm::to_vector(linalgOp.getDpsInits());
  if (auto launch = dyn_cast<rt::LaunchOp>(op))
    return llvm::to_vector(launch.getOutputs());
  return {};
}

BufferClasses::BufferClasses(func::FuncOp function) {
  function.walk([&](Operation *op) {
    for (Value result : op->getResults())
      if (isBuffer(result))
        classes.insert(result.getAsOpaquePointer());
    for (Region &region : op->getRegions())
      for (Block &block : region)
        for (Value argument : block.getArguments())
          if (isBuffer(argument))
            classes.insert(argument.getAsOpaquePointer());
  });
  function.walk([&](Operation *op) { uniteAliases(op); });
  chooseHostOps(function);
  recordUses(function);
}

const BufferUse &BufferClasses::operator[](Value buffer) const {
  static const BufferUse none;
  auto found = uses.find(find(buffer));
  return found == uses.end() ? none : found->second;
}

void BufferClasses::unite(Value a, Value b) {
  if (isBuffer(a) && isBuffer(b))
    classes.unionSets(a.getAsOpaquePointer(), b.getAsOpaquePointer());
}

/// What an op's results share with its operands, and what control flow hands on.
void BufferClasses::uniteAliases(Operation *op) {
  auto uniteAll = [&](ValueRange from, ValueRange to) {
    for (auto [a, b] : llvm::zip(from, to))
      unite(a, b);
  };
  if (auto view = dyn_cast<ViewLikeOpInterface>(op)) {
    for (Value result : op->getResults())
      unite(result, view.getViewSource());
  } else if (auto metadata = dyn_cast<memref::ExtractStridedMetadataOp>(op)) {
    unite(metadata.getBaseBuffer(), metadata.getSource());
  } else if (auto select = dyn_cast<arith::SelectOp>(op)) {
    unite(select.getTrueValue(), select.getResult());
    unite(select.getFalseValue(), select.getResult());
  } else if (auto branch = dyn_cast<BranchOpInterface>(op)) {
    for (unsigned i = 0; i < op->getNumSuccessors(); ++i)
      uniteAll(branch.getSuccessorOperands(i).getForwardedOperands(),
               op->getSuccessor(i)->getArguments());
  } else if (auto region = dyn_cast<RegionBranchOpInterface>(op)) {
    SmallVector<RegionSuccessor> successors;
    region.getSuccessorRegions(RegionBranchPoint::parent(), successors);
    for (RegionSuccessor &successor : successors)
      uniteAll(region.getEntrySuccessorOperands(successor), successor.getSuccessorInputs());
    for (Region &inner : op->getRegions())
      for (Block &block : inner)
        if (auto end = dyn_cast<RegionBranchTerminatorOpInterface>(block.getTerminator())) {
          SmallVector<RegionSuccessor> next;
          end.getSuccessorRegions(SmallVector<Attribute>(end->getNumOperands()), next);
          for (RegionSuccessor &successor : next)
            uniteAll(end.getSuccessorOperands(successor), successor.getSuccessorInputs());
        }
  }
}

/// Loads and stores of the host itself, outside of ops that may go to the device.
static bool isHostAccess(Operation *op) {
  return isa<memref::LoadOp, memref::StoreOp>(op) && !op->getParentOfType<linalg::LinalgOp>();
}

void BufferClasses::chooseHostOps(func::FuncOp function) {
  SmallVector<Operation *> candidates;
  llvm::DenseSet<const void *> wanted;
  SmallVector<Operation *> compute;
  function.walk([&](Operation *op) {
    if (auto load = dyn_cast<memref::LoadOp>(op); load && isHostAccess(op))
      wanted.insert(find(load.getMemRef()));
    if (auto store = dyn_cast<memref::StoreOp>(op); store && isHostAccess(op))
      wanted.insert(find(store.getMemRef()));
    if (isa<linalg::LinalgOp, rt::LaunchOp, memref::CopyOp>(op))
      compute.push_back(op);
  });
  // Backwards: what the host reads it had better compute itself, and what that reads.
  bool changed = true;
  while (changed) {
    changed = false;
    for (Operation *op : compute) {
      if (auto copy = dyn_cast<memref::CopyOp>(op); copy && wanted.contains(find(copy.getTarget())))
        changed |= wanted.insert(find(copy.getSource())).second;
      if (!isa<linalg::LinalgOp>(op) || hostOps.contains(op) ||
          llvm::none_of(writtenBuffers(op), [&](Value v) { return wanted.contains(find(v)); }))
        continue;
      hostOps.insert(op);
      for (Value input : readBuffers(op))
        wanted.insert(find(input));
      changed = true;
    }
  }
  // Forwards: what reads a kernel's results is the device's after all.
  llvm::DenseSet<const void *> onDevice;
  changed = true;
  while (changed) {
    changed = false;
    for (Operation *op : compute) {
      auto isThere = [&](Value v) { return onDevice.contains(find(v)); };
      if (hostOps.contains(op) &&
          (llvm::any_of(readBuffers(op), isThere) || llvm::any_of(writtenBuffers(op), isThere)))
        hostOps.erase(op);
      if (!hostOps.contains(op))
        for (Value output : writtenBuffers(op))
          changed |= onDevice.insert(find(output)).second;
    }
  }
}

void BufferClasses::recordUses(func::FuncOp function) {
  function.walk([&](Operation *op) {
    if (auto alloc = dyn_cast<memref::AllocOp>(op))
      uses[find(alloc)].isAllocated = true;
    else if (auto load = dyn_cast<memref::LoadOp>(op); load && isHostAccess(op))
      uses[find(load.getMemRef())].hostReads = true;
    else if (auto store = dyn_cast<memref::StoreOp>(op); store && isHostAccess(op))
      uses[find(store.getMemRef())].hostWrites = true;
    else if (isa<linalg::LinalgOp, rt::LaunchOp>(op)) {
      bool host = hostOps.contains(op);
      for (Value input : readBuffers(op))
        (host ? uses[find(input)].hostReads : uses[find(input)].deviceReads) = true;
      for (Value output : writtenBuffers(op))
        (host ? uses[find(output)].hostWrites : uses[find(output)].deviceWrites) = true;
    }
  });
  // A copy is nobody's own: it goes to where its target is, on the device where nothing else says.
  function.walk([&](memref::CopyOp copy) {
    BufferUse &from = uses[find(copy.getSource())];
    BufferUse to = uses[find(copy.getTarget())];
    if (!to.hostReads && !to.hostWrites)
      uses[find(copy.getTarget())].deviceWrites = true;
    (to.isOnDevice() || uses[find(copy.getTarget())].deviceWrites ? from.deviceReads
                                                                  : from.hostReads) = true;
  });
}
