//===- Gemv.cpp - few rows of float activations times packed weights ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Decoding multiplies 1 to 16 rows: what counts is how fast weights come. So they never pass
// through shared memory: they are the 16-row operand of mma.m16n8k16, read once, straight into
// registers, `stages` tiles of 64 k ahead, in the packing of the GEMM. Eight rows of activations
// are the other operand's columns. The warps of a block split k, and so may `splits` blocks; each
// warp rounds its part of the activations to f16 in a corner of shared memory of its own. Sums over
// warps are added in the order of the warps: results do not depend on timing.
//
//===----------------------------------------------------------------------===//
#include "Activations.h"
#include "Generators.h"
#include "WeightFragments.h"
#include <numeric>

using namespace lowbit;
using namespace lowbit::cuda;

namespace {
class Gemv {
public:
  Gemv(KernelBuilder &b, const Schedule &s, gpu::GPUFuncOp kernel);
  void emit();

private:
  SmallVector<Value> loadWeights(Value firstTile);
  SmallVector<Value> loadActivations(Value firstTile);
  void storeActivations(ArrayRef<Value> chunks);
  void multiply(Value firstTile, ArrayRef<Value> words, MutableArrayRef<Value> acc);
  void storeResults(ArrayRef<Value> acc);

  static constexpr int64_t kRowBytes = 128, kChunk = 16, kChunks = kRowBytes / kChunk;
  /// Where a 16-byte chunk of a row of a tile lies among the warp's activations.
  Value place(int64_t tile, Value row, Value chunk) {
    Value swizzled = b.mul(b.bitXor(chunk, b.rem(row, kChunks)), kChunk);
    return b.at(staging, b.add(b.mul(b.add(row, tile * s.tileM), kRowBytes), swizzled));
  }

  KernelBuilder &b;
  const Schedule &s;
  Value weights, parameters, output, rows;
  Activations activations;
  WeightFragments fragments;
  int64_t granule, batches, blocks, depth, kTiles, warps, tilesPerWarp;
  bool oneGroup;
  Value thread, lane, warp, split, firstRow, firstColumn, firstTile, staging, reduction;
  SmallVector<Activations::Row> sourceRows;
};
} // namespace

Gemv::Gemv(KernelBuilder &b, const Schedule &s, gpu::GPUFuncOp kernel)
    : b(b), s(s), weights(kernel.getArgument(1)), parameters(kernel.getArgument(2)),
      output(kernel.getArgument(3)), rows(kernel.getArgument(4)),
      activations(b, s, WindowOrder::HWC, kernel.getArgument(0), b.at(parameters, kParamPad * 4),
                  rows, /*pastTheEnd=*/true),
      fragments(b, s, parameters), granule(Activations::granule(s, WindowOrder::HWC, 4)),
      batches(s.tileM / 8), blocks(s.tileN / 16), depth(s.stages), kTiles(s.paddedK() / s.tileK),
      warps(s.warpsM), oneGroup(s.group >= s.paddedK()) {
  int64_t parts = warps * s.splits * depth;
  tilesPerWarp = (kTiles + parts - 1) / parts * depth;
  thread = b.threadId();
  lane = b.rem(thread, 32), warp = b.div(thread, 32);
  firstRow = b.mul(b.blockX(), s.tileM);
  int64_t columnBlocks = (s.n + s.tileN - 1) / s.tileN;
  split = s.splits == 1 ? b.c(0) : b.div(b.blockY(), columnBlocks);
  firstColumn = b.mul(s.splits == 1 ? b.blockY() : b.rem(b.blockY(), columnBlocks), s.tileN);
  firstTile = b.mul(b.add(b.mul(split, warps), warp), tilesPerWarp);
  int64_t stagingBytes = depth * s.tileM * kRowBytes;
  Value shared = b.sharedMemory();
  staging = b.at(shared, b.mul(warp, stagingBytes));
  reduction = b.at(shared, warps * stagingBytes);
  for (int64_t batch = 0; batch < batches; ++batch)
    sourceRows.push_back(activations.row(b.add(firstRow, b.add(b.div(lane, 4), 8 * batch))));
}

/// 16 bytes per lane and load of `depth` tiles of all column blocks. Past the last tile that one is
/// read again: its activations are zeros there.
SmallVector<Value> Gemv::loadWeights(Value first) {
  SmallVector<Value> words;
  for (int64_t d = 0; d < depth; ++d) {
    Value tile = b.minU(b.add(first, d), b.c(kTiles - 1));
    for (int64_t j = 0; j < blocks; ++j) {
      Value block = b.add(b.div(firstColumn, 16), j);
      Value base = b.at(b.at(weights, b.wide(block, kTiles * fragments.blockBytes())),
                        b.mul(tile, fragments.blockBytes()));
      for (int64_t i = 0; i < fragments.loadsPerBlock(); ++i)
        words.push_back(b.load(b.vec(4, b.i32()),
                               b.at(base, fragments.offset(lane, i * fragments.stepsPerLoad())),
                               kChunk));
    }
  }
  return words;
}

