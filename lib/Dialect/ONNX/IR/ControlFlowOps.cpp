//===- ControlFlowOps.cpp - what If, Loop and Scan demand of their bodies -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Dialect/ONNX/IR/ONNX.h"

using namespace lowbit;
using namespace lowbit::onnx;

/// The body takes `arguments` values and ends in a yield of `outputs`.
static LogicalResult verifyBody(Operation *op, Region &region, size_t arguments, size_t outputs) {
  Block &body = region.front();
  if (body.getNumArguments() != arguments)
    return op->emitOpError("has a body of ") << body.getNumArguments() << " inputs, expected "
                                             << arguments;
  Operation *end = body.empty() ? nullptr : &body.back();
  if (!isa_and_nonnull<ONNXYieldOp>(end))
    return op->emitOpError("has a body that does not end in onnx.Yield");
  if (end->getNumOperands() != outputs)
    return op->emitOpError("has a body of ") << end->getNumOperands() << " outputs, expected "
                                             << outputs;
  return success();
}

LogicalResult ONNXIfOp::verify() {
  for (Region &region : (*this)->getRegions())
    if (failed(verifyBody(*this, region, 0, (*this)->getNumResults())))
      return failure();
  return success();
}

LogicalResult ONNXLoopOp::verify() {
  size_t carried = (*this)->getNumOperands() - 2;
  if ((*this)->getNumResults() < carried)
    return emitOpError("has ") << (*this)->getNumResults() << " results for " << carried
                               << " carried values";
  return verifyBody(*this, getBody(), 2 + carried, 1 + (*this)->getNumResults());
}

LogicalResult ONNXScanOp::verify() {
  int64_t operands = (*this)->getNumOperands(), inputs = getNumScanInputs();
  if (inputs < 1 || inputs > operands)
    return emitOpError("has num_scan_inputs = ") << inputs << " and " << operands << " operands";
  if ((*this)->getNumResults() < operands - inputs)
    return emitOpError("has ") << (*this)->getNumResults() << " results for " << operands - inputs
                               << " states";
  return verifyBody(*this, getBody(), operands, (*this)->getNumResults());
}
