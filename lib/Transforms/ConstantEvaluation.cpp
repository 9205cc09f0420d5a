//===- ConstantEvaluation.cpp - one onnx op on constant operands -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ConstantEvaluation.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "lowbit/Support/ConstantData.h"
#include "llvm/ADT/StringSwitch.h"
#include <cmath>

using namespace lowbit;

/// Results that are bigger than this and than all operands together stay computed at run time.
static constexpr int64_t maxGrowth = 64 << 10;

using Strides = SmallVector<int64_t>;

static Strides rowMajor(ArrayRef<int64_t> shape) {
  Strides strides(shape.size(), 1);
  for (int64_t i = (int64_t)shape.size() - 2; i >= 0; --i)
    strides[i] = strides[i + 1] * shape[i + 1];
  return strides;
}

/// Calls `visit(output offset, source offset)` for every element of `shape`, in row-major order; the source moves by
/// `strides`.
static void forEach(ArrayRef<int64_t> shape, ArrayRef<int64_t> strides, int64_t start,
                    llvm::function_ref<void(int64_t, int64_t)> visit) {
  int64_t count = 1;
  for (int64_t dim : shape)
    count *= dim;
  SmallVector<int64_t> index(shape.size(), 0);
  int64_t source = start;
  for (int64_t i = 0; i < count; ++i) {
    visit(i, source);
    for (int64_t d = (int64_t)shape.size() - 1; d >= 0; --d) {
      source += strides[d];
      if (++index[d] < shape[d])
        break;
      source -= strides[d] * shape[d];
      index[d] = 0;
    }
  }
}

/// How an operand of shape `from` moves when it is broadcast to `to`.
static Strides broadcastStrides(ArrayRef<int64_t> from, ArrayRef<int64_t> to) {
  Strides own = rowMajor(from), strides(to.size(), 0);
  size_t offset = to.size() - from.size();
  for (size_t i = 0; i < from.size(); ++i)
    strides[offset + i] = from[i] == 1 ? 0 : own[i];
  return strides;
}

namespace {
/// The op's constant operands and its one result type.
struct Evaluation {
  Operation *op;
  SmallVector<std::optional<ConstantData>> operands;
  RankedTensorType type;

  const ConstantData &in(unsigned i) const { return *operands[i]; }
  ArrayRef<int64_t> shape(unsigned i) const { return in(i).getType().getShape(); }
  bool has(unsigned i) const { return i < operands.size() && operands[i]; }
  int64_t size() const { return bytesPerElement(type.getElementType()); }
  std::vector<char> empty() const { return std::vector<char>(type.getNumElements() * size()); }
  std::optional<std::vector<int64_t>> ints(unsigned i) const {
    return has(i) ? std::optional<std::vector<int64_t>>(in(i).toInts()) : std::nullopt;
  }

  /// Element by element from operand 0.
  std::vector<char> gatherStrided(ArrayRef<int64_t> strides, int64_t start) const {
    std::vector<char> bytes = empty();
    const char *source = in(0).bytes().data();
    int64_t width = size();
    forEach(type.getShape(), strides, start, [&](int64_t to, int64_t from) {
      std::copy_n(source + from * width, width, bytes.data() + to * width);
    });
    return bytes;
  }
};
} // namespace

static std::optional<std::vector<char>> transpose(Evaluation &e) {
  SmallVector<int64_t> perm = onnx::getInts(e.op, "perm");
  if (!onnx::hasInts(e.op, "perm"))
    perm = llvm::to_vector(llvm::reverse(llvm::seq<int64_t>(e.shape(0).size())));
  Strides own = rowMajor(e.shape(0)), strides;
  for (int64_t axis : perm)
    strides.push_back(own[axis < 0 ? axis + own.size() : axis]);
  return e.gatherStrided(strides, 0);
}

static std::optional<std::vector<char>> slice(Evaluation &e) {
  std::optional<std::vector<int64_t>> starts = e.ints(1), axes = e.ints(3), steps = e.ints(4);
  if (!starts)
    return std::nullopt;
  Strides strides = rowMajor(e.shape(0));
  int64_t rank = strides.size(), offset = 0;
  Strides moved = strides;
  for (size_t i = 0; i < starts->size(); ++i) {
    int64_t axis = axes ? (*axes)[i] : i, step = steps ? (*steps)[i] : 1, start = (*starts)[i];
    axis += axis < 0 ? rank : 0;
    int64_t size = e.shape(0)[axis];
    if (start < 0)
      start = std::max<int64_t>(start < -size ? -1 : start + size, 0);
    start = std::min(start, step < 0 ? size - 1 : size);
    offset += start * strides[axis];
    moved[axis] = e.type.getShape()[axis] > 1 ? strides[axis] * step : 0;
  }
  return e.gatherStrided(moved, offset);
}

