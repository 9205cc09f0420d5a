# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Models to run, whichever runtime runs them: bundles, and `.onnx` files in onnxruntime."""
from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .data import load_function
from .errors import InvalidInput, OutOfMemory, Unavailable, Unsupported, nearest, one_line
from .runtime import Bundle
from .signature import Value, numpy_dtype

_ORT_TYPES = {
    "tensor(float)": "f32", "tensor(double)": "f64", "tensor(float16)": "f16", "tensor(bfloat16)": "bf16",
    "tensor(int8)": "i8", "tensor(uint8)": "u8", "tensor(int16)": "i16", "tensor(uint16)": "u16",
    "tensor(int32)": "i32", "tensor(uint32)": "u32", "tensor(int64)": "i64", "tensor(uint64)": "u64", "tensor(bool)": "bool",
}


class Subject(Protocol):
    """One model in one runtime. bytes: size on disk, None where it is not known."""

    name: str
    runtime: str
    inputs: list[Value]
    outputs: list[Value]
    bytes: int | None
    manifest: dict[str, Any] | None

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...


class BundleSubject:
    def __init__(self, bundle: Bundle, name: str | None = None, device: str | None = None) -> None:
        self._bundle = bundle
        self.name = name or bundle.path.name
        self.runtime = f"lowbit ({device or bundle.isa})"
        self.inputs, self.outputs = bundle.inputs, bundle.outputs
        self.bytes: int | None = bundle.bytes
        self.manifest: dict[str, Any] | None = bundle.manifest

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._bundle.run(inputs)


class OrtSubject:
    """An ONNX model in onnxruntime's CPU provider. model: a path, or a serialized model.

    shared: its threads sleep between runs instead of spinning, so that other models can be timed in the same process.
    """

    def __init__(self, model: Path | bytes, name: str, threads: int = 0, shared: bool = False) -> None:
        try:
            import onnxruntime as ort
        except ImportError:
            raise Unavailable("running an .onnx file needs onnxruntime: pip install onnxruntime, or compile the model "
                              "to a bundle first") from None
        options = ort.SessionOptions()
        options.log_severity_level = 4
        if threads:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        if shared:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        source = model if isinstance(model, bytes) else str(model)
        try:
            self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own classes, derived from Exception alone
            raise _ort_error(error, name) from None
        self.name = name
        self.runtime = f"onnxruntime {ort.__version__}"
        self.inputs = [_ort_value(arg) for arg in self._session.get_inputs()]
        self.outputs = [_ort_value(arg) for arg in self._session.get_outputs()]
        self.path = None if isinstance(model, bytes) else model
        self.bytes = len(model) if isinstance(model, bytes) else _onnx_bytes(model)
        self.manifest = None

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            results = self._session.run(None, dict(inputs))
        except Exception as error:
            raise _ort_error(error, self.name) from None
        return {value.name: result for value, result in zip(self.outputs, results)}


def _ort_error(error: Exception, name: str) -> Exception:
    text = " ".join(str(error).split())[:300]
    kind = type(error).__name__
    if "bad_alloc" in text or "Failed to allocate" in text or isinstance(error, MemoryError):
        return OutOfMemory(f"{name}: onnxruntime is out of memory: {text}")
    if kind in ("NotImplemented", "InvalidGraph") or "is not a registered function" in text or "No Op registered" in text:
        return Unsupported(f"{name}: onnxruntime cannot run it: {text}")
    return InvalidInput(f"{name}: onnxruntime: {text}")


def _ort_value(arg: Any) -> Value:
    if arg.type not in _ORT_TYPES:
        raise Unsupported(f"'{arg.name}' is a {arg.type}; only tensors are supported")
    dims = tuple(d if isinstance(d, int) and d >= 0 else -1 for d in arg.shape)
    symbols = tuple(d if isinstance(d, str) else "" for d in arg.shape)
    return Value(arg.name, _ORT_TYPES[arg.type], dims, symbols)


def _onnx_bytes(path: Path) -> int | None:
    """The file and its external data; None where external data cannot be told without the onnx package."""
    size = path.stat().st_size
    try:
        import onnx
        from onnx.external_data_helper import uses_external_data
    except ImportError:
        return None
    model = onnx.load(path, load_external_data=False)
    names = {entry.value for tensor in model.graph.initializer if uses_external_data(tensor)
             for entry in tensor.external_data if entry.key == "location"}
    return size + sum((path.parent / name).stat().st_size for name in names)


