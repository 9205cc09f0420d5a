//===- lowbit/Numerics/SymmetricTiles.h - large symmetric matrices ----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_SYMMETRICTILES_H
#define LOWBIT_NUMERICS_SYMMETRICTILES_H

#include <algorithm>
#include <cstdint>
#include <vector>

namespace lowbit {

/// A symmetric, or upper triangular, matrix [size, size] of doubles, stored as square tiles of
/// `tile` columns on and above the diagonal: half of the memory of a dense matrix, and every large
/// operation is one on tiles that fit a core's cache. Tile (i, j), i <= j, is column-major with
/// extent(i) rows; only the last row and column of tiles may be smaller.
class SymmetricTiles {
public:
  SymmetricTiles() = default;
  SymmetricTiles(int64_t size, int64_t tile)
      : rank(size), side(tile), perSide((size + tile - 1) / tile),
        tiles(perSide * (perSide + 1) / 2) {
    for (int64_t j = 0; j < perSide; ++j)
      for (int64_t i = 0; i <= j; ++i)
        tiles[j * (j + 1) / 2 + i].resize(extent(i) * extent(j));
  }

  int64_t size() const { return rank; }
  int64_t tileSize() const { return side; }
  int64_t tileCount() const { return perSide; }
  int64_t extent(int64_t i) const { return std::min(side, rank - i * side); }
  double *tile(int64_t i, int64_t j) { return tiles[j * (j + 1) / 2 + i].data(); }
  const double *tile(int64_t i, int64_t j) const { return tiles[j * (j + 1) / 2 + i].data(); }

  /// Element [row, col] of the symmetric matrix.
  double at(int64_t row, int64_t col) const {
    if (row > col)
      std::swap(row, col);
    int64_t i = row / side, j = col / side;
    return tile(i, j)[(col % side) * extent(i) + row % side];
  }
  /// Where [row, col] with row <= col lies.
  double &upper(int64_t row, int64_t col) {
    int64_t i = row / side, j = col / side;
    return tile(i, j)[(col % side) * extent(i) + row % side];
  }
  /// Calls visit(row, col, element) for every stored element, by reference: those on and above the
  /// diagonal, and those below it in diagonal tiles (col < row there).
  template <typename Visit>
  void forEach(Visit visit) {
    for (int64_t j = 0; j < perSide; ++j)
      for (int64_t i = 0; i <= j; ++i) {
        double *element = tile(i, j);
        for (int64_t c = 0; c < extent(j); ++c)
          for (int64_t r = 0; r < extent(i); ++r)
            visit(i * side + r, j * side + c, *element++);
      }
  }

private:
  int64_t rank = 0, side = 1, perSide = 0;
  std::vector<std::vector<double>> tiles;
};

/// The same symmetric matrix in tiles of another size.
SymmetricTiles retiled(const SymmetricTiles &a, int64_t tile);

/// Replaces the symmetric positive definite A by the upper triangular R with A = R Rᵀ (of diagonal
/// tiles the lower triangle becomes 0). With it A⁻¹ = UᵀU for U = R⁻¹, the Cholesky factor of the
/// inverse, without inverting A. False where A is not numerically positive definite; its contents
/// are then lost. size³ / 3 multiply-adds, in tiles; independent of `threads`.
bool factorizeUpper(SymmetricTiles &a, unsigned threads);

/// The diagonal of (R Rᵀ)⁻¹ for R of factorizeUpper.
std::vector<double> inverseDiagonal(const SymmetricTiles &r, unsigned threads);

/// Replaces `b` [rows, size], column-major, by b (R Rᵀ)⁻¹.
void solveRight(const SymmetricTiles &r, double *b, int64_t rows);

/// tr(E A Eᵀ) for E [rows, size], row-major.
double quadraticTrace(const float *e, int64_t rows, const SymmetricTiles &a, unsigned threads);

} // namespace lowbit

#endif // LOWBIT_NUMERICS_SYMMETRICTILES_H
