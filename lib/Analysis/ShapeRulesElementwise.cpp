//===- ShapeRulesElementwise.cpp - shapes of elementwise operators and reductions -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ShapeRules.h"
#include "mlir/IR/Builders.h"

using namespace lowbit;

using Contents = std::vector<SymbolicExpr>;

/// Combines the tracked elements of two or three broadcast operands; nothing where one is not
/// tracked.
static std::optional<Contents>
combine(RuleContext &c, const Dims &result, ArrayRef<unsigned> operands,
        llvm::function_ref<std::optional<SymbolicExpr>(ArrayRef<SymbolicExpr>)> apply) {
  int64_t count = 1;
  for (const SymbolicExpr &dim : result) {
    if (!dim.constant() || *dim.constant() > 256 || (count *= *dim.constant()) > 256)
      return std::nullopt;
  }
  for (unsigned i : operands)
    if (!c.in(i) || !c.in(i)->contents)
      return std::nullopt;
  Contents contents;
  for (int64_t linear = 0; linear < count; ++linear) {
    SmallVector<SymbolicExpr, 3> values;
    for (unsigned i : operands) {
      const SymbolicShape &shape = *c.in(i);
      int64_t rest = linear, offset = 0, stride = 1;
      for (size_t d = 0; d < result.size(); ++d) { // From the last dim.
        int64_t size = *result[result.size() - 1 - d].constant(), at = rest % size;
        rest /= size;
        if (d < shape.dims.size()) {
          int64_t mine = *shape.dims[shape.dims.size() - 1 - d].constant();
          offset += mine == 1 ? 0 : at * stride;
          stride *= mine;
        }
      }
      values.push_back((*shape.contents)[offset]);
    }
    std::optional<SymbolicExpr> value = apply(values);
    contents.push_back(value ? *value : c.analysis.fresh());
  }
  return contents;
}

static LogicalResult unary(RuleContext &c) {
  std::optional<Contents> contents;
  StringRef name = onnx::getOperator(c.op);
  if (name == "Identity")
    contents = c.in(0)->contents;
  else if (name == "Neg")
    contents = combine(c, c.dims(0), {0},
                       [&](ArrayRef<SymbolicExpr> v) { return c.analysis.sub(0, v[0]); });
  else if (name == "Not")
    contents =
        combine(c, c.dims(0), {0}, [&](ArrayRef<SymbolicExpr> v) -> std::optional<SymbolicExpr> {
          return v[0].constant() ? std::optional<SymbolicExpr>(SymbolicExpr(!*v[0].constant()))
                                 : std::nullopt;
        });
  return c.set(c.dims(0), c.element(0), contents);
}

static LogicalResult predicateUnary(RuleContext &c) {
  return c.set(c.dims(0), IntegerType::get(c.op->getContext(), 1));
}

static LogicalResult cast(RuleContext &c) {
  // The importer has chosen the element type from `to`.
  Type element = cast<ShapedType>(c.op->getResult(0).getType()).getElementType();
  bool integers = element.isIntOrIndex() && c.element(0).isIntOrIndex() &&
                  element.getIntOrFloatBitWidth() >= 32;
  return c.set(c.dims(0), element, integers ? c.in(0)->contents : std::nullopt);
}

static std::optional<SymbolicExpr> evaluate(RuleContext &c, StringRef name, const SymbolicExpr &a,
                                            const SymbolicExpr &b) {
  if (name == "Add" || name == "Sum")
    return c.analysis.add(a, b);
  if (name == "Sub")
    return c.analysis.sub(a, b);
  if (name == "Mul")
    return c.analysis.mul(a, b);
  if (name == "Min")
    return c.analysis.min(a, b);
  if (name == "Max")
    return c.analysis.max(a, b);
  std::optional<int64_t> left = a.constant(), right = b.constant();
  if (name == "Div") { // Truncates, where shapes are concerned on non-negative numbers only.
    if (left && right && *right && !(*left == INT64_MIN && *right == -1))
      return SymbolicExpr(*left / *right);
    return SymbolicExpr::divideExactly(a, b);
  }
  if (name == "Equal" && a == b)
    return SymbolicExpr(1);
  if (!left || !right)
    return std::nullopt;
  if (name == "Equal")
    return SymbolicExpr(*left == *right);
  if (name == "Less")
    return SymbolicExpr(*left < *right);
  if (name == "LessOrEqual")
    return SymbolicExpr(*left <= *right);
  if (name == "Greater")
    return SymbolicExpr(*left > *right);
  if (name == "GreaterOrEqual")
    return SymbolicExpr(*left >= *right);
  if (name == "And")
    return SymbolicExpr(*left && *right);
  if (name == "Or")
    return SymbolicExpr(*left || *right);
  if (name == "Mod" && *right && *right != -1) {
    int64_t rest = *left % *right;
    bool floor = c.attr("fmod", 0) == 0 && rest && (rest < 0) != (*right < 0);
    return SymbolicExpr(floor ? rest + *right : rest);
  }
  return std::nullopt;
}

