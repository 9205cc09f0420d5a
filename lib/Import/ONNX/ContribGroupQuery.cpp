//===- ContribGroupQuery.cpp - onnxruntime's GroupQueryAttention -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// New keys and values are rotated and written behind the valid part of each batch
// entry's cache; then Attention reads the cache with its lengths:
//
//   length[b] = max(seqlens_k[b] + 1, S)   valid keys with this call's S tokens
//   start[b]  = length[b] - S              where they are written; 0 for a prompt
//
// The present cache has max(length of the past, total_sequence_length) rows.
//
//===----------------------------------------------------------------------===//
#include "Contrib.h"

using namespace lowbit;
using namespace lowbit::onnx;

namespace {
struct GroupQuery {
  Contrib &c;
  int64_t heads, kvHeads;
  Value q, k, v;       ///< [B, heads, S, D]
  Value sequence;      ///< S, one element.
  Value start, length; ///< [B]
  Value total;         ///< One element.

  void splitHeads();
  void normalize();
  void rotate();
  Value positions();
  Value present(Value past, Value update, StringRef what);
};
} // namespace

void GroupQuery::splitHeads() {
  auto behind = [&](Value x, StringRef what) {
    return c.transpose(x, {0, 2, 1, 3}, (what + "_transpose").str());
  };
  if (!c.in(1)) { // Query, key and value side by side.
    Value all = c.reshape(c.in(0), {0, 0, heads + 2 * kvHeads, -1}, "qkv");
    SmallVector<Value> parts = c.makeSome("Split", {all, c.ints({heads, kvHeads, kvHeads})},
                                          "split", c.attr("axis", int64_t(2)), {true, true, true});
    q = parts[0], k = parts[1], v = parts[2];
  } else {
    q = c.reshape(c.in(0), {0, 0, heads, -1}, "q");
    k = c.reshape(c.in(1), {0, 0, kvHeads, -1}, "k");
    v = c.reshape(c.in(2), {0, 0, kvHeads, -1}, "v");
  }
  q = behind(q, "q"), k = behind(k, "k"), v = behind(v, "v");
}

void GroupQuery::normalize() {
  double both = c.takeFloat("qk_norm_epsilon", 1e-6f);
  double ofQ = c.takeFloat("q_norm_epsilon", both), ofK = c.takeFloat("k_norm_epsilon", both);
  if (!c.in(14))
    return;
  auto norm = [&](Value x, Value weight, double epsilon, StringRef what) {
    return c.make("RMSNormalization", {x, weight}, what,
                  {c.attr("axis", int64_t(-1)), c.attr("epsilon", epsilon)});
  };
  q = norm(q, c.in(14), ofQ, "q_norm");
  k = norm(k, c.in(15), ofK, "k_norm");
}

/// [B, S]: start[b] + s, or what the node gives.
Value GroupQuery::positions() {
  Type i64 = c.builder.getI64Type();
  Value zero = c.scalar(i64, 0), one = c.scalar(i64, 1);
  Value count = c.make("Squeeze", {sequence, c.ints({0})}, "sequence");
  Value line = c.make("Range", {zero, count, one}, "range");
  Value given = c.in(9);
  if (!given)
    return c.make("Add", {c.unsqueeze(start, {1}, "start_column"), line}, "positions");
  // Of a prompt only the first position counts.
  Value first = c.make("Slice", {c.reshape(given, {-1}, "position_line"), c.ints({0}), c.ints({1})},
                       "first_position");
  Value prompt = c.make("Add", {first, line}, "prompt_positions");
  Value isPrompt = c.make("Equal", {total, sequence}, "is_prompt");
  return c.make("Where", {isPrompt, prompt, c.cast(given, i64, "position_ids")}, "positions");
}

void GroupQuery::rotate() {
  Value at = positions();
  SmallVector<NamedAttribute> attrs = {c.attr("interleaved", c.takeInt("rotary_interleaved", 0))};
  // The width of the tables says how much of each head is rotated.
  if (auto type = dyn_cast<RankedTensorType>(c.in(7).getType()))
    if (type.getRank() == 2 && !type.isDynamicDim(1))
      attrs.push_back(c.attr("rotary_embedding_dim", 2 * type.getDimSize(1)));
  q = c.make("RotaryEmbedding", {q, c.in(7), c.in(8), at}, "q_rotary", attrs);
  k = c.make("RotaryEmbedding", {k, c.in(7), c.in(8), at}, "k_rotary", attrs);
}