/// Lane 4g + t reads 16 neighbours of row g from k 16t on, of each tile, as two chunks of f16.
SmallVector<Value> Gemv::loadActivations(Value first) {
  SmallVector<Value> chunks;
  Value k0 = b.add(b.mul(first, s.tileK), b.mul(b.rem(lane, 4), 16));
  for (int64_t d = 0; d < depth; ++d)
    for (const Activations::Row &row : sourceRows) {
      Value k = b.add(k0, d * s.tileK);
      chunks.push_back(activations.loadHalves(row, k, 8, granule));
      chunks.push_back(activations.loadHalves(row, b.add(k, 8), 8, granule));
    }
  return chunks;
}

void Gemv::storeActivations(ArrayRef<Value> chunks) {
  const Value *next = chunks.begin();
  for (int64_t d = 0; d < depth; ++d)
    for (int64_t batch = 0; batch < batches; ++batch)
      for (int64_t half = 0; half < 2; ++half) {
        Value row = b.add(b.div(lane, 4), 8 * batch);
        b.store(*next++, place(d, row, b.add(b.mul(b.rem(lane, 4), 2), half)), kChunk);
      }
}

void Gemv::multiply(Value first, ArrayRef<Value> words, MutableArrayRef<Value> acc) {
  int64_t all = depth * s.tileK, span = oneGroup ? all : std::gcd(s.group, all);
  Value column = b.add(firstColumn, b.div(lane, 4));
  SmallVector<std::array<Value, 4>> rightSides(batches); // of two steps
  for (int64_t from = 0; from < all; from += span) {
    Value group = b.c(0);
    if (!oneGroup)
      group = b.minU(b.div(b.add(b.mul(first, s.tileK), from), s.group), b.c(s.paddedGroups() - 1));
    SmallVector<Value> zeros, scales, partial;
    for (int64_t j = 0; j < 2 * blocks; ++j) {
      zeros.push_back(fragments.zero(group, b.add(column, 8 * j)));
      if (!oneGroup)
        scales.push_back(fragments.scale(group, b.add(column, 8 * j), 1));
    }
    if (oneGroup)
      partial.assign(acc.begin(), acc.end());
    else
      partial.assign(acc.size(), b.cf(0.0));
    for (int64_t step = from / 16; step < (from + span) / 16; ++step) {
      int64_t tile = step / 4, local = step % 4;
      for (int64_t batch = 0; batch < batches && local % 2 == 0; ++batch) {
        Value row = b.add(b.rem(lane, 8), 8 * batch), chunk = b.add(b.div(lane, 8), 2 * local);
        rightSides[batch] = b.loadMatrices(place(tile, row, chunk));
      }
      for (int64_t j = 0; j < blocks; ++j) {
        Value word = words[(tile * blocks + j) * fragments.loadsPerBlock() +
                           local / fragments.stepsPerLoad()];
        auto upper = fragments.unpack(word, local, 0, zeros[2 * j]),
             lower = fragments.unpack(word, local, 1, zeros[2 * j + 1]);
        for (int64_t batch = 0; batch < batches; ++batch) {
          Value x0 = b.bitcast(rightSides[batch][local % 2 * 2], b.pair16()),
                x1 = b.bitcast(rightSides[batch][local % 2 * 2 + 1], b.pair16());
          b.mmaHalf({upper[0], lower[0], upper[1], lower[1]}, {x0, x1},
                    MutableArrayRef<Value>(partial).slice((j * batches + batch) * 4, 4));
        }
      }
    }
    if (oneGroup) {
      llvm::copy(partial, acc.begin());
      continue;
    }
    for (int64_t i = 0; i < int64_t(acc.size()); ++i) {
      Value scale = scales[i / (4 * batches) * 2 + i % 4 / 2];
      acc[i] = LLVM::FMAOp::create(b, partial[i], scale, acc[i]);
    }
  }
}

