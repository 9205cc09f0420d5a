//===- IntegerParameters.cpp - what the int8 kernels read beside activations ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "IntegerParameters.h"
#include "PackWeights.h"
#include "lowbit/Numerics/Quantize.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::cpu;

template <typename OpTy>
static FailureOr<IntegerParameters> read(OpTy op, std::string &why) {
  IntegerParameters result;
  if (op.sumsInFloat()) {
    why = "a convolution of 16-bit activations or with a float bias";
    return failure();
  }
  auto constant = [&](Value value, const char *what) {
    auto data = ConstantData::get(value);
    if (!data)
      why = std::string(what) + " is not a constant";
    return data;
  };
  auto weights = constant(op.getWeight(), "the weight"),
       scale = constant(op.getWeightScale(), "its scale");
  if (!weights || !scale)
    return failure();
  auto inputScale = ConstantData::get(op.getInputScale()),
       inputZero = ConstantData::get(op.getInputZero());
  if (!inputScale)
    result.runScale = op.getInputScale();
  if (!inputZero)
    result.runZero = op.getInputZero();
  if (!weights->getType().getElementType().isSignlessInteger(8)) {
    why = "weights are not i8";
    return failure();
  }
  Type input = cast<RankedTensorType>(op.getInput().getType()).getElementType();
  if (input.getIntOrFloatBitWidth() != 8) {
    why = "activations are not 8 bits wide";
    return failure();
  }
  result.flipInput = !input.isUnsignedInteger();
  if (inputZero)
    result.inputZero = inputZero->toInts()[0] + (result.flipInput ? 128 : 0);
  result.weights.assign(weights->template as<int8_t>().begin(),
                        weights->template as<int8_t>().end());

  int64_t channels = weights->getType().getDimSize(0), k = result.weights.size() / channels;
  std::vector<float> scales = scale->toFloats();
  float xs = inputScale ? inputScale->toFloats()[0] : 1.0f;
  std::optional<float> &outputScale = result.outputScale;
  result.outputElement = Float32Type::get(op.getContext());
  if (op.getOutputScale()) {
    auto os = constant(op.getOutputScale(), "the output scale");
    auto oz = constant(op.getOutputZero(), "the output zero point");
    if (!os || !oz)
      return failure();
    Type output = cast<RankedTensorType>(op.getOutput().getType()).getElementType();
    if (output.getIntOrFloatBitWidth() != 8) {
      why = "results are not 8 bits wide";
      return failure();
    }
    bool isUnsigned = output.isUnsignedInteger();
    result.outputElement = IntegerType::get(op.getContext(), 8);
    result.outputMin = isUnsigned ? 0 : -128;
    result.outputMax = isUnsigned ? 255 : 127;
    result.outputZero = oz->toInts()[0];
    outputScale = os->toFloats()[0];
  }
  std::vector<int64_t> bias(channels, 0);
  if (op.getBias()) {
    auto values = constant(op.getBias(), "the bias");
    if (!values)
      return failure();
    bias = values->toInts();
  }
  for (int64_t c = 0; c < channels; ++c) {
    int64_t sum = 0;
    for (int64_t i = 0; i < k; ++i)
      sum += result.weights[c * k + i];
    // Σ (x − z) w = Σ x w − z Σ w, modulo 2³² as the accumulator.
    result.bias.push_back(static_cast<int32_t>(static_cast<uint32_t>(bias[c]) -
                                               static_cast<uint32_t>(result.inputZero * sum)));
    result.columnSums.push_back(static_cast<int32_t>(sum));
    float ws = scales[scales.size() == 1 ? 0 : c];
    result.weightScales.push_back(ws);
    result.multiplier.push_back(outputScale ? requantMultiplier(xs, ws, *outputScale)
                                            : static_cast<float>(double(xs) * ws));
  }
  return result;
}

