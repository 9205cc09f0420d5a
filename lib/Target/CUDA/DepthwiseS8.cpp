//===- DepthwiseS8.cpp - depthwise int8 convolution, four products at a time ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A thread computes four neighbouring channels of one pixel. Channels last, they are one word per
// element of the filter's window; four such words, turned by byte permutations, are four elements
// of each channel, which one dp4a multiplies with four weights. The window's last words are filled
// up with weights of 0.
//
//===----------------------------------------------------------------------===//
#include "Activations.h"
#include "Generators.h"
#include "Requantize.h"

using namespace lowbit;
using namespace lowbit::cuda;

/// Byte i of four words to bytes of word i.
static std::array<Value, 4> turn(KernelBuilder &b, ArrayRef<Value> words) {
  auto permute = [&](Value low, Value high, int64_t selector) {
    return b.intrinsic("llvm.nvvm.prmt", b.i32(), {low, high, b.c(selector)});
  };
  Value low01 = permute(words[0], words[1], 0x5140), low23 = permute(words[2], words[3], 0x5140),
        high01 = permute(words[0], words[1], 0x7362), high23 = permute(words[2], words[3], 0x7362);
  return {permute(low01, low23, 0x5410), permute(low01, low23, 0x7632),
          permute(high01, high23, 0x5410), permute(high01, high23, 0x7632)};
}

void cuda::generateDepthwiseS8(ModuleOp module, Location loc, StringRef name, const Schedule &s) {
  KernelBuilder b(loc, module.getContext());
  gpu::GPUFuncOp kernel = beginKernel(b, module, name, /*pointers=*/4, launchShape(s));
  Value weights = kernel.getArgument(1), parameters = kernel.getArgument(2),
        output = kernel.getArgument(3), rows = kernel.getArgument(4);
  Activations activations(b, s, WindowOrder::HWC, kernel.getArgument(0),
                          b.at(parameters, kParamPad * 4), rows);
  Value thread = b.threadId();
  int64_t across = s.tileN / 4, taps = s.conv->kernelH * s.conv->kernelW;
  Value channel = b.add(b.mul(b.blockY(), s.tileN), b.mul(b.rem(thread, across), 4));
  Value index = b.add(b.mul(b.blockX(), s.tileM), b.div(thread, across));
  b.ifThen(b.bitAnd(b.below(channel, s.n), b.below(index, rows)), [&] {
    Activations::Row row = activations.row(index);
    SmallVector<Value> sums(4, b.c(0));
    StringRef dot = s.input == Element::U8 ? "llvm.nvvm.idp4a.u.s" : "llvm.nvvm.idp4a.s.s";
    for (int64_t first = 0; first < taps; first += 4) {
      SmallVector<Value> words;
      for (int64_t tap = first; tap < first + 4; ++tap)
        words.push_back(tap < taps ? b.load(b.i32(), activations.tapAddress(row, tap, channel), 4)
                                   : b.c(0));
      std::array<Value, 4> channels = turn(b, words);
      Value four =
          b.load(b.vec(4, b.i32()), b.at(weights, b.mul(channel, 4), first * s.paddedN()), 16);
      for (int64_t i = 0; i < 4; ++i)
        sums[i] = b.intrinsic(dot, b.i32(), {channels[i], b.element(four, i), sums[i]});
    }
    Value offset = b.createOrFold<arith::AddIOp>(b.wide(index, s.n), b.wide(channel, 1));
    Requantize(b, s, parameters).store(sums, channel, output, offset);
  });
  gpu::ReturnOp::create(b);
}