void Gemv::storeResults(ArrayRef<Value> acc) {
  int64_t tileBytes = 32 * kChunk, warpBytes = blocks * batches * tileBytes;
  for (int64_t i = 0; i < blocks * batches; ++i)
    b.store(b.pack(acc.slice(4 * i, 4)),
            b.at(reduction, b.add(b.mul(warp, warpBytes), b.mul(lane, kChunk)), i * tileBytes),
            kChunk);
  b.barrier();
  // Neighbouring threads finish neighbouring columns. Register e of lane 4g + t is column g + 8 (e
  // / 2), row 2t + e % 2.
  FloatEpilogue epilogue(b, s, parameters);
  int64_t count = s.tileM * s.tileN;
  for (int64_t first = 0; first < count; first += s.threads()) {
    Value index = b.add(thread, first);
    Value row = b.div(index, s.tileN), local = b.rem(index, s.tileN);
    Value column = b.add(firstColumn, local), target = b.add(firstRow, row);
    Value valid = b.below(target, rows);
    if (s.n % s.tileN)
      valid = b.bitAnd(valid, b.below(column, s.n));
    if (first + s.threads() > count)
      valid = b.bitAnd(valid, b.below(index, count));
    b.ifThen(valid, [&] {
      Value tile = b.add(b.mul(b.div(local, 16), batches), b.div(row, 8));
      Value owner = b.add(b.mul(b.rem(local, 8), 4), b.div(b.rem(row, 8), 2));
      Value word = b.add(b.mul(b.div(b.rem(local, 16), 8), 2), b.rem(row, 2));
      Value from = b.add(b.add(b.mul(tile, tileBytes), b.mul(owner, kChunk)), b.mul(word, 4));
      Value sum;
      for (int64_t w = 0; w < warps; ++w) {
        Value part = b.load(b.f32(), b.at(reduction, from, w * warpBytes), 4);
        sum = w ? Value(arith::AddFOp::create(b, sum, part)) : part;
      }
      if (s.splits == 1)
        sum = epilogue.finish(sum, oneGroup ? fragments.scale(b.c(0), column, 1) : Value(),
                              epilogue.bias(column, 1));
      else if (oneGroup)
        sum = arith::MulFOp::create(b, sum, fragments.scale(b.c(0), column, 1));
      // Parts of one row lie side by side: [rows, splits, n].
      Value line = s.splits == 1 ? target : b.add(b.mul(target, s.splits), split);
      b.store(sum, b.at(b.at(output, b.wide(line, s.n * 4)), b.mul(column, 4)), 4);
    });
  }
}

void Gemv::emit() {
  SmallVector<Value> carried(blocks * batches * 4, b.cf(0.0));
  carried.append(loadWeights(firstTile));
  carried = b.loop(b.c(tilesPerWarp / depth), carried, [&](Value i, ArrayRef<Value> now) {
    Value first = b.add(firstTile, b.mul(i, depth));
    SmallVector<Value> chunks = loadActivations(first);
    // In flight while these are multiplied.
    SmallVector<Value> next = loadWeights(b.add(first, depth));
    b.warpBarrier();
    storeActivations(chunks);
    b.warpBarrier();
    SmallVector<Value> results(now.take_front(blocks * batches * 4));
    multiply(first, now.drop_front(results.size()), results);
    results.append(next);
    return results;
  });
  storeResults(ArrayRef<Value>(carried).take_front(blocks * batches * 4));
  gpu::ReturnOp::create(b);
}

void cuda::generateGemv(ModuleOp module, Location loc, StringRef name, const Schedule &schedule) {
  KernelBuilder b(loc, module.getContext());
  gpu::GPUFuncOp kernel = beginKernel(b, module, name, /*pointers=*/4, launchShape(schedule));
  Gemv(b, schedule, kernel).emit();
}

/// One thread per result: sums [rows, splits, n] in the order of the splits, then the epilogue.
void cuda::generateCombine(ModuleOp module, Location loc, StringRef name, const Schedule &s) {
  KernelBuilder b(loc, module.getContext());
  gpu::GPUFuncOp kernel = beginKernel(b, module, name, /*pointers=*/3, launchShape(s));
  Value sums = kernel.getArgument(0), parameters = kernel.getArgument(1),
        output = kernel.getArgument(2), rows = kernel.getArgument(3);
  Value thread = b.threadId();
  Value column = b.add(b.mul(b.blockY(), s.tileN), b.rem(thread, s.tileN));
  Value row = b.add(b.mul(b.blockX(), s.tileM), b.div(thread, s.tileN));
  b.ifThen(b.bitAnd(b.below(column, s.n), b.below(row, rows)), [&] {
    FloatEpilogue epilogue(b, s, parameters);
    Value first = b.at(b.at(sums, b.wide(row, s.splits * s.n * 4)), b.mul(column, 4)), sum;
    for (int64_t i = 0; i < s.splits; ++i) {
      Value part = b.load(b.f32(), b.at(first, i * s.n * 4), 4);
      sum = i ? Value(arith::AddFOp::create(b, sum, part)) : part;
    }
    Value result = epilogue.finish(sum, Value(), epilogue.bias(column, 1));
    b.store(result, b.at(b.at(output, b.wide(row, s.n * 4)), b.mul(column, 4)), 4);
  });
  gpu::ReturnOp::create(b);
}
