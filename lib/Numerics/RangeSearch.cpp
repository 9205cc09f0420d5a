//===- RangeSearch.cpp - parameters of the smallest rounding error ----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "RangeSearch.h"

#include "EigenSetup.h"
#include "lowbit/Numerics/Parallel.h"

#include <cfloat>
#include <cmath>

namespace lowbit {

using Eigen::ArrayXf;
using Eigen::MatrixXf;
using Eigen::VectorXf;
using Floats = Eigen::Map<const ArrayXf>;
using Block = Eigen::Map<const MatrixXf>;

static constexpr int64_t maxBlock = 256;

QuantParams minMaxParams(const float *w, int64_t count, IntType type, bool symmetric) {
  if (count == 0)
    return QuantParams();
  Floats values(w, count);
  return *chooseParams(values.minCoeff(), values.maxCoeff(), type, symmetric);
}

RangeCost rangeCost(WeightRange method, double norm, const Moments *moments,
                    const std::vector<double> *inverse, int64_t column, int64_t count) {
  RangeCost cost;
  cost.norm = norm;
  if (!moments || method == WeightRange::MSE || method == WeightRange::MinMax)
    return cost;
  // Costs are relative; divided by the count they stay in float's range.
  bool any = false;
  cost.diagonal.resize(count);
  for (int64_t c = 0; c < count; ++c) {
    cost.diagonal[c] = float(moments->second(column + c));
    any |= cost.diagonal[c] > 0;
  }
  if (inverse && method == WeightRange::InverseMSE) {
    for (int64_t c = 0; c < count; ++c)
      cost.diagonal[c] = float(1.0 / ((*inverse)[column + c] * double(moments->count())));
    return cost;
  }
  // Columns that never saw an input say nothing; where all are such, all weights count the same.
  if (!any) {
    cost.diagonal.clear();
    return cost;
  }
  if (method != WeightRange::OutputMSE || count > maxBlock)
    return cost;
  double scale = 1.0 / double(std::max<int64_t>(moments->count(), 1));
  cost.block.resize(count * count);
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = 0; j < count; ++j)
      cost.block[i * count + j] = float(moments->matrix().at(column + i, column + j) * scale);
  return cost;
}

namespace {
/// The costs of candidates over one range.
struct Search {
  const float *w;
  int64_t count;
  float lo, hi;
  const RangeCost &cost;
  /// Scratch of a segment, so that sums of floats stay short.
  static constexpr int64_t segment = 512;
  ArrayXf q, d;

  void round(int64_t begin, int64_t n, QuantParams p) {
    float zero = float(p.zero);
    q = ((Floats(w + begin, n) * (1.0f / p.scale)).rint() + zero).max(lo).min(hi) - zero;
  }

  double of(QuantParams p) {
    double sum = 0;
    for (int64_t begin = 0; begin < count; begin += segment) {
      int64_t n = std::min(segment, count - begin);
      round(begin, n, p);
      d = Floats(w + begin, n) - q * p.scale;
      if (!cost.block.empty())
        return double(d.matrix().dot(Block(cost.block.data(), n, n) * d.matrix()));
      d *= d;
      if (cost.norm != 2.0)
        d = d.pow(float(cost.norm / 2));
      if (!cost.diagonal.empty())
        d *= Floats(cost.diagonal.data() + begin, n);
      sum += double(d.sum());
    }
    return sum;
  }

  std::vector<double> ofAll(const std::vector<QuantParams> &candidates) {
    std::vector<double> result;
    if (cost.block.empty()) {
      for (QuantParams p : candidates)
        result.push_back(of(p));
      return result;
    }
    MatrixXf errors(count, candidates.size());
    for (size_t i = 0; i < candidates.size(); ++i) {
      round(0, count, candidates[i]);
      errors.col(i) = (Floats(w, count) - q * candidates[i].scale).matrix();
    }
    MatrixXf product = Block(cost.block.data(), count, count) * errors;
    for (size_t i = 0; i < candidates.size(); ++i)
      result.push_back(double(errors.col(i).dot(product.col(i))));
    return result;
  }

  /// The scale of least squares for the integers that `p` rounds to.
  std::optional<float> refit(QuantParams p) {
    double product = 0, square = 0;
    for (int64_t begin = 0; begin < count; begin += segment) {
      int64_t n = std::min(segment, count - begin);
      round(begin, n, p);
      if (!cost.block.empty())
        d = (Block(cost.block.data(), n, n) * q.matrix()).array();
      else if (!cost.diagonal.empty())
        d = q * Floats(cost.diagonal.data() + begin, n);
      else
        d = q;
      product += double((d * Floats(w + begin, n)).sum());
      square += double((d * q).sum());
    }
    double scale = product / square;
    if (!(scale >= double(FLT_MIN) && scale <= double(FLT_MAX)))
      return std::nullopt;
    return float(scale);
  }
};
} // namespace

