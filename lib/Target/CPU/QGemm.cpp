//===- QGemm.cpp - int8 GEMM and convolution ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// out[m, n] = epilogue(Σ_k a[m, k] · w[n, k] + bias[n]), a unsigned, w signed 8-bit, i32
// accumulators.
//
// A row of `a` is `kh · segments_w` runs of consecutive bytes: for a linear layer one run of K, for
// a convolution in NHWC one run of kw · C per kernel row (of C per kernel element where dilated),
// so no patches are ever copied. A run is read in steps of four bytes; its packed weights are zero
// past its end, so what is read there does not matter (ScheduleCPU sees to it that it is memory).
//
// Packed weights: [block][run][ceil(length / 4)][16 · nr columns][4 bytes along K]; the same bytes
// serve every variant:
//   with a dot product instruction, 64 bytes are one operand of vpdpbusd: four products into each
//   of 16 columns; without, 16 bytes are widened to s16 and multiplied by vpmaddwd, which cannot
//   saturate (255 · 128 · 2 < 2³¹), unlike vpmaddubsw; each i32 lane then holds two of a column's
//   four products, and neighbouring lanes are added at the end.
// Integer addition is associative, so all variants and thread counts give the same bits.
//
// Sums in float (`float_sums`, linear layers only; QGemmFloat.cpp):
//   out[m, n] = (Σ_g f32(Σ_{k in g} (a[m, k] − z[m]) · w[n, k]) · s[n, g]) · t[m] + bias[n]
// with scales and zero points t and z of rows of `a` or of all of them.
//
//===----------------------------------------------------------------------===//
#include "QGemm.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace lowbit;
using namespace lowbit::cpu;

/// Chunks: rows of output pixels of a convolution, runs of `chunk` rows of a linear layer.
static Value countChunks(KernelBuilder &b, rt::KernelOp kernel, Value output) {
  if (scheduleInt(kernel, "conv"))
    return b.mul(b.dim(output, 0), b.dim(output, 1));
  return b.ceilDiv(b.dim(output, 0), scheduleInt(kernel, "chunk"));
}

static int64_t countBlocks(rt::KernelOp kernel) {
  int64_t width = kLanes * scheduleInt(kernel, "nr");
  return (scheduleInt(kernel, "n") + width - 1) / width;
}

QGemm::QGemm(KernelBuilder &b, rt::KernelOp kernel, const ISA &isa, func::FuncOp function)
    : b(b), variant(isa), conv(scheduleInt(kernel, "conv")), n(scheduleInt(kernel, "n")),
      nr(scheduleInt(kernel, "nr")), length(scheduleInt(kernel, "length")), steps((length + 3) / 4),
      runsH(scheduleInt(kernel, "runs_h")), runsW(scheduleInt(kernel, "runs_w")),
      relu(scheduleInt(kernel, "relu")), outputZero(scheduleInt(kernel, "output_zero")),
      low(scheduleInt(kernel, "output_min")), high(scheduleInt(kernel, "output_max")),
      mr(isa.dotProduct ? scheduleInt(kernel, "mr") : 2), groupVectors(isa.dotProduct ? nr : 1),
      kernel(kernel), function(function) {
  if (kernel.getSchedule().contains("group_steps")) {
    floatSums = true;
    groupSteps = scheduleInt(kernel, "group_steps");
    groups = (steps + groupSteps - 1) / groupSteps;
    perRow = scheduleInt(kernel, "per_row");
  }
}

Value cpu::countQGemmTasks(KernelBuilder &b, rt::KernelOp kernel, ValueRange memrefs) {
  return b.mul(countChunks(b, kernel, memrefs.back()), countBlocks(kernel));
}

