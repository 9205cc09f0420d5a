/*===- run.c - a C program that needs the runtime alone ----------------*- C -*-===*
 *
 * Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 *===----------------------------------------------------------------------===*
 *
 * usage: run BUNDLE. Runs a bundle on inputs of ones (dynamic sizes are 2), once into memory of
 * the runtime and once into its own, and compares the two. Prints what it ran.
 *
 *===----------------------------------------------------------------------===*/
#include "lowbit-c/Calibration.h"
#include "lowbit-c/Runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_VALUES = 16 };

static int64_t element_size(int32_t dtype) {
  switch (dtype) {
  case LOWBIT_U8:
  case LOWBIT_I8:
  case LOWBIT_BOOL:
    return 1;
  case LOWBIT_U16:
  case LOWBIT_I16:
  case LOWBIT_F16:
  case LOWBIT_BF16:
    return 2;
  case LOWBIT_F32:
  case LOWBIT_I32:
  case LOWBIT_U32:
    return 4;
  default:
    return 8;
  }
}

static int64_t count(const lowbit_tensor *t) {
  int64_t n = 1;
  for (int32_t i = 0; i < t->rank; ++i)
    n *= t->shape[i];
  return n;
}

/* Row-major memory for `t`, whose dtype and shape are set. */
static int allocate(lowbit_tensor *t) {
  int64_t stride = 1;
  for (int32_t i = t->rank - 1; i >= 0; --i) {
    t->strides[i] = stride;
    stride *= t->shape[i];
  }
  t->device = LOWBIT_CPU;
  t->data = calloc((size_t)count(t) + 1, (size_t)element_size(t->dtype));
  return t->data != NULL;
}

static void fill(lowbit_tensor *t) {
  if (t->dtype == LOWBIT_F32)
    for (int64_t i = 0; i < count(t); ++i)
      ((float *)t->data)[i] = 1.0f;
}

static int print_values(const char *kind, const lowbit_value_info *info) {
  if (!info || !info->name)
    return 0;
  printf("%s %s: dtype %d, shape [", kind, info->name, info->dtype);
  for (int32_t i = 0; i < info->rank; ++i) {
    if (info->dims[i] >= 0)
      printf("%s%lld", i ? ", " : "", (long long)info->dims[i]);
    else
      printf("%s%s", i ? ", " : "", info->symbols[i]);
  }
  printf("]\n");
  return 1;
}

static int failed(const char *what) {
  fprintf(stderr, "error: %s: %s\n", what, lowbit_last_error());
  return 1;
}

int main(int argc, char **argv) {
  lowbit_bundle *bundle = NULL;
  lowbit_tensor inputs[MAX_VALUES], outputs[MAX_VALUES], own[MAX_VALUES];
  memset(inputs, 0, sizeof inputs);
  memset(outputs, 0, sizeof outputs);
  memset(own, 0, sizeof own);
  if (argc != 2)
    return failed("usage: run BUNDLE");
  if (lowbit_runtime_version() != LOWBIT_RUNTIME_VERSION)
    return failed("the library is of another version than the header");
  if (lowbit_bundle_open("no such bundle", NULL, &bundle) != LOWBIT_INVALID || bundle)
    return failed("a missing bundle was opened");
  if (lowbit_bundle_open(argv[1], NULL, &bundle) != LOWBIT_OK)
    return failed("open");
  size_t num_inputs = lowbit_bundle_num_inputs(bundle);
  size_t num_outputs = lowbit_bundle_num_outputs(bundle);
  printf("variant %s\n", lowbit_bundle_isa(bundle));
  if (num_inputs > MAX_VALUES || num_outputs > MAX_VALUES)
    return failed("too many inputs or outputs for this test");

  for (size_t i = 0; i < num_inputs; ++i) {
    const lowbit_value_info *info = lowbit_bundle_input(bundle, i);
    if (!print_values("input", info))
      return failed("input info");
    inputs[i].dtype = info->dtype;
    inputs[i].rank = info->rank;
    for (int32_t d = 0; d < info->rank; ++d)
      inputs[i].shape[d] = info->dims[d] >= 0 ? info->dims[d] : 2;
    if (!allocate(&inputs[i]))
      return failed("allocate");
    fill(&inputs[i]);
  }
  for (size_t i = 0; i < num_outputs; ++i)
    if (!print_values("output", lowbit_bundle_output(bundle, i)))
      return failed("output info");

  if (lowbit_bundle_run(bundle, inputs, num_inputs, outputs, num_outputs) != LOWBIT_OK)
    return failed("run");
  for (size_t i = 0; i < num_outputs; ++i) {
    if (!outputs[i].owned || outputs[i].dtype != lowbit_bundle_output(bundle, i)->dtype)
      return failed("an output is not as described");
    own[i] = outputs[i];
    own[i].owned = 0;
    if (!allocate(&own[i]))
      return failed("allocate");
  }
  if (lowbit_bundle_run(bundle, inputs, num_inputs, own, num_outputs) != LOWBIT_OK)
    return failed("run into own memory");
  for (size_t i = 0; i < num_outputs; ++i) {
    size_t bytes = (size_t)(count(&own[i]) * element_size(own[i].dtype));
    if (memcmp(own[i].data, outputs[i].data, bytes) != 0)
      return failed("two runs differ");
    if (own[i].dtype == LOWBIT_F32 && count(&own[i]) > 0)
      printf("output %s starts with %g\n", lowbit_bundle_output(bundle, i)->name,
             ((float *)own[i].data)[0]);
    free(own[i].data);
    lowbit_tensor_release(&outputs[i]);
    if (outputs[i].data)
      return failed("release left the data");
  }

  if (num_inputs > 0) {
    inputs[0].dtype = 99;
    if (lowbit_bundle_run(bundle, inputs, num_inputs, outputs, num_outputs) != LOWBIT_INVALID)
      return failed("a wrong dtype was taken");
    printf("refused: %s\n", lowbit_last_error());
  }
  for (size_t i = 0; i < num_inputs; ++i)
    free(inputs[i].data);
  lowbit_bundle_close(bundle);
  return 0;
}
