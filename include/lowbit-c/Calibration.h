/*===- lowbit-c/Calibration.h - watch activations ---------------------*- C -*-===*
 *
 * Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 *===----------------------------------------------------------------------===*
 *
 * A bundle compiled with observers (lowbit-insert-observers) reports each observed
 * tensor while it runs. The manifest's "observers" lists id and name.
 *
 *===----------------------------------------------------------------------===*/
#ifndef LOWBIT_C_CALIBRATION_H
#define LOWBIT_C_CALIBRATION_H

#include "lowbit-c/Runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `data` holds shape[0] x … x shape[rank - 1] row-major float32 values (one where rank
 * is 0). `data` and `shape` are valid during the call only. Called on the thread that
 * called lowbit_bundle_run. */
typedef void (*lowbit_observer)(void *user, int64_t id, const float *data, int64_t rank,
                                const int64_t *shape);

/* Sets (or with NULL removes) the function that observers of later runs call. No
 * run may be in progress. A bundle without observers never calls it. */
LOWBIT_API lowbit_status lowbit_bundle_set_observer(lowbit_bundle *bundle, lowbit_observer observer,
                                                    void *user);

/* A program with exchange points (lowbit-insert-exchanges) calls this at each of them, on the
 * thread that called lowbit_bundle_run, which may wait in it. `data` holds the row-major float32
 * values of a tensor of `rank` sizes `dims`, and may be changed. Other than 0 ends the run:
 * lowbit_bundle_run returns LOWBIT_INVALID. */
typedef int (*lowbit_exchange)(void *user, int64_t id, float *data, int64_t rank,
                               const int64_t *dims);

/* Sets (or with NULL removes) the function that exchange points of later runs call. No run may be
 * in progress. Without one, a program with exchange points computes nothing meaningful. */
LOWBIT_API lowbit_status lowbit_bundle_set_exchange(lowbit_bundle *bundle, lowbit_exchange exchange,
                                                    void *user);

#ifdef __cplusplus
}
#endif
#endif /* LOWBIT_C_CALIBRATION_H */
