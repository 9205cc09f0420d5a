//===- ChannelStats.cpp - statistics of channels that were changed ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ChannelStats.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/IR/Builders.h"
#include <algorithm>

using namespace lowbit;

static std::vector<float> floatsOf(ElementsAttr attr) {
  std::optional<ConstantData> data = attr ? ConstantData::get(attr) : std::nullopt;
  return data ? data->toFloats() : std::vector<float>();
}

std::optional<ChannelStats> ChannelStats::get(ObserveOp op) {
  StatsAttr stats = op.getStatsAttr();
  if (!stats)
    return std::nullopt;
  ChannelStats result{floatsOf(stats.getChannelMin()), floatsOf(stats.getChannelMax()),
                      floatsOf(stats.getChannelMean()), floatsOf(stats.getChannelAbsmean())};
  if (result.min.empty() || result.min.size() != result.max.size())
    return std::nullopt;
  return result;
}

int64_t lowbit::getChannelAxis(ObserveOp op) {
  if (std::optional<uint64_t> axis = op.getChannelAxis())
    return *axis;
  auto type = dyn_cast<RankedTensorType>(op.getInput().getType());
  return type ? type.getRank() - 1 : 0;
}

static ElementsAttr transformed(ElementsAttr attr, ArrayRef<double> factor,
                                ArrayRef<double> shift) {
  std::vector<float> values = floatsOf(attr);
  if (values.size() != factor.size())
    return {};
  for (size_t c = 0; c < values.size(); ++c)
    values[c] = float(values[c] * factor[c] + shift[c]);
  return makeConstant(cast<RankedTensorType>(attr.getType()), values, "stats");
}

static ElementsAttr scaledHistogram(ElementsAttr attr, double factor) {
  std::optional<ConstantData> data = attr ? ConstantData::get(attr) : std::nullopt;
  if (!data)
    return {};
  std::vector<double> rows(data->as<double>().begin(), data->as<double>().end());
  for (size_t i = 0; i < rows.size(); ++i)
    if (i % 3 != 2)
      rows[i] *= factor;
  return makeConstant(data->getType(), rows, "histogram");
}

/// The rows [channel, lo, hi, count] of channels that are x * factor now; empty where there are
/// none.
static std::vector<double> scaledChannelRows(ElementsAttr attr, ArrayRef<double> factor) {
  std::optional<ConstantData> data = attr ? ConstantData::get(attr) : std::nullopt;
  if (!data)
    return {};
  std::vector<double> rows(data->as<double>().begin(), data->as<double>().end());
  for (size_t i = 0; i + 4 <= rows.size(); i += 4) {
    if (!(rows[i] >= 0) || rows[i] >= double(factor.size()))
      return {};
    double f = factor[size_t(rows[i])];
    rows[i + 1] *= f;
    rows[i + 2] *= f;
    if (f < 0)
      std::swap(rows[i + 1], rows[i + 2]);
  }
  return rows;
}

/// The histogram of all channels together, on `cells` equal parts of [min, max]; each row's values
/// count as spread evenly. Exact zeros stay a row of their own.
static ElementsAttr histogramOfChannels(ArrayRef<double> channelRows, double min, double max,
                                        MLIRContext *context) {
  constexpr int64_t cells = 4096;
  double width = (max - min) / double(cells), zeros = 0;
  if (channelRows.empty() || !(width > 0))
    return {};
  std::vector<double> counts(cells);
  auto cellOf = [&](double value) {
    return std::clamp<int64_t>(int64_t((value - min) / width), 0, cells - 1);
  };
  for (size_t i = 0; i + 4 <= channelRows.size(); i += 4) {
    double low = channelRows[i + 1], high = channelRows[i + 2], count = channelRows[i + 3];
    if (low == 0 && high == 0) {
      zeros += count;
      continue;
    }
    int64_t first = cellOf(low), last = cellOf(high);
    for (int64_t cell = first; cell <= last; ++cell) {
      double begin = std::max(low, min + width * double(cell)),
             end = std::min(high, min + width * double(cell + 1));
      counts[cell] +=
          first == last ? count : count * std::max(0.0, end - begin) / (high - low);
    }
  }
  std::vector<double> rows;
  bool zerosDone = zeros == 0;
  for (int64_t cell = 0; cell < cells; ++cell) {
    double begin = min + width * double(cell), end = min + width * double(cell + 1);
    if (!zerosDone && end > 0) {
      // The cell around 0 is cut there.
      if (begin < 0) {
        rows.insert(rows.end(), {begin, 0.0, counts[cell] * -begin / width});
        counts[cell] *= end / width;
        begin = 0;
      }
      rows.insert(rows.end(), {0.0, 0.0, zeros});
      begin = std::max(begin, 0.0);
      zerosDone = true;
    }
    if (counts[cell] > 0)
      rows.insert(rows.end(), {begin, end, counts[cell]});
  }
  if (!zerosDone)
    rows.insert(rows.end(), {0.0, 0.0, zeros});
  auto type = RankedTensorType::get({int64_t(rows.size() / 3), 3}, Float64Type::get(context));
  return makeConstant(type, rows, "histogram");
}

