//===- Schedule.cpp - schedules as attributes, and their cost model ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/CUDA/Schedule.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/StringSwitch.h"

using namespace lowbit;
using namespace lowbit::cuda;

static StringRef spell(Element element) {
  switch (element) {
  case Element::U8:
    return "u8";
  case Element::I8:
    return "i8";
  case Element::I32:
    return "i32";
  case Element::I64:
    return "i64";
  case Element::F32:
    return "f32";
  }
  return "";
}

static std::array<int64_t ConvShape::*, 13> convFields() {
  return {&ConvShape::channels, &ConvShape::height,    &ConvShape::width,     &ConvShape::kernelH,
          &ConvShape::kernelW,  &ConvShape::strideH,   &ConvShape::strideW,   &ConvShape::padTop,
          &ConvShape::padLeft,  &ConvShape::dilationH, &ConvShape::dilationW, &ConvShape::outH,
          &ConvShape::outW};
}

DictionaryAttr Schedule::toAttr(MLIRContext *context) const {
  Builder b(context);
  NamedAttrList attrs;
  attrs.append("input", b.getStringAttr(spell(input)));
  attrs.append("output", b.getStringAttr(spell(output)));
  attrs.append("n", b.getI64IntegerAttr(n));
  attrs.append("k", b.getI64IntegerAttr(k));
  attrs.append("tile", b.getDenseI64ArrayAttr({tileM, tileN, tileK}));
  attrs.append("warps", b.getDenseI64ArrayAttr({warpsM, warpsN}));
  attrs.append("stages", b.getI64IntegerAttr(stages));
  if (group) {
    attrs.append("bits", b.getI64IntegerAttr(bits));
    attrs.append("group", b.getI64IntegerAttr(group));
  }
  if (generator == "cuda.gemv" || generator == "cuda.combine") {
    attrs.append("splits", b.getI64IntegerAttr(splits));
    attrs.append("columns", b.getI64IntegerAttr(columns));
  }
  if (scales != Scales::Constant)
    attrs.append("scales", b.getStringAttr(scales == Scales::Row ? "row" : "tensor"));
  if (symmetric)
    attrs.append("symmetric", b.getUnitAttr());
  if (conv) {
    // channels, height, width, kernel, strides, pads (top, left), dilations, result height and
    // width
    SmallVector<int64_t> values;
    for (auto field : convFields())
      values.push_back((*conv).*field);
    attrs.append("conv", b.getDenseI64ArrayAttr(values));
    if (conv->groups != 1)
      attrs.append("groups", b.getI64IntegerAttr(conv->groups));
  }
  return attrs.getDictionary(context);
}

std::optional<Schedule> Schedule::fromAttr(StringRef generator, DictionaryAttr attr, Location loc) {
  Schedule s;
  s.generator = generator.str();
  bool good = true;
  auto bad = [&](StringRef key, StringRef expected) {
    if (good)
      emitError(loc) << "kernel schedule: expects '" << key << "' to be " << expected;
    good = false;
  };
  auto integer = [&](StringRef key, int64_t &value) {
    if (auto a = attr.getAs<IntegerAttr>(key))
      value = a.getInt();
    else
      bad(key, "an integer");
  };
  auto element = [&](StringRef key, Element &value) {
    auto a = attr.getAs<StringAttr>(key);
    auto known = llvm::StringSwitch<std::optional<Element>>(a ? a.getValue() : "")
                     .Case("u8", Element::U8)
                     .Case("i8", Element::I8)
                     .Case("i32", Element::I32)
                     .Case("i64", Element::I64)
                     .Case("f32", Element::F32)
                     .Default(std::nullopt);
    if (!known)
      return bad(key, "u8, i8, i32, i64 or f32");
    value = *known;
  };
  auto array = [&](StringRef key, ArrayRef<int64_t *> values) {
    auto a = attr.getAs<DenseI64ArrayAttr>(key);
    if (!a || a.size() != (int64_t)values.size())
      return bad(key, "an array of " + std::to_string(values.size()) + " integers");
    for (auto [to, from] : llvm::zip(values, a.asArrayRef()))
      *to = from;
  };
  element("input", s.input);
  element("output", s.output);
  integer("n", s.n);
  integer("k", s.k);
  integer("stages", s.stages);
  array("tile", {&s.tileM, &s.tileN, &s.tileK});
  array("warps", {&s.warpsM, &s.warpsN});
  if (attr.contains("group")) {
    integer("group", s.group);
    integer("bits", s.bits);
  }
  if (attr.contains("splits"))
    integer("splits", s.splits);
  if (attr.contains("columns"))
    integer("columns", s.columns);
  if (attr.contains("scales")) {
    auto a = attr.getAs<StringAttr>("scales");
    if (!a || (a.getValue() != "row" && a.getValue() != "tensor"))
      bad("scales", "row or tensor");
    else
      s.scales = a.getValue() == "row" ? Scales::Row : Scales::Tensor;
  }
  s.symmetric = attr.contains("symmetric");
  if (attr.contains("conv")) {
    s.conv.emplace();
    SmallVector<int64_t *> fields;
    for (auto field : convFields())
      fields.push_back(&((*s.conv).*field));
    array("conv", fields);
    if (attr.contains("groups"))
      integer("groups", s.conv->groups);
  }
  if (!good)
    return std::nullopt;
  return s;
}

