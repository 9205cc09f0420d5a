//===- QuantizeActivations.cpp - a layer's input and bias on integers ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "QuantizeLayer.h"
#include "LayerConstants.h"
#include "lowbit/Analysis/ObservedValues.h"
#include "mlir/IR/BuiltinOps.h"
#include <cmath>

using namespace lowbit;

ActivationQuantizer::ActivationQuantizer(ModuleOp module, RangeOptions range) : range(range) {
  module.walk([&](ObserveOp op) { observers[op.getName()] = op; });
}

void ActivationQuantizer::eraseObservers() {
  for (auto &entry : observers)
    entry.second.erase();
  observers.clear();
}

FailureOr<std::optional<QuantParams>> ActivationQuantizer::params(const PlannedLayer &planned,
                                                                  const ActivationRule &rule) {
  auto found = observers.find(planned.key.name + ":input");
  if (found == observers.end() || !found->second.getStatsAttr())
    return std::optional<QuantParams>();
  std::string why;
  ObservedValues seen = getObservedValues(found->second.getStatsAttr());
  std::optional<Range> chosen = chooseRange(seen, range, rule.type, rule.symmetric, why);
  // Of statistics that a person has written, as a range, nothing has a smaller error than the range.
  if (!chosen && range.method == RangeMethod::MSE &&
      !found->second.getStatsAttr().getHistogram()) {
    planned.op->emitRemark("layer '") << planned.key.name << "' takes the range from the smallest "
                                      << "to the largest value seen: " << why;
    chosen = Range{seen.min, seen.max};
  }
  if (!chosen) {
    InFlightDiagnostic diag = planned.op->emitOpError("of layer '")
                              << planned.key.name << "': calibration by " << why;
    diag.attachNote() << "calibrate the model again, or choose calibration: {method: minmax}";
    return diag;
  }
  return chooseParams(chosen->min, chosen->max, rule.type, rule.symmetric);
}

std::vector<Moments> ActivationQuantizer::moments(const PlannedLayer &planned, int64_t cols) const {
  auto found = observers.find(planned.key.name + ":input");
  StatsAttr stats = found == observers.end() ? StatsAttr() : ObserveOp(found->second).getStatsAttr();
  return stats ? getMoments(stats, cols) : std::vector<Moments>();
}

std::vector<float> ActivationQuantizer::channelMeans(const PlannedLayer &planned) const {
  auto found = observers.find(planned.key.name + ":input");
  StatsAttr stats = found == observers.end() ? StatsAttr() : ObserveOp(found->second).getStatsAttr();
  std::optional<ConstantData> means =
      stats && stats.getChannelMean() ? ConstantData::get(stats.getChannelMean()) : std::nullopt;
  return means ? means->toFloats() : std::vector<float>();
}

Value ActivationQuantizer::quantize(const PlannedLayer &planned, QuantParams params,
                                      IntType type) {
  Value input = planned.layer->input->get();
  Value &real = known[{input.getAsOpaquePointer(), params.scale, params.zero, type}];
  if (real)
    return real;
  OpBuilder builder(planned.op->getContext());
  builder.setInsertionPointAfterValue(input);
  Location loc = planned.op->getLoc();
  IntegerType element = elementType(builder.getContext(), type);
  ArrayRef<char> zeroBytes(reinterpret_cast<const char *>(&params.zero), bitWidth(type) / 8);
  Value scale = createConstant(builder, planned.op, builder.getF32Type(), {},
                               ArrayRef<float>(params.scale), "scale");
  Value zero = createConstant(builder, planned.op, element, {}, zeroBytes, "zero");
  auto inputType = cast<RankedTensorType>(input.getType());
  Value q = QuantizeOp::create(builder, loc, inputType.clone(element), input, scale, zero,
                               IntegerAttr(), 0);
  real = DequantizeOp::create(builder, loc, inputType, q, scale, zero, IntegerAttr(), 0);
  return real;
}

Value ActivationQuantizer::quantizeDynamically(const PlannedLayer &planned,
                                               const ActivationRule &rule) {
  Value input = planned.layer->input->get();
  bool perToken = rule.dynamic == "token";
  Value &real = dynamic[{input.getAsOpaquePointer(), perToken, rule.symmetric, rule.type}];
  if (real)
    return real;
  OpBuilder builder(planned.op->getContext());
  builder.setInsertionPointAfterValue(input);
  Location loc = planned.op->getLoc();
  IntegerType element = elementType(builder.getContext(), rule.type);
  auto type = cast<RankedTensorType>(input.getType());
  SmallVector<int64_t> shape;
  IntegerAttr axis;
  int64_t group = 0;
  if (perToken) {
    shape = llvm::to_vector(type.getShape());
    shape.back() = 1;
    axis = builder.getI64IntegerAttr(type.getRank() - 1);
    auto weight = cast<RankedTensorType>(planned.layer->weight->get().getType());
    group = weight.getDimSize(1 - planned.layer->channelAxis());
  }
  auto q = DynamicQuantizeOp::create(
      builder, loc, TypeRange{type.clone(element), RankedTensorType::get(shape, builder.getF32Type()),
                              RankedTensorType::get(shape, element)},
      input, perToken, rule.symmetric);
  real = DequantizeOp::create(builder, loc, type, q.getOutput(), q.getScale(), q.getZero(), axis,
                              group);
  return real;
}

bool lowbit::hasAccumulatorBias(LayerKind kind, const Scheme &weights, IntType activations) {
  return weights.granularity != Scheme::Granularity::Group && bitWidth(activations) == 8 &&
         (bitWidth(weights.type) == 8 || kind == LayerKind::Conv);
}

std::optional<Value> lowbit::quantizeBias(Operation *op, OpOperand &bias, float factor,
                                               ArrayRef<float> weightScales, float inputScale,
                                               int64_t channels, std::string &whyNot) {
  std::optional<ConstantData> data = ConstantData::get(bias.get());
  if (!data || !data->getType().getElementType().isF32()) {
    whyNot = "its bias is not a f32 constant";
    return std::nullopt;
  }
  std::vector<float> values = data->toFloats(), scales(channels);
  std::vector<int32_t> quantized(channels), zeros(channels, 0);
  for (int64_t n = 0; n < channels; ++n) {
    double exact = double(inputScale) * double(weightScales[weightScales.size() == 1 ? 0 : n]);
    scales[n] = float(exact);
    double q = std::nearbyint(double(values[n]) * factor / exact);
    // The accumulator needs the other half of the range.
    if (!(std::fabs(q) < double(1 << 30))) {
      whyNot =
          "bias " + std::to_string(n) + " does not fit 32-bit integers of the accumulator's scale";
      return std::nullopt;
    }
    quantized[n] = int32_t(q);
  }
  OpBuilder builder(op->getContext());
  builder.setInsertionPointAfterValue(bias.get());
  MLIRContext *context = op->getContext();
  auto type = cast<RankedTensorType>(bias.get().getType());
  // Rank 1 or 1x…xN as it was.
  Type i32 = IntegerType::get(context, 32);
  std::string name = "bias";
  Value constant = createConstant(builder, op, i32, type.getShape(), ArrayRef(quantized), name);
  Value scale =
      createConstant(builder, op, builder.getF32Type(), {channels}, ArrayRef(scales), name);
  Value zero = createConstant(builder, op, i32, {channels}, ArrayRef(zeros), name);
  return DequantizeOp::create(builder, op->getLoc(), type, constant, scale, zero,
                              builder.getI64IntegerAttr(type.getRank() - 1), 0)
      .getResult();
}
