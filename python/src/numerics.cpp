//===- numerics.cpp - the algorithms on weights for Python ------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/AWQ.h"
#include "lowbit/Numerics/RoundWeights.h"
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace nb = nanobind;
using namespace nb::literals;
using namespace lowbit;

using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Array = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;

/// The moments of rows [n, K], or of [groups, n, K] for each group.
static std::vector<Moments> momentsOf(const std::optional<Array> &rows, unsigned threads) {
  std::vector<Moments> result;
  if (!rows)
    return result;
  if (rows->ndim() != 2 && rows->ndim() != 3)
    throw nb::value_error("inputs must be [rows, K] or [groups, rows, K]");
  bool many = rows->ndim() == 3;
  int64_t groups = many ? rows->shape(0) : 1, count = rows->shape(many),
          cols = rows->shape(many + 1);
  for (int64_t g = 0; g < groups; ++g) {
    result.emplace_back(cols);
    result.back().add(rows->data() + g * count * cols, count, cols, threads);
    result.back().finish(threads);
  }
  return result;
}

static std::vector<CrossMoments> crossOf(const std::optional<Array> &rows,
                                         const std::optional<Array> &floatRows, unsigned threads) {
  std::vector<CrossMoments> result;
  if (!floatRows)
    return result;
  if (!rows || rows->ndim() != floatRows->ndim())
    throw nb::value_error("float_inputs must have the shape of inputs");
  for (size_t d = 0; d < rows->ndim(); ++d)
    if (rows->shape(d) != floatRows->shape(d))
      throw nb::value_error("float_inputs must have the shape of inputs");
  bool many = rows->ndim() == 3;
  int64_t groups = many ? rows->shape(0) : 1, count = rows->shape(many),
          cols = rows->shape(many + 1);
  for (int64_t g = 0; g < groups; ++g) {
    int64_t at = g * count * cols;
    result.emplace_back(cols);
    result.back().add(rows->data() + at, floatRows->data() + at, count, cols, threads);
    result.back().finish(threads);
  }
  return result;
}

template <typename T>
static T oneOf(const char *what, const std::string &value,
               std::initializer_list<std::pair<const char *, T>> names) {
  std::string known;
  for (auto &[name, result] : names) {
    if (value == name)
      return result;
    known += std::string(known.empty() ? "" : ", ") + name;
  }
  throw nb::value_error((std::string(what) + " '" + value + "' is none of " + known).c_str());
}

