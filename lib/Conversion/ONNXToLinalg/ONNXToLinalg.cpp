//===- ONNXToLinalg.cpp - lowers the onnx dialect ---------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "lowbit/Analysis/LayerName.h"
#include "lowbit/Conversion/Passes.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinDialect.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "mlir/IR/TypeUtilities.h"

namespace lowbit {
#define GEN_PASS_DEF_CONVERTONNXTOLINALG
#include "lowbit/Conversion/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;
using namespace lowbit::onnx;

const LoweringTable &lowbit::onnx::loweringTable() {
  static const LoweringTable table = [] {
    LoweringTable all;
    addAttentionLowerings(all);
    addBitLowerings(all);
    addBlockLowerings(all);
    addColumnLowerings(all);
    addContractionLowerings(all);
    addControlFlowLowerings(all);
    addConvolutionLowerings(all);
    addDeterminantLowerings(all);
    addEinsumLowerings(all);
    addElementwiseLowerings(all);
    addGeneratorLowerings(all);
    addIndexingLowerings(all);
    addLinearAttentionLowerings(all);
    addLossLowerings(all);
    addMovementLowerings(all);
    addNonMaxSuppressionLowerings(all);
    addNormalizationLowerings(all);
    addPoolingLowerings(all);
    addQuantizationLowerings(all);
    addRecurrentLowerings(all);
    addReductionLowerings(all);
    addResizeLowerings(all);
    addRotaryLowerings(all);
    addSamplingLowerings(all);
    addScanLowerings(all);
    addScatterLowerings(all);
    addSelectionLowerings(all);
    addShapeLowerings(all);
    addSignalLowerings(all);
    addSlicingLowerings(all);
    addSparseLowerings(all);
    return all;
  }();
  return table;
}

static bool isONNX(Operation *op) { return op->getName().getDialectNamespace() == "onnx"; }

/// The same values in the type they are lowered in.
static TypedAttr signlessElements(ElementsAttr value) {
  auto type = cast<RankedTensorType>(toSignless(value.getShapedType()));
  if (type == value.getShapedType())
    return cast<TypedAttr>(value);
  if (isByteStored(value.getElementType()))
    if (std::optional<ConstantData> data = ConstantData::get(value))
      return cast<TypedAttr>(makeConstant(type, data->bytes()));
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(value))
    return DenseResourceElementsAttr::get(type, resource.getRawHandle());
  return cast<DenseElementsAttr>(value).bitcast(type.getElementType());
}

namespace {
struct ConvertONNXToLinalg : public lowbit::impl::ConvertONNXToLinalgBase<ConvertONNXToLinalg> {
  using ConvertONNXToLinalgBase::ConvertONNXToLinalgBase;

  void runOnOperation() override {
    std::vector<std::string> failures;
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (!function.isExternal() && failed(convert(function, failures)))
        return signalPassFailure();
    if (failures.empty())
      return;
    InFlightDiagnostic error = emitError(getOperation().getLoc())
                               << failures.size() << " node(s) cannot be compiled: ";
    llvm::interleaveComma(failures, error);
    error.report();
    signalPassFailure();
  }

  LogicalResult convert(func::FuncOp function, std::vector<std::string> &failures);
  void removeSigns(func::FuncOp function);
};
} // namespace

namespace {
/// One function on its way to linalg.
class FunctionConverter {
public:
  FunctionConverter(ShapeAnalysis &shapes, MLIRContext *context, std::vector<std::string> &failures)
      : shapes(shapes), builder(context), failures(failures) {}

  /// Failure where an op of the block, or of the graphs inside it, is among the failures now.
  LogicalResult convert(Block &block);
  /// The onnx ops, once nothing is left to do.
  void eraseConverted() {
    for (Operation *op : llvm::reverse(done))
      op->erase();
  }
  int64_t converted = 0;

private:
  void useLowered(Operation &op);
  LogicalResult convert(Operation &op);

  ShapeAnalysis &shapes;
  OpBuilder builder;
  std::vector<std::string> &failures;
  llvm::DenseMap<Value, Value> values;
  SmallVector<Operation *> done;
};
} // namespace

/// Gives an op that stays the lowered operands.
void FunctionConverter::useLowered(Operation &op) {
  op.walk([&](Operation *inner) {
    for (OpOperand &operand : inner->getOpOperands()) {
      Value lowered = values.lookup(operand.get());
      // An onnx op's result, or what a graph inside one took.
      Operation *source = operand.get().getDefiningOp();
      if (!lowered || !isONNX(source ? source : operand.get().getParentBlock()->getParentOp()))
        continue;
      // The function's results change their types in the end, with the function.
      if (lowered.getType() != operand.get().getType() && !isa<func::ReturnOp>(inner))
        lowered =
            UnrealizedConversionCastOp::create(builder, op.getLoc(), operand.get().getType(), lowered)
                .getResult(0);
      operand.set(lowered);
    }
  });
}

LogicalResult FunctionConverter::convert(Block &block) {
  size_t before = failures.size();
  bool complete = true;
  // The ops of now: lowerings put others between them.
  SmallVector<Operation *> ops;
  for (Operation &op : block)
    ops.push_back(&op);
  for (Operation *op : ops) {
    builder.setInsertionPoint(op);
    if (isONNX(op))
      complete &= succeeded(convert(*op));
    else
      useLowered(*op);
  }
  return success(complete && failures.size() == before);
}

