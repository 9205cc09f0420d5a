//===- Bufferization.cpp - lowbit_rt ops on tensors become ops on row-major buffers ---*- C++
//-*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "mlir/Dialect/Bufferization/IR/BufferizableOpInterface.h"
#include "mlir/Dialect/Bufferization/IR/DstBufferizableOpInterfaceImpl.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace lowbit;
using namespace lowbit::rt;
using namespace mlir::bufferization;

/// A new row-major buffer of this shape. `from`, which has the shape too, is copied into it; it may
/// be null where all dims are static.
static Value allocateCopy(RewriterBase &rewriter, Location loc, ShapedType shape, Value from) {
  SmallVector<Value> dynamic;
  for (int64_t d = 0; d < shape.getRank(); ++d)
    if (shape.isDynamicDim(d))
      dynamic.push_back(memref::DimOp::create(rewriter, loc, from, d));
  auto type = MemRefType::get(shape.getShape(), shape.getElementType());
  Value buffer = memref::AllocOp::create(rewriter, loc, type, dynamic);
  if (from)
    memref::CopyOp::create(rewriter, loc, from, buffer);
  return buffer;
}

/// The buffer of `value`, copied into row-major order where it is a strided view: kernels and the
/// runtime take row-major buffers only.
static FailureOr<Value> rowMajorBuffer(RewriterBase &rewriter, Location loc, Value value,
                                       const BufferizationOptions &options,
                                       BufferizationState &state) {
  FailureOr<Value> buffer = getBuffer(rewriter, value, options, state);
  if (failed(buffer))
    return failure();
  auto type = cast<MemRefType>(buffer->getType());
  if (type.getLayout().isIdentity())
    return buffer;
  return allocateCopy(rewriter, loc, type, *buffer);
}

namespace {
struct LaunchModel : public DstBufferizableOpInterfaceExternalModel<LaunchModel, LaunchOp> {
  bool bufferizesToMemoryRead(Operation *op, OpOperand &operand, const AnalysisState &) const {
    return !cast<DestinationStyleOpInterface>(op).isDpsInit(&operand);
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options, BufferizationState &state) const {
    auto launch = cast<LaunchOp>(op);
    SmallVector<Value> inputs, outputs;
    for (auto [from, to] :
         {std::pair(launch.getInputs(), &inputs), {launch.getOutputs(), &outputs}})
      for (Value value : from) {
        FailureOr<Value> buffer = rowMajorBuffer(rewriter, op->getLoc(), value, options, state);
        if (failed(buffer))
          return failure();
        to->push_back(*buffer);
      }
    LaunchOp::create(rewriter, op->getLoc(), TypeRange(), launch.getKernelAttr(), inputs, outputs,
                     launch.getLayerAttr());
    replaceOpWithBufferizedValues(rewriter, op, outputs);
    return success();
  }
};

struct ObserveModel : public BufferizableOpInterface::ExternalModel<ObserveModel, ObserveOp> {
  bool bufferizesToMemoryRead(Operation *, OpOperand &, const AnalysisState &) const {
    return true;
  }
  bool bufferizesToMemoryWrite(Operation *, OpOperand &, const AnalysisState &) const {
    return false;
  }
  AliasingValueList getAliasingValues(Operation *, OpOperand &, const AnalysisState &) const {
    return {};
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options, BufferizationState &state) const {
    auto observe = cast<ObserveOp>(op);
    FailureOr<Value> buffer =
        rowMajorBuffer(rewriter, op->getLoc(), observe.getInput(), options, state);
    if (failed(buffer))
      return failure();
    replaceOpWithNewBufferizedOp<ObserveOp>(rewriter, op, *buffer, observe.getIdAttr());
    return success();
  }
};

/// The result is always a new buffer: the caller may write to it.
struct ExchangeModel : public BufferizableOpInterface::ExternalModel<ExchangeModel, ExchangeOp> {
  bool bufferizesToAllocation(Operation *, Value) const { return true; }
  bool bufferizesToMemoryRead(Operation *, OpOperand &, const AnalysisState &) const {
    return true;
  }
  bool bufferizesToMemoryWrite(Operation *, OpOperand &, const AnalysisState &) const {
    return false;
  }
  AliasingValueList getAliasingValues(Operation *, OpOperand &, const AnalysisState &) const {
    return {};
  }
  bool resultBufferizesToMemoryWrite(Operation *, OpResult, const AnalysisState &) const {
    return true;
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options, BufferizationState &state) const {
    auto exchange = cast<ExchangeOp>(op);
    auto type = cast<RankedTensorType>(exchange.getOutput().getType());
    Value input;
    if (exchange.getInput()) {
      FailureOr<Value> buffer = getBuffer(rewriter, exchange.getInput(), options, state);
      if (failed(buffer))
        return failure();
      input = *buffer;
    }
    Value buffer = allocateCopy(rewriter, op->getLoc(), type, input);
    ExchangeOp::create(rewriter, op->getLoc(), Type(), buffer, exchange.getIdAttr());
    replaceOpWithBufferizedValues(rewriter, op, buffer);
    return success();
  }
};
} // namespace

void rt::registerBufferizableOpInterfaceExternalModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, LowbitRTDialect *) {
    LaunchOp::attachInterface<LaunchModel>(*context);
    ObserveOp::attachInterface<ObserveModel>(*context);
    ExchangeOp::attachInterface<ExchangeModel>(*context);
    context->loadDialect<memref::MemRefDialect>();
  });
}
