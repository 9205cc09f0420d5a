//===- QuantizeKVCache.cpp - caches of keys and values in 8 bits ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Analysis/CacheFlow.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include <set>

namespace lowbit {
#define GEN_PASS_DEF_QUANTIZEKVCACHE
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
/// Rows of the last dimension, [..., D], as integers with a scale each, [..., 1].
struct Rows {
  Value q, scale;
};

/// Changes one cache after the other.
class CacheRewriter {
public:
  explicit CacheRewriter(func::FuncOp entry)
      : entry(entry), builder(entry.getContext()), loc(entry.getLoc()) {}
  void rewrite(const CacheFlow &cache);

  SmallVector<Attribute> records; ///< What changed: the module's `lowbit.kv_cache`.

private:
  Rows changePast(const CacheFlow &cache);
  /// The present of a node that writes one value beside or into the past, on integers.
  Rows concatenate(const CacheFlow &cache, Rows past);
  Rows scatter(const CacheFlow &cache, Rows past);
  /// That of a node with both in it: what it reads are the old and the new rows as they will be
  /// read again.
  Rows attend(const CacheFlow &cache, Rows past);
  void changePresent(const CacheFlow &cache, Rows present);
  void record(const CacheFlow &cache);

  Value node(StringRef op, Type type, ValueRange operands, const Twine &what,
             ArrayRef<NamedAttribute> attributes = {});
  Value ints(ArrayRef<int64_t> values);
  NamedAttribute axisOf(int64_t axis);
  Rows quantize(Value rows);
  Value dequantize(Rows rows, Type element);

  func::FuncOp entry;
  OpBuilder builder;
  Location loc;
  std::string prefix; ///< Of names of nodes: the past's name.
};

struct QuantizeKVCache : public lowbit::impl::QuantizeKVCacheBase<QuantizeKVCache> {
  using QuantizeKVCacheBase::QuantizeKVCacheBase;
  void runOnOperation() override;
};
} // namespace

static RankedTensorType typeOf(Value value) { return cast<RankedTensorType>(value.getType()); }

/// Of the rows of a tensor of `type`: its shape, 1 for the last dimension.
static RankedTensorType scaleType(RankedTensorType type) {
  SmallVector<int64_t> shape(type.getShape());
  shape.back() = 1;
  return RankedTensorType::get(shape, Float32Type::get(type.getContext()));
}

static RankedTensorType integerType(RankedTensorType type) {
  return type.clone(IntegerType::get(type.getContext(), 8));
}

Value CacheRewriter::node(StringRef op, Type type, ValueRange operands, const Twine &what,
                          ArrayRef<NamedAttribute> attributes) {
  OperationState state(loc, ("onnx." + op).str(), operands, type, attributes);
  state.addAttribute("onnx_node_name", builder.getStringAttr(prefix + "/" + what));
  return builder.create(state)->getResult(0);
}

Value CacheRewriter::ints(ArrayRef<int64_t> values) {
  return onnx::ONNXConstantOp::create(builder, loc, builder.getI64TensorAttr(values));
}

NamedAttribute CacheRewriter::axisOf(int64_t axis) {
  return builder.getNamedAttr(
      "axis", builder.getIntegerAttr(builder.getIntegerType(64, /*isSigned=*/true), axis));
}

/// Types of elements as TensorProto.DataType counts them.
static constexpr int64_t kFloat = 1;

Rows CacheRewriter::quantize(Value rows) {
  RankedTensorType type = typeOf(rows);
  if (!type.getElementType().isF32())
    rows = node("Cast", type.clone(builder.getF32Type()), rows, "f32",
                builder.getNamedAttr(
                    "to", builder.getIntegerAttr(builder.getIntegerType(64, true), kFloat)));
  RankedTensorType scale = scaleType(type);
  auto op = DynamicQuantizeOp::create(builder, loc,
                                      TypeRange{integerType(type), scale, integerType(scale)}, rows,
                                      /*per_token=*/true, /*symmetric=*/true);
  return {op.getOutput(), op.getScale()};
}

