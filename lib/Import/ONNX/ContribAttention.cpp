//===- ContribAttention.cpp - attention operators beside ONNX's own -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Contrib.h"

using namespace lowbit;
using namespace lowbit::onnx;

/// The mask that is added to scores, from one of onnxruntime's: lengths [B], keys [B, T] or pairs
/// [B, S, T], where what is not positive gets `filter`. `keys` is a tensor whose dim `keyDim` (and
/// that of `past`) counts the keys.
static Value additiveMask(Contrib &c, Value mask, int64_t rank, Value total, Type element,
                          double filter) {
  Type i64 = c.builder.getI64Type();
  Value allowed;
  if (rank == 1) {
    Value zero = c.scalar(i64, 0), one = c.scalar(i64, 1);
    Value line = c.make("Range", {zero, c.make("Squeeze", {total, c.ints({0})}, "mask_keys"), one},
                        "mask_range");
    Value lengths = c.unsqueeze(c.cast(mask, i64, "mask_i64"), {1}, "mask_lengths");
    allowed = c.make("Less", {line, lengths}, "mask_valid");
  } else {
    Value zero = c.scalar(cast<ShapedType>(mask.getType()).getElementType(), 0);
    allowed = c.make("Greater", {mask, zero}, "mask_valid");
  }
  allowed =
      c.unsqueeze(allowed, rank == 3 ? ArrayRef<int64_t>{1} : ArrayRef<int64_t>{1, 2}, "mask_4d");
  return c.make("Where", {allowed, c.scalar(element, 0), c.scalar(element, filter)}, "mask");
}

/// Keys in this call and before it, a tensor of one element.
static Value totalKeys(Contrib &c, Value keys, int64_t dim, Value past) {
  Value total = c.dim(keys, dim, "keys");
  if (past)
    total = c.make("Add", {total, c.dim(past, 2, "past_keys")}, "total_keys");
  return total;
}

static FailureOr<Value> masks(Contrib &c, Value mask, Value bias, Value total, double filter) {
  Type element = c.element(0);
  Value sum;
  if (mask) {
    std::optional<int64_t> rank = knownRank(mask);
    if (!rank || *rank < 1 || *rank > 3) {
      (void)c.refuse(rank ? "a mask of rank " + Twine(*rank) + " is not supported"
                          : Twine("the rank of its mask is not known"));
      return failure();
    }
    sum = additiveMask(c, mask, *rank, total, element, filter);
  }
  if (bias)
    sum = sum ? c.make("Add", {sum, bias}, "mask_and_bias") : bias;
  return sum;
}

static LogicalResult multiHeadAttention(Contrib &c) {
  int64_t heads = c.takeInt("num_heads", 0), causal = c.takeInt("unidirectional", 0);
  double filter = c.takeFloat("mask_filter_value", -10000);
  std::optional<double> scale = c.takeFloat("scale");
  if (heads < 1 || heads > INT32_MAX || !c.in(0))
    return c.invalid("has num_heads = " + Twine(heads) + " or lacks an input");
  if (!c.in(1) || !c.in(2))
    return c.refuse("packed queries, keys and values in one input are not supported");
  if (c.in(8) || c.in(9))
    return c.refuse(
        "a shared cache buffer (past_sequence_length, cache_indirection) is not supported");
  if (c.uses(3))
    return c.refuse("the output qk is not supported");
  if (!c.in(6) != !c.in(7))
    return c.invalid("lacks an input");
  std::optional<int64_t> keyRank = knownRank(c.in(1));
  if (keyRank && *keyRank == 5)
    return c.refuse("packed keys and values in one input are not supported");
  // Keys of rank 4 are already split into heads.
  bool split = keyRank && *keyRank == 4;
  Value q = c.in(0), k = c.in(1), v = c.in(2);
  if (Value bias = c.in(3)) {
    if (split)
      return c.refuse("a bias with keys of rank 4 is not supported");
    Value first = c.dim(q, 2, "q_size"), second = c.dim(k, 2, "k_size"),
          third = c.dim(v, 2, "v_size");
    Value sizes =
        c.make("Concat", {first, second, third}, "bias_sizes", c.attr("axis", int64_t(0)));
    SmallVector<Value> parts = c.makeSome("Split", {bias, sizes}, "bias_split",
                                          c.attr("axis", int64_t(0)), {true, true, true});
    q = c.make("Add", {q, parts[0]}, "q_bias");
    k = c.make("Add", {k, parts[1]}, "k_bias");
    v = c.make("Add", {v, parts[2]}, "v_bias");
  }
  FailureOr<Value> mask =
      masks(c, c.in(4), c.in(5), totalKeys(c, k, split ? 2 : 1, c.in(6)), filter);
  if (failed(mask))
    return success();
  SmallVector<NamedAttribute> attrs = {c.attr("is_causal", causal)};
  if (scale && *scale != 0)
    attrs.push_back(c.attr("scale", *scale));
  if (split) {
    q = c.transpose(c.reshape(q, {0, 0, heads, -1}, "q"), {0, 2, 1, 3}, "q_transpose");
  } else {
    attrs.push_back(c.attr("kv_num_heads", heads));
    attrs.push_back(c.attr("q_num_heads", heads));
  }
  SmallVector<Value> results = c.makeSome("Attention", {q, k, v, *mask, c.in(6), c.in(7)}, "",
                                          attrs, {true, c.uses(1), c.uses(2)});
  if (split)
    results[0] = c.reshape(c.transpose(results[0], {0, 2, 1, 3}, "y_transpose"), {0, 0, -1}, "y");
  return c.give(results);
}

