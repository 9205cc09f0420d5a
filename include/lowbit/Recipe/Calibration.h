//===- Calibration.h - what was measured, as a file -------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_RECIPE_CALIBRATION_H
#define LOWBIT_RECIPE_CALIBRATION_H

#include "lowbit/Support/LLVM.h"
#include "llvm/ADT/StringRef.h"
#include <map>
#include <optional>
#include <string>

namespace lowbit {

/// What one observer saw.
struct ObservedRange {
  float min = 0, max = 0;
  int64_t count = 0;
};

/// The content of a calibration file (docs/formats.md).
struct Calibration {
  std::string modelSha256;
  std::string recipeSha256; ///< Recipe::observerSha256.
  std::string method = "minmax";
  int64_t samples = 0;
  std::map<std::string, ObservedRange> ranges; ///< By observer name.

  /// Nothing, with a one-line reason in `error`, for a file that is no calibration file, damaged,
  /// or holds ranges that are not finite.
  static std::optional<Calibration> read(StringRef path, std::string &error);
  /// False, with the reason in `error`, where it cannot be written. The same content gives the same
  /// bytes.
  bool write(StringRef path, std::string &error) const;
};

} // namespace lowbit

#endif // LOWBIT_RECIPE_CALIBRATION_H