/// Row and column k of a group of G belong to channel (group · K + k) / taps.
static ElementsAttr scaledMoments(ElementsAttr attr, ArrayRef<double> factor) {
  std::vector<float> values = floatsOf(attr);
  if (values.empty())
    return {};
  auto type = cast<RankedTensorType>(attr.getType());
  int64_t k = type.getShape().back(), groups = type.getRank() == 3 ? type.getDimSize(0) : 1,
          taps = groups * k / int64_t(factor.size());
  if (taps * int64_t(factor.size()) != groups * k)
    return {};
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t i = 0; i < k; ++i)
      for (int64_t j = 0; j < k; ++j) {
        float &value = values[(g * k + i) * k + j];
        value = float(value * factor[(g * k + i) / taps] * factor[(g * k + j) / taps]);
      }
  return makeConstant(type, values, "moments");
}

void lowbit::transformStats(ObserveOp op, ArrayRef<double> factor, ArrayRef<double> shift) {
  StatsAttr stats = op.getStatsAttr();
  if (!stats)
    return;
  bool shifts = llvm::any_of(shift, [](double s) { return s != 0; });
  bool isUniform =
      !shifts && llvm::all_of(factor, [&](double f) { return f == factor.front(); });
  ElementsAttr low = transformed(stats.getChannelMin(), factor, shift),
               high = transformed(stats.getChannelMax(), factor, shift),
               mean = transformed(stats.getChannelMean(), factor, shift), absmean;
  Builder builder(op.getContext());
  double min = stats.getMin().getValueAsDouble() * factor.front(),
         max = stats.getMax().getValueAsDouble() * factor.front();
  if (!isUniform) {
    if (!low || !high) {
      op->removeAttr("stats");
      return;
    }
    std::vector<float> lows = floatsOf(low), highs = floatsOf(high);
    min = *llvm::min_element(lows);
    max = *llvm::max_element(highs);
  }
  if (!shifts)
    absmean = transformed(stats.getChannelAbsmean(), factor, shift);
  else if (min >= 0)
    absmean = mean;
  auto scaled = [&](FloatAttr value) {
    return isUniform && value ? builder.getF32FloatAttr(value.getValueAsDouble() * factor.front())
                              : FloatAttr();
  };
  // A shift leaves no histogram: zeros of padding, say, do not move.
  std::vector<double> rows;
  if (!shifts)
    rows = scaledChannelRows(stats.getChannelHistogram(), factor);
  ElementsAttr channelHistogram;
  if (!rows.empty())
    channelHistogram =
        makeConstant(cast<RankedTensorType>(stats.getChannelHistogram().getType()), rows,
                     "channel_histogram");
  ElementsAttr histogram = isUniform ? scaledHistogram(stats.getHistogram(), factor.front())
                                     : histogramOfChannels(rows, min, max, op.getContext());
  op.setStatsAttr(StatsAttr::get(
      op.getContext(), builder.getF32FloatAttr(min), builder.getF32FloatAttr(max),
      scaled(stats.getAverageMin()), scaled(stats.getAverageMax()), histogram, low, high, mean,
      absmean, channelHistogram, shifts ? ElementsAttr() : scaledMoments(stats.getMoments(), factor)));
}

LogicalResult lowbit::checkStatistics(ModuleOp module, StringRef transform) {
  WalkResult found = module.walk([](ObserveOp op) {
    StatsAttr stats = op.getStatsAttr();
    return stats && (stats.getChannelMin() || stats.getChannelAbsmean() || stats.getMoments())
               ? WalkResult::interrupt()
               : WalkResult::advance();
  });
  if (found.wasInterrupted())
    return success();
  InFlightDiagnostic diag = module.emitError("the transform ")
                            << transform
                            << " reads statistics of the channels of layers' inputs, and there are none";
  diag.attachNote() << "calibrate the model with a recipe that lists it: lowbit calibrate MODEL "
                       "--recipe … --data … -o CAL";
  return diag;
}