LogicalResult FunctionConverter::convert(Operation &op) {
  done.push_back(&op);
  StringRef name = onnx::getOperator(&op);
  if (name == "NoValue")
    return success();
  if (name == "Constant") {
    auto value = op.getAttrOfType<ElementsAttr>("value");
    values[op.getResult(0)] =
        arith::ConstantOp::create(builder, op.getLoc(), signlessElements(value));
    return success();
  }
  auto convertBlock = [&](Block &block) { return convert(block); };
  Lowering lowering(&op, builder, shapes, values, convertBlock);
  LoweringFunction lower = loweringTable().lookup(name);
  bool ready = llvm::all_of(op.getOperands(), [&](Value operand) {
    Operation *source = operand.getDefiningOp();
    return onnx::isAbsent(operand) || !source || !isONNX(source) || values.count(operand);
  });
  if (!ready)
    return failure(); // Behind a node that has been listed.
  for (Value result : op.getResults())
    if (lower && !isa<NoneType>(result.getType()) && !shapes.find(result))
      lower = nullptr, lowering.reason = "its shape is not known";
  if (!lower && lowering.reason.empty())
    lowering.reason = "no such operator";
  if (lower && succeeded(lower(lowering))) {
    ++converted;
    return success();
  }
  if (lowering.reason.empty())
    return failure(); // Because of a node inside it, which has been listed.
  std::string shown = name.str();
  if (name == "Custom") {
    std::string domain = onnx::getString(&op, "domain_name", "").str();
    shown = (domain.empty() ? "" : domain + ".") + onnx::getString(&op, "function_name", "").str();
    if (StringRef why = onnx::getString(&op, "reason", ""); !why.empty())
      lowering.reason = why.str();
  }
  failures.push_back(getLayerName(&op) + " (" + shown + ": " + lowering.reason + ")");
  return failure();
}

LogicalResult ConvertONNXToLinalg::convert(func::FuncOp function,
                                           std::vector<std::string> &failures) {
  ShapeAnalysis shapes;
  if (failed(shapes.run(function)))
    return failure();
  FunctionConverter converter(shapes, &getContext(), failures);
  bool complete = succeeded(converter.convert(function.getBody().front()));
  numConverted += converter.converted;
  if (!complete)
    return success(); // All functions are looked at before the one error.
  converter.eraseConverted();
  removeSigns(function);
  return success();
}

/// Unsigned element types go, but for the operands and results of lowbit ops, which mean them.
void ConvertONNXToLinalg::removeSigns(func::FuncOp function) {
  // Narrow integers that lowbit ops were lowered to stay as they are inside the function.
  auto hasSign = [](Type type) {
    Type element = getElementTypeOrSelf(type);
    return element.isUnsignedInteger() || (isa<FloatType>(element) && isByteStored(element));
  };
  auto meansSigns = [](Operation *op) {
    return op && op->getName().getDialectNamespace() == "lowbit";
  };
  OpBuilder builder(&getContext());
  llvm::SmallPtrSet<Operation *, 8> kept; // Casts back to what a lowbit op was built for.
  function.walk([&](Operation *op) {
    if (!meansSigns(op))
      return;
    builder.setInsertionPoint(op);
    for (OpOperand &operand : op->getOpOperands()) {
      Type type = operand.get().getType();
      if (!hasSign(type) || meansSigns(operand.get().getDefiningOp()))
        continue;
      auto cast = UnrealizedConversionCastOp::create(builder, op->getLoc(), type, operand.get());
      kept.insert(cast);
      operand.set(cast.getResult(0));
    }
    builder.setInsertionPointAfter(op);
    for (Value result : op->getResults()) {
      if (!hasSign(result.getType()))
        continue;
      auto plain =
          UnrealizedConversionCastOp::create(builder, op->getLoc(), result.getType(), result);
      result.replaceUsesWithIf(plain.getResult(0), [&](OpOperand &use) {
        return use.getOwner() != plain && !meansSigns(use.getOwner());
      });
    }
  });
  function.walk([&](Operation *op) {
    if (meansSigns(op) || kept.contains(op))
      return;
    for (Region &region : op->getRegions())
      for (Block &block : region)
        for (BlockArgument argument : block.getArguments())
          if (hasSign(argument.getType()) || op == function)
            argument.setType(toSignless(argument.getType()));
    for (Value result : op->getResults())
      if (hasSign(result.getType()))
        result.setType(toSignless(result.getType()));
    if (auto value = op->getAttrOfType<ElementsAttr>("value");
        value && isa<arith::ConstantOp>(op) && hasSign(value.getShapedType()))
      op->setAttr("value", signlessElements(value));
  });
  // Casts that have become no-ops.
  function.walk([](UnrealizedConversionCastOp cast) {
    if (cast->getNumOperands() == 1 && cast.getOperand(0).getType() == cast.getType(0)) {
      cast.getResult(0).replaceAllUsesWith(cast.getOperand(0));
      cast.erase();
    }
  });
  // Results of lowbit ops that are narrower than a byte leave the function as they were computed.
  function.walk([](func::ReturnOp op) {
    for (OpOperand &operand : op->getOpOperands())
      if (auto cast = operand.get().getDefiningOp<UnrealizedConversionCastOp>())
        if (cast->getNumOperands() == 1 && cast.getOperand(0).getType() == toSignless(cast.getType(0)))
          operand.set(cast.getOperand(0));
  });
  SmallVector<Type> inputs(function.getBody().front().getArgumentTypes());
  SmallVector<Type> outputs;
  for (Type type : function.getResultTypes())
    outputs.push_back(toSignless(type));
  function.setFunctionType(FunctionType::get(&getContext(), inputs, outputs));
}
