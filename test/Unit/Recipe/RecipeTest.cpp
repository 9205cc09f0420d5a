//===- RecipeTest.cpp - parsing, matching and printing recipes ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Recipe/Recipe.h"
#include "lowbit/Recipe/NeededStatistics.h"
#include "llvm/ADT/Twine.h"
#include "gtest/gtest.h"
#include <random>

using namespace lowbit;
using Granularity = Scheme::Granularity;

static Recipe good(StringRef specification) {
  RecipeError error;
  std::optional<Recipe> recipe = Recipe::load(specification, error);
  EXPECT_TRUE(recipe.has_value()) << error.message;
  return recipe.value_or(Recipe());
}

/// The message of a recipe that has to be refused.
static std::string refused(StringRef specification) {
  RecipeError error;
  EXPECT_FALSE(Recipe::load(specification, error).has_value());
  EXPECT_EQ(error.exitCode, 2);
  EXPECT_EQ(error.message.find('\n'), std::string::npos);
  return error.message;
}

TEST(Recipe, NamedOnesParseAndPrintCanonically) {
  for (StringRef name : Recipe::namedRecipes()) {
    Recipe recipe = good(name);
    Recipe again = good(recipe.print());
    EXPECT_EQ(recipe.print(), again.print()) << name.str();
    EXPECT_EQ(recipe.sha256(), again.sha256());
  }
}

TEST(Recipe, Int4KeepsTheLastProjectionAndEmbeddingsInEightBits) {
  Recipe recipe = good("int4");
  LayerKey gather{"emb", "Gather", "table"}, last{"lm_head", "MatMul", ""},
      other{"q", "MatMul", ""};
  last.last = true;
  EXPECT_EQ(recipe.rules[*recipe.match(gather)].weights->scheme.type, IntType::I8);
  EXPECT_EQ(recipe.rules[*recipe.match(last)].weights->scheme.type, IntType::I8);
  const Scheme &scheme = recipe.rules[*recipe.match(other)].weights->scheme;
  EXPECT_EQ(scheme, (Scheme{IntType::U4, Granularity::Group, 128, false}));
}

TEST(Recipe, Overrides) {
  LayerKey last{"lm_head", "MatMul", ""};
  last.last = true;
  Recipe recipe = good("int4:group=32,head=same");
  EXPECT_EQ(recipe.rules[*recipe.match(last)].weights->scheme.group, 32);
  recipe = good("int4:head=i4,group=64");
  EXPECT_EQ(recipe.rules[*recipe.match(last)].weights->scheme.type, IntType::I4);
  recipe = good("int4:per=tensor,embeddings=float,head=float");
  EXPECT_EQ(recipe.rules[*recipe.match(last)].keep, Rule::Keep::Float);
  EXPECT_EQ(recipe.rules[*recipe.match({"e", "Gather", ""})].keep, Rule::Keep::Float);
  EXPECT_EQ(recipe.rules.back().weights->scheme.granularity, Granularity::Tensor);

  EXPECT_EQ(refused("int4:grup=32").substr(0, 61),
            "recipe 'int4:grup=32': unknown key 'grup'; did you mean 'grou");
  EXPECT_EQ(refused("int4:group=0"),
            "recipe 'int4:group=0': expected group=a positive integer, found '0'");
  EXPECT_EQ(refused("fp32:group=32"),
            "recipe 'fp32:group=32': 'group' does not apply: this recipe quantizes nothing");
}

TEST(Recipe, FirstMatchWinsAndBaseComesLast) {
  Recipe recipe = good("lowbit: 1\n"
                       "base: int4\n"
                       "rules:\n"
                       "  - match: {name: \"*/down_proj/*\"}\n"
                       "    weights: {type: i8, per: channel}\n"
                       "  - match: {op: [MatMul, Gemm], weight: 're:w[0-9]+'}\n"
                       "    weights: {type: u4, group: 32}\n"
                       "  - match: {op: Softmax}\n"
                       "    keep: float\n");
  EXPECT_EQ(recipe.match({"m/0/down_proj/MatMul", "MatMul", ""}), 0u);
  EXPECT_EQ(recipe.match({"x", "Gemm", "w12"}), 1u);
  EXPECT_EQ(recipe.match({"x", "Gemm", "w12b"}), 5u)
      << "a regular expression matches the whole name";
  EXPECT_EQ(recipe.match({"s", "Softmax", ""}), 2u);
}