LogicalResult cuda::verifySchedule(const Schedule &s, Location loc) {
  auto fail = [&](const Twine &what) -> LogicalResult {
    return emitError(loc) << "kernel schedule: " << what;
  };
  if (s.n < 1 || s.k < 1 || s.warpsM < 1 || s.warpsN < 1 || s.threads() > 1024 || s.tileM < 1 ||
      s.tileN < 1)
    return fail("expects positive sizes and at most 32 warps");
  if (s.conv)
    for (auto field :
         {&ConvShape::channels, &ConvShape::height, &ConvShape::width, &ConvShape::kernelH,
          &ConvShape::kernelW, &ConvShape::strideH, &ConvShape::strideW, &ConvShape::dilationH,
          &ConvShape::dilationW, &ConvShape::outH, &ConvShape::outW, &ConvShape::groups})
      if ((*s.conv).*field < 1)
        return fail("expects positive convolution sizes");
  if (s.generator == "cuda.gather") {
    bool index = s.input == Element::I32 || s.input == Element::I64;
    if (!index || s.output != Element::F32 || s.tileM * s.tileN != s.threads() || s.group < 1 ||
        (s.bits != 4 && s.bits != 8 && s.bits != 16))
      return fail(
          "cuda.gather expects integer indices, f32 results, groups, and tileM x tileN threads");
    return success();
  }
  if (s.generator == "cuda.direct_s8") {
    if (s.input == Element::F32 || s.threads() % s.tileN || s.tileM * s.tileN != s.threads() ||
        !s.conv)
      return fail("cuda.direct_s8 expects an integer convolution and tileM x tileN threads");
    return success();
  }
  if (s.generator == "cuda.rowquant") {
    if (s.input != Element::F32 || (s.output != Element::U8 && s.output != Element::I8) ||
        s.tileM != 1 || s.tileN != s.n || s.n != s.k)
      return fail("cuda.rowquant expects f32 rows, 8-bit results and a block per row");
    return success();
  }
  if (s.generator == "cuda.depthwise_s8") {
    if (s.input == Element::F32 || !s.conv || s.conv->groups != s.n || s.conv->channels != s.n ||
        s.n % 4 || s.tileN % 4 || s.tileM * s.tileN != 4 * s.threads() ||
        s.conv->kernelH * s.conv->kernelW > 64)
      return fail(
          "cuda.depthwise_s8 expects one filter of at most 64 elements per channel, channels "
          "in fours and tileM x tileN / 4 threads");
    return success();
  }
  if (s.scales != Scales::Constant &&
      (s.generator != "cuda.mma_s8" || s.conv || s.output != Element::F32))
    return fail("scales that the run gives are those of a linear cuda.mma_s8 with f32 results");
  if (s.generator == "cuda.combine") {
    if (s.input != Element::F32 || s.output != Element::F32 || s.splits < 2 ||
        s.tileM * s.tileN != s.threads() || s.columns < s.n)
      return fail("cuda.combine expects f32, two splits or more and tileM x tileN threads");
    return success();
  }
  if (s.weightOnly() && (s.input != Element::F32 || s.output != Element::F32))
    return fail(s.generator + " expects f32 activations and results");
  bool integers = s.bits == 4 || s.bits == 8;
  if (s.weightOnly() && !(integers && s.group >= 16 && s.group % 16 == 0) &&
      !(s.bits == 16 && s.group >= s.paddedK()))
    return fail(s.generator +
                " expects 4 or 8 bits and groups of a multiple of 16, or 16 bits and one group");
  if (s.generator == "cuda.gemv") {
    if (s.tileK != 64 || (s.tileM != 8 && s.tileM != 16) || s.tileN % 16 || s.warpsN != 1 ||
        s.stages < 1 || s.splits < 1 || s.columns % s.tileN || s.columns < s.n || s.conv)
      return fail("cuda.gemv expects 8 or 16 rows, columns in whole tiles of 16 or more, k tiles "
                  "of 64 and no convolution");
    if (s.sharedBytes() > 99 * 1024)
      return fail("needs " + Twine(s.sharedBytes()) +
                  " bytes of shared memory; every GPU has 101376");
    return success();
  }
  if (s.tileK != 64 || s.stages < 2 || s.tileM % (16 * s.warpsM) || s.tileN % (16 * s.warpsN))
    return fail("expects k tiles of 64, two stages or more, and 16 x 16 results or more per warp");
  if (s.sharedBytes() > 99 * 1024)
    return fail("needs " + Twine(s.sharedBytes()) +
                " bytes of shared memory; every GPU has 101376");
  if (s.weightOnly() != (s.input == Element::F32) || (s.conv && s.conv->groups != 1))
    return fail("the input's type or the convolution's groups do not fit " + s.generator);
  if ((s.generator == "cuda.w4a16" && !integers) || (s.generator == "cuda.mma_f16" && integers))
    return fail(Twine(s.bits) + " bits do not fit " + s.generator);
  return success();
}

