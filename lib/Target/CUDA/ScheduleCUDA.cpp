//===- ScheduleCUDA.cpp - chooses CUDA kernels for quantized operators ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "LayerConstants.h"
#include "Packing.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Target/CUDA/Passes.h"
#include "lowbit/Target/CUDA/Schedule.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinOps.h"

namespace lowbit {
#define GEN_PASS_DEF_SCHEDULECUDA
#include "lowbit/Target/CUDA/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;
using namespace lowbit::cuda;

namespace {
class ScheduleCUDA : public lowbit::impl::ScheduleCUDABase<ScheduleCUDA> {
  using ScheduleCUDABase::ScheduleCUDABase;
  void runOnOperation() override;

  /// Fails, with the reason in `why`, where no kernel family takes the layer.
  FailureOr<Schedule> choose(Operation *op, const LayerConstants &layer, std::string &why);
  FailureOr<Schedule> chooseGather(GatherOp op, const LayerConstants &layer, std::string &why);
  StringRef kernelFor(const Schedule &schedule, Location loc);
  /// The layer's launch into `init`; of a gemv with splits, two.
  Value launch(OpBuilder &b, Location loc, const Schedule &schedule, StringRef layer,
               ArrayRef<Value> inputs, Value init);
  /// A launch of one of two kernels by the number of rows that the run gives.
  Value launchByRows(OpBuilder &b, Location loc, const Schedule &many, StringRef layer,
                     ArrayRef<Value> inputs, Value init);
  void replace(Operation *op, const LayerConstants &layer, const Schedule &schedule);
  LogicalResult replaceDynamicQuantize(DynamicQuantizeOp op, std::string &why);
  void replaceGather(GatherOp op, const LayerConstants &layer, const Schedule &schedule);

