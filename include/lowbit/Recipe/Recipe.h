//===- Recipe.h - which layer gets which scheme -----------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A recipe is a list of rules; the first one that matches a layer decides about it.
// Nothing here knows IR: a layer is its name, its operator, its weight's name and
// its place in the model.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_RECIPE_RECIPE_H
#define LOWBIT_RECIPE_RECIPE_H

#include "lowbit/Numerics/RangeChoice.h"
#include "lowbit/Numerics/Scheme.h"
#include "lowbit/Support/LLVM.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace lowbit {

/// Why a recipe cannot be used. `exitCode` is 2 for one that is wrong, 3 for one that is right but
/// asks for something that does not exist yet; `message` names the file, line and column where
/// there is one.
struct RecipeError {
  int exitCode = 2;
  std::string message;
};

/// What a rule can match. `last` and `first` tell the place among the layers that could be
/// quantized.
struct LayerKey {
  std::string name;   ///< The layer's name, as in reports.
  std::string op;     ///< "Conv", "MatMul"; of other dialects in full: "linalg.matmul".
  std::string weight; ///< The name of the weight's initializer; empty where it has none.
  bool first = false;
  bool last = false;
};

/// A name pattern: a glob in which `*` matches anything, '/' too, or `re:` and a regular
/// expression. Either has to match the whole name.
struct NamePattern {
  std::string text;
  bool matches(StringRef name) const;
};

enum class WeightAlgorithm { RTN, MSE, GPTQ, AWQ, HQQ };

struct WeightRule {
  Scheme scheme;
  WeightAlgorithm algorithm = WeightAlgorithm::RTN;
};

struct ActivationRule {
  IntType type = IntType::U8;
  bool symmetric = false;
  /// Empty for a range from calibration; "token" or "tensor" for one taken when the model runs.
  std::string dynamic;
};

struct Rule {
  enum class Position { Any, First, Last };
  enum class Keep { No, Float, Half };

  /// A layer matches where each of the lists that is not empty has a pattern that matches.
  std::vector<NamePattern> names, weightNames, ops;
  Position position = Position::Any;

  Keep keep = Keep::No;
  std::optional<WeightRule> weights;
  std::optional<ActivationRule> activations;
  /// A rule that may match nothing.
  bool optional = false;

  /// Where it stands: `file:line:column`, or the name of the named recipe that it comes from.
  std::string origin;

  bool matches(const LayerKey &layer) const;
  /// The rule on one line, as in `{op: [Conv]}`: for messages.
  std::string describeMatch() const;
};

/// A percentile as recipes write it; false where it is no number over 0 and at most 100.
bool readPercentile(StringRef text, double &percentile);

/// A change of the graph before it is quantized: fold-bn, equalize, absorb-bias, smooth, awq or
/// bias-correction. Those that are listed run, in this order.
struct GraphTransform {
  std::string name;
  /// As written, checked: smooth has alpha (0 to 1, or auto), awq has clip (true or false),
  /// bias-correction has method (analytic, empirical or none).
  std::map<std::string, std::string> options;
};

class Recipe {
public:
  /// From a specification: the name of a named recipe, `NAME:key=value,…` (see `overrideHelp`), the
  /// path of a YAML file, or the YAML text itself (anything with a line break in it).
  static std::optional<Recipe> load(StringRef specification, RecipeError &error);
  /// From YAML text; `file` is what messages call it. Everything about the text is checked.
  static std::optional<Recipe> parse(StringRef text, StringRef file, RecipeError &error);

  static ArrayRef<StringRef> namedRecipes();
  /// The YAML of a named recipe; empty for an unknown name.
  static StringRef namedRecipeText(StringRef name);
  /// The JSON schema of recipe files.
  static StringRef jsonSchema();

  /// Index of the first rule that matches; nothing where no rule does, and the layer stays float.
  std::optional<size_t> match(const LayerKey &layer) const;
  /// The first rule that matches none of `layers` and is not optional, as an error that suggests
  /// names. `layers` are all operators of the model, not only those that can be quantized.
  std::optional<RecipeError> findUnmatchedRule(ArrayRef<LayerKey> layers) const;

  /// Rounds weights on data that has gone through the quantized layers before: such a recipe is
  /// compiled with data, not with a calibration file alone.
  bool isSequential() const;
  /// The transform of this name, or null where it is not listed.
  const GraphTransform *findTransform(StringRef name) const;
  /// How much smooth moves to the weights, 0 to 1; -1 where it chooses for each group of layers.
  double smoothStrength() const;
  /// Corrects biases by what the float model's layers give for the same data.
  bool correctsBiases() const;
  /// Runs the float model beside the quantized one: to correct biases, or because GPTQ rounds
  /// towards the float model's outputs (Numerics/FloatTargets.h).
  bool comparesWithFloat() const;

  /// Canonical YAML: base expanded, defaults written out. Parsing it gives this recipe again.
  std::string print() const;
  /// SHA-256 of print(), hexadecimal.
  std::string sha256() const;
  /// The part that says which model is measured: the transforms that change values before
  /// calibration sees them. Neither the layers that are observed nor how a range is chosen are in
  /// it: histograms are properties of the model and its data, so a recipe can be edited without
  /// measuring again.
  std::string printMeasured() const;
  /// SHA-256 of printMeasured(), hexadecimal.
  std::string observerSha256() const;

  std::string name; ///< As in the specification: "int4:group=32", or the file's stem.
  std::vector<GraphTransform> transforms;
  /// How the range of an activation is chosen from what calibration saw.
  RangeOptions calibration;
  /// How many samples calibration takes, the first ones; all where there is no number.
  std::optional<int64_t> calibrationSamples;
  /// The type that a decoder's caches of keys and values are held in (lowbit-quantize-kv-cache): i8,
  /// with one scale per token and head; nothing for float.
  std::optional<IntType> cache;
  std::vector<Rule> rules;

private:
  bool applyOverride(StringRef key, StringRef value, std::string &error);
  std::string printCalibration() const;
};

} // namespace lowbit

#endif // LOWBIT_RECIPE_RECIPE_H
