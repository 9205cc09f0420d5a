//===- ShapeRulesContraction.cpp - shapes of convolutions, products and pools -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ShapeRules.h"
#include "mlir/IR/Builders.h"

using namespace lowbit;

/// The spatial dims of the result of a window of size `kernel` that slides over `input`.
static FailureOr<Dims> slide(RuleContext &c, ArrayRef<SymbolicExpr> input,
                             ArrayRef<SymbolicExpr> kernel) {
  size_t n = kernel.size();
  SmallVector<int64_t> strides = onnx::getInts(c.op, "strides", n, 1);
  SmallVector<int64_t> dilations = onnx::getInts(c.op, "dilations", n, 1);
  SmallVector<int64_t> pads = onnx::getInts(c.op, "pads", 2 * n, 0);
  if (input.size() != n || strides.size() != n || dilations.size() != n || pads.size() != 2 * n)
    return c.fail("kernel, strides, dilations and pads do not fit an input with " +
                  Twine(input.size()) + " spatial dims");
  for (size_t i = 0; i < n; ++i)
    if (strides[i] < 1 || dilations[i] < 1 || strides[i] > INT32_MAX || dilations[i] > INT32_MAX)
      return c.fail("strides and dilations must be positive");
  for (int64_t pad : pads)
    if (pad < 0 || pad > INT32_MAX)
      return c.fail("pads must not be negative");
  StringRef autoPad = onnx::getString(c.op, "auto_pad", "NOTSET");
  bool ceil = c.attr("ceil_mode", 0) == 1;
  ShapeAnalysis &a = c.analysis;
  Dims result;
  for (size_t i = 0; i < n; ++i) {
    if (autoPad.starts_with("SAME")) {
      result.push_back(a.floorDiv(a.add(input[i], strides[i] - 1), strides[i]));
      continue;
    }
    int64_t padding = autoPad == "VALID" ? 0 : pads[i] + pads[n + i];
    SymbolicExpr reach = a.add(a.mul(a.sub(kernel[i], 1), dilations[i]), 1);
    SymbolicExpr room = a.sub(a.add(input[i], padding), reach);
    SymbolicExpr steps = a.floorDiv(ceil ? a.add(room, strides[i] - 1) : room, strides[i]);
    SymbolicExpr size = a.add(steps, 1);
    if (ceil) { // A window that would start in the padding behind the input is left out.
      SymbolicExpr last = a.mul(steps, strides[i]);
      int64_t front = autoPad == "VALID" ? 0 : pads[i];
      std::optional<int64_t> start = last.constant(), limit = a.add(input[i], front).constant();
      if (start && limit)
        size = *start >= *limit ? steps : size;
      else if (strides[i] > 1)
        size = a.opaque("ceil pool", {input[i], kernel[i], pads[i], pads[n + i], strides[i], dilations[i]});
    }
    if (std::optional<int64_t> known = room.constant(); known && *known < 0)
      return c.fail("the window " + describe(Dims(kernel)) + " is bigger than the padded input " +
                    describe(Dims(input)));
    result.push_back(size);
  }
  return result;
}

static LogicalResult doNotFit(RuleContext &c, const Twine &expected) {
  std::string found;
  for (unsigned i = 0; i < c.op->getNumOperands(); ++i)
    if (c.in(i))
      found += (found.empty() ? "" : ", ") + describe(c.dims(i));
  return c.fail("operands have shapes " + found + "; " + expected);
}

static bool differ(const SymbolicExpr &a, const SymbolicExpr &b) {
  return a.constant() && b.constant() && a != b;
}

