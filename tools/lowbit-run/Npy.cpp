//===- Npy.cpp - the header of an .npy file ---------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The header is a Python dictionary literal:
//   {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
// numpy.lib.format describes it.
//
//===----------------------------------------------------------------------===//
#include "Npy.h"

#include <cstring>
#include <optional>

namespace lowbit::tool {

namespace {

struct Descr {
  const char *text; // without the byte order
  lowbit_dtype dtype;
  int64_t size;
};

/// Reads the literal from left to right; every function returns false at the first surprise.
class Parser {
public:
  explicit Parser(const char *begin, const char *end) : at(begin), end(end) {}

  bool accept(char c) {
    skipSpace();
    if (at == end || *at != c)
      return false;
    ++at;
    return true;
  }
  bool string(std::string &text) {
    skipSpace();
    if (at == end || (*at != '\'' && *at != '"'))
      return false;
    char quote = *at++;
    while (at != end && *at != quote) {
      if (*at == '\\')
        return false;
      text += *at++;
    }
    return accept(quote);
  }
  bool boolean(bool &value) {
    skipSpace();
    value = word("True");
    return value || word("False");
  }
  bool tuple(std::vector<int64_t> &values) {
    if (!accept('('))
      return false;
    while (!accept(')')) {
      int64_t value;
      if (values.size() >= 64 || !number(value))
        return false;
      values.push_back(value);
      if (!accept(',') && (values.size() == 1 || peek() != ')'))
        return false;
    }
    return true;
  }
  bool atEnd() {
    skipSpace();
    return at == end;
  }

private:
  void skipSpace() {
    while (at != end && (*at == ' ' || *at == '\n' || *at == '\t'))
      ++at;
  }
  char peek() {
    skipSpace();
    return at == end ? '\0' : *at;
  }
  bool word(const char *text) {
    size_t length = std::strlen(text);
    if (size_t(end - at) < length || std::memcmp(at, text, length) != 0)
      return false;
    at += length;
    return true;
  }
  bool number(int64_t &value) {
    skipSpace();
    const char *first = at;
    value = 0;
    while (at != end && *at >= '0' && *at <= '9')
      if (__builtin_mul_overflow(value, 10, &value) ||
          __builtin_add_overflow(value, *at++ - '0', &value))
        return false;
    return at != first;
  }

  const char *at, *end;
};

} // namespace

// bfloat16 has no name in numpy; ml_dtypes writes it as two bytes of anything.
static constexpr Descr descrs[] = {
    {"f4", LOWBIT_F32, 4}, {"u1", LOWBIT_U8, 1},  {"i1", LOWBIT_I8, 1},  {"u2", LOWBIT_U16, 2},
    {"i2", LOWBIT_I16, 2}, {"i4", LOWBIT_I32, 4}, {"i8", LOWBIT_I64, 8}, {"b1", LOWBIT_BOOL, 1},
    {"f2", LOWBIT_F16, 2}, {"f8", LOWBIT_F64, 8}, {"u4", LOWBIT_U32, 4}, {"u8", LOWBIT_U64, 8},
    {"V2", LOWBIT_BF16, 2}};

static bool fail(std::string &error, std::string why) {
  error = std::move(why);
  return false;
}

size_t npyDataOffset(const std::string &prefix, std::string &error) {
  auto byte = [&](size_t i) { return size_t(static_cast<unsigned char>(prefix[i])); };
  if (prefix.size() < 10 || prefix.compare(0, 6, "\x93NUMPY") != 0) {
    error = "it is not an .npy file";
    return 0;
  }
  if (byte(6) == 1 && byte(7) == 0)
    return 10 + byte(8) + (byte(9) << 8);
  if ((byte(6) != 2 && byte(6) != 3) || byte(7) != 0 || prefix.size() < 12) {
    error = "its .npy version is unknown";
    return 0;
  }
  return 12 + byte(8) + (byte(9) << 8) + (byte(10) << 16) + (byte(11) << 24);
}

static bool readDescr(const std::string &descr, NpyHeader &header, std::string &error) {
  for (const Descr &known : descrs) {
    if (descr.size() != 3 || descr.compare(1, 2, known.text) != 0)
      continue;
    if (descr[0] == '>')
      return fail(error, "its elements are big-endian ('" + descr + "'); convert them first");
    if (descr[0] != '<' && descr[0] != '|' && descr[0] != '=')
      break;
    header.dtype = known.dtype;
    header.elementSize = known.size;
    return true;
  }
  return fail(error, "its element type '" + descr + "' is not supported");
}

bool parseNpyHeader(const std::string &text, NpyHeader &header, std::string &error) {
  size_t start = text.size() > 6 && text[6] == 1 ? 10 : 12;
  if (text.size() < start)
    return fail(error, "its header is truncated");
  Parser parser(text.data() + start, text.data() + text.size());
  std::optional<std::string> descr;
  std::optional<bool> columnMajor;
  std::optional<std::vector<int64_t>> shape;
  bool ok = parser.accept('{');
  while (ok && !parser.accept('}')) {
    std::string key;
    ok = parser.string(key) && parser.accept(':');
    if (ok && key == "descr" && !descr)
      ok = parser.string(descr.emplace());
    else if (ok && key == "fortran_order" && !columnMajor)
      ok = parser.boolean(columnMajor.emplace());
    else if (ok && key == "shape" && !shape)
      ok = parser.tuple(shape.emplace());
    else
      ok = false;
    if (ok && !parser.accept(',')) {
      ok = parser.accept('}');
      break;
    }
  }
  if (!ok || !parser.atEnd() || !descr || !columnMajor || !shape)
    return fail(error, "its .npy header is damaged, or its elements are not plain numbers");
  if (!readDescr(*descr, header, error))
    return false;
  header.columnMajor = *columnMajor;
  header.shape = *shape;
  if (header.shape.size() > LOWBIT_MAX_RANK)
    return fail(error, "it has " + std::to_string(header.shape.size()) + " dimensions, at most " +
                           std::to_string(LOWBIT_MAX_RANK) + " are supported");
  header.bytes = header.elementSize;
  bool empty = false;
  for (int64_t dim : header.shape) {
    empty |= dim == 0;
    if (dim != 0 && __builtin_mul_overflow(header.bytes, dim, &header.bytes))
      return fail(error, "its shape is impossible");
  }
  if (empty)
    header.bytes = 0;
  return true;
}

std::string npyHeader(int32_t dtype, const int64_t *shape, int32_t rank) {
  std::string descr;
  for (const Descr &known : descrs)
    if (known.dtype == dtype)
      descr = (known.size == 1 ? "|" : "<") + std::string(known.text);
  std::string dims;
  for (int32_t i = 0; i < rank; ++i)
    dims += std::to_string(shape[i]) + (rank == 1 ? "," : i + 1 < rank ? ", " : "");
  std::string text =
      "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (" + dims + "), }";
  // The data starts at a multiple of 64.
  text.resize((10 + text.size() + 1 + 63) / 64 * 64 - 11, ' ');
  text += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += char(text.size() & 255);
  header += char(text.size() >> 8);
  return header + text;
}

} // namespace lowbit::tool
