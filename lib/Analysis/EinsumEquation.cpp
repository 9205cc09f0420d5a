//===- EinsumEquation.cpp - the equation of an Einsum -----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Analysis/EinsumEquation.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include <map>

using namespace lowbit;

namespace {
struct Reader {
  EinsumEquation equation;
  std::map<char, unsigned> letters;
  SmallVector<unsigned> ellipsis; ///< The labels of the dims of "...", from the last.
  std::string &error;

  LogicalResult fail(const Twine &what) {
    error = what.str();
    return failure();
  }
  unsigned label(char letter) {
    auto [entry, inserted] = letters.try_emplace(letter, equation.labels);
    equation.labels += inserted;
    return entry->second;
  }

  /// One term; `rank` < 0 for the output, whose ellipsis has all the dims there are.
  LogicalResult term(StringRef text, int64_t rank, SmallVectorImpl<unsigned> &labels) {
    size_t dots = text.find("...");
    int64_t letterCount = text.size() - (dots == StringRef::npos ? 0 : 3);
    int64_t hidden = rank < 0 ? ellipsis.size() : rank - letterCount;
    if (hidden < 0 || (hidden > 0 && dots == StringRef::npos && rank >= 0))
      return fail("term '" + text + "' does not fit an operand of rank " + Twine(rank));
    for (size_t i = 0; i < text.size(); ++i) {
      if (i == dots) {
        while ((int64_t)ellipsis.size() < hidden)
          ellipsis.push_back(equation.labels++);
        for (int64_t d = hidden; d > 0; --d)
          labels.push_back(ellipsis[d - 1]);
        i += 2;
        continue;
      }
      if (!llvm::isAlpha(text[i]))
        return fail("term '" + text + "' has the character '" + Twine(text[i]) + "'");
      if (rank < 0 && !letters.count(text[i]))
        return fail("letter '" + Twine(text[i]) + "' of the output is in no operand");
      labels.push_back(label(text[i]));
    }
    return success();
  }
};
} // namespace

FailureOr<EinsumEquation> EinsumEquation::parse(StringRef text, ArrayRef<int64_t> ranks,
                                                std::string &error) {
  SmallString<64> plain;
  for (char c : text)
    if (c != ' ')
      plain += c;
  auto [left, right] = StringRef(plain).split("->");
  bool hasOutput = StringRef(plain).contains("->");
  SmallVector<StringRef> terms;
  left.split(terms, ',');
  Reader reader{{}, {}, {}, error};
  if (terms.size() != ranks.size())
    return reader.fail("the equation has " + Twine(terms.size()) + " terms for " +
                       Twine(ranks.size()) + " operands");
  for (auto [term, rank] : llvm::zip(terms, ranks))
    if (failed(reader.term(term, rank, reader.equation.inputs.emplace_back())))
      return failure();
  SmallVector<unsigned> &output = reader.equation.output;
  if (hasOutput) {
    if (failed(reader.term(right, -1, output)))
      return failure();
    for (size_t i = 0; i < output.size(); ++i)
      if (llvm::is_contained(ArrayRef<unsigned>(output).take_front(i), output[i]))
        return reader.fail("the output names a letter twice");
  } else { // The ellipsis, then the letters that come once, in alphabetical order.
    for (size_t d = reader.ellipsis.size(); d > 0; --d)
      output.push_back(reader.ellipsis[d - 1]);
    for (auto [letter, label] : reader.letters)
      if (left.count(letter) == 1)
        output.push_back(label);
  }
  return std::move(reader.equation);
}
