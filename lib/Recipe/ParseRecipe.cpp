//===- ParseRecipe.cpp - from YAML to rules ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "YamlTree.h"
#include "lowbit/Recipe/Recipe.h"
#include "lowbit/Recipe/Rounding.h"
#include "llvm/Support/GlobPattern.h"
#include "llvm/Support/Regex.h"

using namespace lowbit;
using Kind = YamlNode::Kind;

namespace {
/// Reads one document. Every read* reports the first error and returns false.
class RecipeParser {
public:
  RecipeParser(StringRef file, RecipeError &error) : file(file), error(error) {}
  bool read(const YamlNode &document, Recipe &recipe);

private:
  bool fail(const YamlNode &at, const Twine &message) {
    error.exitCode = 2;
    error.message = located(file, at, message);
    return false;
  }
  /// `node` is a mapping and has no keys but `known`.
  bool checkMap(const YamlNode &node, StringRef what, ArrayRef<StringRef> known);
  bool readScalar(const YamlNode &node, StringRef what, std::string &value);
  /// One of `choices`; its index.
  bool readChoice(const YamlNode &node, StringRef what, ArrayRef<StringRef> choices, size_t &index);
  bool readBool(const YamlNode &node, StringRef what, bool &value);
  bool readPositive(const YamlNode &node, StringRef what, int64_t &value);
  bool readType(const YamlNode &node, ArrayRef<StringRef> types, IntType &type);
  bool readPatterns(const YamlNode &node, StringRef what, std::vector<NamePattern> &patterns);
  bool readMatch(const YamlNode &node, Rule &rule);
  bool readWeights(const YamlNode &node, Rule &rule);
  bool readActivations(const YamlNode &node, Rule &rule);
  bool readRule(const YamlNode &node, Rule &rule);
  bool readTransformOptions(const YamlNode &node, GraphTransform &transform);
  bool readTransforms(const YamlNode &node, Recipe &recipe);
  bool readCalibration(const YamlNode &node, Recipe &recipe);
  bool readCache(const YamlNode &node, Recipe &recipe);
  bool readBase(const YamlNode &node, Recipe &base);

  StringRef file;
  RecipeError &error;
};
} // namespace

bool RecipeParser::checkMap(const YamlNode &node, StringRef what, ArrayRef<StringRef> known) {
  if (node.kind != Kind::Map)
    return fail(node, "expected " + what + " to be a mapping with " + choices(known) + ", found " +
                          node.describe());
  for (const auto &[key, value] : node.entries)
    if (!llvm::is_contained(known, key.scalar))
      return fail(key, "unknown key '" + key.scalar + "' in " + what + suggest(key.scalar, known) +
                           " (known: " + choices(known) + ")");
  return true;
}

bool RecipeParser::readScalar(const YamlNode &node, StringRef what, std::string &value) {
  if (node.kind != Kind::Scalar || node.scalar.empty())
    return fail(node, "expected " + what + ", found " + node.describe());
  value = node.scalar;
  return true;
}

bool RecipeParser::readChoice(const YamlNode &node, StringRef what, ArrayRef<StringRef> known,
                              size_t &index) {
  std::string value;
  if (!readScalar(node, (what + " (" + choices(known) + ")").str(), value))
    return false;
  auto found = llvm::find(known, value);
  if (found == known.end())
    return fail(node, "expected " + what + " to be " + choices(known) + ", found '" + value + "'" +
                          suggest(value, known));
  index = found - known.begin();
  return true;
}

bool RecipeParser::readBool(const YamlNode &node, StringRef what, bool &value) {
  size_t index;
  if (!readChoice(node, what, {"false", "true"}, index))
    return false;
  value = index == 1;
  return true;
}

bool RecipeParser::readPositive(const YamlNode &node, StringRef what, int64_t &value) {
  if (node.kind == Kind::Scalar && !StringRef(node.scalar).getAsInteger(10, value) && value > 0 &&
      value <= INT32_MAX)
    return true;
  return fail(node, "expected " + what + " to be a positive integer, found " + node.describe());
}

bool RecipeParser::readType(const YamlNode &node, ArrayRef<StringRef> types, IntType &type) {
  size_t index;
  if (!readChoice(node, "type", types, index))
    return false;
  type = *parseIntType(types[index].str());
  return true;
}