void QGemm::run() {
  Block &entry = function.getBody().front();
  Value begin = entry.getArgument(0), end = entry.getArgument(1);
  inputMemref = entry.getArgument(2);
  outputMemref = entry.getArguments().back();
  input = b.flatten(inputMemref);
  weights = entry.getArgument(3);
  bias = entry.getArgument(4);
  multiplier = entry.getArgument(5);
  if (floatSums) {
    columnSums = entry.getArgument(6);
    inputScale = entry.getArgument(7);
    inputZero = entry.getArgument(8);
  }
  output = b.flatten(outputMemref);
  Value chunks = countChunks(b, kernel, outputMemref);
  rowStride = b.index(0);
  if (conv)
    rowStride = b.mul(b.mul(b.dim(inputMemref, 2), b.dim(inputMemref, 3)),
                      scheduleInt(kernel, "dilation_h"));

  b.loop(begin, end, b.index(1), {}, [&](Value task, ValueRange) -> SmallVector<Value> {
    Value block = arith::DivUIOp::create(b, b.loc, task, chunks);
    Chunk chunk = chunkAt(arith::RemUIOp::create(b, b.loc, task, chunks));
    Value groups = b.index(nr / groupVectors), full = b.mul(b.divFloor(chunk.count, mr), mr);
    b.loop(b.index(0), groups, b.index(1), {}, [&](Value group, ValueRange) -> SmallVector<Value> {
      b.loop(b.index(0), full, b.index(mr), {}, [&](Value row, ValueRange) -> SmallVector<Value> {
        anyTile(chunk, row, mr, block, group);
        return {};
      });
      b.loop(full, chunk.count, b.index(1), {}, [&](Value row, ValueRange) -> SmallVector<Value> {
        anyTile(chunk, row, 1, block, group);
        return {};
      });
      return {};
    });
    return {};
  });
  func::ReturnOp::create(b, b.loc);
}

QGemm::Chunk QGemm::chunkAt(Value chunk) {
  if (!conv) {
    int64_t rows = scheduleInt(kernel, "chunk");
    Value first = b.mul(chunk, rows), k = b.dim(inputMemref, 1);
    Value left = arith::SubIOp::create(b, b.loc, b.dim(outputMemref, 0), first);
    return {b.mul(first, k), k, b.min(left, b.index(rows)), b.mul(first, n), first};
  }
  Value height = b.dim(outputMemref, 1), width = b.dim(outputMemref, 2);
  Value image = arith::DivUIOp::create(b, b.loc, chunk, height);
  Value y = arith::RemUIOp::create(b, b.loc, chunk, height);
  Value inputRow =
      b.add(b.mul(image, b.dim(inputMemref, 1)), b.mul(y, scheduleInt(kernel, "stride_h")));
  Value channels = b.dim(inputMemref, 3);
  Value start = b.mul(b.mul(inputRow, b.dim(inputMemref, 2)), channels);
  return {start, b.mul(channels, scheduleInt(kernel, "stride_w")), width,
          b.mul(b.mul(chunk, width), n), Value()};
}

void QGemm::anyTile(const Chunk &chunk, Value row, int64_t rows, Value block, Value group) {
  floatSums ? tileInFloat(chunk, row, rows, block, group) : tile(chunk, row, rows, block, group);
}

