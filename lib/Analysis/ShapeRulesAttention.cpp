//===- ShapeRulesAttention.cpp - shapes of the attention family -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ShapeRules.h"
#include "mlir/IR/Builders.h"

using namespace lowbit;

static bool differ(const SymbolicExpr &a, const SymbolicExpr &b) {
  return a.constant() && b.constant() && a != b;
}

/// Fails where result `i` is asked for and no such result came of the rule; drops those nobody asks
/// for.
static LogicalResult setUsed(RuleContext &c, ArrayRef<SymbolicShape> all) {
  for (auto [i, result] : llvm::enumerate(c.op->getResults()))
    if (!isa<NoneType>(result.getType()))
      c.results.push_back(all[i]);
  return success();
}

/// The dims [batch, heads, sequence, size] of a 4-D operand, or of a 3-D one whose last dim holds
/// `heads` heads.
static FailureOr<Dims> headDims(RuleContext &c, unsigned operand, int64_t heads,
                                StringRef attribute) {
  const Dims &dims = c.dims(operand);
  if (dims.size() == 4)
    return dims;
  if (heads < 1)
    return c.fail("inputs of rank 3 need the attribute " + attribute);
  std::optional<int64_t> hidden = dims[2].constant();
  if (hidden && *hidden % heads)
    return c.fail("operand " + Twine(operand) + " has shape " + describe(dims) + ": " +
                  Twine(*hidden) + " is not divisible into " + Twine(heads) + " heads");
  return Dims{dims[0], SymbolicExpr(heads), dims[1], c.analysis.floorDiv(dims[2], heads)};
}

static LogicalResult attention(RuleContext &c) {
  int64_t rank = c.rank(0);
  if ((rank != 3 && rank != 4) || c.rank(1) != rank || c.rank(2) != rank)
    return c.fail("Q, K and V have shapes " + describe(c.dims(0)) + ", " + describe(c.dims(1)) +
                  " and " + describe(c.dims(2)) +
                  "; three of rank 3 or three of rank 4 are expected");
  int64_t kvHeads = c.attr("kv_num_heads", 0);
  FailureOr<Dims> q = headDims(c, 0, c.attr("q_num_heads", 0), "q_num_heads");
  FailureOr<Dims> k = failed(q) ? q : headDims(c, 1, kvHeads, "kv_num_heads");
  FailureOr<Dims> v = failed(k) ? k : headDims(c, 2, kvHeads, "kv_num_heads");
  if (failed(v))
    return failure();
  if (differ((*q)[0], (*k)[0]) || differ((*k)[0], (*v)[0]) || differ((*k)[1], (*v)[1]) ||
      differ((*k)[2], (*v)[2]) || differ((*q)[3], (*k)[3]))
    return c.fail("Q, K and V have shapes " + describe(*q) + ", " + describe(*k) + " and " +
                  describe(*v) +
                  " as [batch, heads, sequence, head size], which do not fit together");
  std::optional<int64_t> heads = (*q)[1].constant(), groups = (*k)[1].constant();
  if (heads && groups && (*groups < 1 || *heads % *groups))
    return c.fail(Twine(*heads) + " query heads cannot share " + Twine(*groups) + " key heads");
  if ((c.in(4) != nullptr) != (c.in(5) != nullptr))
    return c.fail("past_key and past_value must be given together");
  if (c.in(4) && c.in(6))
    return c.fail("nonpad_kv_seqlen and past_key exclude each other");
  if (c.in(6) && (c.rank(6) != 1 || differ(c.dims(6)[0], (*q)[0])))
    return c.fail("nonpad_kv_seqlen has shape " + describe(c.dims(6)) +
                  "; one number per batch entry is expected");
  SymbolicExpr total = (*k)[2];
  if (c.in(4)) {
    const Dims &pastK = c.dims(4), &pastV = c.dims(5);
    if (pastK.size() != 4 || pastV.size() != 4 || differ(pastK[0], (*k)[0]) ||
        differ(pastK[1], (*k)[1]) || differ(pastK[3], (*k)[3]) || differ(pastV[1], (*v)[1]) ||
        differ(pastV[3], (*v)[3]))
      return c.fail("the past has shapes " + describe(pastK) + " and " + describe(pastV) +
                    ", which do not fit keys " + describe(*k) + " and values " + describe(*v));
    total = c.analysis.add(pastK[2], total);
  }
  if (c.in(3)) {
    // The mask's last dim may be shorter: what it does not reach is masked.
    const Dims &mask = c.dims(3);
    if (mask.empty() || mask.size() > 4)
      return c.fail("attn_mask has shape " + describe(mask) + "; rank 1 to 4 is expected");
    Dims full = {(*q)[0], (*q)[1], (*q)[2]};
    for (size_t i = 0; i + 1 < mask.size(); ++i) {
      const SymbolicExpr &want = full[3 - (mask.size() - 1) + i];
      if (!mask[i].isConstant(1) && differ(mask[i], want))
        return c.fail("attn_mask has shape " + describe(mask) + ", which does not broadcast to " +
                      describe({full[0], full[1], full[2], total}));
    }
    std::optional<int64_t> columns = mask.back().constant(), most = total.constant();
    if (columns && most && *columns > *most)
      return c.fail("attn_mask has " + Twine(*columns) + " columns for " + Twine(*most) + " keys");
  }
  Dims y = {(*q)[0], (*q)[1], (*q)[2], (*v)[3]};
  if (rank == 3)
    y = {(*q)[0], (*q)[2], c.analysis.mul((*q)[1], (*v)[3])};
  return setUsed(c, {{y, c.element(0), {}},
                     {{(*k)[0], (*k)[1], total, (*k)[3]}, c.element(1), {}},
                     {{(*v)[0], (*v)[1], total, (*v)[3]}, c.element(2), {}},
                     {{(*q)[0], (*q)[1], (*q)[2], total}, c.element(0), {}}});
}

