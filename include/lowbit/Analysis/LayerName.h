//===- LayerName.h - the name of a layer ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_ANALYSIS_LAYERNAME_H
#define LOWBIT_ANALYSIS_LAYERNAME_H

#include "lowbit/Support/LLVM.h"
#include <string>

namespace lowbit {
/// The stable name of a layer, key of recipe, calibration file and report: `onnx_node_name`,
/// `layer` or `lowbit.layer`; for an op with none of these its mnemonic, '#' and its position among
/// such ops of its function.
std::string getLayerName(Operation *op);
/// Whether the name is written on the op rather than its position.
bool hasLayerName(Operation *op);
} // namespace lowbit

#endif // LOWBIT_ANALYSIS_LAYERNAME_H
