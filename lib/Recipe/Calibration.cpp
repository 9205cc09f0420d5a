//===- Calibration.cpp - what was measured, as a file ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Recipe/Calibration.h"
#include "lowbit/Runtime/Safetensors.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/MemoryBuffer.h"
#include <cmath>
#include <cstring>
#include <deque>

using namespace lowbit;

static constexpr const char *formatName = "lowbit.calibration/2";
/// More than any data set has; so sums of counts cannot overflow.
static constexpr int64_t maxCount = int64_t(1) << 56;

//===----------------------------------------------------------------------===//
// DataDigest
//===----------------------------------------------------------------------===//

void DataDigest::merge(const DataDigest &other) {
  uint64_t carry = 0;
  for (size_t i = 0; i < limbs.size(); ++i) {
    carry += uint64_t(limbs[i]) + other.limbs[i];
    limbs[i] = uint32_t(carry);
    carry >>= 32;
  }
}

std::string DataDigest::str() const {
  std::string text;
  for (size_t i = limbs.size(); i-- > 0;)
    text += llvm::utohexstr(limbs[i], /*LowerCase=*/true, /*Width=*/8);
  return text;
}

std::optional<DataDigest> DataDigest::parse(StringRef text) {
  DataDigest digest;
  if (text.size() != 8 * digest.limbs.size())
    return std::nullopt;
  for (size_t i = 0; i < digest.limbs.size(); ++i)
    if (text.substr(text.size() - 8 * (i + 1), 8).getAsInteger(16, digest.limbs[i]))
      return std::nullopt;
  return digest;
}

//===----------------------------------------------------------------------===//
// Merging
//===----------------------------------------------------------------------===//

bool Calibration::merge(const Calibration &other, std::string &error) {
  auto fail = [&](const Twine &why) {
    error = why.str();
    return false;
  };
  if (modelSha256 != other.modelSha256)
    return fail("it was made for another model (" + other.modelSha256 + ", this one is " +
                modelSha256 + ")");
  if (recipeSha256 != other.recipeSha256)
    return fail("it was made for a recipe with other transforms");
  if (samples > maxCount - other.samples)
    return fail("it has too many samples");
  for (const auto &[name, observer] : observers) {
    auto found = other.observers.find(name);
    if (found == other.observers.end())
      return fail("it lacks '" + name + "', which this recipe observes");
    size_t mine = observer.channels.size(), theirs = found->second.channels.size();
    if (mine != 0 && theirs != 0 && mine != theirs)
      return fail("'" + name + "' has " + Twine(theirs) + " channels there and " + Twine(mine) +
                  " here");
    if (observer.range.count() > maxCount - found->second.range.count())
      return fail("'" + name + "' has too many values");
  }
  for (auto &[name, observer] : observers)
    observer.merge(other.observers.at(name));
  samples += other.samples;
  data.merge(other.data);
  return true;
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

namespace {
/// The tensors of one observer.
class ObserverReader {
public:
  ObserverReader(const SafetensorsHeader &header, StringRef file, std::string name)
      : header(header), file(file), name(std::move(name)) {}

  /// False, with the reason in `error`, where a tensor is missing or impossible.
  bool read(TensorObserver &observer);
  std::string error;

private:
  template <typename T>
  bool vector(const char *part, StringRef dtype, std::vector<T> &values) {
    const SafetensorsEntry *entry = header.find(name + "/" + part);
    if (!entry || entry->dtype != dtype)
      return fail(Twine("has no ") + part + " of type " + dtype.lower());
    values.resize((entry->end - entry->begin) / sizeof(T));
    std::memcpy(values.data(), file.data() + header.dataOffset + entry->begin,
                values.size() * sizeof(T));
    return true;
  }
  template <typename T>
  bool scalar(const char *part, StringRef dtype, T &value) {
    std::vector<T> values;
    if (!vector(part, dtype, values))
      return false;
    if (values.size() != 1)
      return fail(Twine("has a ") + part + " that is no scalar");
    value = values.front();
    return true;
  }
  bool readSum(const char *part, ExactSum &sum);
  bool readHistogram(TensorObserver &observer, float min, float max, int64_t count);
  bool readChannelHistograms(TensorObserver &observer);
  bool readChannels(TensorObserver &observer, float min, float max, int64_t count);
  bool fail(const Twine &why) {
    error = ("is damaged: '" + name + "' " + why).str();
    return false;
  }

  const SafetensorsHeader &header;
  StringRef file;
  std::string name;
};
} // namespace

bool ObserverReader::readSum(const char *part, ExactSum &sum) {
  std::vector<int64_t> values;
  ExactSum::Digits digits;
  if (!vector(part, "I64", values))
    return false;
  if (values.size() != digits.size())
    return fail(Twine("has a ") + part + " of " + Twine(values.size()) + " digits, expected " +
                Twine(digits.size()));
  llvm::copy(values, digits.begin());
  for (size_t i = 0; i + 1 < digits.size(); ++i)
    if (digits[i] < 0 || digits[i] > 0xffffffff)
      return fail(Twine("has a ") + part + " with impossible digits");
  if (std::abs(digits.back() / 2) > (int64_t(1) << 40))
    return fail(Twine("has a ") + part + " with impossible digits");
  sum.setDigits(digits);
  return true;
}

bool ObserverReader::readHistogram(TensorObserver &observer, float min, float max, int64_t count) {
  std::vector<int32_t> keys;
  std::vector<int64_t> counts;
  if (!vector("histogram_keys", "I32", keys) || !vector("histogram_counts", "I64", counts))
    return false;
  if (keys.size() != counts.size())
    return fail("has " + Twine(keys.size()) + " buckets and " + Twine(counts.size()) + " counts");
  int64_t total = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] < 0 || uint32_t(keys[i]) >= Histogram::keys || (i > 0 && keys[i] <= keys[i - 1]))
      return fail("has buckets that are not in order");
    HistogramBucket bucket = Histogram::bucketOf(uint32_t(keys[i]));
    if (bucket.hi < double(min) || bucket.lo > double(max))
      if (keys[i] != 0) // Magnitudes that count as 0 may be a little beside it.
        return fail("has a bucket outside of its range");
    if (counts[i] <= 0 || counts[i] > count - total)
      return fail("has counts that do not add up to " + Twine(count));
    total += counts[i];
    observer.histogram.add(uint32_t(keys[i]), counts[i]);
  }
  return total == count || fail("has counts that do not add up to " + Twine(count));
}

