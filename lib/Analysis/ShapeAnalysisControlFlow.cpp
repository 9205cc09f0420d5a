//===- ShapeAnalysisControlFlow.cpp - shapes of If, Loop and Scan -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Where two graphs or two iterations differ, a dim becomes a symbol of its own: known when the
// model runs. A symbol made inside a body means something else in every iteration, so none of them
// gets out.
//
//===----------------------------------------------------------------------===//
#include "ShapeRules.h"
#include "mlir/IR/Builders.h"

using namespace lowbit;

using Contents = std::vector<SymbolicExpr>;

/// Loops in loops are visited more than once per level: a hostile file could multiply that without
/// end.
static constexpr int64_t maxVisits = 1'000'000;

std::optional<bool> ShapeAnalysis::condition(Value value) const {
  if (onnx::isAbsent(value))
    return true;
  const SymbolicShape *shape = find(value);
  if (!shape || !shape->contents || shape->contents->size() != 1)
    return std::nullopt;
  std::optional<int64_t> constant = shape->contents->front().constant();
  return constant ? std::optional<bool>(*constant != 0) : std::nullopt;
}

LogicalResult ShapeAnalysis::visitBlock(Block &block) {
  bool nested = onnx::getOperator(block.getParentOp()) != "";
  for (Operation &op : block) {
    if (nested && ++visits > maxVisits)
      return RuleContext{*this, block.getParentOp(), {}}.fail("loops nest too deeply");
    if (failed(visit(&op)))
      return failure();
  }
  return success();
}

SymbolicShape ShapeAnalysis::outside(const SymbolicShape &shape, SymbolicExpr::Symbol limit) {
  SymbolicShape result = shape;
  for (SymbolicExpr &dim : result.dims)
    if (!dim.isOlderThan(limit))
      dim = fresh();
  if (result.contents)
    for (SymbolicExpr &value : *result.contents)
      if (!value.isOlderThan(limit))
        value = fresh();
  return result;
}

/// Fails where the value is not one element of an integer type of `width` bits.
static LogicalResult checkScalar(const RuleContext &context, Value value, unsigned width,
                                 StringRef what) {
  const SymbolicShape *shape = onnx::isAbsent(value) ? nullptr : context.analysis.find(value);
  if (!shape)
    return success();
  for (const SymbolicExpr &dim : shape->dims)
    if (dim.constant().value_or(1) != 1)
      return context.fail(what + " has the shape " + describe(shape->dims) +
                          "; one element is expected");
  if (!shape->element.isSignlessInteger(width))
    return context.fail(what + " must be " + (width == 1 ? "bool" : "int64"));
  return success();
}

LogicalResult ShapeAnalysis::visitIf(Operation *op) {
  RuleContext context{*this, op, {}};
  if (failed(checkScalar(context, op->getOperand(0), 1, "the condition")))
    return failure();
  std::optional<bool> chosen = condition(op->getOperand(0));
  SymbolicExpr::Symbol limit = symbols;
  // Only the graph that is taken needs to have shapes that fit.
  for (unsigned i = 0; i < 2; ++i)
    if (!chosen || *chosen == (i == 0))
      if (failed(visitBlock(op->getRegion(i).front())))
        return failure();
  for (unsigned i = 0; i < op->getNumResults(); ++i) {
    const SymbolicShape *sides[2];
    for (unsigned side = 0; side < 2; ++side)
      sides[side] = find(op->getRegion(side).front().getTerminator()->getOperand(i));
    if (chosen) {
      if (const SymbolicShape *taken = sides[*chosen ? 0 : 1])
        if (failed(merge(op, i, *taken)))
          return failure();
      continue;
    }
    if (!sides[0] || !sides[1])
      continue; // Behind an unsupported operator.
    SymbolicShape left = outside(*sides[0], limit), right = *sides[1];
    if (left.dims.size() != right.dims.size() || left.element != right.element)
      return context.fail("output " + Twine(i) + " has the shape " + describe(left.dims) + " or " +
                          describe(right.dims) +
                          ", depending on a condition that only the run knows: the rank and the "
                          "element type must be the same");
    for (auto [mine, other] : llvm::zip(left.dims, right.dims))
      if (mine != other)
        mine = fresh();
    if (!left.contents || !right.contents || left.contents->size() != right.contents->size())
      left.contents.reset();
    else
      for (auto [mine, other] : llvm::zip(*left.contents, *right.contents))
        if (mine != other)
          mine = fresh();
    if (failed(merge(op, i, std::move(left))))
      return failure();
  }
  return success();
}