bool RecipeParser::readPatterns(const YamlNode &node, StringRef what,
                                std::vector<NamePattern> &patterns) {
  if (node.kind == Kind::List && node.items.empty())
    return fail(node, "expected at least one " + what + " pattern");
  for (const YamlNode &item : node.kind == Kind::List ? ArrayRef(node.items) : ArrayRef(node)) {
    std::string text;
    if (!readScalar(item, (what + " to be a pattern or a list of patterns").str(), text))
      return false;
    if (StringRef(text).starts_with("re:")) {
      std::string why;
      if (!llvm::Regex(StringRef(text).drop_front(3)).isValid(why))
        return fail(item, "'" + text + "' is not a regular expression: " + why);
    } else if (llvm::Expected<llvm::GlobPattern> glob = llvm::GlobPattern::create(text); !glob) {
      return fail(item, "'" + text + "' is not a glob: " + toString(glob.takeError()));
    }
    patterns.push_back({std::move(text)});
  }
  return true;
}

bool RecipeParser::readMatch(const YamlNode &node, Rule &rule) {
  if (!checkMap(node, "match", {"name", "weight", "op", "position"}))
    return false;
  if (node.entries.empty())
    return fail(node, "expected match to name something; 'name: \"*\"' matches every layer");
  if (const YamlNode *name = node.find("name"))
    if (!readPatterns(*name, "name", rule.names))
      return false;
  if (const YamlNode *weight = node.find("weight"))
    if (!readPatterns(*weight, "weight", rule.weightNames))
      return false;
  if (const YamlNode *op = node.find("op"))
    if (!readPatterns(*op, "op", rule.ops))
      return false;
  if (const YamlNode *position = node.find("position")) {
    size_t index;
    if (!readChoice(*position, "position", {"first", "last"}, index))
      return false;
    rule.position = index == 0 ? Rule::Position::First : Rule::Position::Last;
  }
  return true;
}

bool RecipeParser::readWeights(const YamlNode &node, Rule &rule) {
  if (node.kind == Kind::Scalar && node.scalar == "float")
    return true;
  if (!checkMap(node, "weights", {"type", "per", "group", "symmetric", "algorithm"}))
    return false;
  WeightRule weights;
  const YamlNode *type = node.find("type");
  if (!type)
    return fail(node, "expected weights to have a type, as in {type: i8, per: channel}");
  if (!readType(*type, {"i8", "u8", "i4", "u4", "i3", "u3"}, weights.scheme.type))
    return false;
  const YamlNode *per = node.find("per"), *group = node.find("group");
  if (per && group)
    return fail(*group, "expected either per or group, found both");
  weights.scheme.granularity = Scheme::Granularity::Channel;
  if (per) {
    size_t index;
    if (!readChoice(*per, "per", {"tensor", "channel"}, index))
      return false;
    if (index == 0)
      weights.scheme.granularity = Scheme::Granularity::Tensor;
  }
  if (group) {
    weights.scheme.granularity = Scheme::Granularity::Group;
    if (!readPositive(*group, "group", weights.scheme.group))
      return false;
  }
  weights.scheme.symmetric = isSigned(weights.scheme.type);
  if (const YamlNode *symmetric = node.find("symmetric"))
    if (!readBool(*symmetric, "symmetric", weights.scheme.symmetric))
      return false;
  if (const YamlNode *algorithm = node.find("algorithm")) {
    size_t index;
    if (!readChoice(*algorithm, "algorithm", algorithmNames(), index))
      return false;
    weights.algorithm = WeightAlgorithm(index);
  }
  rule.weights = weights;
  return true;
}

bool RecipeParser::readActivations(const YamlNode &node, Rule &rule) {
  if (node.kind == Kind::Scalar) {
    if (node.scalar == "float")
      return true;
    return fail(node, "expected activations to be float or a mapping, as in {type: u8}, found '" +
                          node.scalar + "'");
  }
  if (!checkMap(node, "activations", {"type", "symmetric", "dynamic"}))
    return false;
  ActivationRule activations;
  const YamlNode *type = node.find("type");
  if (!type)
    return fail(node, "expected activations to have a type, as in {type: u8}");
  if (!readType(*type, {"u8", "i8", "u16", "i16"}, activations.type))
    return false;
  if (const YamlNode *symmetric = node.find("symmetric"))
    if (!readBool(*symmetric, "symmetric", activations.symmetric))
      return false;
  if (const YamlNode *dynamic = node.find("dynamic")) {
    size_t index;
    if (!readChoice(*dynamic, "dynamic", {"token", "tensor"}, index))
      return false;
    activations.dynamic = index == 0 ? "token" : "tensor";
    if (bitWidth(activations.type) > 8)
      return fail(*dynamic, "a range of the run (dynamic) is of 8-bit activations, found type " +
                                Twine(lowbit::name(activations.type)));
  }
  rule.activations = activations;
  return true;
}

