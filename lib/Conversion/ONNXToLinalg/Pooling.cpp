//===- Pooling.cpp - pools over windows and over whole planes ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Accumulation.h"
#include "Num.h"
#include "Window.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace lowbit;
using namespace lowbit::onnx;
using utils::IteratorType;

/// The least value of the element type.
static Value lowest(Lowering &l, Type type, bool isUnsigned) {
  if (auto floating = dyn_cast<FloatType>(type))
    return l.constant(l.b.getFloatAttr(
        floating, APFloat::getInf(floating.getFloatSemantics(), /*Negative=*/true)));
  unsigned width = type.getIntOrFloatBitWidth();
  return l.constant(l.b.getIntegerAttr(type, isUnsigned ? APInt::getMinValue(width)
                                                        : APInt::getSignedMinValue(width)));
}

/// Combines what each window covers, from `init` on; loops n, c, output rows, window, output
/// columns.
static Value overWindows(Lowering &l, const Window &w, Value input, Value init,
                         llvm::function_ref<Value(OpBuilder &, Location, Value, Value)> combine) {
  unsigned spatial = w.kernel.size(), loops = 2 + 2 * spatial;
  SmallVector<AffineExpr> inExprs = {l.d(0), l.d(1)}, outExprs = inExprs, windowExprs;
  SmallVector<IteratorType> iterators(loops, IteratorType::parallel);
  for (unsigned i = 0; i < spatial; ++i) {
    AffineExpr out = l.d(i + 1 < spatial ? 2 + i : loops - 1), tap = l.d(1 + spatial + i);
    iterators[1 + spatial + i] = IteratorType::reduction;
    inExprs.push_back(out * w.strides[i] + tap * w.dilations[i]);
    outExprs.push_back(out);
    windowExprs.push_back(tap);
  }
  // Only its shape matters: it gives the loops over the window their extent.
  Value shape = l.empty(w.kernel, cast<RankedTensorType>(init.getType()).getElementType());
  return l.generic({input, shape}, init,
                   {l.mapOf(loops, inExprs), l.mapOf(loops, windowExprs), l.mapOf(loops, outExprs)},
                   iterators, [&](OpBuilder &b, Location loc, ValueRange v) {
                     linalg::YieldOp::create(b, loc, combine(b, loc, v[2], v[0]));
                   });
}

static Sizes outputSizes(Lowering &l, const Window &w) {
  Sizes sizes = {l.dim(l.in(0), 0), l.dim(l.in(0), 1)};
  sizes.append(w.output);
  return sizes;
}

static Window poolWindow(Lowering &l) {
  Sizes kernel;
  for (int64_t size : onnx::getInts(l.op, "kernel_shape"))
    kernel.push_back(l.index(size));
  return readWindow(l, kernel);
}

//===----------------------------------------------------------------------===//
// MaxPool and MaxUnpool
//===----------------------------------------------------------------------===//

/// Where each window's maximum lies in the flattened input; the first of equal ones, -1 for a
/// window in the padding.
static Value maxPositions(Lowering &l, const Window &w) {
  Value input = l.in(0);
  Sizes own = l.sizes(input);
  bool columnMajor = l.attr("storage_order", 0) == 1;
  size_t n = w.kernel.size();
  return tabulate(l, outputSizes(l, w), l.b.getI64Type(), [&](Scope s, ArrayRef<Num> at) {
    // The plane's first element, and the distance between neighbours in each dim.
    SmallVector<Num> distance(n, s.index(1)), counts;
    Num plane = s.index(1);
    for (size_t k = 0; k < n; ++k) {
      // Column-major: rows are neighbours; the dims before the last two keep their order.
      size_t i = n - 1 - k;
      if (columnMajor && n >= 2 && k < 2)
        i = k == 0 ? n - 2 : n - 1;
      distance[i] = plane;
      plane = plane * s.size(own[i + 2]);
    }
    Num base = (at[0] * s.size(own[1]) + at[1]) * plane;
    for (OpFoldResult size : w.kernel)
      counts.push_back(s.size(size));
    Num none = s.constant(s.b.getI64Type(), -1);
    Num least = s.num(lowest(l, l.resultType().getElementType(), l.isUnsigned(0)));
    auto found = s.loops(
        counts, {least, none},
        [&](Scope s, ArrayRef<Num> tap, ArrayRef<Num> best) -> SmallVector<Num> {
          SmallVector<Num> from = {at[0], at[1]};
          Num flat = base;
          std::optional<Num> inside;
          for (size_t i = 0; i < n; ++i) {
            Num size = s.size(own[i + 2]);
            Num x = at[i + 2] * s.index(w.strides[i]) + tap[i] * s.index(w.dilations[i]) -
                    s.size(w.low[i]);
            Num here = (x >= 0) & (x < size);
            inside = inside ? *inside & here : here;
            Num safe = x.max(0).min(size - 1);
            from.push_back(safe);
            flat = flat + safe * distance[i];
          }
          Num value = s.read(input, from), first = best[1] == -1;
          Value greater = value > best[0];
          if (l.isUnsigned(0))
            greater = arith::CmpIOp::create(s.b, s.loc, arith::CmpIPredicate::ugt, value, best[0]);
          Num better = *inside & (first | s.num(greater));
          return {better.select(value, best[0]), better.select(flat.to(none.type()), best[1])};
        });
    return found[1];
  });
}

