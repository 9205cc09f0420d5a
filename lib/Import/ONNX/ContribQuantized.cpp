//===- ContribQuantized.cpp - operators on integers with scales -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// QLinearConv, QLinearAdd and their like say in one node what QuantizeLinear and
// DequantizeLinear around a float operator say. They become just that, so that one
// way leads to integer kernels. The float operator keeps the node's name.
//
//===----------------------------------------------------------------------===//
#include "Contrib.h"
#include "llvm/ADT/StringExtras.h"

using namespace lowbit;
using namespace lowbit::onnx;

/// (q - zero) * scale; `axis` is that of scales of rank 1.
static Value dequantize(Contrib &c, Value q, Value scale, Value zero, const Twine &suffix,
                        int64_t axis = 0) {
  return c.make("DequantizeLinear", {q, scale, zero}, suffix.str(), c.attr("axis", axis));
}

/// Inputs first, first + 1 and first + 2 as one real tensor.
static Value realInput(Contrib &c, size_t first, const Twine &suffix, int64_t axis = 0) {
  return dequantize(c, c.in(first), c.in(first + 1), c.in(first + 2), suffix, axis);
}

/// `x` in the integers of inputs scale and scale + 1; without a zero point in the type of input
/// `like`.
static Value quantize(Contrib &c, Value x, size_t scale, size_t like, int64_t axis = 0) {
  SmallVector<NamedAttribute> attrs = {c.attr("axis", axis)};
  if (!c.in(scale + 1) && c.element(like)) // UINT8 and INT8 of TensorProto.DataType.
    attrs.push_back(c.attr("output_dtype", int64_t(c.element(like).isUnsignedInteger() ? 2 : 3)));
  return c.make("QuantizeLinear", {x, c.in(scale), c.in(scale + 1)}, "quantize", attrs);
}

static bool lacks(Contrib &c, ArrayRef<size_t> inputs) {
  return llvm::any_of(inputs, [&](size_t i) { return !c.in(i); });
}

/// The attributes of a window, as they are.
static void takeWindow(Contrib &c, SmallVectorImpl<NamedAttribute> &attrs) {
  for (StringRef name : {"dilations", "kernel_shape", "pads", "strides"})
    if (c.rest().get(name))
      attrs.push_back(c.attr(name, ArrayRef<int64_t>(c.takeInts(name))));
  if (c.rest().get("auto_pad"))
    attrs.push_back(c.attr("auto_pad", c.takeString("auto_pad", "NOTSET")));
}

/// (x, scale, zero, w, scale, zero, y_scale, y_zero, bias): the bias has the accumulator's scale.
static LogicalResult qlinearConv(Contrib &c) {
  if (lacks(c, {0, 1, 3, 4, 6, 7}))
    return c.invalid("lacks an input");
  if (c.takeInt("channels_last", 0))
    return c.refuse("channels_last is not supported");
  SmallVector<NamedAttribute> attrs = {c.attr("group", c.takeInt("group", 1))};
  takeWindow(c, attrs);
  SmallVector<Value> operands = {realInput(c, 0, "x"), realInput(c, 3, "w")};
  if (c.in(8))
    operands.push_back(
        dequantize(c, c.in(8), c.make("Mul", {c.in(1), c.in(4)}, "b_scale"), Value(), "b"));
  return c.give(quantize(c, c.make("Conv", operands, "", attrs), 6, 0));
}

/// (a, scale, zero, b, scale, zero, y_scale, y_zero); scales of rank 1 are per row of a and per
/// column of b.
static LogicalResult qlinearMatMul(Contrib &c) {
  if (lacks(c, {0, 1, 3, 4, 6, 7}))
    return c.invalid("lacks an input");
  Value y = c.make("MatMul", {realInput(c, 0, "a", -2), realInput(c, 3, "b", -1)}, "");
  return c.give(quantize(c, y, 6, 0, -2));
}

/// (A, scale, zero, B, scale, zero, C, y_scale, y_zero): alpha goes into B's scale, and so into
/// C's.
static LogicalResult qgemm(Contrib &c) {
  double alpha = c.takeFloat("alpha", 1);
  int64_t transA = c.takeInt("transA", 0), transB = c.takeInt("transB", 0);
  if (lacks(c, {0, 1, 3, 4}))
    return c.invalid("lacks an input");
  Value scale = c.in(4);
  if (alpha != 1)
    scale = c.make("Mul", {scale, c.scalar(c.element(4), alpha)}, "b_alpha");
  SmallVector<Value> operands = {realInput(c, 0, "a"),
                                 dequantize(c, c.in(3), scale, c.in(5), "b", transB ? 0 : 1)};
  if (c.in(6))
    operands.push_back(
        dequantize(c, c.in(6), c.make("Mul", {c.in(1), scale}, "c_scale"), Value(), "c", -1));
  Value y = c.make("Gemm", operands, "", {c.attr("transA", transA), c.attr("transB", transB)});
  return c.give(c.in(7) ? quantize(c, y, 7, 0) : y);
}

