//===- FGemm.cpp - f32 GEMM and convolution ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// out[g, m, n] = bias[n] + Σ_k x[g, m, k] · w[g, k, n], every size read from the buffers, so one
// kernel serves all layers of one tile.
//
// A row of `x` is K consecutive floats or, for a convolution in padded NHWC, `runs_h · runs_w` runs
// of `length` floats: one per kernel row, or per kernel element where dilated. No patches are
// copied: the multiplier of x is one float, broadcast, so rows may lie anywhere.
//
// Packed weights: [g][block][K][16 · nr columns] (packFGemm, FPack.cpp). A task is one block by
// `chunk` rows. It goes through K in steps whose weights stay in the second cache, and keeps the
// sums of all its rows in `out` between steps. Every output is thus one chain of fused
// multiply-adds in the order of K, whatever the number of threads, of rows, or the vector width.
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

/// Of K: 16 · nr columns of so many rows of weights are at most 128 KiB.
static constexpr int64_t kStep = 512;

namespace {
class FGemm {
public:
  FGemm(KernelBuilder &b, rt::KernelOp kernel, const ISA &isa, func::FuncOp function)
      : b(b), conv(scheduleInt(kernel, "conv")), nr(scheduleInt(kernel, "nr")),
        chunk(scheduleInt(kernel, "chunk")), partial(scheduleInt(kernel, "partial")),
        hasBias(scheduleInt(kernel, "bias")), shared(scheduleInt(kernel, "shared")),
        wide(isa.vectorBits == 512), kernel(kernel), function(function) {}

  void run();

private:
  /// What the steps over K of one task share.
  struct Task {
    Value input, weights, bias, output; // Where each begins.
    Value count, columns;               // Rows, and columns of out from the block's first on.
  };
  /// Runs [y, yEnd) and elements [k, kEnd) of a run.
  struct Step {
    Value y, yEnd, k, kEnd, isFirst;
  };
  void task(Value index);
  void placeRows(Value first, Value count);
  void step(const Task &task, const Step &step);
  void tile(const Task &task, const Step &step, Value row, int64_t rows, Value column,
            int64_t vectors);
  Value load(Value flat, Value offset, Value limit);
  void store(Value vector, Value offset, Value limit);
  Value option(Value condition, Value yes, Value no) {
    return arith::SelectOp::create(b, b.loc, condition, yes, no);
  }

  KernelBuilder &b;
  bool conv;
  int64_t nr, chunk;
  bool partial, hasBias, shared, wide;
  rt::KernelOp kernel;
  func::FuncOp function;
  Value inputMemref, outputMemref, input, weights, bias, output, rowOffsets;
  Value m, n, total, chunks, blocks;                                // total: K of a whole row.
  Value runsH, runsW, length, strideH, strideW, rowStep, elementStep; // Of a convolution.
};
} // namespace

static Value countRows(KernelBuilder &b, rt::KernelOp kernel, Value output) {
  if (!scheduleInt(kernel, "conv"))
    return b.dim(output, 1);
  return b.mul(b.mul(b.dim(output, 0), b.dim(output, 1)), b.dim(output, 2));
}

static Value countBlocks(KernelBuilder &b, rt::KernelOp kernel, Value output) {
  int64_t last = cast<MemRefType>(output.getType()).getRank() - 1;
  return b.ceilDiv(b.dim(output, last), kLanes * scheduleInt(kernel, "nr"));
}

Value cpu::countFGemmTasks(KernelBuilder &b, rt::KernelOp kernel, ValueRange memrefs) {
  Value output = memrefs.back();
  Value chunks = b.ceilDiv(countRows(b, kernel, output), scheduleInt(kernel, "chunk"));
  Value tasks = b.mul(chunks, countBlocks(b, kernel, output));
  return scheduleInt(kernel, "conv") ? tasks : b.mul(tasks, b.dim(output, 0));
}

void FGemm::run() {
  Block &entry = function.getBody().front();
  ValueRange arguments = entry.getArguments();
  inputMemref = arguments[2];
  outputMemref = arguments.back();
  input = b.flatten(inputMemref);
  weights = arguments[3];
  if (hasBias)
    bias = arguments[4];
  output = b.flatten(outputMemref);
  m = countRows(b, kernel, outputMemref);
  n = b.dim(outputMemref, conv ? 3 : 2);
  chunks = b.ceilDiv(m, chunk);
  blocks = countBlocks(b, kernel, outputMemref);
  if (conv) {
    Value geometry = arguments[arguments.size() - 2];
    auto entryOf = [&](int64_t i) -> Value {
      Value number = memref::LoadOp::create(b, b.loc, geometry, b.index(i));
      return arith::IndexCastOp::create(b, b.loc, b.getIndexType(), number);
    };
    runsH = entryOf(0);
    runsW = entryOf(1);
    length = entryOf(2);
    strideH = entryOf(3);
    strideW = entryOf(4);
    Value channels = b.dim(inputMemref, 3);
    rowStep = b.mul(entryOf(5), b.mul(b.dim(inputMemref, 2), channels));
    elementStep = b.mul(entryOf(6), channels);
    total = b.mul(b.mul(runsH, runsW), length);
    rowOffsets =
        memref::AllocaOp::create(b, b.loc, MemRefType::get({chunk}, b.getIndexType()));
  } else {
    total = length = b.dim(inputMemref, 2);
  }
  b.loop(arguments[0], arguments[1], b.index(1), {},
         [&](Value index, ValueRange) -> SmallVector<Value> {
           task(index);
           return {};
         });
  func::ReturnOp::create(b, b.loc);
}