static LogicalResult rotaryEmbedding(RuleContext &c) {
  int64_t rank = c.rank(0);
  if (rank != 3 && rank != 4)
    return c.fail("the input has shape " + describe(c.dims(0)) + "; rank 3 or 4 is expected");
  FailureOr<Dims> x = headDims(c, 0, c.attr("num_heads", 0), "num_heads");
  if (failed(x))
    return failure();
  int64_t cacheRank = c.in(3) ? 2 : 3, rotated = c.attr("rotary_embedding_dim", 0);
  std::optional<int64_t> size = (*x)[3].constant();
  if (c.rank(1) != cacheRank || c.rank(2) != cacheRank)
    return c.fail("the caches have shapes " + describe(c.dims(1)) + " and " + describe(c.dims(2)) +
                  "; rank " + Twine(cacheRank) + " is expected " + (c.in(3) ? "with" : "without") +
                  " position_ids");
  if (c.in(3) && c.rank(3) != 2)
    return c.fail("position_ids have shape " + describe(c.dims(3)) + "; rank 2 is expected");
  if (rotated < 0 || (size && rotated > *size))
    return c.fail("rotary_embedding_dim is " + Twine(rotated) + " for a head size of " +
                  describe({(*x)[3]}));
  std::optional<int64_t> turned = rotated ? std::optional<int64_t>(rotated) : size;
  if (turned && *turned % 2)
    return c.fail(Twine(*turned) +
                  " elements of each head would be rotated; an even number is expected");
  for (unsigned i : {1u, 2u})
    if (turned && differ(c.dims(i).back(), *turned / 2))
      return c.fail("cache " + Twine(i) + " has shape " + describe(c.dims(i)) +
                    "; its last dim should be " + Twine(*turned / 2));
  return c.set(c.dims(0), c.element(0));
}

static LogicalResult tensorScatter(RuleContext &c) {
  const Dims &cache = c.dims(0), &update = c.dims(1);
  FailureOr<int64_t> axis = c.axis(c.attr("axis", -2), cache.size());
  if (failed(axis))
    return failure();
  if (*axis == 0 || update.size() != cache.size())
    return c.fail("cache " + describe(cache) + " cannot be updated with " + describe(update) +
                  " along axis " + Twine(*axis));
  for (size_t i = 0; i < cache.size(); ++i) {
    std::optional<int64_t> room = cache[i].constant(), size = update[i].constant();
    if ((int64_t)i == *axis ? room && size && *size > *room : differ(cache[i], update[i]))
      return c.fail("cache " + describe(cache) + " cannot be updated with " + describe(update) +
                    " along axis " + Twine(*axis));
  }
  if (c.in(2) && (c.rank(2) != 1 || differ(c.dims(2)[0], cache[0])))
    return c.fail("write_indices have shape " + describe(c.dims(2)) +
                  "; one per batch entry is expected");
  return c.set(cache, c.element(0));
}

