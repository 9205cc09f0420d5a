//===- ControlFlow.cpp - If, Loop and Scan become scf -----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A loop whose condition never ends it is an scf.for. Any other is an scf.while
// around an scf.for of a fixed number of steps, each of which runs only while the
// condition holds: scf.while copies what it carries every time around, scf.for
// does not.
//
// What an iteration adds to a scan output goes into a buffer that is as long as
// the trip count where that is known, and doubles when it is full where not.
//
//===----------------------------------------------------------------------===//
#include "Num.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace lowbit;
using namespace lowbit::onnx;

/// Steps of a loop with a condition between two looks at whether it is over.
static constexpr int64_t chunk = 64;

static Value castTo(Lowering &l, Value value, Type type) {
  if (value.getType() == type)
    return value;
  return tensor::CastOp::create(l.b, type, value);
}

/// The one element of a condition or a trip count.
static Value oneElement(Lowering &l, Value tensor) {
  int64_t rank = cast<RankedTensorType>(tensor.getType()).getRank();
  return tensor::ExtractOp::create(l.b, tensor, SmallVector<Value>(rank, l.value(l.index(0))));
}

static Value scalarTensor(Lowering &l, Value scalar) {
  return tensor::FromElementsOp::create(l.b, RankedTensorType::get({}, scalar.getType()),
                                        ValueRange{scalar});
}

/// The type in which a value of the analysed function is lowered.
static RankedTensorType loweredType(Lowering &l, Value value) {
  return cast<RankedTensorType>(toSignless(l.shapes.get(value).type()));
}

//===----------------------------------------------------------------------===//
// If
//===----------------------------------------------------------------------===//

static LogicalResult lowerIf(Lowering &l) {
  std::optional<bool> chosen = l.shapes.condition(l.op->getOperand(0));
  if (chosen) {
    // Only the graph that is taken has shapes: its ops go where the If is.
    Region region;
    Block *block = l.b.createBlock(&region);
    SmallVector<Value> outputs;
    LogicalResult converted = l.inlineBody(*chosen ? 0 : 1, *block, {}, outputs);
    l.op->getBlock()->getOperations().splice(l.op->getIterator(), block->getOperations());
    l.b.setInsertionPoint(l.op);
    if (failed(converted))
      return failure();
    for (auto [i, output] : llvm::enumerate(outputs))
      if (failed(l.replace(i, output)))
        return failure();
    return success();
  }
  SmallVector<Type> types;
  for (unsigned i = 0; i < l.op->getNumResults(); ++i)
    types.push_back(l.resultType(i));
  auto made = scf::IfOp::create(l.b, types, oneElement(l, l.in(0)), /*withElseRegion=*/true);
  bool complete = true;
  for (unsigned i = 0; i < 2; ++i) {
    Block &block = made->getRegion(i).front();
    block.clear();
    SmallVector<Value> outputs;
    if (failed(l.inlineBody(i, block, {}, outputs))) {
      complete = false;
      continue;
    }
    for (auto [output, type] : llvm::zip(outputs, types))
      output = castTo(l, output, type);
    scf::YieldOp::create(l.b, outputs);
  }
  l.b.setInsertionPointAfter(made);
  if (!complete)
    return failure();
  for (auto [i, result] : llvm::enumerate(made.getResults()))
    if (failed(l.replace(i, result)))
      return failure();
  return success();
}

//===----------------------------------------------------------------------===//
// Scan outputs
//===----------------------------------------------------------------------===//

namespace {
/// The elements of one scan output so far: a buffer with room for some more along its dim 0.
struct Collector {
  RankedTensorType element; ///< What one iteration adds.
  bool grows;               ///< The room is not known to be enough.
  RankedTensorType buffer() const {
    SmallVector<int64_t> shape = {ShapedType::kDynamic};
    shape.append(element.getShape().begin(), element.getShape().end());
    return RankedTensorType::get(shape, element.getElementType());
  }
};
} // namespace

