//===- NodeImporter.h - one node of the file becomes ops --------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_IMPORT_ONNX_NODEIMPORTER_H
#define LOWBIT_LIB_IMPORT_ONNX_NODEIMPORTER_H

#include "lowbit/Support/LLVM.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/OperationSupport.h"
#include "mlir/IR/Region.h"
#include <memory>
#include <string>

namespace onnx {
class NodeProto;
}

namespace lowbit::onnx {
class TensorReader;

/// A node on its way into the IR, between the file's opset and the newest one.
struct PendingNode {
  std::string opType;
  std::string domain; ///< "" for ai.onnx.
  int64_t opset;      ///< The model's opset of `domain`.
  std::string name;   ///< The layer's name.
  Location loc;
  SmallVector<Value> operands; ///< Null where the node leaves an input out.
  NamedAttrList attrs;
  SmallVector<Type> declared; ///< One per output: the value_info type, null where there is none.
  SmallVector<bool> used;     ///< One per output: has it a name?
  /// The graphs inside an If, Loop or Scan, imported already.
  SmallVector<std::unique_ptr<Region>> bodies;
  /// Why the node cannot be expressed with the newest opset's op; it then becomes onnx.Custom.
  std::string unsupported;

  Value operand(size_t i) const { return i < operands.size() ? operands[i] : Value(); }
  bool usesOutput(size_t i) const { return i < used.size() && used[i]; }
};

/// Makes `node` one of the newest opset, building constants and helper ops with `builder` where
/// needed. May replace the node altogether: then its results are in `results`.
void upgradeNode(PendingNode &node, OpBuilder &builder, SmallVectorImpl<Value> &results);

/// True for the operators whose graphs are imported as regions.
bool hasBodies(StringRef domain, StringRef opType);

/// The attributes of `node`; failure after one diagnostic. Graphs are left out; they make nodes of
/// operators that have no bodies unsupported.
FailureOr<NamedAttrList> importAttributes(const ::onnx::NodeProto &node, Location loc,
                                          TensorReader &tensors, MLIRContext *context,
                                          std::string &unsupported);

/// Upgrades and builds the node. One value per output, or failure after one diagnostic.
FailureOr<SmallVector<Value>> buildNode(PendingNode &node, OpBuilder &builder);

/// Builds an If, Loop or Scan from its bodies. One value per output, or failure after one
/// diagnostic.
FailureOr<SmallVector<Value>> buildControlFlow(PendingNode &node, OpBuilder &builder);

/// The element type of a tensor; null where `value` is null or onnx.NoValue's.
Type elementOf(Value value);

/// What stands for an input that is left out.
Value makeNoValue(OpBuilder &builder, Location loc);

/// A rank-1 i64 or a rank-0 constant of any number at the insertion point.
Value makeInts(OpBuilder &builder, Location loc, ArrayRef<int64_t> values);
Value makeScalar(OpBuilder &builder, Location loc, Type elementType, double value);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_IMPORT_ONNX_NODEIMPORTER_H
