//===- ShapeAnalysis.cpp - symbolic shapes of the values of a function -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Analysis/ShapeAnalysis.h"
#include "ShapeRules.h"
#include "lowbit/Analysis/LayerName.h"
#include "lowbit/Dialect/ONNX/IR/DimParams.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace lowbit;

/// Integer tensors above this size are data, not shapes.
static constexpr int64_t maxContents = 256;

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

SymbolicExpr ShapeAnalysis::opaque(StringRef what, ArrayRef<SymbolicExpr> operands) {
  std::string key = what.str();
  for (const SymbolicExpr &operand : operands)
    key += "," + operand.str();
  auto [entry, inserted] = interned.try_emplace(key);
  if (inserted)
    entry->second = fresh();
  return entry->second;
}

SymbolicExpr ShapeAnalysis::named(StringRef name) { return opaque(("name " + name).str(), {}); }

SymbolicExpr ShapeAnalysis::add(const SymbolicExpr &a, const SymbolicExpr &b) {
  std::optional<SymbolicExpr> sum = SymbolicExpr::add(a, b);
  return sum ? *sum : opaque("add", {a, b});
}

SymbolicExpr ShapeAnalysis::sub(const SymbolicExpr &a, const SymbolicExpr &b) {
  std::optional<SymbolicExpr> difference = SymbolicExpr::sub(a, b);
  return difference ? *difference : opaque("sub", {a, b});
}

SymbolicExpr ShapeAnalysis::mul(const SymbolicExpr &a, const SymbolicExpr &b) {
  std::optional<SymbolicExpr> product = SymbolicExpr::mul(a, b);
  return product ? *product : opaque("mul", {a, b});
}

SymbolicExpr ShapeAnalysis::floorDiv(const SymbolicExpr &a, const SymbolicExpr &b) {
  std::optional<int64_t> left = a.constant(), right = b.constant();
  if (left && right && *right && !(*left == INT64_MIN && *right == -1)) {
    int64_t quotient = *left / *right;
    return quotient - (*left % *right && (*left < 0) != (*right < 0));
  }
  if (std::optional<SymbolicExpr> quotient = SymbolicExpr::divideExactly(a, b))
    return *quotient;
  return opaque("floordiv", {a, b});
}

SymbolicExpr ShapeAnalysis::min(const SymbolicExpr &a, const SymbolicExpr &b) {
  std::optional<int64_t> left = a.constant(), right = b.constant();
  if (left && right)
    return std::min(*left, *right);
  return a == b ? a : opaque("min", {a, b});
}

SymbolicExpr ShapeAnalysis::max(const SymbolicExpr &a, const SymbolicExpr &b) {
  std::optional<int64_t> left = a.constant(), right = b.constant();
  if (left && right)
    return std::max(*left, *right);
  return a == b ? a : opaque("max", {a, b});
}

SymbolicExpr ShapeAnalysis::product(ArrayRef<SymbolicExpr> factors) {
  SymbolicExpr all(1);
  for (const SymbolicExpr &factor : factors)
    all = mul(all, factor);
  return all;
}

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

std::optional<int64_t> SymbolicShape::elementCount() const {
  int64_t count = 1;
  for (const SymbolicExpr &dim : dims) {
    std::optional<int64_t> size = dim.constant();
    if (!size || __builtin_mul_overflow(count, *size, &count))
      return std::nullopt;
  }
  return count;
}

RankedTensorType SymbolicShape::type() const {
  SmallVector<int64_t> shape;
  for (const SymbolicExpr &dim : dims)
    shape.push_back(dim.constant().value_or(ShapedType::kDynamic));
  return RankedTensorType::get(shape, element);
}

SymbolicShape ShapeAnalysis::fromType(RankedTensorType type) {
  SymbolicShape shape;
  shape.element = type.getElementType();
  for (int64_t dim : type.getShape())
    shape.dims.push_back(ShapedType::isDynamic(dim) ? fresh() : SymbolicExpr(dim));
  return shape;
}

