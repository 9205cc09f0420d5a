//===- ShareKernels.cpp - equal kernels become one ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Target/CUDA/Passes.h"
#include "lowbit/Target/CUDA/Pipeline.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"

namespace lowbit {
#define GEN_PASS_DEF_SHAREKERNELS
#include "lowbit/Target/CUDA/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

/// The body of a kernel as text, to find those that are the same.
static std::string bodyText(gpu::GPUFuncOp kernel) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  stream << kernel.getFunctionType() << kernel->getAttr("lowbit.launch");
  for (Operation &op : kernel.getBody().front())
    op.print(stream, OpPrintingFlags().useLocalScope().printGenericOpForm());
  return text;
}

namespace {
struct ShareKernels : lowbit::impl::ShareKernelsBase<ShareKernels> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    named = 0;
    llvm::StringMap<gpu::GPUModuleOp> byBody;
    llvm::SetVector<Operation *> used;
    /// The module that stands for the one of this name; null where there is none.
    auto representative = [&](StringRef moduleName, StringRef kernelName,
                              StringRef layer) -> gpu::GPUModuleOp {
      auto found = module.lookupSymbol<gpu::GPUModuleOp>(moduleName);
      if (!found)
        return nullptr;
      auto kernel = *found.getOps<gpu::GPUFuncOp>().begin();
      auto [place, fresh] = byBody.try_emplace(bodyText(kernel), found);
      if (fresh) {
        // Outlined kernels of one function all have one name; their modules do not.
        if ((kernelName + "_device").str() != moduleName)
          rename(kernel, found, layer);
        used.insert(found);
      } else if (place->second != found) {
        ++shared;
      }
      return place->second;
    };
    module.walk([&](Operation *op) {
      if (auto launch = dyn_cast<rt::LaunchOp>(op)) {
        if (gpu::GPUModuleOp one =
                representative((launch.getKernel() + "_device").str(), launch.getKernel(), ""))
          launch.setKernelAttr(FlatSymbolRefAttr::get(nameOf(one)));
      } else if (auto launch = dyn_cast<gpu::LaunchFuncOp>(op)) {
        gpu::GPUModuleOp one = representative(launch.getKernelModuleName(), launch.getKernelName(),
                                                cuda::layerOf(op));
        launch.setKernelAttr(
            SymbolRefAttr::get(one.getSymNameAttr(), {FlatSymbolRefAttr::get(nameOf(one))}));
      }
    });
    for (auto device : llvm::make_early_inc_range(module.getOps<gpu::GPUModuleOp>()))
      if (!used.contains(device))
        device.erase();
    for (Operation *device : used)
      device->moveBefore(module.getBody(), module.getBody()->end());
    kept = used.size();
  }

  /// Profilers show the name: that of the node that the first launch came from, and a number; the
  /// module's where no node is known.
  void rename(gpu::GPUFuncOp kernel, gpu::GPUModuleOp device, StringRef layer) {
    if (layer.empty())
      return kernel.setName(device.getName());
    std::string name;
    for (char c : layer)
      name += llvm::isAlnum(c) ? c : '_';
    if (!llvm::isAlpha(name[0]))
      name = "node_" + name;
    kernel.setName(name + "_" + std::to_string(named++));
  }

  StringAttr nameOf(gpu::GPUModuleOp device) {
    return (*device.getOps<gpu::GPUFuncOp>().begin()).getNameAttr();
  }

private:
  int64_t named = 0;
};
} // namespace
