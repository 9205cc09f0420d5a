//===- Mutations.cpp - ways to break a generated kernel ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Mutations.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Matchers.h"

using namespace lowbit;
using namespace lowbit::test;

//===----------------------------------------------------------------------===//
// Finding ops
//===----------------------------------------------------------------------===//

static std::optional<int64_t> constantOf(Value value) {
  APInt number;
  if (!matchPattern(value, m_ConstantInt(&number)))
    return std::nullopt;
  return number.getSExtValue();
}

/// All ops of a kind in the order of the code, or those that `which` accepts.
template <typename Op>
static SmallVector<Op> every(gpu::GPUFuncOp kernel, llvm::function_ref<bool(Op)> which = nullptr) {
  SmallVector<Op> found;
  kernel.walk<WalkOrder::PreOrder>([&](Op op) {
    if (!which || which(op))
      found.push_back(op);
  });
  return found;
}

/// The same by a constant right-hand side.
template <typename Op>
static SmallVector<Op> everyBy(gpu::GPUFuncOp kernel, int64_t constant) {
  return every<Op>(kernel, [&](Op op) { return constantOf(op.getRhs()) == constant; });
}

static scf::ForOp mainLoop(gpu::GPUFuncOp kernel) {
  auto loops = every<scf::ForOp>(kernel);
  return loops.empty() ? scf::ForOp() : loops.front();
}

static bool inLoop(Operation *op) { return op->getParentOfType<scf::ForOp>() != nullptr; }

/// The stages of the pipeline, as the wait of the main loop has them.
static std::optional<int64_t> stagesOf(gpu::GPUFuncOp kernel) {
  auto waits = every<NVVM::CpAsyncWaitGroupOp>(kernel);
  if (waits.empty())
    return std::nullopt;
  return int64_t(waits.front().getN()) + 2;
}

//===----------------------------------------------------------------------===//
// Changing them
//===----------------------------------------------------------------------===//

static Value integer(OpBuilder &b, Location loc, Type type, int64_t value) {
  return arith::ConstantIntOp::create(b, loc, type, value);
}

static bool setOperand(Operation *op, unsigned operand, int64_t value) {
  OpBuilder b(op);
  op->setOperand(operand, integer(b, op->getLoc(), op->getOperand(operand).getType(), value));
  return true;
}

/// The op's result becomes one of its operands.
static bool bypass(Operation *op, unsigned operand) {
  op->getResult(0).replaceAllUsesWith(op->getOperand(operand));
  op->erase();
  return true;
}

template <typename Op>
static bool bypassAll(gpu::GPUFuncOp kernel) {
  auto found = every<Op>(kernel);
  for (Op op : found)
    bypass(op, 0);
  return !found.empty();
}

static bool erase(Operation *op) {
  op->erase();
  return true;
}

static bool setLaunch(gpu::GPUFuncOp kernel, unsigned which,
                      llvm::function_ref<int64_t(int64_t)> f) {
  auto shape =
      llvm::to_vector(kernel->getAttrOfType<DenseI64ArrayAttr>("lowbit.launch").asArrayRef());
  shape[which] = f(shape[which]);
  kernel->setAttr("lowbit.launch", DenseI64ArrayAttr::get(kernel.getContext(), shape));
  return true;
}

static bool alwaysTrue(Operation *op) {
  OpBuilder b(op);
  op->setOperand(0, integer(b, op->getLoc(), b.getI1Type(), 1));
  return true;
}

//===----------------------------------------------------------------------===//
// The mutations
//===----------------------------------------------------------------------===//

using Apply = std::function<bool(gpu::GPUFuncOp)>;

/// The n-th op of a kind, counted from the end where n is negative.
template <typename Op>
static Apply onNth(int64_t n, std::function<bool(Op)> change,
                   std::function<bool(Op)> which = nullptr) {
  return [=](gpu::GPUFuncOp kernel) {
    auto found = every<Op>(kernel, [&](Op op) { return !which || which(op); });
    int64_t at = n < 0 ? n + int64_t(found.size()) : n;
    return at >= 0 && at < int64_t(found.size()) && change(found[at]);
  };
}