/// (input, weights, bias, mask_index, past, attention_bias, past_sequence_length): the projection
/// as well.
static LogicalResult attention(Contrib &c) {
  int64_t heads = c.takeInt("num_heads", 0), causal = c.takeInt("unidirectional", 0);
  double filter = c.takeFloat("mask_filter_value", -10000);
  std::optional<double> scale = c.takeFloat("scale");
  SmallVector<int64_t> sizes = c.takeInts("qkv_hidden_sizes");
  if (heads < 1 || heads > INT32_MAX || !c.in(0) || !c.in(1) ||
      (!sizes.empty() && sizes.size() != 3))
    return c.invalid("has wrong attributes or lacks an input");
  if (c.takeInt("do_rotary", 0))
    return c.refuse("do_rotary is not supported");
  if (c.takeInt("past_present_share_buffer", 0) || c.in(6))
    return c.refuse("a shared cache buffer is not supported");
  c.takeInt("rotary_embedding_dim", 0);
  Value all = c.make("MatMul", {c.in(0), c.in(1)}, "qkv");
  if (c.in(2))
    all = c.make("Add", {all, c.in(2)}, "qkv_bias");
  SmallVector<Value> operands = {all};
  SmallVector<NamedAttribute> splitAttrs = {c.attr("axis", int64_t(2))};
  if (!sizes.empty())
    operands.push_back(c.ints(sizes));
  else
    splitAttrs.push_back(c.attr("num_outputs", int64_t(3)));
  SmallVector<Value> parts = c.makeSome("Split", operands, "split", splitAttrs, {true, true, true});
  Value pastK, pastV;
  if (Value past = c.in(4)) {
    Type i64 = c.builder.getI64Type();
    NamedAttribute first = c.attr("axis", int64_t(0));
    pastK = c.make("Gather", {past, c.scalar(i64, 0)}, "past_key", first);
    pastV = c.make("Gather", {past, c.scalar(i64, 1)}, "past_value", first);
  }
  FailureOr<Value> mask = masks(c, c.in(3), c.in(5), totalKeys(c, c.in(0), 1, pastK), filter);
  if (failed(mask))
    return success();
  SmallVector<NamedAttribute> attrs = {c.attr("is_causal", causal), c.attr("kv_num_heads", heads),
                                       c.attr("q_num_heads", heads)};
  if (scale && *scale != 0)
    attrs.push_back(c.attr("scale", *scale));
  SmallVector<Value> results =
      c.makeSome("Attention", {parts[0], parts[1], parts[2], *mask, pastK, pastV}, "", attrs,
                 {true, c.uses(1), c.uses(1)});
  Value present;
  if (c.uses(1))
    present = c.make("Concat",
                     {c.unsqueeze(results[1], {0}, "key"), c.unsqueeze(results[2], {0}, "value")},
                     "present", c.attr("axis", int64_t(0)));
  return c.give({results[0], present});
}

