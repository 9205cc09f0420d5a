//===- EmulatedGraph.cpp - runs a whole model in the emulator ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "EmulatedGraph.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Target/CUDA/Pipeline.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/Support/FileSystem.h"
#include <cstring>
#include <memory>

using namespace lowbit;
using namespace lowbit::test;

namespace {
/// A strided view of a buffer; sizes and strides in elements.
struct View {
  std::shared_ptr<std::vector<char>> buffer;
  int64_t offset = 0, elementBytes = 1;
  std::vector<int64_t> sizes, strides;
  char *at(ArrayRef<int64_t> index) const {
    int64_t element = offset;
    for (auto [i, stride] : llvm::zip(index, strides))
      element += i * stride;
    return buffer->data() + element * elementBytes;
  }
};

class Interpreter {
public:
  Interpreter(ModuleOp module, lowbit_emulator *emulator) : module(module), emulator(emulator) {}
  void run(Block &block);

  llvm::DenseMap<Value, Attribute> scalars;
  llvm::DenseMap<Value, View> views;
  llvm::DenseMap<int64_t, View> weights; // by offset
  std::vector<View> results;
  std::string error;

private:
  void step(Operation *op);
  int64_t integer(Value value) { return cast<IntegerAttr>(scalars.lookup(value)).getInt(); }
  int64_t integer(OpFoldResult value) {
    if (auto attr = dyn_cast<Attribute>(value))
      return cast<IntegerAttr>(attr).getInt();
    return integer(cast<Value>(value));
  }
  std::vector<int64_t> integers(ArrayRef<OpFoldResult> values) {
    std::vector<int64_t> result;
    for (OpFoldResult value : values)
      result.push_back(integer(value));
    return result;
  }
  View allocate(MemRefType type, ValueRange dynamic);
  View reshape(const View &view, std::vector<int64_t> sizes);
  void launch(rt::LaunchOp op);
  void launch(gpu::LaunchFuncOp op);
  void call(const std::string &kernel, lowbit_emu_launch grid,
            const std::vector<lowbit_emu_argument> &arguments);

  ModuleOp module;
  lowbit_emulator *emulator;
  uint64_t seed = 0;
};
} // namespace

static std::vector<int64_t> rowMajor(ArrayRef<int64_t> sizes) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t i = sizes.size(); i-- > 1;)
    strides[i - 1] = strides[i] * sizes[i];
  return strides;
}

static int64_t product(ArrayRef<int64_t> sizes) {
  int64_t count = 1;
  for (int64_t size : sizes)
    count *= size;
  return count;
}

View Interpreter::allocate(MemRefType type, ValueRange dynamic) {
  View view;
  view.elementBytes = bytesPerElement(type.getElementType());
  for (int64_t size : type.getShape()) {
    if (ShapedType::isDynamic(size)) {
      size = integer(dynamic.front());
      dynamic = dynamic.drop_front();
    }
    view.sizes.push_back(size);
  }
  view.strides = rowMajor(view.sizes);
  view.buffer =
      std::make_shared<std::vector<char>>(product(view.sizes) * view.elementBytes, char(0x5a));
  return view;
}

/// Groups axes or splits them: only of views whose memory is contiguous.
View Interpreter::reshape(const View &view, std::vector<int64_t> sizes) {
  if (view.strides != rowMajor(view.sizes) && product(view.sizes) > 1)
    error = "a reshape of a strided view";
  View result = view;
  result.sizes = std::move(sizes);
  result.strides = rowMajor(result.sizes);
  return result;
}

void Interpreter::call(const std::string &kernel, lowbit_emu_launch grid,
                       const std::vector<lowbit_emu_argument> &arguments) {
  grid.size = sizeof grid;
  grid.seed = ++seed;
  if (grid.grid[0] && lowbit_emulator_run(emulator, kernel.c_str(), &grid, arguments.data(),
                                          arguments.size()) != LOWBIT_OK)
    error = lowbit_emulator_last_error();
}

