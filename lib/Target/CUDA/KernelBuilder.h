//===- KernelBuilder.h - short names for the ops of a GPU kernel ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Kernels are written with 32-bit arithmetic on plain pointers: address space 1 is global memory, 3
// shared memory. Offsets are bytes. What a method makes is in its name or comment; constants fold
// as they are built.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CUDA_KERNELBUILDER_H
#define LOWBIT_LIB_TARGET_CUDA_KERNELBUILDER_H

#include "lowbit/Support/LLVM.h"
#include "lowbit/Target/CUDA/Schedule.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace lowbit::cuda {

class KernelBuilder : public ImplicitLocOpBuilder {
public:
  using ImplicitLocOpBuilder::ImplicitLocOpBuilder;

  Type i8() { return getI8Type(); }
  Type i32() { return getI32Type(); }
  Type f16() { return getF16Type(); }
  Type f32() { return getF32Type(); }
  Type vec(int64_t n, Type element) { return VectorType::get({n}, element); }
  Type pair16() { return vec(2, f16()); }
  Type globalPtr() { return LLVM::LLVMPointerType::get(getContext(), 1); }
  Type sharedPtr() { return LLVM::LLVMPointerType::get(getContext(), 3); }

  Value c(int64_t value) { return arith::ConstantIntOp::create(*this, i32(), value); }
  Value cf(double value, Type type = {});
  Value constant(TypedAttr value) { return arith::ConstantOp::create(*this, value); }

  Value add(Value a, Value b) { return createOrFold<arith::AddIOp>(a, b); }
  Value add(Value a, int64_t b) { return b ? add(a, c(b)) : a; }
  Value sub(Value a, Value b) { return createOrFold<arith::SubIOp>(a, b); }
  Value mul(Value a, Value b) { return createOrFold<arith::MulIOp>(a, b); }
  Value mul(Value a, int64_t b) { return createOrFold<arith::MulIOp>(a, c(b)); }
  Value div(Value a, int64_t b) { return createOrFold<arith::DivUIOp>(a, c(b)); }
  Value rem(Value a, int64_t b);
  Value bitAnd(Value a, Value b) { return createOrFold<arith::AndIOp>(a, b); }
  Value bitOr(Value a, Value b) { return createOrFold<arith::OrIOp>(a, b); }
  Value bitXor(Value a, Value b) { return createOrFold<arith::XOrIOp>(a, b); }
  Value shl(Value a, int64_t bits) { return createOrFold<arith::ShLIOp>(a, c(bits)); }
  Value shr(Value a, int64_t bits) { return createOrFold<arith::ShRUIOp>(a, c(bits)); }
  /// Unsigned: a < b.
  Value below(Value a, Value b) {
    return createOrFold<arith::CmpIOp>(arith::CmpIPredicate::ult, a, b);
  }
  Value below(Value a, int64_t b) { return below(a, c(b)); }
  Value select(Value condition, Value a, Value b) {
    return createOrFold<arith::SelectOp>(condition, a, b);
  }
  Value minS(Value a, Value b) { return createOrFold<arith::MinSIOp>(a, b); }
  Value minU(Value a, Value b) { return createOrFold<arith::MinUIOp>(a, b); }
  Value maxS(Value a, Value b) { return createOrFold<arith::MaxSIOp>(a, b); }
  /// i32 as an unsigned number, times a constant, as i64: for offsets into whole tensors.
  Value wide(Value a, int64_t factor);
  Value zext(Value a) { return createOrFold<arith::ExtUIOp>(i32(), a); }
  Value sext(Value a) { return createOrFold<arith::ExtSIOp>(i32(), a); }
  Value bitcast(Value a, Type type) { return LLVM::BitcastOp::create(*this, type, a); }

  Value threadId();
  Value blockX();
  Value blockY();

  /// `pointer` + `bytes` (i32 or i64), plus a constant.
  Value at(Value pointer, Value bytes, int64_t more = 0);
  Value at(Value pointer, int64_t bytes);
  Value load(Type type, Value pointer, int64_t alignment);
  void store(Value value, Value pointer, int64_t alignment);
  Value element(Value vectorOrStruct, int64_t index);
  Value pack(ArrayRef<Value> elements);

  /// Starts the shared memory of the launch.
  Value sharedMemory();
  void barrier();
  /// Of the lanes of a warp, all of which must come.
  void warpBarrier();
  void copyAsync(Value shared, Value global, int64_t bytes);
  void commitCopies();
  void waitForCopies(int64_t pendingGroups);
  /// Four 8×16-byte matrices whose row addresses the 32 lanes give; four i32.
  std::array<Value, 4> loadMatrices(Value row);
  /// 16×8 += 16×32 · 32×8 in wrapping 32-bit integers: `acc` four i32.
  void mmaInt8(bool unsignedA, ArrayRef<Value> a, ArrayRef<Value> b, MutableArrayRef<Value> acc);
  /// 16×8 += 16×16 · 16×8 of f16 in f32; operands as pairs of f16.
  void mmaHalf(ArrayRef<Value> a, ArrayRef<Value> b, MutableArrayRef<Value> acc);
  /// f32 to i32: round half to even, saturate.
  Value roundToInt(Value value);
  /// The f32 of lane `lane ^ distance`.
  Value shuffleXor(Value value, int64_t distance);
  Value intrinsic(StringRef name, Type result, ValueRange operands);
  /// (a & mask) | bits in one instruction.
  Value maskOr(Value a, Value mask, Value bits);

  /// Ends the launch with an error.
  void trap();
  void ifThen(Value condition, llvm::function_ref<void()> body);
  /// for i in [0, count): body(i, carried) returns the next values.
  SmallVector<Value> loop(Value count, ArrayRef<Value> init,
                          llvm::function_ref<SmallVector<Value>(Value, ArrayRef<Value>)> body);
};

/// A gpu.module after the last op of `module`, holding kernel `name` whose parameters are pointers
/// to global memory, the last `outputs` of them to results, then the number of rows as i32;
/// `builder` is left at the start of its body. Returns the kernel.
gpu::GPUFuncOp beginKernel(KernelBuilder &builder, ModuleOp module, StringRef name,
                           int64_t pointers, const LaunchShape &launch, int64_t outputs = 1);

} // namespace lowbit::cuda

#endif // LOWBIT_LIB_TARGET_CUDA_KERNELBUILDER_H
