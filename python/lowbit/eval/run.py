# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs the reference and every candidate over the same feeds, side by side.

Outputs are compared and dropped feed by feed; what is kept does not grow with the number of samples.
"""
from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data import open_data
from ..errors import InvalidInput, nearest
from ..feeds import Feed, Feeder, Window
from ..kvcache import with_float_cache
from ..signature import batchable
from ..subjects import Subject
from . import state
from .accumulate import Accumulated
from .guards import Guards
from .tasks import Columns, Task

SLICE = "slice:"
CHECKPOINT_SECONDS = 30.0  # between two checkpoints


@dataclass
class Measured:
    """Everything that was seen of one run."""

    task: Task
    seen: Accumulated
    protocol: dict[str, Any] = field(default_factory=dict)
    guards: dict[str, Any] = field(default_factory=dict)


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


class Checkpoint:
    """Where a run leaves what it has seen, and goes on from. identity: what must be the same for that."""

    def __init__(self, path: Path | None, identity: dict[str, Any]) -> None:
        self.path, self.identity = path, identity
        self._written = time.monotonic()
        self.digest = 0  # of the inputs of all feeds so far

    def load(self, seen: Accumulated, guards: Guards) -> tuple[int, int]:
        """(feeds to skip, their digest); (0, 0) where there is no checkpoint."""
        if self.path is None or not self.path.exists():
            return 0, 0
        saved = state.load(self.path)
        for key, value in self.identity.items():
            if saved.get("identity", {}).get(key) != json.loads(json.dumps(value)):
                raise InvalidInput(f"{self.path} is the checkpoint of another evaluation: its {key} differs; remove it, or leave --resume out")
        seen.restore(saved["seen"])
        guards.restore(saved["guards"])
        return seen.feeds, saved["digest"]

    def look(self, feed: Feed) -> None:
        for name in sorted(feed.inputs):
            self.digest = zlib.crc32(np.ascontiguousarray(feed.inputs[name]).reshape(-1).view(np.uint8), self.digest)

    def save(self, seen: Accumulated, guards: Guards, *, now: bool = False) -> None:
        if self.path is None or not (now or time.monotonic() - self._written >= CHECKPOINT_SECONDS):
            return
        state.save(self.path, {"identity": self.identity, "digest": self.digest, "seen": seen.state(), "guards": guards.state()})
        self._written = time.monotonic()

    def remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _identity(subject: Subject) -> str:
    """Tells one model from another: a hash of its file, or of its bundle's manifest."""
    if subject.manifest is not None:
        return hashlib.sha256(json.dumps(subject.manifest, sort_keys=True).encode()).hexdigest()
    path = getattr(subject, "path", None)
    if path is None:
        return f"{subject.name} {subject.bytes}"
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read()).hexdigest()


def measure(reference: Subject, candidates: list[Subject], source: Any, task: Task, *, batch: int = 32,
            window: Window = Window(), progress: Callable[[int, int | None], None] | None = None,
            checkpoint: Path | None = None, resume: bool = False, calibration_data: Any = None) -> Measured:
    """One pass over the data. progress(samples done, of how many or None) is called after each feed.

    checkpoint: a file that an interrupted run leaves, and that goes when the run ends; resume: go on from it.
    """
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
    seen = Accumulated(task, len(candidates), [value.name for value in reference.outputs])
    guards = Guards(subjects, names, calibration_data)
    marks = Checkpoint(checkpoint, {
        "task": task.name, "metric": task.metric, "output": chosen, "data": feeder.data.name, "samples": feeder.count, "first sample": feeder.first,
        "batch": batch, "window": [window.length, window.stride], "models": [_identity(s) for s in subjects]})
    skip, digest = marks.load(seen, guards) if resume else (0, 0)
    try:
        for number, feed in enumerate(feeder, 1):
            if checkpoint is not None:
                marks.look(feed)
            if number <= skip:
                if number == skip and marks.digest != digest:
                    raise InvalidInput(f"{checkpoint} was written with other data; remove it, or leave --resume out")
                continue
            _compare(feed, subjects, names, chosen, task, seen, guards)
            marks.save(seen, guards)
            if progress:
                progress(seen.samples, feeder.count)
    except KeyboardInterrupt:
        marks.save(seen, guards, now=True)
        raise
    seen.finish()
    if not seen.units:
        raise InvalidInput("the data hold nothing to score: sequences need at least two tokens")
    protocol = {"data": feeder.data.name, "samples": seen.samples, "units": seen.units, "unit": task.unit, "batch": seen.largest,
                "output": chosen, **task.protocol}
    if feeder.notes:
        protocol["notes"] = feeder.notes
    if task.name == "lm":
        protocol.update(window=window.length or "whole sequence", stride=window.stride or "window",
                        bos="as in the tokens; none is added", first_scored_position=1)
    marks.remove()
    return Measured(task, seen, protocol, guards.report(seen))


def _compare(feed: Feed, subjects: list[Subject], names: list[dict[str, str]], chosen: str, task: Task, seen: Accumulated, guards: Guards) -> None:
    """One feed through all models."""
    reference, *candidates = subjects
    outputs = reference.run(feed.inputs)
    if not np.isfinite(np.asarray(outputs[chosen], np.float64)).all():
        raise InvalidInput(f"{feed.origin}: the reference's output '{chosen}' holds NaN or infinity for sample {feed.start}; nothing can be compared with it")
    own = task.reference(outputs, chosen, feed)
    if "sample" not in own:
        own["sample"] = np.arange(feed.start, feed.start + feed.count)
    theirs, additive = [], [task.additive(own)] if task.column else []
    everything = [outputs]
    for i, candidate in enumerate(candidates):
        results = candidate.run(feed.inputs)
        results = {name: results[own_name] for name, own_name in names[i].items()}
        everything.append(results)
        for name, drift in seen.outputs[i].items():
            if results[name].shape != outputs[name].shape:
                raise InvalidInput(f"{candidate.name}: output '{name}' has shape {list(results[name].shape)}, the reference's {list(outputs[name].shape)}")
            if outputs[name].dtype.kind in "fiub":
                drift.add(outputs[name], results[name])
        table = task.candidate(results, chosen, feed)
        theirs.append(table)
        if task.column:
            additive.append(task.additive(table))
    guards.look(feed, everything)
    seen.add(feed, own, theirs, additive, _slices_of(feed, len(own["sample"]), own["sample"], own.get("position")))
