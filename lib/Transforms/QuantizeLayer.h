//===- QuantizeLayer.h - one layer's weights, activations and bias as quantized IR ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TRANSFORMS_QUANTIZELAYER_H
#define LOWBIT_LIB_TRANSFORMS_QUANTIZELAYER_H

#include "lowbit/Analysis/LayerPlan.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Numerics/Moments.h"
#include "lowbit/Numerics/Quantize.h"
#include "lowbit/Numerics/RTN.h"
#include "lowbit/Recipe/RoundedLayers.h"
#include "lowbit/Support/ConstantData.h"
#include "llvm/ADT/StringMap.h"
#include <map>
#include <tuple>

namespace lowbit {

/// Signed types are signless in IR, unsigned ones ui8 and ui4.
IntegerType elementType(MLIRContext *context, IntType type);

/// The weights of one layer in IR.
struct QuantizedWeightOps {
  Value real; ///< The dequantized weights, of the shape of the float ones.
  /// [1] or one per channel; of grouped weights not used.
  std::vector<float> scales;
  double relativeError = 0, maxError = 0;
  RoundingReport report;
  /// What the bias is to grow by so that the mean of the output stays: (W - Ŵ) E[x], as in Nagel et
  /// al., arXiv:1906.04721, section 4.2. Empty without channel means.
  std::vector<float> biasShift;
  std::string scalesHash; ///< SHA-256 of scales and zero points, in the order of the matrix's rows.
  int64_t bytes = 0; ///< At the nominal bit width, with scales and zero points.
};


/// Quantizes weights and shares them between layers that read the same constant alike.
class WeightQuantizer {
public:
  /// Layers in `rounded` take their weights from there; null for none.
  explicit WeightQuantizer(const RoundedLayers *rounded = nullptr) : rounded(rounded) {}

  /// Puts the quantized constant and its lowbit.dequantize beside the float one. An error at the
  /// layer where a weight is not finite.
  /// `channelMeans`: of the layer's input, for QuantizedWeightOps::biasShift; empty for none.
  /// `moments`: those of the input that IR holds, for algorithms that need them; may be empty.
  FailureOr<QuantizedWeightOps> quantize(const PlannedLayer &planned, const WeightRule &rule,
                                         ArrayRef<float> channelMeans,
                                         const std::vector<Moments> &moments);

private:
  /// The rounded matrix of a layer; an error at the layer where there can be none.
  FailureOr<QuantizedWeights> round(const PlannedLayer &planned, const WeightRule &rule,
                                    const std::vector<Moments> &moments, const ConstantData &data,
                                    int64_t rows, int64_t cols);

  const RoundedLayers *rounded;
  /// By (constant, scheme, layout, factor).
  std::vector<std::tuple<Value, Scheme, int64_t, float, QuantizedWeightOps>> known;
};

/// Quantizes activations once for all layers that read the same value alike.
class ActivationQuantizer {
public:
  /// Collects the observers of the module. `range`: how ranges are chosen from statistics.
  ActivationQuantizer(ModuleOp module, RangeOptions range);

  /// From the statistics of the layer's input; nothing where there are none. Failure, after an
  /// error at the layer, where they are not those that the method needs.
  FailureOr<std::optional<QuantParams>> params(const PlannedLayer &planned,
                                               const ActivationRule &rule);
  /// Of the statistics' `moments`, one per group of a convolution; empty where there are none, or
  /// they are not those of `cols` columns.
  std::vector<Moments> moments(const PlannedLayer &planned, int64_t cols) const;
  /// E[x] of each channel of the layer's input; empty where it is not known.
  std::vector<float> channelMeans(const PlannedLayer &planned) const;
  /// The layer's input through lowbit.quantize and lowbit.dequantize.
  Value quantize(const PlannedLayer &planned, QuantParams params, IntType type);
  /// The layer's f32 input through lowbit.dynamic_quantize and lowbit.dequantize.
  Value quantizeDynamically(const PlannedLayer &planned, const ActivationRule &rule);
  void eraseObservers();

private:
  RangeOptions range;
  llvm::StringMap<ObserveOp> observers;
  /// Dequantized values by (float value, scale, zero point, type).
  std::map<std::tuple<void *, float, int32_t, IntType>, Value> known;
  /// Likewise by (float value, per token, symmetric, type).
  std::map<std::tuple<void *, bool, bool, IntType>, Value> dynamic;
};

/// Puts a layer's weights, times its factor, as f16 and their conversion to f32 in the place of the
/// float ones. An error at the layer where a weight is not finite or beyond the range of f16.
FailureOr<QuantizedWeightOps> halveWeights(const PlannedLayer &planned);

/// Whether the sums of a layer on integers are real values after one multiplication, so that its
/// bias can be an integer of the accumulator's scale; other sums take a float bias.
bool hasAccumulatorBias(LayerKind kind, const Scheme &weights, IntType activations);

/// A bias times `factor` as i32 with the scale of the accumulator, dequantized. Nothing, and IR
/// unchanged, where a value does not fit: the reason is in `whyNot`.
std::optional<Value> quantizeBias(Operation *op, OpOperand &bias, float factor,
                                  ArrayRef<float> weightScales, float inputScale, int64_t channels,
                                  std::string &whyNot);

/// Adds `shift` [channels] to the layer's result, in its bias: an existing constant one, or a new
/// one. Call it before the weights are replaced. False, and IR unchanged, where the layer cannot
/// have one.
bool shiftBias(const PlannedLayer &planned, ArrayRef<float> shift);

} // namespace lowbit

#endif // LOWBIT_LIB_TRANSFORMS_QUANTIZELAYER_H
