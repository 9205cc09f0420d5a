# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs bundles, through the C interface `lowbit-c/Runtime.h`. Needs no compiler."""
from __future__ import annotations

import ctypes
import json
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import _native
from .errors import InvalidInput, Unsupported, from_code, nearest, one_line
from .signature import DTYPES, Value, dtype_from_onnx, dtype_name, numpy_dtype

MAX_RANK = 8


def _check(library: ctypes.CDLL, status: int) -> None:
    if status:
        raise from_code(status, library.lowbit_last_error().decode("utf-8", "replace"))


def _value(info: _native.ValueInfo) -> Value:
    symbols = tuple((info.symbols[i] or b"").decode() for i in range(info.rank))
    return Value(info.name.decode(), dtype_from_onnx(info.dtype), tuple(info.dims[i] for i in range(info.rank)), symbols)


def _as_array(name: str, value: Any) -> np.ndarray:
    """numpy arrays as they are; anything with DLPack on the CPU without a copy."""
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    if hasattr(value, "__dlpack__"):
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise InvalidInput(f"input '{name}': its DLPack tensor cannot be read on the CPU: {one_line(error)}") from None
    raise InvalidInput(f"input '{name}' is {type(value).__name__}, not a numpy array or a DLPack tensor")


def _lend(name: str, array: np.ndarray) -> tuple[_native.Tensor, np.ndarray]:
    """A view of the array for C, and the array that must outlive it (a copy where strides are not whole elements)."""
    if array.ndim > MAX_RANK:
        raise InvalidInput(f"input '{name}' has {array.ndim} dimensions; at most {MAX_RANK} are possible")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride % array.itemsize for stride in array.strides) or not array.flags.aligned:
        array = np.ascontiguousarray(array).reshape(array.shape)
    tensor = _native.Tensor(data=array.ctypes.data, dtype=DTYPES[dtype_name(array.dtype)][0], rank=array.ndim)
    for axis in range(array.ndim):
        tensor.shape[axis] = array.shape[axis]
        tensor.strides[axis] = array.strides[axis] // array.itemsize
    return tensor, array


def _adopt(library: ctypes.CDLL, tensor: _native.Tensor) -> np.ndarray:
    """An array over memory that the runtime allocated; freed when the last array on it goes."""
    shape = tuple(tensor.shape[: tensor.rank])
    dtype = numpy_dtype(dtype_from_onnx(tensor.dtype))
    owner = _native.Tensor.from_buffer_copy(tensor)
    count = int(np.prod(shape, dtype=np.int64))
    if not count or not tensor.data:
        library.lowbit_tensor_release(ctypes.byref(owner))
        return np.empty(shape, dtype)
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(tensor.data)
    weakref.finalize(memory, library.lowbit_tensor_release, owner)
    flat = np.frombuffer(memory, dtype, count)
    strides = tuple(s * dtype.itemsize for s in tensor.strides[: tensor.rank])
    array = flat.reshape(shape)
    if any(n > 1 and s != own for n, s, own in zip(shape, strides, array.strides)):
        raise Unsupported("the runtime returned a result that is not row-major")
    return array


class Bundle:
    """A compiled model. `run` may be called from several threads at the same time.

    path: the bundle's folder. threads: 0 for one per core that this process may use. isa: a kernel
    variant of the manifest, or None for the best this processor has.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 0, isa: str | None = None) -> None:
        self._close = None
        self.path = Path(path)
        if threads < 0:
            raise InvalidInput(f"threads must not be negative: {threads}")
        self._library = library = _native.runtime()
        options = _native.OpenOptions(ctypes.sizeof(_native.OpenOptions), threads, isa.encode() if isa else None)
        handle = ctypes.c_void_p()
        _check(library, library.lowbit_bundle_open(os.fsencode(self.path), ctypes.byref(options), ctypes.byref(handle)))
        self._handle = handle
        self._close = weakref.finalize(self, library.lowbit_bundle_close, handle)
        self.inputs: list[Value] = [
            _value(library.lowbit_bundle_input(handle, i).contents) for i in range(library.lowbit_bundle_num_inputs(handle))]
        self.outputs: list[Value] = [
            _value(library.lowbit_bundle_output(handle, i).contents) for i in range(library.lowbit_bundle_num_outputs(handle))]
        self.manifest: dict[str, Any] = json.loads(library.lowbit_bundle_manifest(handle).decode())
        #: The kernel variant in use.
        self.isa: str = library.lowbit_bundle_isa(handle).decode()

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """All outputs by name, for one array per input: numpy or DLPack, with the input's dtype and shape."""
        if self._close is None or not self._close.alive:
            raise InvalidInput(f"{self.path} was closed")
        names = [value.name for value in self.inputs]
        for name in inputs:
            if name not in names:
                raise InvalidInput(f"the model has no input '{name}'{nearest(name, names)}")
        lent = []
        for value in self.inputs:
            if value.name not in inputs:
                raise InvalidInput(f"input '{value.name}' is missing; the model wants {value}")
            array = _as_array(value.name, inputs[value.name])
            check_array(value, array)
            lent.append(_lend(value.name, array))
        tensors = (_native.Tensor * max(1, len(lent)))(*(tensor for tensor, _ in lent))
        results = (_native.Tensor * max(1, len(self.outputs)))()
        status = self._library.lowbit_bundle_run(self._handle, tensors, len(lent), results, len(self.outputs))
        _check(self._library, status)
        return {value.name: _adopt(self._library, results[i]) for i, value in enumerate(self.outputs)}

    @property
    def bytes(self) -> int:
        """Size of all files of the bundle."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())

    def close(self) -> None:
        """Frees the model now instead of with the object. Results of earlier runs stay valid."""
        if self._close is not None:
            self._close()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        ends = ", ".join(map(str, self.inputs)), ", ".join(map(str, self.outputs))
        return f"<lowbit.Bundle {self.path.name}: {ends[0]} → {ends[1]}; {self.isa}>"


def check_array(value: Value, array: np.ndarray, where: str = "") -> None:
    """Raises InvalidInput unless the array has the dtype and a shape of the input."""
    prefix = f"{where}: " if where else ""
    wanted = numpy_dtype(value.dtype)
    if array.dtype.newbyteorder("=") != wanted:
        raise InvalidInput(f"{prefix}input '{value.name}' is {array.dtype}, the model wants {wanted}; "
                           f"convert it with .astype(\"{wanted}\")")
    if not value.fits(array.shape):
        raise InvalidInput(f"{prefix}input '{value.name}' has shape {list(array.shape)}, the model wants {value}")
