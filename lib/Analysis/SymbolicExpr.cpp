//===- SymbolicExpr.cpp - sizes as polynomials in symbols -------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Analysis/SymbolicExpr.h"
#include <algorithm>

using namespace lowbit;

static constexpr size_t maxTerms = 32, maxDegree = 16;

std::optional<int64_t> SymbolicExpr::constant() const {
  if (terms.empty())
    return 0;
  if (terms.size() == 1 && terms.begin()->first.empty())
    return terms.begin()->second;
  return std::nullopt;
}

bool SymbolicExpr::isOlderThan(Symbol limit) const {
  for (const auto &[monomial, factor] : terms)
    if (!monomial.empty() && monomial.back() >= limit)
      return false;
  return true;
}

std::string SymbolicExpr::str() const {
  std::string text;
  for (const auto &[monomial, factor] : terms) {
    text += (text.empty() ? "" : "+") + std::to_string(factor);
    for (Symbol s : monomial)
      text += "*s" + std::to_string(s);
  }
  return text.empty() ? "0" : text;
}

std::optional<SymbolicExpr> SymbolicExpr::add(const SymbolicExpr &a, const SymbolicExpr &b) {
  SymbolicExpr sum = a;
  for (const auto &[monomial, factor] : b.terms) {
    int64_t &mine = sum.terms[monomial];
    if (__builtin_add_overflow(mine, factor, &mine))
      return std::nullopt;
    if (!mine)
      sum.terms.erase(monomial);
  }
  if (sum.terms.size() > maxTerms)
    return std::nullopt;
  return sum;
}

std::optional<SymbolicExpr> SymbolicExpr::sub(const SymbolicExpr &a, const SymbolicExpr &b) {
  std::optional<SymbolicExpr> negative = mul(b, SymbolicExpr(-1));
  return negative ? add(a, *negative) : std::nullopt;
}

std::optional<SymbolicExpr> SymbolicExpr::mul(const SymbolicExpr &a, const SymbolicExpr &b) {
  SymbolicExpr product;
  for (const auto &[left, leftFactor] : a.terms)
    for (const auto &[right, rightFactor] : b.terms) {
      Monomial both = left;
      both.insert(both.end(), right.begin(), right.end());
      std::sort(both.begin(), both.end());
      int64_t factor;
      int64_t &sum = product.terms[both];
      if (both.size() > maxDegree || __builtin_mul_overflow(leftFactor, rightFactor, &factor) ||
          __builtin_add_overflow(sum, factor, &sum))
        return std::nullopt;
      if (!sum)
        product.terms.erase(both);
      if (product.terms.size() > maxTerms)
        return std::nullopt;
    }
  return product;
}

std::optional<SymbolicExpr> SymbolicExpr::divideExactly(const SymbolicExpr &a,
                                                        const SymbolicExpr &b) {
  if (b.terms.size() != 1)
    return std::nullopt;
  const auto &[divisor, divisorFactor] = *b.terms.begin();
  SymbolicExpr quotient;
  for (const auto &[monomial, factor] : a.terms) {
    Monomial rest;
    std::set_difference(monomial.begin(), monomial.end(), divisor.begin(), divisor.end(),
                        std::back_inserter(rest));
    if (rest.size() + divisor.size() != monomial.size() ||
        (factor == INT64_MIN && divisorFactor == -1) || factor % divisorFactor)
      return std::nullopt;
    quotient.terms[rest] = factor / divisorFactor;
  }
  return quotient;
}
