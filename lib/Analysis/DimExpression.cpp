//===- DimExpression.cpp - the arithmetic in a dim's name -------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Analysis/DimExpression.h"
#include "llvm/ADT/StringExtras.h"
#include <algorithm>

using namespace lowbit;

namespace {
/// Recursive descent over sum := product (+|- product)*, product := atom (*|//|% atom)*.
class Parser {
public:
  using Number = std::optional<int64_t>;
  Parser(StringRef text, const std::function<Number(StringRef)> &sizeOf)
      : rest(text), sizeOf(sizeOf) {}

  Number run() {
    Number value = sum();
    return rest.ltrim().empty() ? value : std::nullopt;
  }

private:
  bool take(StringRef token) {
    rest = rest.ltrim();
    return rest.consume_front(token);
  }

  Number sum() {
    Number value = product();
    while (value) {
      if (take("+"))
        value = combine(value, product(), [](int64_t a, int64_t b, int64_t &c) {
          return __builtin_add_overflow(a, b, &c);
        });
      else if (take("-"))
        value = combine(value, product(), [](int64_t a, int64_t b, int64_t &c) {
          return __builtin_sub_overflow(a, b, &c);
        });
      else
        break;
    }
    return value;
  }

  Number product() {
    Number value = atom();
    while (value) {
      if (take("//"))
        value = combine(value, atom(), [](int64_t a, int64_t b, int64_t &c) {
          return divide(a, b, c);
        });
      else if (take("%"))
        value = combine(value, atom(), [](int64_t a, int64_t b, int64_t &c) {
          int64_t quotient;
          bool bad = divide(a, b, quotient);
          c = bad ? 0 : a - quotient * b;
          return bad;
        });
      else if (take("*"))
        value = combine(value, atom(), [](int64_t a, int64_t b, int64_t &c) {
          return __builtin_mul_overflow(a, b, &c);
        });
      else
        break;
    }
    return value;
  }

  Number atom() {
    if (++depth > 64)
      return std::nullopt;
    Number value = atomWithin();
    --depth;
    return value;
  }

  Number atomWithin() {
    if (take("-"))
      return combine(0, atom(), [](int64_t a, int64_t b, int64_t &c) {
        return __builtin_sub_overflow(a, b, &c);
      });
    if (take("(")) {
      Number value = sum();
      return take(")") ? value : std::nullopt;
    }
    StringRef word = rest.take_while([](char c) { return llvm::isAlnum(c) || c == '_' || c == '.'; });
    rest = rest.drop_front(word.size());
    if (word.empty())
      return std::nullopt;
    if (llvm::isDigit(word.front())) {
      int64_t number;
      return word.getAsInteger(10, number) ? Number() : Number(number);
    }
    if ((word == "Min" || word == "Max") && take("(")) {
      Number value = sum();
      while (value && take(","))
        value = combine(value, sum(), [&](int64_t a, int64_t b, int64_t &c) {
          c = word == "Min" ? std::min(a, b) : std::max(a, b);
          return false;
        });
      return take(")") ? value : std::nullopt;
    }
    return sizeOf(word);
  }

  /// Rounds towards minus infinity. True where there is no quotient.
  static bool divide(int64_t a, int64_t b, int64_t &c) {
    if (b == 0 || (a == INT64_MIN && b == -1))
      return true;
    c = a / b - (a % b != 0 && (a < 0) != (b < 0));
    return false;
  }

  /// `apply` returns true where there is no result.
  template <typename Apply> static Number combine(Number a, Number b, Apply apply) {
    int64_t result = 0;
    if (!a || !b || apply(*a, *b, result))
      return std::nullopt;
    return result;
  }

  StringRef rest;
  const std::function<Number(StringRef)> &sizeOf;
  unsigned depth = 0;
};
} // namespace

std::optional<int64_t>
lowbit::evaluateDimName(StringRef text,
                        const std::function<std::optional<int64_t>(StringRef)> &sizeOf) {
  return Parser(text, sizeOf).run();
}
