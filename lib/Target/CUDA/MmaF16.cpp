//===- MmaF16.cpp - float activations on f16 tensor cores ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// cuda.mma_f16 (half-precision weights) and cuda.w4a16 (integers of 4 or 8 bits with scales).
//
// A block computes tileM × tileN results in steps of 64 k. Activations are rounded to f16 on their
// way into one of two buffers in shared memory; weights arrive packed, `stages` buffers deep, and
// are unpacked in registers (WeightFragments.h). Tensor cores multiply and add in f32; after each
// group of k the sums are multiplied by the group's f32 scale, so that rounding the activations to
// f16 is the only loss beside f32 summation. Convolutions are implicit GEMMs on NHWC, or on NCHW
// where groups of weights run along the filter as it is stored.
//
//===----------------------------------------------------------------------===//
#include "Activations.h"
#include "Generators.h"
#include "WeightFragments.h"
#include <numeric>

using namespace lowbit;
using namespace lowbit::cuda;

namespace {
class MmaF16 {
public:
  MmaF16(KernelBuilder &b, const Schedule &s, gpu::GPUFuncOp kernel);
  void emit();

private:
  void prepareCopies();
  SmallVector<Value> loadActivations(Value kTile);
  void storeActivations(ArrayRef<Value> chunks, Value buffer);
  void copyWeights(Value kTile, Value stage);
  void multiply(Value kTile, MutableArrayRef<Value> acc);
  void storeResults(ArrayRef<Value> acc);

  static constexpr int64_t kRowBytes = 128, kChunk = 16, kChunks = kRowBytes / kChunk;
  static Value swizzle(KernelBuilder &b, Value row, Value chunk) {
    return b.mul(b.bitXor(chunk, b.rem(row, kChunks)), kChunk);
  }

  KernelBuilder &b;
  const Schedule &s;
  Value weights, parameters, output, rows;
  WindowOrder order;
  Activations activations;
  WeightFragments fragments;
  int64_t granule, tilesM, tilesN, kTiles, bytesA, bytesB, blockBytes;
  bool oneGroup;
  Value shared, thread, lane, warpRow, warpColumn, firstRow, firstColumn;
  SmallVector<Activations::Row> sourceRows;
  SmallVector<Value> targetRows;
  Value chunkK, copiesA;
};
} // namespace

MmaF16::MmaF16(KernelBuilder &b, const Schedule &s, gpu::GPUFuncOp kernel)
    : b(b), s(s), weights(kernel.getArgument(1)), parameters(kernel.getArgument(2)),
      output(kernel.getArgument(3)), rows(kernel.getArgument(4)),
      order(s.channelsLast() ? WindowOrder::HWC : WindowOrder::CHW),
      activations(b, s, order, kernel.getArgument(0), b.at(parameters, kParamPad * 4), rows,
                  /*pastTheEnd=*/true),
      fragments(b, s, parameters), granule(Activations::granule(s, order, 4)),
      tilesM(s.tileM / s.warpsM / 16), tilesN(s.tileN / s.warpsN / 8),
      kTiles(s.paddedK() / s.tileK), bytesA(s.tileM * kRowBytes),
      bytesB(s.tileN * s.tileK * s.bits / 8), blockBytes(fragments.blockBytes()),
      oneGroup(s.group >= s.paddedK()) {
  shared = b.sharedMemory();
  thread = b.threadId();
  lane = b.rem(thread, 32);
  Value warp = b.div(thread, 32);
  warpRow = b.mul(b.div(warp, s.warpsN), tilesM * 16);
  warpColumn = b.mul(b.rem(warp, s.warpsN), tilesN * 8);
  firstRow = b.mul(b.blockX(), s.tileM);
  firstColumn = b.mul(b.blockY(), s.tileN);
}

void MmaF16::prepareCopies() {
  int64_t rowsPerPass = s.threads() / kChunks;
  Value row = b.div(thread, kChunks), chunk = b.rem(thread, kChunks);
  chunkK = b.mul(chunk, 8);
  for (int64_t first = 0; first < s.tileM; first += rowsPerPass) {
    Value local = b.add(row, first);
    sourceRows.push_back(activations.row(b.add(firstRow, local)));
    targetRows.push_back(b.add(b.mul(local, kRowBytes), swizzle(b, local, chunk)));
  }
  if (s.tileM < rowsPerPass)
    copiesA = b.below(row, s.tileM);
}

