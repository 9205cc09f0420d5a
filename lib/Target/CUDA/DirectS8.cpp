//===- DirectS8.cpp - grouped and depthwise int8 convolution ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One thread per result: a depthwise filter has too few products per result for a matrix
// multiplication. Neighbouring threads take neighbouring channels, so that weights and (channels
// last) activations are read in runs.
//
//===----------------------------------------------------------------------===//
#include "Activations.h"
#include "Generators.h"
#include "Requantize.h"

using namespace lowbit;
using namespace lowbit::cuda;

void cuda::generateDirectS8(ModuleOp module, Location loc, StringRef name, const Schedule &s) {
  KernelBuilder b(loc, module.getContext());
  gpu::GPUFuncOp kernel = beginKernel(b, module, name, /*pointers=*/4, launchShape(s));
  Value weights = kernel.getArgument(1), parameters = kernel.getArgument(2),
        output = kernel.getArgument(3), rows = kernel.getArgument(4);
  Activations activations(b, s, WindowOrder::HWC, kernel.getArgument(0),
                          b.at(parameters, kParamPad * 4), rows);
  Value thread = b.threadId();
  Value column = b.add(b.mul(b.blockY(), s.tileN), b.rem(thread, s.tileN));
  Value index = b.add(b.mul(b.blockX(), s.tileM), b.div(thread, s.tileN));
  b.ifThen(b.bitAnd(b.below(column, s.n), b.below(index, rows)), [&] {
    const ConvShape &conv = *s.conv;
    int64_t perGroup = conv.channels / conv.groups;
    Value firstChannel = b.mul(b.div(column, s.n / conv.groups), perGroup);
    Activations::Row row = activations.row(index);
    Value weight = b.at(weights, column);
    Value sum = b.loop(b.c(s.k), {b.c(0)}, [&](Value k, ArrayRef<Value> carried) {
      Value position = b.mul(b.div(k, perGroup), conv.channels);
      Value element = b.add(b.add(position, firstChannel), b.rem(k, perGroup));
      Value x = b.load(b.i8(), activations.address(row, element), 1);
      Value w = b.load(b.i8(), b.at(weight, b.mul(k, s.paddedN())), 1);
      x = s.input == Element::U8 ? b.zext(x) : b.sext(x);
      return SmallVector<Value>{b.add(carried[0], b.mul(x, b.sext(w)))};
    })[0];
    Value offset = b.createOrFold<arith::AddIOp>(b.wide(index, s.n), b.wide(column, 1));
    Requantize(b, s, parameters).store(sum, column, output, offset);
  });
  gpu::ReturnOp::create(b);
}
