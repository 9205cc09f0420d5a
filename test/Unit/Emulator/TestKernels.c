/*===- TestKernels.c - an emulator.so written by hand ------------------*- C -*-===*
 *
 * Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 *===----------------------------------------------------------------------===*
 *
 * Kernels that use one device instruction each, as the compiler would call it.
 *
 *===----------------------------------------------------------------------===*/
#include "lowbit/Emulator/Table.h"
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT const lowbit_emu_table_t *lowbit_emu_table;
EXPORT const int64_t lowbit_emu_abi = LOWBIT_EMU_ABI;

#define KERNEL(NAME, COUNT)                                                                        \
  EXPORT const int32_t lowbit_emu_parameters_##NAME = COUNT;                                       \
  EXPORT void lowbit_emu_kernel_##NAME(void *const *p)
#define POINTER(TYPE, INDEX) (*(TYPE *const *)p[INDEX])

static const lowbit_emu_table_t *t(void) { return lowbit_emu_table; }
static uint32_t tid(void) { return t()->special_register(LOWBIT_EMU_TID_X); }

static void store(uint32_t *out, uint32_t index, uint32_t value) {
  t()->check(out + index, 4, LOWBIT_EMU_GLOBAL_WRITE);
  out[index] = value;
}

/* out[i] = the thread's global number. */
KERNEL(registers, 1) {
  uint32_t width = t()->special_register(LOWBIT_EMU_NTID_X),
           height = t()->special_register(LOWBIT_EMU_NTID_Y);
  uint32_t x = tid(), y = t()->special_register(LOWBIT_EMU_TID_Y);
  uint32_t block =
      t()->special_register(LOWBIT_EMU_CTAID_Y) * t()->special_register(LOWBIT_EMU_NCTAID_X) +
      t()->special_register(LOWBIT_EMU_CTAID_X);
  uint32_t number = (block * height + y) * width + x;
  store(POINTER(uint32_t, 0), number, number);
}

/* Each thread reads what its mirror image wrote before the barrier; `barriers` says how many there
 * are. */
KERNEL(mirror, 2) {
  uint32_t *shared = t()->shared_memory(), last = t()->special_register(LOWBIT_EMU_NTID_X) - 1;
  int32_t barriers = *(int32_t *)p[1];
  t()->check(shared + tid(), 4, LOWBIT_EMU_SHARED_WRITE);
  shared[tid()] = tid() * 3;
  if (barriers)
    t()->barrier(0, 0, 0);
  t()->check(shared + last - tid(), 4, LOWBIT_EMU_SHARED_READ);
  store(POINTER(uint32_t, 0), tid(), shared[last - tid()]);
}

/* Copies 16 bytes per thread; waits where `waits` says so. Where `reads`, it says what it reads. */
KERNEL(copies, 4) {
  uint32_t *shared = t()->shared_memory(), *source = POINTER(uint32_t, 1);
  int32_t waits = *(int32_t *)p[2], reads = *(int32_t *)p[3];
  t()->copy_async(shared + 4 * tid(), source + 4 * tid(), 16, 16);
  t()->commit_group();
  t()->copy_async(shared + 4 * tid() + 128, source, 16, 8);
  t()->commit_group();
  if (waits)
    t()->wait_group(waits == 1 ? 1 : 0);
  uint32_t *out = POINTER(uint32_t, 0) + 8 * tid();
  for (uint32_t i = 0; i < 4; ++i) {
    if (reads)
      t()->check(shared + 4 * tid() + i, 4, LOWBIT_EMU_SHARED_READ);
    store(out, i, shared[4 * tid() + i]);
    store(out, 4 + i, shared[4 * tid() + 128 + i]);
  }
}

/* out[4 lane + kind] for the four shuffles. */
KERNEL(shuffles, 1) {
  uint32_t *out = POINTER(uint32_t, 0) + 4 * tid(), value = 100 + tid();
  store(out, 0, t()->shuffle(~0u, value, 5, 31, LOWBIT_EMU_SHUFFLE_IDX, NULL));
  store(out, 1, t()->shuffle(~0u, value, 1, 0, LOWBIT_EMU_SHUFFLE_UP, NULL));
  store(out, 2, t()->shuffle(~0u, value, 2, 31, LOWBIT_EMU_SHUFFLE_DOWN, NULL));
  store(out, 3, t()->shuffle(~0u, value, 16, 31, LOWBIT_EMU_SHUFFLE_BFLY, NULL));
}

