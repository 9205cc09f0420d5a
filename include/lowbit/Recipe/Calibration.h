//===- Calibration.h - what was measured, as a file -------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_RECIPE_CALIBRATION_H
#define LOWBIT_RECIPE_CALIBRATION_H

#include "lowbit/Numerics/TensorObserver.h"
#include "lowbit/Support/LLVM.h"
#include "llvm/ADT/StringRef.h"
#include <array>
#include <map>
#include <optional>
#include <string>

namespace lowbit {

/// Identifies a set of samples: the sum of the samples' SHA-256 as numbers of 256 bits. So it does
/// not depend on their order or on batches, and that of a union is the sum.
class DataDigest {
public:
  /// 64 hexadecimal digits; a SHA-256 is the digest of a set of one sample.
  static std::optional<DataDigest> parse(StringRef text);
  std::string str() const;
  /// Adds the samples of another set.
  void merge(const DataDigest &other);

  bool operator==(const DataDigest &other) const { return limbs == other.limbs; }
  bool operator!=(const DataDigest &other) const { return !(*this == other); }

private:
  std::array<uint32_t, 8> limbs{}; ///< The least significant first.
};

/// The content of a calibration file (docs/formats.md).
struct Calibration {
  std::string modelSha256;
  std::string recipeSha256; ///< Recipe::observerSha256.
  std::string measured;     ///< Recipe::printMeasured, for messages.
  int64_t samples = 0;
  DataDigest data;
  std::map<std::string, TensorObserver> observers; ///< By name.

  /// Adds what `other` saw. False, with the reason in `error` and nothing changed, where it is of
  /// another model or recipe or observed other values.
  bool merge(const Calibration &other, std::string &error);

  /// Nothing, with a one-line reason in `error`, for a file that is no calibration file, damaged,
  /// or holds ranges that are not finite.
  static std::optional<Calibration> read(StringRef path, std::string &error);
  /// False, with the reason in `error`, where it cannot be written. The same content gives the same
  /// bytes; the file appears whole or not at all.
  bool write(StringRef path, std::string &error) const;
};

} // namespace lowbit

#endif // LOWBIT_RECIPE_CALIBRATION_H
