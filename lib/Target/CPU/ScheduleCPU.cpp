//===- ScheduleCPU.cpp - pivot ops become launches of CPU kernels ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "IntegerParameters.h"
#include "KernelTable.h"
#include "PackWeights.h"
#include "Schedule.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Target/CPU/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/TypeSwitch.h"

namespace lowbit {
#define GEN_PASS_DEF_SCHEDULECPU
#include "lowbit/Target/CPU/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;
using namespace lowbit::cpu;

namespace {

struct ScheduleCPU : public lowbit::impl::ScheduleCPUBase<ScheduleCPU> {
  void runOnOperation() override;

private:
  LogicalResult schedule(LinearOp op);
  LogicalResult schedule(ConvOp op);
  LogicalResult schedule(DynamicQuantizeOp op);
  LogicalResult scheduleInteger(LinearOp op);
  LogicalResult scheduleWeightOnly(LinearOp op);
  LogicalResult leave(Operation *op, const Twine &why) {
    op->emitRemark() << "no CPU kernel: " << why << "; runs as its decomposition";
    op->setAttr("lowbit.fallback", StringAttr::get(&getContext(), why));
    ++numLeft;
    return success();
  }

  std::optional<KernelTable> kernels;
};
} // namespace

//===----------------------------------------------------------------------===//
// Integer mode
//===----------------------------------------------------------------------===//

LogicalResult ScheduleCPU::schedule(LinearOp op) {
  if (isa<FloatType>(cast<RankedTensorType>(op.getInput().getType()).getElementType()))
    return scheduleWeightOnly(op);
  if (!op.sumsInFloat())
    return scheduleInteger(op);
  std::string why;
  if (failed(scheduleFloatSums(op, *kernels, why)))
    return leave(op, why);
  ++numScheduled;
  return success();
}

LogicalResult ScheduleCPU::schedule(DynamicQuantizeOp op) {
  std::string why;
  if (failed(scheduleDynamicQuantize(op, *kernels, why)))
    return leave(op, why);
  ++numScheduled;
  return success();
}

LogicalResult ScheduleCPU::scheduleInteger(LinearOp op) {
  std::string why;
  FailureOr<IntegerParameters> parameters = IntegerParameters::get(op, why);
  if (failed(parameters))
    return leave(op, why);
  OpBuilder b(op);
  Location loc = op.getLoc();
  auto weightType = cast<RankedTensorType>(op.getWeight().getType());
  int64_t n = weightType.getDimSize(0), k = weightType.getDimSize(1);
  int64_t vectors = pickVectors(n, /*even=*/false);

  Value input = castElement(b, loc, op.getInput(), b.getI8Type());
  if (parameters->flipInput)
    input = flipSign(b, loc, input);
  Value rows = collapseRows(b, loc, input);
  // Reads go by four bytes.
  rows =
      pad(b, loc, rows, {0, 0}, {0, (4 - k % 4) % 4}, arith::ConstantIntOp::create(b, loc, 0, 8));
  int64_t count = cast<RankedTensorType>(rows.getType()).getDimSize(0);

  FlatSymbolRefAttr kernel = kernels->get(b, loc, "cpu.qgemm",
                                          {{"conv", 0},
                                           {"n", n},
                                           {"length", k},
                                           {"runs_h", 1},
                                           {"runs_w", 1},
                                           {"nr", vectors},
                                           {"mr", pickRows(vectors, count)},
                                           {"chunk", kChunk},
                                           {"relu", op.getRelu()},
                                           {"output_zero", parameters->outputZero},
                                           {"output_min", parameters->outputMin},
                                           {"output_max", parameters->outputMax}});
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, rows);
  sizes[1] = b.getIndexAttr(n);
  Value init = emptyLike(b, loc, sizes, parameters->outputElement);
  SmallVector<Value> inputs = {rows,
                               vectorConstant(b, loc,
                                              cpu::packQGemm(parameters->weights, n, 1, k, vectors),
                                              b.getI8Type(), "w"),
                               parameters->biasOperand(b, loc, n, vectors),
                               parameters->multiplierOperand(b, loc, n, vectors)};
  auto launch =
      rt::LaunchOp::create(b, loc, init.getType(), kernel, inputs, init, op.getLayerAttr());
  Value result = expandRows(b, loc, launch.getResult(0), op.getInput());
  result = castElement(b, loc, result, cast<RankedTensorType>(op.getType()).getElementType());
  op.replaceAllUsesWith(result);
  op.erase();
  ++numScheduled;
  return success();
}

