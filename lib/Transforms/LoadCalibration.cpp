//===- LoadCalibration.cpp - statistics into observers ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Analysis/ObservedValues.h"
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
                                << file << "' measured another model than recipe '"
                                << loaded->name << "' makes of this one";
      diag.attachNote() << "it was made with " << StringRef(calibration.measured).trim()
                        << ", the recipe asks for " << StringRef(loaded->printMeasured()).trim()
                        << "; calibrate with it";
      return diag;
    }
    return success();
  }

  /// The file's channels are those of the value.
  LogicalResult checkChannels(ObserveOp op, const TensorObserver &observer) {
    auto type = dyn_cast<RankedTensorType>(op.getInput().getType());
    if (!type || type.getRank() == 0)
      return success();
    std::optional<uint64_t> axis = op.getChannelAxis();
    int64_t channels = type.getDimSize(axis ? int64_t(*axis) : type.getRank() - 1),
            found = int64_t(observer.channels.size());
    if (ShapedType::isDynamic(channels) || channels == found)
      return success();
    InFlightDiagnostic diag = op.emitOpError("'") << op.getName() << "' has " << channels
                                                  << " channels, calibration file '" << file
                                                  << "' has " << found;
    diag.attachNote() << "calibrate this model again";
    return diag;
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
    WalkResult result = getOperation()->walk([&](ObserveOp op) {
      auto found = calibration->observers.find(op.getName().str());
      if (found == calibration->observers.end()) {
        missing.push_back(op);
        return WalkResult::advance();
      }
      if (failed(checkChannels(op, found->second)))
        return WalkResult::interrupt();
      op.setStatsAttr(getStatsAttr(&getContext(), found->second));
      ++numLoaded;
      return WalkResult::advance();
    });
    if (result.wasInterrupted())
      return signalPassFailure();
    if (missing.empty())
      return;
    InFlightDiagnostic diag = missing.front().emitOpError("'")
                              << missing.front().getName() << "' is not in calibration file '"
                              << file << "'";
    if (missing.size() > 1)
      diag << "; neither are " << missing.size() - 1 << " others";
    diag.attachNote()
        << "calibrate again with this recipe, and with data that reach the layer";
    signalPassFailure();
  }
};
} // namespace
