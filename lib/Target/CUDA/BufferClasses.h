//===- BufferClasses.h - which buffers share memory, and who reaches it ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CUDA_BUFFERCLASSES_H
#define LOWBIT_LIB_TARGET_CUDA_BUFFERCLASSES_H

#include "lowbit/Support/LLVM.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/EquivalenceClasses.h"

namespace lowbit::cuda {

/// Marks a linalg op that the host computes.
inline constexpr StringLiteral kOnHost = "lowbit_rt.on_host";

/// On the function, the inputs whose values the host reads.
inline constexpr StringLiteral kHostReads = "lowbit_rt.host_reads";
/// On the function: the host waits for values that the device computes.
inline constexpr StringLiteral kSynchronizes = "lowbit_rt.synchronizes";

/// Who reaches the memory of a class of buffers.
struct BufferUse {
  bool isAllocated = false; ///< Some of it comes from memref.alloc.
  bool hostReads = false, hostWrites = false, deviceReads = false, deviceWrites = false;
  /// On the device where kernels write it, or read what the host did not make.
  bool isOnDevice() const {
    return deviceWrites || (isAllocated && deviceReads && !hostWrites);
  }
};

/// Puts the buffers of a function into classes that may share memory, and decides which ops on them
/// the host computes: those that sizes and conditions come from, as far as everything that they
/// read is known to the host too.
class BufferClasses {
public:
  explicit BufferClasses(func::FuncOp function);

  const BufferUse &operator[](Value buffer) const;
  /// Whether a linalg op or a load is the host's.
  bool isHosts(Operation *op) const { return hostOps.contains(op); }
  bool haveSameMemory(Value a, Value b) const { return find(a) == find(b); }

private:
  const void *find(Value buffer) const {
    auto leader = classes.findLeader(buffer.getAsOpaquePointer());
    return leader == classes.member_end() ? buffer.getAsOpaquePointer() : *leader;
  }
  void unite(Value a, Value b);
  void uniteAliases(Operation *op);
  void chooseHostOps(func::FuncOp function);
  void recordUses(func::FuncOp function);

  llvm::EquivalenceClasses<const void *> classes;
  llvm::DenseMap<const void *, BufferUse> uses; // by leader
  llvm::DenseSet<Operation *> hostOps;
};

/// The buffers that a linalg op reads and writes, those that its body loads from among them.
SmallVector<Value> readBuffers(Operation *op);
SmallVector<Value> writtenBuffers(Operation *op);

} // namespace lowbit::cuda

#endif // LOWBIT_LIB_TARGET_CUDA_BUFFERCLASSES_H
