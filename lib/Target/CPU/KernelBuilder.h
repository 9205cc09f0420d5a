//===- KernelBuilder.h - what the CPU generators share ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CPU_KERNELBUILDER_H
#define LOWBIT_LIB_TARGET_CPU_KERNELBUILDER_H

#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Support/LLVM.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

namespace lowbit::cpu {

/// An instruction set that a kernel variant may use.
struct ISA {
  StringRef name;     ///< As in the manifest's "isa".
  StringRef features; ///< LLVM target features on top of the module's processor.
  int64_t vectorBits; ///< Width of a register.
  bool dotProduct;    ///< vpdpbusd: four u8·s8 products summed into each i32 lane.
};

/// The variant called `name`; nullptr where there is none.
const ISA *findISA(StringRef name);

/// Columns that one packed block of weights holds per vector of the accumulator.
inline constexpr int64_t kLanes = 16;

/// An OpBuilder that spells index arithmetic and vectors shortly.
struct KernelBuilder : public OpBuilder {
  KernelBuilder(Operation *at, Location loc) : OpBuilder(at), loc(loc) {}

  Value index(int64_t value);
  Value add(Value a, Value b);
  Value add(Value a, int64_t b);
  Value mul(Value a, Value b);
  Value mul(Value a, int64_t b);
  Value divFloor(Value a, int64_t b);
  Value remainder(Value a, int64_t b);
  Value ceilDiv(Value a, int64_t b);
  Value min(Value a, Value b);
  /// Size of dimension `dim` of a memref.
  Value dim(Value memref, int64_t dim);
  /// `memref` seen as one dimension, row-major.
  Value flatten(Value memref);
  /// `count` elements of the flat memref from `offset`.
  Value load(Value flat, Value offset, int64_t count);
  void store(Value vector, Value flat, Value offset);
  /// The first `limit` of `count` elements (none where it is not positive), zeros behind them.
  Value loadMasked(Value flat, Value offset, int64_t count, Value limit);
  /// Stores only the first `limit` lanes.
  void storeMasked(Value vector, Value flat, Value offset, Value limit);
  Value splat(Value scalar, int64_t lanes);
  Value constantVector(Attribute element, int64_t lanes);
  /// for (i = begin; i < end; i += step): body(i, carried) → next carried. Returns the last
  /// carried.
  SmallVector<Value> loop(Value begin, Value end, Value step, ValueRange carried,
                          function_ref<SmallVector<Value>(Value, ValueRange)> body);

  Location loc;
};

/// Reads an integer of a kernel's schedule.
int64_t scheduleInt(rt::KernelOp kernel, StringRef key);

/// Builds the body of one variant: `function` takes (begin, end, memrefs…); the entry block is
/// empty.
using BodyGenerator = function_ref<void(KernelBuilder &, rt::KernelOp, const ISA &, func::FuncOp)>;
/// Computes the number of tasks from the launch's memrefs, in the wrapper.
using TaskCounter = function_ref<Value(KernelBuilder &, rt::KernelOp, ValueRange)>;

/// int8 GEMM and convolution; see QGemm.cpp.
void generateQGemm(KernelBuilder &builder, rt::KernelOp kernel, const ISA &isa,
                   func::FuncOp function);
Value countQGemmTasks(KernelBuilder &builder, rt::KernelOp kernel, ValueRange memrefs);

/// Weight-only GEMM on f32 activations; see WGemm.cpp.
void generateWGemm(KernelBuilder &builder, rt::KernelOp kernel, const ISA &isa,
                   func::FuncOp function);
Value countWGemmTasks(KernelBuilder &builder, rt::KernelOp kernel, ValueRange memrefs);

/// Rows of f32 to integers with ranges of their own; see RowQuant.cpp.
void generateRowQuant(KernelBuilder &builder, rt::KernelOp kernel, const ISA &isa,
                      func::FuncOp function);
Value countRowQuantTasks(KernelBuilder &builder, rt::KernelOp kernel, ValueRange memrefs);

/// f32 GEMM and convolution; see FGemm.cpp.
void generateFGemm(KernelBuilder &builder, rt::KernelOp kernel, const ISA &isa,
                   func::FuncOp function);
Value countFGemmTasks(KernelBuilder &builder, rt::KernelOp kernel, ValueRange memrefs);

/// f32 depthwise convolution; see FDepthwise.cpp.
void generateFDepthwise(KernelBuilder &builder, rt::KernelOp kernel, const ISA &isa,
                        func::FuncOp function);
Value countFDepthwiseTasks(KernelBuilder &builder, rt::KernelOp kernel, ValueRange memrefs);

/// f32 weights to FGemm's layout; see FPack.cpp.
void generateFPack(KernelBuilder &builder, rt::KernelOp kernel, const ISA &isa,
                   func::FuncOp function);
Value countFPackTasks(KernelBuilder &builder, rt::KernelOp kernel, ValueRange memrefs);

} // namespace lowbit::cpu

#endif // LOWBIT_LIB_TARGET_CPU_KERNELBUILDER_H
