//===- LowbitOps.cpp - verifiers of the lowbit ops ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/TypeUtilities.h"
#include "llvm/Support/MathExtras.h"

using namespace lowbit;

#define GET_OP_CLASSES
#include "lowbit/Dialect/Lowbit/IR/LowbitOps.cpp.inc"

static int64_t groups(int64_t extent, int64_t group) {
  return ShapedType::isDynamic(extent) ? extent : llvm::divideCeil(extent, group);
}

static bool fits(int64_t found, int64_t expected) {
  return ShapedType::isDynamic(found) || ShapedType::isDynamic(expected) || found == expected;
}

/// Scale and zero of quantize and dequantize: rank 0, rank 1 along `axis`, or grouped along it.
static LogicalResult verifyAlongAxis(Operation *op, RankedTensorType values, RankedTensorType scale,
                                     RankedTensorType zero, std::optional<int64_t> axis,
                                     int64_t group) {
  if (!values || !scale || !zero)
    return op->emitOpError("expects ranked tensors");
  if (scale.getShape() != zero.getShape())
    return op->emitOpError("expects zero points of the scale's shape ")
           << scale.getShape() << ", found " << zero.getShape();
  if (scale.getRank() == 0) {
    if (axis || group)
      return op->emitOpError("has one scale for the whole tensor, so neither axis nor group");
    return success();
  }
  if (!axis || *axis < 0 || *axis >= values.getRank())
    return op->emitOpError("expects an axis in [0, ") << values.getRank() << ") for its scales";
  if (group == 0) {
    if (scale.getRank() != 1 || !fits(scale.getDimSize(0), values.getDimSize(*axis)))
      return op->emitOpError("expects one scale per index of axis ")
             << *axis << " (" << values.getDimSize(*axis) << "), found scales of shape "
             << scale.getShape();
    return success();
  }
  if (group < 0)
    return op->emitOpError("expects a positive group, found ") << group;
  if (scale.getRank() != values.getRank())
    return op->emitOpError("expects grouped scales of rank ")
           << values.getRank() << ", found " << scale.getShape();
  for (int64_t d = 0; d < values.getRank(); ++d) {
    int64_t extent = values.getDimSize(d), expected = d == *axis ? groups(extent, group) : extent;
    if (!fits(scale.getDimSize(d), expected))
      return op->emitOpError("expects scale dim #")
             << d << " (" << scale.getDimSize(d) << ") to be "
             << (d == *axis ? "ceil(extent / group) = " : "the extent ") << expected;
  }
  return success();
}

static std::optional<int64_t> asOptional(IntegerAttr attr) {
  return attr ? std::optional<int64_t>(attr.getInt()) : std::nullopt;
}

LogicalResult QuantizeOp::verify() {
  if (getOutput().getType().getElementType() != getZero().getType().getElementType())
    return emitOpError("expects zero points of the result's element type ")
           << getOutput().getType().getElementType();
  return verifyAlongAxis(*this, dyn_cast<RankedTensorType>(getInput().getType()),
                         dyn_cast<RankedTensorType>(getScale().getType()),
                         dyn_cast<RankedTensorType>(getZero().getType()), asOptional(getAxisAttr()),
                         getGroup());
}

LogicalResult ExchangeOp::verify() {
  auto type = dyn_cast<RankedTensorType>(getOutput().getType());
  if (!llvm::is_contained({"input", "weight", "output"}, getRole()))
    return emitOpError("has the role '") << getRole() << "', expected input, weight or output";
  if (!type || !type.getElementType().isF32())
    return emitOpError("has a result of type ") << getOutput().getType() << ", expected ranked f32";
  if (!getInput() && !type.hasStaticShape())
    return emitOpError("has no input, so its result needs a static shape");
  if (getInput() && getInput().getType() != type)
    return emitOpError("has an input of type ")
           << getInput().getType() << " and a result of type " << type << ", expected the same";
  return success();
}

