# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Which layers cause the drift: each quantized alone, and each restored alone."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import InvalidInput
from ..feeds import Feed, Feeder
from ..recipe_text import KEEP_FLOAT
from ..runtime import Bundle
from ..subjects import Subject, open_subject
from ..variants import Layer, Variants
from . import metrics

Progress = Callable[[int, "int | None"], None]

CACHE_BYTES = 512 << 20  # of the reference's outputs; beyond that it runs again
KEYS = ("layer", "op", "weights", "activations", "bytes", "alone", "alone_share", "restored", "restore_gain")


@dataclass
class Probe:
    """Drift of a model from the reference on a few samples, as one number.

    measure: `kl`, mean KL(reference ‖ model) in nats over every row of the output's last axis, or
    `cosine_distance`, 1 − cosine of the output over all samples. Non-finite outputs count as infinity.
    """

    reference: Subject
    feeds: list[Feed]
    output: str
    measure: str
    _cache: dict[int, np.ndarray] = field(default_factory=dict)
    _cached: int = 0
    _probabilities: bool | None = None

    @classmethod
    def make(cls, reference: Any, feeder: Feeder, samples: int, output: str, measure: str, threads: int = 0) -> Probe:
        """On the first `samples` of the feeder; 0 takes all."""
        feeds, taken = [], 0
        for feed in feeder:
            feeds.append(feed)
            taken = feed.start + feed.count - feeds[0].start
            if samples and taken >= samples:
                break
        if not feeds:
            raise InvalidInput("the data hold no samples")
        return cls(open_subject(reference, threads=threads), feeds, output, measure)

    @property
    def samples(self) -> int:
        return self.feeds[-1].start + self.feeds[-1].count - self.feeds[0].start

    def expected(self, index: int) -> np.ndarray:
        """The reference's output for a feed."""
        if index in self._cache:
            return self._cache[index]
        values = np.asarray(self.reference.run(self.feeds[index].inputs)[self.output])
        if self._cached + values.nbytes <= CACHE_BYTES:
            self._cache[index] = values
            self._cached += values.nbytes
        return values

    def name_in(self, bundle: Bundle) -> str:
        """The output's name in a bundle; single outputs pair whatever their names."""
        return self.output if any(value.name == self.output for value in bundle.outputs) else bundle.outputs[0].name

    def of(self, bundle: Bundle) -> float:
        """The drift of a bundle."""
        name = self.name_in(bundle)
        sums, rows = np.zeros(3), 0
        for index, feed in enumerate(self.feeds):
            expected, found = self.expected(index), np.asarray(bundle.run(feed.inputs)[name])
            if not np.isfinite(found).all():
                return float("inf")
            if self.measure == "kl":
                kl = self._kl(expected, found)
                sums[0] += kl.sum()
                rows += kl.size
            else:
                r, c = expected.astype(np.float64).ravel(), found.astype(np.float64).ravel()
                sums += (r @ r, c @ c, r @ c)
        if self.measure == "kl":
            return float(sums[0] / max(rows, 1))
        norm = float(np.sqrt(sums[0]) * np.sqrt(sums[1]))
        return float(max(0.0, 1 - sums[2] / norm)) if norm > 0 else float(sums[0] != sums[1])

    def _kl(self, expected: np.ndarray, found: np.ndarray) -> np.ndarray:
        r, c = (values.reshape(-1, values.shape[-1]) for values in (expected, found))
        if self._probabilities is None:
            self._probabilities = metrics.looks_like_probabilities(r)
        logs = metrics.log_probabilities if self._probabilities else metrics.log_softmax
        step = max(1, (1 << 21) // r.shape[1])
        return np.concatenate([metrics.kl_divergence(logs(r[i : i + step]), logs(c[i : i + step])) for i in range(0, len(r), step)])


def sensitivity(variants: Variants, probe: Probe, *, restore: bool = True, progress: Progress | None = None) -> dict[str, Any]:
    """Per layer: `alone`, the drift with only this layer quantized; `restored`, that of the bundle with
    only this layer in float, and `restore_gain`, what that takes off the bundle's own. Most sensitive first.

    All are floats of `measure`; restore False leaves the second half out, which halves the work.
    """
    layers = variants.layers
    total = len(layers) * (2 if restore else 1)
    done = 0

    def drift_of(schemes: dict[str, str]) -> float:
        nonlocal done
        bundle = variants.compile(schemes)
        try:
            return probe.of(bundle)
        finally:
            variants.drop(bundle)
            done += 1
            if progress:
                progress(done, total)

    whole = probe.of(variants.bundle)
    entries = []
    for layer in layers:
        entry = _entry(layer)
        entry["alone"] = drift_of(variants.alone(layer.name))
        if restore:
            entry["restored"] = drift_of({layer.name: KEEP_FLOAT})
            entry["restore_gain"] = whole - entry["restored"]
        entries.append(entry)
    together = sum(entry["alone"] for entry in entries)
    for entry in entries:
        entry["alone_share"] = entry["alone"] / together if 0 < together < float("inf") else float(entry["alone"] > 0)
    entries.sort(key=lambda entry: (-entry["alone"], entry["layer"]))
    return {"measure": probe.measure, "output": probe.output, "samples": probe.samples, "whole": whole,
            "layers": [{key: entry[key] for key in KEYS if key in entry} for entry in entries]}


def _entry(layer: Layer) -> dict[str, Any]:
    return {"layer": layer.name, "op": layer.op, "weights": layer.weights, "activations": layer.activation_type, "bytes": layer.bytes}


def measure_of(task: str) -> str:
    """The measure for a task: KL where the output is a distribution."""
    return "kl" if task in ("classify", "lm") else "cosine_distance"
