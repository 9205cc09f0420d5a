# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs bundles, through the C interface `lowbit-c/Runtime.h`. Needs no compiler."""
from __future__ import annotations

import ctypes
import json
import math
import os
import weakref
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from . import _native, device as devices
from .errors import InvalidInput, from_code, nearest, one_line
from .signature import DTYPES, Value, dtype_from_onnx, numpy_dtype

# Results up to so many bytes are copied.
_SMALL = 4096


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


def _lend(tensor: _native.Tensor, value: Value, dtype: np.dtype, array: np.ndarray) -> np.ndarray:
    """Points `tensor` at the array; returns what must outlive it (a copy where strides are not whole elements)."""
    if array.dtype != dtype or not array.dtype.isnative or not value.fits(array.shape):
        check_array(value, array)
        array = array.astype(dtype)  # of another byte order
    size = dtype.itemsize
    if not array.flags.aligned or any(stride % size for stride in array.strides):
        array = np.ascontiguousarray(array).reshape(array.shape)
    tensor.data, tensor.dtype, tensor.rank = array.ctypes.data, DTYPES[value.dtype][0], array.ndim
    for axis, (count, stride) in enumerate(zip(array.shape, array.strides)):
        tensor.shape[axis], tensor.strides[axis] = count, stride // size
    return array


def _adopt(library: ctypes.CDLL, tensor: _native.Tensor, dtype: np.dtype) -> np.ndarray:
    """An array over row-major memory that the runtime allocated; freed when the last array on it goes."""
    shape = tuple(tensor.shape[: tensor.rank])
    count = math.prod(shape)
    owner = _native.Tensor.from_buffer_copy(tensor)
    if count * dtype.itemsize <= _SMALL:  # a copy costs less than keeping track
        array = np.empty(shape, dtype)
        ctypes.memmove(array.ctypes.data, tensor.data, array.nbytes)
        library.lowbit_tensor_release(owner)
        return array
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(tensor.data)
    weakref.finalize(memory, library.lowbit_tensor_release, owner)
    return np.frombuffer(memory, dtype, count).reshape(shape)


class Bundle:
    """A compiled model. `run` may be called from several threads at the same time.

    path: the bundle's folder. threads: 0 for one per core that this process may use. isa: a kernel
    variant of the manifest, or None for the best this processor has. device: "cpu", "cuda:0", or "emulator", which runs
    a GPU's code on the CPU, slowly, and checks it; None for what the bundle is made for.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 0, isa: str | None = None, device: str | None = None) -> None:
        self._close = None
        self.path = Path(path)
        if threads < 0:
            raise InvalidInput(f"threads must not be negative: {threads}")
        self._library = library = _native.runtime()
        options = _native.OpenOptions(ctypes.sizeof(_native.OpenOptions), threads, isa.encode() if isa else None,
                                      device.encode() if device else None)
        handle = ctypes.c_void_p()
        _check(library, library.lowbit_bundle_open(os.fsencode(self.path), ctypes.byref(options), ctypes.byref(handle)))
        self._handle = handle
        self._close = weakref.finalize(self, library.lowbit_bundle_close, handle)
        self.inputs: list[Value] = [
            _value(library.lowbit_bundle_input(handle, i).contents) for i in range(library.lowbit_bundle_num_inputs(handle))]
        self.outputs: list[Value] = [
            _value(library.lowbit_bundle_output(handle, i).contents) for i in range(library.lowbit_bundle_num_outputs(handle))]
        self.manifest: dict[str, Any] = json.loads(library.lowbit_bundle_manifest(handle).decode())
        self._input_dtypes = [numpy_dtype(value.dtype) for value in self.inputs]
        self._output_dtypes = [numpy_dtype(value.dtype) for value in self.outputs]
        self._ordinal = int(device[5:] or 0) if device and device.startswith("cuda:") else 0
        self._tensors = _native.Tensor * max(1, len(self.inputs)), _native.Tensor * max(1, len(self.outputs))
        #: The kernel variant in use.
        self.isa: str = library.lowbit_bundle_isa(handle).decode()

    def run(self, inputs: Mapping[str, Any], *, on_device: bool | Collection[str] = False) -> dict[str, Any]:
        """All outputs by name, for one array per input: numpy or DLPack, with the input's dtype and shape.

        On a GPU, inputs that are there already are used in place. on_device: the outputs that stay there, as DeviceTensor, by
        name or all; the others are numpy arrays.
        """
        tensors, lent = self._lend(inputs)
        results = self._tensors[1]()
        for tensor, value in zip(results, self.outputs):
            if on_device is True or on_device and value.name in on_device:
                tensor.device = devices.CUDA
        library = self._library
        _check(library, library.lowbit_bundle_run(self._handle, tensors, len(lent), results, len(self.outputs)))
        return {value.name: devices.DeviceTensor(library, tensor, value, self._ordinal) if tensor.device else _adopt(library, tensor, dtype)
                for tensor, value, dtype in zip(results, self.outputs, self._output_dtypes)}

    def time(self, inputs: Mapping[str, Any], repetitions: int = 100) -> float:
        """Milliseconds that a GPU takes for one run, without copies from and to the host: the mean over so many in a row."""
        tensors, lent = self._lend(inputs)
        milliseconds = ctypes.c_double()
        _check(self._library, self._library.lowbit_bundle_time(self._handle, tensors, len(lent), repetitions, ctypes.byref(milliseconds)))
        return milliseconds.value

    @property
    def plan(self) -> dict[str, int] | None:
        """What was planned for the last run on a device: `steps`, `arena_bytes`, and `buffer_bytes`, which it would take without
        sharing; None where runs are not planned."""
        info = _native.PlanInfo(ctypes.sizeof(_native.PlanInfo))
        if self._library.lowbit_bundle_plan(self._handle, ctypes.byref(info)):
            return None
        return {name: getattr(info, name) for name in ("steps", "arena_bytes", "buffer_bytes")}

    def _lend(self, inputs: Mapping[str, Any]) -> tuple[Any, list[Any]]:
        """The inputs for the library, and what must outlive them."""
        if self._close is None or not self._close.alive:
            raise InvalidInput(f"{self.path} was closed")
        tensors, lent = self._tensors[0](), []
        for tensor, value, dtype in zip(tensors, self.inputs, self._input_dtypes):
            given = inputs.get(value.name)
            if given is None:
                self._explain(inputs)
            if not isinstance(given, np.ndarray) and devices.is_on_device(given):
                lent.append(devices.lend(tensor, value, given))
            else:
                lent.append(_lend(tensor, value, dtype, _as_array(value.name, given)))
        if len(inputs) != len(lent):
            self._explain(inputs)
        return tensors, lent

    def _explain(self, inputs: Mapping[str, Any]) -> NoReturn:
        """Raises for names that do not fit the model's inputs."""
        names = [value.name for value in self.inputs]
        for name in inputs:
            if name not in names:
                raise InvalidInput(f"the model has no input '{name}'{nearest(name, names)}")
        missing = next(value for value in self.inputs if inputs.get(value.name) is None)
        raise InvalidInput(f"input '{missing.name}' is missing; the model wants {missing}")

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