  llvm::DenseMap<Attribute, StringRef> kernelNames; // by schedule, which holds the generator too
};
} // namespace

static std::optional<Element> elementOf(Type type) {
  if (type.isUnsignedInteger(8))
    return Element::U8;
  if (type.isSignlessInteger(8))
    return Element::I8;
  if (type.isSignlessInteger(32))
    return Element::I32;
  if (type.isSignlessInteger(64))
    return Element::I64;
  if (type.isF32())
    return Element::F32;
  return std::nullopt;
}

/// The layer's shape where everything but the batch is static; 1-D convolutions are 2-D ones of
/// height 1.
static std::optional<ConvShape> convShape(ConvOp op) {
  auto input = cast<RankedTensorType>(op.getInput().getType()),
       weight = cast<RankedTensorType>(op.getWeight().getType()),
       output = cast<RankedTensorType>(op.getOutput().getType());
  int64_t rank = input.getRank() - 2;
  if (rank < 1 || rank > 2 || !weight.hasStaticShape())
    return std::nullopt;
  for (int64_t i = 1; i < input.getRank(); ++i)
    if (input.isDynamicDim(i) || output.isDynamicDim(i))
      return std::nullopt;
  ConvShape conv;
  conv.channels = input.getDimSize(1);
  conv.groups = op.getGroups();
  conv.width = input.getShape().back(), conv.kernelW = weight.getShape().back(),
  conv.outW = output.getShape().back();
  conv.strideW = op.getStrides().back(), conv.dilationW = op.getDilations().back();
  conv.padLeft = op.getPads()[rank - 1];
  conv.height = conv.outH = 1;
  if (rank == 2) {
    conv.height = input.getDimSize(2), conv.kernelH = weight.getDimSize(2),
    conv.outH = output.getDimSize(2);
    conv.strideH = op.getStrides()[0], conv.dilationH = op.getDilations()[0],
    conv.padTop = op.getPads()[0];
  }
  return conv;
}

static bool isActivation(std::optional<Element> element) {
  return element == Element::U8 || element == Element::I8 || element == Element::F32;
}

/// One filter per channel, in words of four channels.
static bool isDepthwise(const Schedule &s) {
  return s.conv->groups == s.n && s.conv->channels == s.n && s.n % 4 == 0 && s.k <= 64;
}

FailureOr<Schedule> ScheduleCUDA::chooseGather(GatherOp op, const LayerConstants &layer,
                                               std::string &why) {
  std::optional<Element> indices =
      elementOf(cast<RankedTensorType>(op.getIndices().getType()).getElementType());
  if (indices != Element::I32 && indices != Element::I64) {
    why = "its indices are neither i32 nor i64";
    return failure();
  }
  Schedule s;
  s.generator = "cuda.gather";
  s.input = *indices, s.output = Element::F32;
  s.n = layer.k, s.k = layer.n;
  s.bits = layer.weightBits <= 4 ? 4 : layer.weightBits <= 8 ? 8 : 16;
  s.group = layer.group ? layer.group : s.n;
  chooseTiles(s, rows);
  return s;
}

FailureOr<Schedule> ScheduleCUDA::choose(Operation *op, const LayerConstants &layer,
                                         std::string &why) {
  if (auto gather = dyn_cast<GatherOp>(op))
    return chooseGather(gather, layer, why);
  auto no = [&](const Twine &reason) {
    why = reason.str();
    return failure();
  };
  Schedule s;
  auto input = cast<RankedTensorType>(op->getOperand(0).getType()),
       output = cast<RankedTensorType>(op->getResult(0).getType());
  std::optional<Element> in = elementOf(input.getElementType()),
                         out = elementOf(output.getElementType());
  if (!isActivation(in) || !isActivation(out))
    return no("activations are neither 8-bit integers nor f32");
  s.input = *in, s.output = *out;
  s.n = layer.n, s.k = layer.k;
  int64_t rowsHere = rows;
  if (auto conv = dyn_cast<ConvOp>(op)) {
    s.conv = convShape(conv);
    if (!s.conv)
      return no(
          "the convolution has three or more spatial axes, or a dynamic size other than the batch");
    int64_t pixels = s.conv->outH * s.conv->outW;
    rowsHere =
        input.isDynamicDim(0) ? std::max<int64_t>(rows, pixels) : pixels * input.getDimSize(0);
  } else if (output.hasStaticShape()) {
    rowsHere = output.getNumElements() / std::max<int64_t>(s.n, 1);
  }
  if (s.input == Element::F32) {
    s.generator = layer.weightBits == 16 ? "cuda.mma_f16" : "cuda.w4a16";
    if (s.conv && s.conv->groups != 1)
      return no("a grouped convolution with float activations");
    s.bits = layer.weightBits <= 4 ? 4 : layer.weightBits <= 8 ? 8 : 16;
    s.group = layer.group ? layer.group : (s.k + 63) / 64 * 64;
    if (s.group % 16 && s.group < s.k)
      return no("weight groups of " + Twine(s.group) + " are not a multiple of 16");
    s.group = (s.group + 15) / 16 * 16;
    if (!s.conv && output.hasStaticShape() && rowsHere <= kGemvRows) {
      chooseGemv(s, rowsHere);
      return s;
    }
  } else {
    if (layer.weightBits == 16)
      return no("integer activations with half-precision weights");
    s.generator = !s.conv || s.conv->groups == 1 ? "cuda.mma_s8"
                  : isDepthwise(s)               ? "cuda.depthwise_s8"
                                                 : "cuda.direct_s8";
    if (layer.sumsInFloat)
      s.scales = cast<RankedTensorType>(cast<LinearOp>(op).getInputScale().getType()).getRank()
                     ? Scales::Row
                     : Scales::Tensor;
    else if (!layer.weightSigned)
      return no("integer activations with unsigned weights");
  }
  chooseTiles(s, rowsHere);
  return s;
}

/// linear_u8_i8_64x172, conv3x3_u8_u8_16x144, …: what is in it, then a number where two differ in
/// more than that.
static std::string describe(const Schedule &s) {
  auto spell = [](Element e) { return e == Element::U8 ? "u8" : e == Element::I8 ? "i8" : "f32"; };
  if (s.generator == "cuda.gather")
    return (s.bits == 16 ? "gather_f" : "gather_w") + std::to_string(s.bits) + "_" +
           std::to_string(s.k) + "x" + std::to_string(s.n);
  std::string name =
      s.conv ? "conv" + std::to_string(s.conv->kernelH) + "x" + std::to_string(s.conv->kernelW)
             : "linear";
  if (s.generator == "cuda.rowquant")
    return std::string("rowquant_") + spell(s.output) + (s.symmetric ? "_symmetric_" : "_") +
           std::to_string(s.k);
  if (s.generator == "cuda.gemv" || s.generator == "cuda.combine")
    name = s.generator.substr(5);
  if (s.input == Element::F32 && s.bits == 16)
    name += "_f16";
  else if (s.input == Element::F32)
    name += "_w" + std::to_string(s.bits) + "g" + std::to_string(s.group);
  else
    name += std::string("_") + spell(s.input) + "_" +
            (s.scales == Scales::Row      ? "rows"
             : s.scales == Scales::Tensor ? "run"
                                          : spell(s.output));
  return name + "_" + std::to_string(s.n) + "x" + std::to_string(s.k);
}

StringRef ScheduleCUDA::kernelFor(const Schedule &schedule, Location loc) {
  Builder attributes(&getContext());
  DictionaryAttr dictionary = schedule.toAttr(&getContext());
  Attribute key =
      attributes.getArrayAttr({attributes.getStringAttr(schedule.generator), dictionary});
  if (auto found = kernelNames.find(key); found != kernelNames.end())
    return found->second;
  SymbolTable symbols(getOperation());
  OpBuilder b = OpBuilder::atBlockBegin(getOperation().getBody());
  auto kernel = rt::KernelOp::create(b, UnknownLoc::get(&getContext()), describe(schedule),
                                     schedule.generator, dictionary);
  // Renames it where the name is taken.
  StringAttr name = symbols.insert(kernel, getOperation().getBody()->begin());
  ++kernels;
  return kernelNames[key] = name.getValue();
}

/// ui8 to the signless i8 of kernels and linalg, and back; cancels once everything is signless.
static Value castElement(OpBuilder &b, Location loc, Value value, Type element) {
  auto type = cast<RankedTensorType>(value.getType());
  if (type.getElementType() == element)
    return value;
  return UnrealizedConversionCastOp::create(b, loc, type.clone(element), value).getResult(0);
}

/// [batch, axis 1, …] with its axes permuted.
static Value transpose(OpBuilder &b, Location loc, Value input, ArrayRef<int64_t> permutation) {
  auto type = cast<RankedTensorType>(input.getType());
  SmallVector<int64_t> shape;
  SmallVector<Value> dynamic;
  for (int64_t axis : permutation) {
    shape.push_back(type.getDimSize(axis));
    if (type.isDynamicDim(axis))
      dynamic.push_back(tensor::DimOp::create(b, loc, input, axis));
  }
  Value empty = tensor::EmptyOp::create(b, loc, shape, type.getElementType(), dynamic);
  return linalg::TransposeOp::create(b, loc, input, empty, permutation)->getResult(0);
}

/// A constant vector named after the layer.
template <typename T>
static Value vectorConstant(OpBuilder &b, Location loc, const std::vector<T> &values, Type element,
                            StringRef layer, StringRef what) {
  auto type = RankedTensorType::get({static_cast<int64_t>(values.size())}, element);
  std::string name = ((layer.empty() ? "layer" : layer) + ":" + what).str();
  return arith::ConstantOp::create(b, loc,
                                   cast<TypedAttr>(Attribute(makeConstant(type, values, name))));
}

LogicalResult ScheduleCUDA::replaceDynamicQuantize(DynamicQuantizeOp op, std::string &why) {
  auto type = cast<RankedTensorType>(op.getInput().getType());
  std::optional<Element> element =
      elementOf(cast<RankedTensorType>(op.getOutput().getType()).getElementType());
  why = !op.getPerToken()                                  ? "one range for the whole tensor"
        : element != Element::U8 && element != Element::I8 ? "results are not 8 bits wide"
        : type.isDynamicDim(type.getRank() - 1)            ? "the length of a row is dynamic"
                                                           : "";
  if (!why.empty())
    return failure();
  Schedule s;
  s.generator = "cuda.rowquant";
  s.input = Element::F32, s.output = *element;
  s.n = s.k = type.getShape().back();
  s.symmetric = op.getSymmetric();
  chooseTiles(s, rows);
  OpBuilder b(op);
  Location loc = op.getLoc();
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, op.getInput()), one(sizes);
  one.back() = b.getIndexAttr(1);
  SmallVector<Value> inits = {tensor::EmptyOp::create(b, loc, sizes, b.getI8Type()),
                              tensor::EmptyOp::create(b, loc, one, b.getF32Type()),
                              tensor::EmptyOp::create(b, loc, one, b.getI8Type())};
  auto launch = rt::LaunchOp::create(b, loc, TypeRange(ValueRange(inits)), kernelFor(s, loc),
                                     op.getInput(), inits, "");
  for (auto [result, value] : llvm::zip(op->getResults(), launch.getResults())) {
    auto wanted = cast<RankedTensorType>(result.getType());
    Value same = castElement(b, loc, value, wanted.getElementType());
    if (same.getType() != wanted)
      same = tensor::CastOp::create(b, loc, wanted, same);
    result.replaceAllUsesWith(same);
  }
  op.erase();
  return success();
}