LogicalResult ShapeAnalysis::visitIterations(Block &body, unsigned first, unsigned yields,
                                             SmallVectorImpl<SymbolicShape> &carried) {
  RuleContext context{*this, body.getParentOp(), {}};
  llvm::StringMap<bool> widened; // Sizes that have been given up: a symbol of this loop.
  for (;;) {
    for (auto [i, shape] : llvm::enumerate(carried))
      shapes[body.getArgument(first + i)] = shape;
    if (failed(visitBlock(body)))
      return failure();
    bool changed = false;
    for (auto [i, shape] : llvm::enumerate(carried)) {
      const SymbolicShape *next = find(body.getTerminator()->getOperand(yields + i));
      if (!next)
        continue; // Behind an unsupported operator.
      if (next->dims.size() != shape.dims.size() || next->element != shape.element)
        return context.fail("carries a value of shape " + describe(shape.dims) +
                            " into the first iteration and one of shape " + describe(next->dims) +
                            " into the next: the rank and the element type must be the same");
      auto widen = [&](SymbolicExpr &mine, const SymbolicExpr &other) {
        if (mine == other || widened.count(mine.str()))
          return;
        mine = fresh();
        widened[mine.str()] = true;
        changed = true;
      };
      for (auto [mine, other] : llvm::zip(shape.dims, next->dims))
        widen(mine, other);
      if (shape.contents && (!next->contents || next->contents->size() != shape.contents->size()))
        shape.contents.reset(), changed = true;
      if (shape.contents)
        for (auto [mine, other] : llvm::zip(*shape.contents, *next->contents))
          widen(mine, other);
    }
    if (!changed)
      return success();
  }
}

/// Initial shapes of what a body carries; false where one is not known, behind an unsupported
/// operator.
static bool initialShapes(const ShapeAnalysis &analysis, OperandRange values,
                          SmallVectorImpl<SymbolicShape> &carried) {
  for (Value value : values) {
    const SymbolicShape *shape = analysis.find(value);
    if (!shape)
      return false;
    carried.push_back(*shape);
  }
  return true;
}

LogicalResult ShapeAnalysis::visitLoop(Operation *op) {
  RuleContext context{*this, op, {}};
  Block &body = op->getRegion(0).front();
  Value limitValue = op->getOperand(0), conditionValue = op->getOperand(1);
  if (failed(checkScalar(context, limitValue, 64, "the trip count")) ||
      failed(checkScalar(context, conditionValue, 1, "the condition")))
    return failure();
  SymbolicExpr::Symbol limit = symbols;
  SmallVector<SymbolicShape> carried;
  if (!initialShapes(*this, op->getOperands().drop_front(2), carried))
    return success();
  Builder builder(op->getContext());
  shapes[body.getArgument(0)] = {{}, builder.getI64Type(), Contents{fresh()}};
  // The condition holds inside the body, whatever it is.
  shapes[body.getArgument(1)] = {{}, builder.getI1Type(), Contents{SymbolicExpr(1)}};
  SmallVector<SymbolicShape> initial(carried);
  if (failed(visitIterations(body, 2, 1, carried)))
    return failure();
  Operation *yield = body.getTerminator();
  if (failed(checkScalar(context, yield->getOperand(0), 1, "the condition that the body gives")))
    return failure();
  // The number of iterations, where the condition never ends them.
  bool always = condition(conditionValue) == true && condition(yield->getOperand(0)) == true;
  SymbolicExpr trips = fresh();
  if (condition(conditionValue) == false)
    trips = 0;
  else if (const SymbolicShape *most = onnx::isAbsent(limitValue) ? nullptr : find(limitValue);
           always && most && most->contents && !most->contents->empty())
    trips = max(most->contents->front(), 0);
  for (unsigned i = 0; i < op->getNumResults(); ++i) {
    if (i < carried.size()) {
      // A size that an iteration may change may also be the initial one.
      SymbolicShape last = carried[i];
      for (auto [mine, before] : llvm::zip(last.dims, initial[i].dims))
        if (mine != before)
          mine = fresh();
      if (last.contents && initial[i].contents &&
          last.contents->size() == initial[i].contents->size()) {
        for (auto [mine, before] : llvm::zip(*last.contents, *initial[i].contents))
          if (mine != before)
            mine = fresh();
      } else {
        last.contents.reset();
      }
      if (failed(merge(op, i, std::move(last))))
        return failure();
      continue;
    }
    const SymbolicShape *element = find(yield->getOperand(1 + i));
    if (!element)
      continue;
    SymbolicShape all = outside(*element, limit);
    all.contents.reset();
    all.dims.insert(all.dims.begin(), trips);
    if (failed(merge(op, i, std::move(all))))
      return failure();
  }
  return success();
}