Value CacheRewriter::dequantize(Rows rows, Type element) {
  RankedTensorType type = typeOf(rows.q);
  // Zero points are of the scales' shape, which only the run knows.
  Value zero = onnx::ONNXConstantOp::create(
      builder, loc,
      DenseElementsAttr::get(RankedTensorType::get({1}, builder.getI8Type()), int8_t(0)));
  Value shape = node("Shape", RankedTensorType::get({type.getRank()}, builder.getI64Type()),
                     rows.scale, "scales");
  zero = node("Expand", integerType(typeOf(rows.scale)), {zero, shape}, "zeros");
  return DequantizeOp::create(builder, loc, type.clone(element), rows.q, rows.scale, zero,
                              builder.getI64IntegerAttr(type.getRank() - 1),
                              type.getShape().back());
}

/// The attributes of a port's scales: its own, with another name. No name of a dynamic dim is of
/// the last one, which is static.
static DictionaryAttr scaleAttributes(DictionaryAttr port) {
  if (!port)
    return {};
  NamedAttrList attributes(port);
  if (auto name = port.getAs<StringAttr>("onnx.name"))
    attributes.set("onnx.name", StringAttr::get(port.getContext(), name.getValue() + "_scale"));
  return attributes.getDictionary(port.getContext());
}

Rows CacheRewriter::changePast(const CacheFlow &cache) {
  BlockArgument past = cache.past;
  RankedTensorType type = typeOf(past);
  unsigned index = past.getArgNumber();
  (void)entry.insertArgument(index + 1, scaleType(type),
                             scaleAttributes(entry.getArgAttrDict(index)), past.getLoc());
  Rows rows = {past, entry.getArgument(index + 1)};
  past.setType(integerType(type));
  // What reads the past itself reads what it stands for; its shape is what it was.
  SmallVector<OpOperand *> readers;
  for (OpOperand &use : past.getUses()) {
    bool writes = use.getOwner() == cache.pad ||
                  (use.getOwner() == cache.write && onnx::getOperator(cache.write) != "Attention");
    if (!writes && onnx::getOperator(use.getOwner()) != "Shape")
      readers.push_back(&use);
  }
  if (readers.empty())
    return rows;
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(&entry.front());
  Value real = dequantize(rows, type.getElementType());
  for (OpOperand *use : readers)
    use->set(real);
  return rows;
}

Rows CacheRewriter::concatenate(const CacheFlow &cache, Rows past) {
  SmallVector<Value> q, scales;
  for (Value operand : cache.write->getOperands()) {
    Rows rows = operand == cache.past ? past : quantize(operand);
    q.push_back(rows.q);
    scales.push_back(rows.scale);
  }
  RankedTensorType type = cache.presentType();
  return {node("Concat", integerType(type), q, "concat", axisOf(cache.axis)),
          node("Concat", scaleType(type), scales, "concat_scales", axisOf(cache.axis))};
}

Rows CacheRewriter::scatter(const CacheFlow &cache, Rows past) {
  Operation *write = cache.write;
  if (Operation *pad = cache.pad) {
    RankedTensorType type = typeOf(pad->getResult(0)), padded = cache.withRowLength(type);
    Value none = onnx::ONNXNoValueOp::create(builder, loc);
    // 0 stands for 0 with any scale.
    auto grow = [&](Value rows, Type type, StringRef what) {
      return node("Pad", type, {rows, pad->getOperand(1), none, none}, what);
    };
    past = {grow(past.q, integerType(padded), "grown"),
            grow(past.scale, scaleType(padded), "grown_scales")};
  }
  Rows update = quantize(write->getOperand(1));
  RankedTensorType type = cache.presentType();
  SmallVector<NamedAttribute> attributes;
  for (NamedAttribute attribute : write->getAttrs())
    if (attribute.getName() != "onnx_node_name")
      attributes.push_back(attribute);
  auto into = [&](Value rows, Value update, Type type, StringRef what) {
    SmallVector<Value> operands(write->getOperands());
    operands[0] = rows;
    operands[1] = update;
    return node("TensorScatter", type, operands, what, attributes);
  };
  return {into(past.q, update.q, integerType(type), "update"),
          into(past.scale, update.scale, scaleType(type), "update_scales")};
}

