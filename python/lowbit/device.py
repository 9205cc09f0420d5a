# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Tensors on a GPU: those that a run leaves there, and those of other libraries, through DLPack."""
from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np

from . import _native
from .errors import InvalidInput, one_line
from .signature import DTYPES, Value, numpy_dtype

CUDA = 1  # lowbit_device
_DL_CUDA = 2  # DLDeviceType
# The DLDataType of each dtype: code and bits.
_CODES = {"f32": (2, 32), "f16": (2, 16), "f64": (2, 64), "bf16": (4, 16), "bool": (6, 8), "i8": (0, 8), "i16": (0, 16),
          "i32": (0, 32), "i64": (0, 64), "u8": (1, 8), "u16": (1, 16), "u32": (1, 32), "u64": (1, 64)}


class _Tensor(ctypes.Structure):
    """DLTensor of dlpack.h."""

    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
                ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64)]


class _Managed(ctypes.Structure):
    """DLManagedTensor of dlpack.h."""

    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


_python = ctypes.pythonapi
_python.PyCapsule_New.restype = ctypes.py_object
_python.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_python.PyCapsule_GetPointer.restype = ctypes.c_void_p
_python.PyCapsule_GetPointer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
_NAME = b"dltensor"


class DeviceTensor:
    """A row-major result on a GPU. Other libraries take it without a copy (`torch.from_dlpack`), a run does as an input."""

    def __init__(self, library: ctypes.CDLL, tensor: _native.Tensor, value: Value, ordinal: int) -> None:
        self._library, self._tensor = library, _native.Tensor.from_buffer_copy(tensor)
        self._finalizer = weakref.finalize(self, library.lowbit_tensor_release, self._tensor)
        self._finalizer.atexit = False  # the driver may be gone by then
        self.dtype = value.dtype
        self.ordinal = ordinal
        self.shape: tuple[int, ...] = tuple(tensor.shape[: tensor.rank])

    @property
    def address(self) -> int:
        return self._tensor.data or 0

    def numpy(self) -> np.ndarray:
        """A copy on the host."""
        array = np.empty(self.shape, numpy_dtype(self.dtype))
        status = self._library.lowbit_tensor_read(self._tensor, array.ctypes.data, array.nbytes)
        if status:
            raise InvalidInput(self._library.lowbit_last_error().decode("utf-8", "replace"))
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a tensor on a GPU cannot be an array without a copy")
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def __dlpack_device__(self) -> tuple[int, int]:
        return _DL_CUDA, self.ordinal

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None) -> Any:
        """A capsule for any stream: all work on the tensor is done."""
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError("the tensor can only be had where it is, without a copy")
        managed = ctypes.c_void_p()
        if self._library.lowbit_tensor_to_dlpack(self._tensor, self.ordinal, ctypes.byref(managed)):
            raise BufferError(self._library.lowbit_last_error().decode("utf-8", "replace"))
        # Not a Python function: capsules end while exceptions are on their way.
        end = ctypes.cast(self._library.lowbit_dlpack_capsule_destructor, ctypes.c_void_p)
        return _python.PyCapsule_New(managed, _NAME, end)

    def __repr__(self) -> str:
        return f"<lowbit.DeviceTensor {self.dtype} {list(self.shape)} on cuda:{self.ordinal}>"


def is_on_device(value: Any) -> bool:
    return isinstance(value, DeviceTensor) or hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] == _DL_CUDA


def lend(tensor: _native.Tensor, value: Value, given: Any) -> Any:
    """Points `tensor` at an input on a GPU; returns what must outlive it."""
    if isinstance(given, DeviceTensor):
        ctypes.pointer(tensor)[0] = given._tensor
        tensor.owned = 0
        dtype, owner = given.dtype, given
    else:
        try:  # 1: the legacy default stream, which runs wait for.
            owner = given.__dlpack__(stream=1)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise InvalidInput(f"input '{value.name}': its DLPack tensor cannot be had: {one_line(error)}") from None
        address = _python.PyCapsule_GetPointer(id(owner), _NAME)
        lent = _Managed.from_address(address).tensor
        dtype = next((name for name, code in _CODES.items() if code == (lent.code, lent.bits) and lent.lanes == 1), None)
        if lent.ndim > len(tensor.shape):
            raise InvalidInput(f"input '{value.name}' has {lent.ndim} dimensions")
        tensor.data, tensor.rank, tensor.device = (lent.data or 0) + lent.byte_offset, lent.ndim, CUDA
        stride = 1
        for axis in reversed(range(lent.ndim)):
            tensor.shape[axis] = lent.shape[axis]
            tensor.strides[axis] = lent.strides[axis] if lent.strides else stride
            stride *= lent.shape[axis]
    shape = tuple(tensor.shape[: tensor.rank])
    if dtype != value.dtype or not value.fits(shape):
        raise InvalidInput(f"input '{value.name}' on the GPU is {dtype} {list(shape)}, the model wants {value}")
    tensor.dtype = DTYPES[value.dtype][0]
    return owner