/// An empty buffer with room for `room` elements; one that grows has none yet.
static Value makeBuffer(Lowering &l, const Collector &c, OpFoldResult room) {
  Sizes sizes = {c.grows ? l.index(0) : room};
  for (int64_t size : c.element.getShape())
    sizes.push_back(l.index(ShapedType::isDynamic(size) ? 0 : size));
  return castTo(l, l.empty(sizes, c.element.getElementType()), c.buffer());
}

/// `buffer` with `element` at `position`.
static Value collect(Lowering &l, const Collector &c, Value buffer, Value position, Value element) {
  element = castTo(l, element, c.element);
  Sizes sizes = l.sizes(element), ones(sizes.size() + 1, l.index(1));
  if (c.grows) {
    Value room = l.value(l.dim(buffer, 0));
    Value full = arith::CmpIOp::create(l.b, arith::CmpIPredicate::sge, position, room);
    buffer = scf::IfOp::create(
                 l.b, l.b.getLoc(), full,
                 [&](OpBuilder &, Location) {
                   OpFoldResult more = l.max(l.mul(position, l.index(2)), l.index(8));
                   Sizes grown = {more}, used = {position};
                   grown.append(sizes);
                   Value wider = castTo(l, l.empty(grown, c.element.getElementType()), c.buffer());
                   // The elements so far have the size of this one, or there are none.
                   Sizes own = l.sizes(buffer);
                   for (size_t i = 0; i < sizes.size(); ++i)
                     used.push_back(l.min(own[i + 1], sizes[i]));
                   Sizes offsets(used.size(), l.index(0));
                   Value old = tensor::ExtractSliceOp::create(l.b, buffer, offsets, used, ones);
                   Value next = tensor::InsertSliceOp::create(l.b, old, wider, offsets, used, ones);
                   scf::YieldOp::create(l.b, next);
                 },
                 [&](OpBuilder &, Location) { scf::YieldOp::create(l.b, buffer); })
                 .getResult(0);
    // All elements have one size.
    Value same;
    Sizes own = l.sizes(buffer);
    for (size_t i = 0; i < sizes.size(); ++i) {
      if (!c.element.isDynamicDim(i))
        continue;
      Value here = arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, l.value(own[i + 1]),
                                         l.value(sizes[i]));
      same = same ? arith::AndIOp::create(l.b, same, here).getResult() : here;
      sizes[i] = l.min(own[i + 1], sizes[i]);
    }
    if (same) {
      l.check(same, "iterations give scan outputs of different shapes");
      element = l.slice(element, Sizes(sizes.size(), l.index(0)), sizes);
    }
  }
  Sizes offsets = {position}, extent = {l.index(1)};
  offsets.append(sizes.size(), l.index(0));
  extent.append(sizes);
  return tensor::InsertSliceOp::create(l.b, element, buffer, offsets, extent, ones);
}

/// What has been collected in `count` iterations, along dim `axis` of the result, backwards where
/// asked for.
static Value collected(Lowering &l, Value buffer, OpFoldResult count, int64_t axis,
                       bool backwards) {
  Sizes sizes = l.sizes(buffer);
  sizes[0] = count;
  unsigned rank = sizes.size();
  if (!axis && !backwards)
    return l.slice(buffer, Sizes(rank, l.index(0)), sizes);
  Sizes to(sizes.begin() + 1, sizes.end());
  to.insert(to.begin() + axis, count);
  Type element = cast<RankedTensorType>(buffer.getType()).getElementType();
  return tabulate(l, to, element, [&](Scope s, ArrayRef<Num> at) {
    SmallVector<Num> from(at);
    from.erase(from.begin() + axis);
    Num position = at[axis];
    from.insert(from.begin(), backwards ? s.size(count) - position - 1 : position);
    return s.read(buffer, from);
  });
}

//===----------------------------------------------------------------------===//
// Loops
//===----------------------------------------------------------------------===//