template <typename T>
static nb::object arrayOf(std::vector<T> values, std::vector<size_t> shape) {
  auto *owned = new std::vector<T>(std::move(values));
  nb::capsule owner(owned, [](void *p) noexcept { delete static_cast<std::vector<T> *>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T>(owned->data(), shape.size(), shape.data(), owner));
}

static nb::dict toDict(const QuantizedWeights &result) {
  size_t rows = result.rows, cols = result.cols;
  std::vector<int32_t> q(rows * cols);
  std::vector<float> real(rows * cols);
  for (size_t r = 0; r < rows; ++r)
    for (size_t c = 0; c < cols; ++c) {
      q[r * cols + c] = result.value(r, c);
      real[r * cols + c] = result.real(r, c);
    }
  std::vector<size_t> shape{result.scales.size()};
  if (result.scheme.granularity == Scheme::Granularity::Group)
    shape = {rows, size_t(result.groups)};
  const RoundingReport &report = result.report;
  nb::dict dict;
  dict["q"] = arrayOf(std::move(q), {rows, cols});
  dict["real"] = arrayOf(std::move(real), {rows, cols});
  dict["scales"] = arrayOf(result.scales, shape);
  dict["zeros"] = arrayOf(result.zeros, shape);
  dict["relative_error"] = result.relativeError;
  dict["output_error"] = report.outputError;
  dict["rtn_output_error"] = report.rtnOutputError;
  dict["held_out_error"] = report.heldOutError;
  dict["rtn_held_out_error"] = report.rtnHeldOutError;
  dict["damping"] = report.damping;
  dict["dead_columns"] = report.deadColumns;
  dict["fell_back"] = report.fellBack;
  dict["notes"] = report.notes;
  return dict;
}

static Scheme schemeOf(const std::string &type, std::optional<int64_t> group,
                       const std::string &per, bool symmetric) {
  using Granularity = Scheme::Granularity;
  std::optional<IntType> parsed = parseIntType(type);
  if (!parsed)
    throw nb::value_error(("unknown type '" + type + "'").c_str());
  Granularity named = oneOf<Granularity>(
      "per", per, {{"tensor", Granularity::Tensor}, {"channel", Granularity::Channel}});
  return {*parsed, group ? Granularity::Group : named, group.value_or(0), symmetric};
}

static WeightRange rangeOf(const std::string &range) {
  return oneOf<WeightRange>("range", range,
                            {{"minmax", WeightRange::MinMax},
                             {"mse", WeightRange::MSE},
                             {"weighted-mse", WeightRange::WeightedMSE},
                             {"output-mse", WeightRange::OutputMSE},
                             {"inverse-mse", WeightRange::InverseMSE}});
}

static nb::dict roundMatrix(Matrix w, const std::string &type, std::optional<int64_t> group,
                            const std::string &per, bool symmetric, const std::string &algorithm,
                            std::optional<Array> inputs, std::optional<Array> heldOut,
                            std::optional<Array> floatInputs, double targetStrength,
                            double targetRidge, const std::string &range, double norm,
                            double damping, bool actOrder, int sweeps, bool refit, bool fallBack,
                            unsigned threads) {
  Scheme scheme = schemeOf(type, group, per, symmetric);
  RoundingOptions options;
  options.algorithm = oneOf<RoundingAlgorithm>("algorithm", algorithm,
                                               {{"rtn", RoundingAlgorithm::RTN},
                                                {"mse", RoundingAlgorithm::MSE},
                                                {"awq", RoundingAlgorithm::AWQ},
                                                {"hqq", RoundingAlgorithm::HQQ},
                                                {"gptq", RoundingAlgorithm::GPTQ}});
  options.range = rangeOf(range);
  options.norm = norm;
  options.damping = damping;
  options.actOrder = actOrder;
  options.sweeps = sweeps;
  options.refit = refit;
  options.fallBack = fallBack;
  options.threads = threads;
  options.targetStrength = targetStrength;
  options.targetRidge = targetRidge;
  std::string error;
  std::optional<QuantizedWeights> result;
  {
    nb::gil_scoped_release release;
    std::vector<Moments> moments = momentsOf(inputs, threads), held = momentsOf(heldOut, threads);
    if (heldOut)
      options.heldOut = &held;
    std::vector<CrossMoments> cross = crossOf(inputs, floatInputs, threads);
    if (floatInputs)
      options.cross = &cross;
    result = roundWeights(w.data(), w.shape(0), w.shape(1), scheme, options, moments, error);
  }
  if (!result)
    throw nb::value_error(error.c_str());
  return toDict(*result);
}

static nb::dict findScales(const std::vector<Matrix> &weights, Array inputs,
                           const std::string &type, std::optional<int64_t> group,
                           const std::string &per, bool symmetric, const std::string &range,
                           int steps, std::vector<int64_t> classes, unsigned threads) {
  if (inputs.ndim() != 2)
    throw nb::value_error("inputs must be [rows, K]");
  AWQOptions options;
  options.range = rangeOf(range);
  options.steps = steps;
  options.classes = std::move(classes);
  options.threads = threads;
  std::vector<AWQLayer> layers;
  for (const Matrix &w : weights) {
    if (w.shape(1) != inputs.shape(1))
      throw nb::value_error("all weights must have the columns of the inputs");
    layers.push_back({w.data(), int64_t(w.shape(0)), schemeOf(type, group, per, symmetric)});
  }
  std::string error;
  std::optional<AWQScales> found;
  {
    nb::gil_scoped_release release;
    found = searchAWQScales(layers, momentsOf(inputs, threads).front(), options, error);
  }
  if (!found)
    throw nb::value_error(error.c_str());
  nb::dict dict;
  size_t count = found->scales.size();
  dict["scales"] = arrayOf(std::move(found->scales), {count});
  dict["alpha"] = found->alpha;
  dict["error"] = found->error;
  dict["plain_error"] = found->plainError;
  return dict;
}

void registerNumerics(nb::module_ &m) {
  m.def("round_weights", roundMatrix, "w"_a, nb::kw_only(), "type"_a = "i4", "group"_a = nb::none(),
        "per"_a = "channel", "symmetric"_a = true, "algorithm"_a = "rtn", "inputs"_a = nb::none(),
        "held_out"_a = nb::none(), "float_inputs"_a = nb::none(), "target_strength"_a = 0.5,
        "target_ridge"_a = 0.1, "range"_a = "inverse-mse", "norm"_a = 2.0, "damping"_a = 0.01,
        "act_order"_a = true, "sweeps"_a = 8, "refit"_a = true, "fall_back"_a = true,
        "threads"_a = 0,
        "Rounds a weight matrix [rows, K] with an algorithm; inputs [n, K] are rows that multiply "
        "it. Returns the integers, their parameters, the values they stand for, and the errors.");
  m.def("awq_scales", findScales, "weights"_a, "inputs"_a, nb::kw_only(), "type"_a = "i4",
        "group"_a = nb::none(), "per"_a = "channel", "symmetric"_a = true, "range"_a = "minmax",
        "steps"_a = 20, "classes"_a = std::vector<int64_t>(), "threads"_a = 0,
        "The scales of the inputs that layers share, by AWQ, and the joint output errors with and "
        "without them.");
}