static const std::vector<std::string>
    kPipelined = {"mma_s8 linear", "mma_s8 conv", "w4a16"},
    // Copies that another thread reads.
    kShared = {"mma_s8 linear", "mma_s8 conv", "w8a16"},
    kMma = {"mma_s8 linear", "mma_s8 conv", "w4a16"},
    kEveryMma = {"mma_s8 linear", "mma_s8 conv", "mma_s8 conv bytes", "w4a16", "w8a16",
                 "mma_f16",       "gemv"},
    // Tiles are written to shared memory before the loop, too. gemv's loop alone has tiles.
    kSwizzled = {"mma_s8 linear", "mma_s8 conv", "mma_s8 conv bytes", "w4a16", "w8a16", "mma_f16"},
    kInteger = {"mma_s8 linear", "mma_s8 conv", "direct_s8"},
    kAll = {"mma_s8 linear", "mma_s8 conv", "mma_s8 conv bytes", "direct_s8", "w4a16",
            "w8a16",         "gather"};

static void addSynchronization(std::vector<Mutation> &all) {
  all.push_back({"barrier dropped", kEveryMma,
                 onNth<NVVM::Barrier0Op>(0, [](auto op) { return erase(op); })});
  all.push_back({"barrier dropped", {"rowquant"}, onNth<NVVM::Barrier0Op>(0, [](auto op) {
                   return erase(op);
                 })});
  all.push_back({"barrier of a warp before its stores dropped",
                 {"gemv"},
                 onNth<NVVM::SyncWarpOp>(0, [](auto op) { return erase(op); })});
  all.push_back({"barrier of a warp after its stores dropped",
                 {"gemv"},
                 onNth<NVVM::SyncWarpOp>(-1, [](auto op) { return erase(op); })});
  all.push_back({"a shuffle over another distance",
                 {"rowquant"},
                 onNth<NVVM::ShflOp>(0, [](auto op) { return setOperand(op, 2, 8); })});
  all.push_back({"shuffles leave lanes out", {"rowquant"}, onNth<NVVM::ShflOp>(0, [](auto op) {
                   return setOperand(op, 0, 0xffff);
                 })});
  all.push_back({"only every other thread comes to the barrier", kMma,
                 onNth<NVVM::Barrier0Op>(0, [](NVVM::Barrier0Op op) {
                   OpBuilder b(op);
                   Value thread = NVVM::ThreadIdXOp::create(b, op.getLoc(), b.getI32Type());
                   Value odd = arith::TruncIOp::create(b, op.getLoc(), b.getI1Type(), thread);
                   auto branch = scf::IfOp::create(b, op.getLoc(), odd, false);
                   op->moveBefore(branch.thenBlock()->getTerminator());
                   return true;
                 })});
  all.push_back({"wait dropped", kPipelined,
                 onNth<NVVM::CpAsyncWaitGroupOp>(0, [](auto op) { return erase(op); })});
  all.push_back(
      {"waits for one group too few", kPipelined, onNth<NVVM::CpAsyncWaitGroupOp>(0, [](auto op) {
         op.setN(op.getN() + 1);
         return true;
       })});
  all.push_back({"wait after the barrier", kShared, onNth<NVVM::CpAsyncWaitGroupOp>(0, [](auto op) {
                   op->moveAfter(op->getNextNode());
                   return true;
                 })});
  all.push_back({"first commit dropped", kPipelined,
                 onNth<NVVM::CpAsyncCommitGroupOp>(0, [](auto op) { return erase(op); })});
  all.push_back({"commit in the loop dropped", kPipelined,
                 onNth<NVVM::CpAsyncCommitGroupOp>(-1, [](auto op) { return erase(op); })});
  all.push_back({"copies of the next tile before the barrier", kShared,
                 onNth<NVVM::Barrier0Op>(0, [](NVVM::Barrier0Op op) {
                   for (Operation *next = op->getNextNode(); next; next = next->getNextNode())
                     if (isa<NVVM::CpAsyncCommitGroupOp>(next)) {
                       op->moveAfter(next);
                       return true;
                     }
                   return false;
                 })});
}