TEST(Recipe, UnmatchedRuleSuggestsNames) {
  Recipe recipe = good("lowbit: 1\nrules:\n  - match: {name: conv_1}\n    keep: float\n");
  EXPECT_FALSE(recipe.findUnmatchedRule({{"conv_1", "Conv", ""}}));
  std::optional<RecipeError> error =
      recipe.findUnmatchedRule({{"conv1", "Conv", ""}, {"fc", "Gemm", ""}});
  ASSERT_TRUE(error);
  EXPECT_EQ(error->message,
            "recipe:3:5: the rule for {name: [\"conv_1\"]} matches no layer of this "
            "model; nearest: conv1, fc");
}

TEST(Recipe, ErrorsNameLineAndColumn) {
  EXPECT_EQ(
      refused("lowbit: 1\nrulez: []\n"),
      "recipe:2:1: unknown key 'rulez' in a recipe; did you mean 'rules'? (known: lowbit, base, "
      "transforms, calibration, kv_cache or rules)");
  EXPECT_EQ(refused("lowbit: 2\n"), "recipe:1:9: expected version 1 of the format, found '2'");
  EXPECT_EQ(refused("rules: []\n"), "recipe:1:1: expected 'lowbit: 1', the version of the format");
  std::string head = "lowbit: 1\nrules:\n  - match: {name: a}\n    ";
  EXPECT_EQ(
      refused(head + "weights: {type: i9}\n"),
      "recipe:4:21: expected type to be i8, u8, i4, u4, i3 or u3, found 'i9'; did you mean 'i8'?");
  EXPECT_EQ(refused(head + "weights: {type: i8, per: channel, group: 4}\n"),
            "recipe:4:46: expected either per or group, found both");
  EXPECT_EQ(refused(head + "weights: {type: i8, group: many}\n"),
            "recipe:4:32: expected group to be a positive integer, found 'many'");
  EXPECT_EQ(refused(head + "activations: {type: u8}\n"),
            "recipe:3:5: expected a rule to have weights, or keep: float");
  EXPECT_EQ(refused(head + "keep: float\n    keep: float\n"), "recipe:5:5: key 'keep' is repeated");
  EXPECT_EQ(refused("lowbit: 1\nbase: int9\n").substr(0, 57),
            "recipe:2:7: unknown recipe 'int9'; did you mean 'int8'? (");
  EXPECT_EQ(
      refused("lowbit: 1\nrules:\n  - match: {name: 're:('}\n    keep: float\n").substr(0, 51),
      "recipe:3:19: 're:(' is not a regular expression: pa");
}

TEST(Recipe, RefusesWhatIsNotYaml) {
  refused("\n[");
  refused("\n" + std::string(500, '['));
  refused("\n: : :\n- {");
  refused("just text\n");
  refused("\n");
  refused("lowbit: 1\n---\nlowbit: 1\n");
  refused("a: &x 1\nb: *x\n");
  refused(StringRef("\0\n\1", 3));
  EXPECT_EQ(refused("int9").substr(0, 37), "no recipe 'int9': neither a file nor ");
}

TEST(Recipe, DamagedTextIsRefusedOrHarmless) {
  RecipeError error;
  Recipe::load("\n" + std::string(200000, '['), error);
  Recipe::load("\n" + std::string(200000, '{'), error);
  std::string nested = "\n";
  for (int i = 0; i < 5000; ++i)
    nested += std::string(i, ' ') + "a:\n";
  Recipe::load(nested, error);
  std::mt19937 random(0);
  std::string whole = Recipe::namedRecipeText("int4").str();
  for (int i = 0; i < 20000; ++i) {
    std::string text = whole;
    for (int edits = 0; edits < 3; ++edits)
      switch (size_t at = random() % text.size(); random() % 3) {
      case 0:
        text[at] = char(random());
        break;
      case 1:
        text.erase(at, random() % 20);
        break;
      default:
        text.insert(at, whole.substr(random() % whole.size(), random() % 20));
      }
    Recipe::load(text + "\n", error);
  }
}

