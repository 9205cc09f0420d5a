//===- ShapeRulesGeneral.cpp - shapes of losses, sums over names, sparse results -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ShapeRules.h"
#include "lowbit/Analysis/EinsumEquation.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/IR/Builders.h"
#include <cmath>

using namespace lowbit;

/// The element type that the importer has chosen for result `i`.
static Type resultElement(RuleContext &c, unsigned i) {
  return cast<ShapedType>(c.op->getResult(i).getType()).getElementType();
}

static bool wantsResult(RuleContext &c, unsigned i) {
  return i < c.op->getNumResults() && !isa<NoneType>(c.op->getResult(i).getType());
}

/// The one number that operand `i` holds, as a size; a fresh symbol where only the run knows it.
static SymbolicExpr sizeOf(RuleContext &c, unsigned i) {
  const SymbolicShape *operand = c.in(i);
  if (operand->contents && operand->contents->size() == 1)
    return operand->contents->front();
  std::optional<ConstantData> data = ConstantData::get(c.op->getOperand(i));
  if (data && isa<FloatType>(operand->element) && data->getType().getNumElements() == 1)
    if (double number = data->toFloats()[0]; std::fabs(number) < 1e15)
      return (int64_t)number;
  return c.analysis.fresh();
}

static LogicalResult likeData(RuleContext &c) { return c.set(c.dims(0), resultElement(c, 0)); }

static LogicalResult withAxis(RuleContext &c) {
  if (failed(c.axis(c.attr("axis", -1), c.rank(0))))
    return failure();
  return likeData(c);
}

static LogicalResult einsum(RuleContext &c) {
  SmallVector<int64_t> ranks;
  for (unsigned i = 0; i < c.op->getNumOperands(); ++i) {
    ranks.push_back(c.rank(i));
    if (c.element(i) != c.element(0))
      return c.fail("operands have different element types");
  }
  std::string error;
  FailureOr<EinsumEquation> equation =
      EinsumEquation::parse(onnx::getString(c.op, "equation", ""), ranks, error);
  if (failed(equation))
    return c.fail(error);
  SmallVector<std::optional<SymbolicExpr>> sizes(equation->labels);
  for (auto [i, labels] : llvm::enumerate(equation->inputs))
    for (auto [d, label] : llvm::enumerate(labels)) {
      const SymbolicExpr &dim = c.dims(i)[d];
      std::optional<SymbolicExpr> &size = sizes[label];
      if (size && size->constant() && dim.constant() && *size != dim && !size->isConstant(1) &&
          !dim.isConstant(1))
        return c.fail("a letter stands for the sizes " + Twine(*size->constant()) + " and " +
                      Twine(*dim.constant()));
      // A constant says more than a symbol, and anything more than 1.
      if (!size || size->isConstant(1) || (dim.constant() && !dim.isConstant(1)))
        size = dim;
    }
  Dims dims;
  for (unsigned label : equation->output)
    dims.push_back(*sizes[label]);
  return c.set(dims, c.element(0));
}

static LogicalResult eyeLike(RuleContext &c) {
  if (c.rank(0) != 2)
    return c.fail("the input has shape " + describe(c.dims(0)) + "; a matrix is expected");
  return likeData(c);
}

static LogicalResult oneHot(RuleContext &c) {
  int64_t rank = c.rank(0) + 1;
  FailureOr<int64_t> axis = c.axis(c.attr("axis", -1), rank);
  if (failed(axis))
    return failure();
  if (c.rank(2) != 1 || (c.dims(2)[0].constant() && !c.dims(2)[0].isConstant(2)))
    return c.fail("values has shape " + describe(c.dims(2)) + "; two numbers are expected");
  for (const SymbolicExpr &dim : c.dims(1))
    if (!dim.isConstant(1))
      return c.fail("depth has shape " + describe(c.dims(1)) + "; one number is expected");
  Dims dims = c.dims(0);
  dims.insert(dims.begin() + *axis, sizeOf(c, 1));
  return c.set(dims, c.element(2));
}

