//===- ContribElementwise.cpp - onnxruntime's activations and normalizations -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Contrib.h"
#include "llvm/ADT/STLExtras.h"

using namespace lowbit;
using namespace lowbit::onnx;

static LogicalResult gelu(Contrib &c) {
  return c.rename("Gelu", c.attr("approximate", StringRef("none")));
}

static LogicalResult biasGelu(Contrib &c) {
  Value sum = c.make("Add", {c.in(0), c.in(1)}, "bias");
  return c.give(c.make("Gelu", {sum}, "", c.attr("approximate", StringRef("none"))));
}

static LogicalResult fastGelu(Contrib &c) {
  Value x = c.in(0);
  if (c.in(1))
    x = c.make("Add", {x, c.in(1)}, "bias");
  return c.give(c.make("Gelu", {x}, "", c.attr("approximate", StringRef("tanh"))));
}

/// x * sigmoid(alpha * x)
static LogicalResult quickGelu(Contrib &c) {
  return c.rename("Swish", c.attr("alpha", c.takeFloat("alpha", 1.702f)));
}

/// (input, skip, gamma, beta, bias) with the mean, (input, skip, gamma, bias) without.
static LogicalResult skipNorm(Contrib &c, bool centered) {
  if (c.uses(1) || c.uses(2))
    return c.refuse("the outputs mean and inv_std_var are not supported");
  double epsilon = c.takeFloat("epsilon", 1e-12f);
  if (!c.in(0) || !c.in(1) || !c.in(2))
    return c.invalid("lacks an input");
  Value sum = c.make("Add", {c.in(0), c.in(1)}, "skip");
  if (Value bias = c.in(centered ? 4 : 3))
    sum = c.make("Add", {sum, bias}, "bias");
  NamedAttribute attrs[] = {c.attr("axis", int64_t(-1)), c.attr("epsilon", epsilon)};
  SmallVector<Value> operands = {sum, c.in(2)};
  if (centered && c.in(3))
    operands.push_back(c.in(3));
  Value y = c.make(centered ? "LayerNormalization" : "RMSNormalization", operands, "", attrs);
  return c.give({y, Value(), Value(), sum});
}

static LogicalResult skipLayerNorm(Contrib &c) { return skipNorm(c, true); }
static LogicalResult skipSimplifiedLayerNorm(Contrib &c) { return skipNorm(c, false); }

static LogicalResult embedLayerNorm(Contrib &c) {
  double epsilon = c.takeFloat("epsilon", 1e-12f);
  c.takeInt("mask_index_type", 0);
  Value ids = c.in(0), segments = c.in(1), words = c.in(2), positions = c.in(3), table = c.in(4);
  Value mask = c.in(7), given = c.in(8);
  if (!ids || !words || !positions || !c.in(5) || !c.in(6) || (segments && !table))
    return c.invalid("lacks an input");
  NamedAttribute first = c.attr("axis", int64_t(0));
  Value sum = c.make("Gather", {words, ids}, "word", first), position;
  if (given)
    position = c.make("Gather", {positions, given}, "position", first);
  else
    position =
        c.make("Slice", {positions, c.ints({0}), c.dim(ids, 1, "length"), c.ints({0})}, "position");
  sum = c.make("Add", {sum, position}, "add_position");
  if (segments)
    sum =
        c.make("Add", {sum, c.make("Gather", {table, segments}, "segment", first)}, "add_segment");
  NamedAttribute attrs[] = {c.attr("axis", int64_t(-1)), c.attr("epsilon", epsilon)};
  Value y = c.make("LayerNormalization", {sum, c.in(5), c.in(6)}, "", attrs), index;
  if (c.uses(1)) {
    Type i32 = c.builder.getI32Type();
    if (mask)
      index = c.make("ReduceSum", {c.cast(mask, i32, "mask"), c.ints({1})}, "mask_index",
                     c.attr("keepdims", int64_t(0)));
    else
      index = c.make("Expand", {c.scalar(i32, 0), c.dim(ids, 0, "batch")}, "mask_index");
  }
  return c.give({y, index, c.uses(2) ? sum : Value()});
}

static LogicalResult fusedMatMul(Contrib &c) {
  double alpha = c.takeFloat("alpha", 1);
  SmallVector<Value> operands = {c.in(0), c.in(1)};
  for (unsigned i : {0u, 1u}) {
    StringRef side = i ? "B" : "A";
    bool swap = c.takeInt(("trans" + side).str(), 0),
         batch = c.takeInt(("transBatch" + side).str(), 0);
    if (!swap && !batch)
      continue;
    std::optional<int64_t> rank = knownRank(operands[i]);
    if (!rank)
      return c.refuse("the rank of " + side + " is not known, so it cannot be transposed");
    if (*rank < 2)
      continue;
    SmallVector<int64_t> perm = llvm::to_vector(llvm::seq<int64_t>(*rank));
    if (batch) // The first dim goes behind the other batch dims.
      std::rotate(perm.begin(), perm.begin() + 1, perm.end() - 1);
    if (swap)
      std::swap(perm[*rank - 2], perm[*rank - 1]);
    operands[i] = c.transpose(operands[i], perm, ("transpose" + side).str());
  }
  Value y = c.make("MatMul", operands, "");
  if (alpha != 1) {
    if (!isa<FloatType>(c.element(0)))
      return c.refuse("a factor alpha for integers is not supported");
    y = c.make("Mul", {y, c.scalar(c.element(0), alpha)}, "alpha");
  }
  return c.give(y);
}

/// onnxruntime's forms of 16-bit types, now those of ONNX. Without an axis the scale is a scalar.
static LogicalResult quantizeLinear(Contrib &c) {
  return c.rename("QuantizeLinear", c.attr("axis", c.takeInt("axis", 1)));
}
static LogicalResult dequantizeLinear(Contrib &c) {
  return c.rename("DequantizeLinear", c.attr("axis", c.takeInt("axis", 1)));
}

void lowbit::onnx::addContribElementwise(ContribTable &table) {
  table["com.microsoft/BiasGelu"] = biasGelu;
  table["com.microsoft/DequantizeLinear"] = dequantizeLinear;
  table["com.microsoft/EmbedLayerNormalization"] = embedLayerNorm;
  table["com.microsoft/FastGelu"] = fastGelu;
  table["com.microsoft/FusedMatMul"] = fusedMatMul;
  table["com.microsoft/Gelu"] = gelu;
  table["com.microsoft/QuantizeLinear"] = quantizeLinear;
  table["com.microsoft/QuickGelu"] = quickGelu;
  table["com.microsoft/SkipLayerNormalization"] = skipLayerNorm;
  table["com.microsoft/SkipSimplifiedLayerNormalization"] = skipSimplifiedLayerNorm;
  // Files that onnxruntime's optimizer wrote have these in ONNX's own domain.
  table["/SkipLayerNormalization"] = skipLayerNorm;
  table["/SkipSimplifiedLayerNormalization"] = skipSimplifiedLayerNorm;
}
