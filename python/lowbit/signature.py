# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Inputs and outputs of a model, whichever runtime holds it."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import Unavailable, Unsupported

#: Bundle dtype name → (ONNX TensorProto.DataType, numpy dtype name).
DTYPES = {
    "f32": (1, "float32"), "u8": (2, "uint8"), "i8": (3, "int8"), "u16": (4, "uint16"), "i16": (5, "int16"),
    "i32": (6, "int32"), "i64": (7, "int64"), "bool": (9, "bool"), "f16": (10, "float16"), "f64": (11, "float64"),
    "u32": (12, "uint32"), "u64": (13, "uint64"), "bf16": (16, "bfloat16"),
    "f8e4m3fn": (17, "float8_e4m3fn"), "f8e4m3fnuz": (18, "float8_e4m3fnuz"), "f8e5m2": (19, "float8_e5m2"),
    "f8e5m2fnuz": (20, "float8_e5m2fnuz"), "u4": (21, "uint4"), "i4": (22, "int4"), "f4e2m1": (23, "float4_e2m1fn"),
    "f8e8m0": (24, "float8_e8m0fnu"), "u2": (25, "uint2"), "i2": (26, "int2"), "f6e2m3": (27, "float6_e2m3fn"),
    "f6e3m2": (28, "float6_e3m2fn"),
}
_BY_ONNX = {number: name for name, (number, _) in DTYPES.items()}


def numpy_dtype(name: str) -> np.dtype:
    """numpy's dtype for a bundle dtype name."""
    if DTYPES[name][0] >= DTYPES["bf16"][0]:  # numpy itself has no such type
        try:
            import ml_dtypes
        except ImportError:
            raise Unavailable(f"a tensor of type {name} needs the Python package ml_dtypes") from None
        return np.dtype(getattr(ml_dtypes, DTYPES[name][1]))
    return np.dtype(DTYPES[name][1])


def dtype_from_onnx(number: int) -> str:
    """The bundle dtype name of an ONNX TensorProto.DataType."""
    name = _BY_ONNX.get(number)
    if name is None:
        raise Unsupported(f"ONNX data type {number} is not supported")
    return name


@dataclass(frozen=True)
class Value:
    """One input or output: `dims` are −1 where dynamic; equal non-empty `symbols` are equal sizes."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    symbols: tuple[str, ...]

    def __str__(self) -> str:
        shape = ", ".join((s or "?") if d < 0 else str(d) for d, s in zip(self.dims, self.symbols))
        return f"{self.name}: {self.dtype} [{shape}]"

    def fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == len(self.dims) and all(d < 0 or d == n for d, n in zip(self.dims, shape))

    @property
    def dynamic_first(self) -> bool:
        return bool(self.dims) and self.dims[0] < 0


def batchable(inputs: list[Value], outputs: list[Value]) -> bool:
    """Whether several samples can go through at once: all first axes dynamic, with one symbol."""
    values = [*inputs, *outputs]
    symbols = {value.symbols[0] for value in inputs if value.dims} - {""}
    return bool(inputs) and all(value.dynamic_first for value in values) and len(symbols) <= 1