LogicalResult ScheduleCPU::schedule(ConvOp op) {
  auto inputType = cast<RankedTensorType>(op.getInput().getType());
  if (isa<FloatType>(inputType.getElementType()))
    return leave(op, "a convolution of float activations with quantized weights");
  if (inputType.getRank() != 4)
    return leave(op, "a convolution that is not two-dimensional");
  if (op.getGroups() != 1)
    return leave(op, "a grouped or depthwise convolution");
  if (inputType.isDynamicDim(1))
    return leave(op, "the number of channels is dynamic");
  std::string why;
  FailureOr<IntegerParameters> parameters = IntegerParameters::get(op, why);
  if (failed(parameters))
    return leave(op, why);

  OpBuilder b(op);
  Location loc = op.getLoc();
  ArrayRef<int64_t> shape = cast<RankedTensorType>(op.getWeight().getType()).getShape();
  int64_t n = shape[0], channels = shape[1], kh = shape[2], kw = shape[3];
  ArrayRef<int64_t> pads = op.getPads(), strides = op.getStrides(), dilations = op.getDilations();

  // OIHW to [n, kh, kw, channels]: the order of a run in an NHWC row.
  std::vector<int8_t> ordered(parameters->weights.size());
  for (int64_t o = 0; o < n; ++o)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t y = 0; y < kh; ++y)
        for (int64_t x = 0; x < kw; ++x)
          ordered[((o * kh + y) * kw + x) * channels + c] =
              parameters->weights[((o * channels + c) * kh + y) * kw + x];
  bool dilated = dilations[1] != 1 && kw > 1;
  int64_t runsW = dilated ? kw : 1, length = dilated ? channels : kw * channels;
  int64_t vectors = pickVectors(n, /*even=*/false);

  Value input = castElement(b, loc, op.getInput(), b.getI8Type());
  if (parameters->flipInput)
    input = flipSign(b, loc, input);
  input = transpose(b, loc, input, {0, 2, 3, 1});
  // Padding stands for the real value 0. One row more where reads by four bytes pass the end of a
  // run.
  Value filler = parameters->filler(b, loc);
  input = pad(b, loc, input, {0, pads[0], pads[1], 0},
              {0, pads[2] + (length % 4 ? 1 : 0), pads[3], 0}, filler);

  // The result's sizes, from the op's result type or the padded input.
  auto outputType = cast<RankedTensorType>(op.getType());
  SmallVector<OpFoldResult> padded = tensor::getMixedSizes(b, loc, input);
  SmallVector<OpFoldResult> sizes = {padded[0], {}, {}, b.getIndexAttr(n)};
  for (int64_t d : {0, 1}) {
    int64_t extent = outputType.getDimSize(2 + d), kernel = (shape[2 + d] - 1) * dilations[d] + 1;
    if (!ShapedType::isDynamic(extent)) {
      sizes[1 + d] = b.getIndexAttr(extent);
      continue;
    }
    // floor((extent + pads - kernel) / stride) + 1; nothing, and an error of the run, where the
    // kernel does not fit.
    auto index = [&](int64_t value) { return arith::ConstantIndexOp::create(b, loc, value); };
    Value slack = tensor::DimOp::create(b, loc, op.getInput(), 2 + d);
    slack = arith::AddIOp::create(b, loc, slack, index(pads[d] + pads[2 + d] - kernel));
    Value fits = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge, slack, index(0));
    rt::AssertOp::create(
        b, loc, fits, "layer '" + op.getLayer().str() + "': the input is smaller than the kernel");
    Value count = arith::AddIOp::create(
        b, loc, arith::DivUIOp::create(b, loc, slack, index(strides[d])), index(1));
    sizes[1 + d] = Value(arith::SelectOp::create(b, loc, fits, count, index(0)));
  }
  Value init = emptyLike(b, loc, sizes, parameters->outputElement);
  FlatSymbolRefAttr kernel = kernels->get(b, loc, "cpu.qgemm",
                                          {{"conv", 1},
                                           {"n", n},
                                           {"length", length},
                                           {"runs_h", kh},
                                           {"runs_w", runsW},
                                           {"nr", vectors},
                                           {"mr", pickRows(vectors, outputType.getDimSize(3))},
                                           {"relu", op.getRelu()},
                                           {"stride_h", strides[0]},
                                           {"stride_w", strides[1]},
                                           {"dilation_h", dilations[0]},
                                           {"dilation_w", dilations[1]},
                                           {"output_zero", parameters->outputZero},
                                           {"output_min", parameters->outputMin},
                                           {"output_max", parameters->outputMax}});
  SmallVector<Value> inputs = {
      input,
      vectorConstant(b, loc, cpu::packQGemm(ordered, n, kh * runsW, length, vectors), b.getI8Type(),
                     "w"),
      parameters->biasOperand(b, loc, n, vectors),
      parameters->multiplierOperand(b, loc, n, vectors)};
  auto launch =
      rt::LaunchOp::create(b, loc, init.getType(), kernel, inputs, init, op.getLayerAttr());
  Value result = transpose(b, loc, launch.getResult(0), {0, 3, 1, 2});
  auto resultType = cast<RankedTensorType>(result.getType());
  auto wanted = outputType.clone(resultType.getElementType());
  if (resultType != wanted)
    result = tensor::CastOp::create(b, loc, wanted, result);
  result = castElement(b, loc, result, outputType.getElementType());
  op.replaceAllUsesWith(result);
  op.erase();
  ++numScheduled;
  return success();
}

