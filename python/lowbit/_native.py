# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Finds what was built in C++: the runtime library and the compiler module."""
from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from .errors import Unavailable, Unsupported, one_line

RUNTIME_VERSION = 1
_PACKAGE = Path(__file__).resolve().parent


def _places() -> Iterator[Path]:
    """Beside the package, then $LOWBIT_BUILD, then the build folder of a checkout."""
    yield _PACKAGE
    if "LOWBIT_BUILD" in os.environ:
        yield Path(os.environ["LOWBIT_BUILD"])
    yield _PACKAGE.parents[1] / "build"


def _find(pattern: str) -> Path:
    for place in _places():
        for folder in (place, place / "lib", place / "lib" / "lowbit"):
            found = sorted(folder.glob(pattern))
            if found:
                return found[0]
    looked = ", ".join(str(place) for place in _places())
    raise Unavailable(f"{pattern.replace('*', '')} not found in {looked}; build lowbit, or set LOWBIT_BUILD to its build folder")


class Tensor(ctypes.Structure):
    """lowbit_tensor of lowbit-c/Runtime.h."""

    _fields_ = [
        ("data", ctypes.c_void_p), ("dtype", ctypes.c_int32), ("rank", ctypes.c_int32),
        ("shape", ctypes.c_int64 * 8), ("strides", ctypes.c_int64 * 8),
        ("device", ctypes.c_int32), ("owned", ctypes.c_int32),
    ]


class ValueInfo(ctypes.Structure):
    """lowbit_value_info of lowbit-c/Runtime.h."""

    _fields_ = [
        ("name", ctypes.c_char_p), ("dtype", ctypes.c_int32), ("rank", ctypes.c_int32),
        ("dims", ctypes.POINTER(ctypes.c_int64)), ("symbols", ctypes.POINTER(ctypes.c_char_p)),
    ]


class OpenOptions(ctypes.Structure):
    """lowbit_open_options of lowbit-c/Runtime.h."""

    _fields_ = [("size", ctypes.c_uint32), ("threads", ctypes.c_int32), ("isa", ctypes.c_char_p),
                ("device", ctypes.c_char_p)]


class PlanInfo(ctypes.Structure):
    """lowbit_plan_info of lowbit-c/Runtime.h."""

    _fields_ = [("size", ctypes.c_uint32), ("reserved", ctypes.c_uint32), ("steps", ctypes.c_int64), ("arena_bytes", ctypes.c_int64),
                ("buffer_bytes", ctypes.c_int64)]


@functools.cache
def runtime() -> ctypes.CDLL:
    """liblowbit-runtime with the signatures of lowbit-c/Runtime.h."""
    path = _find("liblowbit-runtime.so")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise Unavailable(f"{path} cannot be loaded: {one_line(error)}") from None
    handle, size, tensors = ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(Tensor)
    value = ctypes.POINTER(ValueInfo)
    signatures = {
        "lowbit_runtime_version": (ctypes.c_uint32, []),
        "lowbit_bundle_open": (ctypes.c_int, [ctypes.c_char_p, ctypes.POINTER(OpenOptions), ctypes.POINTER(handle)]),
        "lowbit_bundle_close": (None, [handle]),
        "lowbit_bundle_num_inputs": (size, [handle]),
        "lowbit_bundle_num_outputs": (size, [handle]),
        "lowbit_bundle_input": (value, [handle, size]),
        "lowbit_bundle_output": (value, [handle, size]),
        "lowbit_bundle_manifest": (ctypes.c_char_p, [handle]),
        "lowbit_bundle_isa": (ctypes.c_char_p, [handle]),
        "lowbit_bundle_run": (ctypes.c_int, [handle, tensors, size, tensors, size]),
        "lowbit_bundle_plan": (ctypes.c_int, [handle, ctypes.POINTER(PlanInfo)]),
        "lowbit_bundle_time": (ctypes.c_int, [handle, tensors, size, ctypes.c_int64, ctypes.POINTER(ctypes.c_double)]),
        "lowbit_tensor_read": (ctypes.c_int, [tensors, ctypes.c_void_p, size]),
        "lowbit_tensor_to_dlpack": (ctypes.c_int, [tensors, ctypes.c_int32, ctypes.POINTER(handle)]),
        "lowbit_tensor_release": (None, [tensors]),
        "lowbit_last_error": (ctypes.c_char_p, []),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    version = library.lowbit_runtime_version()
    if version != RUNTIME_VERSION:
        raise Unsupported(f"{path} is runtime version {version}; this package needs {RUNTIME_VERSION}")
    return library


@functools.cache
def compiler() -> ModuleType:
    """The nanobind module over the compiler's driver."""
    name = "lowbit._compiler"
    if sys.prefix != sys.base_prefix:  # The compiler looks for ptxas in this environment, activated or not.
        os.environ.setdefault("VIRTUAL_ENV", sys.prefix)
    if name in sys.modules:
        return sys.modules[name]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        pass
    except ImportError as error:
        raise Unavailable(f"the compiler module cannot be loaded: {one_line(error)}") from None
    path = _find("_compiler*.so")
    spec = importlib.util.spec_from_file_location(name, path)
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        raise Unavailable(f"{path} cannot be loaded: {one_line(error)}") from None
    sys.modules[name] = module
    return module
