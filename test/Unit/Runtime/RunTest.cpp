//===- RunTest.cpp - runs of a hand-written model ---------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "TestBundle.h"

#include "lowbit-c/Calibration.h"
#include "lowbit-c/Runtime.h"

#include "gtest/gtest.h"

#include <cfenv>
#include <cmath>
#include <numeric>
#include <thread>
#include <vector>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

using namespace lowbit::test;

static lowbit_tensor tensor(void *data, int32_t dtype, std::vector<int64_t> shape) {
  lowbit_tensor t = {};
  t.data = data;
  t.dtype = dtype;
  t.rank = int32_t(shape.size());
  uint64_t stride = 1; // wraps for impossible shapes
  for (size_t i = shape.size(); i-- > 0;) {
    t.shape[i] = shape[i];
    t.strides[i] = int64_t(stride);
    stride *= uint64_t(shape[i]);
  }
  return t;
}

namespace {

/// An open test bundle with three threads.
class Run : public testing::Test {
protected:
  void SetUp() override {
    path = temporaryFolder() + "lowbit-run-test.lowbit";
    ASSERT_EQ(writeTestBundle(path), "");
    open(3);
  }
  void TearDown() override {
    release();
    lowbit_bundle_close(bundle);
  }

  void open(int threads, const char *isa = "x86-64") {
    lowbit_bundle_close(bundle);
    lowbit_open_options options = {sizeof options, threads, isa, nullptr};
    ASSERT_EQ(lowbit_bundle_open(path.c_str(), &options, &bundle), LOWBIT_OK)
        << lowbit_last_error();
  }

  lowbit_status run(int64_t rows, int64_t mode) {
    x.resize(size_t(rows) * 4);
    std::iota(x.begin(), x.end(), -5.0f);
    this->mode = mode;
    lowbit_tensor in[] = {tensor(x.data(), LOWBIT_F32, {rows, 4}),
                          tensor(&this->mode, LOWBIT_I64, {})};
    return run(in);
  }
  lowbit_status run(lowbit_tensor (&in)[2]) {
    release();
    return lowbit_bundle_run(bundle, in, 2, out, 3);
  }
  void release() {
    for (lowbit_tensor &t : out)
      lowbit_tensor_release(&t);
  }
  /// Checks y and z against the formula in TestModel.c.
  void check(int64_t rows, float bias = 0) {
    ASSERT_EQ(out[0].shape[0], rows);
    ASSERT_EQ(out[0].shape[1], 4);
    const float *y = static_cast<float *>(out[0].data), *z = static_cast<float *>(out[1].data);
    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(y[i], x[i] * weights[i % 4] + bias) << i;
      ASSERT_EQ(z[i], -y[i]) << i;
    }
  }

  std::string path;
  lowbit_bundle *bundle = nullptr;
  std::vector<float> x;
  int64_t mode = 0;
  lowbit_tensor out[3] = {};
};

} // namespace

TEST_F(Run, DynamicSizes) {
  for (int64_t rows : {1, 7, 1000, 0, 3}) {
    ASSERT_EQ(run(rows, Normal), LOWBIT_OK) << lowbit_last_error();
    check(rows);
    EXPECT_EQ(out[2].rank, 0);
    EXPECT_EQ(out[0].owned, 1);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(out[0].data) % 64, 0u);
  }
}

TEST_F(Run, Metadata) {
  EXPECT_EQ(lowbit_runtime_version(), unsigned(LOWBIT_RUNTIME_VERSION));
  EXPECT_EQ(lowbit_bundle_num_inputs(bundle), 2u);
  EXPECT_EQ(lowbit_bundle_num_outputs(bundle), 3u);
  const lowbit_value_info *info = lowbit_bundle_input(bundle, 0);
  EXPECT_STREQ(info->name, "x");
  EXPECT_EQ(info->dtype, LOWBIT_F32);
  EXPECT_EQ(info->rank, 2);
  EXPECT_EQ(info->dims[0], -1);
  EXPECT_EQ(info->dims[1], 4);
  EXPECT_STREQ(info->symbols[0], "N");
  EXPECT_STREQ(info->symbols[1], "");
  EXPECT_EQ(lowbit_bundle_output(bundle, 2)->rank, 0);
  EXPECT_EQ(lowbit_bundle_output(bundle, 3), nullptr);
  EXPECT_NE(std::string(lowbit_bundle_manifest(bundle)).find("lowbit.bundle/1"), std::string::npos);
}

TEST_F(Run, VariantReachesTheModel) {
  EXPECT_STREQ(lowbit_bundle_isa(bundle), "x86-64");
  lowbit_open_options options = {sizeof options, 1, nullptr, nullptr};
  lowbit_bundle_close(bundle);
  bundle = nullptr;
  ASSERT_EQ(lowbit_bundle_open(path.c_str(), &options, &bundle), LOWBIT_OK);
  // The best that this processor has; never "future".
  EXPECT_STREQ(lowbit_bundle_isa(bundle), "x86-64-v2");
  ASSERT_EQ(run(2, Normal), LOWBIT_OK);
  check(2, 1);
}

