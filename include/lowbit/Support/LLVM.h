//===- LLVM.h - LLVM and MLIR names used everywhere -------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Forward declarations and imported names, so that files in namespace `lowbit`
// read like MLIR's own. Include what you use for the definitions.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_SUPPORT_LLVM_H
#define LOWBIT_SUPPORT_LLVM_H

#include "mlir/Support/LLVM.h"

namespace mlir {
class Attribute;
class Block;
class Builder;
class DenseElementsAttr;
class DialectRegistry;
class DictionaryAttr;
class ElementsAttr;
class InFlightDiagnostic;
class IRMapping;
class Location;
class MLIRContext;
class ModuleOp;
class NamedAttribute;
class OpBuilder;
class OpPassManager;
class Operation;
class PassManager;
class PatternRewriter;
class RankedTensorType;
class Region;
class RewritePatternSet;
class ShapedType;
class StringAttr;
class SymbolTable;
class SymbolTableCollection;
class Type;
class TypeConverter;
class Value;
class ValueRange;
} // namespace mlir

namespace lowbit {
// Everything that mlir/Support/LLVM.h imports into mlir …
using namespace mlir; // NOLINT: the one place where lowbit takes MLIR's vocabulary.
} // namespace lowbit

#endif // LOWBIT_SUPPORT_LLVM_H
