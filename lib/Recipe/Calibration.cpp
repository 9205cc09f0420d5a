//===- Calibration.cpp - what was measured, as a file ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Recipe/Calibration.h"
#include "lowbit/Runtime/Safetensors.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/MemoryBuffer.h"
#include <cmath>
#include <cstring>

using namespace lowbit;

static constexpr const char *formatName = "lowbit.calibration/1";

/// The scalar NAME/part of type `dtype`; false where it is missing or not a scalar.
template <typename T>
static bool readScalar(const SafetensorsHeader &header, StringRef file, const std::string &tensor,
                       StringRef dtype, T &value) {
  const SafetensorsEntry *entry = header.find(tensor);
  if (!entry || entry->dtype != dtype || entry->end - entry->begin != sizeof(T))
    return false;
  std::memcpy(&value, file.data() + header.dataOffset + entry->begin, sizeof(T));
  return true;
}

std::optional<Calibration> Calibration::read(StringRef path, std::string &error) {
  auto fail = [&](const Twine &why) {
    error = ("calibration file '" + path + "' " + why).str();
    return std::nullopt;
  };
  auto buffer =
      llvm::MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer)
    return fail("cannot be read: " + buffer.getError().message());
  StringRef file = (*buffer)->getBuffer();
  std::string why;
  std::optional<SafetensorsHeader> header = parseSafetensors(file.data(), file.size(), why);
  if (!header)
    return fail("is not a safetensors file: " + why);
  auto metadata = [&](const std::string &key) {
    auto found = header->metadata.find(key);
    return found == header->metadata.end() ? std::string() : found->second;
  };
  if (metadata("format") != formatName)
    return fail(Twine("is not one of this version: its format is '") + metadata("format") +
                "', expected '" + formatName + "'");
  Calibration calibration;
  calibration.modelSha256 = metadata("model_sha256");
  calibration.recipeSha256 = metadata("recipe_sha256");
  calibration.method = metadata("method");
  if (StringRef(metadata("samples")).getAsInteger(10, calibration.samples))
    return fail("has no number of samples");
  for (const SafetensorsEntry &entry : header->entries) {
    StringRef name(entry.name);
    if (!name.consume_back("/min"))
      continue;
    ObservedRange range;
    std::string key = name.str();
    if (!readScalar(*header, file, key + "/min", "F32", range.min) ||
        !readScalar(*header, file, key + "/max", "F32", range.max) ||
        !readScalar(*header, file, key + "/count", "I64", range.count))
      return fail("is damaged: '" + key + "' has no f32 min and max and i64 count");
    if (!std::isfinite(range.min) || !std::isfinite(range.max) || range.min > range.max)
      return fail("has a range of '" + key + "' that is not finite and ordered: [" +
                  std::to_string(range.min) + ", " + std::to_string(range.max) + "]");
    calibration.ranges[key] = range;
  }
  return calibration;
}

bool Calibration::write(StringRef path, std::string &error) const {
  SafetensorsWriter writer;
  writer.setMetadata("format", formatName);
  writer.setMetadata("model_sha256", modelSha256);
  writer.setMetadata("recipe_sha256", recipeSha256);
  writer.setMetadata("method", method);
  writer.setMetadata("samples", std::to_string(samples));
  for (const auto &[name, range] : ranges) {
    writer.add(name + "/min", "F32", {}, &range.min, sizeof(range.min));
    writer.add(name + "/max", "F32", {}, &range.max, sizeof(range.max));
    writer.add(name + "/count", "I64", {}, &range.count, sizeof(range.count));
  }
  return writer.write(path.str(), error);
}
