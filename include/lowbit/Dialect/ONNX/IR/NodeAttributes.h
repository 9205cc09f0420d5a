//===- NodeAttributes.h - reading the attributes of onnx ops ----*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// For code that treats onnx ops by name and operand position: cheaper to compile
// than the op classes, and one function can serve many operators.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_DIALECT_ONNX_IR_NODEATTRIBUTES_H
#define LOWBIT_DIALECT_ONNX_IR_NODEATTRIBUTES_H

#include "lowbit/Support/LLVM.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Operation.h"

namespace lowbit::onnx {

/// True where the node leaves this operand out.
inline bool isAbsent(Value value) { return !value || isa<NoneType>(value.getType()); }

/// The operand, or null where there is none or it is left out.
inline Value getOperand(Operation *op, unsigned index) {
  if (index >= op->getNumOperands() || isAbsent(op->getOperand(index)))
    return {};
  return op->getOperand(index);
}

inline int64_t getInt(Operation *op, StringRef name, int64_t otherwise) {
  auto attr = op->getAttrOfType<IntegerAttr>(name);
  return attr ? attr.getValue().getSExtValue() : otherwise;
}

inline double getFloat(Operation *op, StringRef name, double otherwise) {
  auto attr = op->getAttrOfType<FloatAttr>(name);
  return attr ? attr.getValueAsDouble() : otherwise;
}

inline StringRef getString(Operation *op, StringRef name, StringRef otherwise) {
  auto attr = op->getAttrOfType<StringAttr>(name);
  return attr ? attr.getValue() : otherwise;
}

inline bool hasInts(Operation *op, StringRef name) {
  return (bool)op->getAttrOfType<ArrayAttr>(name);
}

/// The integers of `name`; `count` times `otherwise` where the attribute is missing.
inline SmallVector<int64_t> getInts(Operation *op, StringRef name, size_t count = 0,
                                    int64_t otherwise = 0) {
  auto attr = op->getAttrOfType<ArrayAttr>(name);
  if (!attr)
    return SmallVector<int64_t>(count, otherwise);
  SmallVector<int64_t> values;
  for (Attribute value : attr)
    if (auto integer = dyn_cast<IntegerAttr>(value))
      values.push_back(integer.getValue().getSExtValue());
  return values;
}

/// The operator's ONNX name: "Conv" for onnx.Conv; empty for ops of other dialects.
inline StringRef getOperator(Operation *op) {
  return op->getName().getDialectNamespace() == "onnx" ? op->getName().stripDialect()
                                                       : StringRef();
}

} // namespace lowbit::onnx

#endif // LOWBIT_DIALECT_ONNX_IR_NODEATTRIBUTES_H
