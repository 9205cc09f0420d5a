//===- KernelTable.h - one kernel for equal layers ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CPU_KERNELTABLE_H
#define LOWBIT_LIB_TARGET_CPU_KERNELTABLE_H

#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Support/LLVM.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

namespace lowbit::cpu {

/// Kernels of the module by what they do, so that equal layers share one.
class KernelTable {
public:
  explicit KernelTable(ModuleOp module) : module(module) {}
  FlatSymbolRefAttr get(OpBuilder &builder, Location loc, StringRef generator,
                        ArrayRef<std::pair<StringRef, int64_t>> schedule) {
    SmallVector<NamedAttribute> entries;
    for (auto [key, value] : schedule)
      entries.push_back(builder.getNamedAttr(key, builder.getI64IntegerAttr(value)));
    DictionaryAttr dictionary = builder.getDictionaryAttr(entries);
    StringAttr &name = names[{builder.getStringAttr(generator), dictionary}];
    if (!name) {
      std::string text = (generator.split('.').second + "_" + Twine(names.size() - 1)).str();
      name = builder.getStringAttr(text);
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(module.getBody());
      rt::KernelOp::create(builder, loc, name, builder.getStringAttr(generator), dictionary);
    }
    return FlatSymbolRefAttr::get(name);
  }

private:
  ModuleOp module;
  llvm::DenseMap<std::pair<Attribute, Attribute>, StringAttr> names;
};

} // namespace lowbit::cpu

#endif // LOWBIT_LIB_TARGET_CPU_KERNELTABLE_H