void Interpreter::launch(rt::LaunchOp op) {
  std::string kernel = op.getKernel().str();
  auto function = module.lookupSymbol<gpu::GPUModuleOp>(kernel + "_device")
                      .lookupSymbol<gpu::GPUFuncOp>(kernel);
  ArrayRef<int64_t> shape =
      function->getAttrOfType<DenseI64ArrayAttr>("lowbit.launch").asArrayRef();
  std::vector<lowbit_emu_argument> arguments;
  auto add = [&](Value value, int32_t kind) {
    const View &view = views[value];
    arguments.push_back({kind, 0, 0, view.buffer->data() + view.offset * view.elementBytes,
                         uint64_t(product(view.sizes) * view.elementBytes)});
  };
  for (Value input : op.getInputs())
    add(input, LOWBIT_EMU_READ);
  add(op.getOutputs()[0], LOWBIT_EMU_READ_WRITE);
  ArrayRef<int64_t> sizes = views[op.getOutputs()[0]].sizes;
  int64_t rows = product(sizes.drop_back());
  arguments.push_back({LOWBIT_EMU_I32, 0, rows, nullptr, 0});
  lowbit_emu_launch grid = {0,
                            {uint32_t((rows + shape[1] - 1) / shape[1]), uint32_t(shape[2]), 1},
                            {uint32_t(shape[0]), 1, 1},
                            uint32_t(shape[3]),
                            0,
                            0,
                            0,
                            nullptr};
  call(kernel, grid, arguments);
}

void Interpreter::launch(gpu::LaunchFuncOp op) {
  std::vector<lowbit_emu_argument> arguments;
  for (Value operand : op.getKernelOperands()) {
    if (auto found = views.find(operand); found != views.end()) {
      // A memref is passed as its fields: two pointers, the offset, sizes, strides.
      View &view = found->second;
      lowbit_emu_argument pointer = {LOWBIT_EMU_READ_WRITE, 0, 0, view.buffer->data(),
                                     view.buffer->size()};
      arguments.insert(arguments.end(), 2, pointer);
      std::vector<int64_t> fields = {view.offset};
      fields.insert(fields.end(), view.sizes.begin(), view.sizes.end());
      fields.insert(fields.end(), view.strides.begin(), view.strides.end());
      for (int64_t field : fields)
        arguments.push_back({LOWBIT_EMU_I64, 0, field, nullptr, 0});
      continue;
    }
    Attribute scalar = scalars.lookup(operand);
    if (auto real = dyn_cast_or_null<FloatAttr>(scalar))
      arguments.push_back({LOWBIT_EMU_F32, 0,
                           int64_t(real.getValue().bitcastToAPInt().getZExtValue()), nullptr, 0});
    else
      arguments.push_back({operand.getType().isInteger(32) ? LOWBIT_EMU_I32 : LOWBIT_EMU_I64, 0,
                           integer(operand), nullptr, 0});
  }
  auto size = [&](gpu::KernelDim3 dims, uint32_t (&to)[3]) {
    to[0] = uint32_t(integer(dims.x)), to[1] = uint32_t(integer(dims.y)),
    to[2] = uint32_t(integer(dims.z));
  };
  lowbit_emu_launch grid = {};
  size(op.getGridSizeOperandValues(), grid.grid);
  size(op.getBlockSizeOperandValues(), grid.block);
  call(op.getKernelName().str(), grid, arguments);
}