bool RecipeParser::readRule(const YamlNode &node, Rule &rule) {
  if (!checkMap(node, "a rule", {"match", "weights", "activations", "keep", "optional"}))
    return false;
  rule.origin = (file + ":" + Twine(node.line) + ":" + Twine(node.column)).str();
  const YamlNode *match = node.find("match");
  if (!match)
    return fail(node, "expected a rule to have match");
  if (!readMatch(*match, rule))
    return false;
  const YamlNode *weights = node.find("weights"), *activations = node.find("activations");
  if (const YamlNode *keep = node.find("keep")) {
    size_t index;
    if (!readChoice(*keep, "keep", {"float", "fp16"}, index))
      return false;
    rule.keep = index == 0 ? Rule::Keep::Float : Rule::Keep::Half;
    if (weights || activations)
      return fail(*keep, "a rule that keeps a layer in float has no weights and activations");
  } else if (!weights) {
    return fail(node, "expected a rule to have weights, or keep: float");
  }
  if (weights && !readWeights(*weights, rule))
    return false;
  if (weights && !rule.weights)
    rule.keep = Rule::Keep::Float;
  if (activations && !readActivations(*activations, rule))
    return false;
  if (rule.activations && !rule.weights)
    return fail(*activations, "quantized activations need quantized weights");
  if (const YamlNode *optional = node.find("optional"))
    return readBool(*optional, "optional", rule.optional);
  return true;
}

bool RecipeParser::readTransformOptions(const YamlNode &node, GraphTransform &transform) {
  static const std::map<StringRef, StringRef> options = {
      {"smooth", "alpha"}, {"awq", "clip"}, {"bias-correction", "method"}};
  auto known = options.find(transform.name);
  if (known == options.end())
    return fail(node, transform.name + " has no options");
  if (!checkMap(node, "the options of " + transform.name, {known->second}))
    return false;
  const YamlNode *value = node.find(known->second);
  if (!value)
    return true;
  std::string &text = transform.options[known->second.str()];
  if (transform.name == "awq" || transform.name == "bias-correction") {
    static constexpr StringRef flags[] = {"false", "true"},
                               methods[] = {"analytic", "empirical", "none"};
    ArrayRef<StringRef> choices = transform.name == "awq" ? ArrayRef(flags) : ArrayRef(methods);
    size_t index;
    if (!readChoice(*value, known->second, choices, index))
      return false;
    text = choices[index].str();
    return true;
  }
  if (!readScalar(*value, "alpha to be a number from 0 to 1, or auto", text))
    return false;
  double alpha;
  if (text != "auto" &&
      (StringRef(text).getAsDouble(alpha) || !(alpha >= 0) || !(alpha <= 1)))
    return fail(*value, "expected alpha to be a number from 0 to 1, or auto, found '" + text + "'");
  return true;
}

bool RecipeParser::readTransforms(const YamlNode &node, Recipe &recipe) {
  static constexpr StringRef known[] = {"fold-bn", "equalize", "absorb-bias",
                                        "smooth",  "awq",      "bias-correction"};
  if (node.kind != Kind::List)
    return fail(node, "expected transforms to be a list, found " + node.describe());
  recipe.transforms.clear();
  for (const YamlNode &item : node.items) {
    bool hasOptions = item.kind == Kind::Map && item.entries.size() == 1;
    const YamlNode &name = hasOptions ? item.entries[0].first : item;
    size_t index;
    if (!readChoice(name, "a transform", known, index))
      return false;
    GraphTransform transform;
    transform.name = known[index].str();
    if (recipe.findTransform(transform.name))
      return fail(name, transform.name + " is listed twice");
    if (hasOptions && !readTransformOptions(item.entries[0].second, transform))
      return false;
    // What is not written has a value all the same.
    if (transform.name == "smooth")
      transform.options.try_emplace("alpha", "0.5");
    if (transform.name == "awq")
      transform.options.try_emplace("clip", "true");
    if (transform.name == "bias-correction")
      transform.options.try_emplace("method", "analytic");
    recipe.transforms.push_back(std::move(transform));
  }
  // They are taken in this order, whatever the order of the file.
  llvm::stable_sort(recipe.transforms, [](const GraphTransform &a, const GraphTransform &b) {
    return llvm::find(known, a.name) < llvm::find(known, b.name);
  });
  return true;
}

