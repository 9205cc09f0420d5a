//===- CudaGraph.h - a launch plan on a stream or as a CUDA graph -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_CUDAGRAPH_H
#define LOWBIT_LIB_RUNTIME_CUDAGRAPH_H

#include "CudaDriver.h"
#include "LaunchPlan.h"
#include "Manifest.h"

namespace lowbit::runtime::cuda {

/// Where the parts of a plan are on the GPU in one replay.
struct Addresses {
  CUdeviceptr arena, weights, constants;
  std::vector<CUdeviceptr> inputs, outputs;
  CUdeviceptr of(const LaunchPlan &plan, const PlanAddress &address) const;
};

/// The functions of a bundle's kernels.
struct Kernels {
  std::vector<CUfunction> functions;
  const std::vector<KernelInfo> *infos = nullptr;
};

/// A kernel's parameters as the driver takes them.
class Parameters {
public:
  Parameters(const Kernels &kernels, const LaunchPlan &plan, const PlanStep &step,
             const Addresses &addresses);
  void **pointers() { return slots.data(); }

private:
  std::vector<int64_t> values;
  std::vector<void *> slots;
};

/// Puts all steps on a stream.
void launch(const Kernels &kernels, const LaunchPlan &plan, const Addresses &addresses,
            CUstream stream);

/// A plan as a graph, each step after the one before.
class PlanGraph {
public:
  PlanGraph(const Kernels &kernels, const LaunchPlan &plan, const Context &context,
            const Addresses &addresses);
  ~PlanGraph();
  PlanGraph(const PlanGraph &) = delete;
  PlanGraph &operator=(const PlanGraph &) = delete;

  /// Lets inputs and outputs be elsewhere in the next launch; all else has to be where it was.
  void move(const Addresses &addresses);
  void launch(CUstream stream);

private:
  void add(const PlanStep &step);

  const Kernels &kernels;
  const LaunchPlan &plan;
  const Context &context;
  Addresses addresses;
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
  std::vector<CUgraphNode> nodes; ///< One for each step.
};

} // namespace lowbit::runtime::cuda

#endif // LOWBIT_LIB_RUNTIME_CUDAGRAPH_H
