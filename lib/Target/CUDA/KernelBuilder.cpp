//===- KernelBuilder.cpp - short names for the ops of a GPU kernel ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "KernelBuilder.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/IR/BuiltinOps.h"

using namespace lowbit;
using namespace lowbit::cuda;

static constexpr llvm::StringLiteral kSharedName = "lowbit_shared";

Value KernelBuilder::cf(double value, Type type) {
  Type scalar = type ? getElementTypeOrSelf(type) : f32();
  FloatAttr attr = getFloatAttr(scalar, value);
  if (auto vector = dyn_cast_or_null<VectorType>(type))
    return constant(DenseElementsAttr::get(vector, attr.getValue()));
  return constant(attr);
}

Value KernelBuilder::rem(Value a, int64_t b) {
  return b == 1 ? c(0) : createOrFold<arith::RemUIOp>(a, c(b));
}

Value KernelBuilder::wide(Value a, int64_t factor) {
  Value extended = createOrFold<arith::ExtUIOp>(getI64Type(), a);
  return createOrFold<arith::MulIOp>(extended,
                                     arith::ConstantIntOp::create(*this, getI64Type(), factor));
}

Value KernelBuilder::threadId() { return NVVM::ThreadIdXOp::create(*this, i32()); }
Value KernelBuilder::blockX() { return NVVM::BlockIdXOp::create(*this, i32()); }
Value KernelBuilder::blockY() { return NVVM::BlockIdYOp::create(*this, i32()); }

Value KernelBuilder::at(Value pointer, Value bytes, int64_t more) {
  if (more)
    bytes = createOrFold<arith::AddIOp>(bytes,
                                        arith::ConstantIntOp::create(*this, bytes.getType(), more));
  return LLVM::GEPOp::create(*this, pointer.getType(), i8(), pointer,
                             ArrayRef<LLVM::GEPArg>{bytes});
}

Value KernelBuilder::at(Value pointer, int64_t bytes) {
  return bytes ? at(pointer, c(bytes)) : pointer;
}

Value KernelBuilder::load(Type type, Value pointer, int64_t alignment) {
  return LLVM::LoadOp::create(*this, type, pointer, alignment);
}

void KernelBuilder::store(Value value, Value pointer, int64_t alignment) {
  LLVM::StoreOp::create(*this, value, pointer, alignment);
}

Value KernelBuilder::element(Value aggregate, int64_t index) {
  if (isa<VectorType>(aggregate.getType()))
    return LLVM::ExtractElementOp::create(*this, aggregate, c(index));
  return LLVM::ExtractValueOp::create(*this, aggregate, ArrayRef<int64_t>{index});
}

Value KernelBuilder::pack(ArrayRef<Value> elements) {
  Value vector = LLVM::PoisonOp::create(*this, vec(elements.size(), elements.front().getType()));
  for (auto [i, value] : llvm::enumerate(elements))
    vector = LLVM::InsertElementOp::create(*this, vector, value, c(i));
  return vector;
}

Value KernelBuilder::sharedMemory() {
  return LLVM::AddressOfOp::create(*this, sharedPtr(), kSharedName);
}

void KernelBuilder::barrier() { NVVM::Barrier0Op::create(*this); }

void KernelBuilder::warpBarrier() { NVVM::SyncWarpOp::create(*this, c(-1)); }

void KernelBuilder::copyAsync(Value shared, Value global, int64_t bytes) {
  // Only 16-byte copies can leave the L1 cache out.
  auto cache = bytes == 16 ? NVVM::LoadCacheModifierKind::CG : NVVM::LoadCacheModifierKind::CA;
  NVVM::CpAsyncOp::create(*this, shared, global, static_cast<uint32_t>(bytes), cache, Value());
}

void KernelBuilder::commitCopies() { NVVM::CpAsyncCommitGroupOp::create(*this); }
void KernelBuilder::waitForCopies(int64_t pendingGroups) {
  NVVM::CpAsyncWaitGroupOp::create(*this, static_cast<uint32_t>(pendingGroups));
}

std::array<Value, 4> KernelBuilder::loadMatrices(Value row) {
  auto type = LLVM::LLVMStructType::getLiteral(getContext(), SmallVector<Type>(4, i32()));
  auto shape = NVVM::LdStMatrixShapeAttr::get(getContext(), 8, 8);
  Value all = NVVM::LdMatrixOp::create(
      *this, type, row, getI32IntegerAttr(4),
      NVVM::MMALayoutAttr::get(getContext(), NVVM::MMALayout::row), shape,
      NVVM::LdStMatrixEltTypeAttr::get(getContext(), NVVM::LdStMatrixEltType::B16));
  return {element(all, 0), element(all, 1), element(all, 2), element(all, 3)};
}

static constexpr std::array<NVVM::MMALayout, 2> kRowCol = {NVVM::MMALayout::row,
                                                           NVVM::MMALayout::col};