static LogicalResult convLike(RuleContext &c, unsigned weight, std::optional<unsigned> bias,
                              Type element) {
  const Dims &x = c.dims(0), &w = c.dims(weight);
  if (x.size() < 3 || w.size() != x.size())
    return doNotFit(c, "input and weight of one rank, at least 3, are expected");
  int64_t group = c.attr("group", 1);
  if (group < 1 || group > INT32_MAX)
    return c.fail("group is " + Twine(group));
  if (differ(x[1], c.analysis.mul(w[1], group)))
    return doNotFit(c, "with " + Twine(group) + " group(s) the weight's dim 1 times that must be the "
                                                "input's dim 1");
  if (std::optional<int64_t> filters = w[0].constant(); filters && *filters % group)
    return doNotFit(c, "the weight's dim 0 must be a multiple of group = " + Twine(group));
  if (bias && c.in(*bias) && (c.rank(*bias) != 1 || differ(c.dims(*bias)[0], w[0])))
    return doNotFit(c, "a bias with one number per filter is expected");
  SmallVector<int64_t> kernel = onnx::getInts(c.op, "kernel_shape");
  if (onnx::hasInts(c.op, "kernel_shape")) {
    if (kernel.size() + 2 != w.size())
      return doNotFit(c, "kernel_shape has " + Twine(kernel.size()) + " entries");
    for (auto [i, size] : llvm::enumerate(kernel))
      if (differ(w[i + 2], size))
        return doNotFit(c, "kernel_shape says otherwise");
  }
  FailureOr<Dims> spatial =
      slide(c, ArrayRef<SymbolicExpr>(x).drop_front(2), ArrayRef<SymbolicExpr>(w).drop_front(2));
  if (failed(spatial))
    return failure();
  Dims result = {x[0], w[0]};
  result.append(*spatial);
  return c.set(result, element);
}

static LogicalResult conv(RuleContext &c) { return convLike(c, 1, 2, c.element(0)); }

static LogicalResult convInteger(RuleContext &c) {
  return convLike(c, 1, std::nullopt, IntegerType::get(c.op->getContext(), 32));
}

static LogicalResult qlinearConv(RuleContext &c) { return convLike(c, 3, 8, c.element(7)); }

static LogicalResult convTranspose(RuleContext &c) {
  const Dims &x = c.dims(0), &w = c.dims(1);
  if (x.size() < 3 || w.size() != x.size() || differ(x[1], w[0]))
    return doNotFit(c, "a weight with as many input channels as the input is expected");
  size_t n = x.size() - 2;
  int64_t group = c.attr("group", 1);
  SmallVector<int64_t> strides = onnx::getInts(c.op, "strides", n, 1);
  SmallVector<int64_t> dilations = onnx::getInts(c.op, "dilations", n, 1);
  SmallVector<int64_t> pads = onnx::getInts(c.op, "pads", 2 * n, 0);
  SmallVector<int64_t> extra = onnx::getInts(c.op, "output_padding", n, 0);
  SmallVector<int64_t> sizes = onnx::getInts(c.op, "output_shape");
  if (strides.size() != n || dilations.size() != n || pads.size() != 2 * n || extra.size() != n ||
      group < 1)
    return c.fail("strides, dilations, pads or output_padding do not fit the rank");
  for (int64_t value : llvm::concat<int64_t>(strides, dilations))
    if (value < 1 || value > INT32_MAX)
      return c.fail("strides and dilations must be positive");
  if (onnx::hasInts(c.op, "output_shape") && sizes.size() != n)
    return c.fail("output_shape does not fit the rank");
  bool same = onnx::getString(c.op, "auto_pad", "NOTSET").starts_with("SAME");
  ShapeAnalysis &a = c.analysis;
  if (c.in(2) && (c.rank(2) != 1 || differ(c.dims(2)[0], a.mul(w[1], group))))
    return doNotFit(c, "a bias with one number per filter is expected");
  Dims result = {x[0], a.mul(w[1], group)};
  for (size_t i = 0; i < n; ++i) {
    SymbolicExpr reach = a.add(a.mul(a.sub(w[i + 2], 1), dilations[i]), 1);
    SymbolicExpr full =
        a.add(a.add(a.mul(a.sub(x[i + 2], 1), strides[i]), reach), extra[i] - pads[i] - pads[n + i]);
    result.push_back(!sizes.empty() ? SymbolicExpr(sizes[i])
                     : same         ? a.mul(x[i + 2], strides[i])
                                    : full);
  }
  return c.set(result, c.element(0));
}

