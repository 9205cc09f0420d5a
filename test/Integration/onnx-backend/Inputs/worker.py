# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compiles and runs cases in one process: no start-up per case."""
from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from cases import Case, variant


#: Cases whose published numbers are wrong in the last place, with the absolute tolerance that this needs: computed in
#: f64, the inverse DFTs are off by 1.5e-6 (numpy's FFT of f32) and the attention by 4.9e-4, a unit of f16.
INEXACT = {"test_dft_inverse": 2e-6, "test_dft_inverse_opset19": 2e-6, "test_attention_4d_causal_fp16_expanded": 2**-11}


def differs(found: Any, expected: Any, rtol: float, atol: float) -> str | None:
    """What differs, or None. Whole numbers must be equal; floats within |expected| × rtol + atol, NaN equal to NaN."""
    if not isinstance(expected, (np.ndarray, np.generic)):
        return "the expected value is not a tensor"
    expected = np.asarray(expected)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f"found {found.dtype}{list(found.shape)}, expected {expected.dtype}{list(expected.shape)}"
    if found.dtype == bool or np.issubdtype(found.dtype, np.integer):
        count = int((found != expected).sum())
        return f"{count} of {found.size} elements differ" if count else None
    if found.dtype.name == "bfloat16":
        rtol = max(rtol, 2**-6)  # two units in the last place, as the onnx package's own runner
    mine, theirs = found.astype(np.float64), expected.astype(np.float64)
    if np.allclose(mine, theirs, rtol, atol, equal_nan=True):
        return None
    with np.errstate(invalid="ignore"):
        worst = np.nanmax(np.abs(mine - theirs)) if mine.size else 0.0
    return f"off by {worst:.3g}"


def run(case: Case, kind: str) -> tuple[str, str]:
    """(result, why): result is pass, skip, unsupported, invalid, error (the run failed) or wrong."""
    from lowbit import errors
    from lowbit.compiler import compile_bundle
    from lowbit.runtime import Bundle

    built = variant(case, kind)
    if not built:
        return "skip", "no different from static"
    model, data = built
    with tempfile.TemporaryDirectory(prefix="lowbit-") as folder:
        path, out = Path(folder) / "model.onnx", Path(folder) / "model.lowbit"
        onnx.save(model, path)
        try:
            compile_bundle(str(path), str(out))
        except errors.Unsupported as error:
            return "unsupported", str(error)
        except errors.Error as error:
            return "invalid", str(error)
        try:
            with Bundle(out, threads=1) as bundle:
                for inputs, expected in data:
                    results = bundle.run(inputs)
                    for info, wanted in zip(model.graph.output, expected):
                        problem = differs(results[info.name], wanted, case.rtol, INEXACT.get(case.name, case.atol))
                        if problem:
                            return "wrong", f"output {info.name}: {problem}"
        except errors.Error as error:
            return "error", str(error)
    return "pass", ""
