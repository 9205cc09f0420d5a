//===- CheckLayers.cpp - every quantized layer of a model, CPU against emulator ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// lowbit-cuda-check-layers QUANTIZED.mlir INPUT.raw DIMS
//
// Runs the quantized module on the CPU on one input (raw bytes, DIMS such as 2x3x32x32) and keeps
// what every quantized layer read and wrote. Then each layer's CUDA kernel, alone, in the emulator
// on the same input: integer layers must give the same bytes, weight-only ones must stay within the
// error of rounding activations to f16. Layers without a kernel are counted for
// neither side. Exit status 1 where something does not agree. Whole graphs
// are compared as bundles, by test/Python/test_cuda_bundles.py.
//
//===----------------------------------------------------------------------===//
#include "EmulatedModule.h"
#include "HostModule.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/InitAll.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"
#include <cmath>
#include <cstring>
#include <limits>

using namespace lowbit;
using namespace lowbit::test;

static bool isLayer(Operation *op) { return isa<LinearOp, ConvOp, GatherOp>(op); }

/// The operand that is not a constant.
static Value activation(Operation *op) {
  if (auto gather = dyn_cast<GatherOp>(op))
    return gather.getIndices();
  return op->getOperand(0);
}

/// A module whose @main_graph is the layer alone.
static std::string isolate(Operation *op) {
  OpBuilder b(op->getContext());
  OwningOpRef<ModuleOp> module(ModuleOp::create(op->getLoc()));
  b.setInsertionPointToEnd(module->getBody());
  auto function =
      func::FuncOp::create(b, op->getLoc(), "main_graph",
                           b.getFunctionType(activation(op).getType(), op->getResult(0).getType()));
  b.setInsertionPointToStart(function.addEntryBlock());
  IRMapping mapping;
  mapping.map(activation(op), function.getArgument(0));
  for (Value operand : op->getOperands())
    if (!mapping.contains(operand))
      mapping.map(operand, b.clone(*operand.getDefiningOp())->getResult(0));
  func::ReturnOp::create(b, op->getLoc(), b.clone(*op, mapping)->getResults());
  std::string text;
  llvm::raw_string_ostream stream(text);
  module->print(stream);
  return text;
}

/// Row-major [filters, k], without the sign.
template <typename OpTy>
static std::vector<double> weightMagnitudes(OpTy op) {
  auto weights = ConstantData::get(op.getWeight());
  std::vector<float> scales = ConstantData::get(op.getWeightScale())->toFloats();
  RankedTensorType type = weights->getType();
  std::vector<double> result;
  if (isa<FloatType>(type.getElementType())) {
    for (float value : weights->toFloats())
      result.push_back(std::abs(double(value) * scales[0]));
    return result;
  }
  std::vector<int64_t> q = weights->toInts(), zeros;
  if (op.getWeightZero())
    zeros = ConstantData::get(op.getWeightZero())->toInts();
  int64_t k = type.getNumElements() / type.getDimSize(0), group = op.getGroup(),
          groups = group ? (k + group - 1) / group : 1;
  for (int64_t i = 0; i < int64_t(q.size()); ++i) {
    int64_t at = scales.size() == 1 ? 0 : i / k * groups + (group ? i % k / group : 0);
    result.push_back(std::abs(double(q[i] - (zeros.empty() ? 0 : zeros[at])) * scales[at]));
  }
  return result;
}

/// Σ|x||w| of each result of a layer with float activations: what its error is relative to.
static std::vector<double> magnitudes(LinearOp op, const Tensor &x) {
  std::vector<double> weights = weightMagnitudes(op);
  int64_t k = x.shape.back(), n = weights.size() / k, rows = x.elements() / k;
  std::vector<double> result(rows * n);
  auto *values = reinterpret_cast<const float *>(x.bytes.data());
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < n; ++column)
      for (int64_t i = 0; i < k; ++i)
        result[row * n + column] += std::abs(values[row * k + i]) * weights[column * k + i];
  return result;
}

static std::vector<double> magnitudes(ConvOp op, const Tensor &x, const Tensor &y) {
  std::vector<double> weights = weightMagnitudes(op), result(y.elements());
  ArrayRef<int64_t> filter = cast<ShapedType>(op.getWeight().getType()).getShape();
  int64_t axes = x.shape.size() - 2, channels = filter[1], k = channels;
  std::vector<int64_t> index(axes), tap(axes);
  for (int64_t extent : filter.drop_front(2))
    k *= extent;
  auto *values = reinterpret_cast<const float *>(x.bytes.data());
  for (int64_t at = 0; at < y.elements(); ++at) {
    int64_t left = at;
    for (int64_t d = axes; d-- > 0; left /= y.shape[d + 2])
      index[d] = left % y.shape[d + 2];
    int64_t f = left % y.shape[1], image = left / y.shape[1];
    int64_t firstChannel = f / (y.shape[1] / int64_t(op.getGroups())) * channels;
    for (int64_t i = 0; i < k; ++i) {
      int64_t rest = i;
      for (int64_t d = axes; d-- > 0; rest /= filter[d + 2])
        tap[d] = rest % filter[d + 2];
      int64_t from = image * x.shape[1] + firstChannel + rest;
      bool inside = true;
      for (int64_t d = 0; d < axes; ++d) {
        int64_t place =
            index[d] * op.getStrides()[d] + tap[d] * op.getDilations()[d] - op.getPads()[d];
        inside &= place >= 0 && place < x.shape[d + 2];
        from = from * x.shape[d + 2] + place;
      }
      if (inside)
        result[at] += std::abs(values[from]) * weights[f * k + i];
    }
  }
  return result;
}