LogicalResult ShapeAnalysis::visitScan(Operation *op) {
  RuleContext context{*this, op, {}};
  Block &body = op->getRegion(0).front();
  int64_t inputs = context.attr("num_scan_inputs", 1), states = op->getNumOperands() - inputs;
  int64_t outputs = op->getNumResults() - states;
  auto list = [&](StringRef name, int64_t count) { return onnx::getInts(op, name, count, 0); };
  for (auto [name, count] : {std::pair<StringRef, int64_t>("scan_input_axes", inputs),
                             {"scan_input_directions", inputs},
                             {"scan_output_axes", outputs},
                             {"scan_output_directions", outputs}})
    if ((int64_t)list(name, count).size() != count)
      return context.fail(name + " needs " + Twine(count) + " entries");
  SymbolicExpr::Symbol limit = symbols;
  SmallVector<SymbolicShape> carried;
  if (!initialShapes(*this, op->getOperands().take_front(states), carried))
    return success();
  SymbolicExpr length;
  for (int64_t i = 0; i < inputs; ++i) {
    const SymbolicShape *shape = find(op->getOperand(states + i));
    if (!shape)
      return success();
    FailureOr<int64_t> axis = context.axis(list("scan_input_axes", inputs)[i], shape->dims.size());
    if (failed(axis))
      return failure();
    SymbolicShape slice{shape->dims, shape->element, std::nullopt};
    SymbolicExpr mine = slice.dims[*axis];
    slice.dims.erase(slice.dims.begin() + *axis);
    shapes[body.getArgument(states + i)] = std::move(slice);
    if (i && mine.constant() && length.constant() && mine != length)
      return context.fail("scan inputs have " + Twine(*length.constant()) + " and " +
                          Twine(*mine.constant()) + " slices");
    if (!i || (mine.constant() && !length.constant()))
      length = mine;
  }
  SmallVector<SymbolicShape> initial(carried);
  if (failed(visitIterations(body, 0, 0, carried)))
    return failure();
  for (unsigned i = 0; i < op->getNumResults(); ++i) {
    if ((int64_t)i < states) {
      SymbolicShape last = carried[i];
      last.contents.reset();
      for (auto [mine, before] : llvm::zip(last.dims, initial[i].dims))
        if (mine != before)
          mine = fresh();
      if (failed(merge(op, i, std::move(last))))
        return failure();
      continue;
    }
    const SymbolicShape *element = find(body.getTerminator()->getOperand(i));
    if (!element)
      continue;
    SymbolicShape all = outside(*element, limit);
    all.contents.reset();
    FailureOr<int64_t> axis =
        context.axis(list("scan_output_axes", outputs)[i - states], all.dims.size() + 1);
    if (failed(axis))
      return failure();
    all.dims.insert(all.dims.begin() + *axis, length);
    if (failed(merge(op, i, std::move(all))))
      return failure();
  }
  return success();
}