/// Two operands: (A, scale, zero, B, scale, zero, c_scale, c_zero).
template <bool multiplies>
static LogicalResult qlinearBinary(Contrib &c) {
  if (lacks(c, {0, 1, 3, 4, 6}))
    return c.invalid("lacks an input");
  return c.give(quantize(
      c, c.make(multiplies ? "Mul" : "Add", {realInput(c, 0, "a"), realInput(c, 3, "b")}, ""), 6,
      0));
}

/// One operand: (x, scale, zero, y_scale, y_zero).
static LogicalResult qlinearUnary(Contrib &c, StringRef op, ArrayRef<NamedAttribute> attrs = {}) {
  if (lacks(c, {0, 1, 3}))
    return c.invalid("lacks an input");
  return c.give(quantize(c, c.make(op, {realInput(c, 0, "x")}, "", attrs), 3, 0));
}

static LogicalResult qlinearSigmoid(Contrib &c) { return qlinearUnary(c, "Sigmoid"); }

static LogicalResult qlinearLeakyRelu(Contrib &c) {
  return qlinearUnary(c, "LeakyRelu", c.attr("alpha", c.takeFloat("alpha", 0.01f)));
}

static LogicalResult qlinearSoftmax(Contrib &c) {
  int64_t axis = c.takeInt("axis", -1), opset = c.takeInt("opset", 13);
  if (opset < 13 && axis != -1 && knownRank(c.in(0)) != axis + 1)
    return c.refuse("the Softmax of opset " + Twine(opset) +
                    ", which flattens its input, is not supported");
  return qlinearUnary(c, "Softmax", c.attr("axis", axis));
}

static LogicalResult qlinearAveragePool(Contrib &c) {
  if (c.takeInt("channels_last", 0))
    return c.refuse("channels_last is not supported");
  SmallVector<NamedAttribute> attrs = {
      c.attr("ceil_mode", c.takeInt("ceil_mode", 0)),
      c.attr("count_include_pad", c.takeInt("count_include_pad", 0))};
  takeWindow(c, attrs);
  return qlinearUnary(c, "AveragePool", attrs);
}

static LogicalResult qlinearGlobalAveragePool(Contrib &c) {
  if (c.takeInt("channels_last", 0))
    return c.refuse("channels_last is not supported");
  return qlinearUnary(c, "GlobalAveragePool");
}

static LogicalResult qlinearReduceMean(Contrib &c) {
  if (lacks(c, {0, 1, 3}))
    return c.invalid("lacks an input");
  SmallVector<int64_t> axes = c.takeInts("axes");
  SmallVector<Value> operands = {realInput(c, 0, "x")};
  if (!axes.empty())
    operands.push_back(c.ints(axes));
  Value y = c.make("ReduceMean", operands, "", c.attr("keepdims", c.takeInt("keepdims", 1)));
  return c.give(quantize(c, y, 3, 0));
}

/// (condition, X, scale, zero, Y, scale, zero, z_scale, z_zero).
static LogicalResult qlinearWhere(Contrib &c) {
  if (lacks(c, {0, 1, 2, 4, 5, 7}))
    return c.invalid("lacks an input");
  return c.give(quantize(
      c, c.make("Where", {c.in(0), realInput(c, 1, "x"), realInput(c, 4, "y")}, ""), 7, 1));
}

/// (y_scale, y_zero, then each part with its scale and zero).
static LogicalResult qlinearConcat(Contrib &c) {
  size_t count = c.node.operands.size();
  if (lacks(c, {0, 2, 3}) || count % 3 != 2)
    return c.invalid("lacks an input");
  SmallVector<Value> parts;
  for (size_t i = 2; i < count; i += 3) {
    if (lacks(c, {i, i + 1}))
      return c.invalid("lacks an input");
    parts.push_back(realInput(c, i, "part" + Twine(i / 3)));
  }
  return c.give(
      quantize(c, c.make("Concat", parts, "", c.attr("axis", c.takeInt("axis", 0))), 0, 2));
}

