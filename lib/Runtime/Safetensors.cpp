//===- Safetensors.cpp - read and write safetensors -------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Runtime/Safetensors.h"

#include "Json.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>
#include <unistd.h>

namespace lowbit {

using namespace runtime;

static constexpr uint64_t maxHeader = 100'000'000;
static constexpr uint64_t dataAlignment = 4096, blobAlignment = 64;
static const char padPrefix[] = "__pad__/";

static uint64_t alignTo(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

int64_t safetensorsElementSize(const std::string &dtype) {
  static const std::map<std::string, int64_t> sizes = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1},
      {"U16", 2},  {"I16", 2}, {"F16", 2}, {"BF16", 2},    {"U32", 4},
      {"I32", 4},  {"F32", 4}, {"U64", 8}, {"I64", 8},     {"F64", 8}};
  auto it = sizes.find(dtype);
  return it == sizes.end() ? 0 : it->second;
}

const SafetensorsEntry *SafetensorsHeader::find(const std::string &name) const {
  for (const SafetensorsEntry &entry : entries)
    if (entry.name == name)
      return &entry;
  return nullptr;
}

/// Bytes of a tensor; nothing where a size is negative or the product overflows.
static std::optional<uint64_t> byteSize(const SafetensorsEntry &entry) {
  uint64_t bytes = uint64_t(safetensorsElementSize(entry.dtype));
  bool empty = std::find(entry.shape.begin(), entry.shape.end(), 0) != entry.shape.end();
  for (int64_t dim : entry.shape) {
    if (dim < 0)
      return std::nullopt;
    if (!empty && __builtin_mul_overflow(bytes, uint64_t(dim), &bytes))
      return std::nullopt;
  }
  return empty ? 0 : bytes;
}

/// Fills `entry` from its JSON; false where a field is missing or of a wrong kind.
static bool readEntry(const Json &json, SafetensorsEntry &entry) {
  const Json *dtype = member(json, "dtype");
  const Json *shape = member(json, "shape");
  const Json *offsets = member(json, "data_offsets");
  if (!dtype || !dtype->is_string() || !shape || !shape->is_array() || !offsets ||
      !offsets->is_array() || offsets->size() != 2)
    return false;
  entry.dtype = dtype->get<std::string>();
  for (const Json &dim : *shape) {
    std::optional<int64_t> value = integer(dim);
    if (!value)
      return false;
    entry.shape.push_back(*value);
  }
  std::optional<int64_t> begin = integer((*offsets)[0]), end = integer((*offsets)[1]);
  if (!begin || !end || *begin < 0 || *end < *begin)
    return false;
  entry.begin = uint64_t(*begin);
  entry.end = uint64_t(*end);
  return true;
}

std::optional<SafetensorsHeader> parseSafetensors(const void *file, uint64_t size,
                                                  std::string &error) {
  auto refuse = [&](const std::string &why) {
    error = "not a safetensors file: " + why;
    return std::nullopt;
  };
  uint64_t length = 0;
  if (size < 8)
    return refuse("it has " + std::to_string(size) + " bytes");
  std::memcpy(&length, file, 8);
  if (length > maxHeader || length > size - 8)
    return refuse("the header is said to be " + std::to_string(length) + " bytes long");
  std::string_view text(static_cast<const char *>(file) + 8, length);
  std::optional<Json> json = parseJsonObject(text, error);
  if (!json)
    return refuse("its header is broken: " + error);

  SafetensorsHeader header;
  header.dataOffset = 8 + length;
  uint64_t dataSize = size - header.dataOffset;
  for (const auto &[key, value] : json->items()) {
    if (key == "__metadata__") {
      if (!value.is_object())
        return refuse("__metadata__ is not an object");
      for (const auto &[name, text] : value.items()) {
        if (!text.is_string())
          return refuse("the metadata '" + name + "' is not a string");
        header.metadata[name] = text.get<std::string>();
      }
      continue;
    }
    SafetensorsEntry entry;
    entry.name = key;
    if (!readEntry(value, entry))
      return refuse("the entry '" + key + "' is malformed");
    if (safetensorsElementSize(entry.dtype) == 0)
      return refuse("'" + key + "' has the unknown dtype '" + entry.dtype + "'");
    if (entry.end > dataSize)
      return refuse("'" + key + "' ends at byte " + std::to_string(entry.end) + " of " +
                    std::to_string(dataSize) + " (truncated?)");
    std::optional<uint64_t> bytes = byteSize(entry);
    if (!bytes || *bytes != entry.end - entry.begin)
      return refuse("the shape of '" + key + "' does not fit its " +
                    std::to_string(entry.end - entry.begin) + " bytes");
    header.entries.push_back(std::move(entry));
  }
  auto order = [](const SafetensorsEntry &a, const SafetensorsEntry &b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  };
  std::sort(header.entries.begin(), header.entries.end(), order);
  for (size_t i = 1; i < header.entries.size(); ++i)
    if (header.entries[i].begin < header.entries[i - 1].end)
      return refuse("'" + header.entries[i].name + "' overlaps '" + header.entries[i - 1].name +
                    "'");
  auto isPad = [](const SafetensorsEntry &e) { return e.name.rfind(padPrefix, 0) == 0; };
  header.entries.erase(std::remove_if(header.entries.begin(), header.entries.end(), isPad),
                       header.entries.end());
  return header;
}