LogicalResult DequantizeOp::verify() {
  if (getInput().getType().getElementType() != getZero().getType().getElementType())
    return emitOpError("expects zero points of the input's element type ")
           << getInput().getType().getElementType();
  return verifyAlongAxis(*this, dyn_cast<RankedTensorType>(getInput().getType()),
                         dyn_cast<RankedTensorType>(getScale().getType()),
                         dyn_cast<RankedTensorType>(getZero().getType()), asOptional(getAxisAttr()),
                         getGroup());
}

LogicalResult DynamicQuantizeOp::verify() {
  auto input = dyn_cast<RankedTensorType>(getInput().getType()),
       output = dyn_cast<RankedTensorType>(getOutput().getType()),
       scale = dyn_cast<RankedTensorType>(getScale().getType()),
       zero = dyn_cast<RankedTensorType>(getZero().getType());
  if (!input || !output || !scale || !zero)
    return emitOpError("expects ranked tensors");
  Type element = output.getElementType();
  if (zero.getElementType() != element || element.getIntOrFloatBitWidth() > 16)
    return emitOpError("expects a result and zero points of one type of at most 16 bits, found ")
           << element << " and " << zero.getElementType();
  if (input.getShape() != output.getShape())
    return emitOpError("expects a result of the input's shape [")
           << input.getShape() << "], found [" << output.getShape() << "]";
  SmallVector<int64_t> shape;
  if (getPerToken()) {
    if (input.getRank() == 0)
      return emitOpError("per token expects an input of at least one dimension");
    shape = llvm::to_vector(input.getShape());
    shape.back() = 1;
  }
  if (scale.getShape() != ArrayRef(shape) || zero.getShape() != ArrayRef(shape))
    return emitOpError("expects scales and zero points of shape [")
           << ArrayRef(shape) << "], found [" << scale.getShape() << "] and [" << zero.getShape()
           << "]";
  return success();
}

/// Weight scales of linear, conv and gather: [], [channels] or [channels, ceil(reduction / group)].
static LogicalResult verifyWeightScale(Operation *op, RankedTensorType scale, Value zero,
                                       int64_t channels, int64_t reduction, int64_t group) {
  if (zero && cast<ShapedType>(zero.getType()).getShape() != scale.getShape())
    return op->emitOpError("expects weight zero points of the scales' shape ") << scale.getShape();
  if (group < 0)
    return op->emitOpError("expects a positive group, found ") << group;
  bool good =
      group ? scale.getRank() == 2 && fits(scale.getDimSize(0), channels) &&
                  fits(scale.getDimSize(1), groups(reduction, group))
            : scale.getRank() == 0 || (scale.getRank() == 1 && fits(scale.getDimSize(0), channels));
  if (good)
    return success();
  InFlightDiagnostic diag = op->emitOpError("expects weight scales of shape ");
  if (group)
    diag << "[" << channels << ", " << groups(reduction, group) << "]";
  else
    diag << "[] or [" << channels << "]";
  return diag << ", found [" << scale.getShape() << "]";
}

/// f16 weights are what they stand for: one scale, no zero point.
template <typename OpTy>
static LogicalResult verifyHalf(OpTy op) {
  if (!isa<FloatType>(getElementTypeOrSelf(op.getWeight())))
    return success();
  if (op.getGroup() || op.getWeightZero() ||
      cast<RankedTensorType>(op.getWeightScale().getType()).getRank() != 0)
    return op.emitOpError("with f16 weights expects one scale, and neither group nor zero points");
  return success();
}

