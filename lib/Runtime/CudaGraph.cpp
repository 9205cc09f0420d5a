//===- CudaGraph.cpp - a launch plan on a stream or as a CUDA graph -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "CudaGraph.h"

#include "Failure.h"

#include <algorithm>

namespace lowbit::runtime::cuda {

CUdeviceptr Addresses::of(const LaunchPlan &plan, const PlanAddress &address) const {
  CUdeviceptr base = 0;
  switch (address.space) {
  case PlanAddress::Buffer: {
    const PlanBuffer &buffer = plan.buffers[size_t(address.index)];
    base = buffer.output >= 0 ? outputs[size_t(buffer.output)] : arena + CUdeviceptr(buffer.offset);
    break;
  }
  case PlanAddress::Input:
    base = inputs[size_t(address.index)];
    break;
  case PlanAddress::Weights:
    base = weights;
    break;
  case PlanAddress::Constants:
    base = constants;
    break;
  }
  return base + CUdeviceptr(address.offset);
}

Parameters::Parameters(const Kernels &kernels, const LaunchPlan &plan, const PlanStep &step,
                       const Addresses &addresses)
    : values(step.values) {
  const std::string &letters = (*kernels.infos)[size_t(step.kernel)].parameters;
  for (size_t i = 0; i < values.size(); ++i) {
    if (letters[i] == 'p')
      values[i] = int64_t(addresses.of(plan, step.addresses[size_t(step.values[i])]));
    slots.push_back(&values[i]);
  }
}

void launch(const Kernels &kernels, const LaunchPlan &plan, const Addresses &addresses,
            CUstream stream) {
  const CudaApi &api = driver();
  for (const PlanStep &step : plan.steps) {
    if (step.kernel < 0) {
      check(api.cuMemcpyDtoDAsync(addresses.of(plan, step.addresses[0]),
                                  addresses.of(plan, step.addresses[1]), size_t(step.bytes),
                                  stream),
            "copying on the GPU");
      continue;
    }
    Parameters parameters(kernels, plan, step, addresses);
    const int64_t *shape = step.shape;
    check(api.cuLaunchKernel(kernels.functions[size_t(step.kernel)], unsigned(shape[0]),
                             unsigned(shape[1]), unsigned(shape[2]), unsigned(shape[3]),
                             unsigned(shape[4]), unsigned(shape[5]), unsigned(shape[6]), stream,
                             parameters.pointers(), nullptr),
          "launching kernel " + inQuotes((*kernels.infos)[size_t(step.kernel)].name));
  }
}

static CUDA_MEMCPY3D copyParameters(const LaunchPlan &plan, const PlanStep &step,
                                    const Addresses &addresses) {
  CUDA_MEMCPY3D copy = {};
  copy.dstMemoryType = copy.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.dstDevice = addresses.of(plan, step.addresses[0]);
  copy.srcDevice = addresses.of(plan, step.addresses[1]);
  copy.dstPitch = copy.srcPitch = copy.WidthInBytes = size_t(step.bytes);
  copy.dstHeight = copy.srcHeight = copy.Height = copy.Depth = 1;
  return copy;
}

static CUDA_KERNEL_NODE_PARAMS kernelParameters(const Kernels &kernels, const PlanStep &step,
                                                Parameters &parameters) {
  CUDA_KERNEL_NODE_PARAMS node = {};
  node.func = kernels.functions[size_t(step.kernel)];
  node.gridDimX = unsigned(step.shape[0]);
  node.gridDimY = unsigned(step.shape[1]);
  node.gridDimZ = unsigned(step.shape[2]);
  node.blockDimX = unsigned(step.shape[3]);
  node.blockDimY = unsigned(step.shape[4]);
  node.blockDimZ = unsigned(step.shape[5]);
  node.sharedMemBytes = unsigned(step.shape[6]);
  node.kernelParams = parameters.pointers();
  return node;
}

PlanGraph::PlanGraph(const Kernels &kernels, const LaunchPlan &plan, const Context &context,
                     const Addresses &addresses)
    : kernels(kernels), plan(plan), context(context), addresses(addresses) {
  const CudaApi &api = driver();
  check(api.cuGraphCreate(&graph, 0), "making a graph");
  try {
    for (const PlanStep &step : plan.steps)
      add(step);
    check(api.cuGraphInstantiate(&exec, graph, 0), "instantiating the graph of a run");
  } catch (...) {
    api.cuGraphDestroy(graph);
    throw;
  }
}

void PlanGraph::add(const PlanStep &step) {
  const CudaApi &api = driver();
  const CUgraphNode *before = nodes.empty() ? nullptr : &nodes.back();
  CUgraphNode node = nullptr;
  if (step.kernel < 0) {
    CUDA_MEMCPY3D copy = copyParameters(plan, step, addresses);
    check(api.cuGraphAddMemcpyNode(&node, graph, before, before ? 1 : 0, &copy, context.context),
          "adding a copy to a graph");
  } else {
    Parameters parameters(kernels, plan, step, addresses);
    CUDA_KERNEL_NODE_PARAMS kernel = kernelParameters(kernels, step, parameters);
    check(api.cuGraphAddKernelNode(&node, graph, before, before ? 1 : 0, &kernel),
          "adding kernel " + inQuotes((*kernels.infos)[size_t(step.kernel)].name) + " to a graph");
  }
  nodes.push_back(node);
}

PlanGraph::~PlanGraph() {
  driver().cuGraphExecDestroy(exec);
  driver().cuGraphDestroy(graph);
}

void PlanGraph::move(const Addresses &next) {
  if (next.inputs == addresses.inputs && next.outputs == addresses.outputs)
    return;
  const CudaApi &api = driver();
  for (size_t i = 0; i < nodes.size(); ++i) {
    const PlanStep &step = plan.steps[i];
    if (std::all_of(step.addresses.begin(), step.addresses.end(), [&](const PlanAddress &address) {
          return next.of(plan, address) == addresses.of(plan, address);
        }))
      continue;
    if (step.kernel < 0) {
      CUDA_MEMCPY3D copy = copyParameters(plan, step, next);
      check(api.cuGraphExecMemcpyNodeSetParams(exec, nodes[i], &copy, context.context),
            "changing a copy of a graph");
      continue;
    }
    Parameters parameters(kernels, plan, step, next);
    CUDA_KERNEL_NODE_PARAMS kernel = kernelParameters(kernels, step, parameters);
    check(api.cuGraphExecKernelNodeSetParams(exec, nodes[i], &kernel),
          "changing kernel " + inQuotes((*kernels.infos)[size_t(step.kernel)].name) +
              " of a graph");
  }
  addresses = next;
}

void PlanGraph::launch(CUstream stream) {
  check(driver().cuGraphLaunch(exec, stream), "launching the graph of a run");
}

} // namespace lowbit::runtime::cuda