class FunctionSubject:
    """A Python function: dict of inputs → dict of outputs, with the inputs and outputs of another model."""

    def __init__(self, function: Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]], like: Subject) -> None:
        self._function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        self.runtime, self.bytes, self.manifest = "Python", None, None
        self.inputs, self.outputs = like.inputs, like.outputs

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            results = dict(self._function(inputs))
        except Exception as error:
            raise InvalidInput(f"{self.name} raised {type(error).__name__}: {one_line(error)}") from error
        for value in self.outputs:
            if value.name not in results:
                raise InvalidInput(f"{self.name} returned no '{value.name}'{nearest(value.name, results)}")
        return {value.name: np.asarray(results[value.name]) for value in self.outputs}


def device_of(text: str) -> tuple[Path, str | None]:
    """BUNDLE@DEVICE in its parts: the device is cpu, cuda:N or emulator."""
    head, sign, tail = text.rpartition("@")
    if sign and re.fullmatch(r"cpu|emulator|cuda(:\d+)?", tail) and not Path(text).exists():
        return Path(head), tail
    return Path(text), None


def is_function(source: Any) -> bool:
    """Whether the model is a Python function, or FILE.py:FUNC."""
    if isinstance(source, (str, os.PathLike)):
        return isinstance(source, str) and ".py:" in source
    return callable(source) and not isinstance(source, (Bundle, BundleSubject, OrtSubject, FunctionSubject))


def open_subject(source: Any, *, threads: int = 0, shared: bool = False, like: Subject | None = None) -> Subject:
    """A model from a path (`ort:` or `lowbit:` before it chooses the runtime, `@emulator` or another device after a bundle's
    where it runs; FILE.py:FUNC is a function), a Bundle, bytes,
    a ModelProto, or a function with the inputs and outputs of `like`."""
    if isinstance(source, Bundle):
        return BundleSubject(source)
    if isinstance(source, (BundleSubject, OrtSubject, FunctionSubject)):
        return source
    if isinstance(source, bytes):
        return OrtSubject(source, "model", threads)
    if hasattr(source, "SerializeToString"):
        return OrtSubject(source.SerializeToString(), getattr(source.graph, "name", "") or "model", threads)
    if is_function(source):
        if like is None:
            raise InvalidInput("a function needs another model beside it, which says what the inputs and outputs are")
        return FunctionSubject(load_function(source) if isinstance(source, str) else source, like)
    text = os.fspath(source)
    runtime, colon, rest = text.partition(":")
    if not colon or runtime not in ("ort", "lowbit"):
        runtime, rest = "", text
    path, device = device_of(rest)
    if not path.exists():
        raise InvalidInput(f"{path}: no such file or bundle")
    if path.is_dir():
        if runtime == "ort":
            raise InvalidInput(f"{path} is a bundle; onnxruntime cannot run it")
        name = f"{path.name}@{device}" if device else None
        return BundleSubject(Bundle(path, threads=threads, device=device), name, device)
    if device:
        raise InvalidInput(f"{path} is not a bundle, so it has no device {device}")
    if runtime == "lowbit":
        return _compiled(path, threads)
    if path.stat().st_size == 0:
        raise InvalidInput(f"{path} is empty")
    return OrtSubject(path, path.name, threads, shared)


def _compiled(path: Path, threads: int) -> Subject:
    from .compiler import compile_bundle

    folder = tempfile.TemporaryDirectory(prefix="lowbit-")
    compile_bundle(str(path), os.path.join(folder.name, "model.lowbit"))
    bundle = Bundle(Path(folder.name) / "model.lowbit", threads=threads)
    bundle._folder = folder  # lives as long as the bundle
    subject = BundleSubject(bundle, f"lowbit:{path.name}")
    subject.runtime += ", compiled as fp32"
    return subject


def random_feed(inputs: list[Value], rng: np.random.Generator, dims: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Inputs drawn from N(0, 1), or from 0 … 99 for integers; dynamic sizes from `dims`, else 1."""
    feed = {}
    for value in inputs:
        shape = [dims.get(symbol, 1) if d < 0 else d for d, symbol in zip(value.dims, value.symbols)]
        dtype = numpy_dtype(value.dtype)
        if value.dtype == "bool":
            feed[value.name] = rng.random(shape) < 0.5
        elif dtype.kind in "iu":
            feed[value.name] = rng.integers(0, 100, shape).astype(dtype)
        else:
            feed[value.name] = rng.standard_normal(shape).astype(dtype)
    return feed