void Interpreter::step(Operation *op) {
  if (auto launched = dyn_cast<rt::LaunchOp>(op))
    return launch(launched);
  if (auto launched = dyn_cast<gpu::LaunchFuncOp>(op))
    return launch(launched);
  if (auto done = dyn_cast<func::ReturnOp>(op)) {
    for (Value value : done.getOperands())
      results.push_back(views[value]);
    return;
  }
  if (isa<memref::DeallocOp, scf::YieldOp>(op))
    return;
  if (auto weight = dyn_cast<rt::WeightOp>(op)) {
    views[weight] = weights[weight.getOffset()];
  } else if (auto alloc = dyn_cast<memref::AllocOp>(op)) {
    views[alloc] = allocate(alloc.getType(), alloc.getDynamicSizes());
  } else if (auto dim = dyn_cast<memref::DimOp>(op)) {
    scalars[dim] =
        IntegerAttr::get(dim.getType(), views[dim.getSource()].sizes[integer(dim.getIndex())]);
  } else if (auto cast = dyn_cast<memref::CastOp>(op)) {
    views[cast] = views[cast.getSource()];
  } else if (auto collapse = dyn_cast<memref::CollapseShapeOp>(op)) {
    std::vector<int64_t> sizes;
    for (const ReassociationIndices &group : collapse.getReassociationIndices()) {
      sizes.push_back(1);
      for (int64_t axis : group)
        sizes.back() *= views[collapse.getSrc()].sizes[axis];
    }
    View result = reshape(views[collapse.getSrc()], sizes);
    views[collapse] = result;
  } else if (auto expand = dyn_cast<memref::ExpandShapeOp>(op)) {
    View result = reshape(views[expand.getSrc()], integers(expand.getMixedOutputShape()));
    views[expand] = result;
  } else if (auto subview = dyn_cast<memref::SubViewOp>(op)) {
    View view = views[subview.getSource()];
    std::vector<int64_t> offsets = integers(subview.getMixedOffsets()),
                         steps = integers(subview.getMixedStrides());
    for (auto [i, offset] : llvm::enumerate(offsets)) {
      view.offset += offset * view.strides[i];
      view.strides[i] *= steps[i];
    }
    view.sizes = integers(subview.getMixedSizes());
    llvm::SmallBitVector dropped = subview.getDroppedDims();
    for (size_t i = view.sizes.size(); i-- > 0;)
      if (dropped[i]) {
        view.sizes.erase(view.sizes.begin() + i);
        view.strides.erase(view.strides.begin() + i);
      }
    views[subview] = view;
  } else if (auto copy = dyn_cast<memref::CopyOp>(op)) {
    View from = views[copy.getSource()], to = views[copy.getTarget()];
    std::vector<int64_t> index(from.sizes.size(), 0);
    for (int64_t left = product(from.sizes); left > 0; --left) {
      std::memcpy(to.at(index), from.at(index), from.elementBytes);
      for (size_t i = index.size(); i-- > 0 && ++index[i] == from.sizes[i];)
        index[i] = 0;
    }
  } else if (auto load = dyn_cast<memref::LoadOp>(op)) {
    View view = views[load.getMemRef()];
    std::vector<int64_t> index;
    for (Value value : load.getIndices())
      index.push_back(integer(value));
    APInt bits(view.elementBytes * 8, 0);
    uint64_t raw = 0;
    std::memcpy(&raw, view.at(index), view.elementBytes);
    Type type = load.getType();
    if (auto real = dyn_cast<FloatType>(type))
      scalars[load] =
          FloatAttr::get(type, APFloat(real.getFloatSemantics(), APInt(real.getWidth(), raw)));
    else
      scalars[load] = IntegerAttr::get(type, APInt(64, raw).trunc(type.getIntOrFloatBitWidth()));
  } else if (auto store = dyn_cast<memref::StoreOp>(op)) {
    View view = views[store.getMemRef()];
    std::vector<int64_t> index;
    for (Value value : store.getIndices())
      index.push_back(integer(value));
    Attribute value = scalars.lookup(store.getValue());
    auto real = dyn_cast<FloatAttr>(value);
    uint64_t raw = real ? real.getValue().bitcastToAPInt().getZExtValue()
                        : mlir::cast<IntegerAttr>(value).getValue().getZExtValue();
    std::memcpy(view.at(index), &raw, view.elementBytes);
  } else if (auto check = dyn_cast<rt::AssertOp>(op)) {
    if (!integer(check.getCondition()))
      error = "assertion: " + check.getMessage().str();
  } else if (auto loop = dyn_cast<scf::ForOp>(op)) {
    for (auto [carried, init] : llvm::zip(loop.getRegionIterArgs(), loop.getInitArgs()))
      scalars[carried] = scalars.lookup(init);
    for (int64_t i = integer(loop.getLowerBound()); i < integer(loop.getUpperBound());
         i += integer(loop.getStep())) {
      scalars[loop.getInductionVar()] = IntegerAttr::get(loop.getInductionVar().getType(), i);
      run(*loop.getBody());
      SmallVector<Attribute> next;
      for (Value value : loop.getYieldedValues())
        next.push_back(scalars.lookup(value));
      for (auto [carried, value] : llvm::zip(loop.getRegionIterArgs(), next))
        scalars[carried] = value;
    }
    for (auto [result, carried] : llvm::zip(loop.getResults(), loop.getRegionIterArgs()))
      scalars[result] = scalars.lookup(carried);
  } else {
    // Everything else is arithmetic on constants by now.
    SmallVector<Attribute> operands;
    for (Value operand : op->getOperands())
      operands.push_back(scalars.lookup(operand));
    SmallVector<OpFoldResult> folded;
    if (mlir::failed(op->fold(operands, folded)) || folded.size() != op->getNumResults()) {
      error = "the host code has " + op->getName().getStringRef().str();
      return;
    }
    for (auto [result, value] : llvm::zip(op->getResults(), folded))
      scalars[result] = isa<Attribute>(value) ? mlir::cast<Attribute>(value)
                                              : scalars.lookup(mlir::cast<Value>(value));
  }
}

