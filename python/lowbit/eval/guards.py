# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Looks for what would make the figures meaningless: data seen before, results that depend on the batch."""
from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data import open_data
from ..feeds import Feed, Feeder
from ..signature import DTYPES, Value
from ..subjects import Subject
from .accumulate import Accumulated

ROWS = 4  # samples of the first batch that are run one by one
BATCH_TOLERANCE = 1e-3  # of the output's largest value


def sample_hash(values: list[Value], inputs: Mapping[str, np.ndarray], count: int, index: int) -> bytes:
    """SHA-256 of one sample's inputs, as calibration files state it: of each input dtype, rank, sizes and elements."""
    digest = hashlib.sha256()
    for value in values:
        array = inputs[value.name]
        if array.ndim and array.shape[0] % count == 0:
            rows = array.shape[0] // count
            array = array[index * rows : (index + 1) * rows]
        digest.update(np.asarray([DTYPES[value.dtype][0], array.ndim, *array.shape], np.int64).tobytes())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()


class Guards:
    """Sees every feed once. calibration_data: as for --data; samples of it are counted among those evaluated."""

    def __init__(self, subjects: list[Subject], names: list[dict[str, str]], calibration_data: Any = None) -> None:
        self._subjects, self._names = subjects, names
        self._inputs = subjects[0].inputs
        self._known: set[bytes] | None = None
        if calibration_data is not None:
            feeder = Feeder(open_data(calibration_data), self._inputs, subjects[0].outputs)
            self._known = {sample_hash(self._inputs, feed.inputs, feed.count, i) for feed in feeder for i in range(feed.count)}
        self._seen_before = self._hashed = 0
        self._first_seen: list[int] = []
        self._matches: list[bool] = [False] * (len(subjects) - 1)
        self._collected: list[dict[str, Any] | None] = [_calibrated_on(s) for s in subjects[1:]]
        self._sum = 0
        self._batch: list[float | None] | None = None

    def look(self, feed: Feed, outputs: list[Mapping[str, np.ndarray]]) -> None:
        """outputs: of the reference and every candidate for this feed, by the reference's names."""
        if self._batch is None and feed.count > 1 and feed.tokens is None:
            self._batch = [self._alone(i, feed, results) for i, results in enumerate(outputs)]
        longest = max([c["samples"] for c in self._collected if c], default=0)
        if self._known is None and self._hashed >= longest:
            return
        for i in range(feed.count):
            digest = sample_hash(self._inputs, feed.inputs, feed.count, i)
            self._hashed += 1
            if self._known is not None and digest in self._known:
                self._seen_before += 1
                if len(self._first_seen) < 10:
                    self._first_seen.append(feed.start + i)
            if self._hashed <= longest:
                self._sum = (self._sum + int.from_bytes(digest, "big")) % (1 << 256)
                for k, calibrated in enumerate(self._collected):
                    if calibrated and calibrated["samples"] == self._hashed and calibrated["data_sha256"] == f"{self._sum:064x}":
                        self._matches[k] = True

    def _alone(self, index: int, feed: Feed, results: Mapping[str, np.ndarray]) -> float | None:
        """Largest difference between samples run together and one by one, relative to the output's largest value."""
        subject, worst = self._subjects[index], 0.0
        back = {name: name for name in results} if index == 0 else self._names[index - 1]
        for i in range(min(ROWS, feed.count)):
            inputs = {}
            for value in subject.inputs:
                array = feed.inputs[value.name]
                if not array.ndim or array.shape[0] != feed.count or (value.dims and value.dims[0] > 0):
                    return None
                inputs[value.name] = array[i : i + 1]
            alone = subject.run(inputs)
            for name, together in results.items():
                if together.ndim and len(together) == feed.count and together.dtype.kind == "f" and together.size:
                    single, part = alone[back[name]], together[i : i + 1]
                    if single.shape != part.shape:
                        return None
                    difference = np.abs(np.asarray(single, np.float64) - part)
                    scale = float(np.abs(np.asarray(together, np.float64)).max())
                    if scale > 0 and math.isfinite(scale) and np.isfinite(difference).all():
                        worst = max(worst, float(difference.max()) / scale)
        return worst

    def report(self, seen: Accumulated) -> dict[str, Any]:
        """{overlap, batch_invariance, warnings}: what was found, and what a reader has to know."""
        warnings: list[str] = []
        result: dict[str, Any] = {"overlap": None, "batch_invariance": None, "warnings": warnings}
        if self._known is not None:
            result["overlap"] = {"calibration_samples": len(self._known), "evaluated_too": self._seen_before, "first": self._first_seen}
            if self._seen_before:
                warnings.append(f"{self._seen_before} of {seen.samples} samples are calibration data too: the figures are too good; the first is sample {self._first_seen[0]}")
        for subject, matched in zip(self._subjects[1:], self._matches):
            if matched:
                result["overlap"] = result["overlap"] or {}
                result["overlap"].setdefault("candidates", []).append(subject.name)
                warnings.append(f"{subject.name} was calibrated on the first samples of these very data: its figures are too good")
        if self._batch is not None:
            found = {("reference" if i == 0 else s.name): b for i, (s, b) in enumerate(zip(self._subjects, self._batch)) if b is not None}
            result["batch_invariance"] = {"samples": min(ROWS, seen.largest), "relative_difference": found}
            warnings += [f"{name}: outputs of a sample depend on the batch it is in (relative difference {d:.2g}); --batch 1 takes that out"
                         for name, d in found.items() if d > BATCH_TOLERANCE]
        for i, subject in enumerate(self._subjects[1:]):
            count = sum(drift.nonfinite for drift in seen.outputs[i].values())
            if count:
                warnings.append(f"{subject.name}: {count} values of its outputs are NaN or infinite")
        return result

    def state(self) -> dict[str, Any]:
        return {"seen": self._seen_before, "hashed": self._hashed, "first": self._first_seen, "matches": self._matches,
                "sum": f"{self._sum:x}", "batch": self._batch}

    def restore(self, state: dict[str, Any]) -> None:
        self._seen_before, self._hashed, self._first_seen = state["seen"], state["hashed"], state["first"]
        self._matches, self._sum, self._batch = state["matches"], int(state["sum"], 16), state["batch"]


def _calibrated_on(subject: Subject) -> dict[str, Any] | None:
    """{samples, data_sha256} of a bundle that was calibrated, where its manifest has both."""
    found = (subject.manifest or {}).get("calibration") or {}
    return found if found.get("samples") and found.get("data_sha256") else None
