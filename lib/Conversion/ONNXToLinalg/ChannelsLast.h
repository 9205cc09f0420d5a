//===- ChannelsLast.h - Conv with its innermost loop over filters -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_CONVERSION_ONNXTOLINALG_CHANNELSLAST_H
#define LOWBIT_LIB_CONVERSION_ONNXTOLINALG_CHANNELSLAST_H

#include "Lowering.h"
#include "lowbit/Support/ConstantData.h"

namespace lowbit::onnx {

/// The weights of a Conv that is to be lowered with channels last: constant, a known number of
/// channels, and enough filters in a group (or groups, where depthwise) to fill a vector. Empty for
/// any other.
std::optional<ConstantData> channelsLastWeights(Lowering &l);
LogicalResult convChannelsLast(Lowering &l, const ConstantData &weights);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_CONVERSION_ONNXTOLINALG_CHANNELSLAST_H