void Interpreter::run(Block &block) {
  for (Operation &op : block) {
    if (!error.empty())
      return;
    step(&op);
  }
}

std::vector<Tensor> test::runInEmulator(ModuleOp module, const std::vector<Tensor> &inputs,
                                        std::string &error) {
  PassManager pipeline(module.getContext());
  cuda::buildToKernelsPipeline(pipeline);
  SmallString<128> library;
  llvm::sys::fs::createTemporaryFile("lowbit-emulated", "so", library);
  cuda::BuildOptions options;
  options.emulatorPath = std::string(library);
  std::vector<cuda::KernelCode> kernels;
  lowbit_emulator *emulator = nullptr;
  if (mlir::failed(pipeline.run(module)) ||
      mlir::failed(cuda::compileKernels(module, options, kernels)))
    error = "building the kernels failed";
  else if (lowbit_emulator_open(library.c_str(), &emulator) != LOWBIT_OK)
    error = lowbit_emulator_last_error();
  llvm::sys::fs::remove(library);
  if (!error.empty())
    return {};
  Interpreter interpreter(module, emulator);
  for (auto global : module.getOps<memref::GlobalOp>())
    if (auto place = global->getAttrOfType<IntegerAttr>("lowbit_rt.offset")) {
      auto data = ConstantData::get(cast<ElementsAttr>(*global.getInitialValue()));
      View view;
      view.sizes = global.getType().getShape().vec();
      view.strides = rowMajor(view.sizes);
      view.elementBytes = bytesPerElement(global.getType().getElementType());
      view.buffer = std::make_shared<std::vector<char>>(data->bytes().begin(), data->bytes().end());
      interpreter.weights[place.getInt()] = view;
    }
  auto function = module.lookupSymbol<func::FuncOp>("main_graph");
  for (auto [argument, input] : llvm::zip(function.getArguments(), inputs)) {
    View view;
    view.buffer = std::make_shared<std::vector<char>>(input.bytes);
    view.sizes = input.shape;
    view.strides = rowMajor(view.sizes);
    view.elementBytes = bytesPerElement(cast<MemRefType>(argument.getType()).getElementType());
    interpreter.views[argument] = view;
  }
  interpreter.run(function.getBody().front());
  lowbit_emulator_close(emulator);
  error = interpreter.error;
  std::vector<Tensor> outputs;
  if (error.empty())
    for (const View &view : interpreter.results) {
      char *start = view.buffer->data() + view.offset * view.elementBytes;
      outputs.push_back({view.sizes, {start, start + product(view.sizes) * view.elementBytes}});
    }
  return outputs;
}