static void addCopies(std::vector<Mutation> &all) {
  auto first = [](std::function<bool(NVVM::CpAsyncOp)> change) {
    return onNth<NVVM::CpAsyncOp>(0, change);
  };
  all.push_back(
      {"a copy before the loop dropped", kPipelined, first([](auto op) { return erase(op); })});
  all.push_back({"a copy in the loop dropped", kPipelined,
                 onNth<NVVM::CpAsyncOp>(-1, [](auto op) { return erase(op); })});
  all.push_back({"a copy half as wide", kPipelined, first([](NVVM::CpAsyncOp op) {
                   op.setSize(op.getSize() / 2);
                   op.setModifier(NVVM::LoadCacheModifierKind::CA);
                   return true;
                 })});
  all.push_back({"a copy from 16 bytes further", kPipelined, first([](NVVM::CpAsyncOp op) {
                   OpBuilder b(op);
                   op.getSrcMutable().assign(
                       LLVM::GEPOp::create(b, op.getLoc(), op.getSrc().getType(), b.getI8Type(),
                                           op.getSrc(), ArrayRef<LLVM::GEPArg>{16}));
                   return true;
                 })});
  all.push_back({"a copy to a misaligned address", kPipelined, first([](NVVM::CpAsyncOp op) {
                   OpBuilder b(op);
                   op.getDstMutable().assign(
                       LLVM::GEPOp::create(b, op.getLoc(), op.getDst().getType(), b.getI8Type(),
                                           op.getDst(), ArrayRef<LLVM::GEPArg>{4}));
                   return true;
                 })});
  auto swizzle = [](bool loop) {
    return [loop](gpu::GPUFuncOp kernel) {
      auto found = every<arith::XOrIOp>(kernel, [&](arith::XOrIOp op) {
        return inLoop(op) == loop && op.getType().isInteger(32);
      });
      return !found.empty() && bypass(found.front(), 0);
    };
  };
  all.push_back({"no swizzle where tiles are written", kSwizzled, swizzle(false)});
  all.push_back({"no swizzle where tiles are read", kEveryMma, swizzle(true)});
  auto stage = [](bool copies, int64_t change) {
    return [=](gpu::GPUFuncOp kernel) {
      std::optional<int64_t> stages = stagesOf(kernel);
      scf::ForOp loop = mainLoop(kernel);
      if (!stages || !loop)
        return false;
      for (arith::RemUIOp op : everyBy<arith::RemUIOp>(kernel, *stages))
        if (inLoop(op) && (op.getLhs() != loop.getInductionVar()) == copies)
          return setOperand(op, 1, *stages + change);
      return false;
    };
  };
  all.push_back({"copies into one stage too early", kPipelined, stage(true, -1)});
  all.push_back({"reads from a stage too many", kPipelined, stage(false, +1)});
  all.push_back({"reads from one stage too early", kPipelined, stage(false, -1)});
  all.push_back(
      {"one buffer of activations instead of two", {"w4a16", "w8a16"}, [](gpu::GPUFuncOp kernel) {
         bool any = false;
         for (arith::RemUIOp op : everyBy<arith::RemUIOp>(kernel, 2))
           if (inLoop(op))
             any = setOperand(op, 1, 1);
         return any;
       }});
}