Rows CacheRewriter::attend(const CacheFlow &cache, Rows past) {
  OpOperand &operand = cache.write->getOpOperand(cache.result); // K of present key, V of value.
  Value fresh = operand.get();
  RankedTensorType type = typeOf(fresh);
  Type element = type.getElementType();
  RankedTensorType pastType = typeOf(past.q);
  int64_t heads = pastType.getDimSize(1), size = pastType.getDimSize(3);
  Rows rows;
  if (type.getRank() == 4) {
    rows = quantize(fresh);
    operand.set(dequantize(rows, element));
  } else { // [B, S, H D]
    RankedTensorType split = type.clone({type.getDimSize(0), type.getDimSize(1), heads, size});
    Value apart = node("Reshape", split, {fresh, ints({0, 0, heads, size})}, "heads");
    rows = quantize(apart);
    Value real = dequantize(rows, element);
    operand.set(node("Reshape", type.clone({type.getDimSize(0), type.getDimSize(1), heads * size}),
                     {real, ints({0, 0, heads * size})}, "merged"));
    auto behind = [&](Value value, StringRef what) {
      RankedTensorType own = typeOf(value);
      SmallVector<int64_t> shape = {own.getDimSize(0), own.getDimSize(2), own.getDimSize(1),
                                    own.getDimSize(3)};
      return node("Transpose", own.clone(shape), value, what,
                  builder.getNamedAttr("perm", builder.getI64ArrayAttr({0, 2, 1, 3})));
    };
    rows = {behind(rows.q, "rows"), behind(rows.scale, "row_scales")};
  }
  RankedTensorType present = cache.presentType();
  return {node("Concat", integerType(present), {past.q, rows.q}, "concat", axisOf(cache.axis)),
          node("Concat", scaleType(present), {past.scale, rows.scale}, "concat_scales",
               axisOf(cache.axis))};
}

void CacheRewriter::changePresent(const CacheFlow &cache, Rows present) {
  Value whole = cache.present();
  Operation *end = entry.front().getTerminator();
  Value real;
  for (OpOperand &use : llvm::make_early_inc_range(whole.getUses())) {
    if (use.getOwner() == end || onnx::getOperator(use.getOwner()) == "Shape") {
      continue;
    }
    if (!real)
      real = dequantize(present, typeOf(whole).getElementType());
    use.set(real);
  }
  for (unsigned i = 0; i < end->getNumOperands(); ++i) {
    if (end->getOperand(i) != whole)
      continue;
    DictionaryAttr attributes = scaleAttributes(entry.getResultAttrDict(i));
    (void)entry.insertResult(i + 1, present.scale.getType(), attributes);
    end->setOperand(i, present.q);
    end->insertOperands(i + 1, present.scale);
  }
  whole.replaceAllUsesWith(present.q); // Its shape.
}

/// One entry of the module's `lowbit.kv_cache`.
void CacheRewriter::record(const CacheFlow &cache) {
  SmallVector<NamedAttribute> entries;
  auto add = [&](StringRef key, Attribute value) {
    entries.push_back(builder.getNamedAttr(key, value));
  };
  add("past", builder.getStringAttr(cache.pastName()));
  add("present", builder.getStringAttr(cache.presentName()));
  if (std::optional<CacheFlow::TokenBytes> bytes = cache.bytesPerToken()) {
    add("bytes_per_token", builder.getI64IntegerAttr(bytes->integer));
    add("float_bytes_per_token", builder.getI64IntegerAttr(bytes->real));
  }
  records.push_back(builder.getDictionaryAttr(entries));
}

