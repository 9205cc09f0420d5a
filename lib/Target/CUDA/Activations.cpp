//===- Activations.cpp - where a kernel finds its activations ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Activations.h"

using namespace lowbit;
using namespace lowbit::cuda;

Activations::Activations(KernelBuilder &b, const Schedule &schedule, WindowOrder order, Value base,
                         Value pad, Value rows, bool pastTheEnd)
    : b(b), s(schedule), order(order), base(base), pad(pad), rows(rows),
      bytes(schedule.input == Element::F32 ? 4 : 1),
      checkDepth(pastTheEnd || schedule.k % schedule.tileK) {}

Activations::Row Activations::row(Value index) const {
  Row row;
  row.valid = b.below(index, rows);
  if (!s.conv) {
    row.base = b.at(base, b.wide(index, s.k * bytes));
    return row;
  }
  const ConvShape &conv = *s.conv;
  int64_t pixels = conv.outH * conv.outW;
  Value image = b.div(index, pixels), pixel = b.rem(index, pixels);
  row.base = b.at(base, b.wide(image, conv.height * conv.width * conv.channels * bytes));
  row.top = b.add(b.mul(b.div(pixel, conv.outW), conv.strideH), -conv.padTop);
  row.left = b.add(b.mul(b.rem(pixel, conv.outW), conv.strideW), -conv.padLeft);
  return row;
}

std::pair<Value, Value> Activations::locate(const Row &row, Value k) const {
  Value valid = row.valid, offset = k;
  if (!s.conv) {
    if (checkDepth)
      valid = b.bitAnd(valid, b.below(k, s.k));
  } else {
    const ConvShape &conv = *s.conv;
    Value channel, position;
    if (order == WindowOrder::HWC) {
      position = b.div(k, conv.channels), channel = b.rem(k, conv.channels);
    } else {
      channel = b.div(k, conv.kernelH * conv.kernelW),
      position = b.rem(k, conv.kernelH * conv.kernelW);
    }
    Value y = b.add(row.top, b.mul(b.div(position, conv.kernelW), conv.dilationH));
    Value x = b.add(row.left, b.mul(b.rem(position, conv.kernelW), conv.dilationW));
    // Above and left of the image the coordinates wrap to huge unsigned numbers.
    valid = b.bitAnd(valid, b.bitAnd(b.below(y, conv.height), b.below(x, conv.width)));
    if (checkDepth)
      valid = b.bitAnd(valid, b.below(k, s.k));
    if (order == WindowOrder::HWC)
      offset = b.add(b.mul(b.add(b.mul(y, conv.width), x), conv.channels), channel);
    else
      offset = b.add(b.mul(b.add(b.mul(channel, conv.height), y), conv.width), x);
  }
  return {b.select(valid, b.at(row.base, b.mul(offset, bytes)), pad), valid};
}

Value Activations::tapAddress(const Row &row, int64_t tap, Value channel) const {
  const ConvShape &conv = *s.conv;
  Value y = b.add(row.top, tap / conv.kernelW * conv.dilationH),
        x = b.add(row.left, tap % conv.kernelW * conv.dilationW);
  Value valid = b.bitAnd(row.valid, b.bitAnd(b.below(y, conv.height), b.below(x, conv.width)));
  Value offset = b.add(b.mul(b.add(b.mul(y, conv.width), x), conv.channels), channel);
  return b.select(valid, b.at(row.base, b.mul(offset, bytes)), pad);
}

Value Activations::loadHalves(const Row &row, Value k, int64_t count, int64_t granule) const {
  SmallVector<Value> halves;
  for (int64_t i = 0; i < count; i += granule) {
    Value from = address(row, b.add(k, i));
    Value loaded = b.load(granule == 1 ? b.f32() : b.vec(granule, b.f32()), from, 4 * granule);
    for (int64_t j = 0; j < granule; ++j)
      halves.push_back(
          arith::TruncFOp::create(b, b.f16(), granule == 1 ? loaded : b.element(loaded, j)));
  }
  return b.pack(halves);
}

int64_t Activations::granule(const Schedule &s, WindowOrder order, int64_t limit) {
  // A linear row starts at a multiple of k elements, a pixel at a multiple of the channels.
  int64_t run = !s.conv ? s.k : order == WindowOrder::HWC ? s.conv->channels : 1;
  int64_t granule = 1;
  while (granule < limit && run % (2 * granule) == 0)
    granule *= 2;
  return granule;
}