static LogicalResult binary(RuleContext &c) {
  StringRef name = onnx::getOperator(c.op);
  Dims dims = c.dims(0);
  Type element = c.element(0);
  for (unsigned i = 1; i < c.op->getNumOperands(); ++i) {
    FailureOr<Dims> both = c.broadcast(dims, c.dims(i));
    if (failed(both))
      return failure();
    dims = *both;
    // Pow takes its exponent in any type.
    if (c.element(i) != element && name != "Pow")
      return c.fail("operands have different element types");
  }
  std::optional<Contents> contents;
  if (c.op->getNumOperands() == 2 && element.isIntOrIndex())
    contents = combine(c, dims, {0, 1},
                       [&](ArrayRef<SymbolicExpr> v) { return evaluate(c, name, v[0], v[1]); });
  else if (c.op->getNumOperands() == 1)
    contents = c.in(0)->contents;
  bool predicate = llvm::is_contained(
      ArrayRef<StringRef>{"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"}, name);
  return c.set(dims, predicate ? (Type)IntegerType::get(c.op->getContext(), 1) : element, contents);
}

static LogicalResult where(RuleContext &c) {
  FailureOr<Dims> dims = c.broadcast(c.dims(0), c.dims(1));
  if (failed(dims) || failed(dims = c.broadcast(*dims, c.dims(2))))
    return failure();
  if (c.element(1) != c.element(2))
    return c.fail("the two choices have different element types");
  std::optional<Contents> contents =
      combine(c, *dims, {0, 1, 2}, [](ArrayRef<SymbolicExpr> v) -> std::optional<SymbolicExpr> {
        if (v[0].constant())
          return v[*v[0].constant() ? 1 : 2];
        return v[1] == v[2] ? std::optional<SymbolicExpr>(v[1]) : std::nullopt;
      });
  return c.set(*dims, c.element(1), contents);
}

static LogicalResult clip(RuleContext &c) { return c.set(c.dims(0), c.element(0)); }

/// The slope is broadcast to the input and never the other way round.
static LogicalResult prelu(RuleContext &c) {
  if (failed(c.broadcast(c.dims(0), c.dims(1))))
    return failure();
  return c.set(c.dims(0), c.element(0));
}

static LogicalResult withAxis(RuleContext &c) {
  if (failed(c.axis(c.attr("axis", -1), c.rank(0))))
    return failure();
  return c.set(c.dims(0), c.element(0));
}

static LogicalResult cumSum(RuleContext &c) {
  std::optional<SmallVector<int64_t>> axis = c.constants(1);
  if (axis && (axis->size() != 1 || failed(c.axis((*axis)[0], c.rank(0)))))
    return failure();
  if (c.rank(0) == 0 || c.rank(1) > 1 || (c.rank(1) == 1 && !c.dims(1)[0].isConstant(1)))
    return c.fail("an axis of an input of rank 1 or more is expected");
  return c.set(c.dims(0), c.element(0));
}

static LogicalResult reduceTo(RuleContext &c, ArrayRef<int64_t> axes, bool keep, Type element) {
  Dims dims;
  for (auto [index, dim] : llvm::enumerate(c.dims(0))) {
    if (!llvm::is_contained(axes, (int64_t)index))
      dims.push_back(dim);
    else if (keep)
      dims.push_back(1);
  }
  return c.set(dims, element);
}

static LogicalResult reduce(RuleContext &c) {
  bool keep = c.attr("keepdims", 1) == 1;
  SmallVector<int64_t> axes;
  if (c.in(1)) {
    std::optional<SmallVector<int64_t>> given = c.constants(1);
    std::optional<int64_t> many = c.rank(1) == 1 ? c.dims(1)[0].constant() : std::nullopt;
    if (!given && many == 0)
      given.emplace();
    if (!given) { // Only the run knows which dims go, and perhaps how many.
      if (c.rank(1) != 1 || (!keep && !many) || (many && *many > c.rank(0)))
        return c.fail("the number of axes is not known or too big, so the rank cannot be told");
      Dims dims;
      for (int64_t i = keep ? 0 : *many; i < c.rank(0); ++i)
        dims.push_back(c.analysis.fresh());
      return c.set(dims, c.element(0));
    }
    FailureOr<SmallVector<int64_t>> normal = c.axes(*given, c.rank(0));
    if (failed(normal))
      return failure();
    axes = *normal;
  }
  if (axes.empty() && c.attr("noop_with_empty_axes", 0) == 1)
    return c.set(c.dims(0), c.element(0));
  if (axes.empty())
    llvm::append_range(axes, llvm::seq<int64_t>(c.rank(0)));
  return reduceTo(c, axes, keep, c.element(0));
}

static LogicalResult argReduce(RuleContext &c) {
  FailureOr<int64_t> axis = c.axis(c.attr("axis", 0), c.rank(0));
  if (failed(axis))
    return failure();
  return reduceTo(c, {*axis}, c.attr("keepdims", 1) == 1, IntegerType::get(c.op->getContext(), 64));
}