const SymbolicShape *ShapeAnalysis::find(Value value) const {
  auto found = shapes.find(value);
  return found == shapes.end() ? nullptr : &found->second;
}

bool ShapeAnalysis::sameDim(Value a, unsigned aDim, Value b, unsigned bDim) const {
  const SymbolicShape *left = find(a), *right = find(b);
  return left && right && left->dims[aDim] == right->dims[bDim];
}

std::string lowbit::describe(const Dims &dims) {
  std::string text = "[";
  for (const SymbolicExpr &dim : dims)
    text += (text.size() > 1 ? ", " : "") +
            (dim.constant() ? std::to_string(*dim.constant()) : std::string("?"));
  return text + "]";
}

//===----------------------------------------------------------------------===//
// Rules
//===----------------------------------------------------------------------===//

std::optional<SmallVector<int64_t>> RuleContext::constants(unsigned i) const {
  const SymbolicShape *shape = in(i);
  if (!shape || !shape->contents)
    return std::nullopt;
  SmallVector<int64_t> values;
  for (const SymbolicExpr &value : *shape->contents) {
    if (!value.constant())
      return std::nullopt;
    values.push_back(*value.constant());
  }
  return values;
}

FailureOr<int64_t> RuleContext::axis(int64_t value, int64_t rank) const {
  if (value < -rank || value >= rank)
    return fail("axis " + Twine(value) + " is out of range for rank " + Twine(rank));
  return value < 0 ? value + rank : value;
}

FailureOr<SmallVector<int64_t>> RuleContext::axes(ArrayRef<int64_t> values, int64_t rank) const {
  SmallVector<int64_t> result;
  for (int64_t value : values) {
    FailureOr<int64_t> normal = axis(value, rank);
    if (failed(normal))
      return failure();
    if (llvm::is_contained(result, *normal))
      return fail("axis " + Twine(value) + " is given twice");
    result.push_back(*normal);
  }
  return result;
}

LogicalResult RuleContext::fail(const Twine &what) const {
  return emitError(op->getLoc()) << onnx::getOperator(op) << " node '" << getLayerName(op)
                                 << "': " << what;
}

FailureOr<Dims> RuleContext::broadcast(const Dims &a, const Dims &b) const {
  const Dims &longer = a.size() >= b.size() ? a : b, &shorter = a.size() >= b.size() ? b : a;
  Dims result = longer;
  size_t offset = longer.size() - shorter.size();
  for (size_t i = 0; i < shorter.size(); ++i) {
    SymbolicExpr &mine = result[offset + i];
    const SymbolicExpr &other = shorter[i];
    std::optional<int64_t> left = mine.constant(), right = other.constant();
    if (mine == other || right == 1)
      continue;
    if (left == 1 || (right && !left))
      mine = other;
    else if (left && right)
      return fail("shapes " + describe(a) + " and " + describe(b) + " do not broadcast");
    else if (!left)
      mine = mine.str() < other.str() ? analysis.opaque("broadcast", {mine, other})
                                      : analysis.opaque("broadcast", {other, mine});
  }
  return result;
}

static const ShapeRules &allRules() {
  static const ShapeRules rules = [] {
    ShapeRules map;
    addAttentionRules(map);
    addElementwiseRules(map);
    addContractionRules(map);
    addMovementRules(map);
    addGeneralRules(map);
    addIndexingRules(map);
    addSpatialRules(map);
    return map;
  }();
  return rules;
}

