//===- Versions.h - what the exporter's base opset lacks --------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_EXPORT_ONNX_VERSIONS_H
#define LOWBIT_LIB_EXPORT_ONNX_VERSIONS_H

#include "lowbit/Support/LLVM.h"
#include "mlir/IR/Attributes.h"

namespace lowbit::onnx {

/// The first opset with 4-bit types and blocked scales.
constexpr int64_t baseOpset = 21;

/// The oldest opset from `baseOpset` on that has `op` of domain ai.onnx.
int64_t opsetOf(StringRef op);

/// The oldest opset that has the attribute with this value: `baseOpset` where it is the default,
/// which an older opset says by leaving it out.
int64_t opsetOf(StringRef op, StringRef attribute, Attribute value);

/// Whether the attribute exists in `opset`.
bool hasAttribute(StringRef op, StringRef attribute, int64_t opset);

/// The IR version that files of `opset` have.
int64_t irVersionOf(int64_t opset);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_EXPORT_ONNX_VERSIONS_H
