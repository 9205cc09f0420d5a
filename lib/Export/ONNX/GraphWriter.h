//===- GraphWriter.h - a function of the qdq form as a GraphProto -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_EXPORT_ONNX_GRAPHWRITER_H
#define LOWBIT_LIB_EXPORT_ONNX_GRAPHWRITER_H

#include "Runtimes.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Export/ONNX/ExportONNX.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "onnx-ml.pb.h"
#include "llvm/ADT/StringSet.h"

namespace lowbit::onnx {

/// Writes one function. Names that the file had are kept; others are made from them.
class GraphWriter {
public:
  GraphWriter(::onnx::ModelProto &model, const ExportOptions &options, const Runtime &runtime)
      : model(model), graph(*model.mutable_graph()), options(options), runtime(runtime) {}

  /// Failure after one diagnostic.
  LogicalResult write(func::FuncOp function);

private:
  LogicalResult writePorts(func::FuncOp function);
  LogicalResult writeOp(Operation *op);
  LogicalResult writeNode(Operation *op);
  LogicalResult writeQuantize(QuantizeOp op);
  LogicalResult writeDequantize(DequantizeOp op);
  LogicalResult writeReshape(Operation *op);
  LogicalResult writeAttribute(::onnx::NodeProto &node, Operation *op, NamedAttribute attr);
  LogicalResult writeTensor(::onnx::TensorProto &tensor, Attribute value, Type element,
                            Location loc);

  /// Reads operands 1 and 2 into `node`; `base` is what their names begin with.
  LogicalResult writeParameters(::onnx::NodeProto &node, Operation *op, const std::string &base);
  /// The name of `value`, a constant's initializer written where this is its first use; `base` is
  /// its name where it has none. Empty, after a diagnostic, where it has no ONNX form.
  std::string nameOf(Value value, const std::string &base = "constant");
  std::string initializer(Attribute value, Type element, ArrayRef<int64_t> shape,
                          const std::string &name, Location loc);
  /// `base`, or `base_1`, … where that is taken.
  std::string fresh(const std::string &base, llvm::StringSet<> &names);
  std::string fresh(const std::string &base) { return fresh(base, values); }
  ::onnx::NodeProto &addNode(StringRef op, const std::string &name);
  void nameResult(::onnx::NodeProto &node, Value result, const std::string &base);

  ::onnx::ModelProto &model;
  ::onnx::GraphProto &graph;
  const ExportOptions &options;
  const Runtime &runtime;
  llvm::DenseMap<Value, std::string> names;
  llvm::StringSet<> values, nodes;
  uint64_t dataOffset = 0;
};

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_EXPORT_ONNX_GRAPHWRITER_H
