//===- Recipe.cpp - loading, matching, what is supported ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Recipe/Recipe.h"
#include "YamlTree.h"
#include "lowbit/Recipe/Rounding.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/GlobPattern.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Regex.h"
#include <algorithm>
#include <set>

using namespace lowbit;

bool NamePattern::matches(StringRef name) const {
  StringRef pattern(text);
  if (pattern.consume_front("re:"))
    return llvm::Regex(("^(" + pattern + ")$").str()).match(name);
  llvm::Expected<llvm::GlobPattern> glob = llvm::GlobPattern::create(pattern);
  if (glob)
    return glob->match(name);
  llvm::consumeError(glob.takeError());
  return false;
}

static bool matchesAny(ArrayRef<NamePattern> patterns, StringRef name) {
  return patterns.empty() ||
         llvm::any_of(patterns, [&](const NamePattern &p) { return p.matches(name); });
}

bool Rule::matches(const LayerKey &layer) const {
  if (position == Position::First && !layer.first)
    return false;
  if (position == Position::Last && !layer.last)
    return false;
  return matchesAny(names, layer.name) && matchesAny(weightNames, layer.weight) &&
         matchesAny(ops, layer.op);
}

std::optional<size_t> Recipe::match(const LayerKey &layer) const {
  for (size_t i = 0; i < rules.size(); ++i)
    if (rules[i].matches(layer))
      return i;
  return std::nullopt;
}

/// Up to three of `known` that are nearest to a pattern, as "; nearest: a, b, c".
static std::string nearest(const NamePattern &pattern, const std::set<std::string> &known) {
  std::string literal;
  for (char c : StringRef(pattern.text).starts_with("re:") ? pattern.text.substr(3) : pattern.text)
    if (c != '*' && c != '?' && c != '^' && c != '$')
      literal += c;
  std::vector<std::pair<unsigned, std::string>> ranked;
  for (const std::string &name : known)
    ranked.emplace_back(StringRef(literal).edit_distance_insensitive(name), name);
  llvm::sort(ranked);
  std::string text;
  for (size_t i = 0; i < std::min<size_t>(3, ranked.size()); ++i)
    text += (i ? ", " : "; nearest: ") + ranked[i].second;
  return text;
}

std::optional<RecipeError> Recipe::findUnmatchedRule(ArrayRef<LayerKey> layers) const {
  for (const Rule &rule : rules) {
    if (rule.optional ||
        llvm::any_of(layers, [&](const LayerKey &layer) { return rule.matches(layer); }))
      continue;
    std::set<std::string> names, ops, weights;
    for (const LayerKey &layer : layers) {
      names.insert(layer.name);
      ops.insert(layer.op);
      if (!layer.weight.empty())
        weights.insert(layer.weight);
    }
    std::string message =
        rule.origin + ": the rule for " + rule.describeMatch() + " matches no layer of this model";
    if (!rule.names.empty())
      message += nearest(rule.names.front(), names);
    else if (!rule.weightNames.empty())
      message += nearest(rule.weightNames.front(), weights);
    else if (!rule.ops.empty())
      message += nearest(rule.ops.front(), ops);
    return RecipeError{2, message};
  }
  return std::nullopt;
}

const GraphTransform *Recipe::findTransform(StringRef name) const {
  auto found = llvm::find_if(
      transforms, [&](const GraphTransform &transform) { return transform.name == name; });
  return found == transforms.end() ? nullptr : &*found;
}

double Recipe::smoothStrength() const {
  const GraphTransform *smooth = findTransform("smooth");
  auto alpha = smooth ? smooth->options.find("alpha") : decltype(smooth->options.end())();
  double strength = 0.5;
  if (smooth && alpha != smooth->options.end() &&
      StringRef(alpha->second).getAsDouble(strength))
    return -1; // auto
  return strength;
}

bool Recipe::correctsBiases() const {
  const GraphTransform *correction = findTransform("bias-correction");
  return correction && correction->options.at("method") == "empirical";
}