/// Input scales of an integer input: one, or one per row of a linear input [..., K].
template <typename OpTy>
static LogicalResult verifyInputScale(OpTy op) {
  auto input = cast<RankedTensorType>(op.getInput().getType()),
       scale = cast<RankedTensorType>(op.getInputScale().getType()),
       zero = cast<RankedTensorType>(op.getInputZero().getType());
  if (zero.getElementType() != input.getElementType())
    return op.emitOpError("expects input_zero of the input's element type ")
           << input.getElementType();
  if (scale.getShape() != zero.getShape())
    return op.emitOpError("expects input_zero of the shape of input_scale [")
           << scale.getShape() << "], found [" << zero.getShape() << "]";
  if (scale.getRank() == 0)
    return success();
  bool perRow = std::is_same_v<OpTy, LinearOp> && scale.getRank() == input.getRank() &&
                scale.getShape().back() == 1;
  for (int64_t d = 0; perRow && d + 1 < input.getRank(); ++d)
    perRow = fits(scale.getDimSize(d), input.getDimSize(d));
  if (perRow)
    return success();
  return op.emitOpError("expects one input_scale, or of a linear op one per row: the input's shape "
                        "with 1 for the last dimension; found [")
         << scale.getShape() << "]";
}

template <typename OpTy>
static bool sumsInFloatOf(OpTy op) {
  Type input = getElementTypeOrSelf(op.getInput());
  if (!isa<IntegerType>(input))
    return false;
  return op.getGroup() || op.getWeightZero() || input.getIntOrFloatBitWidth() > 8 ||
         (op.getInputScale() && cast<ShapedType>(op.getInputScale().getType()).getRank() > 0) ||
         (op.getBias() && isa<FloatType>(getElementTypeOrSelf(op.getBias())));
}

bool LinearOp::sumsInFloat() { return sumsInFloatOf(*this); }
bool ConvOp::sumsInFloat() { return sumsInFloatOf(*this); }

/// An integer input in the mode that sums in float.
template <typename OpTy>
static LogicalResult verifySumsInFloat(OpTy op, Type output) {
  if (op.getOutputScale() || !output.isF32())
    return op.emitOpError("expects a f32 result, not quantized, of input scales per row, grouped "
                          "or asymmetric weights, a float bias or a 16-bit input");
  if (op.getBias() && !getElementTypeOrSelf(op.getBias()).isF32())
    return op.emitOpError("expects a f32 bias beside input scales per row, grouped or asymmetric "
                          "weights or a 16-bit input");
  if ((op.getGroup() || op.getWeightZero()) && !std::is_same_v<OpTy, LinearOp>)
    return op.emitOpError("with an integer input expects symmetric weights per tensor or channel");
  return success();
}

/// The modes that linear and conv share; see LowbitOps.td.
template <typename OpTy>
static LogicalResult verifyModes(OpTy op, int64_t channels, int64_t reduction) {
  auto scale = cast<RankedTensorType>(op.getWeightScale().getType());
  if (failed(verifyWeightScale(op, scale, op.getWeightZero(), channels, reduction, op.getGroup())) ||
      failed(verifyHalf(op)))
    return failure();
  if (op.getBias()) {
    auto bias = cast<ShapedType>(op.getBias().getType());
    if (bias.getRank() != 1 || !fits(bias.getDimSize(0), channels))
      return op.emitOpError("expects a bias of shape [")
             << channels << "], found [" << bias.getShape() << "]";
  }
  Type input = cast<ShapedType>(op.getInput().getType()).getElementType();
  bool integer = isa<IntegerType>(input);
  if (integer != bool(op.getInputScale()) || integer != bool(op.getInputZero()))
    return op.emitOpError("expects input_scale and input_zero exactly for an integer input");
  if (bool(op.getOutputScale()) != bool(op.getOutputZero()))
    return op.emitOpError("expects output_scale and output_zero together");
  Type output = cast<ShapedType>(op.getOutput().getType()).getElementType();
  if (!integer) {
    if (op.getOutputScale())
      return op.emitOpError("cannot quantize its result: the input is float");
    if (op.getBias() && !isa<FloatType>(cast<ShapedType>(op.getBias().getType()).getElementType()))
      return op.emitOpError("expects a float bias for a float input");
    return success();
  }
  if (isa<FloatType>(getElementTypeOrSelf(op.getWeight())))
    return op.emitOpError("with an integer input expects integer weights");
  if (failed(verifyInputScale(op)))
    return failure();
  if (op.sumsInFloat())
    return verifySumsInFloat(op, output);
  if (op.getBias() &&
      !cast<ShapedType>(op.getBias().getType()).getElementType().isSignlessInteger(32))
    return op.emitOpError("expects an i32 or f32 bias for an integer input");
  if (op.getOutputZero() &&
      cast<ShapedType>(op.getOutputZero().getType()).getElementType() != output)
    return op.emitOpError("expects output_zero of the result's element type ") << output;
  if (!op.getOutputScale() && !isa<FloatType>(output))
    return op.emitOpError("without output_scale expects a float result");
  return success();
}