int64_t Schedule::sharedBytes() const {
  if (generator == "cuda.rowquant")
    return warpsM > 1 ? warpsM * 8 : 0;
  if (generator == "cuda.gemv")
    return warpsM * (stages * tileM * 128 + tileN * tileM * 4);
  if (generator == "cuda.mma_s8")
    return stages * (tileM + tileN) * tileK;
  if (weightOnly())
    return 2 * tileM * tileK * 2 + stages * tileN * tileK * bits / 8;
  return 0;
}

LaunchShape cuda::launchShape(const Schedule &s) {
  int64_t columnBlocks = (s.n + s.tileN - 1) / s.tileN;
  if (s.generator == "cuda.gemv")
    columnBlocks *= s.splits;
  return {s.threads(), s.tileM, columnBlocks, s.sharedBytes()};
}

namespace {
struct Tile {
  int64_t m, n, warpsM, warpsN;
};
} // namespace

// Ordered from the largest: on equal cost the earlier one wins. Results per thread bound the
// registers: a warp's tile of 64 × 64 takes 128 for the sums. Weight-only kernels keep two sets of
// sums, of the group and of all.
static constexpr Tile kMmaTiles[] = {{128, 128, 2, 2}, {128, 64, 2, 2}, {64, 128, 1, 4},
                                     {64, 64, 2, 2},   {128, 32, 4, 1}, {64, 32, 2, 2},
                                     {128, 16, 4, 1},  {64, 16, 4, 1},  {16, 128, 1, 4},
                                     {16, 64, 1, 4},   {16, 32, 1, 2}};
static constexpr Tile kWeightOnlyTiles[] = {{64, 128, 1, 4}, {128, 64, 2, 2}, {64, 64, 2, 2},
                                            {64, 32, 2, 2},  {64, 16, 4, 1},  {16, 128, 1, 4},
                                            {16, 64, 1, 4},  {16, 32, 1, 2}};

// A machine to compare tiles on: an A100. What counts is which tile is better, not the figures.
static constexpr int64_t kMultiprocessors = 108;
static constexpr double kLatencyPerStep = 100, kLatency = 1000; // Cycles that a lone block waits.

/// Cycles of one multiprocessor for one block and 64 k: small tiles cost copies, large ones waste
/// rows and columns.
static double cyclesPerStep(const Schedule &s, const Tile &tile, int64_t rows) {
  bool weightOnly = s.weightOnly();
  double rowBytes = weightOnly ? 128 : 64, columnBytes = 8 * s.bits,
         loadedRowBytes = weightOnly ? 256 : 64;
  double multiply = tile.m * tile.n * 64.0 / (weightOnly ? 1024 : 2048);
  // Warps side by side read the same rows, warps above each other the same columns.
  double fragments = (tile.m * tile.warpsN * rowBytes + tile.n * tile.warpsM * columnBytes) / 128;
  double copies = (std::min(tile.m, rows) * loadedRowBytes + tile.n * columnBytes) / 64;
  double unpack = weightOnly && s.bits < 16 ? tile.n * tile.warpsM * 64.0 / 75 : 0;
  return multiply + fragments + copies + unpack;
}

