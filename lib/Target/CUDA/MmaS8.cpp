//===- MmaS8.cpp - int8 matrix multiplication on tensor cores ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A block computes tileM × tileN results. Both operands pass through shared memory in `stages`
// buffers of 64 bytes of k per row; a row's four 16-byte chunks are permuted by (row / 2) % 4 so
// that the eight rows of a matrix load lie in different banks. Weights come packed in exactly that
// order (see Packing.h). Convolutions are the same multiplication on rows gathered from NHWC (see
// Activations.h); what lies outside of the image or of the matrix is copied from the parameter
// block, where it has the value of the input's zero point.
//
//===----------------------------------------------------------------------===//
#include "Activations.h"
#include "Generators.h"
#include "Requantize.h"

using namespace lowbit;
using namespace lowbit::cuda;

namespace {
class MmaS8 {
public:
  MmaS8(KernelBuilder &b, const Schedule &s, gpu::GPUFuncOp kernel);
  void emit();

private:
  void prepareCopies();
  void copyTile(Value kTile, Value stage);
  void copyChunk(const Activations::Row &row, Value k, Value shared);
  void multiply(Value stage, MutableArrayRef<Value> acc);
  void storeResults(ArrayRef<Value> acc);

  static constexpr int64_t kRowBytes = 64, kChunk = 16, kChunks = kRowBytes / kChunk;
  static Value swizzle(KernelBuilder &b, Value row, Value chunk) {
    return b.mul(b.bitXor(chunk, b.rem(b.div(row, 2), kChunks)), kChunk);
  }

  KernelBuilder &b;
  const Schedule &s;
  Value input, weights, parameters, scales, zeros, output, rows;
  Activations activations;
  int64_t granule, tilesM, tilesN, kTiles, bytesA, bytesB;
  Value shared, thread, lane, warpRow, warpColumn, firstRow, firstColumn;

  // Copies: which chunk of which rows this thread moves.
  SmallVector<Activations::Row> sourceRows;
  SmallVector<Value> targetRows; // offsets in a stage
  Value chunkK, copiesA;         // first k of the chunk; whether this thread copies at all
  SmallVector<std::pair<Value, Value>>
      weightCopies; // offset in the tile, whether this thread copies
};
} // namespace

MmaS8::MmaS8(KernelBuilder &b, const Schedule &s, gpu::GPUFuncOp kernel)
    : b(b), s(s), input(kernel.getArgument(0)), weights(kernel.getArgument(1)),
      parameters(kernel.getArgument(2)), scales(kernel.getArgument(3)),
      zeros(kernel.getArgument(4)), output(kernel.getArgument(kernel.getNumArguments() - 2)),
      rows(kernel.getArgument(kernel.getNumArguments() - 1)),
      activations(b, s, WindowOrder::HWC, input, b.at(parameters, kParamPad * 4), rows),
      granule(Activations::granule(s, WindowOrder::HWC, kChunk)), tilesM(s.tileM / s.warpsM / 16),
      tilesN(s.tileN / s.warpsN / 8), kTiles(s.paddedK() / s.tileK), bytesA(s.tileM * kRowBytes),
      bytesB(s.tileN * kRowBytes) {
  if (granule == 2) // Asynchronous copies move 4, 8 or 16 bytes.
    granule = 1;
  shared = b.sharedMemory();
  thread = b.threadId();
  lane = b.rem(thread, 32);
  Value warp = b.div(thread, 32);
  warpRow = b.mul(b.div(warp, s.warpsN), tilesM * 16);
  warpColumn = b.mul(b.rem(warp, s.warpsN), tilesN * 8);
  firstRow = b.mul(b.blockX(), s.tileM);
  firstColumn = b.mul(b.blockY(), s.tileN);
}