namespace {
/// One iteration: position (index) and state in; the next state and, where the loop may end early,
/// whether it goes on (i1). Failure where a node inside cannot be lowered.
using Iteration = llvm::function_ref<LogicalResult(Value position, ValueRange state,
                                                   SmallVectorImpl<Value> &next, Value &goesOn)>;
} // namespace

static SmallVector<Type> typesOf(ValueRange values) { return llvm::to_vector(values.getTypes()); }

/// An scf.for whose body is `build`; the builder is after it at the end.
static LogicalResult
makeFor(Lowering &l, Value count, ValueRange state, SmallVectorImpl<Value> &results,
        llvm::function_ref<LogicalResult(Value, ValueRange, SmallVectorImpl<Value> &)> build) {
  auto loop = scf::ForOp::create(l.b, l.value(l.index(0)), count, l.value(l.index(1)), state);
  Block &block = *loop.getBody();
  block.clear();
  l.b.setInsertionPointToStart(&block);
  SmallVector<Value> next;
  if (failed(build(loop.getInductionVar(), loop.getRegionIterArgs(), next)))
    return failure();
  for (auto [value, type] : llvm::zip(next, typesOf(state)))
    value = castTo(l, value, type);
  scf::YieldOp::create(l.b, next);
  l.b.setInsertionPointAfter(loop);
  results.append(loop.getResults().begin(), loop.getResults().end());
  return success();
}

static LogicalResult countedLoop(Lowering &l, Value count, ValueRange state, Iteration iteration,
                                 SmallVectorImpl<Value> &results) {
  return makeFor(l, count, state, results,
                 [&](Value position, ValueRange now, SmallVectorImpl<Value> &next) {
                   Value goesOn;
                   return iteration(position, now, next, goesOn);
                 });
}

/// While `limit` (null: none) is not reached and the condition holds. The last result is the number
/// of iterations.
static LogicalResult conditionLoop(Lowering &l, Value limit, Value condition, ValueRange state,
                                   Iteration iteration, SmallVectorImpl<Value> &results) {
  // The number of iterations, the condition, the state.
  SmallVector<Value> initial = {l.value(l.index(0)), condition};
  initial.append(state.begin(), state.end());
  SmallVector<Type> types = typesOf(initial);
  SmallVector<Location> places(types.size(), l.b.getLoc());
  auto loop = scf::WhileOp::create(l.b, types, initial);
  auto active = [&](ValueRange all) -> Value {
    if (!limit)
      return all[1];
    Value below = arith::CmpIOp::create(l.b, arith::CmpIPredicate::slt, all[0], limit);
    return arith::AndIOp::create(l.b, below, all[1]);
  };
  Block *before = l.b.createBlock(&loop.getBefore(), {}, types, places);
  scf::ConditionOp::create(l.b, active(before->getArguments()), before->getArguments());
  Block *after = l.b.createBlock(&loop.getAfter(), {}, types, places);
  SmallVector<Value> stepped;
  LogicalResult made =
      makeFor(l, l.value(l.index(chunk)), after->getArguments(), stepped,
              [&](Value, ValueRange now, SmallVectorImpl<Value> &next) -> LogicalResult {
                auto step = scf::IfOp::create(l.b, types, active(now), /*withElseRegion=*/true);
                Block &yes = step.getThenRegion().front(), &no = step.getElseRegion().front();
                yes.clear(), no.clear();
                l.b.setInsertionPointToStart(&yes);
                SmallVector<Value> inner = {l.value(l.add(now[0], l.index(1))), {}};
                if (failed(iteration(now[0], now.drop_front(2), inner, inner[1])))
                  return failure();
                for (auto [value, type] : llvm::zip(inner, types))
                  value = castTo(l, value, type);
                scf::YieldOp::create(l.b, inner);
                l.b.setInsertionPointToStart(&no);
                scf::YieldOp::create(l.b, now);
                l.b.setInsertionPointAfter(step);
                next.append(step.getResults().begin(), step.getResults().end());
                return success();
              });
  if (failed(made))
    return failure();
  scf::YieldOp::create(l.b, stepped);
  l.b.setInsertionPointAfter(loop);
  for (Value result : loop.getResults().drop_front(2))
    results.push_back(result);
  results.push_back(loop.getResult(0));
  return success();
}

