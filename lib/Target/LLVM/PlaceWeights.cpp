//===- PlaceWeights.cpp - places of constants in the weights file ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Target/LLVM/Passes.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/SHA256.h"

namespace lowbit {
#define GEN_PASS_DEF_PLACEWEIGHTS
#include "lowbit/Target/LLVM/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
struct PlaceWeights : public lowbit::impl::PlaceWeightsBase<PlaceWeights> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    OpBuilder builder(&getContext());
    llvm::StringMap<int64_t> places; // SHA-256 of the bytes to their offset.
    llvm::StringMap<int64_t> offsets;
    int64_t end = 0;
    for (auto global : module.getOps<memref::GlobalOp>()) {
      if (!global.getConstant() || !global.getInitialValue())
        continue;
      std::optional<ConstantData> data = ConstantData::get(*global.getInitialValue());
      if (!data) {
        global.emitError("expects a constant whose data is in memory; the resource is missing");
        return signalPassFailure();
      }
      auto bytes = ArrayRef<uint8_t>(reinterpret_cast<const uint8_t *>(data->bytes().data()),
                                     data->bytes().size());
      auto digest = llvm::SHA256::hash(bytes);
      auto [place, fresh] = places.try_emplace(
          StringRef(reinterpret_cast<const char *>(digest.data()), digest.size()), end);
      if (fresh)
        end = llvm::alignTo(end + (int64_t)bytes.size(), 64);
      else
        ++numShared;
      offsets[global.getSymName()] = place->second;
      global->setAttr("lowbit_rt.offset", builder.getI64IntegerAttr(place->second));
    }
    numBytes = end;
    module.walk([&](memref::GetGlobalOp get) {
      auto found = offsets.find(get.getName());
      if (found == offsets.end())
        return;
      builder.setInsertionPoint(get);
      get.replaceAllUsesWith(rt::WeightOp::create(builder, get.getLoc(), get.getType(),
                                                  builder.getI64IntegerAttr(found->second))
                                 .getResult());
      get.erase();
    });
  }
};
} // namespace