static LogicalResult melWeights(RuleContext &c) {
  for (unsigned i = 0; i < 5; ++i)
    for (const SymbolicExpr &dim : c.dims(i))
      if (!dim.isConstant(1))
        return c.fail("operand " + Twine(i) + " must be a scalar");
  SymbolicExpr bins = c.analysis.add(c.analysis.floorDiv(sizeOf(c, 1), 2), 1);
  return c.set({bins, sizeOf(c, 0)}, resultElement(c, 0));
}

static LogicalResult det(RuleContext &c) {
  int64_t rank = c.rank(0);
  Dims dims = c.dims(0);
  if (rank < 2 ||
      (dims[rank - 1].constant() && dims[rank - 2].constant() && dims[rank - 1] != dims[rank - 2]))
    return c.fail("the input has shape " + describe(dims) + "; square matrices are expected");
  dims.truncate(rank - 2);
  return c.set(dims, c.element(0));
}

static LogicalResult nonZero(RuleContext &c) {
  return c.set({c.rank(0), c.analysis.fresh()}, IntegerType::get(c.op->getContext(), 64));
}

static LogicalResult compress(RuleContext &c) {
  if (c.rank(1) != 1)
    return c.fail("the condition has shape " + describe(c.dims(1)) + "; rank 1 is expected");
  SymbolicExpr size = c.analysis.product(c.dims(0));
  Dims dims = {c.analysis.fresh()};
  if (c.op->getAttr("axis")) {
    FailureOr<int64_t> axis = c.axis(c.attr("axis", 0), c.rank(0));
    if (failed(axis))
      return failure();
    size = c.dims(0)[*axis];
    SymbolicExpr kept = dims[0];
    dims = c.dims(0);
    dims[*axis] = kept;
  }
  std::optional<int64_t> have = size.constant(), given = c.dims(1)[0].constant();
  if (have && given && *given > *have)
    return c.fail("the condition has " + Twine(*given) + " entries for " + Twine(*have) +
                  " slices");
  return c.set(dims, c.element(0));
}

static LogicalResult unique(RuleContext &c) {
  SymbolicExpr found = c.analysis.fresh(), count = c.analysis.product(c.dims(0));
  Dims dims = {found};
  if (c.op->getAttr("axis")) {
    FailureOr<int64_t> axis = c.axis(c.attr("axis", 0), c.rank(0));
    if (failed(axis))
      return failure();
    dims = c.dims(0);
    count = dims[*axis];
    dims[*axis] = found;
  }
  Type i64 = IntegerType::get(c.op->getContext(), 64);
  (void)c.set(dims, c.element(0));
  for (auto [result, size] : {std::pair(1u, found), {2u, count}, {3u, found}})
    if (wantsResult(c, result))
      (void)c.set({size}, i64);
  return success();
}

/// Scores [n, classes, ...], targets [n, ...].
static LogicalResult loss(RuleContext &c) {
  const Dims &scores = c.dims(0);
  bool fits = c.rank(0) >= 2 && c.rank(1) == c.rank(0) - 1;
  for (int64_t i = 0; fits && i < c.rank(1); ++i) {
    std::optional<int64_t> left = scores[i ? i + 1 : 0].constant(), right = c.dims(1)[i].constant();
    fits &= !left || !right || *left == *right;
  }
  if (!fits)
    return c.fail("targets of shape " + describe(c.dims(1)) + " do not fit scores of shape " +
                  describe(scores));
  if (!c.element(1).isIntOrIndex() || !isa<FloatType>(c.element(0)))
    return c.fail("float scores and integer targets are expected");
  if (c.in(2)) {
    std::optional<int64_t> classes = scores[1].constant(), weights;
    if (c.rank(2) == 1)
      weights = c.dims(2)[0].constant();
    if (c.rank(2) != 1 || (classes && weights && *classes != *weights))
      return c.fail("weights of shape " + describe(c.dims(2)) + " do not fit scores of shape " +
                    describe(scores));
  }
  bool each = onnx::getString(c.op, "reduction", "mean") == "none";
  (void)c.set(each ? c.dims(1) : Dims(), c.element(0));
  return wantsResult(c, 1) ? c.set(scores, c.element(0)) : success();
}