TEST_F(Run, TwoBundlesAreIndependent) {
  // One folder opened twice with different variants: the code's own variables are not shared.
  lowbit_bundle *first = bundle;
  bundle = nullptr;
  open(1, "x86-64-v2");
  ASSERT_EQ(run(2, Normal), LOWBIT_OK);
  check(2, 1);
  std::swap(first, bundle);
  ASSERT_EQ(run(2, Normal), LOWBIT_OK);
  check(2, 0);
  lowbit_bundle_close(first);
}

TEST_F(Run, ThreadsDoNotChangeResults) {
  ASSERT_EQ(run(1001, Normal), LOWBIT_OK);
  std::vector<float> first(static_cast<float *>(out[0].data),
                           static_cast<float *>(out[0].data) + 4004);
  for (int threads : {1, 2, 8}) {
    open(threads);
    ASSERT_EQ(run(1001, Normal), LOWBIT_OK);
    EXPECT_TRUE(std::equal(first.begin(), first.end(), static_cast<float *>(out[0].data)));
  }
}

TEST_F(Run, NestedLoops) {
  ASSERT_EQ(run(100, NestedLoop), LOWBIT_OK);
  check(100);
}

TEST_F(Run, FailureOfAModelsCheck) {
  EXPECT_EQ(run(4, Fails), LOWBIT_INVALID);
  EXPECT_STREQ(lowbit_last_error(), "Gather 'node_7': index 9 is out of range [0, 4)");
  EXPECT_EQ(out[0].data, nullptr);
  EXPECT_EQ(out[0].owned, 0);
  ASSERT_EQ(run(4, Normal), LOWBIT_OK) << lowbit_last_error();
  check(4);
}

TEST_F(Run, Exhaustion) {
  for (int64_t mode : {Exhausts, ExhaustsInLoop}) {
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(run(1000, mode), LOWBIT_NO_MEMORY);
      EXPECT_STREQ(lowbit_last_error(), "out of memory for the model's buffers");
    }
    ASSERT_EQ(run(1000, Normal), LOWBIT_OK);
    check(1000);
  }
  EXPECT_EQ(run(4, NegativeBuffer), LOWBIT_INTERNAL);
}

TEST_F(Run, UnusualResults) {
  ASSERT_EQ(run(5, StridedResult), LOWBIT_OK);
  check(5);
  ASSERT_EQ(run(5, ConstantResult), LOWBIT_OK);
  check(5);
  EXPECT_EQ(*static_cast<float *>(out[2].data), weights[3]);
  ASSERT_EQ(run(5, SharedResult), LOWBIT_OK);
  EXPECT_NE(out[0].data, out[1].data);
  EXPECT_EQ(static_cast<float *>(out[1].data)[7], static_cast<float *>(out[0].data)[7]);
  EXPECT_EQ(run(5, WrongShape), LOWBIT_INTERNAL);
}

TEST_F(Run, Observer) {
  struct Seen {
    int64_t id = -1, count = 0;
    float sum = 0;
    std::thread::id thread;
  } seen;
  auto observer = [](void *user, int64_t id, const float *data, int64_t rank,
                     const int64_t *shape) {
    Seen &seen = *static_cast<Seen *>(user);
    int64_t count = std::accumulate(shape, shape + rank, int64_t(1), std::multiplies<int64_t>());
    seen = {id, count, std::accumulate(data, data + count, 0.0f), std::this_thread::get_id()};
  };
  ASSERT_EQ(run(6, Observes), LOWBIT_OK);
  ASSERT_EQ(lowbit_bundle_set_observer(bundle, observer, &seen), LOWBIT_OK);
  ASSERT_EQ(run(6, Observes), LOWBIT_OK);
  EXPECT_EQ(seen.id, 3);
  EXPECT_EQ(seen.count, 24);
  EXPECT_EQ(seen.sum, *static_cast<float *>(out[2].data));
  EXPECT_EQ(seen.thread, std::this_thread::get_id());
  EXPECT_EQ(run(6, ObservesInLoop), LOWBIT_INTERNAL);
  lowbit_bundle_set_observer(bundle, nullptr, nullptr);
  ASSERT_EQ(run(6, Observes), LOWBIT_OK);
}

TEST_F(Run, CallersFloatingPointModesDoNotMatter) {
#if defined(__SSE__)
  unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040); // flush to zero, denormals are zero
  lowbit_status status = run(1, Denormal);
  unsigned after = _mm_getcsr();
  _mm_setcsr(before);
  ASSERT_EQ(status, LOWBIT_OK);
  EXPECT_EQ(after & 0x8040u, 0x8040u);
  EXPECT_GT(*static_cast<float *>(out[2].data), 0.0f);
#endif
}