void cuda::chooseGemv(Schedule &s, int64_t rows) {
  // Enough warps to keep the memory of a large GPU busy, each with 4 KB on its way.
  constexpr int64_t kBlocks = 132, kWarps = 16 * kBlocks, kAhead = 32;
  s.generator = "cuda.gemv";
  s.tileM = rows <= 8 ? 8 : 16, s.tileK = 64;
  int64_t kTiles = (s.k + 63) / 64, tiles = (s.n + 15) / 16, wide = 1;
  // Wider blocks read the activations less often.
  while (2 * wide * s.bits <= kAhead && wide < 4 && tiles >= 4 * kBlocks * wide &&
         s.columns % (32 * wide) == 0)
    wide *= 2;
  s.tileN = 16 * wide;
  if (!s.columns)
    s.columns = (s.n + s.tileN - 1) / s.tileN * s.tileN;
  s.stages = std::max<int64_t>(1, std::min({int64_t(4), kAhead / (s.bits * wide), kTiles}));
  int64_t blocks = (s.n + s.tileN - 1) / s.tileN;
  s.warpsM = s.warpsN = s.splits = 1;
  while (s.warpsM < 8 && kTiles >= 4 * s.warpsM * s.stages)
    s.warpsM *= 2;
  while (s.splits < 8 && blocks * s.warpsM * s.splits * 2 <= kWarps &&
         kTiles >= 8 * s.warpsM * s.stages * s.splits)
    s.splits *= 2;
}

void cuda::chooseCombine(Schedule &s) {
  s.generator = "cuda.combine";
  s.tileK = 1, s.stages = 1;
  s.tileN = s.n >= 32 ? 32 : 8;
  s.warpsM = 4, s.warpsN = 1;
  s.tileM = s.threads() / s.tileN;
}

void cuda::chooseTiles(Schedule &s, int64_t rows) {
  if (s.generator == "cuda.gather") {
    s.tileK = 1;
    s.tileN = s.n >= 32 ? 32 : 8;
    s.warpsM = 4, s.warpsN = 1, s.stages = 1;
    s.tileM = s.threads() / s.tileN;
    return;
  }
  if (s.generator == "cuda.rowquant") {
    s.tileM = 1, s.tileN = s.n, s.tileK = 1, s.stages = 1;
    s.warpsN = 1;
    s.warpsM = s.k <= 256 ? 1 : s.k <= 1024 ? 4 : 8;
    return;
  }
  if (s.generator == "cuda.depthwise_s8") {
    s.tileK = 1;
    s.tileN = s.n >= 128 ? 128 : s.n >= 64 ? 64 : s.n >= 32 ? 32 : 16;
    s.warpsM = 4, s.warpsN = 1, s.stages = 1;
    s.tileM = 4 * s.threads() / s.tileN;
    return;
  }
  if (s.generator == "cuda.direct_s8") {
    // A block is tileN channels wide: neighbouring threads read neighbouring bytes.
    s.tileK = 1;
    s.tileN = s.n >= 64 ? 64 : s.n >= 32 ? 32 : s.n >= 16 ? 16 : 8;
    s.warpsM = 4, s.warpsN = 1, s.stages = 1;
    s.tileM = s.threads() / s.tileN;
    return;
  }
  bool weightOnly = s.weightOnly();
  ArrayRef<Tile> tiles = weightOnly ? ArrayRef<Tile>(kWeightOnlyTiles) : ArrayRef<Tile>(kMmaTiles);
  int64_t steps = (s.k + 63) / 64;
  double best = 0;
  const Tile *choice = nullptr;
  for (const Tile &tile : tiles) {
    int64_t blocks = ((rows + tile.m - 1) / tile.m) * ((s.n + tile.n - 1) / tile.n);
    double cost = double((blocks + kMultiprocessors - 1) / kMultiprocessors) * steps *
                      cyclesPerStep(s, tile, rows) +
                  kLatencyPerStep * steps + kLatency;
    if (!choice || cost < best) {
      best = cost;
      choice = &tile;
    }
  }
  s.tileM = choice->m, s.tileN = choice->n, s.warpsM = choice->warpsM, s.warpsN = choice->warpsN;
  s.tileK = 64;
  s.stages = std::max<int64_t>(2, std::min<int64_t>(4, steps + 1));
}
