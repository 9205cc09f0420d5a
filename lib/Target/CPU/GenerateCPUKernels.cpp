//===- GenerateCPUKernels.cpp - builds the code of the CPU kernels ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "KernelBuilder.h"
#include "lowbit/Target/CPU/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinOps.h"

namespace lowbit {
#define GEN_PASS_DEF_GENERATECPUKERNELS
#include "lowbit/Target/CPU/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;
using namespace lowbit::cpu;

namespace {
struct Family {
  StringRef name;
  BodyGenerator body;
  TaskCounter tasks;
  bool anySize = false; ///< Built once for all sizes: dims are read from the buffers.
};

} // namespace

static const Family *findFamily(StringRef name) {
  static const Family families[] = {{"cpu.qgemm", generateQGemm, countQGemmTasks},
                                    {"cpu.wgemm", generateWGemm, countWGemmTasks},
                                    {"cpu.rowquant", generateRowQuant, countRowQuantTasks},
                                    {"cpu.fgemm", generateFGemm, countFGemmTasks, true},
                                    {"cpu.fpack", generateFPack, countFPackTasks, true},
                                    {"cpu.fdepthwise", generateFDepthwise, countFDepthwiseTasks,
                                     true}};
  for (const Family &family : families)
    if (family.name == name)
      return &family;
  return nullptr;
}

/// `memref` as one of unknown sizes.
static Value withoutSizes(OpBuilder &builder, Location loc, Value memref) {
  auto type = cast<MemRefType>(memref.getType());
  SmallVector<int64_t> shape(type.getRank(), ShapedType::kDynamic);
  auto plain = MemRefType::get(shape, type.getElementType());
  if (type == plain)
    return memref;
  return memref::CastOp::create(builder, loc, plain, memref);
}

namespace {
struct GenerateCPUKernels : public lowbit::impl::GenerateCPUKernelsBase<GenerateCPUKernels> {
  using GenerateCPUKernelsBase::GenerateCPUKernelsBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    SmallVector<const ISA *> variants;
    for (const std::string &name : isa) {
      variants.push_back(findISA(name));
      if (!variants.back()) {
        module.emitError() << "no kernel variant is called '" << name << "'";
        return signalPassFailure();
      }
    }
    if (variants.empty()) {
      module.emitError("expects at least one kernel variant in option isa");
      return signalPassFailure();
    }
    OpBuilder builder(&getContext());
    module->setAttr("lowbit_rt.isa",
                    builder.getStrArrayAttr(SmallVector<StringRef>(isa.begin(), isa.end())));

    SymbolTable symbols(module);
    SmallVector<rt::LaunchOp> launches;
    module.walk([&](rt::LaunchOp launch) { launches.push_back(launch); });
    llvm::SmallDenseMap<std::pair<Operation *, Type>, func::FuncOp> wrappers;
    for (rt::LaunchOp launch : launches) {
      auto kernel = symbols.lookup<rt::KernelOp>(launch.getKernel());
      if (!kernel) {
        launch.emitOpError("names a kernel that is not in the module: ") << launch.getKernel();
        return signalPassFailure();
      }
      const Family *family = findFamily(kernel.getGenerator());
      if (!family) {
        kernel.emitOpError("has no generator on this target: ") << kernel.getGenerator();
        return signalPassFailure();
      }
      builder.setInsertionPoint(launch);
      SmallVector<Value> operands(launch->getOperands());
      if (family->anySize)
        for (Value &operand : operands)
          operand = withoutSizes(builder, launch.getLoc(), operand);
      SmallVector<Type> types(ValueRange(operands).getTypes());
      // A kernel that is launched on buffers of other static shapes is built for each.
      func::FuncOp &wrapper = wrappers[{kernel, builder.getFunctionType(types, {})}];
      if (!wrapper) {
        wrapper = build(symbols, kernel, *family, types, variants);
        ++numKernels;
      }
      func::CallOp::create(builder, launch.getLoc(), wrapper, operands);
      launch.erase();
    }
    for (auto kernel : llvm::make_early_inc_range(module.getOps<rt::KernelOp>()))
      kernel.erase();
  }

  func::FuncOp build(SymbolTable &symbols, rt::KernelOp kernel, const Family &family,
                     ArrayRef<Type> types, ArrayRef<const ISA *> variants);
};
} // namespace

func::FuncOp GenerateCPUKernels::build(SymbolTable &symbols, rt::KernelOp kernel,
                                       const Family &family, ArrayRef<Type> types,
                                       ArrayRef<const ISA *> variants) {
  MLIRContext *context = &getContext();
  Location loc = kernel.getLoc();
  KernelBuilder b(kernel, loc);
  auto function = [&](Twine name, ArrayRef<Type> inputs) {
    b.setInsertionPoint(kernel);
    auto result = func::FuncOp::create(b, loc, name.str(), b.getFunctionType(inputs, {}));
    result.setPrivate();
    symbols.insert(result);
    b.setInsertionPointToStart(result.addEntryBlock());
    return result;
  };

  SmallVector<Type> bodyTypes(2, b.getIndexType());
  llvm::append_range(bodyTypes, types);
  SmallVector<func::FuncOp> bodies;
  for (const ISA *isa : variants) {
    func::FuncOp body = function(kernel.getSymName() + "." + isa->name, bodyTypes);
    Attribute features = b.getStrArrayAttr({"target-features", isa->features});
    Attribute prefer = b.getStrArrayAttr({"prefer-vector-width", std::to_string(isa->vectorBits)});
    Attribute legal =
        b.getStrArrayAttr({"min-legal-vector-width", std::to_string(isa->vectorBits)});
    Attribute processor = b.getStrArrayAttr({"target-cpu", "x86-64-v3"});
    body->setAttr("passthrough", b.getArrayAttr({processor, features, prefer, legal}));
    family.body(b, kernel, *isa, body);
    bodies.push_back(body);
  }

  // The wrapper: the first variant unless the runtime chose a better one.
  func::FuncOp wrapper = function(kernel.getSymName() + ".launch", types);
  ValueRange memrefs = wrapper.getArguments();
  Value tasks = family.tasks(b, kernel, memrefs);
  auto call = [&](func::FuncOp body) {
    rt::ParallelOp::create(b, loc, FlatSymbolRefAttr::get(context, body.getSymName()), tasks,
                           memrefs);
  };
  if (bodies.size() == 1) {
    call(bodies.front());
  } else {
    Value chosen = rt::ISAOp::create(b, loc, b.getI64Type());
    for (auto [index, body] : llvm::enumerate(bodies)) {
      Value number = arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(index));
      Value match = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, chosen, number);
      auto branch = scf::IfOp::create(b, loc, match);
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(&branch.getThenRegion().front());
      call(body);
    }
  }
  func::ReturnOp::create(b, loc);
  return wrapper;
}