/// Collectors for the outputs of the body from `first` on.
static SmallVector<Collector> makeCollectors(Lowering &l, unsigned first, bool known) {
  SmallVector<Collector> collectors;
  Operation *yield = l.op->getRegion(0).front().getTerminator();
  for (Value value : yield->getOperands().drop_front(first)) {
    RankedTensorType element = loweredType(l, value);
    collectors.push_back({element, !known || !element.hasStaticShape()});
  }
  return collectors;
}

static bool hasShapes(Lowering &l) {
  Block &body = l.op->getRegion(0).front();
  auto has = [&](Value value) { return l.shapes.find(value) != nullptr; };
  return llvm::all_of(body.getArguments(), has) &&
         llvm::all_of(body.getTerminator()->getOperands(), has);
}

static LogicalResult lowerLoop(Lowering &l) {
  if (!hasShapes(l))
    return l.unsupported("a shape inside it is not known");
  Block &body = l.op->getRegion(0).front();
  unsigned carried = l.op->getNumOperands() - 2;
  Value again = body.getTerminator()->getOperand(0);
  bool always = l.shapes.condition(l.op->getOperand(1)) == true &&
                l.shapes.condition(again) == true && l.has(0);
  Value limit, condition = l.scalarInt(l.b.getI1Type(), 1);
  if (l.has(0)) {
    Num most = Num(l.b, l.b.getLoc(), oneElement(l, l.in(0))).toIndex().max(0);
    limit = most;
  }
  if (l.has(1))
    condition = oneElement(l, l.in(1));
  SmallVector<Collector> collectors = makeCollectors(l, 1 + carried, always);
  SmallVector<Value> state, results;
  for (unsigned i = 0; i < carried; ++i)
    state.push_back(castTo(l, l.in(2 + i), loweredType(l, body.getArgument(2 + i))));
  for (const Collector &collector : collectors)
    state.push_back(makeBuffer(l, collector, always ? OpFoldResult(limit) : l.index(0)));
  auto iteration = [&](Value position, ValueRange now, SmallVectorImpl<Value> &next,
                       Value &goesOn) -> LogicalResult {
    Value number = arith::IndexCastOp::create(l.b, l.b.getI64Type(), position);
    SmallVector<Value> arguments = {scalarTensor(l, number),
                                    scalarTensor(l, l.scalarInt(l.b.getI1Type(), 1))};
    arguments.append(now.begin(), now.begin() + carried);
    SmallVector<Value> outputs;
    if (failed(l.inlineBody(0, *l.b.getInsertionBlock(), arguments, outputs)))
      return failure();
    for (unsigned i = 0; i < carried; ++i)
      next.push_back(outputs[1 + i]);
    for (auto [i, collector] : llvm::enumerate(collectors))
      next.push_back(collect(l, collector, now[carried + i], position, outputs[1 + carried + i]));
    if (!always)
      goesOn = oneElement(l, outputs[0]);
    return success();
  };
  if (failed(always ? countedLoop(l, limit, state, iteration, results)
                    : conditionLoop(l, limit, condition, state, iteration, results)))
    return failure();
  for (unsigned i = 0; i < carried + collectors.size(); ++i) {
    Value result = results[i];
    if (i >= carried) {
      OpFoldResult count = always ? limit : results.back();
      if (std::optional<int64_t> known = l.resultDims(i)[0].constant())
        count = l.index(*known);
      result = collected(l, result, count, 0, false);
    }
    if (failed(l.replace(i, result)))
      return failure();
  }
  return success();
}