static LogicalResult topK(RuleContext &c) {
  FailureOr<int64_t> axis = c.axis(c.attr("axis", -1), c.rank(0));
  if (failed(axis))
    return failure();
  Dims dims = c.dims(0);
  const SymbolicShape *k = c.in(1);
  dims[*axis] = k && k->contents ? k->contents->front() : c.analysis.fresh();
  (void)c.set(dims, c.element(0));
  return c.set(dims, IntegerType::get(c.op->getContext(), 64));
}

static LogicalResult layerNorm(RuleContext &c) {
  FailureOr<int64_t> axis = c.axis(c.attr("axis", -1), c.rank(0));
  if (failed(axis))
    return failure();
  for (unsigned i : {1u, 2u})
    if (c.in(i) && failed(c.broadcast(c.dims(0), c.dims(i))))
      return failure();
  (void)c.set(c.dims(0), c.element(0));
  if (c.op->getNumResults() == 3) {
    Dims statistics = c.dims(0);
    for (int64_t i = *axis; i < c.rank(0); ++i)
      statistics[i] = 1;
    for (Value result : c.op->getResults().drop_front())
      if (auto type = dyn_cast<ShapedType>(result.getType()))
        (void)c.set(statistics, type.getElementType());
  }
  return success();
}

static LogicalResult batchNorm(RuleContext &c) {
  if (c.rank(0) < 2)
    return c.fail("the input has shape " + describe(c.dims(0)) + "; at least rank 2 is expected");
  for (unsigned i = 1; i < c.op->getNumOperands(); ++i)
    if (c.rank(i) != 1 || failed(c.broadcast({c.dims(0)[1]}, c.dims(i))))
      return c.fail("operand " + Twine(i) + " has shape " + describe(c.dims(i)) +
                    "; one number for each of the " + describe({c.dims(0)[1]}) +
                    " channels is expected");
  (void)c.set(c.dims(0), c.element(0));
  for (Value result : c.op->getResults().drop_front()) // The running statistics of training mode.
    if (auto type = dyn_cast<ShapedType>(result.getType()))
      (void)c.set({c.dims(0)[1]}, type.getElementType());
  return success();
}

static LogicalResult quantize(RuleContext &c) {
  Type element = cast<ShapedType>(c.op->getResult(0).getType()).getElementType();
  return c.set(c.dims(0), element);
}

static LogicalResult dynamicQuantize(RuleContext &c) {
  Type byte = IntegerType::get(c.op->getContext(), 8, IntegerType::Unsigned);
  (void)c.set(c.dims(0), byte);
  (void)c.set({}, c.element(0));
  return c.set({}, byte);
}

void lowbit::addElementwiseRules(ShapeRules &rules) {
  for (StringRef name :
       {"Acos",  "Acosh",     "Asin",     "Asinh",     "Atan",     "Atanh",       "BitwiseNot",
        "Cosh",  "Shrink",    "Sinh",     "Tan",       "Abs",      "Ceil",        "Cos",
        "Elu",   "Erf",       "Exp",      "Floor",     "Gelu",     "HardSigmoid", "Log",
        "Neg",   "HardSwish", "Identity", "LeakyRelu", "Not",      "Reciprocal",  "Relu",
        "Round", "Sigmoid",   "Sign",     "Sin",       "Softplus", "Softsign",    "Sqrt",
        "Swish", "Tanh",      "Trilu"})
    rules[name] = unary;
  for (StringRef name : {"IsInf", "IsNaN"})
    rules[name] = predicateUnary;
  for (StringRef name : {"Add",        "And",         "BitShift", "BitwiseAnd", "BitwiseOr",
                         "BitwiseXor", "Div",         "Equal",    "Greater",    "GreaterOrEqual",
                         "Less",       "LessOrEqual", "Max",      "Mean",       "Min",
                         "Mod",        "Mul",         "Or",       "Pow",        "Sub",
                         "Sum",        "Xor"})
    rules[name] = binary;
  for (StringRef name : {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
                         "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"})
    rules[name] = reduce;
  for (StringRef name : {"ArgMax", "ArgMin"})
    rules[name] = argReduce;
  for (StringRef name : {"Softmax", "LogSoftmax"})
    rules[name] = withAxis;
  for (StringRef name : {"BatchNormalization", "InstanceNormalization"})
    rules[name] = batchNorm;
  for (StringRef name : {"LayerNormalization", "RMSNormalization"})
    rules[name] = layerNorm;
  for (StringRef name : {"QuantizeLinear", "DequantizeLinear"})
    rules[name] = quantize;
  for (StringRef name : {"BitCast", "Cast", "CastLike"})
    rules[name] = cast;
  rules["Clip"] = clip;
  for (StringRef name : {"CumProd", "CumSum"})
    rules[name] = cumSum;
  rules["DynamicQuantizeLinear"] = dynamicQuantize;
  rules["PRelu"] = prelu;
  rules["TopK"] = topK;
  rules["Where"] = where;
}