static std::optional<std::vector<char>> gather(Evaluation &e) {
  int64_t axis = onnx::getInt(e.op, "axis", 0), rank = e.shape(0).size();
  axis += axis < 0 ? rank : 0;
  int64_t outer = 1, inner = e.size(), extent = e.shape(0)[axis];
  for (int64_t d = 0; d < rank; ++d)
    (d < axis ? outer : inner) *= d == axis ? 1 : e.shape(0)[d];
  std::vector<int64_t> indices = e.in(1).toInts();
  std::vector<char> bytes;
  bytes.reserve(e.type.getNumElements() * e.size());
  const char *source = e.in(0).bytes().data();
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t index : indices) {
      if (index < -extent || index >= extent)
        return std::nullopt; // Left for the run, which reports it.
      const char *from = source + (o * extent + (index < 0 ? index + extent : index)) * inner;
      bytes.insert(bytes.end(), from, from + inner);
    }
  return bytes;
}

static std::optional<std::vector<char>> concat(Evaluation &e) {
  int64_t axis = onnx::getInt(e.op, "axis", 0), rank = e.type.getRank();
  axis += axis < 0 ? rank : 0;
  int64_t outer = 1;
  for (int64_t d = 0; d < axis; ++d)
    outer *= e.type.getShape()[d];
  std::vector<char> bytes;
  for (int64_t o = 0; o < outer; ++o)
    for (const std::optional<ConstantData> &operand : e.operands) {
      int64_t chunk = operand->bytes().size() / outer;
      const char *from = operand->bytes().data() + o * chunk;
      bytes.insert(bytes.end(), from, from + chunk);
    }
  return bytes;
}

static std::optional<std::vector<char>> constantOfShape(Evaluation &e) {
  std::vector<char> bytes = e.empty();
  auto value = e.op->getAttrOfType<ElementsAttr>("value");
  std::optional<ConstantData> fill = value ? ConstantData::get(value) : std::nullopt;
  if (value && !fill)
    return std::nullopt;
  int64_t width = e.size();
  for (size_t i = 0; fill && i < bytes.size(); i += width)
    std::copy_n(fill->bytes().data(), width, bytes.data() + i);
  return bytes;
}

static std::optional<std::vector<char>> convert(Evaluation &e) {
  Type from = e.in(0).getType().getElementType(), to = e.type.getElementType();
  std::vector<char> bytes = e.empty();
  int64_t width = e.size(), count = e.type.getNumElements();
  if (from.isIntOrIndex() && to.isInteger() && !to.isInteger(1) && to.getIntOrFloatBitWidth() >= 8) {
    std::vector<int64_t> values = e.in(0).toInts();
    for (int64_t i = 0; i < count; ++i)
      std::copy_n(reinterpret_cast<const char *>(&values[i]), width, bytes.data() + i * width);
    return bytes;
  }
  if (from.isInteger() && to.isF32() && !from.isUnsignedInteger(64)) {
    std::vector<int64_t> values = e.in(0).toInts();
    for (int64_t i = 0; i < count; ++i)
      reinterpret_cast<float *>(bytes.data())[i] = (float)values[i];
    return bytes;
  }
  if (isa<FloatType>(from) && from.getIntOrFloatBitWidth() <= 32 && to.isF32()) {
    std::vector<float> values = e.in(0).toFloats();
    std::copy_n(reinterpret_cast<const char *>(values.data()), bytes.size(), bytes.data());
    return bytes;
  }
  return std::nullopt;
}

using Unary = float (*)(float);
static Unary unaryFunction(StringRef name) {
  return llvm::StringSwitch<Unary>(name)
      .Case("Abs", [](float x) { return std::fabs(x); })
      .Case("Ceil", [](float x) { return std::ceil(x); })
      .Case("Cos", [](float x) { return std::cos(x); })
      .Case("Exp", [](float x) { return std::exp(x); })
      .Case("Floor", [](float x) { return std::floor(x); })
      .Case("Log", [](float x) { return std::log(x); })
      .Case("Neg", [](float x) { return -x; })
      .Case("Reciprocal", [](float x) { return 1.0f / x; })
      .Case("Relu", [](float x) { return x > 0 || x != x ? x : 0.0f; })
      .Case("Round", [](float x) { return std::nearbyint(x); })
      .Case("Sin", [](float x) { return std::sin(x); })
      .Case("Sqrt", [](float x) { return std::sqrt(x); })
      .Case("Tanh", [](float x) { return std::tanh(x); })
      .Default(nullptr);
}