bool RecipeParser::readCalibration(const YamlNode &node, Recipe &recipe) {
  if (!checkMap(node, "calibration", {"method", "percentile", "samples"}))
    return false;
  static constexpr StringRef methods[] = {"minmax", "average", "percentile", "entropy", "mse"};
  if (const YamlNode *method = node.find("method")) {
    size_t index;
    if (!readChoice(*method, "method", methods, index))
      return false;
    recipe.calibration.method = RangeMethod(index);
  }
  if (const YamlNode *percentile = node.find("percentile")) {
    if (recipe.calibration.method != RangeMethod::Percentile)
      return fail(*percentile, Twine("expected no percentile with method ") +
                                   lowbit::name(recipe.calibration.method) +
                                   "; it belongs to method: percentile");
    if (percentile->kind != Kind::Scalar ||
        !readPercentile(percentile->scalar, recipe.calibration.percentile))
      return fail(*percentile, "expected percentile to be a number over 0 and at most 100, found " +
                                   percentile->describe());
  }
  if (const YamlNode *samples = node.find("samples")) {
    int64_t count;
    if (!readPositive(*samples, "samples", count))
      return false;
    recipe.calibrationSamples = count;
  }
  return true;
}

bool RecipeParser::readCache(const YamlNode &node, Recipe &recipe) {
  if (node.kind == Kind::Scalar) {
    if (node.scalar != "float")
      return fail(node, "expected kv_cache to be float or a mapping, as in {type: i8}, found '" +
                            node.scalar + "'");
    recipe.cache.reset();
    return true;
  }
  if (!checkMap(node, "kv_cache", {"type"}))
    return false;
  const YamlNode *type = node.find("type");
  if (!type)
    return fail(node, "expected kv_cache to have a type, as in {type: i8}");
  size_t index;
  if (!readChoice(*type, "type", {"i8", "float"}, index))
    return false;
  recipe.cache = index == 0 ? std::optional(IntType::I8) : std::nullopt;
  return true;
}

bool RecipeParser::readBase(const YamlNode &node, Recipe &base) {
  std::string name;
  if (!readScalar(node, "the name of a recipe", name))
    return false;
  StringRef stem = StringRef(name).split(':').first;
  if (!llvm::is_contained(Recipe::namedRecipes(), stem))
    return fail(node, "unknown recipe '" + stem + "'" + suggest(stem, Recipe::namedRecipes()) +
                          " (a base is one of " + choices(Recipe::namedRecipes()) + ")");
  std::optional<Recipe> loaded = Recipe::load(name, error);
  if (!loaded)
    return fail(node, error.message);
  base = std::move(*loaded);
  return true;
}

bool RecipeParser::read(const YamlNode &document, Recipe &recipe) {
  if (document.kind != Kind::Map)
    return fail(document.line ? document : [] { YamlNode top; top.line = top.column = 1; return top; }(),
                "expected a recipe (a mapping that starts with 'lowbit: 1'), found " +
                    document.describe());
  if (!checkMap(document, "a recipe", {"lowbit", "base", "transforms", "calibration", "kv_cache", "rules"}))
    return false;
  const YamlNode *version = document.find("lowbit");
  if (!version)
    return fail(document, "expected 'lowbit: 1', the version of the format");
  if (version->kind != Kind::Scalar || version->scalar != "1")
    return fail(*version, "expected version 1 of the format, found " + version->describe());
  Recipe base;
  if (const YamlNode *name = document.find("base")) {
    if (!readBase(*name, base))
      return false;
    recipe.transforms = base.transforms;
    recipe.calibration = base.calibration;
    recipe.calibrationSamples = base.calibrationSamples;
    recipe.cache = base.cache;
  }
  if (const YamlNode *transforms = document.find("transforms"))
    if (!readTransforms(*transforms, recipe))
      return false;
  if (const YamlNode *calibration = document.find("calibration"))
    if (!readCalibration(*calibration, recipe))
      return false;
  if (const YamlNode *cache = document.find("kv_cache"))
    if (!readCache(*cache, recipe))
      return false;
  if (const YamlNode *rules = document.find("rules")) {
    if (rules->kind != Kind::List)
      return fail(*rules, "expected rules to be a list, found " + rules->describe());
    for (const YamlNode &item : rules->items)
      if (!readRule(item, recipe.rules.emplace_back()))
        return false;
  }
  recipe.rules.insert(recipe.rules.end(), base.rules.begin(), base.rules.end());
  return true;
}

std::optional<Recipe> Recipe::parse(StringRef text, StringRef file, RecipeError &error) {
  error = {};
  std::optional<YamlNode> document = parseYaml(text, file, error.message);
  if (!document)
    return std::nullopt;
  Recipe recipe;
  if (!RecipeParser(file, error).read(*document, recipe))
    return std::nullopt;
  return recipe;
}