static void addShapes(std::vector<Mutation> &all) {
  all.push_back({"too few blocks for the rows", kAll, [](gpu::GPUFuncOp kernel) {
                   return setLaunch(kernel, 1, [](int64_t rows) { return 2 * rows; });
                 }});
  all.push_back({"a block too few for the columns",
                 {"mma_s8 linear", "w4a16", "w8a16", "gather"},
                 [](gpu::GPUFuncOp kernel) {
                   return setLaunch(kernel, 2, [](int64_t blocks) { return blocks - 1; });
                 }});
  all.push_back({"a block too many for the columns", kMma, [](gpu::GPUFuncOp kernel) {
                   return setLaunch(kernel, 2, [](int64_t blocks) { return blocks + 1; });
                 }});
  all.push_back({"a warp too few", kMma, [](gpu::GPUFuncOp kernel) {
                   return setLaunch(kernel, 0, [](int64_t threads) { return threads - 32; });
                 }});
  all.push_back({"a warp too many", kMma, [](gpu::GPUFuncOp kernel) {
                   return setLaunch(kernel, 0, [](int64_t threads) { return threads + 32; });
                 }});
  all.push_back({"shared memory too small", kMma, [](gpu::GPUFuncOp kernel) {
                   return setLaunch(kernel, 3, [](int64_t bytes) { return bytes - 16; });
                 }});
  all.push_back({"a step of k too few",
                 {"mma_s8 linear", "mma_s8 conv", "w4a16", "w8a16", "direct_s8"},
                 [](gpu::GPUFuncOp kernel) {
                   scf::ForOp loop = mainLoop(kernel);
                   return loop && setOperand(loop, 1, *constantOf(loop.getUpperBound()) - 1);
                 }});
  all.push_back({"a step of k too many",
                 {"mma_s8 linear", "mma_s8 conv", "w4a16", "direct_s8"},
                 [](gpu::GPUFuncOp kernel) {
                   scf::ForOp loop = mainLoop(kernel);
                   return loop && setOperand(loop, 1, *constantOf(loop.getUpperBound()) + 1);
                 }});
  all.push_back({"loads ignore where the matrix ends", kMma, [](gpu::GPUFuncOp kernel) {
                   auto found = every<arith::SelectOp>(kernel, [](arith::SelectOp op) {
                     return isa<LLVM::LLVMPointerType>(op.getType());
                   });
                   for (arith::SelectOp op : found)
                     alwaysTrue(op);
                   return !found.empty();
                 }});
  all.push_back({"other padding",
                 {"mma_s8 conv", "mma_s8 conv bytes", "direct_s8"},
                 [](gpu::GPUFuncOp kernel) {
                   auto found = every<arith::SelectOp>(kernel, [](arith::SelectOp op) {
                     return isa<LLVM::LLVMPointerType>(op.getType());
                   });
                   for (arith::SelectOp op : found) {
                     OpBuilder b(op);
                     Value base = kernel.getArgument(2); // The clamp, not the zero point.
                     op->setOperand(2, base);
                   }
                   return !found.empty();
                 }});
  auto guard = [](int64_t n) {
    return onNth<scf::IfOp>(
        n, [](scf::IfOp op) { return alwaysTrue(op); }, [](scf::IfOp op) { return !inLoop(op); });
  };
  all.push_back({"stores ignore the last row",
                 {"mma_s8 linear", "mma_s8 conv", "w4a16", "w8a16"},
                 [](gpu::GPUFuncOp kernel) {
                   bool any = false;
                   for (scf::IfOp op : every<scf::IfOp>(kernel)) {
                     auto compare = op.getCondition().getDefiningOp<arith::CmpIOp>();
                     if (!inLoop(op) && compare && compare.getRhs() == kernel.getArgument(4))
                       any = alwaysTrue(op);
                   }
                   return any;
                 }});
  all.push_back({"stores reach one row too far",
                 {"mma_s8 linear", "mma_s8 conv", "w4a16", "w8a16"},
                 [](gpu::GPUFuncOp kernel) {
                   bool any = false;
                   for (scf::IfOp op : every<scf::IfOp>(kernel)) {
                     auto compare = op.getCondition().getDefiningOp<arith::CmpIOp>();
                     if (!inLoop(op) && compare && compare.getRhs() == kernel.getArgument(4)) {
                       compare.setPredicate(arith::CmpIPredicate::ule);
                       any = true;
                     }
                   }
                   return any;
                 }});
  all.push_back({"stores ignore the last column",
                 {"mma_s8 linear", "w4a16", "w8a16"},
                 [](gpu::GPUFuncOp kernel) {
                   bool any = false;
                   for (scf::IfOp op : every<scf::IfOp>(kernel))
                     if (isa_and_nonnull<scf::IfOp>(op->getParentOp()) && !inLoop(op))
                       any = alwaysTrue(op);
                   return any;
                 }});
  all.push_back({"threads beyond the result work too", {"direct_s8", "gather"}, guard(0)});
}

