//===- LoadCalibration.cpp - statistics into observers ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Recipe/Calibration.h"
#include "lowbit/Recipe/Recipe.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

namespace lowbit {
#define GEN_PASS_DEF_LOADCALIBRATION
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
struct LoadCalibration : public lowbit::impl::LoadCalibrationBase<LoadCalibration> {
  using LoadCalibrationBase::LoadCalibrationBase;

  /// The file is for this model and this recipe.
  LogicalResult checkOrigin(const Calibration &calibration) {
    ModuleOp module = getOperation();
    auto model = module->getAttrOfType<StringAttr>("onnx.model_sha256");
    if (model && model.getValue() != calibration.modelSha256) {
      InFlightDiagnostic diag = module.emitError("calibration file '")
                                << file << "' was made for another model";
      diag.attachNote() << "it names model " << calibration.modelSha256 << ", this one is "
                        << model.getValue() << "; calibrate this model";
      return diag;
    }
    if (recipe.empty())
      return success();
    RecipeError error;
    std::optional<Recipe> loaded = Recipe::load(recipe, error);
    if (!loaded)
      return module.emitError() << error.message;
    if (loaded->observerSha256() != calibration.recipeSha256) {
      InFlightDiagnostic diag = module.emitError("calibration file '")
                                << file
                                << "' was made for a recipe that calibrates in another way ("
                                << calibration.method << ")";
      diag.attachNote() << "recipe '" << loaded->name << "' asks for " << loaded->calibrationMethod
                        << "; calibrate with it";
      return diag;
    }
    return success();
  }

  void runOnOperation() override {
    std::string error;
    std::optional<Calibration> calibration = Calibration::read(file, error);
    if (!calibration) {
      getOperation().emitError() << error;
      return signalPassFailure();
    }
    if (failed(checkOrigin(*calibration)))
      return signalPassFailure();
    SmallVector<ObserveOp> missing;
    Builder builder(&getContext());
    getOperation()->walk([&](ObserveOp op) {
      auto found = calibration->ranges.find(op.getName().str());
      if (found == calibration->ranges.end()) {
        missing.push_back(op);
        return;
      }
      op.setStatsAttr(StatsAttr::get(&getContext(), builder.getF32FloatAttr(found->second.min),
                                     builder.getF32FloatAttr(found->second.max)));
      ++numLoaded;
    });
    if (missing.empty())
      return;
    InFlightDiagnostic diag = missing.front().emitOpError("'")
                              << missing.front().getName() << "' is not in calibration file '"
                              << file << "'";
    if (missing.size() > 1)
      diag << "; neither are " << missing.size() - 1 << " others";
    diag.attachNote()
        << "calibrate again with a recipe that quantizes the activations of this layer";
    signalPassFailure();
  }
};
} // namespace
