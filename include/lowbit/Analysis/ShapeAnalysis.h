//===- ShapeAnalysis.h - symbolic shapes of the values of a function -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_ANALYSIS_SHAPEANALYSIS_H
#define LOWBIT_ANALYSIS_SHAPEANALYSIS_H

#include "lowbit/Analysis/SymbolicExpr.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Value.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringMap.h"

namespace mlir {
class FunctionOpInterface;
}

namespace lowbit {

/// What is known of a tensor (or, rank 0 and one entry, of an index or integer) before the model runs.
struct SymbolicShape {
  SmallVector<SymbolicExpr> dims;
  Type element;
  /// Row-major elements of a small integer tensor.
  std::optional<std::vector<SymbolicExpr>> contents;

  std::optional<int64_t> elementCount() const;
  /// The type as far as it is known; dynamic where a dim is not constant.
  RankedTensorType type() const;
};

/// Shapes of all values of one function, as polynomials in the sizes of its arguments' dynamic dims (dims of the same
/// `onnx.dim_params` name are one symbol) and in opaque symbols for what the polynomials cannot say. i64
/// tensors of up to 256 elements, the arithmetic of shapes, are followed by value. Covers onnx ops, the
/// lowbit ops, and destination-passing, tensor and arith ops as far as shapes need them.
class ShapeAnalysis {
public:
  /// Goes over the function in order. Failure after one diagnostic where an onnx op's operands do not fit together; the
  /// diagnostic names the node, what was found and what was expected.
  LogicalResult run(FunctionOpInterface function);

  /// Null where nothing is known (no tensor, or no rank).
  const SymbolicShape *find(Value value) const;
  /// The shape of a value that is known to have one.
  const SymbolicShape &get(Value value) const { return *find(value); }
  /// Whether an If takes its first graph, or a Loop goes on, where `value` says so before the run.
  std::optional<bool> condition(Value value) const;
  /// True where the two dims have the same size at every run.
  bool sameDim(Value a, unsigned aDim, Value b, unsigned bDim) const;

  /// Says that `value` has the shape of `like`: for the ops that a conversion makes.
  void assign(Value value, SymbolicShape shape) { shapes[value] = std::move(shape); }

  // For the rules of the operators.
  SymbolicExpr fresh() { return SymbolicExpr::symbol(symbols++); }
  /// The symbol of function `what` of operands: the same for the same operands.
  SymbolicExpr opaque(StringRef what, ArrayRef<SymbolicExpr> operands);
  SymbolicExpr named(StringRef name);
  SymbolicExpr add(const SymbolicExpr &a, const SymbolicExpr &b);
  SymbolicExpr sub(const SymbolicExpr &a, const SymbolicExpr &b);
  SymbolicExpr mul(const SymbolicExpr &a, const SymbolicExpr &b);
  /// Rounds towards minus infinity.
  SymbolicExpr floorDiv(const SymbolicExpr &a, const SymbolicExpr &b);
  SymbolicExpr min(const SymbolicExpr &a, const SymbolicExpr &b);
  SymbolicExpr max(const SymbolicExpr &a, const SymbolicExpr &b);
  SymbolicExpr product(ArrayRef<SymbolicExpr> factors);
  /// Of a type: fresh symbols for its dynamic dims.
  SymbolicShape fromType(RankedTensorType type);

private:
  LogicalResult visit(Operation *op);
  LogicalResult visitONNX(Operation *op);
  void visitOther(Operation *op);
  LogicalResult visitBlock(Block &block);
  LogicalResult visitIf(Operation *op);
  LogicalResult visitLoop(Operation *op);
  LogicalResult visitScan(Operation *op);
  /// Visits `body` until what it carries from one iteration to the next keeps its shape: `carried` holds the shapes of
  /// the arguments from `first` on, which become those that hold in every iteration.
  LogicalResult visitIterations(Block &body, unsigned first, unsigned yields,
                                SmallVectorImpl<SymbolicShape> &carried);
  /// The shape of a value of a body, without what is known only inside of it.
  SymbolicShape outside(const SymbolicShape &shape, SymbolicExpr::Symbol limit);
  LogicalResult merge(Operation *op, unsigned result, SymbolicShape shape);

  SymbolicExpr::Symbol symbols = 0;
  llvm::StringMap<SymbolicExpr> interned;
  llvm::DenseMap<Value, SymbolicShape> shapes;
  int64_t visits = 0; ///< Of ops inside bodies.
};

} // namespace lowbit

#endif // LOWBIT_ANALYSIS_SHAPEANALYSIS_H
