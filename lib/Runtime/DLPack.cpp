//===- DLPack.cpp - results on a GPU for other libraries -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "DeviceTensors.h"
#include "Failure.h"

#include <algorithm>
#include <dlfcn.h>
#include <memory>

using namespace lowbit::runtime;

namespace {

/// DLManagedTensor of dlpack.h, with the shape behind it.
struct Managed {
  void *data;
  int32_t deviceType, deviceId, rank;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byteOffset;
  void *context;
  void (*deleter)(Managed *);
  int64_t sizes[2 * LOWBIT_MAX_RANK];
};

struct Code {
  int32_t dtype;
  uint8_t code, bits;
};

} // namespace

static constexpr int32_t kDLCUDA = 2;
/// kDLInt, kDLUInt, kDLFloat, kDLBfloat, kDLBool: 0, 1, 2, 4, 6.
static constexpr Code codes[] = {{LOWBIT_F32, 2, 32},  {LOWBIT_F16, 2, 16}, {LOWBIT_F64, 2, 64},
                                 {LOWBIT_BF16, 4, 16}, {LOWBIT_BOOL, 6, 8}, {LOWBIT_I8, 0, 8},
                                 {LOWBIT_I16, 0, 16},  {LOWBIT_I32, 0, 32}, {LOWBIT_I64, 0, 64},
                                 {LOWBIT_U8, 1, 8},    {LOWBIT_U16, 1, 16}, {LOWBIT_U32, 1, 32},
                                 {LOWBIT_U64, 1, 64}};

extern "C" {

lowbit_status lowbit_tensor_to_dlpack(const lowbit_tensor *tensor, int32_t ordinal, void **out) {
  return guarded([&] {
    if (!tensor || !out)
      fail(LOWBIT_INVALID, "lowbit_tensor_to_dlpack: a pointer is NULL");
    *out = nullptr;
    if (tensor->device != LOWBIT_CUDA || tensor->rank < 0 || tensor->rank > LOWBIT_MAX_RANK)
      fail(LOWBIT_INVALID, "lowbit_tensor_to_dlpack: the tensor is not on a GPU");
    auto *code = std::find_if(std::begin(codes), std::end(codes),
                              [&](const Code &c) { return c.dtype == tensor->dtype; });
    if (code == std::end(codes))
      fail(LOWBIT_UNSUPPORTED, "DLPack has no data type " + std::to_string(tensor->dtype));
    auto managed = std::make_unique<Managed>();
    *managed = {};
    managed->data = tensor->data;
    managed->deviceType = kDLCUDA;
    managed->deviceId = ordinal;
    managed->rank = tensor->rank;
    managed->code = code->code;
    managed->bits = code->bits;
    managed->lanes = 1;
    managed->shape = managed->sizes;
    managed->strides = managed->sizes + LOWBIT_MAX_RANK;
    std::copy_n(tensor->shape, tensor->rank, managed->shape);
    std::copy_n(tensor->strides, tensor->rank, managed->strides);
    managed->deleter = [](Managed *self) {
      releaseDeviceTensor(self->data);
      delete self;
    };
    retainDeviceTensor(tensor->data);
    *out = managed.release();
  });
}

void lowbit_dlpack_capsule_destructor(void *capsule) {
  // Of the interpreter that calls this. A consumer has renamed a capsule whose tensor it took.
  using IsValid = int (*)(void *, const char *);
  using GetPointer = void *(*)(void *, const char *);
  auto isValid = reinterpret_cast<IsValid>(dlsym(RTLD_DEFAULT, "PyCapsule_IsValid"));
  auto getPointer = reinterpret_cast<GetPointer>(dlsym(RTLD_DEFAULT, "PyCapsule_GetPointer"));
  if (!isValid || !getPointer || !isValid(capsule, "dltensor"))
    return;
  auto *managed = static_cast<Managed *>(getPointer(capsule, "dltensor"));
  managed->deleter(managed);
}

} // extern "C"