FailureOr<IntegerParameters> IntegerParameters::get(LinearOp op, std::string &why) {
  return read(op, why);
}
FailureOr<IntegerParameters> IntegerParameters::get(ConvOp op, std::string &why) {
  return read(op, why);
}

/// The zero point of the unsigned input, given by the run, as i32.
static Value runZeroPoint(OpBuilder &b, Location loc, const IntegerParameters &p) {
  Type i32 = b.getI32Type();
  Value zero = tensor::ExtractOp::create(b, loc, castElement(b, loc, p.runZero, b.getI8Type()),
                                         ValueRange());
  if (!p.flipInput)
    return arith::ExtUIOp::create(b, loc, i32, zero);
  zero = arith::ExtSIOp::create(b, loc, i32, zero);
  return arith::AddIOp::create(b, loc, zero, arith::ConstantIntOp::create(b, loc, 128, 32));
}

Value IntegerParameters::filler(OpBuilder &b, Location loc) const {
  if (!runZero)
    return arith::ConstantIntOp::create(b, loc, static_cast<int8_t>(inputZero), 8);
  return arith::TruncIOp::create(b, loc, b.getI8Type(), runZeroPoint(b, loc, *this));
}

/// A vector computed element by element from vectors of its size.
static Value mapVectors(OpBuilder &b, Location loc, ValueRange inputs, Type element,
                        llvm::function_ref<Value(OpBuilder &, ValueRange)> body) {
  auto type = cast<RankedTensorType>(inputs[0].getType());
  Value init = tensor::EmptyOp::create(b, loc, type.getShape(), element);
  SmallVector<AffineMap> maps(inputs.size() + 1, b.getMultiDimIdentityMap(1));
  return linalg::GenericOp::create(b, loc, init.getType(), inputs, init, maps,
                                   utils::IteratorType::parallel,
                                   [&](OpBuilder &nested, Location l, ValueRange args) {
                                     linalg::YieldOp::create(nested, l, body(nested, args));
                                   })
      .getResult(0);
}

Value IntegerParameters::biasOperand(OpBuilder &b, Location loc, int64_t n, int64_t vectors) const {
  Type i32 = b.getI32Type();
  Value folded = vectorConstant(b, loc, packParameters<int32_t>(bias, n, 1, vectors, 0), i32, "b");
  if (!runZero)
    return folded;
  Value sums =
      vectorConstant(b, loc, packParameters<int32_t>(columnSums, n, 1, vectors, 0), i32, "sums");
  Value zero = runZeroPoint(b, loc, *this);
  return mapVectors(b, loc, {folded, sums}, i32, [&](OpBuilder &nested, ValueRange v) -> Value {
    Value product = arith::MulIOp::create(nested, loc, v[1], zero);
    return arith::SubIOp::create(nested, loc, v[0], product);
  });
}

Value IntegerParameters::multiplierOperand(OpBuilder &b, Location loc, int64_t n,
                                           int64_t vectors) const {
  Type f32 = b.getF32Type(), f64 = b.getF64Type();
  if (!runScale)
    return vectorConstant(b, loc, packParameters<float>(multiplier, n, 1, vectors, 0), f32, "m");
  Value scales =
      vectorConstant(b, loc, packParameters<float>(weightScales, n, 1, vectors, 0), f32, "s");
  Value scale = tensor::ExtractOp::create(b, loc, runScale, ValueRange());
  Value wide = arith::ExtFOp::create(b, loc, f64, scale);
  return mapVectors(b, loc, scales, f32, [&](OpBuilder &nested, ValueRange v) -> Value {
    Value m = arith::ExtFOp::create(nested, loc, f64, v[0]);
    m = arith::MulFOp::create(nested, loc, wide, m);
    if (outputScale)
      m = arith::DivFOp::create(
          nested, loc, m,
          arith::ConstantOp::create(nested, loc, nested.getF64FloatAttr(*outputScale)));
    return arith::TruncFOp::create(nested, loc, f32, m);
  });
}