static LogicalResult maxPool(Lowering &l) {
  Type element = l.resultType().getElementType();
  bool isUnsigned = l.isUnsigned(0);
  Window w = poolWindow(l);
  if (l.usesResult(1) && failed(l.replace(1, maxPositions(l, w))))
    return failure();
  Value fill = lowest(l, element, isUnsigned);
  Value input = padWindow(l, w, l.in(0), fill);
  Value init = l.filled(outputSizes(l, w), fill);
  return l.replace(
      0, overWindows(l, w, input, init, [&](OpBuilder &b, Location loc, Value acc, Value x) {
        return maxScalars(b, loc, acc, x, isUnsigned);
      }));
}

/// Scatters the maxima to where MaxPool found them; the positions are those of the shape that the
/// attributes imply.
static LogicalResult maxUnpool(Lowering &l) {
  SmallVector<int64_t> kernel = onnx::getInts(l.op, "kernel_shape");
  size_t n = kernel.size();
  SmallVector<int64_t> strides = onnx::getInts(l.op, "strides", n, 1);
  SmallVector<int64_t> pads = onnx::getInts(l.op, "pads", 2 * n, 0);
  Value input = l.in(0), positions = l.in(1);
  if (l.rank(1) != l.rank(0))
    return l.unsupported("positions of another rank than the maxima");
  for (int64_t i = 0; i < l.rank(0); ++i)
    l.equalize(input, i, l.dims(0)[i], positions, i, l.dims(1)[i], "the shapes");
  Sizes own = l.sizes(input), implied = {own[0], own[1]}, sizes;
  for (size_t i = 0; i < n; ++i) {
    OpFoldResult steps = l.mul(l.sub(own[i + 2], l.index(1)), l.index(strides[i]));
    implied.push_back(l.max(l.add(steps, l.index(kernel[i] - pads[i] - pads[n + i])), l.index(0)));
  }
  sizes = implied;
  if (l.has(2)) {
    Value list = listOperand(l, 2, n + 2);
    Scope s{l.b, l.b.getLoc()};
    for (size_t i = 0; i < n + 2; ++i) {
      OpFoldResult known = l.known(l.resultDims()[i]);
      sizes[i] = known ? known : s.read(list, s.index(i)).toIndex().max(0).value();
    }
  }
  Value result = l.filled(sizes, l.scalarInt(l.resultType().getElementType(), 0));
  Scope top{l.b, l.b.getLoc()};
  SmallVector<Value> lower, upper, step;
  Num total = top.index(1);
  for (size_t i = 0; i < n + 2; ++i) {
    lower.push_back(top.index(0));
    upper.push_back(l.value(own[i]));
    step.push_back(top.index(1));
    total = total * top.size(implied[i]);
  }
  Value fine = l.scalarInt(l.b.getI1Type(), 1);
  auto nest = scf::buildLoopNest(
      l.b, l.b.getLoc(), lower, upper, step, ValueRange{result, fine},
      [&](OpBuilder &b, Location loc, ValueRange at, ValueRange carried) -> scf::ValueVector {
        Scope s{b, loc};
        Num flat = s.num(tensor::ExtractOp::create(b, loc, positions, at)).toIndex();
        Num valid = (flat >= 0) & (flat < total);
        SmallVector<Value> to(n + 2);
        Num rest = flat;
        for (size_t i = n + 2; i-- > 0;) {
          Num size = s.size(implied[i]).max(1), x = rest.rem(size);
          rest = rest / size;
          valid = valid & (x < s.size(sizes[i]));
          to[i] = x;
        }
        auto kept = scf::IfOp::create(
            b, loc, valid,
            [&](OpBuilder &then, Location loc) {
              Value x = tensor::ExtractOp::create(then, loc, input, at);
              Value whole = tensor::InsertOp::create(then, loc, x, carried[0], to);
              scf::YieldOp::create(then, loc, whole);
            },
            [&](OpBuilder &other, Location loc) { scf::YieldOp::create(other, loc, carried[0]); });
        return {kept.getResult(0), (s.num(carried[1]) & valid).value()};
      });
  l.check(nest.results[1], "a position is outside the result");
  return l.replace(nest.results[0]);
}

