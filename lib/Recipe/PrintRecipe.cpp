//===- PrintRecipe.cpp - canonical YAML and what is hashed ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Recipe/Recipe.h"
#include "lowbit/Recipe/Rounding.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/SHA256.h"
#include <charconv>

using namespace lowbit;

/// A double-quoted YAML scalar.
static std::string quoted(StringRef text) {
  std::string result = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\')
      result += '\\';
    if (c == '\t')
      result += "\\t";
    else
      result += c;
  }
  return result + "\"";
}

static std::string printPatterns(ArrayRef<NamePattern> patterns) {
  std::string text;
  for (const NamePattern &pattern : patterns)
    text += (text.empty() ? "" : ", ") + quoted(pattern.text);
  return "[" + text + "]";
}

std::string Rule::describeMatch() const {
  std::vector<std::string> parts;
  if (!names.empty())
    parts.push_back("name: " + printPatterns(names));
  if (!weightNames.empty())
    parts.push_back("weight: " + printPatterns(weightNames));
  if (!ops.empty())
    parts.push_back("op: " + printPatterns(ops));
  if (position != Position::Any)
    parts.push_back(position == Position::First ? "position: first" : "position: last");
  return "{" + llvm::join(parts, ", ") + "}";
}

static std::string printWeights(const WeightRule &weights) {
  const Scheme &scheme = weights.scheme;
  std::string text = std::string("{type: ") + name(scheme.type);
  switch (scheme.granularity) {
  case Scheme::Granularity::Tensor:
    text += ", per: tensor";
    break;
  case Scheme::Granularity::Channel:
    text += ", per: channel";
    break;
  case Scheme::Granularity::Group:
    text += ", group: " + std::to_string(scheme.group);
    break;
  }
  text += std::string(", symmetric: ") + (scheme.symmetric ? "true" : "false");
  return text + ", algorithm: " + algorithmName(weights.algorithm).str() + "}";
}

static std::string printActivations(const std::optional<ActivationRule> &activations) {
  if (!activations)
    return "float";
  std::string text = std::string("{type: ") + name(activations->type) +
                     ", symmetric: " + (activations->symmetric ? "true" : "false");
  if (!activations->dynamic.empty())
    text += ", dynamic: " + activations->dynamic;
  return text + "}";
}

std::string Recipe::printCalibration() const {
  std::string text = std::string("calibration: {method: ") + lowbit::name(calibration.method);
  if (calibration.method == RangeMethod::Percentile) {
    char digits[32]; // The shortest that gives the same number.
    std::to_chars_result end =
        std::to_chars(digits, digits + sizeof digits, calibration.percentile);
    text += ", percentile: " + std::string(digits, end.ptr);
  }
  if (calibrationSamples)
    text += ", samples: " + std::to_string(*calibrationSamples);
  return text + "}\n";
}

static std::string printTransform(const GraphTransform &transform) {
  std::vector<std::string> options;
  for (const auto &[key, value] : transform.options)
    options.push_back(key + ": " + value);
  if (options.empty())
    return transform.name;
  return "{" + transform.name + ": {" + llvm::join(options, ", ") + "}}";
}

std::string Recipe::print() const {
  std::string text = "lowbit: 1\n";
  std::vector<std::string> printed;
  for (const GraphTransform &transform : transforms)
    printed.push_back(printTransform(transform));
  text += "transforms: [" + llvm::join(printed, ", ") + "]\n";
  text += printCalibration();
  text += cache ? std::string("kv_cache: {type: ") + lowbit::name(*cache) + "}\n"
                : "kv_cache: float\n";
  text += rules.empty() ? "rules: []\n" : "rules:\n";
  for (const Rule &rule : rules) {
    text += "  - match: " + rule.describeMatch() + "\n";
    if (rule.keep != Rule::Keep::No) {
      text += rule.keep == Rule::Keep::Float ? "    keep: float\n" : "    keep: fp16\n";
    } else {
      text += "    weights: " + printWeights(*rule.weights) + "\n";
      text += "    activations: " + printActivations(rule.activations) + "\n";
    }
    if (rule.optional)
      text += "    optional: true\n";
  }
  return text;
}

static std::string hash(StringRef text) {
  std::array<uint8_t, 32> digest =
      llvm::SHA256::hash(ArrayRef(reinterpret_cast<const uint8_t *>(text.data()), text.size()));
  return llvm::toHex(digest, /*LowerCase=*/true);
}

std::string Recipe::sha256() const { return hash(print()); }

std::string Recipe::printMeasured() const {
  // fold-bn always comes first, and these look at what was measured themselves.
  static constexpr StringRef others[] = {"fold-bn", "smooth", "awq", "bias-correction"};
  std::vector<std::string> printed;
  for (const GraphTransform &transform : transforms)
    if (!llvm::is_contained(others, transform.name))
      printed.push_back(printTransform(transform));
  return "transforms: [" + llvm::join(printed, ", ") + "]\n";
}

std::string Recipe::observerSha256() const { return hash(printMeasured()); }