static LogicalResult lowerScan(Lowering &l) {
  if (!hasShapes(l))
    return l.unsupported("a shape inside it is not known");
  Block &body = l.op->getRegion(0).front();
  unsigned inputs = l.attr("num_scan_inputs", 1), states = l.op->getNumOperands() - inputs;
  unsigned outputs = l.op->getNumResults() - states;
  SmallVector<int64_t> inputAxes = getInts(l.op, "scan_input_axes", inputs, 0);
  SmallVector<int64_t> inputDirections = getInts(l.op, "scan_input_directions", inputs, 0);
  SmallVector<int64_t> outputAxes = getInts(l.op, "scan_output_axes", outputs, 0);
  SmallVector<int64_t> outputDirections = getInts(l.op, "scan_output_directions", outputs, 0);
  OpFoldResult length;
  for (unsigned i = 0; i < inputs; ++i) {
    inputAxes[i] += inputAxes[i] < 0 ? l.rank(states + i) : 0;
    OpFoldResult mine = l.dim(l.in(states + i), inputAxes[i]);
    if (!i) {
      length = mine;
      continue;
    }
    if (l.dims(states)[inputAxes[0]] == l.dims(states + i)[inputAxes[i]])
      continue;
    l.check(arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, l.value(length), l.value(mine)),
            "scan inputs have different numbers of slices");
    length = l.min(length, mine);
  }
  SmallVector<Collector> collectors = makeCollectors(l, states, /*known=*/true);
  SmallVector<Value> state, results;
  for (unsigned i = 0; i < states; ++i)
    state.push_back(castTo(l, l.in(i), loweredType(l, body.getArgument(i))));
  for (const Collector &collector : collectors)
    state.push_back(makeBuffer(l, collector, length));
  auto iteration = [&](Value position, ValueRange now, SmallVectorImpl<Value> &next,
                       Value &) -> LogicalResult {
    SmallVector<Value> arguments(now.begin(), now.begin() + states), yielded;
    for (unsigned i = 0; i < inputs; ++i) {
      Value input = l.in(states + i);
      Sizes sizes = l.sizes(input), offsets(sizes.size(), l.index(0));
      OpFoldResult own = sizes[inputAxes[i]];
      offsets[inputAxes[i]] =
          inputDirections[i] ? l.sub(l.sub(own, l.index(1)), position) : OpFoldResult(position);
      sizes[inputAxes[i]] = l.index(1);
      RankedTensorType type = loweredType(l, body.getArgument(states + i));
      SmallVector<int64_t> shape;
      for (auto [dim, size] : llvm::enumerate(sizes))
        if ((int64_t)dim != inputAxes[i])
          shape.push_back(getConstantIntValue(size).value_or(ShapedType::kDynamic));
      Value slice =
          tensor::ExtractSliceOp::create(l.b, RankedTensorType::get(shape, type.getElementType()),
                                         input, offsets, sizes, Sizes(sizes.size(), l.index(1)));
      arguments.push_back(castTo(l, slice, type));
    }
    if (failed(l.inlineBody(0, *l.b.getInsertionBlock(), arguments, yielded)))
      return failure();
    next.append(yielded.begin(), yielded.begin() + states);
    for (auto [i, collector] : llvm::enumerate(collectors))
      next.push_back(collect(l, collector, now[states + i], position, yielded[states + i]));
    return success();
  };
  if (failed(countedLoop(l, l.value(length), state, iteration, results)))
    return failure();
  for (unsigned i = 0; i < states + outputs; ++i) {
    Value result = results[i];
    if (i >= states) {
      int64_t axis = outputAxes[i - states];
      axis += axis < 0 ? l.resultDims(i).size() : 0;
      result = collected(l, result, length, axis, outputDirections[i - states] != 0);
    }
    if (failed(l.replace(i, result)))
      return failure();
  }
  return success();
}

void lowbit::onnx::addControlFlowLowerings(LoweringTable &table) {
  table["If"] = lowerIf;
  table["Loop"] = lowerLoop;
  table["Scan"] = lowerScan;
}
