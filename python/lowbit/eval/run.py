# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs the reference and every candidate over the same feeds, side by side, and keeps columns.

Outputs are compared and dropped feed by feed: memory grows with the number of samples (or scored
positions), not with the size of the outputs.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..data import open_data
from ..errors import InvalidInput, nearest
from ..feeds import Feed, Feeder, Window
from ..kvcache import with_float_cache
from ..signature import batchable
from ..subjects import Subject
from .metrics import OutputDrift
from .tasks import Columns, Task

SLICE = "slice:"


@dataclass
class Measured:
    """Everything that was seen. Columns have one entry per unit, in order; `sample` says whose."""

    task: Task
    samples: int
    reference: Columns
    candidates: list[Columns]
    outputs: list[dict[str, OutputDrift]]
    slices: dict[str, np.ndarray]
    origins: list[str]
    protocol: dict[str, Any] = field(default_factory=dict)


class _Table:
    """Columns under construction."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}

    def add(self, columns: Columns) -> None:
        for name, values in columns.items():
            self._parts.setdefault(name, []).append(values)

    def columns(self) -> Columns:
        return {name: np.concatenate(parts) for name, parts in self._parts.items()}


def output_names(reference: Subject, candidate: Subject) -> dict[str, str]:
    """For each output of the reference its name in the candidate. Single outputs pair whatever their names."""
    own = [value.name for value in candidate.outputs]
    wanted = [value.name for value in reference.outputs]
    if len(own) == len(wanted) == 1:
        return {wanted[0]: own[0]}
    for name in wanted:
        if name not in own:
            raise InvalidInput(f"{candidate.name} has no output '{name}' of {reference.name}{nearest(name, own)}")
    return {name: name for name in wanted}


def _check_inputs(reference: Subject, candidate: Subject) -> None:
    own = {value.name: value for value in candidate.inputs}
    for value in reference.inputs:
        if value.name not in own:
            raise InvalidInput(f"{candidate.name} has no input '{value.name}' of {reference.name}{nearest(value.name, own)}")
        if own[value.name].dtype != value.dtype:
            raise InvalidInput(f"input '{value.name}' is {own[value.name].dtype} in {candidate.name}, {value.dtype} in {reference.name}")
    extra = set(own) - {value.name for value in reference.inputs}
    if extra:
        raise InvalidInput(f"{candidate.name} has an input '{sorted(extra)[0]}' that {reference.name} lacks")


def _slices_of(feed: Feed, units: int, samples: np.ndarray, positions: np.ndarray | None) -> Columns:
    """The feed's `slice:` arrays, one entry per unit."""
    result = {}
    for key, array in feed.extras.items():
        if not key.startswith(SLICE):
            continue
        array = np.asarray(array)
        array = array if array.ndim and len(array) == feed.count else array[None]
        name = key[len(SLICE):]
        local = samples - feed.start
        if array.ndim == 2 and positions is not None and array.shape[1] > 1:
            values = array[local, positions]
        elif array.size == feed.count:
            values = array.reshape(-1)[local]
        else:
            raise InvalidInput(f"{feed.origin}: '{key}' has shape {list(array.shape)}, expected one entry per sample")
        if values.dtype.kind not in "iubUS":
            raise InvalidInput(f"{feed.origin}: '{key}' is {values.dtype}; slices are integers, booleans or text")
        result[name] = values.astype(str)
    return result


def measure(reference: Subject, candidates: list[Subject], source: Any, task: Task, *, batch: int = 32,
            window: Window = Window(), progress: Callable[[int, int | None], None] | None = None) -> Measured:
    """One pass over the data. progress(samples done, of how many or None) is called after each feed."""
    if len({bool((subject.manifest or {}).get("kv_cache")) for subject in (reference, *candidates)}) > 1:
        # Those that hold their cache in integers are compared with float ones at the float side of it.
        reference, *candidates = (with_float_cache(subject) for subject in (reference, *candidates))
    for candidate in candidates:
        _check_inputs(reference, candidate)
    names = [output_names(reference, candidate) for candidate in candidates]
    subjects = [reference, *candidates]
    # The one that takes least decides how samples are fed, so that all see the same batches.
    tightest = next((s for s in subjects if not batchable(s.inputs, s.outputs)), reference)
    if task.name == "lm":
        batch = 1
    feeder = Feeder(open_data(source), tightest.inputs, tightest.outputs, batch=batch,
                    label_key=task.label_key if task.needs_label else None, window=window)
    task.prepare(feeder.data, feeder.first, feeder.count)
    chosen = task.choose_output([value.name for value in reference.outputs])
    own, theirs, slices = _Table(), [_Table() for _ in candidates], _Table()
    drifts = [{name: OutputDrift() for name in pairs} for pairs in names]
    origins: list[str] = []
    samples, expected_slices = 0, None
    largest = 0
    for feed in feeder:
        outputs = reference.run(feed.inputs)
        if not np.isfinite(np.asarray(outputs[chosen], np.float64)).all():
            raise InvalidInput(f"{feed.origin}: the reference's output '{chosen}' holds NaN or infinity for sample {feed.start}; nothing can be compared with it")
        columns = task.reference(outputs, chosen, feed)
        for i, candidate in enumerate(candidates):
            results = candidate.run(feed.inputs)
            results = {name: results[own_name] for name, own_name in names[i].items()}
            for name, drift in drifts[i].items():
                if results[name].shape != outputs[name].shape:
                    raise InvalidInput(f"{candidate.name}: output '{name}' has shape {list(results[name].shape)}, the reference's {list(outputs[name].shape)}")
                if outputs[name].dtype.kind in "fiub":
                    drift.add(outputs[name], results[name])
            theirs[i].add(task.candidate(results, chosen, feed))
        if "sample" not in columns:
            columns["sample"] = np.arange(feed.start, feed.start + feed.count)
        own.add(columns)
        here = _slices_of(feed, len(columns["sample"]), columns["sample"], columns.get("position"))
        if expected_slices is not None and set(here) != expected_slices:
            raise InvalidInput(f"{feed.origin}: its slice: arrays are {sorted(here)}, those of earlier samples {sorted(expected_slices)}")
        expected_slices = set(here)
        slices.add(here)
        end = feed.start + feed.count - feeder.first
        if end > samples:
            origins.extend([feed.origin] * (end - samples))
            samples = end
        largest = max(largest, feed.count)
        if progress:
            progress(samples, feeder.count)
    table = own.columns()
    if not len(table.get("sample", ())):
        raise InvalidInput("the data hold nothing to score: sequences need at least two tokens")
    protocol = {"data": feeder.data.name, "samples": samples, "units": len(table["sample"]), "unit": task.unit, "batch": largest,
                "output": chosen, **task.protocol}
    if feeder.notes:
        protocol["notes"] = feeder.notes
    if task.name == "lm":
        protocol.update(window=window.length or "whole sequence", stride=window.stride or "window",
                        bos="as in the tokens; none is added", first_scored_position=1)
    return Measured(task, samples, table, [t.columns() for t in theirs], drifts, slices.columns(), origins, protocol)
