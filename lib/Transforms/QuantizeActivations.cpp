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
  std::optional<Range> chosen = chooseRange(getObservedValues(found->second.getStatsAttr()), range,
                                            rule.type, rule.symmetric, why);
  if (!chosen) {
    InFlightDiagnostic diag = planned.op->emitOpError("of layer '")
                              << planned.key.name << "': calibration by " << why;
    diag.attachNote() << "calibrate the model again, or choose calibration: {method: minmax}";
    return diag;
  }
  return chooseParams(chosen->min, chosen->max, rule.type, rule.symmetric);
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
  char zeroByte = char(params.zero);
  Value scale = createConstant(builder, planned.op, builder.getF32Type(), {},
                               ArrayRef<float>(params.scale), "scale");
  Value zero = createConstant(builder, planned.op, element, {}, ArrayRef<char>(zeroByte), "zero");
  auto inputType = cast<RankedTensorType>(input.getType());
  Value q = QuantizeOp::create(builder, loc, inputType.clone(element), input, scale, zero,
                               IntegerAttr(), 0);
  real = DequantizeOp::create(builder, loc, inputType, q, scale, zero, IntegerAttr(), 0);
  return real;
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
