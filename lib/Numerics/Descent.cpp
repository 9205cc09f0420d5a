//===- Descent.cpp - coordinate descent on rounded weights ------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// L = tr(E A Eᵀ) with A = H + λ. With G = E A, a change D of ŵ (E becomes E - D)
// lowers L by 2 tr(D Gᵀ) - tr(D A Dᵀ); along one weight the best is ŵ + G_k / A_kk.
// G is computed for one block of columns at a time, exactly, and kept up to date
// inside it.
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

using Eigen::MatrixXd;
using Eigen::VectorXd;
using ConstTile = Eigen::Map<const MatrixXd>;

namespace {
/// Some rows of a layer.
struct Panel {
  const float *w;
  const SymmetricTiles &h;
  double lambda;
  const RoundingOptions &options;
  QuantizedWeights &result;
  int64_t begin, rows;
  double lo, hi;
  MatrixXd errors, gradient, own;

  Panel(const float *w, const SymmetricTiles &h, double lambda, const RoundingOptions &options,
        QuantizedWeights &result, int64_t begin, int64_t end)
      : w(w), h(h), lambda(lambda), options(options), result(result), begin(begin),
        rows(end - begin), lo(double(minValue(result.scheme.type))),
        hi(double(maxValue(result.scheme.type))) {}

  void multiply(const MatrixXd &left, int64_t t, MatrixXd &out) const;
  int64_t sweepCodes(int64_t t);
  void accept(int64_t t, int64_t at, MatrixXd &change, std::vector<bool> &taken);
  void fitScales(int64_t t, int64_t at, int64_t count);
  void fitZeros(int64_t t, int64_t at, int64_t count);
  void fitRows();
  void run();
};
} // namespace

/// Columns of block t of left · A.
void Panel::multiply(const MatrixXd &left, int64_t t, MatrixXd &out) const {
  int64_t side = h.tileSize(), n = h.extent(t);
  out.noalias() = left.middleCols(t * side, n) * ConstTile(h.tile(t, t), n, n);
  out += lambda * left.middleCols(t * side, n);
  for (int64_t s = 0; s < t; ++s)
    out.noalias() += left.middleCols(s * side, side) * ConstTile(h.tile(s, t), side, n);
  for (int64_t s = t + 1; s < h.tileCount(); ++s)
    out.noalias() += left.middleCols(s * side, h.extent(s)) *
                     ConstTile(h.tile(t, s), n, h.extent(s)).transpose();
}

/// Each weight of block t once, the others as they are; how many changed.
int64_t Panel::sweepCodes(int64_t t) {
  int64_t cols = result.cols, base = t * h.tileSize(), changed = 0;
  VectorXd change(rows);
  for (int64_t c = 0; c < own.cols(); ++c) {
    if (!(own(c, c) > 0))
      continue;
    int64_t before = changed;
    for (int64_t r = 0; r < rows; ++r) {
      int64_t row = begin + r, index = result.scaleIndex(row, base + c);
      float scale = result.scales[index];
      int32_t zero = result.zeros[index];
      double now = double(w[row * cols + base + c]) - errors(r, base + c);
      double q = std::nearbyint((now + gradient(r, c) / own(c, c)) / double(scale)) + double(zero);
      int32_t value = int32_t(std::min(std::max(q, lo), hi));
      change[r] = 0;
      if (value == result.value(row, base + c))
        continue;
      result.q[row * cols + base + c] = int8_t(value);
      change[r] = double(dequantize(value, scale, zero)) - now;
      errors(r, base + c) -= change[r];
      ++changed;
    }
    if (changed != before)
      gradient.noalias() -= change * own.row(c);
  }
  return changed;
}

/// Makes `change` of the columns from `at` of block t in the rows where it lowers L.
void Panel::accept(int64_t t, int64_t at, MatrixXd &change, std::vector<bool> &taken) {
  int64_t count = change.cols();
  MatrixXd product = change * own.block(at, at, count, count);
  taken.assign(rows, false);
  for (int64_t r = 0; r < rows; ++r) {
    double gain = 2 * change.row(r).dot(gradient.row(r).segment(at, count)) -
                  change.row(r).dot(product.row(r));
    taken[r] = gain > 0;
    if (!taken[r])
      change.row(r).setZero();
  }
  errors.middleCols(t * h.tileSize() + at, count) -= change;
  gradient.noalias() -= change * own.middleRows(at, count);
}

/// A scale within a factor of two of the old one, and a normal number.
static float steppedScale(float scale, double step) {
  double next = double(scale) + step;
  if (!(next > 0.5 * scale && next < 2.0 * scale && next >= double(FLT_MIN)))
    return scale;
  return float(next);
}

void Panel::fitScales(int64_t t, int64_t at, int64_t count) {
  int64_t column = t * h.tileSize() + at;
  MatrixXd values(rows, count), change(rows, count);
  for (int64_t r = 0; r < rows; ++r) {
    int32_t zero = result.zeros[result.scaleIndex(begin + r, column)];
    for (int64_t c = 0; c < count; ++c)
      values(r, c) = double(result.value(begin + r, column + c) - zero);
  }
  MatrixXd product = values * own.block(at, at, count, count);
  std::vector<float> scales(rows);
  for (int64_t r = 0; r < rows; ++r) {
    float scale = result.scales[result.scaleIndex(begin + r, column)];
    double square = values.row(r).dot(product.row(r));
    double along = values.row(r).dot(gradient.row(r).segment(at, count));
    scales[r] = square > 0 ? steppedScale(scale, along / square) : scale;
    for (int64_t c = 0; c < count; ++c)
      change(r, c) = double(float(values(r, c)) * scales[r]) - double(float(values(r, c)) * scale);
  }
  std::vector<bool> taken;
  accept(t, at, change, taken);
  for (int64_t r = 0; r < rows; ++r)
    if (taken[r])
      result.scales[result.scaleIndex(begin + r, column)] = scales[r];
}

