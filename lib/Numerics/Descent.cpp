//===- Descent.cpp - coordinate descent on rounded weights ------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// L = tr(E A Eᵀ) with A = H + λ. With G = E A, a change D of ŵ (E becomes E - D)
// lowers L by 2 tr(D Gᵀ) - tr(D A Dᵀ); along one weight the best is ŵ + G_k / A_kk.
// G is computed once and kept up to date: few weights change in a sweep, so that a
// sweep costs a small part of a product with A. Floats decide well enough here: what
// they decide is measured in doubles afterwards.
//
//===----------------------------------------------------------------------===//
#include "Descent.h"

#include "Blocks.h"
#include "EigenSetup.h"
#include "lowbit/Numerics/Parallel.h"
#include "lowbit/Numerics/Quantize.h"

#include <cfloat>
#include <cmath>

namespace lowbit {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Tile = Eigen::Map<const Matrix>;

namespace {
/// A as floats, all tiles, row-major.
struct FloatTiles {
  int64_t size, side, count;
  std::vector<std::vector<float>> tiles;

  FloatTiles(const SymmetricTiles &h, int64_t side, double lambda, double scale, unsigned threads);
  int64_t extent(int64_t t) const { return std::min(side, size - t * side); }
  const float *at(int64_t t, int64_t s) const { return tiles[t * count + s].data(); }
  Tile tile(int64_t t, int64_t s) const { return Tile(at(t, s), extent(t), extent(s)); }
};

/// Some rows of a layer.
struct Panel {
  const float *w;
  const FloatTiles &a;
  const RoundingOptions &options;
  QuantizedWeights &result;
  int64_t begin, rows;
  float lo, hi;
  Matrix errors, gradient;
  /// Of one row and tile: the columns that changed, and by how much.
  struct Change {
    int64_t row, col;
    float step;
  };
  std::vector<Change> changes;

