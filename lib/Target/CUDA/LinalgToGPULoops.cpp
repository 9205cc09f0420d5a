//===- LinalgToGPULoops.cpp - linalg on buffers to loops over GPU threads ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "BufferClasses.h"
#include "lowbit/Target/CUDA/Passes.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/GPU/Transforms/ParallelLoopMapper.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/SCF/Transforms/Transforms.h"
#include "mlir/Dialect/SCF/Utils/Utils.h"
#include "mlir/IR/PatternMatch.h"

namespace lowbit {
#define GEN_PASS_DEF_LINALGTOGPULOOPS
#include "lowbit/Target/CUDA/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
struct LinalgToGPULoops : lowbit::impl::LinalgToGPULoopsBase<LinalgToGPULoops> {
  using LinalgToGPULoopsBase::LinalgToGPULoopsBase;

  void runOnOperation() override {
    IRRewriter rewriter(&getContext());
    SmallVector<linalg::LinalgOp> ops;
    getOperation().walk([&](linalg::LinalgOp op) {
      if (!op.hasPureBufferSemantics())
        return;
      if (op->hasAttr(cuda::kOnHost))
        ++kept;
      else
        ops.push_back(op);
    });
    for (linalg::LinalgOp op : ops) {
      rewriter.setInsertionPoint(op);
      if (failed(map(rewriter, op))) {
        op->emitError("this op has no loops that could be mapped to GPU threads");
        return signalPassFailure();
      }
      ++mapped;
    }
  }

  LogicalResult map(IRRewriter &rewriter, linalg::LinalgOp op);
  void assign(scf::ParallelOp loop, gpu::Processor processor);
};
} // namespace

/// The same op with its parallel loops outside of its reductions.
static FailureOr<linalg::LinalgOp> parallelFirst(IRRewriter &rewriter, linalg::LinalgOp op) {
  SmallVector<unsigned> order, reductions;
  for (auto [i, type] : llvm::enumerate(op.getIteratorTypesArray()))
    (type == utils::IteratorType::parallel ? order : reductions).push_back(i);
  order.append(reductions);
  if (llvm::is_sorted(order))
    return op;
  FailureOr<linalg::GenericOp> generic = linalg::generalizeNamedOp(rewriter, op);
  if (failed(generic)) {
    auto already = dyn_cast<linalg::GenericOp>(op.getOperation());
    if (!already)
      return failure();
    generic = already;
  }
  FailureOr<linalg::GenericOp> result = linalg::interchangeGenericOp(rewriter, *generic, order);
  if (failed(result))
    return failure();
  return cast<linalg::LinalgOp>(result->getOperation());
}

void LinalgToGPULoops::assign(scf::ParallelOp loop, gpu::Processor processor) {
  AffineMap identity = AffineMap::getMultiDimIdentityMap(1, &getContext());
  auto mapping = gpu::ParallelLoopDimMappingAttr::get(&getContext(), processor, identity, identity);
  (void)gpu::setMappingAttr(loop, mapping);
}

LogicalResult LinalgToGPULoops::map(IRRewriter &rewriter, linalg::LinalgOp op) {
  Location loc = op.getLoc();
  FailureOr<linalg::LinalgOp> ordered = parallelFirst(rewriter, op);
  if (failed(ordered))
    return failure();
  op = *ordered;
  rewriter.setInsertionPoint(op);
  if (op.getNumParallelLoops() == 0) {
    // One thread: what is on the device is the device's to change.
    Value zero = arith::ConstantIndexOp::create(rewriter, loc, 0),
          one = arith::ConstantIndexOp::create(rewriter, loc, 1);
    auto single = scf::ParallelOp::create(rewriter, loc, zero, one, one);
    rewriter.moveOpBefore(op, single.getBody()->getTerminator());
    rewriter.setInsertionPoint(op);
  }
  scf::ParallelOp loop = op->getParentOfType<scf::ParallelOp>();
  FailureOr<linalg::LinalgLoops> loops = linalg::linalgOpToParallelLoops(rewriter, op);
  if (failed(loops))
    return failure();
  if (!loop) {
    loop = loops->empty() ? scf::ParallelOp() : dyn_cast<scf::ParallelOp>(loops->front());
    if (!loop)
      return failure();
  }
  rewriter.eraseOp(op);
  if (loop.getNumLoops() > 1) {
    std::vector<unsigned> all;
    for (unsigned i = 0; i < loop.getNumLoops(); ++i)
      all.push_back(i);
    Operation *before = loop->getPrevNode();
    Block *block = loop->getBlock();
    rewriter.setInsertionPoint(loop);
    collapseParallelLoops(rewriter, loop, {all});
    // The collapsed loop stands where the nest stood.
    Block::iterator at = before ? std::next(before->getIterator()) : block->begin();
    while (!isa<scf::ParallelOp>(*at))
      ++at;
    loop = cast<scf::ParallelOp>(*at);
  }
  auto [blocks, threads] = scf::tileParallelLoop(loop, {blockSize}, /*noMinMaxBounds=*/true);
  assign(blocks, gpu::Processor::BlockX);
  assign(threads, gpu::Processor::ThreadX);
  return success();
}