/// The zero point with the stored integers as they are: all values of a group move together.
void Panel::fitZeros(int64_t t, int64_t at, int64_t count) {
  int64_t column = t * h.tileSize() + at;
  double square = own.block(at, at, count, count).sum();
  if (!(square > 0))
    return;
  MatrixXd change = MatrixXd::Zero(rows, count);
  std::vector<int32_t> zeros(rows);
  for (int64_t r = 0; r < rows; ++r) {
    int64_t index = result.scaleIndex(begin + r, column);
    float scale = result.scales[index];
    int32_t zero = result.zeros[index];
    double step =
        std::nearbyint(-gradient.row(r).segment(at, count).sum() / square / double(scale));
    zeros[r] = int32_t(std::min(std::max(double(zero) + step, lo), hi));
    for (int64_t c = 0; c < count; ++c) {
      int32_t value = result.value(begin + r, column + c);
      change(r, c) =
          double(dequantize(value, scale, zeros[r])) - double(dequantize(value, scale, zero));
    }
  }
  std::vector<bool> taken;
  accept(t, at, change, taken);
  for (int64_t r = 0; r < rows; ++r)
    if (taken[r])
      result.zeros[result.scaleIndex(begin + r, column)] = zeros[r];
}

/// The scales of whole rows.
void Panel::fitRows() {
  int64_t cols = result.cols, side = h.tileSize();
  MatrixXd values(rows, cols);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      values(r, c) = double(result.value(begin + r, c) - result.zeros[begin + r]);
  VectorXd along = VectorXd::Zero(rows), square = VectorXd::Zero(rows);
  for (int64_t t = 0; t < h.tileCount(); ++t) {
    auto part = values.middleCols(t * side, h.extent(t));
    multiply(errors, t, gradient);
    along += part.cwiseProduct(gradient).rowwise().sum();
    multiply(values, t, gradient);
    square += part.cwiseProduct(gradient).rowwise().sum();
  }
  for (int64_t r = 0; r < rows; ++r) {
    float &scale = result.scales[begin + r];
    float next = square[r] > 0 ? steppedScale(scale, along[r] / square[r]) : scale;
    double step = double(next) - double(scale);
    if (!(2 * step * along[r] - step * step * square[r] > 0))
      continue;
    for (int64_t c = 0; c < cols; ++c)
      errors(r, c) -= double(float(values(r, c)) * next) - double(float(values(r, c)) * scale);
    scale = next;
  }
}

void Panel::run() {
  int64_t cols = result.cols;
  errors.resize(rows, cols);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      errors(r, c) = double(w[(begin + r) * cols + c]) - double(result.real(begin + r, c));
  bool grouped = result.scheme.granularity == Scheme::Granularity::Group;
  bool byRow = result.scheme.granularity == Scheme::Granularity::Channel;
  for (int sweep = 0; sweep < options.sweeps; ++sweep) {
    int64_t changed = 0;
    for (int64_t t = 0; t < h.tileCount(); ++t) {
      int64_t n = h.extent(t);
      own = ConstTile(h.tile(t, t), n, n);
      own.diagonal().array() += lambda;
      multiply(errors, t, gradient);
      changed += sweepCodes(t);
      if (!options.refit || !grouped)
        continue;
      for (int64_t at = 0; at < n; at += result.scheme.group) {
        int64_t count = std::min(result.scheme.group, n - at);
        fitScales(t, at, count);
        if (!result.scheme.symmetric)
          fitZeros(t, at, count);
      }
    }
    if (options.refit && byRow)
      fitRows();
    // A thousandth of the weights no longer moves the error.
    if (changed * 1000 < rows * cols)
      break;
  }
}

void descend(const float *w, int64_t begin, int64_t end, const Moments &moments, double damping,
             const RoundingOptions &options, QuantizedWeights &result) {
  fixEigenBlocking();
  if (begin == end || result.cols == 0 || options.sweeps <= 0)
    return;
  const SymmetricTiles *h = &moments.matrix();
  SymmetricTiles fitting;
  // No group may be cut by a block.
  if (options.refit && result.scheme.granularity == Scheme::Granularity::Group &&
      h->tileCount() > 1 && h->tileSize() % result.scheme.group != 0) {
    fitting = retiled(*h, blockSize(result.scheme, result.cols));
    h = &fitting;
  }
  double trace = 0;
  for (int64_t c = 0; c < result.cols; ++c)
    trace += h->at(c, c);
  double lambda = damping * trace / double(result.cols);
  int64_t panel = panelRows(end - begin);
  parallelFor((end - begin + panel - 1) / panel, options.threads, [&](int64_t p) {
    int64_t first = begin + p * panel;
    Panel(w, *h, lambda, options, result, first, std::min(end, first + panel)).run();
  });
}

} // namespace lowbit