  void load();
  void propagate(int64_t t, const Matrix &change);
  int64_t sweep();
  void fitTile(int64_t t);
  void accept(int64_t column, Matrix &change, const Matrix &product, std::vector<bool> &taken);
  void fitScales(int64_t column, int64_t count, const Matrix &own);
  void fitZeros(int64_t column, int64_t count, const Matrix &own);
  void fitRows();
  void run();
};
} // namespace

FloatTiles::FloatTiles(const SymmetricTiles &h, int64_t side, double lambda, double scale,
                       unsigned threads)
    : size(h.size()), side(side), count((size + side - 1) / side), tiles(count * count) {
  parallelFor(count * count, threads, [&](int64_t at) {
    int64_t t = at / count, s = at % count;
    std::vector<float> &tile = tiles[at];
    tile.resize(extent(t) * extent(s));
    for (int64_t r = 0; r < extent(t); ++r)
      for (int64_t c = 0; c < extent(s); ++c)
        tile[r * extent(s) + c] = float(h.at(t * side + r, s * side + c) * scale);
    if (t == s)
      for (int64_t r = 0; r < extent(t); ++r)
        tile[r * extent(t) + r] += float(lambda * scale);
  });
}

void Panel::load() {
  int64_t cols = result.cols;
  errors.resize(rows, cols);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      errors(r, c) = w[(begin + r) * cols + c] - result.real(begin + r, c);
  gradient.setZero(rows, cols);
  for (int64_t s = 0; s < a.count; ++s) {
    auto out = gradient.middleCols(s * a.side, a.extent(s));
    for (int64_t t = 0; t < a.count; ++t)
      out.noalias() += errors.middleCols(t * a.side, a.extent(t)) * a.tile(t, s);
  }
}

/// G -= change · A outside of tile t, whose columns change.
void Panel::propagate(int64_t t, const Matrix &change) {
  for (int64_t s = 0; s < a.count; ++s)
    if (s != t)
      gradient.middleCols(s * a.side, a.extent(s)).noalias() -= change * a.tile(t, s);
}

/// y -= step · x.
static void subtract(float *y, const float *x, float step, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    y[i] -= step * x[i];
}

/// Each weight once, the others as they are; how many changed.
int64_t Panel::sweep() {
  int64_t cols = result.cols, changed = 0;
  for (int64_t t = 0; t < a.count; ++t) {
    int64_t n = a.extent(t), base = t * a.side;
    const float *own = a.at(t, t);
    changes.clear();
    for (int64_t r = 0; r < rows; ++r) {
      float *along = &gradient(r, base);
      for (int64_t c = 0; c < n; ++c) {
        float square = own[c * n + c];
        if (!(square > 0))
          continue;
        int64_t row = begin + r, index = result.scaleIndex(row, base + c);
        float scale = result.scales[index];
        int32_t zero = result.zeros[index], before = result.value(row, base + c);
        // In steps from the value it has.
        float step = std::nearbyintf(along[c] / square / scale);
        int32_t value = int32_t(std::min(std::max(float(before) + step, lo), hi));
        if (value == before)
          continue;
        result.q[row * cols + base + c] = int8_t(value);
        float now = w[row * cols + base + c] - dequantize(value, scale, zero);
        float change = errors(r, base + c) - now;
        errors(r, base + c) = now;
        subtract(along, own + c * n, change, n);
        changes.push_back({r, c, change});
      }
    }
    for (int64_t s = 0; s < a.count; ++s)
      if (s != t)
        for (const Change &change : changes)
          subtract(&gradient(change.row, s * a.side), a.at(t, s) + change.col * a.extent(s),
                   change.step, a.extent(s));
    changed += int64_t(changes.size());
  }
  return changed;
}

/// Makes `change` of the columns from `column` in the rows where it lowers L; product is change
/// times A's block of them.
void Panel::accept(int64_t column, Matrix &change, const Matrix &product,
                   std::vector<bool> &taken) {
  int64_t t = column / a.side, count = change.cols();
  auto along = gradient.middleCols(column, count);
  taken.assign(rows, false);
  for (int64_t r = 0; r < rows; ++r) {
    taken[r] = 2 * change.row(r).dot(along.row(r)) > change.row(r).dot(product.row(r));
    if (!taken[r])
      change.row(r).setZero();
  }
  errors.middleCols(column, count) -= change;
  gradient.middleCols(t * a.side, a.extent(t)).noalias() -=
      change * a.tile(t, t).middleRows(column - t * a.side, count);
}

/// A scale within a factor of two of the old one, and a normal number.
static float steppedScale(float scale, double step) {
  double next = double(scale) + step;
  if (!(next > 0.5 * scale && next < 2.0 * scale && next >= double(FLT_MIN)))
    return scale;
  return float(next);
}

void Panel::fitScales(int64_t column, int64_t count, const Matrix &own) {
  Matrix values(rows, count), change(rows, count);
  for (int64_t r = 0; r < rows; ++r) {
    int32_t zero = result.zeros[result.scaleIndex(begin + r, column)];
    for (int64_t c = 0; c < count; ++c)
      values(r, c) = float(result.value(begin + r, column + c) - zero);
  }
  Matrix product = values * own;
  std::vector<float> scales(rows);
  for (int64_t r = 0; r < rows; ++r) {
    float scale = result.scales[result.scaleIndex(begin + r, column)];
    float square = values.row(r).dot(product.row(r));
    float along = values.row(r).dot(gradient.row(r).segment(column, count));
    scales[r] = square > 0 ? steppedScale(scale, double(along / square)) : scale;
    change.row(r) = values.row(r) * scales[r] - values.row(r) * scale;
    product.row(r) *= scales[r] - scale;
  }
  std::vector<bool> taken;
  accept(column, change, product, taken);
  for (int64_t r = 0; r < rows; ++r)
    if (taken[r])
      result.scales[result.scaleIndex(begin + r, column)] = scales[r];
}

/// The zero point with the stored integers as they are: all values of a group move together.
void Panel::fitZeros(int64_t column, int64_t count, const Matrix &own) {
  Eigen::RowVectorXf sums = own.colwise().sum();
  float square = sums.sum();
  if (!(square > 0))
    return;
  Matrix change(rows, count), product(rows, count);
  std::vector<int32_t> zeros(rows);
  for (int64_t r = 0; r < rows; ++r) {
    int64_t index = result.scaleIndex(begin + r, column);
    float scale = result.scales[index];
    int32_t zero = result.zeros[index];
    float along = gradient.row(r).segment(column, count).sum();
    float step = std::nearbyintf(-along / square / scale);
    zeros[r] = int32_t(std::min(std::max(float(zero) + step, lo), hi));
    float all = scale * float(zero - zeros[r]);
    change.row(r).setConstant(all);
    product.row(r) = all * sums;
  }
  std::vector<bool> taken;
  accept(column, change, product, taken);
  for (int64_t r = 0; r < rows; ++r)
    if (taken[r])
      result.zeros[result.scaleIndex(begin + r, column)] = zeros[r];
}

/// Scales and zero points of the groups of tile t.
void Panel::fitTile(int64_t t) {
  int64_t n = a.extent(t), base = t * a.side, group = result.scheme.group;
  Matrix before = errors.middleCols(base, n);
  for (int64_t at = 0; at < n; at += group) {
    int64_t count = std::min(group, n - at);
    Matrix own = a.tile(t, t).block(at, at, count, count);
    fitScales(base + at, count, own);
    if (!result.scheme.symmetric)
      fitZeros(base + at, count, own);
  }
  propagate(t, before - errors.middleCols(base, n));
}

/// The scales of whole rows.
void Panel::fitRows() {
  int64_t cols = result.cols;
  Matrix values(rows, cols), product = Matrix::Zero(rows, cols);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      values(r, c) = float(result.value(begin + r, c) - result.zeros[begin + r]);
  for (int64_t s = 0; s < a.count; ++s)
    for (int64_t t = 0; t < a.count; ++t)
      product.middleCols(s * a.side, a.extent(s)).noalias() +=
          values.middleCols(t * a.side, a.extent(t)) * a.tile(t, s);
  for (int64_t r = 0; r < rows; ++r) {
    auto row = values.row(r).cast<double>();
    double along = row.dot(gradient.row(r).cast<double>());
    double square = row.dot(product.row(r).cast<double>());
    float &scale = result.scales[begin + r];
    float next = square > 0 ? steppedScale(scale, along / square) : scale;
    double step = double(next) - double(scale);
    if (!(2 * step * along - step * step * square > 0))
      continue;
    errors.row(r) -= values.row(r) * float(step);
    gradient.row(r) -= product.row(r) * float(step);
    scale = next;
  }
}

void Panel::run() {
  using Granularity = Scheme::Granularity;
  Granularity granularity = result.scheme.granularity;
  bool fits = options.refit && granularity != Granularity::Tensor;
  load();
  for (int round = 0; round < (fits ? 3 : 1); ++round) {
    if (fits && granularity == Granularity::Channel)
      fitRows();
    if (fits && granularity == Granularity::Group)
      for (int64_t t = 0; t < a.count; ++t)
        fitTile(t);
    for (int step = 0; step < options.sweeps; ++step)
      // A thousandth of the weights no longer moves the error.
      if (sweep() * 1000 <= rows * result.cols)
        break;
  }
}

void descend(const float *w, int64_t begin, int64_t end, const Moments &moments, double damping,
             const RoundingOptions &options, QuantizedWeights &result) {
  fixEigenBlocking();
  if (begin == end || result.cols == 0 || options.sweeps <= 0)
    return;
  const SymmetricTiles &h = moments.matrix();
  double trace = 0;
  for (int64_t c = 0; c < result.cols; ++c)
    trace += h.at(c, c);
  if (!(trace > 0))
    return;
  // Relative to the mean of the diagonal, entries stay in float's range.
  double mean = trace / double(result.cols);
  FloatTiles a(h, blockSize(result.scheme, result.cols), damping * mean, 1 / mean, options.threads);
  int64_t panel = panelRows(end - begin);
  parallelFor((end - begin + panel - 1) / panel, options.threads, [&](int64_t p) {
    int64_t first = begin + p * panel, rows = std::min(end - first, panel);
    Panel{w,
          a,
          options,
          result,
          first,
          rows,
          float(minValue(result.scheme.type)),
          float(maxValue(result.scheme.type)),
          {},
          {},
          {}}
        .run();
  });
}

} // namespace lowbit
