//===- Stress.cpp - many threads run one bundle -----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// usage: stress FOLDER [threads [runs]]. Writes the test bundle to FOLDER and runs it
// from 8 threads 1,000 times each; every fourth run fails on purpose. Built with
// ThreadSanitizer together with the runtime's sources.
//
//===----------------------------------------------------------------------===//
#include "TestBundle.h"

#include "lowbit-c/Runtime.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

using namespace lowbit::test;

static std::atomic<int> wrong{0};

static void check(bool ok, const char *what) {
  if (!ok && wrong.fetch_add(1) < 10)
    std::fprintf(stderr, "error: %s (%s)\n", what, lowbit_last_error());
}

static void runOnce(lowbit_bundle *bundle, int thread, int i) {
  int64_t rows = 1 + (i * 7 + thread) % 1000;
  int64_t modes[] = {Normal, NestedLoop, Normal, i % 8 == 3 ? Fails : ExhaustsInLoop};
  int64_t mode = modes[i % 4];
  std::vector<float> x(size_t(rows) * 4);
  for (size_t k = 0; k < x.size(); ++k)
    x[k] = float(thread * 1000 + i) + float(k);
  lowbit_tensor in[2] = {}, out[3] = {};
  in[0].data = x.data();
  in[0].dtype = LOWBIT_F32;
  in[0].rank = 2;
  in[0].shape[0] = rows;
  in[0].shape[1] = 4;
  in[0].strides[0] = 4;
  in[0].strides[1] = 1;
  in[1].data = &mode;
  in[1].dtype = LOWBIT_I64;
  lowbit_status status = lowbit_bundle_run(bundle, in, 2, out, 3);
  lowbit_status expected = mode == Fails            ? LOWBIT_INVALID
                           : mode == ExhaustsInLoop ? LOWBIT_NO_MEMORY
                                                    : LOWBIT_OK;
  check(status == expected, "wrong status");
  if (status == LOWBIT_OK) {
    const float *y = static_cast<float *>(out[0].data);
    for (size_t k = 0; k < x.size(); ++k)
      check(y[k] == x[k] * weights[k % 4], "wrong value");
  }
  for (lowbit_tensor &t : out)
    lowbit_tensor_release(&t);
}

int main(int argc, char **argv) {
  if (argc < 2)
    return 2;
  int threads = argc > 2 ? std::atoi(argv[2]) : 8, runs = argc > 3 ? std::atoi(argv[3]) : 1000;
  std::string error = writeTestBundle(argv[1]);
  if (!error.empty()) {
    std::fprintf(stderr, "error: %s\n", error.c_str());
    return 5;
  }
  lowbit_open_options options = {sizeof options, 4, "x86-64", nullptr};
  lowbit_bundle *bundle = nullptr;
  if (lowbit_bundle_open(argv[1], &options, &bundle) != LOWBIT_OK) {
    std::fprintf(stderr, "error: %s\n", lowbit_last_error());
    return 5;
  }
  std::vector<std::thread> workers;
  std::atomic<int> waiting{threads};
  for (int t = 0; t < threads; ++t)
    workers.emplace_back([=, &waiting] {
      // All start together; the first would be done before the last is created.
      waiting.fetch_sub(1);
      while (waiting.load() > 0)
        std::this_thread::yield();
      for (int i = 0; i < runs; ++i)
        runOnce(bundle, t, i);
    });
  for (std::thread &worker : workers)
    worker.join();
  lowbit_bundle_close(bundle);
  std::printf("%d threads x %d runs, %d wrong\n", threads, runs, wrong.load());
  return wrong == 0 ? 0 : 1;
}