Value GroupQuery::present(Value past, Value update, StringRef what) {
  auto name = [&](StringRef step) { return (what + "_" + step).str(); };
  Value base;
  if (past) {
    Value length = c.dim(past, 2, name("past_length"));
    Value rows = c.make("Max", {length, total}, name("rows"));
    Value more = c.make("Sub", {rows, length}, name("more"));
    Value pads = c.make("Concat", {c.ints({0, 0, 0, 0, 0, 0}), more, c.ints({0})}, name("pads"),
                        c.attr("axis", int64_t(0)));
    base = c.make("Pad", {past, pads}, name("grown"));
  } else {
    Value front = c.make("Shape", {update}, name("front"), c.attr("end", int64_t(2)));
    Value shape = c.make("Concat", {front, total, c.dim(update, 3, name("size"))}, name("shape"),
                         c.attr("axis", int64_t(0)));
    Type element = cast<ShapedType>(update.getType()).getElementType();
    base = c.make("Expand", {c.scalar(element, 0), shape}, name("empty"));
  }
  return c.make("TensorScatter", {base, update, start}, name("update"), c.attr("axis", int64_t(2)));
}

static LogicalResult groupQueryAttention(Contrib &c) {
  int64_t heads = c.takeInt("num_heads", 0), kvHeads = c.takeInt("kv_num_heads", 0);
  int64_t window = c.takeInt("local_window_size", -1), causal = c.takeInt("causal", 1);
  bool rotary = c.takeInt("do_rotary", 0);
  double softcap = c.takeFloat("softcap", 0);
  std::optional<double> scale = c.takeFloat("scale");
  if (heads < 1 || kvHeads < 1 || heads % kvHeads || heads > INT32_MAX)
    return c.invalid("has num_heads = " + Twine(heads) + " and kv_num_heads = " + Twine(kvHeads));
  if (!c.in(0) || !c.in(5) || !c.in(6) || !c.in(1) != !c.in(2) || !c.in(3) != !c.in(4) ||
      !c.in(14) != !c.in(15))
    return c.invalid("lacks an input");
  if (rotary && (!c.in(7) || !c.in(8)))
    return c.invalid("has do_rotary = 1 and no cos_cache and sin_cache");
  if (c.in(11) || c.takeInt("smooth_softmax", 0) == 1)
    return c.refuse("a sink in the softmax (head_sink, smooth_softmax) is not supported");
  if (c.in(12) || c.in(13) || c.takeString("k_quant_type", "NONE") != "NONE" ||
      c.takeString("v_quant_type", "NONE") != "NONE" || c.takeInt("kv_cache_bit_width", 0))
    return c.refuse("a quantized cache is not supported");
  if (c.in(16))
    return c.refuse("query_seqlens is not supported");
  if (c.takeInt("sliding_window_cache", 0))
    return c.refuse("a cache of the window's size (sliding_window_cache) is not supported");
  if (c.takeInt("qk_output", 0) || c.uses(3))
    return c.refuse("the output output_qk is not supported");
  if (window == 0 || window < -1)
    return c.refuse("local_window_size = " + Twine(window) + " is not supported");

  Type i64 = c.builder.getI64Type();
  GroupQuery g{c, heads, kvHeads, {}, {}, {}, {}, {}, {}, {}};
  g.splitHeads();
  g.normalize();
  g.sequence = c.dim(c.in(0), 1, "length");
  g.total = c.reshape(c.cast(c.in(6), i64, "total_i64"), {1}, "total");
  Value last = c.reshape(c.cast(c.in(5), i64, "seqlens_i64"), {-1}, "seqlens");
  Value valid = c.make("Add", {last, c.scalar(i64, 1)}, "valid");
  g.length = c.make("Max", {valid, g.sequence}, "lengths");
  g.start = c.make("Sub", {g.length, g.sequence}, "starts");
  if (rotary)
    g.rotate();
  c.takeInt("rotary_interleaved", 0);
  Value keys = g.present(c.in(3), g.k, "k"), values = g.present(c.in(4), g.v, "v");
  SmallVector<NamedAttribute> attrs = {c.attr("is_causal", causal)};
  if (softcap != 0)
    attrs.push_back(c.attr("softcap", softcap));
  if (scale && *scale != 0)
    attrs.push_back(c.attr("scale", *scale));
  if (window > 0)
    attrs.push_back(c.attr("left_window_size", window - 1));
  Value y =
      c.make("Attention", {g.q, keys, values, c.in(10), Value(), Value(), g.length}, "", attrs);
  y = c.reshape(c.transpose(y, {0, 2, 1, 3}, "y_transpose"), {0, 0, -1}, "y");
  return c.give({y, keys, values});
}

void lowbit::onnx::addContribGroupQuery(ContribTable &table) {
  table["com.microsoft/GroupQueryAttention"] = groupQueryAttention;
}
