//===- ContribWeights.cpp - onnxruntime's layers of packed weights -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Packed weights become a constant of their own type and ONNX's DequantizeLinear
// in blocks. Scales keep their bits. Weights without a zero point (the middle of
// the range stands for 0) become signed and symmetric: the same numbers.
//
//===----------------------------------------------------------------------===//
#include "Contrib.h"
#include "mlir/IR/Diagnostics.h"
#include <cmath>

using namespace lowbit;
using namespace lowbit::onnx;

namespace {
/// Rows of `length` numbers of 2, 4 or 8 bits; each row starts at a byte, its first number in the
/// lowest bits.
struct PackedRows {
  ArrayRef<char> bytes;
  int64_t bits, length;

  int64_t bytesPerRow() const { return (length * bits + 7) / 8; }
  uint8_t at(int64_t row, int64_t i) const {
    auto byte = (uint8_t)bytes[row * bytesPerRow() + i * bits / 8];
    return byte >> (i * bits % 8) & ((1 << bits) - 1);
  }
};

/// A matrix of weights with one scale (and zero point) for each block of a row.
struct BlockedWeights {
  int64_t rows, columns, block, bits;
  std::vector<uint8_t> q;  ///< [rows, columns], unsigned.
  std::vector<float> zero; ///< [rows, blocks]; may lie between the integers.
  bool middle = false;     ///< Every zero point is the middle of the range.
  int64_t blocks() const { return (columns + block - 1) / block; }
};
} // namespace

template <typename T>
static std::vector<T> transposed(ArrayRef<T> values, int64_t rows, int64_t columns) {
  std::vector<T> result(values.size());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      result[j * rows + i] = values[i * columns + j];
  return result;
}

static std::vector<char> transposedBytes(ArrayRef<char> bytes, int64_t rows, int64_t columns) {
  int64_t width = bytes.size() / (rows * columns);
  std::vector<char> result(bytes.size());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      std::copy_n(bytes.data() + (i * columns + j) * width, width,
                  result.data() + (j * rows + i) * width);
  return result;
}

static ArrayRef<char> asBytes(const std::vector<uint8_t> &values) {
  return {reinterpret_cast<const char *>(values.data()), values.size()};
}

/// The weights dequantized, [columns, rows] where `transpose` is set: by DequantizeLinear where its
/// zero points can be said, as float constants where they lie between the integers.
static Value dequantized(Contrib &c, BlockedWeights &w, const ConstantData &scale, bool transpose,
                         StringRef name) {
  Builder &b = c.builder;
  Type scaleType = scale.getType().getElementType();
  int64_t rows = w.rows, columns = w.columns, blocks = w.blocks();
  auto shape = [&](int64_t width) {
    return transpose ? SmallVector<int64_t>{width, rows} : SmallVector<int64_t>{rows, width};
  };
  bool whole = llvm::all_of(w.zero, [&](float zero) {
    return zero == std::floor(zero) && zero >= 0 && zero < (1 << w.bits);
  });
  if (!whole) {
    std::vector<float> scales = scale.toFloats(), values(w.q.size());
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t k = 0; k < columns; ++k) {
        int64_t at = i * blocks + k / w.block;
        values[i * columns + k] = ((float)w.q[i * columns + k] - w.zero[at]) * scales[at];
      }
    if (transpose)
      values = transposed(ArrayRef<float>(values), rows, columns);
    auto type = RankedTensorType::get(shape(columns), b.getF32Type());
    ArrayRef<char> bytes(reinterpret_cast<const char *>(values.data()),
                         values.size() * sizeof(float));
    return c.cast(c.tensor(type, bytes, name), scaleType, "weight");
  }
  // 2 bits have no type of their own; 4 hold them.
  int64_t width = w.bits == 8 ? 8 : 4;
  int middle = 1 << (w.bits - 1);
  Type element = w.middle ? b.getIntegerType(width) : b.getIntegerType(width, /*isSigned=*/false);
  std::vector<uint8_t> q = w.q;
  if (w.middle)
    for (uint8_t &value : q)
      value = (uint8_t)(value - middle);
  if (transpose)
    q = transposed(ArrayRef<uint8_t>(q), rows, columns);
  SmallVector<Value> operands = {
      c.tensor(RankedTensorType::get(shape(columns), element), asBytes(q), name)};
  std::vector<char> scales(scale.bytes().begin(), scale.bytes().end());
  if (transpose)
    scales = transposedBytes(scales, rows, blocks);
  operands.push_back(
      c.tensor(RankedTensorType::get(shape(blocks), scaleType), scales, (name + ".scale").str()));
  if (!w.middle) {
    std::vector<uint8_t> zero(w.zero.begin(), w.zero.end());
    if (transpose)
      zero = transposed(ArrayRef<uint8_t>(zero), rows, blocks);
    operands.push_back(c.tensor(RankedTensorType::get(shape(blocks), element), asBytes(zero),
                                (name + ".zero").str()));
  }
  return c.make("DequantizeLinear", operands, "dequantize",
                {c.attr("axis", int64_t(transpose ? 0 : 1)), c.attr("block_size", w.block)});
}

