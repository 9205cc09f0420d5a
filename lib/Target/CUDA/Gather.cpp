//===- Gather.cpp - rows of a quantized table, as f32 ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One thread per result. An index that is out of range stops the kernel: the launch fails.
//
//===----------------------------------------------------------------------===//
#include "Generators.h"
#include "KernelBuilder.h"

using namespace lowbit;
using namespace lowbit::cuda;

void cuda::generateGather(ModuleOp module, Location loc, StringRef name, const Schedule &s) {
  KernelBuilder b(loc, module.getContext());
  gpu::GPUFuncOp kernel = beginKernel(b, module, name, /*pointers=*/4, launchShape(s));
  Value indices = kernel.getArgument(0), table = kernel.getArgument(1),
        parameters = kernel.getArgument(2), output = kernel.getArgument(3),
        rows = kernel.getArgument(4);
  Value thread = b.threadId();
  Value column = b.add(b.mul(b.blockY(), s.tileN), b.rem(thread, s.tileN));
  Value at = b.add(b.mul(b.blockX(), s.tileM), b.div(thread, s.tileN));
  b.ifThen(b.bitAnd(b.below(column, s.n), b.below(at, rows)), [&] {
    bool wide = s.input == Element::I64;
    Type type = wide ? Type(b.getI64Type()) : b.i32();
    auto constant = [&](int64_t value) -> Value {
      return arith::ConstantIntOp::create(b, type, value);
    };
    Value index = b.load(type, b.at(indices, b.wide(at, wide ? 8 : 4)), wide ? 8 : 4);
    // Negative indices count from the end.
    Value negative = arith::CmpIOp::create(b, arith::CmpIPredicate::slt, index, constant(0));
    index = b.select(negative, b.add(index, constant(s.k)), index);
    Value inside = arith::CmpIOp::create(b, arith::CmpIPredicate::ult, index, constant(s.k));
    Value outside =
        arith::XOrIOp::create(b, inside, arith::ConstantIntOp::create(b, b.getI1Type(), 1));
    b.ifThen(outside, [&] { b.trap(); });
    // Of an invalid index nothing is read, whenever the trap takes effect.
    b.ifThen(inside, [&] {
      Value row = wide ? Value(arith::TruncIOp::create(b, b.i32(), index)) : index;
      Value target = b.at(b.at(output, b.wide(at, s.n * 4)), b.mul(column, 4));
      if (s.bits == 16) {
        Value half = b.load(b.f16(), b.at(b.at(table, b.wide(row, s.n * 2)), b.mul(column, 2)), 2);
        Value scaled = arith::MulFOp::create(b, arith::ExtFOp::create(b, b.f32(), half),
                                             b.load(b.f32(), parameters, 4));
        b.store(scaled, target, 4);
        return;
      }
      Value stored;
      if (s.bits == 8) {
        stored = b.zext(b.load(b.i8(), b.at(b.at(table, b.wide(row, s.n)), column), 1));
      } else {
        Value byte = b.zext(
            b.load(b.i8(), b.at(b.at(table, b.wide(row, (s.n + 1) / 2)), b.div(column, 2)), 1));
        stored =
            b.bitAnd(b.createOrFold<arith::ShRUIOp>(byte, b.mul(b.rem(column, 2), 4)), b.c(15));
      }
      int64_t groups = (s.n + s.group - 1) / s.group;
      Value parameter =
          b.at(b.at(parameters, b.wide(row, groups * 4)), b.mul(b.div(column, s.group), 4));
      Value scale = b.load(b.f32(), parameter, 4),
            zero = b.load(b.f32(), b.at(parameter, s.k * groups * 4), 4);
      // Both are whole numbers below 256: the difference is exact.
      Value difference =
          arith::SubFOp::create(b, arith::UIToFPOp::create(b, b.f32(), stored), zero);
      Value result = arith::MulFOp::create(b, difference, scale);
      b.store(result, target, 4);
    });
  });
  gpu::ReturnOp::create(b);
}
