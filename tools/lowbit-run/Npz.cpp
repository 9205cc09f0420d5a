//===- Npz.cpp - arrays in .npz files ---------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Npz.h"

#include "Npy.h"
#include "lowbit/Runtime/Text.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <zip.h>

namespace lowbit::tool {

namespace {

struct ZipFile {
  explicit ZipFile(zip_file_t *file) : file(file) {}
  ~ZipFile() { zip_fclose(file); }
  ZipFile(const ZipFile &) = delete;
  ZipFile &operator=(const ZipFile &) = delete;

  /// Reads up to `bytes` bytes, fewer at the end. False for damaged data.
  bool read(char *buffer, size_t bytes, size_t &got) {
    got = 0;
    while (got < bytes) {
      zip_int64_t n = zip_fread(file, buffer + got, bytes - got);
      if (n < 0)
        return false;
      if (n == 0)
        return true;
      got += size_t(n);
    }
    return true;
  }

  zip_file_t *file;
};

/// An archive, given up unless closed.
struct Archive {
  explicit Archive(zip_t *zip) : zip(zip) {}
  ~Archive() {
    if (zip)
      zip_discard(zip);
  }
  Archive(const Archive &) = delete;
  Archive &operator=(const Archive &) = delete;
  zip_t *zip;
};

} // namespace

std::string inQuotes(const std::string &text) { return "'" + printable(text) + "'"; }

lowbit_tensor Array::tensor() const {
  lowbit_tensor t = {};
  t.data = data.get();
  t.dtype = dtype;
  t.rank = int32_t(shape.size());
  t.device = LOWBIT_CPU;
  uint64_t stride = 1;
  for (size_t i = 0; i < shape.size(); ++i) {
    size_t d = columnMajor ? i : shape.size() - 1 - i;
    t.shape[d] = shape[d];
    t.strides[d] = int64_t(stride);
    stride *= uint64_t(std::max<int64_t>(shape[d], 1));
  }
  return t;
}

static std::string errorText(int code) {
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  std::string text = zip_error_strerror(&error);
  zip_error_fini(&error);
  return text;
}

/// Deflate shrinks data to 1/1032 at best; an entry that claims more is not to be allocated for.
static bool sizeIsPossible(const zip_stat_t &stat) {
  constexpr zip_uint64_t needed = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
  if ((stat.valid & needed) != needed)
    return false;
  if (stat.comp_method == ZIP_CM_STORE)
    return stat.size == stat.comp_size;
  return stat.size / 1032 <= stat.comp_size;
}

static Array readArray(zip_t *zip, zip_uint64_t index, const std::string &path) {
  zip_stat_t stat;
  if (zip_stat_index(zip, index, 0, &stat) != 0 || !(stat.valid & ZIP_STAT_NAME))
    throw Error{LOWBIT_INVALID, inQuotes(path) + " is damaged: " + zip_strerror(zip)};
  std::string name = stat.name;
  auto refuse = [&](const std::string &why) -> Error {
    return {LOWBIT_INVALID, inQuotes(name) + " in " + inQuotes(path) + " cannot be read: " + why};
  };
  if (name.size() <= 4 || name.compare(name.size() - 4, 4, ".npy") != 0)
    throw refuse("it is not an .npy file");
  if (!sizeIsPossible(stat))
    throw refuse("its size is damaged");
  zip_file_t *opened = zip_fopen_index(zip, index, 0);
  if (!opened)
    throw refuse(zip_strerror(zip));
  ZipFile file(opened);

  std::string text(npyPrefixBytes, '\0'), error;
  size_t got;
  if (!file.read(text.data(), text.size(), got))
    throw refuse("its data is damaged");
  text.resize(got);
  size_t offset = npyDataOffset(text, error);
  if (offset == 0)
    throw refuse(error);
  if (offset > stat.size || offset > (1 << 20) || offset < text.size())
    throw refuse("its .npy header is damaged");
  size_t start = text.size();
  text.resize(offset);
  if (!file.read(text.data() + start, offset - start, got) || got != offset - start)
    throw refuse("its .npy header is truncated");
  NpyHeader header;
  if (!parseNpyHeader(text, header, error))
    throw refuse(error);
  if (uint64_t(header.bytes) != stat.size - offset)
    throw refuse("it has " + std::to_string(stat.size - offset) +
                 " bytes of data, its shape needs " + std::to_string(header.bytes));

  Array array;
  array.name = name.substr(0, name.size() - 4);
  array.dtype = header.dtype;
  array.shape = header.shape;
  array.columnMajor = header.columnMajor;
  array.data.reset(new char[size_t(header.bytes) + 1]);
  // Asking for a byte more makes the library reach the end and compare the checksum.
  if (!file.read(array.data.get(), size_t(header.bytes) + 1, got) || got != size_t(header.bytes))
    throw refuse("its data is damaged");
  return array;
}

std::vector<Array> readNpz(const std::string &path) {
  int code = 0;
  Archive archive(zip_open(path.c_str(), ZIP_RDONLY, &code));
  if (!archive.zip)
    throw Error{code == ZIP_ER_MEMORY ? LOWBIT_NO_MEMORY : LOWBIT_INVALID,
                "cannot open " + inQuotes(path) + ": " + errorText(code)};
  std::vector<Array> arrays;
  zip_int64_t count = zip_get_num_entries(archive.zip, 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    arrays.push_back(readArray(archive.zip, zip_uint64_t(i), path));
    for (size_t j = 0; j + 1 < arrays.size(); ++j)
      if (arrays[j].name == arrays.back().name)
        throw Error{LOWBIT_INVALID,
                    inQuotes(path) + " contains " + inQuotes(arrays[j].name) + " twice"};
  }
  return arrays;
}

/// Full disks are the machine's fault, everything else the path's.
static Error writeError(const std::string &path, zip_error_t *error) {
  bool full = zip_error_code_system(error) == ENOSPC || zip_error_code_system(error) == EDQUOT ||
              zip_error_code_zip(error) == ZIP_ER_MEMORY;
  return {full ? LOWBIT_NO_MEMORY : LOWBIT_INVALID,
          "cannot write " + inQuotes(path) + ": " + zip_error_strerror(error)};
}

void writeNpz(const std::string &path, const std::vector<NamedTensor> &arrays, bool force) {
  int code = 0;
  Archive archive(zip_open(path.c_str(), ZIP_CREATE | (force ? ZIP_TRUNCATE : ZIP_EXCL), &code));
  if (!archive.zip)
    throw Error{LOWBIT_INVALID, "cannot write " + inQuotes(path) + ": " + errorText(code)};
  std::vector<std::string> headers;
  headers.reserve(arrays.size());
  for (const NamedTensor &array : arrays) {
    const lowbit_tensor &t = *array.tensor;
    headers.push_back(npyHeader(t.dtype, t.shape, t.rank));
    NpyHeader parsed;
    std::string error;
    if (!parseNpyHeader(headers.back(), parsed, error))
      throw Error{LOWBIT_INTERNAL, "output " + inQuotes(array.name) + ": " + error};
    zip_buffer_fragment_t fragments[] = {
        {reinterpret_cast<zip_uint8_t *>(headers.back().data()), headers.back().size()},
        {static_cast<zip_uint8_t *>(t.data), zip_uint64_t(parsed.bytes)}};
    zip_source_t *source =
        zip_source_buffer_fragment(archive.zip, fragments, parsed.bytes > 0 ? 2 : 1, 0);
    zip_int64_t index =
        source ? zip_file_add(archive.zip, (array.name + ".npy").c_str(), source, ZIP_FL_ENC_UTF_8)
               : -1;
    if (index < 0) {
      if (source)
        zip_source_free(source);
      throw writeError(path, zip_get_error(archive.zip));
    }
    zip_set_file_compression(archive.zip, zip_uint64_t(index), ZIP_CM_STORE, 0);
    // 1 January 1980, so that equal results are equal files.
    zip_file_set_dostime(archive.zip, zip_uint64_t(index), 0, (1 << 5) | 1, 0);
  }
  // The library writes a temporary file beside the path and renames it.
  if (zip_close(archive.zip) != 0)
    throw writeError(path, zip_get_error(archive.zip));
  archive.zip = nullptr;
}

} // namespace lowbit::tool