void ScheduleCUDA::replaceGather(GatherOp op, const LayerConstants &layer, const Schedule &s) {
  OpBuilder b(op);
  Location loc = op.getLoc();
  auto output = cast<RankedTensorType>(op.getOutput().getType());
  SmallVector<Value> dynamic;
  for (int64_t axis = 0; axis + 1 < output.getRank(); ++axis)
    if (output.isDynamicDim(axis))
      dynamic.push_back(tensor::DimOp::create(b, loc, op.getIndices(), axis));
  Value table = s.bits == 16 ? vectorConstant(b, loc, layer.halfWeights, b.getI16Type(), layer.name,
                                              "weights")
                             : vectorConstant(b, loc, packTable(s, layer.unsignedWeights()),
                                              b.getI8Type(), layer.name, "weights");
  SmallVector<Value> inputs = {
      op.getIndices(), table,
      vectorConstant(b, loc, layer.tableParameters(), b.getF32Type(), layer.name, "parameters")};
  Value empty = tensor::EmptyOp::create(b, loc, output.getShape(), b.getF32Type(), dynamic);
  auto launch =
      rt::LaunchOp::create(b, loc, empty.getType(), kernelFor(s, loc), inputs, empty, layer.name);
  op.getOutput().replaceAllUsesWith(launch.getResult(0));
  op.erase();
}