/// Where in the input each row of a convolution's chunk begins.
void FGemm::placeRows(Value first, Value count) {
  Value width = b.dim(outputMemref, 2), height = b.dim(outputMemref, 1);
  b.loop(b.index(0), count, b.index(1), {}, [&](Value i, ValueRange) -> SmallVector<Value> {
    Value pixel = b.add(first, i);
    Value line = arith::DivUIOp::create(b, b.loc, pixel, width);
    Value x = arith::RemUIOp::create(b, b.loc, pixel, width);
    Value image = arith::DivUIOp::create(b, b.loc, line, height);
    Value y = arith::RemUIOp::create(b, b.loc, line, height);
    Value inputLine = b.add(b.mul(image, b.dim(inputMemref, 1)), b.mul(y, strideH));
    Value inputPixel = b.add(b.mul(inputLine, b.dim(inputMemref, 2)), b.mul(x, strideW));
    memref::StoreOp::create(b, b.loc, b.mul(inputPixel, b.dim(inputMemref, 3)), rowOffsets, i);
    return {};
  });
}

void FGemm::task(Value index) {
  // Neighbouring tasks share the weights.
  Value rest = arith::DivUIOp::create(b, b.loc, index, chunks);
  Value first = b.mul(Value(arith::RemUIOp::create(b, b.loc, index, chunks)), chunk);
  Value block = rest, matrix;
  if (!conv) {
    block = arith::RemUIOp::create(b, b.loc, rest, blocks);
    matrix = arith::DivUIOp::create(b, b.loc, rest, blocks);
  }
  Task task;
  task.count = b.min(Value(arith::SubIOp::create(b, b.loc, m, first)), b.index(chunk));
  task.bias = b.mul(block, kLanes * nr);
  task.columns = arith::SubIOp::create(b, b.loc, n, task.bias);
  Value row = conv ? first : b.add(b.mul(matrix, m), first);
  task.output = b.add(b.mul(row, n), task.bias);
  if (conv)
    placeRows(first, task.count);
  else
    task.input = b.mul(shared ? first : row, total);
  Value weightBlock = conv ? block : b.add(b.mul(matrix, blocks), block);
  task.weights = b.mul(b.mul(weightBlock, total), kLanes * nr);

  // At least one step, which writes the bias where there is nothing to sum.
  Value zero = b.index(0), one = b.index(1);
  Value atLeastOne = arith::MaxUIOp::create(b, b.loc, length, one);
  if (!conv) {
    b.loop(zero, atLeastOne, b.index(kStep), {}, [&](Value k, ValueRange) -> SmallVector<Value> {
      Value isFirst = arith::CmpIOp::create(b, b.loc, arith::CmpIPredicate::eq, k, zero);
      step(task, {zero, one, k, b.min(b.add(k, kStep), length), isFirst});
      return {};
    });
    return;
  }
  // Short kernel rows go together; a dilated one is not cut.
  Value line = b.mul(runsW, atLeastOne);
  Value lines = arith::MaxUIOp::create(b, b.loc, arith::DivUIOp::create(b, b.loc, b.index(kStep), line),
                                       one);
  Value whole = arith::CmpIOp::create(b, b.loc, arith::CmpIPredicate::eq, runsW, one);
  Value cut = option(whole, arith::MaxUIOp::create(b, b.loc, b.index(kStep), one), atLeastOne);
  Value height = arith::MaxUIOp::create(b, b.loc, runsH, one);
  b.loop(zero, height, lines, {}, [&](Value y, ValueRange) -> SmallVector<Value> {
    b.loop(zero, atLeastOne, cut, {}, [&](Value k, ValueRange) -> SmallVector<Value> {
      Value isFirst =
          arith::CmpIOp::create(b, b.loc, arith::CmpIPredicate::eq, b.add(y, k), zero);
      step(task, {y, b.min(b.add(y, lines), runsH), k, b.min(b.add(k, cut), length), isFirst});
      return {};
    });
    return {};
  });
}

void FGemm::step(const Task &task, const Step &step) {
  // 24 of 32 registers, or 12 of 16, hold sums.
  int64_t vectors = wide ? nr : 1, rows = wide ? (nr == 4 ? 6 : nr == 2 ? 12 : 14) : 6;
  b.loop(b.index(0), task.count, b.index(rows), {}, [&](Value row, ValueRange) -> SmallVector<Value> {
    Value last = arith::CmpIOp::create(b, b.loc, arith::CmpIPredicate::eq, b.add(row, 1), task.count);
    auto branch = scf::IfOp::create(b, b.loc, last, /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&branch.getThenRegion().front());
    tile(task, step, row, 1, b.index(0), nr);
    b.setInsertionPointToStart(&branch.getElseRegion().front());
    b.loop(b.index(0), b.index(kLanes * nr), b.index(kLanes * vectors), {},
           [&](Value column, ValueRange) -> SmallVector<Value> {
             tile(task, step, row, rows, column, vectors);
             return {};
           });
    return {};
  });
}

