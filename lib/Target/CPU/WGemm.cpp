//===- WGemm.cpp - weight-only GEMM on f32 activations ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// out[m, n] = Σ_k x[m, k] · ((q[n, k] − zero[n, g]) · scale[n, g]) + bias[n], g = k / group:
// exactly the dequantized product, accumulated in f32 along k with fused multiply-adds; each weight
// is dequantized once per `mr` rows, in registers.
//
// Packed: weights [block][k][16 · nr columns], 8 bits each; or 4 bits, where byte i of a 16-byte
// run holds columns i (low nibble) and 16 + i of 32. Signed 4-bit values are stored + 8, their zero
// points likewise. Or 16 bits: f16, which are what they stand for: their scale of 1 is not read.
// scales f32 and zeros i8 [block][group][16 · nr]. Every output is one chain of
// additions, so results do not depend on the number of threads.
//
//===----------------------------------------------------------------------===//
#include "KernelBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace lowbit;
using namespace lowbit::cpu;

namespace {
class WGemm {
public:
  WGemm(KernelBuilder &b, rt::KernelOp kernel, const ISA &isa, func::FuncOp function)
      : b(b), n(scheduleInt(kernel, "n")), k(scheduleInt(kernel, "k")),
        nr(scheduleInt(kernel, "nr")), bits(scheduleInt(kernel, "bits")),
        isSigned(scheduleInt(kernel, "signed")), group(scheduleInt(kernel, "group")),
        groups((k + group - 1) / group), relu(scheduleInt(kernel, "relu")),
        chunk(scheduleInt(kernel, "chunk")),
        mr(isa.vectorBits == 512 ? scheduleInt(kernel, "mr") : 2),
        groupVectors(isa.vectorBits == 512 ? nr : 2), function(function) {}

  void run();

private:
  void tile(Value inputBase, Value row, int64_t rows, Value block, Value columns, Value outputBase);
  SmallVector<Value> loadWeights(Value offset);
  Value widen(Value bytes);
  void finish(Value sum, Value column, Value outputOffset);

  KernelBuilder &b;
  int64_t n, k, nr, bits;
  bool isSigned;
  int64_t group, groups;
  bool relu;
  int64_t chunk, mr, groupVectors;
  func::FuncOp function;
  Value input, weights, scales, zeros, bias, output;
};
} // namespace

Value cpu::countWGemmTasks(KernelBuilder &b, rt::KernelOp kernel, ValueRange memrefs) {
  int64_t width = kLanes * scheduleInt(kernel, "nr");
  int64_t blocks = (scheduleInt(kernel, "n") + width - 1) / width;
  return b.mul(b.ceilDiv(b.dim(memrefs.back(), 0), scheduleInt(kernel, "chunk")), blocks);
}

void WGemm::run() {
  Block &entry = function.getBody().front();
  Value begin = entry.getArgument(0), end = entry.getArgument(1);
  Value rows = b.dim(entry.getArgument(7), 0);
  input = b.flatten(entry.getArgument(2));
  weights = entry.getArgument(3);
  scales = entry.getArgument(4);
  zeros = entry.getArgument(5);
  bias = entry.getArgument(6);
  output = b.flatten(entry.getArgument(7));
  Value chunks = b.ceilDiv(rows, chunk);
  b.loop(begin, end, b.index(1), {}, [&](Value task, ValueRange) -> SmallVector<Value> {
    Value block = arith::DivUIOp::create(b, b.loc, task, chunks);
    Value first = b.mul(Value(arith::RemUIOp::create(b, b.loc, task, chunks)), chunk);
    Value left = arith::SubIOp::create(b, b.loc, rows, first);
    Value count = b.min(left, b.index(chunk)), full = b.mul(b.divFloor(count, mr), mr);
    Value inputBase = b.mul(first, k), outputBase = b.mul(first, n);
    Value step = b.index(kLanes * groupVectors);
    b.loop(b.index(0), b.index(kLanes * nr), step, {},
           [&](Value columns, ValueRange) -> SmallVector<Value> {
             b.loop(b.index(0), full, b.index(mr), {},
                    [&](Value row, ValueRange) -> SmallVector<Value> {
                      tile(inputBase, row, mr, block, columns, outputBase);
                      return {};
                    });
             b.loop(full, count, b.index(1), {}, [&](Value row, ValueRange) -> SmallVector<Value> {
               tile(inputBase, row, 1, block, columns, outputBase);
               return {};
             });
             return {};
           });
    return {};
  });
  func::ReturnOp::create(b, b.loc);
}

