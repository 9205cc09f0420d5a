//===- SymbolicExpr.h - sizes as polynomials in symbols ---------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_ANALYSIS_SYMBOLICEXPR_H
#define LOWBIT_ANALYSIS_SYMBOLICEXPR_H

#include "lowbit/Support/LLVM.h"
#include "llvm/ADT/SmallVector.h"
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace lowbit {

/// An integer known only when the model runs: a polynomial with integer coefficients in symbols such as the sizes of
/// dynamic dimensions. Two expressions that are equal (==) are equal at every run; unequal ones may still agree.
class SymbolicExpr {
public:
  using Symbol = unsigned;

  SymbolicExpr() = default; ///< Zero.
  SymbolicExpr(int64_t constant) {
    if (constant)
      terms[{}] = constant;
  }
  static SymbolicExpr symbol(Symbol s) {
    SymbolicExpr e;
    e.terms[{s}] = 1;
    return e;
  }

  std::optional<int64_t> constant() const;
  bool isConstant(int64_t value) const { return constant() == value; }
  bool operator==(const SymbolicExpr &other) const { return terms == other.terms; }
  bool operator!=(const SymbolicExpr &other) const { return !(*this == other); }
  /// True where every symbol is below `limit`: was made before it.
  bool isOlderThan(Symbol limit) const;
  /// Equal for equal expressions; for keys and messages.
  std::string str() const;

  /// Nothing where a coefficient would overflow or the result would have unreasonably many terms.
  static std::optional<SymbolicExpr> add(const SymbolicExpr &a, const SymbolicExpr &b);
  static std::optional<SymbolicExpr> sub(const SymbolicExpr &a, const SymbolicExpr &b);
  static std::optional<SymbolicExpr> mul(const SymbolicExpr &a, const SymbolicExpr &b);
  /// The quotient where `b` is one term that divides every term of `a`.
  static std::optional<SymbolicExpr> divideExactly(const SymbolicExpr &a, const SymbolicExpr &b);

private:
  using Monomial = std::vector<Symbol>; // Sorted, a symbol once per power.
  std::map<Monomial, int64_t> terms;    // No zero coefficients.
};

} // namespace lowbit

#endif // LOWBIT_ANALYSIS_SYMBOLICEXPR_H