void KernelBuilder::mmaInt8(bool unsignedA, ArrayRef<Value> a, ArrayRef<Value> b,
                            MutableArrayRef<Value> acc) {
  auto type = LLVM::LLVMStructType::getLiteral(getContext(), SmallVector<Type>(4, i32()));
  std::array<NVVM::MMATypes, 2> types = {unsignedA ? NVVM::MMATypes::u8 : NVVM::MMATypes::s8,
                                         NVVM::MMATypes::s8};
  Value result = NVVM::MmaOp::create(*this, type, ValueRange(a), ValueRange(b), ValueRange(acc),
                                     ArrayRef<int64_t>{16, 8, 32}, std::nullopt,
                                     NVVM::MMAIntOverflow::wrapped, types, kRowCol);
  for (int i = 0; i < 4; ++i)
    acc[i] = element(result, i);
}

void KernelBuilder::mmaHalf(ArrayRef<Value> a, ArrayRef<Value> b, MutableArrayRef<Value> acc) {
  auto type = LLVM::LLVMStructType::getLiteral(getContext(), SmallVector<Type>(4, f32()));
  Value result = NVVM::MmaOp::create(*this, type, ValueRange(a), ValueRange(b), ValueRange(acc),
                                     ArrayRef<int64_t>{16, 8, 16}, std::nullopt, std::nullopt,
                                     std::nullopt, kRowCol);
  for (int i = 0; i < 4; ++i)
    acc[i] = element(result, i);
}

Value KernelBuilder::intrinsic(StringRef name, Type result, ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(*this, result, getStringAttr(name), operands).getResult(0);
}

Value KernelBuilder::shuffleXor(Value value, int64_t distance) {
  return NVVM::ShflOp::create(*this, f32(), c(-1), value, c(distance), c(31), NVVM::ShflKind::bfly,
                              UnitAttr());
}

Value KernelBuilder::roundToInt(Value value) { return intrinsic("llvm.nvvm.f2i.rn", i32(), value); }

Value KernelBuilder::maskOr(Value a, Value mask, Value bits) {
  // No side effects, so that equal ones are shared and unused ones vanish. 0xEA is the truth table.
  return LLVM::InlineAsmOp::create(*this, TypeRange{i32()}, ValueRange{a, mask, bits},
                                   "lop3.b32 $0, $1, $2, $3, 0xEA;", "=r,r,r,r",
                                   /*has_side_effects=*/false,
                                   /*is_align_stack=*/false, LLVM::TailCallKind::None,
                                   LLVM::AsmDialectAttr(), ArrayAttr())
      .getResult(0);
}

void KernelBuilder::trap() {
  LLVM::CallIntrinsicOp::create(*this, getStringAttr("llvm.trap"), ValueRange{});
}

void KernelBuilder::ifThen(Value condition, llvm::function_ref<void()> body) {
  auto branch = scf::IfOp::create(*this, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(branch.thenBlock());
  body();
}

SmallVector<Value>
KernelBuilder::loop(Value count, ArrayRef<Value> init,
                    llvm::function_ref<SmallVector<Value>(Value, ArrayRef<Value>)> body) {
  auto loop = scf::ForOp::create(*this, c(0), count, c(1), init);
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(loop.getBody());
  SmallVector<Value> next =
      body(loop.getInductionVar(), SmallVector<Value>(loop.getRegionIterArgs()));
  if (!next.empty())
    scf::YieldOp::create(*this, next);
  return SmallVector<Value>(loop.getResults());
}

gpu::GPUFuncOp cuda::beginKernel(KernelBuilder &b, ModuleOp module, StringRef name,
                                 int64_t pointers, const LaunchShape &launch, int64_t outputs) {
  b.setInsertionPointToEnd(module.getBody());
  // The lowbit_rt.kernel has the plain name.
  auto gpuModule = gpu::GPUModuleOp::create(b, (name + "_device").str());
  b.setInsertionPointToStart(gpuModule.getBody());
  auto bytes = LLVM::LLVMArrayType::get(b.getI8Type(), 0);
  LLVM::GlobalOp::create(b, bytes, /*isConstant=*/false, LLVM::Linkage::External, kSharedName,
                         Attribute(),
                         /*alignment=*/128, /*addrSpace=*/3);
  SmallVector<Type> parameters(pointers, b.globalPtr());
  parameters.push_back(b.i32());
  auto kernel = gpu::GPUFuncOp::create(b, name, b.getFunctionType(parameters, {}));
  kernel->setAttr(gpu::GPUDialect::getKernelFuncAttrName(), b.getUnitAttr());
  kernel.setKnownBlockSizeAttr(
      b.getDenseI32ArrayAttr({static_cast<int32_t>(launch.threads), 1, 1}));
  kernel->setAttr("lowbit.launch", b.getDenseI64ArrayAttr({launch.threads, launch.rowsPerBlock,
                                                           launch.blocksN, launch.sharedBytes}));
  for (int64_t i = 0; i < pointers; ++i) {
    kernel.setArgAttr(i, LLVM::LLVMDialect::getNoAliasAttrName(), b.getUnitAttr());
    // What is never written may be read through the read-only cache.
    if (i < pointers - outputs)
      kernel.setArgAttr(i, LLVM::LLVMDialect::getReadonlyAttrName(), b.getUnitAttr());
  }
  b.setInsertionPointToStart(&kernel.getBody().front());
  return kernel;
}