/// `rows` rows from `row` on by `vectors` vectors of columns from `column` on within the block.
/// Rows past the last one are the last one again: they write the same numbers to the same place.
void FGemm::tile(const Task &task, const Step &step, Value row, int64_t rows, Value column,
                 int64_t vectors) {
  Value lastRow = arith::SubIOp::create(b, b.loc, task.count, b.index(1));
  SmallVector<Value> inputs, outputs, limits;
  for (int64_t i = 0; i < rows; ++i) {
    Value at = i ? b.min(b.add(row, i), lastRow) : row;
    inputs.push_back(conv ? Value(memref::LoadOp::create(b, b.loc, rowOffsets, at))
                          : b.add(task.input, b.mul(at, total)));
    outputs.push_back(b.add(task.output, b.add(b.mul(at, n), column)));
  }
  Value left = arith::SubIOp::create(b, b.loc, task.columns, column);
  for (int64_t j = 0; j < vectors; ++j)
    limits.push_back(arith::SubIOp::create(b, b.loc, left, b.index(j * kLanes)));

  auto initial = scf::IfOp::create(
      b, b.loc, step.isFirst,
      [&](OpBuilder &nested, Location) {
        OpBuilder::InsertionGuard guard(b);
        b.restoreInsertionPoint(nested.saveInsertionPoint());
        SmallVector<Value> start;
        for (int64_t j = 0; j < vectors; ++j)
          start.push_back(hasBias ? load(bias, b.add(b.add(task.bias, column), j * kLanes), limits[j])
                                  : b.constantVector(b.getF32FloatAttr(0), kLanes));
        SmallVector<Value> all;
        for (int64_t i = 0; i < rows; ++i)
          llvm::append_range(all, start);
        scf::YieldOp::create(b, b.loc, all);
      },
      [&](OpBuilder &nested, Location) {
        OpBuilder::InsertionGuard guard(b);
        b.restoreInsertionPoint(nested.saveInsertionPoint());
        SmallVector<Value> all;
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t j = 0; j < vectors; ++j)
            all.push_back(load(output, b.add(outputs[i], j * kLanes), limits[j]));
        scf::YieldOp::create(b, b.loc, all);
      });
  SmallVector<Value> sums(initial.getResults());

  Value weightBase = b.add(task.weights, column);
  auto run = [&](Value inputRun, Value weightRun, ValueRange carried) {
    return b.loop(step.k, step.kEnd, b.index(1), carried, [&](Value k, ValueRange inner) {
      Value weightRow = b.add(weightRun, b.mul(k, kLanes * nr));
      SmallVector<Value> weight, next;
      for (int64_t j = 0; j < vectors; ++j)
        weight.push_back(b.load(weights, b.add(weightRow, j * kLanes), kLanes));
      for (int64_t i = 0; i < rows; ++i) {
        Value at = b.add(inputs[i], inputRun ? b.add(inputRun, k) : k);
        Value spread = b.splat(memref::LoadOp::create(b, b.loc, input, at), kLanes);
        for (int64_t j = 0; j < vectors; ++j)
          // math.fma, not vector.fma: that one is a hint which strict floating point splits in two.
          next.push_back(math::FmaOp::create(b, b.loc, spread, weight[j], inner[i * vectors + j]));
      }
      return next;
    });
  };
  if (!conv) {
    sums = run({}, weightBase, sums);
  } else {
    Value one = b.index(1);
    sums = b.loop(step.y, step.yEnd, one, sums, [&](Value y, ValueRange outer) {
      return b.loop(b.index(0), runsW, one, outer, [&](Value x, ValueRange middle) {
        Value inputRun = b.add(b.mul(y, rowStep), b.mul(x, elementStep));
        Value before = b.mul(b.add(b.mul(y, runsW), x), length);
        return run(inputRun, b.add(weightBase, b.mul(before, kLanes * nr)), middle);
      });
    });
  }
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < vectors; ++j)
      store(sums[i * vectors + j], b.add(outputs[i], j * kLanes), limits[j]);
}

/// A vector of which only the first `limit` lanes are memory.
Value FGemm::load(Value flat, Value offset, Value limit) {
  if (!partial)
    return b.load(flat, offset, kLanes);
  return b.loadMasked(flat, offset, kLanes, limit);
}

void FGemm::store(Value vector, Value offset, Value limit) {
  if (!partial)
    return b.store(vector, output, offset);
  b.storeMasked(vector, output, offset, limit);
}

void cpu::generateFGemm(KernelBuilder &builder, rt::KernelOp kernel, const ISA &isa,
                        func::FuncOp function) {
  FGemm(builder, kernel, isa, function).run();
}
