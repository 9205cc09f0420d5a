# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Measures what a candidate model lost against a reference, and says whether it matters."""
from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidInput, nearest
from ..feeds import Window
from ..tokenizer import Tokenizer
from ..subjects import Subject, is_function, open_subject
from .choices import Choices
from .embed import Embed
from .figures import Figures
from .gates import parse_gate
from .generate import Cloze, Generate
from .items import as_data, read_lines
from .ladder import ladder
from .report import SCHEMA, Report
from .run import measure
from .statistics import RESAMPLES
from .tasks import Classify, Function, LanguageModel, Regress, Task
from .words import add_words
from .verdict import limits_for, verdict

__all__ = ["Report", "evaluate"]

TEXT_TASKS = (Choices, Cloze, Generate)
SCHEMA_FILE = Path(__file__).with_name("schema.json")


def evaluate(reference: Any, candidates: Sequence[Any], data: Any, *, task: str = "classify", label_key: str = "label",
             output: str | None = None, metric: str | None = None, gates: Sequence[str] = (), batch: int = 32, window: int = 0, stride: int = 0,
             pool: str = "mean", seed: int = 0, threads: int = 0, progress: Callable[[int, int | None], None] | None = None,
             checkpoint: str | os.PathLike[str] | None = None, resume: bool = False, calibration_data: Any = None,
             tokenizer: str | os.PathLike[str] | None = None, scorer: str | None = None) -> Report:
    """Runs the reference and all candidates over the data, once, and compares them sample by sample.

    reference, candidates: paths (`ort:`/`lowbit:` chooses the runtime), Bundles, ONNX models as bytes
    or ModelProto, or functions dict → dict of arrays. data: as for `--data`, or a dict
    of stacked arrays, or an iterable of dicts. task: classify, embed, lm, regress, drift, choices, cloze, generate or FILE.py:FUNC;
    metric: the task value, where a task has several. batch: samples per run where the models allow it.
    window, stride: for lm, in tokens; 0 takes whole sequences. pool: for embed, mean or cls. seed: of the
    bootstrap. checkpoint: a file that an interrupted run leaves; with resume it goes on from there, to the
    same figures. calibration_data: warns of samples that are in both. tokenizer: a tokenizer.json, for
    tasks on text, and for the worst tokens of lm as text. scorer: of generate, FILE.py:FUNC.
    """
    if not candidates:
        raise InvalidInput("nothing to compare: name at least one candidate")
    if window < 0 or stride < 0 or (stride and not window) or (window and stride > window):
        raise InvalidInput(f"stride {stride} must be between 1 and the window's length {window}")
    if resume and checkpoint is None:
        raise InvalidInput("nothing to resume from: name the checkpoint")
    parsed = [parse_gate(text) for text in gates]
    words = None if tokenizer is None else Tokenizer(tokenizer)
    kind = make_task(task, label_key, output, pool, metric, scorer)
    reference_subject, subjects = _open(reference, candidates, threads)
    if isinstance(kind, TEXT_TASKS):
        if calibration_data is not None:
            raise InvalidInput(f"task {kind.name} reads text, which cannot be looked for in calibration data; leave --calibration-data out")
        name, first, lines = read_lines(data)
        reference_subject, *subjects = kind.wrap([reference_subject, *subjects], lines, words)
        data, words = as_data(name, first, lines), None
    measured = measure(reference_subject, subjects, data, kind, batch=batch, window=Window(window, stride), progress=progress,
                       checkpoint=None if checkpoint is None else Path(checkpoint), resume=resume, calibration_data=calibration_data)
    figures = Figures(measured, seed)
    figures.check_reference()
    names = _distinct([subject.name for subject in subjects])
    entries = [_candidate(figures, i, subject, names[i]) for i, subject in enumerate(subjects)]
    figures.correct(entries)
    if words is not None:
        for entry in entries:
            add_words(entry["worst"], words)
    for i, entry in enumerate(entries):
        entry["verdict"] = verdict(figures, i, entry, parsed)
    protocol = {"task": kind.name, "metric": kind.metric, "higher_is_better": kind.higher_is_better, **measured.protocol, "seed": seed, "threads": threads or "all cores",
                "confidence_interval": f"bootstrap over {figures.seen.clusters}s, {RESAMPLES} resamples, 95 %",
                "several_candidates": "p-values are adjusted by Holm's method" if len(entries) > 1 else "one candidate: nothing to adjust",
                "slices": "hard: the tenth with the smallest margin of the reference's first choice; easy: the half with the largest",
                "versions": _versions(), "limits": limits_for(kind.name)}
    if kind.retained:
        protocol["memory"] = f"grows with the samples: keeps {kind.retained}"
    report = Report({
        "schema": SCHEMA, "protocol": protocol,
        "reference": {"name": reference_subject.name, "runtime": reference_subject.runtime, "bytes": reference_subject.bytes,
                      "task": figures.task_value(0)},
        "candidates": entries, "ladder": ladder(subjects, entries, kind.name), "guards": measured.guards,
    }, [{name: tail.representative() for name, tail in tails.items()} for tails in figures.seen.tails], figures,
        [(subject.manifest or {}).get("layers") for subject in subjects])
    try:
        report.apply(parsed)
    except InvalidInput as error:  # a path that is missing: the figures are worth having all the same
        report.gate_error = error
    return report


def _open(reference: Any, candidates: Sequence[Any], threads: int) -> tuple[Subject, list[Subject]]:
    """The models. A function gets its inputs and outputs from the reference, or as the reference from the first candidate."""
    if not is_function(reference):
        first = open_subject(reference, threads=threads)
        return first, [open_subject(candidate, threads=threads, like=first) for candidate in candidates]
    model = next((candidate for candidate in candidates if not is_function(candidate)), None)
    like = None if model is None else open_subject(model, threads=threads)
    return (open_subject(reference, threads=threads, like=like),
            [like if candidate is model else open_subject(candidate, threads=threads, like=like) for candidate in candidates])


def make_task(text: str, label_key: str = "label", output: str | None = None, pool: str = "mean", metric: str | None = None,
              scorer: str | None = None) -> Task:
    """The task that --task names."""
    kinds = {"classify": Classify, "lm": LanguageModel, "regress": Regress, "drift": Task, "choices": Choices, "cloze": Cloze}
    if scorer is not None and text != "generate":
        raise InvalidInput("--scorer is for task generate")
    if text == "generate":
        return Generate(label_key, output, metric, scorer)
    if text in kinds:
        return kinds[text](label_key, output, metric)
    if text == "embed":
        return Embed(label_key, output, pool, metric)
    if ".py:" in text:
        return Function(text, label_key, output, metric)
    raise InvalidInput(f"unknown task '{text}'{nearest(text, [*kinds, 'embed', 'generate'])}; or FILE.py:FUNC")


def _candidate(figures: Figures, index: int, subject: Subject, name: str) -> dict[str, Any]:
    """One candidate's part of the report, in the order in which it is read; the verdict is added by the caller."""
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are results here, and reported
        return {
            "name": name, "runtime": subject.runtime, "bytes": subject.bytes,
            "task": figures.task_value(index + 1), "drift": figures.drift(index), "tail": figures.tails(index),
            "worst": figures.worst(index), "slices": figures.slices(index), "flips": figures.flips(index),
        }


def _versions() -> dict[str, str]:
    """What computed the figures; the models' runtimes are named beside them."""
    from .. import __version__

    return {"lowbit": __version__, "numpy": np.__version__, "python": platform.python_version()}


def _distinct(names: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name}#{names[: i + 1].count(name)}" for i, name in enumerate(names)]
