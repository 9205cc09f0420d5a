//===- FoldConstants.cpp - evaluates onnx ops on constants ------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ConstantEvaluation.h"
#include "lowbit/Analysis/ShapeAnalysis.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace lowbit {
#define GEN_PASS_DEF_FOLDCONSTANTS
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

/// The integers that the analysis knows `value` to hold, as a constant of its type.
static ElementsAttr knownIntegers(const ShapeAnalysis &analysis, Value value) {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  const SymbolicShape *shape = analysis.find(value);
  if (!type || !type.hasStaticShape() || !shape || !shape->contents ||
      !type.getElementType().isIntOrIndex())
    return {};
  if ((int64_t)shape->contents->size() != type.getNumElements())
    return {};
  int64_t size = bytesPerElement(type.getElementType());
  std::vector<char> bytes;
  for (const SymbolicExpr &element : *shape->contents) {
    std::optional<int64_t> constant = element.constant();
    if (!constant)
      return {};
    const char *raw = reinterpret_cast<const char *>(&*constant);
    bytes.insert(bytes.end(), raw, raw + size);
  }
  return makeConstant(type, bytes);
}

/// What an If will decide, where that is known; the condition may be a constant that folding has just made.
static std::optional<bool> knownCondition(const ShapeAnalysis &analysis, Value condition) {
  std::optional<ConstantData> data = ConstantData::get(condition);
  if (data && data->getType().getNumElements() == 1)
    return data->toInts().front() != 0;
  return analysis.condition(condition);
}

/// The operand that `op` hands on unchanged, or null.
static Value forwarded(Operation *op, const ShapeAnalysis &analysis) {
  StringRef name = onnx::getOperator(op);
  if (op->getNumResults() != 1 || op->getNumOperands() == 0)
    return {};
  Value input = op->getOperand(0), result = op->getResult(0);
  if (input.getType() != result.getType())
    return {};
  if (name == "Identity" || name == "Cast")
    return input;
  if (name == "Concat")
    return op->getNumOperands() == 1 ? input : Value();
  if (name == "Transpose") {
    SmallVector<int64_t> perm = onnx::getInts(op, "perm");
    return !perm.empty() && llvm::is_sorted(perm) ? input : Value();
  }
  if (name != "Reshape" && name != "Expand" && name != "Slice" && name != "Flatten")
    return {};
  const SymbolicShape *from = analysis.find(input), *to = analysis.find(result);
  if (!from || !to || from->dims != to->dims)
    return {};
  if (Value steps = name == "Slice" ? onnx::getOperand(op, 4) : Value()) {
    std::optional<ConstantData> data = ConstantData::get(steps);
    if (!data || llvm::any_of(data->toInts(), [](int64_t step) { return step != 1; }))
      return {};
  }
  return input;
}

namespace {
struct FoldConstants : public lowbit::impl::FoldConstantsBase<FoldConstants> {
  using FoldConstantsBase::FoldConstantsBase;

  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (!function.isExternal() && failed(runOnFunction(function)))
        return signalPassFailure();
  }

  LogicalResult runOnFunction(func::FuncOp function) {
    ShapeAnalysis analysis;
    if (failed(analysis.run(function)))
      return failure();
    foldBlock(function.getBody().front(), analysis);
    return success();
  }

  void foldBlock(Block &block, const ShapeAnalysis &analysis) {
    // Not with an iterator that looks ahead: an If leaves the ops of its graph behind it.
    for (Block::iterator next = block.begin(); next != block.end();) {
      Operation *op = &*next;
      StringRef name = onnx::getOperator(op);
      if (name == "If")
        if (std::optional<bool> taken = knownCondition(analysis, op->getOperand(0))) {
          next = inlineGraph(op, op->getRegion(*taken ? 0 : 1).front());
          continue;
        }
      ++next;
      if (name.empty() || name == "Constant" || name == "NoValue" || name == "Custom" ||
          name == "Yield")
        continue;
      for (Region &region : op->getRegions())
        foldBlock(region.front(), analysis);
      if (op->getNumRegions())
        continue;
      if (Value input = forwarded(op, analysis)) {
        op->getResult(0).replaceAllUsesWith(input);
        op->erase();
        ++numForwarded;
        continue;
      }
      fold(op, analysis);
    }
    // Constants that fed only what has been folded.
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
      if (op.getName().getDialectNamespace() == "onnx" && op.use_empty() && isMemoryEffectFree(&op) &&
          !op.hasTrait<OpTrait::IsTerminator>())
        op.erase();
  }

  /// Replaces an If by the graph that it takes; the first op of that graph, or what follows the If.
  Block::iterator inlineGraph(Operation *op, Block &graph) {
    Operation *yield = graph.getTerminator();
    for (auto [result, value] : llvm::zip(op->getResults(), yield->getOperands()))
      result.replaceAllUsesWith(value);
    yield->erase();
    Block *block = op->getBlock();
    Block::iterator first = graph.empty() ? std::next(op->getIterator()) : graph.begin();
    block->getOperations().splice(op->getIterator(), graph.getOperations());
    op->erase();
    ++numFolded;
    return first;
  }

  void fold(Operation *op, const ShapeAnalysis &analysis) {
    SmallVector<ElementsAttr> constants;
    if (op->getNumResults() == 1)
      if (ElementsAttr integers = knownIntegers(analysis, op->getResult(0)))
        constants.push_back(integers);
    if (constants.empty() && failed(evaluate(op, constants)))
      return;
    OpBuilder builder(op);
    for (auto [result, value] : llvm::zip(op->getResults(), constants)) {
      auto constant = onnx::ONNXConstantOp::create(builder, op->getLoc(), value);
      result.replaceAllUsesWith(constant.getOutput());
    }
    op->erase();
    ++numFolded;
  }
};
} // namespace
