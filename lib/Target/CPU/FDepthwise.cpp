//===- FDepthwise.cpp - f32 depthwise convolution ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// out[b, y, x, c] = bias[c] + Σ_ij in[b, y · s + i · d, x · s + j · d, c] · w[i, j, c], in padded
// NHWC, every size read from the buffers. A task is a row of output pixels; vectors hold channels.
// The sums of `kPixels` pixels stay in registers, so each weight is loaded once for all of them.
// Every output is one chain of fused multiply-adds in the order i, j.
//
//===----------------------------------------------------------------------===//
#include "KernelBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace lowbit;
using namespace lowbit::cpu;

/// With two registers each, 12 of the 16 that AVX2 has; enough chains to hide the latency of an
/// addition.
static constexpr int64_t kPixels = 6;

Value cpu::countFDepthwiseTasks(KernelBuilder &b, rt::KernelOp, ValueRange memrefs) {
  return b.mul(b.dim(memrefs.back(), 0), b.dim(memrefs.back(), 1));
}

void cpu::generateFDepthwise(KernelBuilder &b, rt::KernelOp kernel, const ISA &,
                             func::FuncOp function) {
  bool partial = scheduleInt(kernel, "partial"), hasBias = scheduleInt(kernel, "bias");
  ValueRange arguments = function.getBody().front().getArguments();
  Value inputMemref = arguments[2], outputMemref = arguments.back();
  Value input = b.flatten(inputMemref), weights = b.flatten(arguments[3]);
  Value bias = arguments[4], output = b.flatten(outputMemref);
  Value geometry = arguments[arguments.size() - 2], one = b.index(1), zero = b.index(0);
  auto entryOf = [&](int64_t i) -> Value {
    Value number = memref::LoadOp::create(b, b.loc, geometry, b.index(i));
    return arith::IndexCastOp::create(b, b.loc, b.getIndexType(), number);
  };
  Value kernelH = entryOf(0), kernelW = entryOf(1), strideH = entryOf(3), strideW = entryOf(4);
  Value channels = b.dim(inputMemref, 3), inputWidth = b.dim(inputMemref, 2);
  Value rowStep = b.mul(entryOf(5), b.mul(inputWidth, channels));
  Value elementStep = b.mul(entryOf(6), channels);
  Value height = b.dim(outputMemref, 1), width = b.dim(outputMemref, 2);
  Value last = arith::SubIOp::create(b, b.loc, width, one);

  auto load = [&](Value flat, Value offset, Value limit) {
    return partial ? b.loadMasked(flat, offset, kLanes, limit) : b.load(flat, offset, kLanes);
  };
  b.loop(arguments[0], arguments[1], one, {}, [&](Value task, ValueRange) -> SmallVector<Value> {
    Value image = arith::DivUIOp::create(b, b.loc, task, height);
    Value y = arith::RemUIOp::create(b, b.loc, task, height);
    Value line = b.add(b.mul(image, b.dim(inputMemref, 1)), b.mul(y, strideH));
    Value inputLine = b.mul(b.mul(line, inputWidth), channels);
    Value outputLine = b.mul(b.mul(task, width), channels);
    b.loop(zero, width, b.index(kPixels), {}, [&](Value x, ValueRange) -> SmallVector<Value> {
      // Pixels past the last one are the last one again.
      SmallVector<Value> from, to;
      for (int64_t i = 0; i < kPixels; ++i) {
        Value at = i ? b.min(b.add(x, i), last) : x;
        from.push_back(b.add(inputLine, b.mul(b.mul(at, strideW), channels)));
        to.push_back(b.add(outputLine, b.mul(at, channels)));
      }
      b.loop(zero, channels, b.index(kLanes), {}, [&](Value c, ValueRange) -> SmallVector<Value> {
        Value limit = arith::SubIOp::create(b, b.loc, channels, c);
        Value start = hasBias ? load(bias, c, limit)
                              : b.constantVector(b.getF32FloatAttr(0), kLanes);
        SmallVector<Value> sums(kPixels, start);
        sums = b.loop(zero, kernelH, one, sums, [&](Value i, ValueRange outer) {
          return b.loop(zero, kernelW, one, outer, [&](Value j, ValueRange inner) {
            Value tap = b.add(b.mul(i, kernelW), j);
            Value weight = load(weights, b.add(b.mul(tap, channels), c), limit);
            Value offset = b.add(b.add(b.mul(i, rowStep), b.mul(j, elementStep)), c);
            SmallVector<Value> next;
            for (int64_t p = 0; p < kPixels; ++p) {
              Value pixel = load(input, b.add(from[p], offset), limit);
              next.push_back(math::FmaOp::create(b, b.loc, pixel, weight, inner[p]));
            }
            return next;
          });
        });
        for (int64_t p = 0; p < kPixels; ++p) {
          if (partial)
            b.storeMasked(sums[p], output, b.add(to[p], c), limit);
          else
            b.store(sums[p], output, b.add(to[p], c));
        }
        return {};
      });
      return {};
    });
    return {};
  });
  func::ReturnOp::create(b, b.loc);
}