LogicalResult ShapeAnalysis::merge(Operation *op, unsigned result, SymbolicShape shape) {
  Value value = op->getResult(result);
  RuleContext rule{*this, op, {}};
  if (auto type = dyn_cast<RankedTensorType>(value.getType())) {
    if (type.getRank() != (int64_t)shape.dims.size())
      return rule.fail("result " + Twine(result) + " has shape " + describe(shape.dims) +
                       "; its type says rank " + Twine(type.getRank()));
    for (auto [known, dim] : llvm::zip(type.getShape(), shape.dims)) {
      std::optional<int64_t> size = dim.constant();
      if (ShapedType::isDynamic(known))
        continue;
      if (size && *size != known)
        return rule.fail("result " + Twine(result) + " has shape " + describe(shape.dims) +
                         "; its type says " + describe(fromType(type).dims));
      dim = known;
    }
  }
  int64_t count = 1;
  for (const SymbolicExpr &dim : shape.dims) {
    std::optional<int64_t> size = dim.constant();
    if (size && *size < 0)
      return rule.fail("result " + Twine(result) + " would have the shape " + describe(shape.dims));
    if (size && *size && (__builtin_mul_overflow(count, *size, &count) || count > INT64_C(1) << 40))
      return rule.fail("result " + Twine(result) + " of shape " + describe(shape.dims) +
                       " is too big");
  }
  if (shape.contents && shape.contents->size() > maxContents)
    shape.contents.reset();
  shapes[value] = std::move(shape);
  return success();
}

LogicalResult ShapeAnalysis::visitONNX(Operation *op) {
  StringRef name = onnx::getOperator(op);
  if (name == "NoValue" || name == "Yield")
    return success();
  if (name == "If")
    return visitIf(op);
  if (name == "Loop")
    return visitLoop(op);
  if (name == "Scan")
    return visitScan(op);
  if (name == "Constant") {
    auto type = cast<RankedTensorType>(op->getResult(0).getType());
    SymbolicShape shape = fromType(type);
    if (type.getElementType().isIntOrIndex() && type.getNumElements() <= maxContents)
      if (std::optional<ConstantData> data = ConstantData::get(op->getResult(0))) {
        std::vector<int64_t> values = data->toInts();
        shape.contents.emplace(values.begin(), values.end());
      }
    return merge(op, 0, std::move(shape));
  }
  auto rule = allRules().find(name);
  if (rule == allRules().end()) {
    for (Value result : op->getResults())
      if (auto type = dyn_cast<RankedTensorType>(result.getType()))
        shapes[result] = fromType(type);
    return success();
  }
  RuleContext context{*this, op, {}};
  for (Value operand : op->getOperands())
    if (!onnx::isAbsent(operand) && !find(operand)) {
      Operation *source = operand.getDefiningOp();
      if (!source && !isa<FunctionOpInterface>(operand.getParentBlock()->getParentOp()))
        return success(); // Of a body, and behind an unsupported operator.
      if (source && onnx::getOperator(source) == "Custom")
        return success(); // An unsupported operator: reported as such, once, for the whole model.
      if (source && !find(source->getResult(0)))
        return success(); // Behind one.
      return context.fail("an operand has no rank");
    }
  if (failed(rule->second(context)))
    return failure();
  unsigned next = 0;
  for (auto [index, result] : llvm::enumerate(op->getResults())) {
    if (isa<NoneType>(result.getType()))
      continue;
    if (next == context.results.size())
      return context.fail("output " + Twine(index) + " is not supported");
    if (failed(merge(op, index, std::move(context.results[next++]))))
      return failure();
  }
  return success();
}

