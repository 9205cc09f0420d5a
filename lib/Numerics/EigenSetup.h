//===- EigenSetup.h - Eigen, with results that do not depend on the machine -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_NUMERICS_EIGENSETUP_H
#define LOWBIT_LIB_NUMERICS_EIGENSETUP_H

#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Dense>

namespace lowbit {

/// Eigen cuts products by the sizes of the caches that it finds, and with them the order of sums.
/// Fixed sizes give the same bits on every machine. Every entry point that multiplies calls this.
inline void fixEigenBlocking() {
  static const bool done = [] {
    Eigen::setCpuCacheSizes(32 << 10, 512 << 10, 8 << 20);
    return true;
  }();
  (void)done;
}

} // namespace lowbit

#endif // LOWBIT_LIB_NUMERICS_EIGENSETUP_H