static void addFragments(std::vector<Mutation> &all) {
  auto afterLoop = [](auto op) {
    auto loop = mainLoop(op->template getParentOfType<gpu::GPUFuncOp>());
    return loop && !inLoop(op) &&
           loop->isBeforeInBlock(loop->getBlock()->findAncestorOpInBlock(*op.getOperation()));
  };
  all.push_back(
      {"result row of another lane", kMma,
       onNth<arith::DivUIOp>(
           0, [](auto op) { return setOperand(op, 1, 8); },
           [=](arith::DivUIOp op) { return afterLoop(op) && constantOf(op.getRhs()) == 4; })});
  all.push_back(
      {"result column of another lane", kMma,
       onNth<arith::RemUIOp>(
           0, [](auto op) { return setOperand(op, 1, 8); },
           [=](arith::RemUIOp op) { return afterLoop(op) && constantOf(op.getRhs()) == 4; })});
  all.push_back(
      {"ldmatrix points at half of the rows", kMma,
       onNth<arith::RemUIOp>(
           0, [](auto op) { return setOperand(op, 1, 8); },
           [](arith::RemUIOp op) { return inLoop(op) && constantOf(op.getRhs()) == 16; })});
  all.push_back({"words of A exchanged", kMma, onNth<NVVM::MmaOp>(0, [](NVVM::MmaOp op) {
                   Value a = op->getOperand(1);
                   op->setOperand(1, op->getOperand(2));
                   op->setOperand(2, a);
                   return true;
                 })});
  all.push_back({"words of B exchanged", kMma, onNth<NVVM::MmaOp>(0, [](NVVM::MmaOp op) {
                   Value b = op->getOperand(4);
                   op->setOperand(4, op->getOperand(5));
                   op->setOperand(5, b);
                   return true;
                 })});
  all.push_back({"B of another tile", kMma, [](gpu::GPUFuncOp kernel) {
                   auto found = every<NVVM::MmaOp>(kernel);
                   if (found.size() < 2)
                     return false;
                   found[1]->setOperand(4, found[0]->getOperand(4));
                   found[1]->setOperand(5, found[0]->getOperand(5));
                   return true;
                 }});
  all.push_back({"sums of another tile",
                 {"mma_s8 linear", "mma_s8 conv", "w8a16"},
                 [](gpu::GPUFuncOp kernel) {
                   auto found = every<NVVM::MmaOp>(kernel);
                   if (found.size() < 2)
                     return false;
                   for (unsigned i = 6; i < 10; ++i)
                     found[1]->setOperand(i, found[0]->getOperand(i));
                   return true;
                 }});
  all.push_back({"a multiplication too few", kMma, onNth<NVVM::MmaOp>(-1, [](NVVM::MmaOp op) {
                   SmallVector<Operation *> users(op->getUsers());
                   for (auto [i, user] : llvm::enumerate(users)) {
                     auto extract = cast<LLVM::ExtractValueOp>(user);
                     extract.getResult().replaceAllUsesWith(
                         op->getOperand(6 + extract.getPosition()[0]));
                   }
                   return true;
                 })});
  all.push_back({"unsigned activations taken as signed",
                 {"mma_s8 linear", "mma_s8 conv"},
                 onNth<NVVM::MmaOp>(0, [](NVVM::MmaOp op) {
                   op.setMultiplicandAPtxType(NVVM::MMATypes::s8);
                   return true;
                 })});
}

