//===- Contrib.h - operators of onnxruntime's own domain --------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Domain com.microsoft has operators of its own and some that share a name with
// an operator of ONNX and mean something else: everything is found by domain and
// name. Each becomes operators of the newest opset, so that recipes, kernels and
// passes see one form only.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_IMPORT_ONNX_CONTRIB_H
#define LOWBIT_LIB_IMPORT_ONNX_CONTRIB_H

#include "NodeImporter.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "llvm/ADT/StringMap.h"

namespace lowbit::onnx {

/// Builds what `node` means into `results`, or renames it to the operator of ONNX that it is, or
/// says in `node.unsupported` why not. Nodes of other domains are left alone. Failure after one
/// diagnostic.
LogicalResult expandContrib(PendingNode &node, OpBuilder &builder, SmallVectorImpl<Value> &results);

/// The rank of a value during import, as far as the few operators between it and something of known
/// rank tell.
std::optional<int64_t> knownRank(Value value);

/// One node while it is expanded.
class Contrib {
public:
  Contrib(PendingNode &node, OpBuilder &builder, SmallVectorImpl<Value> &results)
      : node(node), builder(builder), results(results), attrs(node.attrs) {}

  PendingNode &node;
  OpBuilder &builder;
  SmallVectorImpl<Value> &results;

  Value in(size_t i) const { return node.operand(i); }
  bool uses(size_t i) const { return node.usesOutput(i); }
  /// The element type of input i; null where it is left out.
  Type element(size_t i) const;

  // Attributes; one that nobody takes is reported as unsupported.
  int64_t takeInt(StringRef name, int64_t otherwise);
  double takeFloat(StringRef name, double otherwise);
  std::optional<double> takeFloat(StringRef name);
  std::string takeString(StringRef name, StringRef otherwise);
  SmallVector<int64_t> takeInts(StringRef name);

  /// Success, with the node left as it is and `why` in it.
  LogicalResult refuse(const Twine &why);
  /// Failure after a diagnostic that the node is wrong.
  LogicalResult invalid(const Twine &what);

  /// A node of ONNX's newest opset, called like this node and, behind a slash, `suffix`. Null once
  /// anything failed.
  Value make(StringRef op, ArrayRef<Value> operands, StringRef suffix,
             ArrayRef<NamedAttribute> attrs = {});
  /// The same with several results; those not in `used` are null.
  SmallVector<Value> makeSome(StringRef op, ArrayRef<Value> operands, StringRef suffix,
                              ArrayRef<NamedAttribute> attrs, ArrayRef<bool> used);
  NamedAttribute attr(StringRef name, int64_t value);
  NamedAttribute attr(StringRef name, double value);
  NamedAttribute attr(StringRef name, StringRef value);
  NamedAttribute attr(StringRef name, ArrayRef<int64_t> values);

  Value ints(ArrayRef<int64_t> values) { return makeInts(builder, node.loc, values); }
  Value scalar(Type type, double value) { return makeScalar(builder, node.loc, type, value); }
  /// A constant; `bytes` as in ConstantData.
  Value tensor(RankedTensorType type, ArrayRef<char> bytes, StringRef name);

  // Short forms.
  Value cast(Value x, Type type, StringRef suffix);
  Value reshape(Value x, ArrayRef<int64_t> shape, StringRef suffix);
  Value transpose(Value x, ArrayRef<int64_t> perm, StringRef suffix);
  /// Dim `i` of `x`, a tensor of one element.
  Value dim(Value x, int64_t i, StringRef suffix);
  Value unsqueeze(Value x, ArrayRef<int64_t> axes, StringRef suffix);

  /// What is left is an operator of ONNX: input and attributes as they are now.
  LogicalResult rename(StringRef op, ArrayRef<NamedAttribute> attrs = {});
  LogicalResult give(ArrayRef<Value> values);

  /// Attributes that nobody took.
  const NamedAttrList &rest() const { return attrs; }

private:
  NamedAttrList attrs;
  bool failed = false;
};

using ContribFunction = LogicalResult (*)(Contrib &);
/// Keys are "domain/name".
using ContribTable = llvm::StringMap<ContribFunction>;

void addContribAttention(ContribTable &table);
void addContribElementwise(ContribTable &table);
void addContribGroupQuery(ContribTable &table);
void addContribQuantized(ContribTable &table);
void addContribWeights(ContribTable &table);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_IMPORT_ONNX_CONTRIB_H