bool ObserverReader::readChannels(TensorObserver &observer, float min, float max, int64_t count) {
  ChannelStatistics &channels = observer.channels;
  if (!vector("channel_min", "F32", channels.min) || !vector("channel_max", "F32", channels.max) ||
      !vector("channel_sum", "F64", channels.sum) ||
      !vector("channel_abs_sum", "F64", channels.absoluteSum))
    return false;
  size_t size = channels.size();
  if (channels.max.size() != size || channels.sum.size() != size ||
      channels.absoluteSum.size() != size || size == 0 || count % int64_t(size) != 0)
    return fail("has channel statistics of different lengths");
  channels.count = count / int64_t(size);
  for (size_t c = 0; c < size; ++c)
    if (!(channels.min[c] >= min) || !(channels.max[c] <= max) ||
        !(channels.min[c] <= channels.max[c]) || !std::isfinite(channels.sum[c]) ||
        !(channels.absoluteSum[c] >= std::fabs(channels.sum[c]) * (1 - 1e-9)) ||
        !std::isfinite(channels.absoluteSum[c]))
      return fail("has impossible statistics of channel " + Twine(c));
  return true;
}

bool ObserverReader::readChannelHistograms(TensorObserver &observer) {
  std::vector<int32_t> channels, keys;
  std::vector<int64_t> counts;
  if (!vector("channel_histogram_channels", "I32", channels) ||
      !vector("channel_histogram_keys", "I32", keys) ||
      !vector("channel_histogram_counts", "I64", counts))
    return false;
  if (channels.size() != keys.size() || keys.size() != counts.size())
    return fail("has channel histograms of different lengths");
  observer.channelHistograms.resize(observer.channels.size());
  std::vector<int64_t> totals(observer.channels.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] < 0 || uint32_t(keys[i]) >= ChannelHistograms::keys || channels[i] < 0 ||
        size_t(channels[i]) >= totals.size() || counts[i] <= 0 ||
        counts[i] > observer.channels.count - totals[channels[i]])
      return fail("has impossible channel histograms");
    totals[channels[i]] += counts[i];
    observer.channelHistograms.add(size_t(channels[i]), uint32_t(keys[i]), counts[i]);
  }
  for (int64_t total : totals)
    if (total != observer.channels.count)
      return fail("has channel histograms that do not add up");
  return true;
}

bool ObserverReader::read(TensorObserver &observer) {
  float min, max;
  int64_t count;
  if (!scalar("min", "F32", min) || !scalar("max", "F32", max) || !scalar("count", "I64", count) ||
      !scalar("rows", "I64", observer.rows))
    return false;
  if (!std::isfinite(min) || !std::isfinite(max) || min > max)
    return fail("has a range that is not finite and ordered: [" + std::to_string(min) + ", " +
                std::to_string(max) + "]");
  if (count <= 0 || count > maxCount || observer.rows <= 0 || observer.rows > count)
    return fail("has impossible counts");
  observer.range.add(min, max, count);
  return readSum("min_sum", observer.minSum) && readSum("max_sum", observer.maxSum) &&
         readHistogram(observer, min, max, count) && readChannels(observer, min, max, count) &&
         readChannelHistograms(observer);
}

