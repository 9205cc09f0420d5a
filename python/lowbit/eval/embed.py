# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The embed task: sentence and image embeddings, judged by scored pairs, or against the reference alone."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..data import Data
from ..errors import InvalidInput
from ..feeds import Feed
from . import metrics
from .ranks import pearson, resampled_ranks, spearman
from .tasks import Columns, Outputs, Task, rows

POOLS = ("mean", "cls")


class Embed(Task):
    """Output [N, D], or [N, T, D] pooled over T. With `pairs` [P, 2] of sample indices and `score` [P] in the data,
    the task value is Spearman's correlation of the pairs' cosine similarity with the score."""

    name, metric, higher_is_better, worst_by = "embed", None, True, "cosine_distance"

    metrics = ("spearman", "pearson")

    def __init__(self, label_key: str = "label", output: str | None = None, pool: str = "mean", metric: str | None = None) -> None:
        super().__init__(label_key, output, metric)
        self._correlation, self.metric = self.metric, None  # until pairs are there to correlate
        if pool not in POOLS:
            raise InvalidInput(f"--pool must be mean or cls, not '{pool}'")
        self._pool = pool
        self.protocol["pool"] = pool
        self._vectors: dict[int, list[np.ndarray]] = {}
        self._pairs = self._score = None

    def prepare(self, data: Data, first: int, count: int | None) -> None:
        """Takes the pairs from the data, whose samples are `first` … `first + count − 1`."""
        arrays = data.stacked or {}
        if ("pairs" in arrays) != ("score" in arrays):
            raise InvalidInput(f"{data.name}: 'pairs' and 'score' go together; one is missing")
        if "pairs" not in arrays:
            return
        pairs, score = arrays["pairs"], np.asarray(arrays["score"], np.float64)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu" or score.shape != pairs.shape[:1]:
            raise InvalidInput(f"{data.name}: expected 'pairs' integers [P, 2] and 'score' [P], not {list(pairs.shape)} and {list(score.shape)}")
        pairs = pairs.astype(np.int64) - first
        if len(pairs) < 3 or pairs.min() < 0 or pairs.max() >= count:
            raise InvalidInput(f"{data.name}: 'pairs' must be three or more and name samples {first} … {first + count - 1}")
        self._pairs, self._score, self.metric = pairs, score, self._correlation
        self.retained = "the pooled vectors, until the pairs are judged"

    def _pooled(self, output: np.ndarray, name: str, feed: Feed) -> np.ndarray:
        values = np.asarray(rows(output, name, feed), np.float64)
        if values.ndim == 3:
            mask = feed.inputs.get("attention_mask")
            if self._pool == "cls":
                values = values[:, 0]
            elif mask is not None and mask.shape == values.shape[:2]:
                weight = mask[..., None].astype(np.float64)
                values = (values * weight).sum(1) / np.maximum(weight.sum(1), 1)
            else:
                values = values.mean(1)
        if values.ndim != 2:
            raise InvalidInput(f"embed needs an output [N, D] or [N, T, D]; '{name}' is {list(output.shape)}; choose another with --output")
        return values

    def reference(self, outputs: Outputs, name: str, feed: Feed) -> Columns:
        self._subject = 0
        self._rows = self._keep(outputs, name, feed)
        return {}

    def candidate(self, outputs: Outputs, name: str, feed: Feed) -> Columns:
        self._subject += 1
        return metrics.row_distances(self._rows, self._keep(outputs, name, feed))

    def _keep(self, outputs: Outputs, name: str, feed: Feed) -> np.ndarray:
        pooled = self._pooled(outputs[name], name, feed)
        if self._pairs is not None:
            self._vectors.setdefault(self._subject, []).append(pooled)
        return pooled

    def _similarity(self, subject: int) -> np.ndarray:
        vectors = np.concatenate(self._vectors[subject])
        with np.errstate(invalid="ignore", divide="ignore"):
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors[self._pairs[:, 0]] * vectors[self._pairs[:, 1]]).sum(1)

    def total(self, subject: int) -> float:
        """The task value of one model."""
        return (spearman if self.metric == "spearman" else pearson)(self._similarity(subject), self._score)

    def resample(self, seed: int, subjects: int) -> np.ndarray:
        """[resamples, subjects] task values of resampled pairs, the same ones for every model."""
        return resampled_ranks([self._similarity(i) for i in range(subjects)], self._score, seed, spearman if self.metric == "spearman" else pearson)

    def state(self) -> dict[str, Any]:
        return {"vectors": {str(i): np.concatenate(parts) for i, parts in self._vectors.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        self._vectors = {int(i): [vectors] for i, vectors in state["vectors"].items()}