TEST_F(Run, StridedInputs) {
  // x read backwards and by columns: element [n, c] at 100 - 3n - 20c.
  std::vector<float> memory(101);
  std::iota(memory.begin(), memory.end(), 0.0f);
  lowbit_tensor in[] = {tensor(&memory[100], LOWBIT_F32, {3, 4}), tensor(&mode, LOWBIT_I64, {})};
  in[0].strides[0] = -3;
  in[0].strides[1] = -20;
  for (int n = 0; n < 3; ++n)
    for (int c = 0; c < 4; ++c)
      x.push_back(float(100 - 3 * n - 20 * c));
  ASSERT_EQ(run(in), LOWBIT_OK) << lowbit_last_error();
  check(3);
  // One row repeated.
  in[0].strides[0] = 0;
  in[0].strides[1] = 1;
  in[0].data = &memory[10];
  x = {10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13};
  ASSERT_EQ(run(in), LOWBIT_OK);
  check(3);
  // A misaligned address.
  std::vector<char> bytes(1 + 12 * sizeof(float));
  memcpy(&bytes[1], x.data(), 12 * sizeof(float));
  in[0] = tensor(&bytes[1], LOWBIT_F32, {3, 4});
  ASSERT_EQ(run(in), LOWBIT_OK);
  check(3);
}

TEST_F(Run, CallersOutputs) {
  std::vector<float> y(3 * 8, 77), z(12);
  float total;
  ASSERT_EQ(run(3, Normal), LOWBIT_OK);
  release();
  out[0] = tensor(y.data(), LOWBIT_F32, {3, 4});
  out[0].strides[0] = 8;
  out[0].strides[1] = 2;
  out[1] = tensor(z.data(), LOWBIT_F32, {3, 4});
  out[2] = tensor(&total, LOWBIT_F32, {});
  ASSERT_EQ(run(3, Normal), LOWBIT_OK) << lowbit_last_error();
  EXPECT_EQ(out[0].owned, 0);
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(y[size_t(i) * 2], x[size_t(i)] * weights[i % 4]);
    EXPECT_EQ(y[size_t(i) * 2 + 1], 77);
  }
  EXPECT_EQ(run(4, Normal), LOWBIT_INVALID);
  EXPECT_STREQ(lowbit_last_error(), "output 'y' has room for shape 3x4, the result has 4x4");
  out[0].strides[1] = 0;
  EXPECT_EQ(run(3, Normal), LOWBIT_INVALID);
  out[0] = tensor(y.data(), LOWBIT_F64, {3, 4});
  EXPECT_EQ(run(3, Normal), LOWBIT_INVALID);
  EXPECT_STREQ(lowbit_last_error(), "output 'y' has dtype f64, expected f32");
}

TEST_F(Run, WrongInputs) {
  std::vector<float> data(64);
  auto expect = [&](lowbit_tensor x, const char *message, lowbit_status status = LOWBIT_INVALID) {
    lowbit_tensor in[] = {x, tensor(&mode, LOWBIT_I64, {})};
    EXPECT_EQ(run(in), status);
    EXPECT_STREQ(lowbit_last_error(), message);
  };
  expect(tensor(data.data(), LOWBIT_F64, {2, 4}), "input 'x' has dtype f64, expected f32");
  expect(tensor(data.data(), 99, {2, 4}), "input 'x' has dtype dtype 99, expected f32");
  expect(tensor(data.data(), LOWBIT_F32, {2, 4, 1}),
         "input 'x' has rank 3, expected 2 (shape ?x4)");
  expect(tensor(data.data(), LOWBIT_F32, {2, 5}), "input 'x' has shape 2x5, expected ?x4");
  expect(tensor(data.data(), LOWBIT_F32, {-2, 4}), "input 'x' has the impossible shape -2x4");
  expect(tensor(data.data(), LOWBIT_F32, {INT64_MAX, 4}),
         "input 'x' has the impossible shape 9223372036854775807x4");
  expect(tensor(nullptr, LOWBIT_F32, {2, 4}), "input 'x' has no data");
  lowbit_tensor elsewhere = tensor(data.data(), LOWBIT_F32, {2, 4});
  elsewhere.device = LOWBIT_CUDA;
  expect(elsewhere, "input 'x' is on device 1, this bundle takes CPU memory", LOWBIT_UNAVAILABLE);
  lowbit_tensor none = tensor(nullptr, LOWBIT_F32, {0, 4});
  none.shape[1] = INT64_MAX;
  expect(none, "input 'x' has shape 0x9223372036854775807, expected ?x4");
  lowbit_tensor many = tensor(data.data(), LOWBIT_F32, {int64_t(1) << 50, 4});
  many.strides[0] = 0;
  expect(many, "out of memory for a copy of input 'x'", LOWBIT_NO_MEMORY);
  lowbit_tensor one = tensor(data.data(), LOWBIT_F32, {1, 4});
  one.rank = -1;
  expect(one, "input 'x' has rank -1, expected 2 (shape ?x4)");
  EXPECT_EQ(lowbit_bundle_run(bundle, nullptr, 0, out, 3), LOWBIT_INVALID);
  EXPECT_STREQ(lowbit_last_error(), "the bundle has 2 inputs and 3 outputs, given were 0 and 3");
  EXPECT_EQ(lowbit_bundle_run(nullptr, nullptr, 0, nullptr, 0), LOWBIT_INVALID);
}