/// `rows` rows from `row` on by 16 · groupVectors columns from `columns` on within `block`.
void WGemm::tile(Value inputBase, Value row, int64_t rows, Value block, Value columns,
                 Value outputBase) {
  int64_t width = kLanes * nr;
  SmallVector<Value> rowOffsets;
  for (int64_t i = 0; i < rows; ++i)
    rowOffsets.push_back(b.add(inputBase, b.mul(b.add(row, i), k)));
  Value zero = b.constantVector(b.getF32FloatAttr(0.0), kLanes);
  SmallVector<Value> sums(rows * groupVectors, zero);
  int64_t bytes = width * bits / 8, step = bits == 16 ? width : bytes; // f16 are elements of their own.
  Value weightBase = b.add(b.mul(block, k * step), bits < 8 ? b.divFloor(columns, 8 / bits) : columns);
  auto floats = VectorType::get({kLanes}, b.getF32Type());

  sums = b.loop(b.index(0), b.index(groups), b.index(1), sums, [&](Value g, ValueRange outer) {
    Value parameters = b.add(b.mul(b.add(b.mul(block, groups), g), width), columns);
    SmallVector<Value> scale, offset;
    for (int64_t j = 0; j < groupVectors; ++j) {
      Value at = b.add(parameters, j * kLanes);
      scale.push_back(b.load(scales, at, kLanes));
      offset.push_back(arith::SIToFPOp::create(b, b.loc, floats, widen(b.load(zeros, at, kLanes))));
    }
    Value from = b.mul(g, group), to = b.min(b.add(from, group), b.index(k));
    return b.loop(from, to, b.index(1), outer, [&](Value at, ValueRange inner) {
      SmallVector<Value> weight = loadWeights(b.add(weightBase, b.mul(at, step)));
      for (int64_t j = 0; j < groupVectors && bits != 16; ++j) {
        weight[j] = arith::SubFOp::create(b, b.loc, weight[j], offset[j]); // Exact: small integers.
        weight[j] = arith::MulFOp::create(b, b.loc, weight[j], scale[j]);
      }
      SmallVector<Value> next;
      for (int64_t i = 0; i < rows; ++i) {
        Value x = memref::LoadOp::create(b, b.loc, input, b.add(rowOffsets[i], at));
        Value spread = b.splat(x, kLanes);
        for (int64_t j = 0; j < groupVectors; ++j)
          // math.fma, not vector.fma: that one is a hint which strict floating point splits in two.
          next.push_back(
              math::FmaOp::create(b, b.loc, spread, weight[j], inner[i * groupVectors + j]));
      }
      return next;
    });
  });

  Value column = b.add(b.mul(block, width), columns);
  for (int64_t i = 0; i < rows; ++i) {
    Value outputRow = b.add(outputBase, b.mul(b.add(row, i), n));
    for (int64_t j = 0; j < groupVectors; ++j) {
      Value at = b.add(column, j * kLanes);
      finish(sums[i * groupVectors + j], at, b.add(outputRow, at));
    }
  }
}

/// 16 bytes to 16 i32, by the stored signedness (4-bit values are unsigned once unpacked).
Value WGemm::widen(Value bytes) {
  auto ints = VectorType::get({kLanes}, b.getI32Type());
  if (isSigned && bits == 8)
    return arith::ExtSIOp::create(b, b.loc, ints, bytes);
  return arith::ExtUIOp::create(b, b.loc, ints, bytes);
}

/// The stored integers of `groupVectors` vectors of columns, as f32.
SmallVector<Value> WGemm::loadWeights(Value offset) {
  auto floats = VectorType::get({kLanes}, b.getF32Type());
  SmallVector<Value> result;
  auto push = [&](Value bytes) {
    result.push_back(arith::SIToFPOp::create(b, b.loc, floats, widen(bytes)));
  };
  if (bits == 16) {
    for (int64_t j = 0; j < groupVectors; ++j) {
      Value half = b.load(weights, b.add(offset, j * kLanes), kLanes);
      result.push_back(arith::ExtFOp::create(b, b.loc, floats, half));
    }
    return result;
  }
  if (bits == 8) {
    for (int64_t j = 0; j < groupVectors; ++j)
      push(b.load(weights, b.add(offset, j * kLanes), kLanes));
    return result;
  }
  Value mask = b.constantVector(b.getI8IntegerAttr(15), kLanes);
  Value four = b.constantVector(b.getI8IntegerAttr(4), kLanes);
  for (int64_t j = 0; j < groupVectors / 2; ++j) {
    Value bytes = b.load(weights, b.add(offset, j * kLanes), kLanes);
    push(arith::AndIOp::create(b, b.loc, bytes, mask));
    push(arith::ShRUIOp::create(b, b.loc, bytes, four));
  }
  return result;
}

void WGemm::finish(Value sum, Value column, Value outputOffset) {
  Value result = arith::AddFOp::create(b, b.loc, sum, b.load(bias, column, kLanes));
  if (relu) {
    Value zero = b.constantVector(b.getF32FloatAttr(0.0), kLanes);
    // Unordered: a NaN passes, as in the float model.
    Value negative = arith::CmpFOp::create(b, b.loc, arith::CmpFPredicate::OLT, result, zero);
    result = arith::SelectOp::create(b, b.loc, negative, zero, result);
  }
  if (n % (kLanes * nr) == 0)
    return b.store(result, output, outputOffset);
  // A mask of f32 lanes is one instruction on every variant; past the end it is empty.
  Value rest = arith::SubIOp::create(b, b.loc, b.index(n), column);
  b.storeMasked(result, output, outputOffset, rest);
}

void cpu::generateWGemm(KernelBuilder &builder, rt::KernelOp kernel, const ISA &isa,
                        func::FuncOp function) {
  WGemm(builder, kernel, isa, function).run();
}
