//===- EmulatedModule.cpp - runs scheduled kernels in the emulator ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "EmulatedModule.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/InitAll.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Target/CUDA/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace lowbit;
using namespace lowbit::test;

int64_t Tensor::elements() const {
  int64_t count = 1;
  for (int64_t extent : shape)
    count *= extent;
  return count;
}

static DialectRegistry makeRegistry() {
  DialectRegistry registry;
  registerAllDialects(registry);
  return registry;
}

EmulatedModule::EmulatedModule(const std::string &text, const std::function<void(ModuleOp)> &mutate,
                               int64_t rows)
    : context(makeRegistry(), MLIRContext::Threading::DISABLED) {
  ScopedDiagnosticHandler handler(
      &context, [&](Diagnostic &diagnostic) {
        if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
          error += diagnostic.str() + "\n";
      });
  root = parseSourceString<ModuleOp>(text, &context);
  if (!root)
    return;
  PassManager generate(&context);
  ScheduleCUDAOptions scheduling;
  scheduling.rows = rows;
  generate.addPass(createScheduleCUDA(scheduling));
  generate.addPass(createGenerateCUDA());
  if (failed(generate.run(*root)))
    return;
  hasNoKernel = root->getOps<gpu::GPUModuleOp>().empty();
  if (hasNoKernel)
    return;
  if (mutate) {
    mutate(*root);
    if (failed(verify(*root)))
      return;
  }
  SmallString<128> folder;
  if (llvm::sys::fs::createUniqueDirectory("lowbit-emulated", folder)) {
    error = "cannot make a temporary folder";
    return;
  }
  EmitCUDAOptions options;
  options.format = "emulator";
  options.output = std::string(folder);
  PassManager emit(&context);
  emit.addPass(createEmitCUDA(options));
  if (succeeded(emit.run(*root))) {
    llvm::sys::path::append(folder, "emulator.so");
    if (lowbit_emulator_open(folder.c_str(), &emulator) != LOWBIT_OK)
      error = lowbit_emulator_last_error();
  }
  llvm::sys::fs::remove_directories(options.output);
}

EmulatedModule::~EmulatedModule() { lowbit_emulator_close(emulator); }

static Tensor transpose(const Tensor &input, ArrayRef<int64_t> permutation, int64_t elementBytes) {
  size_t rank = input.shape.size();
  std::vector<int64_t> strides(rank, 1);
  for (size_t i = rank - 1; i-- > 0;)
    strides[i] = strides[i + 1] * input.shape[i + 1];
  Tensor result;
  for (int64_t axis : permutation)
    result.shape.push_back(input.shape[axis]);
  result.bytes.resize(input.bytes.size());
  std::vector<int64_t> index(rank, 0);
  for (int64_t at = 0; at < result.elements(); ++at) {
    int64_t from = 0;
    for (size_t i = 0; i < rank; ++i)
      from += index[i] * strides[permutation[i]];
    std::copy_n(&input.bytes[from * elementBytes], elementBytes, &result.bytes[at * elementBytes]);
    for (size_t i = rank; i-- > 0 && ++index[i] == result.shape[i];)
      index[i] = 0;
  }
  return result;
}

std::vector<Tensor> EmulatedModule::launch(Operation *op, const std::vector<const Tensor *> &inputs,
                                           std::vector<std::vector<int64_t>> shapes,
                                           uint64_t seed) {
  auto launch = cast<rt::LaunchOp>(op);
  std::string kernel = launch.getKernel().str();
  auto function =
      root->lookupSymbol<gpu::GPUModuleOp>(kernel + "_device").lookupSymbol<gpu::GPUFuncOp>(kernel);
  auto shapeOf = function->getAttrOfType<DenseI64ArrayAttr>("lowbit.launch").asArrayRef();
  statistics.size = sizeof statistics;
  std::vector<lowbit_emu_argument> arguments;
  for (const Tensor *input : inputs)
    arguments.push_back(
        {LOWBIT_EMU_READ, 0, 0, const_cast<char *>(input->bytes.data()), input->bytes.size()});
  std::vector<Tensor> outputs(shapes.size());
  for (size_t i = 0; i < shapes.size(); ++i) {
    Tensor &output = outputs[i];
    output.shape = shapes[i];
    int64_t bytes =
        bytesPerElement(cast<ShapedType>(launch.getOutputs()[i].getType()).getElementType());
    // Rubbish, so that a result that nobody writes is noticed.
    output.bytes.assign(output.elements() * bytes, 0x5a);
    arguments.push_back({LOWBIT_EMU_READ_WRITE, 0, 0, output.bytes.data(), output.bytes.size()});
  }
  int64_t rows = outputs[0].elements() / outputs[0].shape.back();
  arguments.push_back({LOWBIT_EMU_I32, 0, rows, nullptr, 0});
  lowbit_emu_launch grid = {
      sizeof grid,
      {uint32_t((rows + shapeOf[1] - 1) / shapeOf[1]), uint32_t(shapeOf[2]), 1},
      {uint32_t(shapeOf[0]), 1, 1},
      uint32_t(shapeOf[3]),
      seed,
      0,
      0,
      &statistics};
  if (lowbit_emulator_run(emulator, kernel.c_str(), &grid, arguments.data(), arguments.size()) !=
      LOWBIT_OK)
    error = lowbit_emulator_last_error();
  return outputs;
}