static LogicalResult pool(RuleContext &c) {
  const Dims &x = c.dims(0);
  SmallVector<int64_t> kernel = onnx::getInts(c.op, "kernel_shape");
  if (x.size() < 3 || kernel.size() + 2 != x.size())
    return doNotFit(c, "kernel_shape has " + Twine(kernel.size()) + " entries");
  Dims window;
  for (int64_t size : kernel) {
    if (size < 1 || size > INT32_MAX)
      return c.fail("kernel_shape must be positive");
    window.push_back(size);
  }
  FailureOr<Dims> spatial = slide(c, ArrayRef<SymbolicExpr>(x).drop_front(2), window);
  if (failed(spatial))
    return failure();
  Dims result = {x[0], x[1]};
  result.append(*spatial);
  (void)c.set(result, c.element(0));
  if (c.op->getNumResults() == 2)
    (void)c.set(result, IntegerType::get(c.op->getContext(), 64));
  return success();
}

static LogicalResult globalPool(RuleContext &c) {
  if (c.rank(0) < 2)
    return doNotFit(c, "at least rank 2 is expected");
  Dims dims = {c.dims(0)[0], c.dims(0)[1]};
  dims.resize(c.rank(0), SymbolicExpr(1));
  return c.set(dims, c.element(0));
}

static LogicalResult gemm(RuleContext &c) {
  if (c.rank(0) != 2 || c.rank(1) != 2)
    return doNotFit(c, "two matrices are expected");
  bool transA = c.attr("transA", 0), transB = c.attr("transB", 0);
  const Dims &a = c.dims(0), &b = c.dims(1);
  if (differ(a[transA ? 0 : 1], b[transB ? 1 : 0]))
    return doNotFit(c, "the inner sizes differ (transA = " + Twine(transA) +
                           ", transB = " + Twine(transB) + ")");
  Dims result = {a[transA ? 1 : 0], b[transB ? 0 : 1]};
  if (c.in(2)) {
    FailureOr<Dims> both = c.broadcast(result, c.dims(2));
    if (failed(both) || both->size() != 2 || differ((*both)[0], result[0]) ||
        differ((*both)[1], result[1]))
      return doNotFit(c, "C does not broadcast to " + describe(result));
  }
  return c.set(result, c.element(0));
}

static LogicalResult product(RuleContext &c, unsigned left, unsigned right, Type element) {
  Dims a = c.dims(left), b = c.dims(right);
  if (a.empty() || b.empty())
    return doNotFit(c, "at least vectors are expected");
  bool vectorA = a.size() == 1, vectorB = b.size() == 1;
  if (vectorA)
    a.insert(a.begin(), SymbolicExpr(1));
  if (vectorB)
    b.push_back(1);
  size_t ra = a.size(), rb = b.size();
  if (differ(a[ra - 1], b[rb - 2]))
    return doNotFit(c, "the inner sizes differ");
  FailureOr<Dims> result =
      c.broadcast(Dims(a.begin(), a.end() - 2), Dims(b.begin(), b.end() - 2));
  if (failed(result))
    return failure();
  if (!vectorA)
    result->push_back(a[ra - 2]);
  if (!vectorB)
    result->push_back(b[rb - 1]);
  return c.set(*result, element);
}

static LogicalResult matMul(RuleContext &c) { return product(c, 0, 1, c.element(0)); }

static LogicalResult matMulInteger(RuleContext &c) {
  return product(c, 0, 1, IntegerType::get(c.op->getContext(), 32));
}

static LogicalResult qlinearMatMul(RuleContext &c) { return product(c, 0, 3, c.element(7)); }

void lowbit::addContractionRules(ShapeRules &rules) {
  rules["Conv"] = conv;
  rules["ConvInteger"] = convInteger;
  rules["ConvTranspose"] = convTranspose;
  rules["QLinearConv"] = qlinearConv;
  rules["AveragePool"] = pool;
  rules["MaxPool"] = pool;
  rules["LpPool"] = pool;
  rules["GlobalAveragePool"] = globalPool;
  rules["GlobalLpPool"] = globalPool;
  rules["GlobalMaxPool"] = globalPool;
  rules["Gemm"] = gemm;
  rules["MatMul"] = matMul;
  rules["MatMulInteger"] = matMulInteger;
  rules["QLinearMatMul"] = qlinearMatMul;
}