/// The ops of other dialects that may stand between onnx ops.
void ShapeAnalysis::visitOther(Operation *op) {
  auto scalar = [&](Value value) -> SymbolicExpr {
    const SymbolicShape *shape = find(value);
    return shape && shape->contents ? shape->contents->front() : fresh();
  };
  for (Value result : op->getResults()) {
    if (auto type = dyn_cast<RankedTensorType>(result.getType())) {
      shapes[result] = fromType(type);
      continue;
    }
    if (!result.getType().isIntOrIndex())
      continue;
    SymbolicExpr value;
    IntegerAttr constant;
    StringRef name = op->getName().getStringRef();
    if (matchPattern(result, m_Constant(&constant)))
      value = constant.getInt();
    else if (auto dim = dyn_cast<tensor::DimOp>(op);
             dim && dim.getConstantIndex() && find(dim.getSource()))
      value = get(dim.getSource()).dims[*dim.getConstantIndex()];
    else if (name == "arith.muli")
      value = mul(scalar(op->getOperand(0)), scalar(op->getOperand(1)));
    else if (name == "arith.addi")
      value = add(scalar(op->getOperand(0)), scalar(op->getOperand(1)));
    else if (name == "arith.subi")
      value = sub(scalar(op->getOperand(0)), scalar(op->getOperand(1)));
    else if (name == "arith.index_cast")
      value = scalar(op->getOperand(0));
    else
      value = fresh();
    shapes[result] = {{}, result.getType(), std::vector<SymbolicExpr>{value}};
  }
  auto tie = [&](Value result, Value like) {
    const SymbolicShape *source = find(like);
    auto type = dyn_cast<RankedTensorType>(result.getType());
    if (!source || !type || type.getRank() != (int64_t)source->dims.size())
      return;
    SymbolicShape &mine = shapes[result];
    for (auto [known, dim, other] : llvm::zip(type.getShape(), mine.dims, get(like).dims))
      if (ShapedType::isDynamic(known))
        dim = other;
  };
  if (auto empty = dyn_cast<tensor::EmptyOp>(op)) {
    SymbolicShape &mine = shapes[empty.getResult()];
    unsigned next = 0;
    for (auto [known, dim] : llvm::zip(empty.getType().getShape(), mine.dims))
      if (ShapedType::isDynamic(known))
        dim = scalar(empty.getDynamicSizes()[next++]);
  } else if (isa<tensor::CastOp>(op) || isa<UnrealizedConversionCastOp>(op)) {
    if (op->getNumOperands() == 1 && op->getNumResults() == 1)
      tie(op->getResult(0), op->getOperand(0));
  } else if (auto style = dyn_cast<DestinationStyleOpInterface>(op)) {
    for (OpOperand &init : style.getDpsInitsMutable())
      if (OpResult result = style.getNumDpsInits() == op->getNumResults()
                                ? style.getTiedOpResult(&init)
                                : OpResult())
        tie(result, init.get());
  } else if (op->getName().getDialectNamespace() == "lowbit" && op->getNumOperands() &&
             op->getNumResults() == 1) {
    // Elementwise, or a contraction that keeps the leading dims.
    StringRef mnemonic = op->getName().stripDialect();
    auto type = dyn_cast<RankedTensorType>(op->getResult(0).getType());
    const SymbolicShape *source = find(op->getOperand(0));
    if (mnemonic == "quantize" || mnemonic == "dequantize" || mnemonic == "linear") {
      tie(op->getResult(0), op->getOperand(0));
    } else if (mnemonic == "conv" && type && source && type.getRank() && type.isDynamicDim(0)) {
      shapes[op->getResult(0)].dims[0] = source->dims[0];
    }
  }
}

LogicalResult ShapeAnalysis::visit(Operation *op) {
  if (op->getName().getDialectNamespace() == "onnx")
    return visitONNX(op);
  visitOther(op);
  return success();
}

LogicalResult ShapeAnalysis::run(FunctionOpInterface function) {
  if (function.isExternal())
    return success();
  for (BlockArgument argument : function.getArguments()) {
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    if (!type)
      continue;
    SymbolicShape shape = fromType(type);
    Attribute params = function.getArgAttr(argument.getArgNumber(), "onnx.dim_params");
    for (auto [dim, name] : llvm::enumerate(onnx::readDimParams(params, type.getRank())))
      if (!name.empty() && type.isDynamicDim(dim))
        shape.dims[dim] = named(name);
    shapes[argument] = std::move(shape);
  }
  return visitBlock(function.getFunctionBody().front());
}