using Binary = float (*)(float, float);
static Binary binaryFunction(StringRef name) {
  return llvm::StringSwitch<Binary>(name)
      .Case("Add", [](float a, float b) { return a + b; })
      .Case("Sub", [](float a, float b) { return a - b; })
      .Case("Mul", [](float a, float b) { return a * b; })
      .Case("Div", [](float a, float b) { return a / b; })
      .Case("Pow", [](float a, float b) { return std::pow(a, b); })
      .Default(nullptr);
}

static std::optional<std::vector<char>> elementwise(Evaluation &e, StringRef name) {
  for (const std::optional<ConstantData> &operand : e.operands)
    if (!operand || !operand->getType().getElementType().isF32())
      return std::nullopt;
  if (!e.type.getElementType().isF32())
    return std::nullopt;
  std::vector<char> bytes = e.empty();
  auto *out = reinterpret_cast<float *>(bytes.data());
  ArrayRef<float> a = e.in(0).as<float>();
  if (Unary apply = e.operands.size() == 1 ? unaryFunction(name) : nullptr) {
    llvm::transform(a, out, apply);
    return bytes;
  }
  Binary apply = e.operands.size() == 2 ? binaryFunction(name) : nullptr;
  if (!apply)
    return std::nullopt;
  ArrayRef<float> b = e.in(1).as<float>();
  Strides right = broadcastStrides(e.shape(1), e.type.getShape());
  std::vector<int64_t> from(e.type.getNumElements());
  forEach(e.type.getShape(), right, 0, [&](int64_t to, int64_t source) { from[to] = source; });
  forEach(e.type.getShape(), broadcastStrides(e.shape(0), e.type.getShape()), 0,
          [&](int64_t to, int64_t source) { out[to] = apply(a[source], b[from[to]]); });
  return bytes;
}

static std::optional<std::vector<char>> evaluateOne(Evaluation &e) {
  StringRef name = onnx::getOperator(e.op);
  if (name == "Reshape" || name == "Unsqueeze" || name == "Squeeze" || name == "Flatten" ||
      name == "Identity")
    return std::vector<char>(e.in(0).bytes().begin(), e.in(0).bytes().end());
  if (name == "Transpose")
    return transpose(e);
  if (name == "Slice")
    return slice(e);
  if (name == "Gather")
    return gather(e);
  if (name == "Concat")
    return concat(e);
  if (name == "Expand")
    return e.gatherStrided(broadcastStrides(e.shape(0), e.type.getShape()), 0);
  if (name == "ConstantOfShape")
    return constantOfShape(e);
  if (name == "Cast")
    return convert(e);
  return elementwise(e, name);
}

LogicalResult lowbit::evaluate(Operation *op, SmallVectorImpl<ElementsAttr> &results) {
  Evaluation e{op, {}, {}};
  int64_t bytes = 0;
  for (Value operand : op->getOperands()) {
    e.operands.push_back(std::nullopt);
    if (onnx::isAbsent(operand))
      continue;
    e.operands.back() = ConstantData::get(operand);
    if (!e.operands.back())
      return failure();
    bytes += e.operands.back()->bytes().size();
  }
  if (e.operands.empty() || !e.operands[0])
    return failure();
  if (op->getNumResults() != 1) {
    if (onnx::getOperator(op) != "Split")
      return failure();
    // Each part is a slice of the whole.
    int64_t axis = onnx::getInt(op, "axis", 0), rank = e.shape(0).size(), offset = 0;
    axis += axis < 0 ? rank : 0;
    Strides strides = rowMajor(e.shape(0));
    for (Value result : op->getResults()) {
      e.type = dyn_cast<RankedTensorType>(result.getType());
      if (!e.type || !e.type.hasStaticShape())
        return failure();
      results.push_back(makeConstant(e.type, e.gatherStrided(strides, offset * strides[axis])));
      offset += e.type.getShape()[axis];
    }
    return success();
  }
  e.type = dyn_cast<RankedTensorType>(op->getResult(0).getType());
  if (!e.type || !e.type.hasStaticShape())
    return failure();
  int64_t result = e.type.getNumElements() * e.size();
  if (result > maxGrowth && result > bytes)
    return failure();
  std::optional<std::vector<char>> raw = evaluateOne(e);
  if (!raw || (int64_t)raw->size() != result)
    return failure();
  StringRef name = "folded";
  if (auto node = op->getAttrOfType<StringAttr>("onnx_node_name"))
    name = node.getValue();
  results.push_back(makeConstant(e.type, *raw, name));
  return success();
}
