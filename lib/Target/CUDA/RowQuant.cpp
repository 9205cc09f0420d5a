//===- RowQuant.cpp - rows of f32 to integers, each with its own range ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// lowbit.dynamic_quantize {per_token}: a block per row finds the smallest and the largest value
// (and 0), from them scale and zero point, and reads the row again. Every operation is the
// decomposition's, in f32 with IEEE division; in which order a minimum is taken does not matter.
//
//===----------------------------------------------------------------------===//
#include "Generators.h"
#include "KernelBuilder.h"

using namespace lowbit;
using namespace lowbit::cuda;

namespace {
class RowQuant {
public:
  RowQuant(KernelBuilder &b, const Schedule &s, gpu::GPUFuncOp kernel)
      : b(b), s(s), input(kernel.getArgument(0)), output(kernel.getArgument(1)),
        scales(kernel.getArgument(2)), zeros(kernel.getArgument(3)), row(b.blockX()),
        thread(b.threadId()), width(s.k % 4 ? 1 : 4), isSigned(s.output == Element::I8) {}
  void emit();

private:
  Value choose(arith::CmpFPredicate compare, Value first, Value second) {
    Value holds = arith::CmpFOp::create(b, compare, first, second);
    return b.select(holds, first, second);
  }
  Value lower(Value first, Value second) {
    return choose(arith::CmpFPredicate::OLT, first, second);
  }
  Value higher(Value first, Value second) {
    return choose(arith::CmpFPredicate::OGT, first, second);
  }
  /// Neighbouring values of the row, for this thread's turns in loop order.
  void forEach(ArrayRef<Value> init,
               llvm::function_ref<SmallVector<Value>(Value, ArrayRef<Value>, ArrayRef<Value>)> body,
               SmallVector<Value> *results = nullptr);
  std::pair<Value, Value> rangeOfRow();
  Value quantized(Value x, Value scale, Value zero);

  KernelBuilder &b;
  const Schedule &s;
  Value input, output, scales, zeros, row, thread;
  int64_t width;
  bool isSigned;
};
} // namespace

void RowQuant::forEach(
    ArrayRef<Value> init,
    llvm::function_ref<SmallVector<Value>(Value, ArrayRef<Value>, ArrayRef<Value>)> body,
    SmallVector<Value> *results) {
  int64_t step = s.threads() * width;
  Value first = b.mul(thread, width), base = b.at(input, b.wide(row, s.k * 4));
  // How often this thread has work: ceil((k - first) / step), 0 past the end.
  Value turns = b.div(b.sub(b.c(s.k + step - 1), first), step);
  SmallVector<Value> carried = b.loop(turns, init, [&](Value turn, ArrayRef<Value> now) {
    Value at = b.add(first, b.mul(turn, step));
    Value loaded =
        b.load(width == 1 ? b.f32() : b.vec(4, b.f32()), b.at(base, b.mul(at, 4)), 4 * width);
    SmallVector<Value> values;
    for (int64_t i = 0; i < width; ++i)
      values.push_back(width == 1 ? loaded : b.element(loaded, i));
    return body(at, values, now);
  });
  if (results)
    *results = carried;
}

/// Of the row and 0; NaN is no smaller and no larger than anything.
std::pair<Value, Value> RowQuant::rangeOfRow() {
  SmallVector<Value> range;
  forEach(
      {b.cf(0.0), b.cf(0.0)},
      [&](Value, ArrayRef<Value> values, ArrayRef<Value> now) {
        SmallVector<Value> next(now);
        for (Value x : values)
          next = {lower(x, next[0]), higher(x, next[1])};
        return next;
      },
      &range);
  Value low = range[0], high = range[1];
  for (int64_t distance = 16; distance; distance /= 2) {
    low = lower(b.shuffleXor(low, distance), low);
    high = higher(b.shuffleXor(high, distance), high);
  }
  if (s.warpsM == 1)
    return {low, high};
  Value shared = b.sharedMemory();
  Value isFirst = b.below(b.rem(thread, 32), 1);
  b.ifThen(isFirst,
           [&] { b.store(b.pack({low, high}), b.at(shared, b.mul(b.div(thread, 32), 8)), 8); });
  b.barrier();
  for (int64_t warp = 0; warp < s.warpsM; ++warp) {
    Value other = b.load(b.vec(2, b.f32()), b.at(shared, warp * 8), 8);
    low = lower(b.element(other, 0), low);
    high = higher(b.element(other, 1), high);
  }
  return {low, high};
}

/// saturate(round_half_even(x / scale) + zero); NaN gives the least value.
Value RowQuant::quantized(Value x, Value scale, Value zero) {
  Value q = b.intrinsic("llvm.roundeven.f32", b.f32(), {arith::DivFOp::create(b, x, scale)});
  q = arith::AddFOp::create(b, q, zero);
  q = higher(q, b.cf(isSigned ? -128 : 0));
  q = lower(q, b.cf(isSigned ? 127 : 255));
  return arith::TruncIOp::create(b, b.i8(), arith::FPToSIOp::create(b, b.i32(), q));
}

void RowQuant::emit() {
  auto [low, high] = rangeOfRow();
  Value none = b.cf(0.0), spread;
  if (s.symmetric)
    spread = higher(arith::SubFOp::create(b, none, low), high);
  else
    spread = arith::SubFOp::create(b, high, low);
  Value scale = arith::DivFOp::create(b, spread, b.cf(s.symmetric ? 127 : 255));
  Value isZero = arith::CmpFOp::create(b, arith::CmpFPredicate::OEQ, scale, none);
  scale = b.select(isZero, b.cf(1.0), scale);
  double least = isSigned ? -128 : 0;
  Value zero = b.cf(isSigned ? 0 : 128);
  if (!s.symmetric) {
    zero = arith::SubFOp::create(b, b.cf(least), arith::DivFOp::create(b, low, scale));
    zero = lower(higher(zero, b.cf(least)), b.cf(least + 255));
    zero = b.intrinsic("llvm.roundeven.f32", b.f32(), {zero});
  }
  b.ifThen(b.below(thread, 1), [&] {
    b.store(scale, b.at(scales, b.wide(row, 4)), 4);
    Value stored = arith::FPToSIOp::create(b, b.i32(), zero);
    b.store(arith::TruncIOp::create(b, b.i8(), stored), b.at(zeros, b.wide(row, 1)), 1);
  });
  Value target = b.at(output, b.wide(row, s.k));
  forEach({}, [&](Value at, ArrayRef<Value> values, ArrayRef<Value>) {
    SmallVector<Value> results;
    for (Value x : values)
      results.push_back(quantized(x, scale, zero));
    b.store(width == 1 ? results[0] : b.pack(results), b.at(target, at), width);
    return SmallVector<Value>();
  });
  gpu::ReturnOp::create(b);
}

void cuda::generateRowQuant(ModuleOp module, Location loc, StringRef name, const Schedule &s) {
  KernelBuilder b(loc, module.getContext());
  gpu::GPUFuncOp kernel =
      beginKernel(b, module, name, /*pointers=*/4, launchShape(s), /*outputs=*/3);
  RowQuant(b, s, kernel).emit();
}
