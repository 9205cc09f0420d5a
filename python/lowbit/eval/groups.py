# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Sums of columns by group: by slice, by class or token, and by how sure the reference was."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

KEEP = 16384  # rows that `Ranked` holds before it sums them into bins
_RATIO = 1.002  # between the bounds of a bin
_LOW, _HIGH = 1e-9, 1e5


def add_rows(table: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> None:
    """table[ids] += rows, where ids may repeat."""
    kinds, inverse = np.unique(ids, return_inverse=True)
    if len(kinds) == len(ids):
        table[ids] += rows
        return
    table[kinds] += np.stack([np.bincount(inverse, rows[:, i], len(kinds)) for i in range(rows.shape[1])], 1)


class Grown:
    """Rows of sums by a small number ≥ 0; grows with the largest number."""

    def __init__(self, columns: int) -> None:
        self.rows = np.zeros((0, columns))

    def add(self, ids: np.ndarray, rows: np.ndarray) -> None:
        need = int(ids.max()) + 1
        if need > len(self.rows):
            grown = np.zeros((max(need, min(2 * len(self.rows), need + 4096)), self.rows.shape[1]))
            grown[: len(self.rows)] = self.rows
            self.rows = grown
        add_rows(self.rows, ids, rows)

    def merge(self, other: Grown) -> None:
        if len(other.rows):
            self.add(np.arange(len(other.rows)), other.rows)


class Named:
    """Rows of sums by name, in the order in which names came up."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self.rows: dict[str, np.ndarray] = {}

    def add(self, names: np.ndarray, rows: np.ndarray) -> None:
        """names: one text per row."""
        kinds, inverse = np.unique(names, return_inverse=True)
        sums = np.zeros((len(kinds), self._columns))
        add_rows(sums, inverse, rows)
        for kind, total in zip(kinds.tolist(), sums):
            self.rows[kind] = self.rows[kind] + total if kind in self.rows else total

    def merge(self, other: Named) -> None:
        for kind, total in other.rows.items():
            self.rows[kind] = self.rows[kind] + total if kind in self.rows else total.copy()


class Ranked:
    """Sums over the rows with the smallest or the largest keys (≥ 0).

    Up to 16384 rows are kept and chosen exactly, ties in the order of arrival; more are summed into bins
    of keys within 0.2 % of each other, and what is chosen ends at the bound of a bin.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._keys, self._rows = np.empty(KEEP), np.empty((KEEP, columns))
        self._filled = 0
        self._bins: np.ndarray | None = None

    def add(self, keys: np.ndarray, rows: np.ndarray) -> None:
        if self._bins is None and self._filled + len(keys) <= KEEP:
            end = self._filled + len(keys)
            self._keys[self._filled : end], self._rows[self._filled : end] = keys, rows
            self._filled = end
            return
        if self._bins is None:
            self._bins = np.zeros((self._bin(np.asarray([_HIGH]))[0] + 1, self._columns))
            add_rows(self._bins, self._bin(self._keys[: self._filled]), self._rows[: self._filled])
            self._keys = self._rows = np.empty(0)
            self._filled = 0
        add_rows(self._bins, self._bin(keys), rows)

    @staticmethod
    def _bin(keys: np.ndarray) -> np.ndarray:
        return np.floor((np.log(np.clip(keys, _LOW, _HIGH)) - math.log(_LOW)) / math.log(_RATIO)).astype(np.int64)

    def merge(self, other: Ranked) -> None:
        if other._bins is None:
            self.add(other._keys[: other._filled], other._rows[: other._filled])
            return
        if self._bins is None:
            keys, rows = self._keys[: self._filled], self._rows[: self._filled]
            self._bins, self._filled = np.zeros_like(other._bins), 0
            add_rows(self._bins, self._bin(keys), rows)
        self._bins += other._bins

    def lowest(self, share: float) -> np.ndarray:
        """Sums over the `share` with the smallest keys, at least one row."""
        if self._bins is None:
            order = np.argsort(self._keys[: self._filled], kind="stable")
            return self._rows[order[: max(1, round(share * self._filled))]].sum(0)
        return self._cut(self._bins, share)

    def highest(self, share: float) -> np.ndarray:
        """Sums over the `share` with the largest keys, at least one row."""
        if self._bins is None:
            order = np.argsort(self._keys[: self._filled], kind="stable")
            return self._rows[order[self._filled - max(1, round(share * self._filled)) :]].sum(0)
        return self._cut(self._bins[::-1], share)

    @staticmethod
    def _cut(bins: np.ndarray, share: float) -> np.ndarray:
        """The first column counts rows."""
        total = np.cumsum(bins[:, 0])
        end = int(np.argmin(np.abs(total - share * total[-1])))
        return bins[: end + 1].sum(0)

    def state(self) -> dict[str, Any]:
        used = np.flatnonzero(self._bins[:, 0]) if self._bins is not None else None
        return {"keys": self._keys[: self._filled].copy(), "rows": self._rows[: self._filled].copy(),
                "used": used, "bins": None if used is None else self._bins[used]}

    def restore(self, state: dict[str, Any]) -> None:
        if state["used"] is None:
            self.add(state["keys"], state["rows"])
            return
        self._bins, self._filled = np.zeros((self._bin(np.asarray([_HIGH]))[0] + 1, self._columns)), 0
        self._keys = self._rows = np.empty(0)
        self._bins[state["used"]] = state["bins"]
