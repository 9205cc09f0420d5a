//===- ShapeRules.h - how each onnx operator's result shape comes about -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_ANALYSIS_SHAPERULES_H
#define LOWBIT_LIB_ANALYSIS_SHAPERULES_H

#include "lowbit/Analysis/ShapeAnalysis.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "mlir/IR/Operation.h"

namespace lowbit {

using Dims = SmallVector<SymbolicExpr>;

/// One onnx op while its rule runs: operands' shapes in, results' shapes out.
struct RuleContext {
  ShapeAnalysis &analysis;
  Operation *op;
  SmallVector<SymbolicShape, 3> results; ///< Filled in by the rule; one per result that is not none.

  /// Null where the operand is left out.
  const SymbolicShape *in(unsigned i) const {
    Value value = onnx::getOperand(op, i);
    return value ? analysis.find(value) : nullptr;
  }
  const Dims &dims(unsigned i) const { return in(i)->dims; }
  int64_t rank(unsigned i) const { return in(i)->dims.size(); }
  Type element(unsigned i) const { return in(i)->element; }
  int64_t attr(StringRef name, int64_t otherwise) const {
    return onnx::getInt(op, name, otherwise);
  }
  /// The integers that operand i holds, where they are all constants.
  std::optional<SmallVector<int64_t>> constants(unsigned i) const;
  /// The axis counted from 0; failure after a diagnostic where it is out of range.
  FailureOr<int64_t> axis(int64_t value, int64_t rank) const;
  FailureOr<SmallVector<int64_t>> axes(ArrayRef<int64_t> values, int64_t rank) const;

  LogicalResult set(Dims dims, Type element,
                    std::optional<std::vector<SymbolicExpr>> contents = std::nullopt) {
    results.push_back({std::move(dims), element, std::move(contents)});
    return success();
  }
  /// One diagnostic that names the node.
  LogicalResult fail(const Twine &what) const;
  /// ONNX's multidirectional broadcasting.
  FailureOr<Dims> broadcast(const Dims &a, const Dims &b) const;
};

using ShapeRule = LogicalResult (*)(RuleContext &);
using ShapeRules = llvm::StringMap<ShapeRule>;

void addAttentionRules(ShapeRules &rules);
void addElementwiseRules(ShapeRules &rules);
void addContractionRules(ShapeRules &rules);
void addMovementRules(ShapeRules &rules);
void addGeneralRules(ShapeRules &rules);
void addIndexingRules(ShapeRules &rules);
void addSpatialRules(ShapeRules &rules);

/// "[2, ?, 4]".
std::string describe(const Dims &dims);

} // namespace lowbit

#endif // LOWBIT_LIB_ANALYSIS_SHAPERULES_H