std::optional<Calibration> Calibration::read(StringRef path, std::string &error) {
  auto fail = [&](const Twine &why) {
    error = ("calibration file '" + path + "' " + why).str();
    return std::nullopt;
  };
  auto buffer =
      llvm::MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer)
    return fail("cannot be read: " + buffer.getError().message());
  StringRef file = (*buffer)->getBuffer();
  std::string why;
  std::optional<SafetensorsHeader> header = parseSafetensors(file.data(), file.size(), why);
  if (!header)
    return fail("is not a safetensors file: " + why);
  auto metadata = [&](const std::string &key) {
    auto found = header->metadata.find(key);
    return found == header->metadata.end() ? std::string() : found->second;
  };
  if (metadata("format") != formatName)
    return fail(Twine("is not one of this version: its format is '") + metadata("format") +
                "', expected '" + formatName + "'; calibrate again");
  Calibration calibration;
  calibration.modelSha256 = metadata("model_sha256");
  calibration.recipeSha256 = metadata("recipe_sha256");
  calibration.measured = metadata("measured");
  if (StringRef(metadata("samples")).getAsInteger(10, calibration.samples) ||
      calibration.samples < 0 || calibration.samples > maxCount)
    return fail("has no number of samples");
  std::optional<DataDigest> data = DataDigest::parse(metadata("data_sha256"));
  if (!data)
    return fail("does not say what its data were (data_sha256)");
  calibration.data = *data;
  for (const SafetensorsEntry &entry : header->entries) {
    StringRef name(entry.name);
    if (!name.consume_back("/min"))
      continue;
    ObserverReader reader(*header, file, name.str());
    if (!reader.read(calibration.observers[name.str()]))
      return fail(reader.error);
  }
  return calibration;
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

bool Calibration::write(StringRef path, std::string &error) const {
  SafetensorsWriter writer;
  writer.setMetadata("format", formatName);
  writer.setMetadata("model_sha256", modelSha256);
  writer.setMetadata("recipe_sha256", recipeSha256);
  writer.setMetadata("measured", measured);
  writer.setMetadata("samples", std::to_string(samples));
  writer.setMetadata("data_sha256", data.str());
  // What the writer points to until it writes.
  struct Arrays {
    float min, max;
    int64_t count;
    ExactSum::Digits minSum, maxSum;
    std::vector<int32_t> keys;
    std::vector<int64_t> counts;
    std::vector<int32_t> channels, channelKeys;
    std::vector<int64_t> channelCounts;
  };
  std::deque<Arrays> all;
  for (const auto &[name, observer] : observers) {
    if (observer.range.count() == 0)
      continue; // No sample reached it.
    Arrays &arrays = all.emplace_back();
    arrays.min = observer.range.min();
    arrays.max = observer.range.max();
    arrays.count = observer.range.count();
    arrays.minSum = observer.minSum.digits();
    arrays.maxSum = observer.maxSum.digits();
    // Reserved to the entry: a checkpoint is written while the model is in memory.
    std::vector<std::pair<uint32_t, int64_t>> whole = observer.histogram.entries();
    arrays.keys.reserve(whole.size());
    arrays.counts.reserve(whole.size());
    for (auto [key, count] : whole) {
      arrays.keys.push_back(int32_t(key));
      arrays.counts.push_back(count);
    }
    std::vector<ChannelHistograms::Entry> perChannel = observer.channelHistograms.entries();
    arrays.channels.reserve(perChannel.size());
    arrays.channelKeys.reserve(perChannel.size());
    arrays.channelCounts.reserve(perChannel.size());
    for (const ChannelHistograms::Entry &entry : perChannel) {
      arrays.channels.push_back(entry.channel);
      arrays.channelKeys.push_back(int32_t(entry.key));
      arrays.channelCounts.push_back(entry.count);
    }
    auto add = [&, &name = name](const char *part, const char *dtype, std::vector<int64_t> shape,
                                 const void *data, size_t size) {
      int64_t count = shape.empty() ? 1 : shape[0];
      writer.add(name + "/" + part, dtype, std::move(shape), data, size_t(count) * size);
    };
    int64_t buckets = int64_t(arrays.keys.size()), channels = int64_t(observer.channels.size()),
            digits = int64_t(arrays.minSum.size());
    add("min", "F32", {}, &arrays.min, 4);
    add("max", "F32", {}, &arrays.max, 4);
    add("count", "I64", {}, &arrays.count, 8);
    add("rows", "I64", {}, &observer.rows, 8);
    add("min_sum", "I64", {digits}, arrays.minSum.data(), 8);
    add("max_sum", "I64", {digits}, arrays.maxSum.data(), 8);
    add("histogram_keys", "I32", {buckets}, arrays.keys.data(), 4);
    add("histogram_counts", "I64", {buckets}, arrays.counts.data(), 8);
    add("channel_min", "F32", {channels}, observer.channels.min.data(), 4);
    add("channel_max", "F32", {channels}, observer.channels.max.data(), 4);
    add("channel_sum", "F64", {channels}, observer.channels.sum.data(), 8);
    add("channel_abs_sum", "F64", {channels}, observer.channels.absoluteSum.data(), 8);
    int64_t entries = int64_t(arrays.channels.size());
    add("channel_histogram_channels", "I32", {entries}, arrays.channels.data(), 4);
    add("channel_histogram_keys", "I32", {entries}, arrays.channelKeys.data(), 4);
    add("channel_histogram_counts", "I64", {entries}, arrays.channelCounts.data(), 8);
  }
  return writer.write(path.str(), error);
}