static LogicalResult linearAttention(RuleContext &c) {
  int64_t heads = c.attr("q_num_heads", 0), kvHeads = c.attr("kv_num_heads", 0);
  if (heads < 1 || kvHeads < 1 || heads % kvHeads)
    return c.fail("q_num_heads = " + Twine(heads) +
                  " must be a positive multiple of kv_num_heads = " + Twine(kvHeads));
  for (unsigned i : {0u, 1u, 2u})
    if (c.rank(i) != 3)
      return c.fail("query, key and value of rank 3 are expected; operand " + Twine(i) +
                    " has shape " + describe(c.dims(i)));
  FailureOr<Dims> q = headDims(c, 0, heads, "q_num_heads"),
                  k = headDims(c, 1, kvHeads, "kv_num_heads"),
                  v = headDims(c, 2, kvHeads, "kv_num_heads");
  if (failed(q) || failed(k) || failed(v))
    return failure();
  if (differ((*q)[0], (*k)[0]) || differ((*k)[0], (*v)[0]) || differ((*q)[2], (*k)[2]) ||
      differ((*k)[2], (*v)[2]) || differ((*q)[3], (*k)[3]))
    return c.fail("query " + describe(c.dims(0)) + ", key " + describe(c.dims(1)) + " and value " +
                  describe(c.dims(2)) + " do not fit together");
  StringRef update = onnx::getString(c.op, "update_rule", "gated_delta");
  if (update != "linear" && update != "gated" && update != "delta" && update != "gated_delta")
    return c.fail("update_rule is '" + update + "'");
  bool gated = update.starts_with("gated"), delta = update.ends_with("delta");
  if (gated != (c.in(4) != nullptr) || delta != (c.in(5) != nullptr))
    return c.fail("update_rule '" + update +
                  "' does not fit the inputs decay and beta that are given");
  if (c.in(4) &&
      (c.rank(4) != 3 || (differ(c.dims(4)[2], kvHeads) && differ(c.dims(4)[2], c.dims(1)[2]))))
    return c.fail("decay has shape " + describe(c.dims(4)));
  if (c.in(5) && (c.rank(5) != 3 || (differ(c.dims(5)[2], kvHeads) && differ(c.dims(5)[2], 1))))
    return c.fail("beta has shape " + describe(c.dims(5)));
  Dims state = {(*q)[0], SymbolicExpr(kvHeads), (*k)[3], (*v)[3]};
  Type stateElement = c.element(0);
  if (c.in(3)) {
    stateElement = c.element(3);
    for (size_t i = 0; i < 4; ++i)
      if (c.rank(3) != 4 || differ(c.dims(3)[i], state[i]))
        return c.fail("past_state has shape " + describe(c.dims(3)) + "; " + describe(state) +
                      " is expected");
  }
  return setUsed(c, {{{(*q)[0], (*q)[2], c.analysis.mul((*v)[3], heads)}, c.element(0), {}},
                     {state, stateElement, {}}});
}

static LogicalResult causalConv(RuleContext &c) {
  const Dims &x = c.dims(0), &w = c.dims(1);
  if (x.size() != 3 || w.size() != 3 || differ(w[1], 1) || differ(w[0], x[1]))
    return c.fail("input " + describe(x) + " and weight " + describe(w) + " do not fit together");
  if (c.in(2) && (c.rank(2) != 1 || differ(c.dims(2)[0], x[1])))
    return c.fail("bias has shape " + describe(c.dims(2)) + "; one number per channel is expected");
  StringRef activation = onnx::getString(c.op, "activation", "none");
  if (activation != "none" && activation != "silu" && activation != "swish")
    return c.fail("activation is '" + activation + "'");
  Dims state = {x[0], x[1], c.analysis.sub(w[2], 1)};
  for (size_t i = 0; c.in(3) && i < 3; ++i)
    if (c.rank(3) != 3 || differ(c.dims(3)[i], state[i]))
      return c.fail("past_state has shape " + describe(c.dims(3)) + "; " + describe(state) +
                    " is expected");
  return setUsed(c, {{x, c.element(0), {}}, {state, c.element(0), {}}});
}

static LogicalResult swiGLU(RuleContext &c) {
  if (c.rank(0) != c.rank(1))
    return c.fail("A and B have shapes " + describe(c.dims(0)) + " and " + describe(c.dims(1)));
  for (auto [a, b] : llvm::zip(c.dims(0), c.dims(1)))
    if (differ(a, b))
      return c.fail("A and B have shapes " + describe(c.dims(0)) + " and " + describe(c.dims(1)));
  return c.set(c.dims(0), c.element(0));
}

void lowbit::addAttentionRules(ShapeRules &rules) {
  rules["Attention"] = attention;
  rules["CausalConvWithState"] = causalConv;
  rules["LinearAttention"] = linearAttention;
  rules["RotaryEmbedding"] = rotaryEmbedding;
  rules["SwiGLU"] = swiGLU;
  rules["TensorScatter"] = tensorScatter;
}