static LogicalResult groupNorm(RuleContext &c) {
  int64_t groups = c.attr("num_groups", 0);
  if (c.rank(0) < 2 || groups < 1)
    return c.fail("an input of rank 2 or more and a positive num_groups are expected");
  SymbolicExpr channels = c.dims(0)[1];
  if (!channels.constant() || *channels.constant() % groups)
    return c.fail("the channels of " + describe(c.dims(0)) +
                  " are no known multiple of num_groups " + Twine(groups));
  for (unsigned i : {1u, 2u})
    if (c.rank(i) != 1 || c.dims(i) != c.dims(1) ||
        (c.dims(i)[0] != channels && !c.dims(i)[0].isConstant(groups)))
      return c.fail("operand " + Twine(i) + " has shape " + describe(c.dims(i)) +
                    "; a number per channel or group is expected");
  return likeData(c);
}

static LogicalResult meanVariance(RuleContext &c) {
  SmallVector<int64_t> axes = {0, 2, 3};
  if (onnx::hasInts(c.op, "axes"))
    axes = onnx::getInts(c.op, "axes");
  if (failed(c.axes(axes, c.rank(0))))
    return failure();
  return likeData(c);
}

static LogicalResult scatterElements(RuleContext &c) {
  if (failed(c.axis(c.attr("axis", 0), c.rank(0))))
    return failure();
  if (c.rank(1) != c.rank(0) || c.rank(2) != c.rank(0))
    return c.fail("data " + describe(c.dims(0)) + ", indices " + describe(c.dims(1)) +
                  " and updates " + describe(c.dims(2)) + " must have the same rank");
  return likeData(c);
}

static LogicalResult scatterND(RuleContext &c) {
  int64_t r = c.rank(0), q = c.rank(1);
  std::optional<int64_t> depth = q ? c.dims(1)[q - 1].constant() : std::nullopt;
  if (!depth || *depth < 1 || *depth > r || c.rank(2) != q - 1 + r - *depth)
    return c.fail("indices " + describe(c.dims(1)) + " and updates " + describe(c.dims(2)) +
                  " do not fit data " + describe(c.dims(0)));
  return likeData(c);
}

static LogicalResult tensorScatter(RuleContext &c) {
  if (failed(c.axis(c.attr("axis", -2), c.rank(0))))
    return failure();
  if (c.rank(1) != c.rank(0) || (c.in(2) && c.rank(2) != 1))
    return c.fail("an update of shape " + describe(c.dims(1)) + " does not fit a cache of shape " +
                  describe(c.dims(0)));
  return likeData(c);
}

static LogicalResult reverseSequence(RuleContext &c) {
  FailureOr<int64_t> batch = c.axis(c.attr("batch_axis", 1), c.rank(0));
  FailureOr<int64_t> time = c.axis(c.attr("time_axis", 0), c.rank(0));
  if (failed(batch) || failed(time))
    return failure();
  if (c.rank(1) != 1 || *batch == *time)
    return c.fail("one length per sequence and two different axes are expected");
  return likeData(c);
}

/// The last dim of a signal says whether it is real (1) or complex (2).
static bool isSignal(RuleContext &c) {
  const Dims &dims = c.dims(0);
  return dims.size() >= 2 && (dims.back().isConstant(1) || dims.back().isConstant(2)) &&
         isa<FloatType>(c.element(0));
}