/// `rows` rows from `row` on by one group of columns.
void QGemm::tile(const Chunk &chunk, Value row, int64_t rows, Value block, Value group) {
  int64_t width = kLanes * nr;
  Value column = b.add(b.mul(block, width), b.mul(group, kLanes * groupVectors));
  Value weightBase = b.add(b.mul(block, runsH * runsW * steps * width * 4),
                           b.mul(group, kLanes * groupVectors * 4));
  SmallVector<Value> rowOffsets;
  for (int64_t i = 0; i < rows; ++i)
    rowOffsets.push_back(b.add(chunk.input, b.mul(b.add(row, i), chunk.pixel)));

  int64_t lanes = variant.dotProduct ? kLanes : 8;
  Value zero = b.constantVector(b.getI32IntegerAttr(0), lanes);
  SmallVector<Value> sums(rows * partsPerRow(), zero);
  Value c0 = b.index(0), c1 = b.index(1);
  int64_t widthStep = runsW > 1 ? scheduleInt(kernel, "dilation_w") * length : 0;
  sums = b.loop(c0, b.index(runsH), c1, sums, [&](Value y, ValueRange outer) {
    Value inputRow = b.mul(y, rowStride);
    return b.loop(c0, b.index(runsW), c1, outer, [&](Value x, ValueRange middle) {
      Value inputRun = b.add(inputRow, b.mul(x, widthStep));
      Value weightRun = b.add(weightBase, b.mul(b.add(b.mul(y, runsW), x), steps * width * 4));
      return b.loop(c0, b.index(steps), c1, middle, [&](Value k, ValueRange inner) {
        return step(rowOffsets, b.add(inputRun, b.mul(k, 4)), b.add(weightRun, b.mul(k, width * 4)),
                    inner);
      });
    });
  });

  for (int64_t i = 0; i < rows; ++i) {
    Value outputRow = b.add(chunk.output, b.mul(b.add(row, i), n));
    ArrayRef<Value> parts = ArrayRef(sums).slice(i * partsPerRow(), partsPerRow());
    for (int64_t j = 0; j < groupVectors; ++j) {
      Value at = b.add(column, j * kLanes);
      finish(variant.dotProduct ? parts[j] : columns(parts), at, b.add(outputRow, at));
    }
  }
}

/// Four bytes of every row times one step of packed weights.
SmallVector<Value> QGemm::step(ArrayRef<Value> rowOffsets, Value inputOffset, Value weightOffset,
                               ValueRange accumulators) {
  int64_t parts = partsPerRow();
  SmallVector<Value> weight;
  for (int64_t j = 0; j < parts; ++j) {
    if (variant.dotProduct) {
      weight.push_back(b.load(weights, b.add(weightOffset, j * 64), 64));
    } else {
      Value bytes = b.load(weights, b.add(weightOffset, j * 16), 16);
      weight.push_back(
          arith::ExtSIOp::create(b, b.loc, VectorType::get({16}, b.getI16Type()), bytes));
    }
  }
  SmallVector<Value> next;
  for (auto [i, rowOffset] : llvm::enumerate(rowOffsets)) {
    Value bytes = b.load(input, b.add(rowOffset, inputOffset), 4), spread;
    if (variant.dotProduct) {
      Value word = vector::BitCastOp::create(b, b.loc, VectorType::get({1}, b.getI32Type()), bytes);
      word = vector::ExtractOp::create(b, b.loc, word, ArrayRef<int64_t>{0});
      spread = vector::BitCastOp::create(b, b.loc, VectorType::get({64}, b.getI8Type()),
                                         b.splat(word, kLanes));
    } else {
      Value wide = arith::ExtUIOp::create(b, b.loc, VectorType::get({4}, b.getI16Type()), bytes);
      Value word = vector::BitCastOp::create(b, b.loc, VectorType::get({1}, b.getI64Type()), wide);
      word = vector::ExtractOp::create(b, b.loc, word, ArrayRef<int64_t>{0});
      spread = vector::BitCastOp::create(b, b.loc, VectorType::get({16}, b.getI16Type()),
                                         b.splat(word, 4));
    }
    for (int64_t j = 0; j < parts; ++j)
      next.push_back(dot(accumulators[i * parts + j], spread, weight[j]));
  }
  return next;
}

Value QGemm::dot(Value accumulator, Value activations, Value weights) {
  if (variant.dotProduct)
    return LLVM::CallIntrinsicOp::create(b, b.loc, accumulator.getType(),
                                         b.getStringAttr("llvm.x86.avx512.vpdpbusd.512"),
                                         ValueRange{accumulator, activations, weights})
        .getResult(0);
  Value products = LLVM::CallIntrinsicOp::create(b, b.loc, accumulator.getType(),
                                                 b.getStringAttr("llvm.x86.avx2.pmadd.wd"),
                                                 ValueRange{activations, weights})
                       .getResult(0);
  return arith::AddIOp::create(b, b.loc, accumulator, products);
}

