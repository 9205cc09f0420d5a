//===- StressCompiled.cpp - many threads run one compiled model -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// usage: stress BUNDLE [threads [runs]]. Runs a bundle of one f32 input (dynamic sizes become 4) from 8 threads 1,000 times
// each, every run on one of eight inputs, and compares each result bit for bit with that of a lone run before. Built with
// ThreadSanitizer together with the runtime's sources.
//
//===----------------------------------------------------------------------===//
#include "lowbit-c/Runtime.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

static constexpr int kInputs = 8;

/// Runs once on input number `which`; the first output's bytes, nothing where the run failed.
static std::vector<char> runOnce(lowbit_bundle *bundle, int which) {
  const lowbit_value_info *info = lowbit_bundle_input(bundle, 0);
  lowbit_tensor input = {};
  input.dtype = LOWBIT_F32;
  input.rank = info->rank;
  int64_t count = 1;
  for (int d = info->rank - 1; d >= 0; --d) {
    input.shape[d] = info->dims[d] < 0 ? 4 : info->dims[d];
    input.strides[d] = count;
    count *= input.shape[d];
  }
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i)
    values[i] = float((i * 7 + which * 13) % 17) - 3.0f;
  input.data = values.data();
  std::vector<lowbit_tensor> outputs(lowbit_bundle_num_outputs(bundle));
  if (lowbit_bundle_run(bundle, &input, 1, outputs.data(), outputs.size()) != LOWBIT_OK) {
    std::fprintf(stderr, "error: %s\n", lowbit_last_error());
    return {};
  }
  int64_t size = 4;
  for (int d = 0; d < outputs[0].rank; ++d)
    size *= outputs[0].shape[d];
  std::vector<char> bytes(size);
  std::memcpy(bytes.data(), outputs[0].data, size);
  for (lowbit_tensor &output : outputs)
    lowbit_tensor_release(&output);
  return bytes;
}

int main(int argc, char **argv) {
  if (argc < 2)
    return 2;
  int threads = argc > 2 ? std::atoi(argv[2]) : 8, runs = argc > 3 ? std::atoi(argv[3]) : 1000;
  lowbit_open_options options = {sizeof options, 2, nullptr, nullptr};
  lowbit_bundle *bundle = nullptr;
  if (lowbit_bundle_open(argv[1], &options, &bundle) != LOWBIT_OK || lowbit_bundle_num_inputs(bundle) != 1 ||
      lowbit_bundle_input(bundle, 0)->dtype != LOWBIT_F32) {
    std::fprintf(stderr, "error: expected a bundle of one f32 input: %s\n", lowbit_last_error());
    return 2;
  }
  std::vector<std::vector<char>> expected;
  for (int which = 0; which < kInputs; ++which)
    expected.push_back(runOnce(bundle, which));
  std::atomic<int> wrong{0};
  std::vector<std::thread> workers;
  for (int t = 0; t < threads; ++t)
    workers.emplace_back([&, t] {
      for (int i = 0; i < runs; ++i) {
        int which = (t + i) % kInputs;
        wrong += expected[which].empty() || runOnce(bundle, which) != expected[which];
      }
    });
  for (std::thread &worker : workers)
    worker.join();
  lowbit_bundle_close(bundle);
  std::printf("%d threads x %d runs, %d wrong\n", threads, runs, wrong.load());
  return wrong == 0 ? 0 : 1;
}