/// "" or what is wrong with `got`.
static std::string compare(Operation *op, const Tensor &input, const Tensor &want,
                           const Tensor &got) {
  if (got.shape != want.shape)
    return "another shape";
  auto linear = dyn_cast<LinearOp>(op);
  auto conv = dyn_cast<ConvOp>(op);
  bool isFloat = (linear && !linear.getInputScale()) || (conv && !conv.getInputScale());
  if (!isFloat) {
    int64_t wrong = 0;
    for (size_t i = 0; i < want.bytes.size(); ++i)
      wrong += want.bytes[i] != got.bytes[i];
    return wrong ? std::to_string(wrong) + " of " + std::to_string(want.bytes.size()) +
                       " bytes differ"
                 : "";
  }
  std::vector<double> scale = linear ? magnitudes(linear, input) : magnitudes(conv, input, want);
  auto *a = reinterpret_cast<const float *>(want.bytes.data()),
       *b = reinterpret_cast<const float *>(got.bytes.data());
  int64_t filters = cast<ShapedType>(op->getOperand(1).getType()).getDimSize(0);
  double worst = 0,
         k = double(cast<ShapedType>(op->getOperand(1).getType()).getNumElements() / filters);
  for (size_t i = 0; i < scale.size(); ++i) {
    // f16 rounds to 2⁻¹¹; both sides sum k products in f32.
    double bound = scale[i] * (std::ldexp(1.0, -11) + 4 * (k + 64) * std::ldexp(1.0, -24)) + 1e-30;
    worst = std::max(worst, std::isfinite(b[i]) ? std::abs(double(a[i]) - b[i]) / bound : 1e30);
  }
  return worst <= 1 ? "" : "error " + std::to_string(worst) + " times its bound";
}

int main(int argc, char **argv) {
  if (argc != 4) {
    llvm::errs() << "usage: lowbit-cuda-check-layers QUANTIZED.mlir INPUT.raw DIMS\n";
    return 2;
  }
  DialectRegistry registry;
  registerAllDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  auto module = parseSourceFile<ModuleOp>(argv[1], &context);
  auto buffer = llvm::MemoryBuffer::getFile(argv[2], false, false);
  if (!module || !buffer)
    return 2;
  Tensor input;
  SmallVector<StringRef> dims;
  StringRef(argv[3]).split(dims, 'x');
  for (StringRef dim : dims) {
    int64_t extent = 0;
    dim.getAsInteger(10, extent);
    input.shape.push_back(extent);
  }
  input.bytes.assign((*buffer)->getBufferStart(), (*buffer)->getBufferEnd());

  // What each layer reads and writes becomes a result.
  auto function = module->lookupSymbol<func::FuncOp>("main_graph");
  auto *done = function.getBody().front().getTerminator();
  SmallVector<Operation *> layers;
  function.walk([&](Operation *op) {
    if (isLayer(op))
      layers.push_back(op);
  });
  std::vector<std::string> alone;
  SmallVector<Value> results;
  for (Operation *op : layers) {
    alone.push_back(isolate(op));
    results.append({activation(op), op->getResult(0)});
  }
  std::string error;
  done->setOperands(results);
  function.setFunctionType(
      FunctionType::get(&context, function.getArgumentTypes(), ValueRange(results).getTypes()));
  function.setResAttrsAttr(nullptr);
  OwningOpRef<ModuleOp> host(module->clone());
  std::vector<Tensor> values = runOnHost(*host, {input}, error);
  if (!error.empty() || values.size() != results.size()) {
    llvm::errs() << "on the CPU: " << error << "\n";
    return 1;
  }
  int failures = 0, loops = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    auto name = layers[i]->getAttrOfType<StringAttr>("layer");
    EmulatedModule emulated(alone[i]);
    if (emulated.error.empty() && emulated.hasNoKernel) {
      llvm::outs() << "loops   " << layers[i]->getName() << "  " << (name ? name.getValue() : "") << "\n";
      ++loops;
      continue;
    }
    Tensor got = emulated.error.empty() ? emulated.run(values[2 * i], i + 1) : Tensor();
    std::string why = emulated.error.empty()
                          ? compare(layers[i], values[2 * i], values[2 * i + 1], got)
                          : emulated.error;
    failures += !why.empty();
    llvm::outs() << (why.empty() ? "same   " : "DIFFERS") << "  " << layers[i]->getName() << "  "
                 << (name ? name.getValue() : "") << "  " << values[2 * i + 1].elements()
                 << " results" << (why.empty() ? "" : ": " + why) << "\n";
  }
  llvm::outs() << layers.size() - loops - failures << " of " << layers.size() - loops << " layers agree\n";
  return failures != 0;
}