void MmaS8::prepareCopies() {
  int64_t rowsPerPass = s.threads() / kChunks;
  Value row = b.div(thread, kChunks), chunk = b.rem(thread, kChunks);
  chunkK = b.mul(chunk, kChunk);
  for (int64_t first = 0; first < s.tileM; first += rowsPerPass) {
    Value local = b.add(row, first);
    sourceRows.push_back(activations.row(b.add(firstRow, local)));
    targetRows.push_back(b.add(b.mul(local, kRowBytes), swizzle(b, local, chunk)));
  }
  if (s.tileM < rowsPerPass)
    copiesA = b.below(row, s.tileM);
  // Weights lie as they go into shared memory: 1024-byte blocks of 16 columns × 64 k.
  int64_t chunks = bytesB / kChunk;
  for (int64_t first = 0; first < chunks; first += s.threads())
    weightCopies.push_back(
        {b.mul(b.add(thread, first), kChunk),
         first + s.threads() > chunks ? b.below(b.add(thread, first), chunks) : Value()});
}

void MmaS8::copyChunk(const Activations::Row &row, Value k, Value target) {
  if (granule > 1) {
    for (int64_t i = 0; i < kChunk; i += granule)
      b.copyAsync(b.at(target, i), activations.address(row, b.add(k, i)), granule);
    return;
  }
  SmallVector<Value> words;
  for (int64_t word = 0; word < 4; ++word) {
    Value packed;
    for (int64_t byte = 0; byte < 4; ++byte) {
      Value value = b.zext(b.load(b.i8(), activations.address(row, b.add(k, word * 4 + byte)), 1));
      packed = byte ? b.bitOr(packed, b.shl(value, 8 * byte)) : value;
    }
    words.push_back(packed);
  }
  b.store(b.pack(words), target, 16);
}

void MmaS8::copyTile(Value kTile, Value stage) {
  Value tileA = b.at(shared, b.mul(stage, bytesA + bytesB)), tileB = b.at(tileA, bytesA);
  Value k = b.add(b.mul(kTile, s.tileK), chunkK);
  auto copyRows = [&] {
    for (auto [row, target] : llvm::zip(sourceRows, targetRows))
      copyChunk(row, k, b.at(tileA, target));
  };
  copiesA ? b.ifThen(copiesA, copyRows) : copyRows();
  for (auto [offset, condition] : weightCopies) {
    auto copy = [&, offset = offset] {
      // Block (column / 16, kTile) of the packed weights; `offset` walks over the columns.
      Value block = b.add(b.div(firstColumn, 16), b.div(offset, 1024));
      Value source = b.at(b.at(weights, b.wide(block, kTiles * 1024)),
                          b.add(b.mul(kTile, 1024), b.rem(offset, 1024)));
      b.copyAsync(b.at(tileB, offset), source, kChunk);
    };
    condition ? b.ifThen(condition, copy) : copy();
  }
}

void MmaS8::multiply(Value stage, MutableArrayRef<Value> acc) {
  Value tileA = b.at(shared, b.mul(stage, bytesA + bytesB)), tileB = b.at(tileA, bytesA);
  // Lanes 0–15 point at the 16 rows' first 16 bytes of k, lanes 16–31 at the next; for the weights
  // the first and the third eight lanes at the first bytes.
  Value rowA = b.add(warpRow, b.rem(lane, 16)), chunkA = b.div(lane, 16);
  Value rowB = b.add(b.add(warpColumn, b.rem(lane, 8)), b.mul(b.div(lane, 16), 8)),
        chunkB = b.rem(b.div(lane, 8), 2);
  for (int64_t step = 0; step < s.tileK / 32; ++step) {
    Value columnA = swizzle(b, rowA, b.add(chunkA, 2 * step)),
          columnB = swizzle(b, rowB, b.add(chunkB, 2 * step));
    SmallVector<std::array<Value, 4>> fragmentsA, fragmentsB;
    for (int64_t i = 0; i < tilesM; ++i)
      fragmentsA.push_back(
          b.loadMatrices(b.at(tileA, b.add(b.mul(b.add(rowA, 16 * i), kRowBytes), columnA))));
    for (int64_t j = 0; j < tilesN / 2; ++j)
      fragmentsB.push_back(
          b.loadMatrices(b.at(tileB, b.add(b.mul(b.add(rowB, 16 * j), kRowBytes), columnB))));
    for (int64_t i = 0; i < tilesM; ++i)
      for (int64_t j = 0; j < tilesN; ++j)
        b.mmaInt8(s.input == Element::U8, fragmentsA[i],
                  ArrayRef<Value>(fragmentsB[j / 2]).slice(j % 2 * 2, 2),
                  acc.slice((i * tilesN + j) * 4, 4));
  }
}