static LogicalResult dft(RuleContext &c) {
  if (!isSignal(c))
    return c.fail("the input has shape " + describe(c.dims(0)) +
                  "; a last dim of 1 or 2 is expected");
  std::optional<SmallVector<int64_t>> given = c.in(2) ? c.constants(2) : SmallVector<int64_t>{-2};
  int64_t rank = c.rank(0);
  Dims dims = c.dims(0);
  bool onesided = c.attr("onesided", 0), inverse = c.attr("inverse", 0);
  if (onesided && dims.back().isConstant(inverse ? 1 : 2))
    return c.fail(inverse ? "a one-sided inverse needs a complex spectrum"
                          : "a one-sided spectrum needs a real signal");
  dims[rank - 1] = onesided && inverse ? 1 : 2;
  if (!given) { // Any dim but the last may be the one that changes.
    if (c.rank(2) > 1 || (c.rank(2) == 1 && !c.dims(2)[0].isConstant(1)))
      return c.fail("the axis must be a scalar");
    for (int64_t i = 0; i + 1 < rank; ++i)
      dims[i] = c.analysis.fresh();
    return c.set(dims, c.element(0));
  }
  if (given->size() != 1)
    return c.fail("the axis must be a scalar");
  FailureOr<int64_t> axis = c.axis(given->front(), rank);
  if (failed(axis))
    return failure();
  if (*axis == rank - 1)
    return c.fail("the axis is that of the real and imaginary parts");
  ShapeAnalysis &a = c.analysis;
  SymbolicExpr length = dims[*axis];
  if (onesided && inverse)
    length = a.mul(a.sub(length, 1), 2);
  if (c.in(1))
    length = sizeOf(c, 1);
  if (length.constant() && *length.constant() < 1)
    return c.fail("the length is " + Twine(*length.constant()));
  dims[*axis] = onesided && !inverse ? a.add(a.floorDiv(length, 2), 1) : length;
  return c.set(dims, c.element(0));
}

static LogicalResult stft(RuleContext &c) {
  if (!isSignal(c) || c.rank(0) != 3)
    return c.fail("the signal has shape " + describe(c.dims(0)) +
                  "; [batch, length, 1 or 2] is expected");
  ShapeAnalysis &a = c.analysis;
  const Dims &dims = c.dims(0);
  bool onesided = c.attr("onesided", 1);
  if (onesided && dims[2].isConstant(2))
    return c.fail("a one-sided spectrum needs a real signal");
  if (c.in(2) && c.rank(2) != 1)
    return c.fail("the window has shape " + describe(c.dims(2)) + "; rank 1 is expected");
  SymbolicExpr length = c.in(3)   ? sizeOf(c, 3)
                        : c.in(2) ? c.dims(2)[0]
                                  : dims[1],
               step = sizeOf(c, 1);
  std::optional<int64_t> have = dims[1].constant(), wanted = length.constant();
  if ((step.constant() && *step.constant() < 1) ||
      (wanted && (*wanted < 1 || (have && *wanted > *have))))
    return c.fail("a positive step, and frames no longer than the signal, are expected");
  SymbolicExpr frames = a.add(a.floorDiv(a.sub(dims[1], length), step), 1);
  return c.set({dims[0], frames, onesided ? a.add(a.floorDiv(length, 2), 1) : length, 2},
               c.element(0));
}

void lowbit::addGeneralRules(ShapeRules &rules) {
  for (StringRef name : {"Hardmax", "LpNormalization"})
    rules[name] = withAxis;
  for (StringRef name : {"NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"})
    rules[name] = loss;
  rules["Compress"] = compress;
  rules["DFT"] = dft;
  rules["Det"] = det;
  rules["Einsum"] = einsum;
  rules["EyeLike"] = eyeLike;
  rules["GroupNormalization"] = groupNorm;
  rules["MeanVarianceNormalization"] = meanVariance;
  rules["MelWeightMatrix"] = melWeights;
  rules["NonZero"] = nonZero;
  rules["OneHot"] = oneHot;
  rules["ReverseSequence"] = reverseSequence;
  rules["STFT"] = stft;
  rules["ScatterElements"] = scatterElements;
  rules["ScatterND"] = scatterND;
  rules["TensorScatter"] = tensorScatter;
  rules["Unique"] = unique;
}