Value ScheduleCUDA::launch(OpBuilder &b, Location loc, const Schedule &s, StringRef layer,
                           ArrayRef<Value> inputs, Value init) {
  auto run = [&](const Schedule &one, ArrayRef<Value> reads, Value target) -> Value {
    return rt::LaunchOp::create(b, loc, target.getType(), kernelFor(one, loc), reads, target, layer)
        .getResult(0);
  };
  if (s.splits == 1)
    return run(s, inputs, init);
  auto type = cast<RankedTensorType>(init.getType());
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, init);
  sizes.back() = b.getIndexAttr(s.n * s.splits);
  Value parts = tensor::EmptyOp::create(b, loc, sizes, type.getElementType());
  parts = run(s, inputs, parts);
  Schedule combine = s;
  chooseCombine(combine);
  return run(combine, {parts, inputs.back()}, init);
}

Value ScheduleCUDA::launchByRows(OpBuilder &b, Location loc, const Schedule &many, StringRef layer,
                                 ArrayRef<Value> inputs, Value init) {
  Value count = arith::ConstantIndexOp::create(b, loc, 1);
  auto type = cast<RankedTensorType>(init.getType());
  for (int64_t axis = 0; axis + 1 < type.getRank(); ++axis)
    count =
        b.createOrFold<arith::MulIOp>(loc, count, b.createOrFold<tensor::DimOp>(loc, init, axis));
  Value few = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ule, count,
                                    arith::ConstantIndexOp::create(b, loc, kGemvRows));
  Schedule gemv = many;
  gemv.columns = many.paddedN();
  // Most often one row: more than eight are two blocks, the second of which finds its weights in the
  // L2 cache.
  chooseGemv(gemv, 8);
  auto build = [&](const Schedule &s) {
    return [&](OpBuilder &inner, Location at) {
      Value result = launch(inner, at, s, layer, inputs, init);
      scf::YieldOp::create(inner, at, result);
    };
  };
  return scf::IfOp::create(b, loc, few, build(gemv), build(many)).getResult(0);
}