/// Eight neighbouring activations per row, as f16. Elements outside of the matrix are read from the
/// pad, which is 0.
SmallVector<Value> MmaF16::loadActivations(Value kTile) {
  SmallVector<Value> chunks;
  Value k = b.add(b.mul(kTile, s.tileK), chunkK);
  for (const Activations::Row &row : sourceRows)
    chunks.push_back(activations.loadHalves(row, k, 8, granule));
  return chunks;
}

void MmaF16::storeActivations(ArrayRef<Value> chunks, Value buffer) {
  Value base = b.at(shared, b.mul(buffer, bytesA));
  auto store = [&] {
    for (auto [chunk, target] : llvm::zip(chunks, targetRows))
      b.store(chunk, b.at(base, target), 16);
  };
  copiesA ? b.ifThen(copiesA, store) : store();
}

void MmaF16::copyWeights(Value kTile, Value stage) {
  Value target = b.at(shared, b.mul(stage, bytesB), 2 * bytesA);
  for (int64_t first = 0; first < bytesB / kChunk; first += s.threads()) {
    Value chunk = b.add(thread, first);
    auto copy = [&] {
      Value offset = b.mul(chunk, kChunk);
      Value block = b.add(b.div(firstColumn, 16), b.div(offset, blockBytes));
      Value source = b.at(b.at(weights, b.wide(block, kTiles * blockBytes)),
                          b.add(b.mul(kTile, blockBytes), b.rem(offset, blockBytes)));
      b.copyAsync(b.at(target, offset), source, kChunk);
    };
    first + s.threads() > bytesB / kChunk ? b.ifThen(b.below(chunk, bytesB / kChunk), copy)
                                          : copy();
  }
}

void MmaF16::multiply(Value kTile, MutableArrayRef<Value> acc) {
  Value tileA = b.at(shared, b.mul(b.rem(kTile, 2), bytesA));
  Value tileB = b.at(shared, b.mul(b.rem(kTile, s.stages), bytesB), 2 * bytesA);
  Value rowA = b.add(warpRow, b.rem(lane, 16)), chunkA = b.div(lane, 16);
  SmallVector<Value> words(tilesN / 2);
  auto loadWords = [&](int64_t step) {
    for (int64_t j = 0; j < tilesN / 2; ++j) {
      Value block = b.at(tileB, b.mul(b.add(b.div(warpColumn, 16), j), blockBytes));
      words[j] = b.load(b.vec(4, b.i32()), b.at(block, fragments.offset(lane, step)), 16);
    }
  };
  // k per scale within this tile: a group may be shorter than the tile, or span several, or end in
  // its middle.
  int64_t span = oneGroup ? s.tileK : std::gcd(s.group, s.tileK);
  Value column = b.add(b.add(firstColumn, warpColumn), b.mul(b.rem(lane, 4), 2));
  Value columnB = b.add(b.add(firstColumn, warpColumn), b.div(lane, 4));
  for (int64_t first = 0; first < s.tileK; first += span) {
    Value group = oneGroup ? b.c(0) : b.div(b.add(b.mul(kTile, s.tileK), first), s.group);
    SmallVector<Value> zeros, partial;
    for (int64_t j = 0; j < tilesN; ++j)
      zeros.push_back(fragments.zero(group, b.add(columnB, 8 * j)));
    if (oneGroup)
      partial.assign(acc.begin(), acc.end());
    else
      partial.assign(acc.size(), b.cf(0.0));
    for (int64_t step = first / 16; step < (first + span) / 16; ++step) {
      if (step % fragments.stepsPerLoad() == 0)
        loadWords(step);
      Value columnA = swizzle(b, rowA, b.add(chunkA, 2 * step));
      SmallVector<SmallVector<Value>> fragmentsA;
      for (int64_t i = 0; i < tilesM; ++i) {
        auto raw =
            b.loadMatrices(b.at(tileA, b.add(b.mul(b.add(rowA, 16 * i), kRowBytes), columnA)));
        fragmentsA.push_back(
            llvm::map_to_vector(raw, [&](Value word) { return b.bitcast(word, b.pair16()); }));
      }
      for (int64_t j = 0; j < tilesN; ++j) {
        std::array<Value, 2> pairs = fragments.unpack(words[j / 2], step, j % 2, zeros[j]);
        for (int64_t i = 0; i < tilesM; ++i)
          b.mmaHalf(fragmentsA[i], pairs,
                    MutableArrayRef<Value>(partial).slice((i * tilesN + j) * 4, 4));
      }
    }
    if (oneGroup) {
      llvm::copy(partial, acc.begin());
      continue;
    }
    for (int64_t j = 0; j < tilesN; ++j) {
      Value scales = fragments.scale(group, b.add(column, 8 * j), 2);
      for (int64_t i = 0; i < tilesM; ++i)
        for (int64_t e = 0; e < 4; ++e) {
          Value &sum = acc[(i * tilesN + j) * 4 + e];
          sum = LLVM::FMAOp::create(b, partial[(i * tilesN + j) * 4 + e], b.element(scales, e % 2),
                                    sum);
        }
    }
  }
}