//===----------------------------------------------------------------------===//
// Weight-only mode
//===----------------------------------------------------------------------===//

LogicalResult ScheduleCPU::scheduleWeightOnly(LinearOp op) {
  auto weights = ConstantData::get(op.getWeight()), scale = ConstantData::get(op.getWeightScale());
  auto bias = op.getBias() ? ConstantData::get(op.getBias()) : std::nullopt;
  auto zero = op.getWeightZero() ? ConstantData::get(op.getWeightZero()) : std::nullopt;
  if (!weights || !scale || (op.getBias() && !bias) || (op.getWeightZero() && !zero))
    return leave(op, "the weight or its parameters are not constants");
  if (!cast<RankedTensorType>(op.getInput().getType()).getElementType().isF32())
    return leave(op, "activations are not f32");
  Type element = weights->getType().getElementType();
  int64_t bits = element.getIntOrFloatBitWidth();
  if (bits == 3) // Two to a byte as well.
    bits = 4;
  if (bits != 4 && bits != 8 && !element.isF16())
    return leave(op, "weights are not 3, 4, 8 or (f16) 16 bits wide");

  if (element.isF16() && scale->toFloats()[0] != 1)
    return leave(op, "f16 weights with a scale other than 1");

  OpBuilder b(op);
  Location loc = op.getLoc();
  int64_t n = weights->getType().getDimSize(0), k = weights->getType().getDimSize(1);
  int64_t group = op.getGroup() ? op.getGroup() : k, groups = (k + group - 1) / group;
  int64_t vectors = pickVectors(n, /*even=*/true);
  bool isHalf = element.isF16(), isSigned = !element.isUnsignedInteger() && !isHalf;
  int8_t offset = bits == 4 && isSigned ? 8 : 0;

  // One scale and one zero point per channel and group, whatever the granularity.
  std::vector<float> scales = scale->toFloats();
  std::vector<int64_t> zeros = zero ? zero->toInts() : std::vector<int64_t>(scales.size(), 0);
  std::vector<float> allScales(n * groups);
  std::vector<int8_t> allZeros(n * groups);
  for (int64_t i = 0; i < n * groups; ++i) {
    size_t at = scales.size() == 1 ? 0 : op.getGroup() ? i : i / groups;
    allScales[i] = scales[at];
    allZeros[i] = static_cast<int8_t>(zeros[at] + offset);
  }
  std::vector<float> biases = bias ? bias->toFloats() : std::vector<float>(n, 0.0f);

  Value rows = collapseRows(b, loc, op.getInput());
  FlatSymbolRefAttr kernel = kernels->get(b, loc, "cpu.wgemm",
                                          {{"n", n},
                                           {"k", k},
                                           {"nr", vectors},
                                           {"mr", vectors == 4 ? 6 : 12},
                                           {"bits", bits},
                                           {"signed", isSigned},
                                           {"group", group},
                                           {"relu", op.getRelu()},
                                           {"chunk", kChunk}});
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, rows);
  sizes[1] = b.getIndexAttr(n);
  Value init = emptyLike(b, loc, sizes, b.getF32Type());
  SmallVector<Value> inputs = {
      rows,
      isHalf ? vectorConstant(b, loc, cpu::packWGemmHalf(weights->as<uint16_t>(), n, k, vectors),
                              b.getF16Type(), "w")
             : vectorConstant(
                   b, loc, cpu::packWGemm(weights->as<int8_t>(), n, k, vectors, bits, offset),
                   b.getI8Type(), "w"),
      vectorConstant(b, loc, cpu::packParameters<float>(allScales, n, groups, vectors, 0),
                     b.getF32Type(), "s"),
      vectorConstant(b, loc, cpu::packParameters<int8_t>(allZeros, n, groups, vectors, 0),
                     b.getI8Type(), "z"),
      vectorConstant(b, loc, cpu::packParameters<float>(biases, n, 1, vectors, 0), b.getF32Type(),
                     "b")};
  auto launch =
      rt::LaunchOp::create(b, loc, init.getType(), kernel, inputs, init, op.getLayerAttr());
  op.replaceAllUsesWith(expandRows(b, loc, launch.getResult(0), op.getInput()));
  op.erase();
  ++numScheduled;
  return success();
}

void ScheduleCPU::runOnOperation() {
  kernels.emplace(getOperation());
  SmallVector<Operation *> ops;
  getOperation().walk([&](Operation *op) {
    if (isa<LinearOp, ConvOp, DynamicQuantizeOp>(op))
      ops.push_back(op);
  });
  for (Operation *op : ops) {
    LogicalResult result =
        llvm::TypeSwitch<Operation *, LogicalResult>(op)
            .Case<LinearOp, ConvOp, DynamicQuantizeOp>([&](auto op) { return schedule(op); });
    if (failed(result))
      return signalPassFailure();
  }
}
