//===- IntegerParameters.h - what the int8 kernels read beside activations ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CPU_INTEGERPARAMETERS_H
#define LOWBIT_LIB_TARGET_CPU_INTEGERPARAMETERS_H

#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include <optional>

namespace lowbit::cpu {

/// ui8 to the signless i8 of kernels and linalg, and back; cancels once everything is signless.
inline Value castElement(OpBuilder &b, Location loc, Value value, Type element) {
  auto type = cast<RankedTensorType>(value.getType());
  if (type.getElementType() == element)
    return value;
  return UnrealizedConversionCastOp::create(b, loc, type.clone(element), value).getResult(0);
}

template <typename T>
Value vectorConstant(OpBuilder &b, Location loc, const std::vector<T> &values, Type element,
                     StringRef name) {
  auto type = RankedTensorType::get({static_cast<int64_t>(values.size())}, element);
  return arith::ConstantOp::create(b, loc, makeConstant(type, values, name));
}

/// What the int8 kernels need beside the activations, read off a lowbit.linear or lowbit.conv in
/// integer mode.
struct IntegerParameters {
  std::vector<int8_t> weights; // Row-major, as in the op.
  std::vector<int32_t> bias;   // Per channel, the input's zero point folded in.
  std::vector<float> multiplier;
  int32_t inputZero = 0; // Of the unsigned input.
  // Zero point and scale of the input where the run gives them: bias and multiplier are then
  // computed from what follows.
  Value runZero, runScale;
  std::vector<int32_t> columnSums;
  std::vector<float> weightScales; // One per channel.
  std::optional<float> outputScale;
  bool flipInput = false; // The input is signed: the kernel reads it + 128.
  Type outputElement;     // i8 or f32.
  int64_t outputZero = 0, outputMin = 0, outputMax = 0;

  /// Fails, with the reason in `why`, where the kernels cannot take the layer.
  static FailureOr<IntegerParameters> get(LinearOp op, std::string &why);
  static FailureOr<IntegerParameters> get(ConvOp op, std::string &why);

  /// The zero point of the unsigned input as an i8, to pad with.
  Value filler(OpBuilder &b, Location loc) const;
  /// The kernel's operands of one bias and one multiplier per channel, for `n` channels in blocks
  /// of `vectors` vectors: constants, or computed where the input's parameters come from the run.
  Value biasOperand(OpBuilder &b, Location loc, int64_t n, int64_t vectors) const;
  Value multiplierOperand(OpBuilder &b, Location loc, int64_t n, int64_t vectors) const;
};

} // namespace lowbit::cpu

#endif // LOWBIT_LIB_TARGET_CPU_INTEGERPARAMETERS_H
