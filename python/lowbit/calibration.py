# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Feeds data to what a recipe observes; goes on where an interrupted run stopped; says how well the data cover each range."""
from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .data import Record, open_data
from .errors import InvalidInput
from .feeds import Feed, Feeder
from .output import check_free, whole
from .signature import Value

Progress = Callable[[int, "int | None"], None]

CHECKPOINT_SECONDS = 30.0  # between two checkpoints


@dataclass
class Calibrated:
    """What became of a calibration. samples is 0, and no file was written, where the recipe observes nothing.

    notes: remarks for people; coverage: the report of docs/formats.md.
    """

    samples: int
    notes: list[str] = field(default_factory=list)
    coverage: dict[str, Any] = field(default_factory=dict)


def checkpoint_of(out: str | os.PathLike[str]) -> Path:
    """Where an interrupted calibration leaves what it has: beside its output."""
    return Path(f"{os.fspath(out)}.part")


def run_calibration(module: Any, model: str, recipe: str, data: Any, out: str | os.PathLike[str], *, force: bool = False, batch: int = 1,
                    resume: bool = False, merge: Sequence[str | os.PathLike[str]] = (), threads: int = 0,
                    progress: Progress | None = None) -> Calibrated:
    """Writes the calibration file `out`. module: the compiler.

    data None: nothing is run, the files in `merge` are merged. batch: samples per run where the model's first axis is
    dynamic; results do not depend on it. resume: `out` or its checkpoint, where there is one, has seen the first samples
    of the data already.
    """
    check_free(out, force or resume)
    if data is None and not merge:
        raise InvalidInput("give data, or calibration files to merge")
    opened = open_data(data) if data is not None else None
    calibrator = module.Calibrator(model, recipe, threads=threads)
    result = Calibrated(0)
    if not calibrator.observers:
        return result
    checkpoint = checkpoint_of(out)
    if resume:
        earlier = next((path for path in (checkpoint, Path(out)) if path.exists()), None)
        if earlier:
            calibrator.resume(str(earlier))
            result.notes.append(f"resumed from {earlier}: {calibrator.samples} samples")
        else:
            result.notes.append(f"there is neither {checkpoint} nor {out} to resume: began with the first sample")
    if opened is not None:
        feeds = Feeds(calibrator, opened, batch)
        try:
            _feed_all(calibrator, feeds, checkpoint, progress)
        except KeyboardInterrupt:
            with contextlib.suppress(module.Error):
                calibrator.checkpoint(str(checkpoint))
            raise
        result.notes += feeds.notes
    for path in merge:
        calibrator.merge(os.fspath(path))
    result.samples = calibrator.samples
    result.coverage = json.loads(calibrator.coverage())
    with whole(out, force=force or resume) as temporary:
        calibrator.finish(str(temporary))
    checkpoint.unlink(missing_ok=True)
    return result


def run_coverage(module: Any, model: str, recipe: str, data: Any, calibration: str | os.PathLike[str], *, batch: int = 1,
                 threads: int = 0, progress: Progress | None = None) -> dict[str, Any]:
    """What of `data` lies outside of what the calibration file covers (docs/formats.md)."""
    opened = open_data(data)
    calibrator = module.Calibrator(model, recipe, threads=threads)
    if not calibrator.observers:
        raise InvalidInput(f"recipe {recipe} needs no calibration, so nothing is covered")
    _feed_all(calibrator, Feeds(calibrator, opened, batch, whole_data=True), None, progress)
    return json.loads(calibrator.compare(os.fspath(calibration)))


class Feeds:
    """Feeds of the data, no more than the recipe asks for (whole_data: all); total: how many, or None where unknown.

    runner: of the compiler, a Calibrator or a Quantizer.
    """

    def __init__(self, runner: Any, opened: Any, batch: int, *, whole_data: bool = False) -> None:
        inputs = [Value(name, dtype, tuple(dims), tuple(symbols)) for name, dtype, dims, symbols in runner.inputs]
        self.feeder = Feeder(opened, inputs, [], batch=batch)
        self.limit = 0 if whole_data else runner.recipe_samples
        self.notes: list[str] = []
        if batch > 1 and self.feeder.data.stacked is not None and self.feeder.step != batch:
            self.notes.append(f"the model's inputs take {self.feeder.step} sample{'s' * (self.feeder.step > 1)} at once, not {batch}")
        count = self.feeder.count
        self.total = min(count, self.limit) if count and self.limit else count or self.limit or None

    def __iter__(self) -> Iterator[Feed]:
        taken = 0
        for feed in self.feeder:
            if self.limit and taken + feed.count > self.limit:
                feed = _first(feed, self.limit - taken)
            yield feed
            taken += feed.count
            if taken == self.limit:
                self.notes.append(f"took the first {taken} samples, as the recipe says")
                return
        if taken < self.limit:
            self.notes.append(f"the recipe asks for {self.limit} samples, the data hold {taken}")


def _first(feed: Feed, count: int) -> Feed:
    """The first `count` samples of a feed."""
    inputs: Record = {}
    for name, array in feed.inputs.items():
        if not array.ndim or array.shape[0] % feed.count:
            raise InvalidInput(f"{feed.origin}: '{name}' has no axis of samples, so the first {count} of {feed.count} cannot be taken; choose --batch 1")
        inputs[name] = array[: array.shape[0] // feed.count * count]
    return Feed(inputs, feed.start, count, feed.origin)


def _feed_all(calibrator: Any, feeds: Feeds, checkpoint: Path | None, progress: Progress | None) -> None:
    done, marked = 0, False
    written = time.monotonic()
    for feed in feeds:
        calibrator.feed({name: np.ascontiguousarray(array) for name, array in feed.inputs.items()}, feed.count)
        done += feed.count
        if feeds.total and not marked and done == calibrator.samples and 2 * done >= feeds.total:
            calibrator.mark_half()
            marked = True
        if progress:
            progress(done, feeds.total)
        if checkpoint and time.monotonic() - written > CHECKPOINT_SECONDS:
            calibrator.checkpoint(str(checkpoint))
            written = time.monotonic()
