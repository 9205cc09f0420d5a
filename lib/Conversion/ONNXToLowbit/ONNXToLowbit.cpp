//===- ONNXToLowbit.cpp - models that are quantized already join the qdq form ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Conversion/Passes.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/IRMapping.h"

namespace lowbit {
#define GEN_PASS_DEF_CONVERTONNXTOLOWBIT
#include "lowbit/Conversion/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
/// Scale and zero point as the lowbit ops take them.
struct Parameters {
  Value scale, zero;
  IntegerAttr axis;
  int64_t group = 0;
};

struct ConvertONNXToLowbit : public lowbit::impl::ConvertONNXToLowbitBase<ConvertONNXToLowbit> {
  using ConvertONNXToLowbitBase::ConvertONNXToLowbitBase;
  void runOnOperation() override;
};
} // namespace

static RankedTensorType tensorOf(Value value) {
  return value ? dyn_cast<RankedTensorType>(value.getType()) : RankedTensorType();
}

/// A constant like `original`, which it is named after.
static Value constantLike(OpBuilder &b, Value original, RankedTensorType type,
                          ArrayRef<char> bytes) {
  Operation *source = original.getDefiningOp();
  auto name = source ? source->getAttrOfType<StringAttr>("onnx_name") : StringAttr();
  auto constant = onnx::ONNXConstantOp::create(
      b, original.getLoc(), makeConstant(type, bytes, name ? name.getValue() : "constant"));
  if (name)
    constant->setAttr("onnx_name", name);
  return constant;
}

/// A tensor of one element as a tensor of rank 0.
static Value toScalar(OpBuilder &b, Value value) {
  RankedTensorType type = tensorOf(value);
  if (type.getRank() == 0)
    return value;
  auto scalar = RankedTensorType::get({}, type.getElementType());
  if (std::optional<ConstantData> data = ConstantData::get(value))
    return constantLike(b, value, scalar, data->bytes());
  return tensor::CollapseShapeOp::create(b, value.getLoc(), scalar, value,
                                         ArrayRef<ReassociationIndices>{});
}

/// A constant f16 or bf16 scale as f32, a f32 one as it is; null for others.
static Value toF32(OpBuilder &b, Value scale) {
  Type element = tensorOf(scale).getElementType();
  if (element.isF32())
    return scale;
  std::optional<ConstantData> data = ConstantData::get(scale);
  if (!data || !(element.isF16() || element.isBF16()))
    return {};
  std::vector<float> values = data->toFloats();
  ArrayRef<char> bytes(reinterpret_cast<const char *>(values.data()),
                       values.size() * sizeof(float));
  return constantLike(b, scale, RankedTensorType::get(tensorOf(scale).getShape(), b.getF32Type()),
                      bytes);
}

/// Operands 1 and 2 of a QuantizeLinear or DequantizeLinear of `values` from or to `integer`.
/// Nothing where the lowbit ops cannot say it.
static std::optional<Parameters> parametersOf(Operation *op, RankedTensorType values,
                                              Type integer) {
  OpBuilder b(op);
  Parameters result;
  Value scale = onnx::getOperand(op, 1), zero = onnx::getOperand(op, 2);
  RankedTensorType type = tensorOf(scale);
  if (!type || !type.hasStaticShape())
    return std::nullopt;
  if (zero && (!tensorOf(zero) || tensorOf(zero).getElementType() != integer ||
               tensorOf(zero).getNumElements() != type.getNumElements()))
    return std::nullopt;
  int64_t group = onnx::getInt(op, "block_size", 0), rank = values.getRank();
  int64_t axis = onnx::getInt(op, "axis", 1);
  axis += axis < 0 ? rank : 0;
  bool inRange = axis >= 0 && axis < rank;
  if (type.getRank() == 0 || (type.getRank() == 1 && type.getNumElements() == 1)) {
    // One scale, whatever axis and blocks say.
  } else if (inRange && type.getRank() == 1 && rank > 0 &&
             (values.isDynamicDim(axis) || values.getDimSize(axis) == type.getDimSize(0))) {
    result.axis = b.getI64IntegerAttr(axis);
  } else if (inRange && group > 0 && type.getRank() == rank) {
    for (int64_t d = 0; d < rank; ++d) {
      int64_t extent = values.getDimSize(d);
      if (ShapedType::isDynamic(extent) ||
          type.getDimSize(d) != (d == axis ? (extent + group - 1) / group : extent))
        return std::nullopt;
    }
    result.axis = b.getI64IntegerAttr(axis);
    result.group = group;
  } else {
    return std::nullopt;
  }
  scale = toF32(b, scale);
  if (!scale)
    return std::nullopt;
  if (!zero) {
    std::vector<char> bytes(type.getNumElements() * bytesPerElement(integer), 0);
    zero = onnx::ONNXConstantOp::create(
        b, op->getLoc(), makeConstant(RankedTensorType::get(type.getShape(), integer), bytes));
  }
  result.scale = result.axis ? scale : toScalar(b, scale);
  result.zero = result.axis ? zero : toScalar(b, zero);
  return result;
}