void CacheRewriter::rewrite(const CacheFlow &cache) {
  loc = cache.write->getLoc();
  prefix = cache.pastName();
  if (prefix.empty())
    prefix = "cache" + std::to_string(cache.past.getArgNumber());
  builder.setInsertionPoint(cache.write);
  record(cache);
  Rows past = changePast(cache);
  StringRef op = onnx::getOperator(cache.write);
  Rows present = op == "Concat"          ? concatenate(cache, past)
                 : op == "TensorScatter" ? scatter(cache, past)
                                         : attend(cache, past);
  changePresent(cache, present);
  if (op != "Attention")
    cache.write->erase();
  if (cache.pad && cache.pad->use_empty())
    cache.pad->erase();
}

/// The names of the new ports must be new.
static LogicalResult checkNames(func::FuncOp entry, ArrayRef<CacheFlow> caches) {
  std::set<std::string> names;
  SmallVector<std::string> wanted;
  auto add = [&](DictionaryAttr port, bool cached) {
    auto name = port ? port.getAs<StringAttr>("onnx.name") : StringAttr();
    if (!name)
      return;
    names.insert(name.str());
    if (cached)
      wanted.push_back(name.str() + "_scale");
  };
  for (unsigned i = 0; i < entry.getNumArguments(); ++i)
    add(entry.getArgAttrDict(i), llvm::any_of(caches, [&](const CacheFlow &cache) {
          return cache.past.getArgNumber() == i;
        }));
  ValueRange results = entry.front().getTerminator()->getOperands();
  for (unsigned i = 0; i < results.size(); ++i)
    add(entry.getResultAttrDict(i), llvm::any_of(caches, [&](const CacheFlow &cache) {
          return cache.present() == results[i];
        }));
  for (const std::string &name : wanted)
    if (!names.insert(name).second)
      return entry.emitError() << "the scales of a cache would be called '" << name
                               << "', which the model has already; rename it in the model";
  return success();
}

void QuantizeKVCache::runOnOperation() {
  auto entry = getOperation().lookupSymbol<func::FuncOp>("main_graph");
  if (!entry || entry.isExternal() || !llvm::hasSingleElement(entry.getBody())) {
    getOperation().emitError("has no function @main_graph with a body of one block");
    return signalPassFailure();
  }
  std::vector<std::string> nearMisses;
  std::vector<CacheFlow> caches = findCaches(entry, nearMisses);
  if (caches.empty()) {
    InFlightDiagnostic diag =
        getOperation().emitError()
        << "the recipe holds the cache of keys and values in i8 (kv_cache), and this model has "
           "none: "
           "looked for a float input [batch, …, D] that flows through Concat or TensorScatter, "
           "along "
           "a dimension between the first and the last, or through Attention to an output that the "
           "model reads too";
    for (const std::string &miss : nearMisses)
      diag.attachNote() << miss;
    if (nearMisses.empty())
      diag.attachNote() << "leave kv_cache out, or export the model with its cache as inputs and "
                           "outputs (past_key_values, present)";
    return signalPassFailure();
  }
  if (failed(checkNames(entry, caches)))
    return signalPassFailure();
  for (const std::string &miss : nearMisses)
    entry.emitRemark() << miss << "; it stays as it is";
  CacheRewriter rewriter(entry);
  for (const CacheFlow &cache : caches)
    rewriter.rewrite(cache);
  entry.setFunctionType(FunctionType::get(&getContext(), entry.front().getArgumentTypes(),
                                          entry.front().getTerminator()->getOperandTypes()));
  getOperation()->setAttr("lowbit.kv_cache", ArrayAttr::get(&getContext(), rewriter.records));
  numCaches += caches.size();
}