TEST(Recipe, Activations) {
  EXPECT_EQ(good("int4:activations=u8,dynamic=token").rules.back().activations->dynamic, "token");
  EXPECT_EQ(good("int8-dynamic:dynamic=false").rules.back().activations->dynamic, "");
  RecipeError wide;
  EXPECT_FALSE(Recipe::load("int8:activations=i16,dynamic=token", wide));
  auto text = [](StringRef activations) {
    return (Twine("lowbit: 1\nrules:\n- match: {op: MatMul}\n  weights: {type: u4, group: 32}\n"
                  "  activations: ") +
            activations + "\n")
        .str();
  };
  for (StringRef good16 : {"{type: i16}", "{type: u16}", "{type: u8, dynamic: token}",
                           "{type: i8, symmetric: true, dynamic: tensor}"})
    EXPECT_EQ(good(good(text(good16)).print()).print(), good(text(good16)).print());
  RecipeError error;
  EXPECT_FALSE(Recipe::parse(text("{type: i16, dynamic: token}"), "r", error));
  EXPECT_EQ(error.message, "r:5:37: a range of the run (dynamic) is of 8-bit activations, found "
                           "type i16");
}

TEST(Recipe, Cache) {
  EXPECT_FALSE(good("int4").cache);
  EXPECT_EQ(good("lowbit: 1\nkv_cache: {type: i8}\n").cache, IntType::I8);
  EXPECT_FALSE(good("lowbit: 1\nbase: int4:kv_cache=i8\nkv_cache: float\n").cache);
  EXPECT_FALSE(good("lowbit: 1\nbase: int4:kv_cache=i8\nkv_cache: {type: float}\n").cache);
  // A base's counts where the file says nothing, and a recipe that quantizes no layer has it too.
  EXPECT_EQ(good("lowbit: 1\nbase: fp32:kv_cache=i8\n").cache, IntType::I8);
  Recipe recipe = good("int4:group=32,kv_cache=i8");
  EXPECT_NE(recipe.print().find("\nkv_cache: {type: i8}\n"), std::string::npos);
  EXPECT_EQ(good(recipe.print()).print(), recipe.print());
  EXPECT_NE(good("int4").print().find("\nkv_cache: float\n"), std::string::npos);
  EXPECT_NE(recipe.sha256(), good("int4:group=32").sha256());
  // Calibration measures the same model.
  EXPECT_EQ(recipe.observerSha256(), good("int4").observerSha256());
  EXPECT_EQ(refused("int4:kv_cache=i4"),
            "recipe 'int4:kv_cache=i4': expected kv_cache=float or i8, found 'i4'");
  EXPECT_EQ(refused("lowbit: 1\nkv_cache: i8\n"), "recipe:2:11: expected kv_cache to be float or a "
                                                  "mapping, as in {type: i8}, found 'i8'");
  EXPECT_EQ(refused("lowbit: 1\nkv_cache: {type: u8}\n").substr(0, 58),
            "recipe:2:18: expected type to be i8 or float, found 'u8'; ");
  EXPECT_EQ(refused("lowbit: 1\nkv_cache: {}\n"),
            "recipe:2:12: expected kv_cache to have a type, as in {type: i8}");
}

TEST(Recipe, ObserverHashIsThatOfWhatIsMeasured) {
  EXPECT_EQ(good("int8").observerSha256(), good("int8:head=float").observerSha256());
  // Histograms serve every way to choose a range.
  EXPECT_EQ(good("int8").observerSha256(), good("int8:calibration=mse").observerSha256());
  auto with = [](StringRef transforms) {
    return good((Twine("lowbit: 1\ntransforms: ") + transforms + "\nbase: int8\n").str())
        .observerSha256();
  };
  EXPECT_NE(with("[fold-bn]"), with("[fold-bn, equalize]"));
  EXPECT_EQ(with("[fold-bn]"), with("[fold-bn, smooth, bias-correction]"));
}

