/*===- toy_runtime.c - Runtime.h over a model that doubles -------------*- C -*-===*
 *
 * Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 *===----------------------------------------------------------------------===*
 *
 * Lets Python's side of the C interface be tested without a compiler. One input x
 * f32 [N, 3] and two outputs: y = 2·x, and s, the sum as a scalar f64.
 *
 *===----------------------------------------------------------------------===*/
#include "lowbit-c/Runtime.h"

#include <stdlib.h>
#include <string.h>

struct lowbit_bundle {
  int32_t threads;
};

static __thread const char *lastError = "";
static const int64_t dims[] = {-1, 3};
static const char *const symbols[] = {"N", ""};
static const lowbit_value_info input = {"x", LOWBIT_F32, 2, dims, symbols};
static const lowbit_value_info outputs[] = {{"y", LOWBIT_F32, 2, dims, symbols},
                                            {"s", LOWBIT_F64, 0, NULL, NULL}};
/* How many results are alive; read by the test. */
LOWBIT_API int64_t toy_live = 0;

uint32_t lowbit_runtime_version(void) { return LOWBIT_RUNTIME_VERSION; }

lowbit_status lowbit_bundle_open(const char *path, const lowbit_open_options *options,
                                 lowbit_bundle **out) {
  *out = NULL;
  if (options && options->size != sizeof(lowbit_open_options)) {
    lastError = "options of another version";
    return LOWBIT_INVALID;
  }
  if (strstr(path, "damaged")) {
    lastError = "model.so: sha256 differs from the manifest's";
    return LOWBIT_INVALID;
  }
  if (options && options->isa && strcmp(options->isa, "toy") != 0) {
    lastError = "no such kernel variant";
    return LOWBIT_UNSUPPORTED;
  }
  if (options && options->device && strcmp(options->device, "cpu") != 0) {
    lastError = "the bundle cannot run on that device";
    return LOWBIT_INVALID;
  }
  *out = malloc(sizeof(lowbit_bundle));
  (*out)->threads = options ? options->threads : 0;
  return LOWBIT_OK;
}

void lowbit_bundle_close(lowbit_bundle *bundle) { free(bundle); }
size_t lowbit_bundle_num_inputs(const lowbit_bundle *bundle) { return bundle ? 1 : 0; }
size_t lowbit_bundle_num_outputs(const lowbit_bundle *bundle) { return bundle ? 2 : 0; }
const lowbit_value_info *lowbit_bundle_input(const lowbit_bundle *bundle, size_t index) {
  return bundle && index < 1 ? &input : NULL;
}
const lowbit_value_info *lowbit_bundle_output(const lowbit_bundle *bundle, size_t index) {
  return bundle && index < 2 ? &outputs[index] : NULL;
}
const char *lowbit_bundle_manifest(const lowbit_bundle *bundle) {
  return bundle ? "{\"target\": \"cpu\", \"layers\": []}" : NULL;
}
const char *lowbit_bundle_isa(const lowbit_bundle *bundle) { return bundle ? "toy" : NULL; }

lowbit_status lowbit_bundle_run(lowbit_bundle *bundle, const lowbit_tensor *inputs, size_t numInputs,
                                lowbit_tensor *results, size_t numOutputs) {
  if (!bundle || numInputs != 1 || numOutputs != 2 || inputs->dtype != LOWBIT_F32) {
    lastError = "bad arguments";
    return LOWBIT_INVALID;
  }
  int64_t rows = inputs->shape[0];
  if (rows == 13) {
    lastError = "thirteen rows";
    return LOWBIT_NO_MEMORY;
  }
  double sum = 0;
  float *y = malloc((size_t)(rows * 3 + 1) * sizeof(float));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < 3; ++j) {
      float x = ((const float *)inputs->data)[i * inputs->strides[0] + j * inputs->strides[1]];
      y[i * 3 + j] = 2 * x;
      sum += x;
    }
  memset(results, 0, 2 * sizeof(lowbit_tensor));
  results[0].data = y;
  results[0].dtype = LOWBIT_F32;
  results[0].rank = 2;
  results[0].shape[0] = rows;
  results[0].shape[1] = results[0].strides[0] = 3;
  results[0].strides[1] = results[0].owned = 1;
  results[1].data = malloc(sizeof(double));
  *(double *)results[1].data = sum;
  results[1].dtype = LOWBIT_F64;
  results[1].owned = 1;
  __atomic_add_fetch(&toy_live, 2, __ATOMIC_SEQ_CST);
  return LOWBIT_OK;
}

static lowbit_status noDevice(void) {
  lastError = "this runtime has no device";
  return LOWBIT_UNSUPPORTED;
}

lowbit_status lowbit_tensor_read(const lowbit_tensor *tensor, void *data, size_t bytes) {
  (void)tensor, (void)data, (void)bytes;
  return noDevice();
}
lowbit_status lowbit_bundle_plan(lowbit_bundle *bundle, lowbit_plan_info *info) {
  (void)bundle, (void)info;
  return noDevice();
}
lowbit_status lowbit_bundle_time(lowbit_bundle *bundle, const lowbit_tensor *inputs,
                                 size_t num_inputs, int64_t repeat, double *milliseconds) {
  (void)bundle, (void)inputs, (void)num_inputs, (void)repeat, (void)milliseconds;
  return noDevice();
}

void lowbit_tensor_release(lowbit_tensor *tensor) {
  if (!tensor->owned || !tensor->data)
    return;
  free(tensor->data);
  tensor->data = NULL;
  __atomic_sub_fetch(&toy_live, 1, __ATOMIC_SEQ_CST);
}

const char *lowbit_last_error(void) { return lastError; }
