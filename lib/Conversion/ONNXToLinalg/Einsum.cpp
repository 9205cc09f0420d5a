//===- Einsum.cpp - sums of products over named dims ------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Accumulation.h"
#include "lowbit/Analysis/EinsumEquation.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"

using namespace lowbit;
using namespace lowbit::onnx;
using utils::IteratorType;

/// One nest of loops over all labels: those of the output but its last, those that are summed over,
/// the output's last, so that the innermost loop walks a row of the result.
static LogicalResult einsum(Lowering &l) {
  unsigned count = l.op->getNumOperands();
  SmallVector<int64_t> ranks;
  for (unsigned i = 0; i < count; ++i)
    ranks.push_back(l.rank(i));
  FailureOr<EinsumEquation> equation =
      EinsumEquation::parse(onnx::getString(l.op, "equation", ""), ranks, l.reason);
  if (failed(equation))
    return failure();
  Type element = l.resultType().getElementType(), sum = accumulator(element);
  SmallVector<Value> inputs;
  for (unsigned i = 0; i < count; ++i)
    inputs.push_back(l.in(i));

  // Of each label: a dim that is not known to be 1; the others must have its size, or be 1 and are
  // repeated.
  SmallVector<std::pair<unsigned, unsigned>> source(equation->labels, {count, 0});
  auto visit = [&](llvm::function_ref<void(unsigned, unsigned, unsigned)> act) {
    for (unsigned i = 0; i < count; ++i)
      for (auto [d, label] : llvm::enumerate(equation->inputs[i]))
        act(i, d, label);
  };
  visit([&](unsigned i, unsigned d, unsigned label) {
    auto &[operand, dim] = source[label];
    if (operand == count || l.dims(operand)[dim].isConstant(1))
      operand = i, dim = d;
  });
  visit([&](unsigned i, unsigned d, unsigned label) {
    auto [operand, dim] = source[label];
    if (l.dims(i)[d].isConstant(1) || l.dims(i)[d] == l.dims(operand)[dim])
      return;
    Value first = inputs[operand], other = inputs[i];
    if (operand == i) { // A diagonal.
      Value same = arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, l.value(l.dim(first, dim)),
                                         l.value(l.dim(first, d)));
      l.check(same, "the sizes of a diagonal differ");
      OpFoldResult smaller = l.min(l.dim(first, dim), l.dim(first, d));
      Sizes cut = l.sizes(first);
      cut[dim] = cut[d] = smaller;
      inputs[i] = l.slice(first, Sizes(cut.size(), l.index(0)), cut);
      return;
    }
    l.equalize(first, dim, l.dims(operand)[dim], other, d, l.dims(i)[d], "the sizes of a label");
    inputs[operand] = first, inputs[i] = other;
  });

  SmallVector<unsigned> order;
  ArrayRef<unsigned> output = equation->output;
  llvm::append_range(order, output.drop_back(output.empty() ? 0 : 1));
  for (unsigned label = 0; label < equation->labels; ++label)
    if (!llvm::is_contained(output, label))
      order.push_back(label);
  if (!output.empty())
    order.push_back(output.back());
  SmallVector<unsigned> loop(equation->labels);
  for (auto [i, label] : llvm::enumerate(order))
    loop[label] = i;
  SmallVector<IteratorType> iterators(order.size(), IteratorType::reduction);
  SmallVector<AffineExpr> outExprs;
  Sizes sizes;
  for (unsigned label : output) {
    iterators[loop[label]] = IteratorType::parallel;
    outExprs.push_back(l.d(loop[label]));
    sizes.push_back(l.dim(inputs[source[label].first], source[label].second));
  }
  SmallVector<AffineMap> maps;
  for (unsigned i = 0; i < count; ++i) {
    SmallVector<AffineExpr> exprs;
    for (auto [d, label] : llvm::enumerate(equation->inputs[i])) {
      auto [operand, dim] = source[label];
      bool repeated = l.dims(i)[d].isConstant(1) && !l.dims(operand)[dim].isConstant(1);
      exprs.push_back(repeated ? l.b.getAffineConstantExpr(0) : l.d(loop[label]));
    }
    maps.push_back(l.mapOf(order.size(), exprs));
  }
  maps.push_back(l.mapOf(order.size(), outExprs));
  Value result =
      l.generic(inputs, l.filled(sizes, l.scalarInt(sum, 0)), maps, iterators,
                [&](OpBuilder &b, Location loc, ValueRange v) {
                  Value product = castScalar(b, loc, v[0], element, sum);
                  for (Value factor : v.drop_front().drop_back())
                    product = mulScalars(b, loc, product, castScalar(b, loc, factor, element, sum));
                  linalg::YieldOp::create(b, loc, addScalars(b, loc, v.back(), product));
                });
  return l.replace(narrow(l, result, element));
}

void lowbit::onnx::addEinsumLowerings(LoweringTable &table) { table["Einsum"] = einsum; }