QuantParams searchParams(const float *w, int64_t count, IntType type, bool symmetric,
                         const RangeCost &cost) {
  QuantParams best = minMaxParams(w, count, type, symmetric);
  if (count == 0 || (Floats(w, count) == 0.0f).all())
    return best;
  Floats values(w, count);
  float min = values.minCoeff(), max = values.maxCoeff();
  Search search{w, count, float(minValue(type)), float(maxValue(type)), cost, {}, {}};
  std::vector<QuantParams> grid;
  for (int i = 0; i <= 70; ++i) {
    float keep = 1.0f - float(i) / 100.0f;
    grid.push_back(*chooseParams(min * keep, max * keep, type, symmetric));
  }
  std::vector<double> costs = search.ofAll(grid);
  size_t at = std::min_element(costs.begin(), costs.end()) - costs.begin();
  best = grid[at];
  double bestCost = search.of(best);
  auto consider = [&](QuantParams candidate) {
    double own = search.of(candidate);
    if (!(own < bestCost))
      return false;
    best = candidate;
    bestCost = own;
    return true;
  };
  for (int round = 0; round < 4; ++round) {
    bool better = false;
    if (!symmetric)
      for (int32_t step : {-1, 1}) {
        int64_t zero = int64_t(best.zero) + step;
        if (zero >= minValue(type) && zero <= maxValue(type))
          better |= consider({best.scale, int32_t(zero)});
      }
    if (std::optional<float> scale = search.refit(best))
      better |= consider({*scale, best.zero});
    if (!better)
      break;
  }
  return best;
}

void searchRows(const float *w, int64_t begin, int64_t end, WeightRange method, double norm,
                const Moments *moments, const std::vector<double> *inverse, unsigned threads,
                QuantizedWeights &result) {
  const Scheme &scheme = result.scheme;
  int64_t cols = result.cols, rows = end - begin;
  int64_t step = scheme.granularity == Scheme::Granularity::Group ? scheme.group : cols;
  constexpr int64_t piece = 32;
  for (int64_t column = 0; column < cols; column += step) {
    int64_t count = std::min(step, cols - column);
    RangeCost cost = rangeCost(method, norm, moments, inverse, column, count);
    // A thread's start costs as much as some ten thousand weights.
    unsigned used = rows * count < 50000 ? 1 : threads;
    parallelFor((rows + piece - 1) / piece, used, [&](int64_t p) {
      for (int64_t r = begin + p * piece; r < std::min(end, begin + (p + 1) * piece); ++r) {
        const float *range = w + r * cols + column;
        QuantParams params = method == WeightRange::MinMax
                                 ? minMaxParams(range, count, scheme.type, scheme.symmetric)
                                 : searchParams(range, count, scheme.type, scheme.symmetric, cost);
        int64_t index = result.scaleIndex(r, column);
        result.scales[index] = params.scale;
        result.zeros[index] = params.zero;
      }
    });
  }
}

void searchRanges(const float *w, WeightRange method, double norm,
                  const std::vector<Moments> &moments, unsigned threads, QuantizedWeights &result) {
  const Scheme &scheme = result.scheme;
  int64_t rows = result.rows, cols = result.cols;
  if (rows == 0 || cols == 0)
    return;
  int64_t each = moments.empty() ? rows : rows / int64_t(moments.size());
  if (scheme.granularity != Scheme::Granularity::Tensor) {
    for (int64_t first = 0; first < rows; first += each)
      searchRows(w, first, first + each, method, norm,
                 moments.empty() ? nullptr : &moments[first / each], nullptr, threads, result);
    return;
  }
  RangeCost cost;
  cost.norm = norm;
  if (!moments.empty() && method != WeightRange::MSE)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c)
        cost.diagonal.push_back(float(moments[r / each].second(c)));
  QuantParams params = method == WeightRange::MinMax
                           ? minMaxParams(w, rows * cols, scheme.type, scheme.symmetric)
                           : searchParams(w, rows * cols, scheme.type, scheme.symmetric, cost);
  result.scales[0] = params.scale;
  result.zeros[0] = params.zero;
}

} // namespace lowbit
