# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Parts data in two halves by the hash of each sample, so that what is chosen on one is not reported on it."""
from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .data import Data, Record
from .errors import InvalidInput
from .feeds import TOKENS
from .signature import Value

PAIRS = "pairs"


@dataclass
class Half:
    """Samples in memory. indices: their places in the data."""

    data: Data
    indices: np.ndarray

    @property
    def samples(self) -> int:
        return len(self.indices)

    def resampled(self, rng: np.random.Generator) -> Data:
        """As many samples, drawn with replacement."""
        return take(self.data, np.sort(rng.integers(0, self.samples, self.samples)))


def take(data: Data, indices: Sequence[int] | np.ndarray) -> Data:
    """The samples at these places of data that are in memory and have no selection left."""
    if data.stacked is not None:
        count = data.count
        if PAIRS in data.stacked:
            return _take_pairs(data, np.asarray(indices))
        return Data(data.name, stacked={key: a[indices] if len(a) == count else a for key, a in data.stacked.items()}, count=len(indices))
    records = list(data.records())
    chosen = [records[i] for i in indices]
    return Data(data.name, records=lambda: ((origin, dict(record)) for origin, record in chosen), count=len(chosen))


def _take_pairs(data: Data, indices: np.ndarray) -> Data:
    """Samples, and those pairs and scores whose samples are all among them; a sample that is drawn twice has its pairs twice."""
    arrays, count = data.stacked, data.count
    pairs = np.asarray(arrays[PAIRS])
    unique, inverse = np.unique(indices, return_inverse=True)
    times = np.bincount(inverse, minlength=len(unique))
    place = np.full(count, -1)
    place[unique] = np.arange(len(unique))
    inside = (place[pairs] >= 0).all(1)
    drawn = np.repeat(np.flatnonzero(inside), np.minimum(times[place[pairs[inside, 0]]], times[place[pairs[inside, 1]]]))
    result: Record = {}
    for key, array in arrays.items():
        if key == PAIRS:
            result[key] = place[pairs[drawn]]
        elif key == "score":
            result[key] = array[drawn]
        else:
            result[key] = array[unique] if len(array) == count else array
    return Data(data.name, stacked=result, count=len(unique))


def split(data: Data, inputs: list[Value], seed: int = 0, step: int = 1) -> tuple[Half, Half]:
    """(to choose on, to report on): those with the smaller and the larger SHA-256 of their inputs and the seed.

    Samples with equal inputs, and those that `pairs` connects, stay together. step: how many samples
    the model takes at once; each half is cut to a multiple. The order of the samples does not matter.
    """
    data = _in_memory(data, inputs)
    keys = _hashes(data, inputs, seed)
    ranked = sorted(set(keys))
    if len(ranked) < 2:
        raise InvalidInput(f"{data.name}: half of the samples choose the layers and the others give the figures, so at least two different ones are needed")
    totals = np.cumsum([keys.count(key) for key in ranked]) if len(ranked) < 1000 else np.searchsorted(np.sort(keys), ranked, side="right")
    middle = int(np.argmin(np.abs(totals[:-1] - len(keys) / 2)))
    first = np.asarray([key <= ranked[middle] for key in keys])
    halves = []
    for mask in (first, ~first):
        indices = np.flatnonzero(mask)
        indices = indices[: len(indices) // step * step]
        if not len(indices):
            raise InvalidInput(f"{data.name}: {len(keys)} samples are too few for two halves of a model that takes {step} at once")
        halves.append(Half(take(data, indices), indices + data.first))
    return halves[0], halves[1]


def _in_memory(data: Data, inputs: list[Value]) -> Data:
    if data.stacked is None:
        records = list(data.records())
        if not records:
            raise InvalidInput(f"{data.name} has no samples")
        return Data(data.name, records=lambda: iter(records), first=data.first, count=len(records))
    names = [value.name for value in inputs]
    key = next((name for name in names if name in data.stacked), TOKENS)
    if key not in data.stacked:
        raise InvalidInput(f"{data.name}: no array for input '{names[0]}'; it has {', '.join(sorted(data.stacked))}")
    total = len(data.stacked[key])
    begin, end, _ = data.selected.indices(total)
    if end <= begin:
        raise InvalidInput(f"{data.name}: no samples" + (f" in that range (there are {total})" if total else ""))
    if PAIRS in data.stacked and (begin, end) != (0, total):
        raise InvalidInput(f"{data.name}: '{PAIRS}' are indices of samples, so samples cannot be selected with [a:b]")
    return Data(data.name, stacked={name: a[begin:end] if len(a) == total else a for name, a in data.stacked.items()}, first=begin, count=end - begin)


def _hashes(data: Data, inputs: list[Value], seed: int) -> list[str]:
    names = [value.name for value in inputs] + [TOKENS]

    def of(record: Record) -> str:
        digest = hashlib.sha256(str(seed).encode())
        for name in names:
            if name in record:
                digest.update(f"{name} {record[name].dtype} {record[name].shape}".encode())
                digest.update(np.ascontiguousarray(record[name]).tobytes())
        return digest.hexdigest()

    if data.stacked is None:
        return [of({**record, **{names[int(key[1:])]: a for key, a in record.items() if key.startswith("#") and int(key[1:]) < len(inputs)}})
                for _, record in data.records()]
    arrays = {name: a for name, a in data.stacked.items() if name in names and len(a) == data.count}
    keys = [of({name: a[i] for name, a in arrays.items()}) for i in range(data.count)]
    return _connected(keys, data.stacked[PAIRS]) if PAIRS in data.stacked else keys


def _connected(keys: list[str], pairs: np.ndarray) -> list[str]:
    """The smallest key of all samples that pairs connect with each one."""
    parent = list(range(len(keys)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    pairs = np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or (pairs.size and (pairs.min() < 0 or pairs.max() >= len(keys))):
        raise InvalidInput(f"'{PAIRS}' must be [P, 2] indices of the {len(keys)} samples")
    equal = {key: i for i, key in enumerate(keys)}
    for a, b in [*pairs.tolist(), *((i, equal[key]) for i, key in enumerate(keys))]:
        a, b = root(a), root(b)
        if keys[a] <= keys[b]:
            parent[b] = a
        else:
            parent[a] = b
    return [keys[root(i)] for i in range(len(keys))]