LogicalResult LinearOp::verify() {
  auto input = dyn_cast<RankedTensorType>(getInput().getType());
  auto weight = dyn_cast<RankedTensorType>(getWeight().getType());
  auto output = dyn_cast<RankedTensorType>(getOutput().getType());
  if (!input || !weight || !output || input.getRank() < 1 || weight.getRank() != 2)
    return emitOpError("expects input [..., K] and weight [N, K]");
  int64_t n = weight.getDimSize(0), k = weight.getDimSize(1);
  if (!fits(input.getShape().back(), k))
    return emitOpError("expects the input's last dimension (")
           << input.getShape().back() << ") to be the weight's K (" << k << ")";
  if (output.getRank() != input.getRank() || !fits(output.getShape().back(), n))
    return emitOpError("expects a result [..., ") << n << "], found [" << output.getShape() << "]";
  return verifyModes(*this, n, k);
}

LogicalResult ConvOp::verify() {
  auto input = dyn_cast<RankedTensorType>(getInput().getType());
  auto weight = dyn_cast<RankedTensorType>(getWeight().getType());
  if (!input || !weight || input.getRank() < 3 || weight.getRank() != input.getRank())
    return emitOpError("expects input [N, C, spatial…] and weight [F, C / groups, spatial…]");
  size_t spatial = input.getRank() - 2;
  if (getStrides().size() != spatial || getDilations().size() != spatial ||
      getPads().size() != 2 * spatial)
    return emitOpError("expects ")
           << spatial << " strides and dilations and " << 2 * spatial << " pads";
  if (getGroups() < 1 || !fits(input.getDimSize(1), weight.getDimSize(1) * (int64_t)getGroups()))
    return emitOpError("expects input channels (")
           << input.getDimSize(1) << ") to be groups (" << getGroups() << ") times the weight's ("
           << weight.getDimSize(1) << ")";
  int64_t reduction = 1;
  for (int64_t extent : weight.getShape().drop_front())
    reduction *= extent;
  return verifyModes(*this, weight.getDimSize(0), reduction);
}

LogicalResult GatherOp::verify() {
  auto weight = dyn_cast<RankedTensorType>(getWeight().getType());
  if (!weight || weight.getRank() != 2)
    return emitOpError("expects a table of shape [V, D]");
  if (failed(verifyHalf(*this)))
    return failure();
  return verifyWeightScale(*this, cast<RankedTensorType>(getWeightScale().getType()),
                           getWeightZero(), weight.getDimSize(0), weight.getDimSize(1), getGroup());
}

LogicalResult ObserveOp::verify() {
  auto type = dyn_cast<RankedTensorType>(getInput().getType());
  std::optional<uint64_t> axis = getChannelAxis();
  if (!type)
    return axis ? emitOpError("expects an input of known rank for its channel_axis") : success();
  int64_t rank = type.getRank();
  if (axis && int64_t(*axis) >= rank)
    return emitOpError("expects a channel_axis in [0, ") << rank << "), found " << int64_t(*axis);
  StatsAttr stats = getStatsAttr();
  if (!stats || rank == 0)
    return success();
  int64_t channels = type.getDimSize(axis ? int64_t(*axis) : rank - 1);
  for (ElementsAttr values : {stats.getChannelMin(), stats.getChannelMax(), stats.getChannelMean(),
                              stats.getChannelAbsmean()})
    if (values && !ShapedType::isDynamic(channels) && values.getNumElements() != channels)
      return emitOpError("expects statistics of ")
             << channels << " channels, found " << values.getNumElements();
  return success();
}
