# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""lowbit: compile ONNX models to low-bit code, run them, and measure what quantization changed."""
from .compiler import calibrate, compile, export
from .errors import Error, GateFailed, InternalError, InvalidInput, OutOfMemory, Unavailable, Unsupported
from .eval import Report, evaluate
from .restore import restore
from .runtime import Bundle

__version__ = "0.1.0"

__all__ = [
    "Bundle", "Error", "GateFailed", "InternalError", "InvalidInput", "OutOfMemory", "Report", "Unavailable",
    "Unsupported", "calibrate", "compile", "evaluate", "export", "restore",
]