void ScheduleCUDA::replace(Operation *op, const LayerConstants &layer, const Schedule &s) {
  if (auto gather = dyn_cast<GatherOp>(op))
    return replaceGather(gather, layer, s);
  OpBuilder b(op);
  Location loc = op->getLoc();
  auto output = cast<RankedTensorType>(op->getResult(0).getType());
  Type element = s.output == Element::F32 ? b.getF32Type() : Type(b.getI8Type());
  Value input = op->getOperand(0);
  if (s.input != Element::F32)
    input = castElement(b, loc, input, b.getI8Type());
  int64_t rank = output.getRank();
  // Channels last and back.
  SmallVector<int64_t> toLast = {0}, toFirst = {0, rank - 1};
  for (int64_t axis = 2; axis < rank; ++axis) {
    toLast.push_back(axis);
    toFirst.push_back(axis - 1);
  }
  toLast.push_back(1);
  bool isConv = s.conv.has_value();
  SmallVector<Value> inputs;
  if (isConv && s.channelsLast())
    inputs.push_back(transpose(b, loc, input, toLast));
  else
    inputs.push_back(input);
  ArrayRef<int8_t> weights(layer.weights);
  std::vector<int32_t> parameters;
  if (s.weightOnly()) {
    std::vector<uint32_t> packed =
        s.bits == 16 ? packHalf(s, layer.halfWeights) : packWeightOnly(s, layer.unsignedWeights());
    inputs.push_back(vectorConstant(b, loc, packed, b.getI32Type(), layer.name, "weights"));
    parameters = packParameters(s, layer.groupedParameters(s));
  } else {
    std::vector<int8_t> packed = s.generator == "cuda.direct_s8"      ? packDirectS8(s, weights)
                                 : s.generator == "cuda.depthwise_s8" ? packDepthwiseS8(s, weights)
                                                                      : packMmaS8(s, weights);
    inputs.push_back(vectorConstant(b, loc, packed, b.getI8Type(), layer.name, "weights"));
    parameters = s.scales == Scales::Constant ? packParameters(s, layer.integerParameters())
                                              : packParameters(s, layer.runTimeParameters());
  }
  inputs.push_back(vectorConstant(b, loc, parameters, b.getI32Type(), layer.name, "parameters"));
  if (s.scales != Scales::Constant) {
    auto linear = cast<LinearOp>(op);
    inputs.push_back(linear.getInputScale());
    inputs.push_back(castElement(b, loc, linear.getInputZero(), b.getI8Type()));
  }
  SmallVector<int64_t> shape(output.getShape());
  SmallVector<Value> dynamic;
  for (int64_t axis = 0; axis < rank; ++axis)
    if (output.isDynamicDim(axis)) // Leading axes of a linear layer and the batch are the input's.
      dynamic.push_back(tensor::DimOp::create(b, loc, input, axis));
  if (isConv) {
    SmallVector<int64_t> last;
    for (int64_t axis : toLast)
      last.push_back(shape[axis]);
    shape = last;
  }
  Value empty = tensor::EmptyOp::create(b, loc, shape, element, dynamic);
  bool choose = s.weightOnly() && s.generator != "cuda.gemv" && !isConv && !dynamic.empty();
  Value result = choose ? launchByRows(b, loc, s, layer.name, inputs, empty)
                        : launch(b, loc, s, layer.name, inputs, empty);
  if (isConv)
    result = transpose(b, loc, result, toFirst);
  result = castElement(b, loc, result, output.getElementType());
  if (result.getType() != output)
    result = tensor::CastOp::create(b, loc, output, result);
  op->getResult(0).replaceAllUsesWith(result);
  op->erase();
}

void ScheduleCUDA::runOnOperation() {
  kernelNames.clear();
  SmallVector<Operation *> layers;
  getOperation().walk([&](Operation *op) {
    if (isa<LinearOp, ConvOp, GatherOp, DynamicQuantizeOp>(op))
      layers.push_back(op);
  });
  for (Operation *op : layers) {
    std::string why;
    auto dynamic = dyn_cast<DynamicQuantizeOp>(op);
    if (dynamic && succeeded(replaceDynamicQuantize(dynamic, why))) {
      ++scheduled;
      continue;
    }
    FailureOr<LayerConstants> layer = LayerConstants::get(op, why);
    FailureOr<Schedule> schedule =
        dynamic || failed(layer) ? FailureOr<Schedule>(failure()) : choose(op, *layer, why);
    if (succeeded(schedule)) {
      replace(op, *layer, *schedule);
      ++scheduled;
      continue;
    }
    op->emitRemark() << "no CUDA kernel: " << why << "; runs as its decomposition";
    op->setAttr("lowbit.fallback", StringAttr::get(&getContext(), why));
    ++left;
  }
}