void SafetensorsWriter::setMetadata(const std::string &key, const std::string &value) {
  metadata[key] = value;
}

uint64_t SafetensorsWriter::add(const std::string &name, const std::string &dtype,
                                std::vector<int64_t> shape, const void *data, uint64_t bytes) {
  uint64_t begin = alignTo(size, blobAlignment);
  size = begin + bytes;
  tensors.push_back({{name, dtype, std::move(shape), begin, size}, data});
  return begin;
}

std::string SafetensorsWriter::header() const {
  // Written by hand in the order of the data: the map of the JSON library would sort by name.
  auto string = [](const std::string &text) {
    return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  std::string text = "{";
  if (!metadata.empty()) {
    text += "\"__metadata__\":{";
    const char *comma = "";
    for (const auto &[key, value] : metadata) {
      text += comma + string(key) + ":" + string(value);
      comma = ",";
    }
    text += "}";
  }
  auto append = [&](const std::string &name, const std::string &dtype,
                    const std::vector<int64_t> &shape, uint64_t begin, uint64_t end) {
    text += text.size() > 1 ? "," : "";
    text += string(name) + ":{\"dtype\":" + string(dtype) + ",\"shape\":" + Json(shape).dump() +
            ",\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
  };
  uint64_t at = 0;
  int pads = 0;
  for (const Tensor &tensor : tensors) {
    const SafetensorsEntry &e = tensor.entry;
    if (e.begin > at)
      append(padPrefix + std::to_string(pads++), "U8", {int64_t(e.begin - at)}, at, e.begin);
    append(e.name, e.dtype, e.shape, e.begin, e.end);
    at = e.end;
  }
  text += "}";
  text.resize(alignTo(text.size() + 8, dataAlignment) - 8, ' ');
  return text;
}

uint64_t SafetensorsWriter::dataOffset() const { return 8 + header().size(); }

bool SafetensorsWriter::write(const std::string &path, std::string &error) const {
  std::set<std::string> names;
  for (const Tensor &tensor : tensors) {
    const SafetensorsEntry &e = tensor.entry;
    std::optional<uint64_t> bytes = byteSize(e);
    if (!names.insert(e.name).second || e.name.rfind("__", 0) == 0) {
      error = "tensor name '" + e.name + "' is reserved or used twice";
      return false;
    }
    if (safetensorsElementSize(e.dtype) == 0 || !bytes || *bytes != e.end - e.begin) {
      error = "tensor '" + e.name + "': " + std::to_string(e.end - e.begin) +
              " bytes do not fit its shape and dtype " + e.dtype;
      return false;
    }
  }
  std::string temporary = path + ".part" + std::to_string(getpid());
  std::FILE *file = std::fopen(temporary.c_str(), "wbe");
  if (!file) {
    error = "cannot create '" + temporary + "': " + std::strerror(errno);
    return false;
  }
  static const char zeros[blobAlignment] = {};
  std::string text = header();
  uint64_t length = text.size(), at = 0;
  auto put = [&](const void *data, uint64_t bytes) {
    return bytes == 0 || std::fwrite(data, 1, bytes, file) == bytes;
  };
  bool ok = put(&length, 8) && put(text.data(), length);
  for (const Tensor &tensor : tensors) {
    const SafetensorsEntry &e = tensor.entry;
    ok = ok && put(zeros, e.begin - at) && put(tensor.data, e.end - e.begin);
    at = e.end;
  }
  ok = std::fflush(file) == 0 && ok;
  ok = std::fclose(file) == 0 && ok;
  ok = ok && std::rename(temporary.c_str(), path.c_str()) == 0;
  if (!ok) {
    error = "cannot write '" + path + "': " + std::strerror(errno);
    std::remove(temporary.c_str());
  }
  return ok;
}

} // namespace lowbit