void MmaF16::storeResults(ArrayRef<Value> acc) {
  FloatEpilogue epilogue(b, s, parameters);
  Value row0 = b.add(b.add(firstRow, warpRow), b.div(lane, 4));
  Value column0 = b.add(b.add(firstColumn, warpColumn), b.mul(b.rem(lane, 4), 2));
  int64_t width = s.n % 2 ? 1 : 2; // Results per store: a row of odd length has no aligned pairs.
  for (int64_t i = 0; i < tilesM; ++i)
    for (int64_t half = 0; half < 2; ++half) {
      Value row = b.add(row0, 16 * i + 8 * half);
      b.ifThen(b.below(row, rows), [&] {
        Value rowBase = b.at(output, b.wide(row, s.n * 4));
        for (int64_t j = 0; j < tilesN; ++j) {
          Value column = b.add(column0, 8 * j);
          Value biases = epilogue.bias(column, 2);
          Value scales = oneGroup ? fragments.scale(b.c(0), column, 2) : Value();
          for (int64_t first = 0; first < 2; first += width) {
            Value at = b.add(column, first);
            auto store = [&] {
              SmallVector<Value> results;
              for (int64_t e = first; e < first + width; ++e)
                results.push_back(epilogue.finish(acc[(i * tilesN + j) * 4 + half * 2 + e],
                                                  oneGroup ? b.element(scales, e) : Value(),
                                                  b.element(biases, e)));
              b.store(width == 1 ? results[0] : b.pack(results), b.at(rowBase, b.wide(at, 4)),
                      4 * width);
            };
            s.n % s.tileN ? b.ifThen(b.below(at, s.n), store) : store();
          }
        }
      });
    }
}

void MmaF16::emit() {
  prepareCopies();
  storeActivations(loadActivations(b.c(0)), b.c(0));
  for (int64_t stage = 0; stage < s.stages - 1; ++stage) {
    if (stage < kTiles)
      copyWeights(b.c(stage), b.c(stage));
    b.commitCopies();
  }
  SmallVector<Value> acc(tilesM * tilesN * 4, b.cf(0.0));
  acc = b.loop(b.c(kTiles), acc, [&](Value kTile, ArrayRef<Value> carried) {
    b.waitForCopies(s.stages - 2);
    b.barrier();
    Value next = b.add(kTile, s.stages - 1);
    b.ifThen(b.below(next, kTiles), [&] { copyWeights(next, b.rem(next, s.stages)); });
    b.commitCopies();
    // The next activations are on their way while the tensor cores work on these.
    Value following = b.add(kTile, 1);
    SmallVector<Value> chunks = loadActivations(following);
    SmallVector<Value> sums(carried);
    multiply(kTile, sums);
    storeActivations(chunks, b.rem(following, 2));
    return sums;
  });
  storeResults(acc);
  gpu::ReturnOp::create(b);
}

void cuda::generateMmaF16(ModuleOp module, Location loc, StringRef name, const Schedule &schedule) {
  KernelBuilder b(loc, module.getContext());
  gpu::GPUFuncOp kernel = beginKernel(b, module, name, /*pointers=*/4, launchShape(schedule));
  MmaF16(b, schedule, kernel).emit();
}