bool Recipe::comparesWithFloat() const {
  return correctsBiases() || llvm::any_of(rules, [](const Rule &rule) {
           return rule.weights && rule.weights->algorithm == WeightAlgorithm::GPTQ;
         });
}

bool Recipe::isSequential() const {
  return comparesWithFloat() || llvm::any_of(rules, [](const Rule &rule) {
           return rule.weights && needsMoments(rule.weights->algorithm);
         });
}

//===----------------------------------------------------------------------===//
// NAME:key=value,…
//===----------------------------------------------------------------------===//

static constexpr StringRef weightTypes[] = {"i8", "u8", "i4", "u4", "i3", "u3"};

static bool parseWeightType(StringRef value, IntType &type, std::string &error) {
  if (!llvm::is_contained(weightTypes, value)) {
    error = ("expected a weight type (i8, u8, i4, u4, i3 or u3), found '" + value + "'").str();
    return false;
  }
  type = *parseIntType(value.str());
  return true;
}

/// The rule for `head` or `embeddings`: the one of the recipe that `is` describes, changed to
/// `value`.
static bool overrideExtraRule(std::vector<Rule> &rules, size_t main, StringRef value,
                              function_ref<bool(const Rule &)> is, const Rule &fresh,
                              std::string &error) {
  Rule rule = fresh;
  if (value == "float") {
    rule.keep = Rule::Keep::Float;
  } else if (value != "same") {
    IntType type;
    if (!parseWeightType(value, type, error))
      return false;
    rule.weights = rules[main].weights;
    rule.weights->scheme.type = type;
    if (bitWidth(type) == 8)
      rule.weights = WeightRule{{type, Scheme::Granularity::Channel, 0, isSigned(type)}};
    if (type == IntType::I8)
      rule.activations = rules[main].activations;
  }
  rules.erase(llvm::remove_if(rules, is), rules.end());
  if (value != "same")
    rules.insert(rules.begin(), rule);
  return true;
}

bool lowbit::readPercentile(StringRef text, double &percentile) {
  return !text.getAsDouble(percentile) && percentile > 0 && percentile <= 100;
}

