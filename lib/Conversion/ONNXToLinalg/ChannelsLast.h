//===- ChannelsLast.h - Conv with its innermost loop over filters -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_CONVERSION_ONNXTOLINALG_CHANNELSLAST_H
#define LOWBIT_LIB_CONVERSION_ONNXTOLINALG_CHANNELSLAST_H

#include "Lowering.h"

namespace lowbit::onnx {

/// Whether a Conv is to be lowered with channels last: weights of a known shape and a known number
/// of channels, and enough filters in a group (or groups, where depthwise) to fill a vector. Weights
/// that are no constants: without groups, or depthwise.
bool fitsChannelsLast(Lowering &l);
LogicalResult convChannelsLast(Lowering &l);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_CONVERSION_ONNXTOLINALG_CHANNELSLAST_H