/* The words of four 8 × 8 matrices of 16-bit elements, element (r, c) of matrix m being 64 m + 8 r
 * + c. */
KERNEL(matrices, 2) {
  uint16_t *shared = t()->shared_memory();
  t()->check(shared + tid() * 8, 16, LOWBIT_EMU_SHARED_WRITE);
  for (uint32_t c = 0; c < 8; ++c)
    shared[tid() * 8 + c] = (uint16_t)(tid() * 8 + c);
  t()->warp_barrier(~0u);
  uint32_t words[4];
  t()->load_matrix(words, shared + 8 * tid(), 4, *(uint32_t *)p[1]);
  for (uint32_t i = 0; i < 4; ++i)
    store(POINTER(uint32_t, 0), 4 * tid() + i, words[i]);
}

/* D = A B + C with fragments read from row-major matrices A [16][k], B [8][k] (column by column), C
 * [16][8]. */
static void multiply(void *const *p, uint32_t bytes, uint32_t signs) {
  uint32_t lane = tid(), g = lane / 4, pair = lane % 4, words[10], result[4];
  const char *a = POINTER(const char, 1), *b = POINTER(const char, 2);
  uint32_t rowBytes = 32 / bytes * bytes; /* 32 bytes of k per row in both */
  for (uint32_t i = 0; i < 4; ++i)
    memcpy(&words[i], a + (g + i % 2 * 8) * rowBytes + pair * 4 + i / 2 * 16, 4);
  for (uint32_t i = 0; i < 2; ++i)
    memcpy(&words[4 + i], b + g * rowBytes + pair * 4 + i * 16, 4);
  const uint32_t *c = POINTER(const uint32_t, 3);
  for (uint32_t i = 0; i < 4; ++i)
    words[6 + i] = c[(g + i / 2 * 8) * 8 + 2 * pair + i % 2];
  if (bytes == 1)
    t()->mma_int8(result, words, signs);
  else
    t()->mma_half(result, words, 0);
  for (uint32_t i = 0; i < 4; ++i)
    store(POINTER(uint32_t, 0), (g + i / 2 * 8) * 8 + 2 * pair + i % 2, result[i]);
}
KERNEL(mma_int8, 5) { multiply(p, 1, *(uint32_t *)p[4]); }
KERNEL(mma_half, 4) { multiply(p, 2, 0); }

/* One number per pure instruction. */
KERNEL(arithmetic, 2) {
  const float *x = POINTER(const float, 1);
  uint32_t *out = POINTER(uint32_t, 0);
  store(out, 0, t()->lop3(0xf0f0f0f0, 0xcccccccc, 0xaaaaaaaa, 0xea));
  store(out, 1, t()->permute(0x33221100, 0x77665544, 0x4140));
  store(out, 2, t()->permute(0x80, 0, 0x8888));
  store(out, 3, t()->dot4(0xff020304, 0xff010101, 10, LOWBIT_EMU_UNSIGNED_A));
  for (uint32_t i = 0; i < 7; ++i)
    store(out, 4 + i, (uint32_t)t()->round_to_int(x[i], LOWBIT_EMU_ROUND_NEAREST_EVEN, 32, 0));
}

/* What must be refused, by number. */
KERNEL(wrong, 2) {
  uint32_t *out = POINTER(uint32_t, 0);
  switch (*(int32_t *)p[1]) {
  case 0: /* out of bounds */
    t()->check(out + 4, 4, LOWBIT_EMU_GLOBAL_READ);
    break;
  case 1: /* misaligned */
    t()->check((char *)out + 2, 4, LOWBIT_EMU_GLOBAL_READ);
    break;
  case 2: /* beyond shared memory */
    t()->check((char *)t()->shared_memory() + 256, 4, LOWBIT_EMU_SHARED_READ);
    break;
  case 3: /* half of a warp waits for the other, which waits at the barrier */
    if (tid() % 2)
      t()->warp_barrier(~0u);
    else
      t()->barrier(0, 0, 0);
    break;
  case 4: /* lanes at different instructions */
    if (tid() % 2)
      t()->warp_barrier(~0u);
    else
      t()->shuffle(~0u, 0, 0, 31, LOWBIT_EMU_SHUFFLE_IDX, NULL);
    break;
  case 5:
    t()->trap();
    break;
  }
}
