//===- QuantizableOpInterface.cpp - ops that have weights ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Interfaces/QuantizableOpInterface.h"

#include "lowbit/Interfaces/QuantizableOpInterface.cpp.inc"
