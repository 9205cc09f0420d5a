//===- Passes.h - passes of lib/Transforms ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TRANSFORMS_PASSES_H
#define LOWBIT_TRANSFORMS_PASSES_H

#include "lowbit/Recipe/RoundedLayers.h"
#include "lowbit/Support/LLVM.h"
#include "mlir/Pass/Pass.h"

namespace lowbit {
#define GEN_PASS_DECL
#include "lowbit/Transforms/Passes.h.inc"

/// lowbit-apply-recipe that takes the weights of the layers in `rounded` from there; null for none. It
/// must outlive the pass.
std::unique_ptr<Pass> createApplyRecipe(const ApplyRecipeOptions &options,
                                        const RoundedLayers *rounded);

#define GEN_PASS_REGISTRATION
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

#endif // LOWBIT_TRANSFORMS_PASSES_H