//===----------------------------------------------------------------------===//
// Averages and norms
//===----------------------------------------------------------------------===//

/// The number of elements in each window that count, as a scalar at output position `at`.
static Num windowCount(Scope s, const Window &w, bool countPads, ArrayRef<Num> at) {
  Num taps = s.index(1);
  for (size_t i = 0; i < w.kernel.size(); ++i) {
    // Taps k with first <= start + k * dilation < end.
    Num low = s.size(w.low[i]), none = s.index(0), step = s.index(w.dilations[i]);
    Num start = at[i + 2] * s.index(w.strides[i]) - low;
    Num first = countPads ? none - low : none, end = s.size(w.input[i]);
    if (countPads)
      end = end + s.size(w.declaredEnd[i]);
    auto upTo = [&](Num limit) {
      Num k = s.num(arith::CeilDivSIOp::create(s.b, s.loc, limit - start, step));
      return k.max(0).min(s.size(w.kernel[i]));
    };
    taps = taps * (upTo(end) - upTo(first));
  }
  return taps;
}

static LogicalResult averagePool(Lowering &l) {
  Type element = l.resultType().getElementType(), sum = accumulator(element);
  if (!isa<FloatType>(element))
    return l.unsupported("elements cannot be of this type");
  Window w = poolWindow(l);
  bool countPads = l.attr("count_include_pad", 0);
  Sizes sizes = outputSizes(l, w);
  Value input = padWindow(l, w, l.in(0), l.scalar(element, 0));
  Value sums = overWindows(l, w, input, l.filled(sizes, l.scalar(sum, 0)),
                           [&](OpBuilder &b, Location loc, Value acc, Value x) {
                             return addScalars(b, loc, acc, castScalar(b, loc, x, element, sum));
                           });
  // The number of elements in a window: all of them, unless it reaches beyond what is counted.
  int64_t all = 1;
  bool constant = true;
  for (size_t i = 0; i < w.kernel.size(); ++i) {
    all *= *getConstantIntValue(w.kernel[i]);
    auto isZero = [](OpFoldResult size) { return getConstantIntValue(size) == 0; };
    bool padded = !isZero(w.low[i]) || !isZero(w.high[i]);
    std::optional<int64_t> high = getConstantIntValue(w.high[i]);
    std::optional<int64_t> declared = getConstantIntValue(w.declaredEnd[i]);
    constant &= !padded || (countPads && high && declared && *high <= *declared);
  }
  AffineMap identity = l.b.getMultiDimIdentityMap(sizes.size());
  return l.replace(
      l.parallel(sums, identity, sizes, element, [&](OpBuilder &b, Location loc, ValueRange v) {
        Scope s{b, loc};
        SmallVector<Num> at;
        for (size_t i = 0; i < sizes.size() && !constant; ++i)
          at.push_back(s.loopIndex(i));
        Num count = constant ? s.constant(sum, all) : windowCount(s, w, countPads, at).to(sum);
        return castScalar(b, loc, s.num(v[0]) / count, sum, element);
      }));
}

/// |x|^p, and its inverse.
static Num power(Num x, int64_t p) {
  Num y = x.abs();
  return p == 1 ? y : p == 2 ? y * y : y.pow(y.like(p));
}

static Num root(Num x, int64_t p) {
  return p == 1 ? x : p == 2 ? x.sqrt() : x.pow(x.like(1.0 / p));
}

static LogicalResult lpPool(Lowering &l) {
  Type element = l.resultType().getElementType(), sum = accumulator(element);
  int64_t p = l.attr("p", 2);
  if (!isa<FloatType>(element))
    return l.unsupported("elements cannot be of this type");
  if (p < 1)
    return l.unsupported("p must be positive");
  Window w = poolWindow(l);
  Sizes sizes = outputSizes(l, w);
  Value input = padWindow(l, w, l.in(0), l.scalar(element, 0));
  Value sums = overWindows(l, w, input, l.filled(sizes, l.scalar(sum, 0)),
                           [&](OpBuilder &b, Location loc, Value acc, Value x) {
                             Num wide{b, loc, castScalar(b, loc, x, element, sum)};
                             return addScalars(b, loc, acc, power(wide, p));
                           });
  AffineMap identity = l.b.getMultiDimIdentityMap(sizes.size());
  return l.replace(
      l.parallel(sums, identity, sizes, element, [&](OpBuilder &b, Location loc, ValueRange v) {
        return castScalar(b, loc, root({b, loc, v[0]}, p), sum, element);
      }));
}