//===----------------------------------------------------------------------===//
// Scales from the run
//===----------------------------------------------------------------------===//

/// u8 integers of `x`, their scale and zero point: the range with 0 in it, in 255 steps; a range of
/// zeros has scale 1.
static SmallVector<Value> quantizeDynamically(Contrib &c, Value x, StringRef suffix) {
  Type f32 = c.builder.getF32Type();
  Value zero = c.scalar(f32, 0), most = c.scalar(f32, 255);
  NamedAttribute all = c.attr("keepdims", int64_t(0));
  Value high = c.make("Max", {c.make("ReduceMax", {x}, "reduce_max", all), zero}, "max");
  Value low = c.make("Min", {c.make("ReduceMin", {x}, "reduce_min", all), zero}, "min");
  Value range = c.make("Sub", {high, low}, "range");
  Value scale = c.make("Where",
                       {c.make("Equal", {range, zero}, "is_zero"), c.scalar(f32, 1),
                        c.make("Div", {range, most}, "step")},
                       "scale");
  Value start = c.make("Sub", {zero, c.make("Div", {low, scale}, "low")}, "start");
  Value rounded = c.make("Round", {c.make("Clip", {start, zero, most}, "clip")}, "round");
  Value point = c.cast(rounded, c.builder.getIntegerType(8, /*isSigned=*/false), "zero_point");
  return {c.make("QuantizeLinear", {x, scale, point}, suffix), scale, point};
}

static LogicalResult dynamicQuantizeLinear(Contrib &c) {
  if (lacks(c, {0}))
    return c.invalid("lacks an input");
  if (!c.element(0) || !c.element(0).isF32())
    return c.refuse("elements cannot be of this type");
  return c.give(quantizeDynamically(c, c.in(0), ""));
}

/// (A, B, b_scale, b_zero, bias) on float A.
static LogicalResult dynamicQuantizeMatMul(Contrib &c) {
  if (lacks(c, {0, 1, 2}))
    return c.invalid("lacks an input");
  if (!c.element(0) || !c.element(0).isF32())
    return c.refuse("elements cannot be of this type");
  SmallVector<Value> a = quantizeDynamically(c, c.in(0), "quantize");
  Value y = c.make(
      "MatMul",
      {dequantize(c, a[0], a[1], a[2], "a"), dequantize(c, c.in(1), c.in(2), c.in(3), "b", -1)},
      "");
  return c.give(c.in(4) ? c.make("Add", {y, c.in(4)}, "bias") : y);
}

/// (A, B, a_scale, b_scale, a_zero, b_zero, bias).
static LogicalResult matMulIntegerToFloat(Contrib &c) {
  if (lacks(c, {0, 1, 2, 3}))
    return c.invalid("lacks an input");
  Value y = c.make("MatMul",
                   {dequantize(c, c.in(0), c.in(2), c.in(4), "a", -2),
                    dequantize(c, c.in(1), c.in(3), c.in(5), "b", -1)},
                   "");
  return c.give(c.in(6) ? c.make("Add", {y, c.in(6)}, "bias") : y);
}

void lowbit::onnx::addContribQuantized(ContribTable &table) {
  table["/DynamicQuantizeLinear"] = dynamicQuantizeLinear;
  // The optimizer of onnxruntime writes its own operators into ONNX's domain too.
  for (StringRef domain : {"/", "com.microsoft/"}) {
    auto add = [&](StringRef name, ContribFunction function) {
      table[(domain + name).str()] = function;
    };
    add("DynamicQuantizeMatMul", dynamicQuantizeMatMul);
    add("MatMulIntegerToFloat", matMulIntegerToFloat);
    add("QGemm", qgemm);
    add("QLinearAdd", qlinearBinary<false>);
    add("QLinearAveragePool", qlinearAveragePool);
    add("QLinearConcat", qlinearConcat);
    add("QLinearConv", qlinearConv);
    add("QLinearGlobalAveragePool", qlinearGlobalAveragePool);
    add("QLinearLeakyRelu", qlinearLeakyRelu);
    add("QLinearMatMul", qlinearMatMul);
    add("QLinearMul", qlinearBinary<true>);
    add("QLinearReduceMean", qlinearReduceMean);
    add("QLinearSigmoid", qlinearSigmoid);
    add("QLinearSoftmax", qlinearSoftmax);
    add("QLinearWhere", qlinearWhere);
  }
}