/// Integers of at most `width` bits: others have no type in the pivot.
static bool isQuantized(Type type, unsigned width) {
  auto integer = dyn_cast<IntegerType>(type);
  return integer && integer.getWidth() > 1 && integer.getWidth() <= width;
}

static bool convertQuantize(Operation *op) {
  RankedTensorType input = tensorOf(op->getOperand(0)), output = tensorOf(op->getResult(0));
  // `precision` other than f32 (1) divides in another type.
  int64_t precision = onnx::getInt(op, "precision", 0);
  if (!input || !output || !isa<FloatType>(input.getElementType()) ||
      !isQuantized(output.getElementType(), 16) || (precision != 0 && precision != 1))
    return false;
  std::optional<Parameters> p = parametersOf(op, input, output.getElementType());
  if (!p)
    return false;
  OpBuilder b(op);
  op->getResult(0).replaceAllUsesWith(QuantizeOp::create(b, op->getLoc(), output, op->getOperand(0),
                                                         p->scale, p->zero, p->axis, p->group)
                                          .getResult());
  op->erase();
  return true;
}

static bool convertDequantize(Operation *op) {
  RankedTensorType input = tensorOf(op->getOperand(0)), output = tensorOf(op->getResult(0));
  if (!input || !output || !isa<FloatType>(output.getElementType()) ||
      !isQuantized(input.getElementType(), 32))
    return false;
  std::optional<Parameters> p = parametersOf(op, input, input.getElementType());
  if (!p)
    return false;
  OpBuilder b(op);
  op->getResult(0).replaceAllUsesWith(DequantizeOp::create(b, op->getLoc(), output,
                                                           op->getOperand(0), p->scale, p->zero,
                                                           p->axis, p->group)
                                          .getResult());
  op->erase();
  return true;
}

/// Moves an op that only moves data from behind a constant's dequantize to before it, where
/// lowbit-fold-constants evaluates it: weights then meet their layer as integers.
static bool moveBeforeDequantize(Operation *op) {
  StringRef name = onnx::getOperator(op);
  bool transposes = name == "Transpose";
  if (!transposes && name != "Reshape" && name != "Flatten" && name != "Squeeze" &&
      name != "Unsqueeze")
    return false;
  auto dequantize = op->getOperand(0).getDefiningOp<DequantizeOp>();
  RankedTensorType type = tensorOf(op->getResult(0));
  if (!dequantize || !type || !ConstantData::get(dequantize.getInput()))
    return false;
  IntegerAttr axis = dequantize.getAxisAttr();
  if (axis) {
    if (!transposes || dequantize.getGroup())
      return false;
    SmallVector<int64_t> perm = onnx::getInts(op, "perm");
    if (perm.empty())
      for (int64_t d = type.getRank(); d-- > 0;)
        perm.push_back(d);
    axis = IntegerAttr::get(axis.getType(), llvm::find(perm, axis.getInt()) - perm.begin());
  }
  OpBuilder b(op);
  Value q = dequantize.getInput();
  IRMapping mapping;
  mapping.map(op->getOperand(0), q);
  Operation *moved = b.clone(*op, mapping);
  moved->getResult(0).setType(type.clone(tensorOf(q).getElementType()));
  op->getResult(0).replaceAllUsesWith(
      DequantizeOp::create(b, op->getLoc(), type, moved->getResult(0), dequantize.getScale(),
                           dequantize.getZero(), axis, dequantize.getGroup())
          .getResult());
  op->erase();
  return true;
}

void ConvertONNXToLowbit::runOnOperation() {
  SmallVector<Operation *> ops;
  getOperation()->walk([&](Operation *op) {
    if (!onnx::getOperator(op).empty())
      ops.push_back(op);
  });
  for (Operation *op : ops) {
    StringRef name = onnx::getOperator(op);
    bool quantizes = name == "QuantizeLinear", dequantizes = name == "DequantizeLinear";
    if (quantizes || dequantizes)
      ++((quantizes ? convertQuantize(op) : convertDequantize(op)) ? numConverted : numLeft);
    else
      moveBeforeDequantize(op);
  }
}
