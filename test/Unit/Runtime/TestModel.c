/*===- TestModel.c - a model.so written by hand ------------------------*- C -*-===*
 *
 * Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 *===----------------------------------------------------------------------===*
 *
 * Inputs: x f32 [N, 4], mode i64 scalar. Outputs: y f32 [N, 4], z f32 [N, 4],
 * total f32 scalar. y[n, c] = x[n, c] * weights[c] + isa, z = -y, total = the sum
 * of y. `mode` chooses one of the things below that a model may do or must not.
 *
 *===----------------------------------------------------------------------===*/
#include "lowbit-c/Model.h"

enum {
  NORMAL = 0,
  FAILS = 1,
  EXHAUSTS = 2,
  EXHAUSTS_IN_LOOP = 3,
  OBSERVES = 4,
  WRONG_SHAPE = 5,
  NESTED_LOOP = 6,
  SHARED_RESULT = 7,
  STRIDED_RESULT = 8,
  NEGATIVE_BUFFER = 9,
  OBSERVES_IN_LOOP = 10,
  CONSTANT_RESULT = 11,
  DENORMAL = 12
};

typedef struct {
  void *allocated, *aligned;
  int64_t offset, sizes[2], strides[2];
} matrix;

typedef struct {
  void *allocated, *aligned;
  int64_t offset;
} scalar;

typedef struct {
  matrix y, z;
  scalar total;
} outputs;

typedef struct {
  const float *x;
  float *y;
  int64_t mode;
} arguments;

static const lowbit_callbacks *rt;
static const float *weights;
static float bias;
static void *scratch;

#define EXPORT __attribute__((visibility("default")))

EXPORT int64_t lowbit_model_abi(void) { return LOWBIT_MODEL_ABI; }

EXPORT void lowbit_model_init(const lowbit_callbacks *table, const void *data, int64_t isa) {
  rt = table;
  weights = data;
  bias = (float)isa;
  scratch = rt->alloc(1000, 64);
}

static void element(void *argument, int64_t begin, int64_t end) {
  arguments *a = argument;
  for (int64_t i = begin; i < end; ++i)
    a->y[i] = a->x[i] * weights[i % 4] + bias;
}

static void row(void *argument, int64_t begin, int64_t end) {
  arguments *a = argument;
  if (a->mode == EXHAUSTS_IN_LOOP)
    rt->alloc(INT64_C(1) << 50, 64);
  if (a->mode == OBSERVES_IN_LOOP)
    rt->observe(0, a->x, 1, (const int64_t[]){4});
  if (a->mode == NESTED_LOOP) {
    for (int64_t r = begin; r < end; ++r) {
      arguments inner = {a->x + 4 * r, a->y + 4 * r, 0};
      rt->parallel_for(4, element, &inner);
    }
    return;
  }
  element(a, 4 * begin, 4 * end);
}

static matrix result(float *data, int64_t rows) {
  matrix m = {data, data, 0, {rows, 4}, {4, 1}};
  return m;
}

EXPORT void lowbit_model_run(void *const *in, void *out) {
  const matrix *xs = in[0];
  const scalar *modes = in[1];
  outputs *results = out;
  const float *x = (const float *)xs->aligned + xs->offset;
  int64_t rows = xs->sizes[0], mode = *((const int64_t *)modes->aligned + modes->offset);

  float *y = rt->alloc(rows * 4 * (int64_t)sizeof(float), 64);
  float *z = rt->alloc(rows * 4 * (int64_t)sizeof(float), 64);
  float *total = rt->alloc(sizeof(float), 4096);
  float *temporary = rt->alloc(4096, 128);
  temporary[0] = 1;
  if (mode == FAILS) {
    rt->fail("Gather 'node_7': index 9 is out of range [0, 4)");
    rt->fail("a later failure");
  }
  if (mode == EXHAUSTS)
    rt->alloc(INT64_C(1) << 50, 64);
  if (mode == NEGATIVE_BUFFER)
    rt->alloc(-1, 64);

  arguments a = {x, y, mode};
  rt->parallel_for(rows, row, &a);
  *total = 0;
  for (int64_t i = 0; i < 4 * rows; ++i) {
    z[i] = -y[i];
    *total += y[i];
  }
  if (mode == OBSERVES)
    rt->observe(3, y, 2, (const int64_t[]){rows, 4});
  if (mode == DENORMAL) {
    volatile float small = 1e-38f;
    *total = small * 0.25f;
  }
  rt->free(temporary);

  results->y = result(y, rows);
  results->z = result(z, rows);
  scalar t = {total, total, 0};
  results->total = t;
  if (mode == WRONG_SHAPE)
    results->y.sizes[0] = rows + 1;
  if (mode == SHARED_RESULT) {
    rt->free(z);
    results->z = results->y;
  }
  if (mode == CONSTANT_RESULT) {
    scalar constant = {(void *)(uintptr_t)weights, (void *)(uintptr_t)weights, 3};
    results->total = constant;
  }
  if (mode == STRIDED_RESULT) {
    /* z as the transpose of a column-major buffer, from its second element on. */
    float *buffer = rt->alloc((rows * 4 + 1) * (int64_t)sizeof(float), 64);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < 4; ++c)
        buffer[1 + c * rows + r] = -y[4 * r + c];
    matrix m = {buffer, buffer, 1, {rows, 4}, {1, rows}};
    rt->free(z);
    results->z = m;
  }
}