static void addArithmetic(std::vector<Mutation> &all) {
  all.push_back(
      {"rounds towards zero", kInteger,
       onNth<LLVM::CallIntrinsicOp>(
           0,
           [](LLVM::CallIntrinsicOp op) {
             op.setIntrin("llvm.nvvm.f2i.rz");
             return true;
           },
           [](LLVM::CallIntrinsicOp op) { return op.getIntrin() == "llvm.nvvm.f2i.rn"; })});
  // Few results saturate: without any of the bounds.
  all.push_back({"no lower bound", kInteger, bypassAll<arith::MaxSIOp>});
  all.push_back({"no upper bound", kInteger, bypassAll<arith::MinSIOp>});
  all.push_back({"no zero point of the result", kInteger,
                 onNth<arith::TruncIOp>(
                     0,
                     [](arith::TruncIOp op) {
                       auto add = op.getIn().getDefiningOp<arith::AddIOp>();
                       return add && bypass(add, 0);
                     },
                     [](arith::TruncIOp op) { return op.getType().isInteger(8); })});
  all.push_back({"no bias", kInteger, onNth<arith::SIToFPOp>(0, [](arith::SIToFPOp op) {
                   auto add = op.getIn().getDefiningOp<arith::AddIOp>();
                   return add && bypass(add, 0);
                 })});
  all.push_back({"scales of neighbouring columns exchanged",
                 {"w4a16"},
                 onNth<LLVM::FMAOp>(
                     0,
                     [](LLVM::FMAOp op) {
                       auto element = op.getB().getDefiningOp<LLVM::ExtractElementOp>();
                       if (!element)
                         return false;
                       OpBuilder b(op);
                       Value other = LLVM::ExtractElementOp::create(
                           b, op.getLoc(), element.getVector(),
                           integer(b, op.getLoc(), b.getI32Type(), 1));
                       op->setOperand(1, other);
                       return true;
                     },
                     [](LLVM::FMAOp op) { return op.getType().isF32(); })});
  all.push_back({"scale of another group", {"w4a16", "gather"}, [](gpu::GPUFuncOp kernel) {
                   bool any = false;
                   for (arith::DivUIOp op : everyBy<arith::DivUIOp>(kernel, 32))
                     if (inLoop(op) || every<scf::ForOp>(kernel).empty())
                       any = setOperand(op, 1, 64);
                   return any;
                 }});
  all.push_back({"no zero point of the weights",
                 {"w4a16", "w8a16", "gather"},
                 onNth<arith::SubFOp>(
                     0,
                     [](arith::SubFOp op) {
                       OpBuilder b(op);
                       Type type = op.getType();
                       bool half = getElementTypeOrSelf(type).isF16();
                       // Without one, 1024 is what the weights' bits have too much.
                       TypedAttr value =
                           b.getFloatAttr(getElementTypeOrSelf(type), half ? 1024 : 0);
                       if (auto vector = dyn_cast<VectorType>(type))
                         value = DenseElementsAttr::get(vector, cast<Attribute>(value));
                       op->setOperand(1, arith::ConstantOp::create(b, op.getLoc(), value));
                       return true;
                     },
                     [](arith::SubFOp op) {
                       // The one whose left side is not a constant.
                       return !op.getLhs().getDefiningOp<arith::ConstantOp>();
                     })});
  all.push_back({"a nibble of its neighbour",
                 {"w4a16", "gather"},
                 onNth<arith::ShRUIOp>(0, [](arith::ShRUIOp op) {
                   OpBuilder b(op);
                   Value more = arith::AddIOp::create(b, op.getLoc(), op.getRhs(),
                                                      integer(b, op.getLoc(), op.getType(), 4));
                   op->setOperand(1, more);
                   return true;
                 })});
  all.push_back({"partial sums not scaled",
                 {"w4a16"},
                 onNth<LLVM::FMAOp>(
                     0,
                     [](LLVM::FMAOp op) {
                       OpBuilder b(op);
                       op.getResult().replaceAllUsesWith(
                           arith::AddFOp::create(b, op.getLoc(), op.getA(), op.getC()));
                       op->erase();
                       return true;
                     },
                     [](LLVM::FMAOp op) { return op.getType().isF32(); })});
  all.push_back({"negative indices not wrapped", {"gather"}, onNth<arith::SelectOp>(0, [](auto op) {
                   return bypass(op, 2);
                 })});
  all.push_back(
      {"indices not checked, table read beyond its end", {"gather"}, [](gpu::GPUFuncOp kernel) {
         for (scf::IfOp op : every<scf::IfOp>(kernel))
           if (op->getParentOfType<scf::IfOp>())
             alwaysTrue(op); // The trap, too.
         return true;
       }});
}

std::vector<Mutation> test::allMutations() {
  std::vector<Mutation> all;
  addSynchronization(all);
  addCopies(all);
  addShapes(all);
  addFragments(all);
  addArithmetic(all);
  return all;
}
