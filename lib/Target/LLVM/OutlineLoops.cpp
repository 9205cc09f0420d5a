//===- OutlineLoops.cpp - one function per loop nest ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ModelGlobals.h"
#include "lowbit/Target/LLVM/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "llvm/ADT/SetVector.h"

namespace lowbit {
#define GEN_PASS_DEF_OUTLINELOOPS
#include "lowbit/Target/LLVM/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

/// The buffer that `memref` is a view of.
static Value rootOf(Value memref) {
  while (auto view = memref.getDefiningOp<ViewLikeOpInterface>())
    memref = view.getViewSource();
  return memref;
}

/// The values that `op` reads from outside; constants are not among them.
static llvm::SetVector<Value> capturedValues(Operation *op,
                                             llvm::SetVector<Operation *> &constants) {
  llvm::SetVector<Value> captured;
  op->walk<WalkOrder::PreOrder>([&](Operation *inner) {
    for (Value operand : inner->getOperands()) {
      Operation *source = operand.getDefiningOp();
      if (source && op->isAncestor(source))
        continue;
      if (auto argument = dyn_cast<BlockArgument>(operand);
          argument && op->isAncestor(argument.getOwner()->getParentOp()))
        continue;
      if (source && source->hasTrait<OpTrait::ConstantLike>() &&
          !isa<MemRefType>(operand.getType()))
        constants.insert(source);
      else
        captured.insert(operand);
    }
  });
  return captured;
}

namespace {
struct OutlineLoops : public lowbit::impl::OutlineLoopsBase<OutlineLoops> {
  void runOnOperation() override {
    auto entry = getOperation().lookupSymbol<func::FuncOp>("main_graph");
    if (!entry || entry.isExternal())
      return;
    SmallVector<linalg::LinalgOp> nests;
    entry.walk<WalkOrder::PreOrder>([&](linalg::LinalgOp op) {
      if (op.hasPureBufferSemantics() && op.getNumLoops() > 0)
        nests.push_back(op);
      return WalkResult::skip();
    });
    functions.clear();
    SymbolTable symbols(getOperation());
    for (linalg::LinalgOp op : nests)
      outline(op, entry, symbols);
  }

  void outline(linalg::LinalgOp op, func::FuncOp entry, SymbolTable &symbols) {
    llvm::SetVector<Operation *> constants;
    llvm::SetVector<Value> captured = capturedValues(op, constants);
    SmallVector<Value> arguments = captured.takeVector();
    OpBuilder builder(&getContext());
    Location loc = op.getLoc();
    SmallVector<Type> types = llvm::map_to_vector(arguments, [](Value v) { return v.getType(); });
    OwningOpRef<func::FuncOp> function =
        func::FuncOp::create(loc, "loops", builder.getFunctionType(types, {}));
    function->setPrivate();
    // Inlined again they would be one huge function, whose compile time is more than linear.
    function->getOperation()->setAttr("passthrough", builder.getStrArrayAttr({"noinline"}));
    if (SmallVector<int64_t> pointers = distinctPointers(op, arguments); !pointers.empty())
      function->getOperation()->setAttr(kNoAlias, builder.getDenseI64ArrayAttr(pointers));

    Block *body = function->addEntryBlock();
    builder.setInsertionPointToStart(body);
    IRMapping mapping;
    mapping.map(arguments, body->getArguments());
    for (Operation *constant : constants)
      builder.clone(*constant, mapping);
    Operation *copy = builder.clone(*op.getOperation(), mapping);
    copy->setDiscardableAttrs(ArrayRef<NamedAttribute>());
    func::ReturnOp::create(builder, loc);

    std::string text;
    llvm::raw_string_ostream stream(text);
    function->print(stream, OpPrintingFlags().enableDebugInfo(false));
    auto [shared, isNew] = functions.try_emplace(text);
    if (isNew) {
      symbols.insert(*function, entry->getIterator());
      shared->second = function.release();
      ++numFunctions;
    }
    builder.setInsertionPoint(op);
    func::CallOp::create(builder, loc, shared->second, arguments);
    op.erase();
    ++numOutlined;
  }

  /// Which pointers of the lowered function nothing else points into: what is written, where it is
  /// an allocation that no other argument is a view of. A buffer of rank r becomes 3 + 2r
  /// arguments, the second of which is used.
  SmallVector<int64_t> distinctPointers(linalg::LinalgOp op, ArrayRef<Value> arguments) {
    SmallVector<int64_t> pointers;
    int64_t position = 0;
    for (Value argument : arguments) {
      auto type = dyn_cast<MemRefType>(argument.getType());
      int64_t pointer = position + 1;
      position += type ? 3 + 2 * type.getRank() : 1;
      if (!type || !llvm::is_contained(op.getDpsInits(), argument))
        continue;
      Value root = rootOf(argument);
      auto mayBeIt = [&](Value other) {
        return other != argument && isa<BaseMemRefType>(other.getType()) && mayBe(other, root);
      };
      if (root.getDefiningOp<memref::AllocOp>() && llvm::none_of(arguments, mayBeIt))
        pointers.push_back(pointer);
    }
    return pointers;
  }

  /// Allocations, the caller's inputs and weights are memory of their own; of anything else we do
  /// not know.
  static bool mayBe(Value memref, Value allocation) {
    Value root = rootOf(memref);
    if (root == allocation)
      return true;
    if (auto argument = dyn_cast<BlockArgument>(root))
      return !isa<func::FuncOp>(argument.getOwner()->getParentOp());
    Operation *source = root.getDefiningOp();
    return !isa<memref::AllocOp, memref::GetGlobalOp>(source) &&
           source->getName().getStringRef() != "lowbit_rt.weight";
  }

  llvm::StringMap<func::FuncOp> functions;
};
} // namespace