void MmaS8::storeResults(ArrayRef<Value> acc) {
  bool given = s.scales == Scales::Constant;
  std::optional<Requantize> requantize;
  std::optional<RunTimeScales> runTime;
  if (given)
    requantize.emplace(b, s, parameters);
  else
    runTime.emplace(b, s, parameters, scales, zeros);
  Value row0 = b.add(b.add(firstRow, warpRow), b.div(lane, 4));
  Value column0 = b.add(b.add(firstColumn, warpColumn), b.mul(b.rem(lane, 4), 2));
  for (int64_t i = 0; i < tilesM; ++i)
    for (int64_t half = 0; half < 2; ++half) {
      Value row = b.add(row0, 16 * i + 8 * half);
      b.ifThen(b.below(row, rows), [&] {
        Value rowOffset = b.wide(row, s.n);
        RunTimeScales::Row ofRow = given ? RunTimeScales::Row() : runTime->row(row);
        for (int64_t j = 0; j < tilesN; ++j) {
          ArrayRef<Value> pair = acc.slice((i * tilesN + j) * 4 + half * 2, 2);
          Value column = b.add(column0, 8 * j);
          // With an even n two neighbours are both results or both padding, and aligned.
          int64_t width = s.n % 2 ? 1 : 2;
          for (int64_t first = 0; first < 2; first += width) {
            Value at = b.add(column, first);
            auto store = [&] {
              Value offset = b.createOrFold<arith::AddIOp>(rowOffset, b.wide(at, 1));
              given ? requantize->store(pair.slice(first, width), at, output, offset)
                    : runTime->store(ofRow, pair.slice(first, width), at, output, offset);
            };
            s.n % s.tileN ? b.ifThen(b.below(at, s.n), store) : store();
          }
        }
      });
    }
}

void MmaS8::emit() {
  prepareCopies();
  for (int64_t stage = 0; stage < s.stages - 1; ++stage) {
    if (stage < kTiles)
      copyTile(b.c(stage), b.c(stage));
    b.commitCopies();
  }
  SmallVector<Value> acc(tilesM * tilesN * 4, b.c(0));
  acc = b.loop(b.c(kTiles), acc, [&](Value kTile, ArrayRef<Value> carried) {
    // The barrier publishes the tile that has just arrived and frees the buffer that was read last.
    b.waitForCopies(s.stages - 2);
    b.barrier();
    Value next = b.add(kTile, s.stages - 1);
    b.ifThen(b.below(next, kTiles), [&] { copyTile(next, b.rem(next, s.stages)); });
    b.commitCopies();
    SmallVector<Value> sums(carried);
    multiply(b.rem(kTile, s.stages), sums);
    return sums;
  });
  storeResults(acc);
  gpu::ReturnOp::create(b);
}

void cuda::generateMmaS8(ModuleOp module, Location loc, StringRef name, const Schedule &schedule) {
  KernelBuilder b(loc, module.getContext());
  gpu::GPUFuncOp kernel =
      beginKernel(b, module, name, /*pointers=*/schedule.scales == Scales::Constant ? 4 : 6,
                  launchShape(schedule));
  MmaS8(b, schedule, kernel).emit();
}