/// (input, position_ids, cos_cache, sin_cache); one position is that of the first token.
static LogicalResult rotaryEmbedding(Contrib &c) {
  int64_t heads = c.takeInt("num_heads", 0), rotated = c.takeInt("rotary_embedding_dim", 0);
  int64_t interleaved = c.takeInt("interleaved", 0);
  if (c.takeFloat("scale", 1) != 1)
    return c.refuse("a scale other than 1 is not supported");
  if (c.takeInt("is_packed_batching", 0))
    return c.refuse("packed batches are not supported");
  Value x = c.in(0), positions = c.in(1);
  if (!x || !positions || !c.in(2) || !c.in(3))
    return c.invalid("lacks an input");
  std::optional<int64_t> rank = knownRank(x), positionRank = knownRank(positions);
  if (!rank || !positionRank)
    return c.refuse(Twine("the rank of ") + (rank ? "position_ids" : "the input") +
                    " is not known");
  if ((*rank != 3 && *rank != 4) || *positionRank < 1 || *positionRank > 2)
    return c.invalid("has inputs of rank " + Twine(*rank) + " and " + Twine(*positionRank));
  if (*positionRank == 1) {
    Type i64 = c.builder.getI64Type();
    Value length = c.dim(x, *rank == 3 ? 1 : 2, "length"), batch = c.dim(x, 0, "batch");
    Value count = c.make("Squeeze", {length, c.ints({0})}, "count");
    Value line = c.make("Range", {c.scalar(i64, 0), count, c.scalar(i64, 1)}, "range");
    Value shape = c.make("Concat", {batch, length}, "shape", c.attr("axis", int64_t(0)));
    positions = c.make("Expand", {c.make("Add", {line, positions}, "offset"), shape}, "positions");
  }
  auto table = dyn_cast<RankedTensorType>(c.in(2).getType());
  std::optional<int64_t> width;
  if (table && table.getRank() == 2 && !table.isDynamicDim(1))
    width = 2 * table.getDimSize(1);
  SmallVector<NamedAttribute> attrs = {c.attr("interleaved", interleaved)};
  if (rotated > 0 && heads > 0)
    attrs.push_back(c.attr("rotary_embedding_dim", rotated));
  SmallVector<Value> operands = {x, c.in(2), c.in(3), positions};
  if (*rank == 4)
    return c.give(c.make("RotaryEmbedding", operands, "", attrs));
  if (heads > 0) {
    attrs.push_back(c.attr("num_heads", heads));
    return c.give(c.make("RotaryEmbedding", operands, "", attrs));
  }
  // As many heads as the tables' width says.
  if (!width)
    return c.refuse("neither num_heads nor the width of cos_cache is known");
  operands[0] = c.transpose(c.reshape(x, {0, 0, -1, *width}, "heads"), {0, 2, 1, 3}, "transpose");
  Value y = c.make("RotaryEmbedding", operands, "", attrs);
  return c.give(c.reshape(c.transpose(y, {0, 2, 1, 3}, "y_transpose"), {0, 0, -1}, "y"));
}

/// Without subgraphs (a node with one does not get here) it is Attention on tensors of rank 4.
static LogicalResult flexAttention(Contrib &c) {
  SmallVector<NamedAttribute> attrs;
  if (std::optional<double> scale = c.takeFloat("scale"))
    attrs.push_back(c.attr("scale", *scale));
  if (int64_t precision = c.takeInt("softmax_precision", 0))
    attrs.push_back(c.attr("softmax_precision", precision));
  return c.rename("Attention", attrs);
}

void lowbit::onnx::addContribAttention(ContribTable &table) {
  table["ai.onnx.preview/FlexAttention"] = flexAttention;
  table["com.microsoft/Attention"] = attention;
  table["com.microsoft/MultiHeadAttention"] = multiHeadAttention;
  table["com.microsoft/RotaryEmbedding"] = rotaryEmbedding;
}