/// Four vectors of (column, half) pairs to one vector of 16 columns.
Value QGemm::columns(ArrayRef<Value> halves) {
  SmallVector<int64_t> even, odd, join;
  for (int64_t i = 0; i < 8; ++i) {
    even.push_back(2 * i);
    odd.push_back(2 * i + 1);
  }
  for (int64_t i = 0; i < 16; ++i)
    join.push_back(i);
  Value sums[2];
  for (int64_t h = 0; h < 2; ++h) {
    Value a = halves[2 * h], c = halves[2 * h + 1];
    Value left = vector::ShuffleOp::create(b, b.loc, a, c, even);
    Value right = vector::ShuffleOp::create(b, b.loc, a, c, odd);
    sums[h] = arith::AddIOp::create(b, b.loc, left, right);
  }
  return vector::ShuffleOp::create(b, b.loc, sums[0], sums[1], join);
}

/// The one int8 epilogue: + bias → f32 → one multiplication → (round half even, + zero, saturate).
void QGemm::finish(Value sums, Value column, Value outputOffset) {
  auto floats = VectorType::get({kLanes}, b.getF32Type());
  sums = arith::AddIOp::create(b, b.loc, sums, b.load(bias, column, kLanes));
  Value real = arith::SIToFPOp::create(b, b.loc, floats, sums);
  real = arith::MulFOp::create(b, b.loc, real, b.load(multiplier, column, kLanes));
  auto clamp = [&](Value value, arith::CmpFPredicate keep, double limit) {
    Value bound = b.constantVector(b.getF32FloatAttr(limit), kLanes);
    Value good = arith::CmpFOp::create(b, b.loc, keep, value, bound);
    return arith::SelectOp::create(b, b.loc, good, value, bound);
  };
  Type element = cast<MemRefType>(output.getType()).getElementType();
  Value result = real;
  if (isa<FloatType>(element)) {
    if (relu)
      result = clamp(result, arith::CmpFPredicate::OGT, 0.0);
  } else {
    // Saturating before the zero point is added: the limits are small integers, exact in f32.
    result = math::RoundEvenOp::create(b, b.loc, result);
    int64_t least = relu ? std::max(low, outputZero) : low;
    result = clamp(result, arith::CmpFPredicate::OGT, least - outputZero);
    result = clamp(result, arith::CmpFPredicate::OLT, high - outputZero);
    auto ints = VectorType::get({kLanes}, b.getI32Type());
    result = arith::FPToSIOp::create(b, b.loc, ints, result);
    result = arith::AddIOp::create(b, b.loc, result,
                                   b.constantVector(b.getI32IntegerAttr(outputZero), kLanes));
    result = arith::TruncIOp::create(b, b.loc, VectorType::get({kLanes}, element), result);
  }
  storeColumns(result, column, outputOffset);
}

/// A vector of columns; the last one of a row may be partial.
void QGemm::storeColumns(Value result, Value column, Value outputOffset) {
  if (n % (kLanes * nr) == 0)
    return b.store(result, output, outputOffset);
  Value end = b.add(column, kLanes);
  Value whole = arith::CmpIOp::create(b, b.loc, arith::CmpIPredicate::ule, end, b.index(n));
  scf::IfOp::create(
      b, b.loc, whole,
      [&](OpBuilder &nested, Location) {
        OpBuilder::InsertionGuard guard(b);
        b.restoreInsertionPoint(nested.saveInsertionPoint());
        b.store(result, output, outputOffset);
        scf::YieldOp::create(b, b.loc);
      },
      [&](OpBuilder &nested, Location) {
        OpBuilder::InsertionGuard guard(b);
        b.restoreInsertionPoint(nested.saveInsertionPoint());
        Value rest = arith::SubIOp::create(b, b.loc, b.index(n), column);
        b.storeMasked(result, output, outputOffset, rest);
        scf::YieldOp::create(b, b.loc);
      });
}

void cpu::generateQGemm(KernelBuilder &builder, rt::KernelOp kernel, const ISA &isa,
                        func::FuncOp function) {
  QGemm(builder, kernel, isa, function).run();
}