/// The zero points of `w` from an operand: packed like the weights, or one number of the scales'
/// type each.
static LogicalResult readZeros(Contrib &c, BlockedWeights &w, Value operand) {
  int64_t blocks = w.blocks();
  float middle = 1 << (w.bits - 1);
  w.zero.assign(w.rows * blocks, middle);
  if (operand) {
    std::optional<ConstantData> data = ConstantData::get(operand);
    if (!data)
      return failure();
    if (isa<FloatType>(data->getType().getElementType())) {
      if (data->getType().getNumElements() != w.rows * blocks)
        return c.invalid(
            "has zero points of the wrong size: " + Twine(data->getType().getNumElements()) +
            ", not " + Twine(w.rows * blocks));
      w.zero = data->toFloats();
    } else {
      PackedRows packed{data->bytes(), w.bits, blocks};
      if (!data->getType().getElementType().isInteger(8) ||
          data->getType().getNumElements() != w.rows * packed.bytesPerRow())
        return c.invalid("has zero points of the wrong type or size");
      for (int64_t i = 0; i < w.rows; ++i)
        for (int64_t j = 0; j < blocks; ++j)
          w.zero[i * blocks + j] = packed.at(i, j);
    }
  }
  w.middle = llvm::all_of(w.zero, [&](float zero) { return zero == middle; });
  return success();
}

static bool isConstant(Value value) { return !value || ConstantData::get(value); }

static std::string weightName(Contrib &c, Value weight) {
  auto name = weight.getDefiningOp()->getAttrOfType<StringAttr>("onnx_name");
  return name ? name.str() : c.node.name + ".weight";
}

/// (A, B, scales, zero_points, g_idx, bias): A times the transposed weights B [N, blocks, bytes of
/// a block].
static LogicalResult matMulNBits(Contrib &c) {
  int64_t n = c.takeInt("N", 0), k = c.takeInt("K", 0), bits = c.takeInt("bits", 4);
  int64_t block = c.takeInt("block_size", 0), accuracy = c.takeInt("accuracy_level", 0);
  if (c.takeInt("weight_prepacked", 0))
    return c.refuse(
        "weights packed for one kernel of onnxruntime (weight_prepacked) are not supported");
  if (c.in(4))
    return c.refuse("the deprecated input g_idx is not supported");
  if (bits != 2 && bits != 4 && bits != 8)
    return c.refuse(Twine(bits) + "-bit weights are not supported");
  if (!c.in(0) || !c.in(1) || !c.in(2))
    return c.invalid("lacks an input");
  if (!isConstant(c.in(1)) || !isConstant(c.in(2)) || !isConstant(c.in(3)))
    return c.refuse("weights that are not constant are not supported");
  if (n < 1 || k < 1 || block < 16 || (block & (block - 1)) || n > INT32_MAX || k > INT32_MAX ||
      block > INT32_MAX)
    return c.invalid("has N = " + Twine(n) + ", K = " + Twine(k) +
                     " and block_size = " + Twine(block));
  BlockedWeights w{n, k, block, bits, {}, {}};
  int64_t blocks = w.blocks(), blob = block * bits / 8;
  std::optional<ConstantData> packed = ConstantData::get(c.in(1)),
                              scale = ConstantData::get(c.in(2));
  RankedTensorType type = packed->getType();
  if (type.getNumElements() == 0)
    return c.refuse("weights that are left out (B of no elements) are not supported");
  if (!type.getElementType().isUnsignedInteger(8) || type.getNumElements() != n * blocks * blob ||
      type.getDimSize(0) != n)
    return c.invalid("has weights that are not u8 [" + Twine(n) + ", " + Twine(blocks) + ", " +
                     Twine(blob) + "]");
  if (!isa<FloatType>(scale->getType().getElementType()) ||
      scale->getType().getNumElements() != n * blocks)
    return c.invalid("has " + Twine(scale->getType().getNumElements()) + " scales, not " +
                     Twine(n) + " times " + Twine(blocks));
  PackedRows rows{packed->bytes(), bits, blocks * block};
  w.q.resize(n * k);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < k; ++j)
      w.q[i * k + j] = rows.at(i, j);
  if (failed(readZeros(c, w, c.in(3))))
    return failure();
  if (accuracy == 4)
    emitRemark(c.node.loc)
        << "MatMulNBits asks for 8-bit activations (accuracy_level = 4); its activations stay in "
           "float, which is more accurate";
  Value weights = dequantized(c, w, *scale, /*transpose=*/true, weightName(c, c.in(1)));
  Value y = c.make("MatMul", {c.in(0), weights}, "");
  if (Value bias = c.in(5))
    y = c.make("Add", {y, bias}, "bias");
  return c.give(y);
}

