# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Measures what a candidate model lost against a reference, and says whether it matters."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import InvalidInput, nearest
from ..feeds import Window
from ..subjects import Subject, open_subject
from .embed import Embed
from .figures import Figures
from .gates import parse_gate
from .report import SCHEMA, Report
from .run import measure
from .tasks import Classify, Function, LanguageModel, Regress, Task
from .verdict import limits_for, verdict

__all__ = ["Report", "evaluate"]


def evaluate(reference: Any, candidates: Sequence[Any], data: Any, *, task: str = "classify", label_key: str = "label",
             output: str | None = None, gates: Sequence[str] = (), batch: int = 32, window: int = 0, stride: int = 0, pool: str = "mean",
             seed: int = 0, threads: int = 0, progress: Callable[[int, int | None], None] | None = None) -> Report:
    """Runs the reference and all candidates over the data, once, and compares them sample by sample.

    reference, candidates: paths (`ort:`/`lowbit:` chooses the runtime), Bundles, or ONNX models as
    bytes or ModelProto. data: as for `--data`, or a dict of stacked arrays, or an iterable of dicts.
    task: classify, embed, lm, regress, drift or FILE.py:FUNC. batch: samples per run where the models
    allow it. window, stride: for lm, in tokens; 0 takes whole sequences. pool: for embed, mean or
    cls. seed: of the bootstrap.
    """
    if not candidates:
        raise InvalidInput("nothing to compare: name at least one candidate")
    if window < 0 or stride < 0 or (stride and not window) or (window and stride > window):
        raise InvalidInput(f"stride {stride} must be between 1 and the window's length {window}")
    parsed = [parse_gate(text) for text in gates]
    kind = make_task(task, label_key, output, pool)
    reference_subject = open_subject(reference, threads=threads)
    subjects = [open_subject(candidate, threads=threads) for candidate in candidates]
    measured = measure(reference_subject, subjects, data, kind, batch=batch, window=Window(window, stride), progress=progress)
    figures = Figures(measured, seed)
    figures.check_reference()
    names = _distinct([subject.name for subject in subjects])
    entries = [_candidate(figures, i, subject, names[i]) for i, subject in enumerate(subjects)]
    for i, entry in enumerate(entries):
        entry["verdict"] = verdict(figures, i, entry, parsed)
    protocol = {"task": kind.name, **measured.protocol, "seed": seed, "threads": threads or "all cores",
                "confidence_interval": "bootstrap over samples, 2000 resamples, 95 %",
                "slices": "hard: the tenth with the smallest margin of the reference's first choice; easy: the half with the largest",
                "limits": limits_for(kind.name)}
    report = Report({
        "schema": SCHEMA, "protocol": protocol,
        "reference": {"name": reference_subject.name, "runtime": reference_subject.runtime, "bytes": reference_subject.bytes,
                      "task": figures.task_value(0)},
        "candidates": entries,
    }, [figures.quantities(i) for i in range(len(entries))], figures,
        [(subject.manifest or {}).get("layers") for subject in subjects])
    try:
        report.apply(parsed)
    except InvalidInput as error:  # a path that is missing: the figures are worth having all the same
        report.gate_error = error
    return report


def make_task(text: str, label_key: str = "label", output: str | None = None, pool: str = "mean") -> Task:
    """The task that --task names."""
    kinds = {"classify": Classify, "lm": LanguageModel, "regress": Regress, "drift": Task}
    if text in kinds:
        return kinds[text](label_key, output)
    if text == "embed":
        return Embed(label_key, output, pool)
    if ".py:" in text:
        return Function(text, label_key, output)
    raise InvalidInput(f"unknown task '{text}'{nearest(text, [*kinds, 'embed'])}; or FILE.py:FUNC")


def _candidate(figures: Figures, index: int, subject: Subject, name: str) -> dict[str, Any]:
    """One candidate's part of the report, in the order in which it is read; the verdict is added by the caller."""
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are results here, and reported
        return {
            "name": name, "runtime": subject.runtime, "bytes": subject.bytes,
            "task": figures.task_value(index + 1), "drift": figures.drift(index), "tail": figures.tails(index),
            "worst": figures.worst(index), "slices": figures.slices(index), "flips": figures.flips(index),
        }


def _distinct(names: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name}#{names[: i + 1].count(name)}" for i, name in enumerate(names)]