bool Recipe::applyOverride(StringRef key, StringRef value, std::string &error) {
  static constexpr StringRef keys[] = {"type",        "per",    "group",      "symmetric",
                                       "algorithm",   "head",   "embeddings", "activations",
                                       "dynamic",     "calibration", "percentile", "samples",
                                       "kv_cache"};
  if (!llvm::is_contained(keys, key)) {
    error = ("unknown key '" + key + "'" + suggest(key, keys) +
             " (known: " + llvm::join(ArrayRef(keys), ", ") + ")")
                .str();
    return false;
  }
  auto fail = [&](const Twine &expected) {
    error = ("expected " + key + "=" + expected + ", found '" + value + "'").str();
    return false;
  };
  if (key == "calibration") {
    std::optional<RangeMethod> method = parseRangeMethod(value.str());
    if (!method)
      return fail("minmax, average, percentile, entropy or mse");
    calibration.method = *method;
    return true;
  }
  if (key == "percentile") {
    calibration.method = RangeMethod::Percentile;
    return readPercentile(value, calibration.percentile) || fail("a number over 0 and at most 100");
  }
  int64_t number = 0;
  bool isPositive = !value.getAsInteger(10, number) && number > 0 && number <= INT32_MAX;
  if (key == "samples") {
    calibrationSamples = number;
    return isPositive || fail("a positive integer");
  }
  if (key == "kv_cache") {
    if (value != "i8" && value != "float")
      return fail("float or i8");
    cache = value == "i8" ? std::optional(IntType::I8) : std::nullopt;
    return true;
  }
  // What is left changes the rule that takes every layer that no other rule takes.
  if (rules.empty() || !rules.back().weights) {
    error = ("'" + key + "' does not apply: this recipe quantizes nothing").str();
    return false;
  }
  if (key == "head") {
    Rule fresh;
    fresh.position = Rule::Position::Last;
    fresh.optional = true;
    fresh.origin = name;
    return overrideExtraRule(
        rules, rules.size() - 1, value,
        [](const Rule &rule) { return rule.position == Rule::Position::Last; }, fresh, error);
  }
  if (key == "embeddings") {
    Rule fresh;
    fresh.ops = {{"Gather"}};
    fresh.optional = true;
    fresh.origin = name;
    return overrideExtraRule(
        rules, rules.size() - 1, value,
        [](const Rule &rule) { return rule.ops.size() == 1 && rule.ops[0].text == "Gather"; },
        fresh, error);
  }
  Rule &rule = rules.back();
  Scheme &scheme = rule.weights->scheme;
  if (key == "type") {
    if (!parseWeightType(value, scheme.type, error))
      return false;
    scheme.symmetric = isSigned(scheme.type);
  } else if (key == "per") {
    if (value != "tensor" && value != "channel")
      return fail("tensor or channel");
    scheme.granularity =
        value == "tensor" ? Scheme::Granularity::Tensor : Scheme::Granularity::Channel;
    scheme.group = 0;
  } else if (key == "group") {
    if (!isPositive)
      return fail("a positive integer");
    scheme.granularity = Scheme::Granularity::Group;
    scheme.group = number;
  } else if (key == "symmetric") {
    if (value != "true" && value != "false")
      return fail("true or false");
    scheme.symmetric = value == "true";
  } else if (key == "algorithm") {
    const StringRef *found = llvm::find(algorithmNames(), value);
    if (found == algorithmNames().end())
      return fail(choices(algorithmNames()));
    rule.weights->algorithm = WeightAlgorithm(found - algorithmNames().begin());
  } else if (key == "dynamic") {
    if (value != "token" && value != "tensor" && value != "false")
      return fail("token, tensor or false");
    if (!rule.activations || bitWidth(rule.activations->type) > 8) {
      error = "dynamic= is of 8-bit activations: write activations=u8 before it";
      return false;
    }
    rule.activations->dynamic = value == "false" ? "" : value.str();
  } else {
    rule.activations.reset();
    if (llvm::is_contained({"u8", "i8", "u16", "i16"}, value))
      rule.activations = ActivationRule{*parseIntType(value.str()), false, ""};
    else if (value != "float")
      return fail("float, u8, i8, u16 or i16");
  }
  return true;
}

std::optional<Recipe> Recipe::load(StringRef specification, RecipeError &error) {
  error = {};
  if (specification.contains('\n'))
    return parse(specification, "recipe", error);
  auto [stem, overrides] = specification.split(':');
  StringRef text = namedRecipeText(stem);
  if (!text.empty()) {
    std::optional<Recipe> recipe = parse(text, stem, error);
    if (!recipe)
      return recipe;
    recipe->name = specification.str();
    SmallVector<StringRef> parts;
    overrides.split(parts, ',', -1, /*KeepEmpty=*/false);
    for (StringRef part : parts) {
      auto [key, value] = part.split('=');
      std::string why;
      if (!recipe->applyOverride(key.trim(), value.trim(), why)) {
        error = {2, ("recipe '" + specification + "': " + why).str()};
        return std::nullopt;
      }
    }
    return recipe;
  }
  if (!llvm::sys::fs::exists(specification)) {
    error.message = ("no recipe '" + specification + "': neither a file nor one of " +
                     llvm::join(namedRecipes(), ", ") + suggest(stem, namedRecipes()))
                        .str();
    return std::nullopt;
  }
  auto buffer = llvm::MemoryBuffer::getFile(specification, /*IsText=*/true);
  if (!buffer) {
    error.message =
        ("cannot read the recipe '" + specification + "': " + buffer.getError().message()).str();
    return std::nullopt;
  }
  std::optional<Recipe> recipe = parse((*buffer)->getBuffer(), specification, error);
  if (recipe)
    recipe->name = llvm::sys::path::stem(specification).str();
  return recipe;
}