TEST(Recipe, CalibrationKeys) {
  auto text = [](StringRef keys) {
    return (Twine("lowbit: 1\nbase: int8\ncalibration: ") + keys + "\n").str();
  };
  Recipe recipe = good(text("{method: percentile, percentile: 99.9, samples: 128}"));
  EXPECT_EQ(recipe.calibration.method, RangeMethod::Percentile);
  EXPECT_EQ(recipe.calibration.percentile, 99.9);
  EXPECT_EQ(recipe.calibrationSamples, 128);
  EXPECT_NE(
      recipe.print().find("calibration: {method: percentile, percentile: 99.9, samples: 128}\n"),
      std::string::npos);
  EXPECT_EQ(good(recipe.print()).print(), recipe.print());
  EXPECT_EQ(good(text("{method: average}")).calibration.method, RangeMethod::Average);
  EXPECT_EQ(good(text("{method: percentile}")).calibration.percentile, 99.99);
  EXPECT_EQ(good("int8:percentile=99.5").calibration.percentile, 99.5);
  EXPECT_EQ(good("int8:percentile=99.5").calibration.method, RangeMethod::Percentile);
  EXPECT_NE(refused(text("{method: mse, percentile: 99}")).find("belongs to method: percentile"),
            std::string::npos);
  EXPECT_NE(refused(text("{method: percentile, percentile: 101}")).find("at most 100"),
            std::string::npos);
  EXPECT_NE(refused(text("{method: entopy}")).find("did you mean 'entropy'"), std::string::npos);
  EXPECT_NE(refused("int8:percentile=x").find("a number over 0"), std::string::npos);
}

TEST(Recipe, NeededStatistics) {
  auto needed = [](StringRef text) {
    Recipe recipe = good(text);
    NeededStatistics needed =
        neededStatistics(recipe, recipe.rules.empty() ? nullptr : &recipe.rules.back());
    return std::pair(needed.range, needed.channels);
  };
  EXPECT_EQ(needed("int8"), std::pair(true, true));
  EXPECT_EQ(needed("lowbit: 1\ntransforms: []\nbase: int8\n"), std::pair(true, false));
  EXPECT_EQ(needed("int8-dynamic"), std::pair(false, false));
  EXPECT_EQ(needed("fp32"), std::pair(false, false));
  EXPECT_EQ(needed("int4"), std::pair(false, false));
  EXPECT_EQ(needed("lowbit: 1\ntransforms: [awq]\nbase: int4\n"), std::pair(false, true));
  EXPECT_EQ(needed("lowbit: 1\ntransforms: [bias-correction]\nbase: int4\n"),
            std::pair(false, true));
  EXPECT_EQ(needed("lowbit: 1\ntransforms: [smooth]\nbase: int4\n"), std::pair(false, false));
  EXPECT_EQ(needed("lowbit: 1\ntransforms: [smooth]\nbase: int8\n"), std::pair(true, true));
}

TEST(Recipe, Transforms) {
  auto text = [](StringRef list) {
    return (Twine("lowbit: 1\nbase: int8\ntransforms: ") + list + "\n").str();
  };
  // In the order in which they run, with what is not written.
  Recipe recipe = good(text("[{smooth: {alpha: auto}}, absorb-bias, equalize, awq, fold-bn, "
                            "bias-correction]"));
  EXPECT_NE(recipe.print().find("transforms: [fold-bn, equalize, absorb-bias, {smooth: {alpha: "
                                "auto}}, {awq: {clip: true}}, {bias-correction: {method: "
                                "analytic}}]\n"),
            std::string::npos);
  EXPECT_EQ(good(recipe.print()).print(), recipe.print());
  EXPECT_EQ(recipe.smoothStrength(), -1);
  EXPECT_EQ(good(text("[smooth]")).smoothStrength(), 0.5);
  EXPECT_EQ(good(text("[{smooth: {alpha: 0.75}}]")).smoothStrength(), 0.75);
  EXPECT_EQ(good("int8").findTransform("equalize"), nullptr);
  EXPECT_TRUE(good(text("[{bias-correction: {method: empirical}}]")).correctsBiases());
  EXPECT_FALSE(good(text("[{bias-correction: {method: none}}]")).correctsBiases());
  EXPECT_NE(refused(text("[equalise]")).find("did you mean 'equalize'"), std::string::npos);
  EXPECT_NE(refused(text("[equalize, equalize]")).find("listed twice"), std::string::npos);
  EXPECT_NE(refused(text("[{equalize: {alpha: 1}}]")).find("equalize has no options"),
            std::string::npos);
  EXPECT_NE(refused(text("[{smooth: {alpha: 2}}]")).find("a number from 0 to 1, or auto"),
            std::string::npos);
  EXPECT_NE(refused(text("[{awq: {clp: true}}]")).find("unknown key 'clp'"), std::string::npos);
  EXPECT_NE(refused(text("[{bias-correction: {method: magic}}]")).find("analytic, empirical or none"),
            std::string::npos);
}
