//===- LayerConstants.h - everything constant about a quantized layer ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CUDA_LAYERCONSTANTS_H
#define LOWBIT_LIB_TARGET_CUDA_LAYERCONSTANTS_H

#include "Packing.h"
#include <optional>
#include <string>

namespace lowbit::cuda {

/// Read from a lowbit.linear, lowbit.conv or lowbit.gather whose operands other than the input are
/// constants. Of a gather, n is the rows of the table and k their length.
struct LayerConstants {
  std::string name;
  int64_t n = 0, k = 0;
  int64_t weightBits = 8, group = 0;
  bool weightSigned = true, relu = false;
  std::vector<int8_t> weights;       // [n, k]; the bit pattern where they are unsigned
  std::vector<uint16_t> halfWeights; // [n, k]: f16, where weightBits is 16
  std::vector<float> scales;         // one, n, or n × ceil(k / group)
  std::vector<int64_t> weightZeros;  // as many as scales, or none
  std::vector<int32_t> integerBias;  // n or none
  std::vector<float> floatBias;      // n or none
  /// The layer sums in float (see LinearOp::sumsInFloat): inputScale is not read, weights are less
  /// their zero points.
  bool sumsInFloat = false;
  std::optional<float> inputScale, outputScale;
  int64_t inputZero = 0, outputZero = 0;

  /// Fails, with the reason in `why`, where something that must be constant is not.
  static FailureOr<LayerConstants> get(Operation *op, std::string &why);

  IntegerParameters integerParameters() const;
  /// Of a linear layer whose input's scale and zero point the run gives.
  RunTimeParameters runTimeParameters() const;
  GroupedParameters groupedParameters(const Schedule &schedule) const;
  /// Of a gather: see Packing.h; of f16, its one scale.
  std::vector<float> tableParameters() const;
  /// Weights less their type's minimum.
  std::vector<uint8_t> unsignedWeights() const;

private:
  LogicalResult subtractZeros(std::string &why);
  LogicalResult readWeights(Value weight, Value scale, Value zero, std::string &why);
  int64_t weightMinimum() const { return weightSigned ? -(int64_t(1) << (weightBits - 1)) : 0; }
};

} // namespace lowbit::cuda

#endif // LOWBIT_LIB_TARGET_CUDA_LAYERCONSTANTS_H