static LogicalResult globalPool(Lowering &l) {
  bool maximum = l.name() == "GlobalMaxPool", average = l.name() == "GlobalAveragePool";
  Type element = l.resultType().getElementType(), sum = maximum ? element : accumulator(element);
  bool isUnsigned = l.isUnsigned(0);
  int64_t p = l.attr("p", 2);
  if (!maximum && !isa<FloatType>(element))
    return l.unsupported("elements cannot be of this type");
  if (p < 1)
    return l.unsupported("p must be positive");
  Sizes in = l.sizes(l.in(0)), sizes = {in[0], in[1]};
  OpFoldResult count = l.index(1);
  unsigned rank = in.size();
  SmallVector<IteratorType> iterators(rank, IteratorType::reduction);
  iterators[0] = iterators[1] = IteratorType::parallel;
  for (unsigned i = 2; i < rank; ++i) {
    sizes.push_back(l.index(1));
    count = l.mul(count, in[i]);
  }
  // The trailing dims of size 1 are no loops of the result: reduce into rank 2, then expand.
  Value init =
      l.filled({in[0], in[1]}, maximum ? lowest(l, element, isUnsigned) : l.scalar(sum, 0));
  Value result =
      l.generic(l.in(0), init, {l.b.getMultiDimIdentityMap(rank), l.mapOf(rank, {l.d(0), l.d(1)})},
                iterators, [&](OpBuilder &b, Location loc, ValueRange v) {
                  Num x{b, loc, castScalar(b, loc, v[0], element, sum)};
                  Value next = maximum   ? maxScalars(b, loc, v[1], x, isUnsigned)
                               : average ? addScalars(b, loc, v[1], x)
                                         : addScalars(b, loc, v[1], power(x, p));
                  linalg::YieldOp::create(b, loc, next);
                });
  Value divisor;
  if (average)
    divisor = Scope{l.b, l.b.getLoc()}.size(count).to(sum);
  return l.replace(l.parallel(result, l.mapOf(rank, {l.d(0), l.d(1)}), sizes, element,
                              [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
                                Num x{b, loc, v[0]};
                                if (maximum)
                                  return x;
                                Num y = average ? x / Num(b, loc, divisor) : root(x, p);
                                return castScalar(b, loc, y, sum, element);
                              }));
}

/// x / (bias + alpha / size * sum of the squares of the neighbouring channels)^beta
static LogicalResult lrn(Lowering &l) {
  Type element = l.resultType().getElementType(), compute = accumulator(element);
  if (!isa<FloatType>(element))
    return l.unsupported("elements cannot be of this type");
  int64_t size = l.attr("size", 1);
  double alpha = getFloat(l.op, "alpha", 1e-4f), beta = getFloat(l.op, "beta", 0.75);
  double bias = getFloat(l.op, "bias", 1);
  Value input = l.in(0);
  Sizes sizes = l.sizes(input);
  return l.replace(tabulate(l, sizes, element, [&](Scope s, ArrayRef<Num> at) {
    Num first = (at[1] - (size - 1) / 2).max(0);
    Num end = (at[1] + (size / 2 + 1)).min(s.size(sizes[1]));
    auto read = [&](Scope s, Num channel) {
      SmallVector<Num> from(at);
      from[1] = channel;
      return s.read(input, from).to(compute);
    };
    Num sum = s.loop(end - first, s.constant(compute, 0),
                     [&](Scope s, Num i, ArrayRef<Num> state) -> SmallVector<Num> {
                       Num x = read(s, first + i);
                       return {state[0] + x * x};
                     })[0];
    Num scale = (sum * (alpha / size) + bias).pow(s.constant(compute, beta));
    return (read(s, at[1]) / scale).to(element);
  }));
}

void lowbit::onnx::addPoolingLowerings(LoweringTable &table) {
  table["AveragePool"] = averagePool;
  table["GlobalAveragePool"] = globalPool;
  table["GlobalLpPool"] = globalPool;
  table["GlobalMaxPool"] = globalPool;
  table["LRN"] = lrn;
  table["LpPool"] = lpPool;
  table["MaxPool"] = maxPool;
  table["MaxUnpool"] = maxUnpool;
}