/// Sizes that the host computes: products of dimensions, and comparisons of them.
static int64_t evaluate(Value value, llvm::function_ref<int64_t(tensor::DimOp)> dim) {
  Operation *op = value.getDefiningOp();
  if (auto constant = dyn_cast<arith::ConstantIndexOp>(op))
    return constant.value();
  if (auto size = dyn_cast<tensor::DimOp>(op))
    return dim(size);
  if (auto product = dyn_cast<arith::MulIOp>(op))
    return evaluate(product.getLhs(), dim) * evaluate(product.getRhs(), dim);
  auto compare = cast<arith::CmpIOp>(op);
  return evaluate(compare.getLhs(), dim) <= evaluate(compare.getRhs(), dim);
}

Tensor EmulatedModule::run(const Tensor &input, uint64_t seed) {
  auto function = root->lookupSymbol<func::FuncOp>("main_graph");
  llvm::DenseMap<Value, Tensor> values;
  values[function.getArgument(0)] = input;
  int64_t batch = input.shape[0];
  std::function<Value(Block &)> runBlock = [&](Block &block) -> Value {
    for (Operation &op : block) {
      if (isa<func::ReturnOp, scf::YieldOp>(op))
        return op.getOperand(0);
      if (auto constant = ConstantData::get(op.getNumResults() == 1 ? op.getResult(0) : Value())) {
        ArrayRef<char> bytes = constant->bytes();
        values[op.getResult(0)] = {constant->getType().getShape().vec(),
                                   {bytes.begin(), bytes.end()}};
      } else if (auto transposed = dyn_cast<linalg::TransposeOp>(op)) {
        int64_t bytes = bytesPerElement(transposed.getInput().getType().getElementType());
        values[op.getResult(0)] =
            transpose(values[transposed.getInput()], transposed.getPermutation(), bytes);
      } else if (isa<tensor::CastOp, UnrealizedConversionCastOp>(op)) {
        Tensor same = values[op.getOperand(0)];
        values[op.getResult(0)] = std::move(same);
      } else if (auto branch = dyn_cast<scf::IfOp>(op)) {
        // Dynamic sizes are the batch's.
        bool taken = evaluate(branch.getCondition(), [&](tensor::DimOp dim) {
          auto type = cast<RankedTensorType>(dim.getSource().getType());
          int64_t axis = *dim.getConstantIndex();
          return type.isDynamicDim(axis) ? batch : type.getDimSize(axis);
        });
        Value result =
            runBlock(taken ? branch.getThenRegion().front() : branch.getElseRegion().front());
        Tensor same = values[result];
        values[op.getResult(0)] = std::move(same);
      } else if (auto launched = dyn_cast<rt::LaunchOp>(op)) {
        std::vector<const Tensor *> inputs;
        for (Value value : launched.getInputs())
          inputs.push_back(&values[value]);
        // The only dynamic sizes of these tests are leading ones of the input.
        std::vector<std::vector<int64_t>> shapes;
        for (Value result : launched.getResults()) {
          shapes.push_back(cast<RankedTensorType>(result.getType()).getShape().vec());
          for (size_t i = 0; i < shapes.back().size(); ++i)
            if (ShapedType::isDynamic(shapes.back()[i]))
              shapes.back()[i] = i == 0 ? batch : input.shape[i];
        }
        std::vector<Tensor> outputs = launch(launched, inputs, std::move(shapes), seed);
        for (auto [result, output] : llvm::zip(launched.getResults(), outputs))
          values[result] = std::move(output);
      }
      if (!error.empty())
        return {};
    }
    return {};
  };
  Value result = runBlock(function.getBody().front());
  return error.empty() ? values[result] : Tensor();
}