/// (data, indices, scales, zero_points): rows of a table in blocks; an index outside of the table
/// gives zeros.
static LogicalResult gatherBlockQuantized(Contrib &c) {
  int64_t bits = c.takeInt("bits", 4), block = c.takeInt("block_size", 128);
  int64_t gatherAxis = c.takeInt("gather_axis", 0), axis = c.takeInt("quantize_axis", 1);
  Value data = c.in(0), indices = c.in(1);
  if (!data || !indices || !c.in(2))
    return c.invalid("lacks an input");
  if (!isConstant(data) || !isConstant(c.in(2)) || !isConstant(c.in(3)))
    return c.refuse("tables that are not constant are not supported");
  if (block < 16 || (block & (block - 1)) || block > INT32_MAX)
    return c.refuse("block_size = " + Twine(block) + " is not supported");
  std::optional<ConstantData> table = ConstantData::get(data), scale = ConstantData::get(c.in(2));
  RankedTensorType type = table->getType();
  Type element = type.getElementType();
  int64_t rank = type.getRank();
  gatherAxis += gatherAxis < 0 ? rank : 0;
  axis += axis < 0 ? rank : 0;
  if (axis < 0 || axis >= rank || gatherAxis < 0 || gatherAxis >= rank || axis == gatherAxis)
    return c.invalid("has gather_axis or quantize_axis out of range");
  Value values;
  if (element.isUnsignedInteger(8)) {
    // Several numbers to a byte along the last dim; without zero points the middle stands for 0.
    if (bits != 2 && bits != 4 && bits != 8)
      return c.refuse(Twine(bits) + "-bit tables are not supported");
    if (rank != 2 || axis != 1)
      return c.refuse(
          "packed tables other than matrices with blocks along their rows are not supported");
    BlockedWeights w{type.getDimSize(0), type.getDimSize(1) * 8 / bits, block, bits, {}, {}};
    if (scale->getType().getNumElements() != w.rows * w.blocks())
      return c.invalid("has " + Twine(scale->getType().getNumElements()) + " scales, not " +
                       Twine(w.rows) + " times " + Twine(w.blocks()));
    PackedRows rows{table->bytes(), bits, w.columns};
    w.q.resize(w.rows * w.columns);
    for (int64_t i = 0; i < w.rows; ++i)
      for (int64_t j = 0; j < w.columns; ++j)
        w.q[i * w.columns + j] = rows.at(i, j);
    if (failed(readZeros(c, w, c.in(3))))
      return failure();
    values = dequantized(c, w, *scale, /*transpose=*/false, weightName(c, data));
  } else if (element.isInteger(4) || element.isInteger(8)) {
    SmallVector<Value> operands = {data, c.in(2)};
    if (c.in(3))
      operands.push_back(c.in(3));
    values = c.make("DequantizeLinear", operands, "dequantize",
                    {c.attr("axis", axis), c.attr("block_size", block)});
  } else {
    return c.refuse("tables of this type are not supported");
  }
  // Unlike Gather's, an index outside of the table is no error.
  Type indexType = c.element(1);
  int64_t size = type.getDimSize(gatherAxis);
  Value low = c.scalar(indexType, -(double)size), high = c.scalar(indexType, (double)size);
  Value notBelow = c.make("GreaterOrEqual", {indices, low}, "not_below");
  Value inside = c.make("And", {notBelow, c.make("Less", {indices, high}, "below")}, "inside");
  Value safe = c.make("Where", {inside, indices, c.scalar(indexType, 0)}, "index");
  Value rows = c.make("Gather", {values, safe}, "", c.attr("axis", gatherAxis));
  SmallVector<int64_t> behind;
  for (int64_t i = gatherAxis + 1; i < rank; ++i)
    behind.push_back(-int64_t(behind.size()) - 1);
  if (!behind.empty())
    inside = c.unsqueeze(inside, behind, "inside_rows");
  Type result = scale->getType().getElementType();
  return c.give(c.make("Where", {inside, rows, c.scalar(result, 0)}, "rows"));
}

void lowbit::onnx::addContribWeights(ContribTable &table) {
  table["com.microsoft/GatherBlockQuantized"] = gatherBlockQuantized;
  table["com.microsoft/MatMulNBits"] = matMulNBits;
}
