//===- EmulatorRewriter.h - device instructions to calls of the emulator ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CUDA_EMULATORREWRITER_H
#define LOWBIT_LIB_TARGET_CUDA_EMULATORREWRITER_H

#include "lowbit/Emulator/Table.h"
#include "lowbit/Support/LLVM.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/Module.h"
#include <cstddef>
#include <optional>

/// The offset of an entry of lowbit_emu_table_t.
#define LOWBIT_ENTRY(NAME) offsetof(lowbit_emu_table_t, NAME)

namespace lowbit::cuda {

class EmulatorRewriter {
public:
  EmulatorRewriter(llvm::Module &module, Location loc)
      : module(module), loc(loc), context(module.getContext()) {}
  /// Reports every instruction that the emulator cannot execute, not only the first.
  LogicalResult run();

private:
  using Builder = llvm::IRBuilder<>;

  // EmulatorIR.cpp: memory and the module.
  /// Calls entry `offset` of the table.
  llvm::Value *call(Builder &b, size_t offset, llvm::Type *result,
                    ArrayRef<llvm::Value *> arguments);
  /// The same for entries that take arrays of words: stores `words`, returns a value of type
  /// `result` (a struct, or one word) read from the `result` array.
  llvm::Value *callOnWords(Builder &b, size_t offset, llvm::Type *result,
                           ArrayRef<llvm::Value *> words, ArrayRef<llvm::Value *> more);
  /// Words of the frame that every call of a function shares: they live only around it.
  llvm::Value *scratch(llvm::Function *function, unsigned words, unsigned which);
  void rewriteInstruction(llvm::Instruction *inst);
  void checkAccess(llvm::Instruction *inst, llvm::Value *pointer, llvm::Type *type,
                   llvm::Align align, unsigned access);
  void checkBytes(llvm::Instruction *inst, llvm::Value *pointer, llvm::Value *bytes,
                  unsigned access);
  /// The space as lowbit_emu_access has it; none for what needs no check.
  static std::optional<unsigned> spaceOf(llvm::Value *pointer);
  LogicalResult rewriteSharedMemory();
  LogicalResult exportKernel(llvm::Function *kernel);
  void unknown(llvm::Instruction *inst, const llvm::Twine &what);

  // EmulatorIntrinsics.cpp: each gives what the intrinsic is to be replaced by, a call where it has
  // no result, or null where it is not one of these.
  void rewriteIntrinsic(llvm::CallInst *inst);
  llvm::Value *synchronize(Builder &b, StringRef name, ArrayRef<llvm::Value *> args);
  llvm::Value *exchange(Builder &b, StringRef name, llvm::CallInst *inst,
                        ArrayRef<llvm::Value *> args);
  llvm::Value *multiply(Builder &b, StringRef name, llvm::CallInst *inst,
                        ArrayRef<llvm::Value *> args);
  llvm::Value *compute(Builder &b, StringRef name, llvm::CallInst *inst,
                       ArrayRef<llvm::Value *> args);
  llvm::Value *none(Builder &b);

  // A conversion that intrinsics and inline assembly share.
  llvm::Value *toInteger(Builder &b, llvm::Value *real, unsigned rounding, unsigned bits,
                         bool isUnsigned);

  // EmulatorHopper.cpp: mbarrier, bulk copies, wgmma.
  llvm::Value *hopper(Builder &b, StringRef name, llvm::CallInst *inst,
                      ArrayRef<llvm::Value *> args);
  /// Coordinates go through memory.
  llvm::Value *coordinates(Builder &b, ArrayRef<llvm::Value *> at);
  /// False where the text is none of these.
  bool rewriteHopperAssembly(llvm::CallInst *inst, StringRef text);
  /// A check at each use of a wgmma's sums by anything but the next wgmma.
  void guardSums();

  // EmulatorPTX.cpp: inline assembly.
  void rewriteAssembly(llvm::CallInst *inst);
  LogicalResult rewriteStatement(Builder &b, StringRef statement, llvm::CallInst *inst,
                                 MutableArrayRef<llvm::Value *> outputs);

  llvm::Module &module;
  Location loc;
  llvm::LLVMContext &context;
  llvm::GlobalVariable *table = nullptr;
  /// wgmma: what each one's sums are, with the ticket that says which; and what hands sums on.
  SmallVector<std::pair<llvm::Value *, llvm::Value *>> sums;
  llvm::DenseSet<llvm::Instruction *> handsOn;
  unsigned numUnknown = 0;
  llvm::StringSet<> reported;
};

} // namespace lowbit::cuda

#endif // LOWBIT_LIB_TARGET_CUDA_EMULATORREWRITER_H
