//===- Runtimes.cpp - what other runtimes can represent ---------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Runtimes.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Export/ONNX/ExportONNX.h"
#include "lowbit/Support/ConstantData.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

using namespace lowbit;
using namespace lowbit::onnx;

// TensorRT's parser asserts that all zero points are 0 and that a DequantizeLinear reads i8 or i4
// ("can only run in INT8, FP8, FP4 or INT4 precision"); OpenVINO's reads blocked scales by a
// reshape, so blocks must be whole.
static const Runtime runtimes[] = {
    {"onnxruntime", /*symmetricOnly=*/false, /*integerBias=*/true, /*wholeBlocksOnly=*/false,
     /*bits16=*/true},
    {"tensorrt", /*symmetricOnly=*/true, /*integerBias=*/false, /*wholeBlocksOnly=*/true,
     /*bits16=*/false},
    {"openvino", /*symmetricOnly=*/false, /*integerBias=*/true, /*wholeBlocksOnly=*/true,
     /*bits16=*/false},
};

StringRef lowbit::exportRuntimes() { return "onnxruntime, tensorrt, openvino"; }

const Runtime *lowbit::onnx::findRuntime(StringRef name) {
  for (const Runtime &runtime : runtimes)
    if (runtime.name == name)
      return &runtime;
  return nullptr;
}

/// The layers that read what `op` gives, through other quantize and dequantize ops.
static void collectLayers(Operation *op, llvm::SetVector<Operation *> &seen) {
  for (Operation *user : op->getUsers()) {
    bool passes =
        isa<QuantizeOp, DequantizeOp>(user) || user->getName().getDialectNamespace() == "tensor";
    if (seen.insert(user) && passes)
      collectLayers(user, seen);
  }
}

static std::string problemOf(Operation *op, const Runtime &runtime) {
  if (isa<DynamicQuantizeOp>(op))
    return "ranges of activations that the run gives (dynamic)";
  bool quantizes = isa<QuantizeOp>(op);
  Value integers = quantizes ? op->getResult(0) : op->getOperand(0);
  auto type = dyn_cast<RankedTensorType>(integers.getType());
  if (!type)
    return "integers of unknown rank";
  auto element = cast<IntegerType>(type.getElementType());
  unsigned width = element.getWidth();
  std::string name = (element.isUnsigned() ? "u" : "i") + std::to_string(width);
  bool isConstant = ConstantData::get(integers).has_value();
  if (width == 32 && !quantizes && isConstant)
    return ""; // A bias.
  if (width > 16 || (width > 8 && !runtime.bits16))
    return name + " integers";
  if (runtime.symmetricOnly) {
    if (element.isUnsigned())
      return "unsigned integers (" + name + ")";
    if (width < 8 && !isConstant)
      return name + " activations";
    std::optional<ConstantData> zero = ConstantData::get(op->getOperand(2));
    if (!zero)
      return "zero points that only the run knows";
    if (llvm::any_of(zero->toInts(), [](int64_t z) { return z != 0; }))
      return "zero points other than 0";
  }
  auto group = op->getAttrOfType<IntegerAttr>("group");
  auto axis = op->getAttrOfType<IntegerAttr>("axis");
  if (runtime.wholeBlocksOnly && group && group.getInt() && axis) {
    int64_t extent = type.getDimSize(axis.getInt());
    if (extent > group.getInt() && extent % group.getInt())
      return "groups of " + std::to_string(group.getInt()) +
             " that do not divide K = " + std::to_string(extent);
  }
  return "";
}

LogicalResult lowbit::onnx::checkRuntime(ModuleOp module, const Runtime &runtime) {
  llvm::MapVector<StringRef, llvm::SetVector<StringRef>> problems;
  llvm::StringMap<char> reasons; // Owns the texts.
  module.walk([&](Operation *op) {
    if (!isa<QuantizeOp, DynamicQuantizeOp, DequantizeOp>(op))
      return;
    std::string problem = problemOf(op, runtime);
    if (problem.empty())
      return;
    StringRef reason = reasons.try_emplace(problem, 0).first->getKey();
    llvm::SetVector<Operation *> users;
    collectLayers(op, users);
    for (Operation *user : users)
      if (auto layer = user->getAttrOfType<StringAttr>("onnx_node_name"))
        problems[reason].insert(layer.getValue());
    if (!problems.count(reason))
      problems[reason].insert("(a result of the model)");
  });
  if (problems.empty())
    return success();
  InFlightDiagnostic diag = module.emitError() << runtime.name << " cannot represent this: ";
  llvm::interleave(
      problems, diag,
      [&](const auto &entry) {
        diag << entry.first << " in ";
        llvm::interleaveComma(entry.second, diag);
      },
      "; ");
  if (runtime.symmetricOnly)
    diag.attachNote() << "it takes symmetric signed integers: weights {type: i8} or {type: i4}, activations {type: i8, "
           "symmetric: true}";
  return failure();
}
