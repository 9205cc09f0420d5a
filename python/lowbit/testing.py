# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""For tests of one's own models: assertions that say what changed.

    from lowbit.testing import assert_no_cliff

    def test_the_int8_model():
        assert_no_cliff("model.onnx", "model.lowbit", "eval.npz", task="classify", gates=["drift.top1_agreement >= 0.99"])
"""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .eval import Report, evaluate
from .eval.baseline import Baseline

__all__ = ["assert_no_cliff", "assert_verdict"]


def assert_verdict(reference: Any, candidate: Any, data: Any, *, allowed: Sequence[str] = ("ok",), gates: Sequence[str] = (),
                   baseline: str | os.PathLike[str] | None = None, **options: Any) -> Report:
    """Evaluates one candidate; AssertionError unless its verdict is among `allowed`, all gates hold, and nothing is worse
    than in the result `baseline`. options: as for `lowbit.evaluate`. Returns the report."""
    __tracebackhide__ = True
    report = evaluate(reference, [candidate], data, gates=gates, **options)
    if report.gate_error:
        raise report.gate_error
    found = report.data["candidates"][0]
    verdict, failures = found["verdict"], []
    if verdict["value"] not in allowed:
        where = f" ({verdict['where']})" if verdict["where"] else ""
        failures.append(f"verdict {verdict['value']}: {verdict['rule']}{where}")
    failures += [f"gate {g['gate']} does not hold: {g['value']}" for g in report.data["gates"] if not g["holds"]]
    if baseline is not None:
        report.data["baseline"] = Baseline(baseline).compare(report.data)
        failures += [entry["what"] for entry in report.data["baseline"]["regressions"]]
    assert not failures, f"{found['name']}: " + "; ".join(failures)
    return report


def assert_no_cliff(reference: Any, candidate: Any, data: Any, **options: Any) -> Report:
    """`assert_verdict` that also allows drift. Data that are too few to tell fail."""
    __tracebackhide__ = True
    return assert_verdict(reference, candidate, data, allowed=("ok", "drift"), **options)
