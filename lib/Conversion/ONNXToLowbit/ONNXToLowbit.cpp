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
#include "lowbit/Numerics/Quantize.h"
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
  Value shape = onnx::ONNXConstantOp::create(
      b, value.getLoc(),
      DenseElementsAttr::get(RankedTensorType::get({0}, b.getI64Type()), ArrayRef<int64_t>()));
  OperationState state(value.getLoc(), "onnx.Reshape", {value, shape}, scalar, {});
  return b.create(state)->getResult(0);
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

/// What quantize makes of a constant (weights of a model that was trained quantized); null where it
/// is none.
static Value quantizedConstant(OpBuilder &b, Value input, RankedTensorType type,
                               const Parameters &p) {
  std::optional<ConstantData> x = ConstantData::get(input), scale = ConstantData::get(p.scale),
                              zero = ConstantData::get(p.zero);
  auto element = cast<IntegerType>(type.getElementType());
  std::optional<IntType> to =
      parseIntType((element.isUnsigned() ? "u" : "i") + std::to_string(element.getWidth()));
  if (!x || !scale || !zero || !to || !type.hasStaticShape())
    return {};
  std::vector<float> values = x->toFloats(), scales = scale->toFloats();
  std::vector<int64_t> zeros = zero->toInts();
  int64_t axis = p.axis ? p.axis.getInt() : 0, extent = p.axis ? type.getDimSize(axis) : 1,
          inner = 1, size = bytesPerElement(element);
  for (int64_t d = axis + 1; d < type.getRank(); ++d)
    inner *= type.getDimSize(d);
  int64_t groups = p.group ? (extent + p.group - 1) / p.group : 1;
  std::vector<char> bytes(values.size() * size);
  for (int64_t i = 0; i < (int64_t)values.size(); ++i) {
    int64_t at = 0, index = i / inner % extent;
    if (p.group)
      at = (i / (inner * extent) * groups + index / p.group) * inner + i % inner;
    else if (p.axis)
      at = index;
    int32_t q = quantize(values[i], scales[at], int32_t(zeros[at]), *to);
    std::copy_n(reinterpret_cast<const char *>(&q), size, bytes.data() + i * size);
  }
  return constantLike(b, input, type, bytes);
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
  Value q = quantizedConstant(b, op->getOperand(0), output, *p);
  if (!q)
    q = QuantizeOp::create(b, op->getLoc(), output, op->getOperand(0), p->scale, p->zero, p->axis,
                           p->group);
  op->getResult(0).replaceAllUsesWith(q);
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

/// A matrix of flattened filters becomes filters: the form that the pivot knows for groups within a
/// filter.
static bool splitRows(Operation *op, DequantizeOp dequantize, RankedTensorType type) {
  RankedTensorType matrix = tensorOf(dequantize.getOutput());
  if (!matrix || matrix.getRank() != 2 || type.getRank() < 3 || !type.hasStaticShape() ||
      type.getDimSize(0) != matrix.getDimSize(0))
    return false;
  SmallVector<ReassociationIndices> reassociation(2);
  reassociation[0] = {0};
  reassociation[1] = llvm::to_vector(llvm::seq<int64_t>(1, type.getRank()));
  OpBuilder b(op);
  op->getResult(0).replaceAllUsesWith(
      tensor::ExpandShapeOp::create(b, op->getLoc(), type, dequantize.getOutput(), reassociation)
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
  if (axis && !transposes)
    return splitRows(op, dequantize, type);
  if (axis) {
    if (dequantize.getGroup())
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

//===----------------------------------------------------------------------===//
// Integer products
//===----------------------------------------------------------------------===//

/// Whether constant 8-bit weights less their zero points, one or one per index of `axis`, are what
/// lowbit-fuse-qdq can bring into integer layers: i8 or, with `sums`, sums of two.
static bool fitsSigned(Value weights, Value zero, int64_t axis, bool sums) {
  std::optional<ConstantData> q = ConstantData::get(weights),
                              z = zero ? ConstantData::get(zero) : std::nullopt;
  if (!q || (zero && !z) || !q->getType().getElementType().isInteger(8))
    return false;
  bool isUnsigned = q->getType().getElementType().isUnsignedInteger();
  std::vector<int64_t> zeros = z ? z->toInts() : std::vector<int64_t>{0};
  int64_t inner = 1, channels = zeros.size(), low = sums ? -256 : -128, high = sums ? 254 : 127;
  for (int64_t extent : q->getType().getShape().drop_front(axis + 1))
    inner *= extent;
  if (channels != 1 && channels != q->getType().getDimSize(axis))
    return false;
  ArrayRef<char> bytes = q->bytes();
  for (size_t i = 0; i < bytes.size(); ++i) {
    int value = isUnsigned ? int(uint8_t(bytes[i])) : int(int8_t(bytes[i]));
    int64_t difference = value - zeros[channels == 1 ? 0 : i / inner % channels];
    if (difference < low || difference > high)
      return false;
  }
  return true;
}

/// `q` dequantized with scales of 1; `zero` may be absent, one number, or one per index of `axis`.
static Value withScaleOne(OpBuilder &b, Value q, Value zero, int64_t axis) {
  RankedTensorType type = tensorOf(q);
  Location loc = q.getLoc();
  Type element = type.getElementType();
  bool perAxis = zero && tensorOf(zero).getNumElements() != 1;
  SmallVector<int64_t> shape;
  if (perAxis)
    shape.push_back(tensorOf(zero).getNumElements());
  if (!zero)
    zero = onnx::ONNXConstantOp::create(
        b, loc, makeConstant(RankedTensorType::get({}, element), std::vector<char>{0}));
  else if (!perAxis)
    zero = toScalar(b, zero);
  std::vector<float> ones(perAxis ? shape[0] : 1, 1.0f);
  Value scale = onnx::ONNXConstantOp::create(
      b, loc, makeConstant(RankedTensorType::get(shape, b.getF32Type()), ones));
  return DequantizeOp::create(b, loc, type.clone(b.getF32Type()), q, scale, zero,
                              perAxis ? b.getI64IntegerAttr(axis) : IntegerAttr(), 0);
}

/// MatMulInteger and ConvInteger whose sums are all cast to f32 are layers with scales of 1:
/// lowbit-fuse-qdq makes integer ones of them, and f32(acc) · 1 is the cast. Others keep their i32
/// result.
static bool convertIntegerProduct(Operation *op) {
  bool isConv = onnx::getOperator(op) == "ConvInteger";
  Value x = op->getOperand(0), w = op->getOperand(1), xZero = onnx::getOperand(op, 2),
        wZero = onnx::getOperand(op, 3), result = op->getResult(0);
  RankedTensorType xType = tensorOf(x), wType = tensorOf(w), type = tensorOf(result);
  if (!xType || !wType || !type || result.use_empty() || !xType.getElementType().isInteger(8) ||
      (!isConv && wType.getRank() != 2) || (isConv && wType.getRank() < 3))
    return false;
  for (Operation *user : result.getUsers())
    if (onnx::getOperator(user) != "Cast" ||
        !cast<ShapedType>(user->getResult(0).getType()).getElementType().isF32())
      return false;
  if (xZero && (!tensorOf(xZero) || !tensorOf(xZero).hasStaticShape() ||
                tensorOf(xZero).getNumElements() != 1))
    return false;
  int64_t axis = isConv ? 0 : 1;
  if (!fitsSigned(w, wZero, axis, /*sums=*/!isConv || onnx::getInt(op, "group", 1) == 1))
    return false;
  OpBuilder b(op);
  OperationState state(op->getLoc(), isConv ? "onnx.Conv" : "onnx.MatMul");
  state.addOperands({withScaleOne(b, x, xZero, 0), withScaleOne(b, w, wZero, axis)});
  if (isConv)
    state.addOperands(onnx::ONNXNoValueOp::create(b, op->getLoc()).getResult());
  for (NamedAttribute attr : op->getAttrDictionary())
    state.attributes.append(attr);
  state.addTypes(type.clone(b.getF32Type()));
  Operation *layer = b.create(state);
  for (Operation *user : llvm::make_early_inc_range(result.getUsers())) {
    user->getResult(0).replaceAllUsesWith(layer->getResult(0));
    user->erase();
  }
  op->erase();
  return true;
}

void ConvertONNXToLowbit::runOnOperation() {
  SmallVector<Operation *> ops, products;
  getOperation()->walk([&](Operation *op) {
    StringRef name = onnx::getOperator(op);
    if (name == "MatMulInteger" || name == "ConvInteger")
      products.push_back(op);
    else if (name == "QuantizeLinear" || name == "DequantizeLinear" ||
             (op->getNumOperands() && op->getNumResults() == 1 && !name.empty()))
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
  // Last: these erase casts.
  for (Operation *op : products)
    if (convertIntegerProduct(op))
      ++numConverted;
}
