//===- FPack.cpp - packs f32 weights that only the run knows ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// w[g, k, n], or w[g, n, k] where `transposed`, to [g][block][K][16 · nr columns], zeros past n: the
// layout that FGemm.cpp reads. A task is `kSlice` rows of one block.
//
//===----------------------------------------------------------------------===//
#include "KernelBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace lowbit;
using namespace lowbit::cpu;

static constexpr int64_t kSlice = 256;

static Value countBlocks(KernelBuilder &b, rt::KernelOp kernel, Value input) {
  return b.ceilDiv(b.dim(input, scheduleInt(kernel, "transposed") ? 1 : 2),
                   kLanes * scheduleInt(kernel, "nr"));
}

static Value countSlices(KernelBuilder &b, rt::KernelOp kernel, Value input) {
  return b.ceilDiv(b.dim(input, scheduleInt(kernel, "transposed") ? 2 : 1), kSlice);
}

Value cpu::countFPackTasks(KernelBuilder &b, rt::KernelOp kernel, ValueRange memrefs) {
  Value input = memrefs.front();
  return b.mul(b.mul(b.dim(input, 0), countBlocks(b, kernel, input)),
               countSlices(b, kernel, input));
}

void cpu::generateFPack(KernelBuilder &b, rt::KernelOp kernel, const ISA &, func::FuncOp function) {
  bool transposed = scheduleInt(kernel, "transposed");
  int64_t nr = scheduleInt(kernel, "nr"), width = kLanes * nr;
  ValueRange arguments = function.getBody().front().getArguments();
  Value inputMemref = arguments[2], output = arguments[3], input = b.flatten(inputMemref);
  Value n = b.dim(inputMemref, transposed ? 1 : 2), k = b.dim(inputMemref, transposed ? 2 : 1);
  Value blocks = countBlocks(b, kernel, inputMemref), slices = countSlices(b, kernel, inputMemref);
  Value zero = b.index(0), one = b.index(1);
  b.loop(arguments[0], arguments[1], one, {}, [&](Value task, ValueRange) -> SmallVector<Value> {
    Value rest = arith::DivUIOp::create(b, b.loc, task, slices); // Matrix and block.
    Value from = b.mul(Value(arith::RemUIOp::create(b, b.loc, task, slices)), kSlice);
    Value to = b.min(b.add(from, kSlice), k);
    Value matrix = arith::DivUIOp::create(b, b.loc, rest, blocks);
    Value column = b.mul(Value(arith::RemUIOp::create(b, b.loc, rest, blocks)), width);
    Value target = b.mul(b.mul(rest, k), width);
    if (!transposed) {
      Value left = arith::SubIOp::create(b, b.loc, n, column);
      b.loop(from, to, one, {}, [&](Value row, ValueRange) -> SmallVector<Value> {
        Value source = b.add(b.mul(b.add(b.mul(matrix, k), row), n), column);
        Value line = b.add(target, b.mul(row, width));
        for (int64_t j = 0; j < nr; ++j) {
          Value limit = arith::SubIOp::create(b, b.loc, left, b.index(j * kLanes));
          Value values = b.loadMasked(input, b.add(source, j * kLanes), kLanes, limit);
          b.store(values, output, b.add(line, j * kLanes));
        }
        return {};
      });
      return {};
    }
    Value none = arith::ConstantOp::create(b, b.loc, b.getF32FloatAttr(0));
    b.loop(zero, b.index(width), one, {}, [&](Value j, ValueRange) -> SmallVector<Value> {
      Value at = b.add(column, j);
      Value inside = arith::CmpIOp::create(b, b.loc, arith::CmpIPredicate::ult, at, n);
      Value source = b.mul(b.add(b.mul(matrix, n), at), k);
      auto fill = [&](bool copies) {
        b.loop(from, to, one, {}, [&](Value row, ValueRange) -> SmallVector<Value> {
          Value value = none;
          if (copies)
            value = memref::LoadOp::create(b, b.loc, input, b.add(source, row));
          memref::StoreOp::create(b, b.loc, value, output,
                                  b.add(target, b.add(b.mul(row, width), j)));
          return {};
        });
      };
      auto branch = scf::IfOp::create(b, b.loc, inside, /*withElseRegion=*/true);
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(&branch.getThenRegion().front());
      fill(true);
      b.setInsertionPointToStart(&branch.getElseRegion().front());
      fill(false);
      return {};
    });
    return {};
  });
  func::ReturnOp::create(b, b.loc);
}
