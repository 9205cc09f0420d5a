# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Turns data into feeds of a model: checks names, dtypes, shapes and NaN; batches; expands tokens."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from .data import Data, Record
from .errors import InvalidInput, nearest
from .runtime import check_array
from .signature import Value, batchable, numpy_dtype

TOKENS = "tokens"


@dataclass
class Feed:
    """What one run of a model gets: samples `start` … `start + count − 1`.

    extras: every other array of the data, such as labels; for stacked data with first axis =
    sample, as the inputs. tokens: int64 [count, length] where the inputs were made from tokens.
    first_scored: the first position that a language-model task scores; offset: where the window begins;
    length: of the whole sequences, 0 where there are no tokens.
    """

    inputs: Record
    start: int
    count: int
    origin: str
    extras: Record = field(default_factory=dict)
    tokens: np.ndarray | None = None
    first_scored: int = 1
    offset: int = 0
    length: int = 0


@dataclass(frozen=True)
class Window:
    """How long token sequences are cut; length 0 leaves them whole. stride: new positions per window."""

    length: int = 0
    stride: int = 0

    def spans(self, total: int) -> Iterator[tuple[int, int, int]]:
        """(begin, end, first scored position of the window) so that each position is scored once."""
        length = self.length or total
        stride = self.stride or length
        scored = 1
        for begin in range(0, total, stride):
            end = min(begin + length, total)
            if end > scored:
                yield begin, end, max(scored - begin, 1)
                scored = end
            if end == total:
                return


class Feeder:
    """Feeds of `data` for a model with these inputs and outputs.

    batch: how many samples go through at once where the model's first axis is dynamic. label_key:
    the label's name, where the task has one; an input of that name is an error.
    """

    def __init__(self, data: Data, inputs: list[Value], outputs: list[Value], *, batch: int = 1,
                 label_key: str | None = None, window: Window = Window()) -> None:
        self.data, self.inputs, self.window = data, inputs, window
        self.label_key = label_key
        self._names = [value.name for value in inputs]
        if not inputs:
            raise InvalidInput("the model has no inputs, so there is nothing to feed")
        if label_key in self._names:
            raise InvalidInput(f"'{label_key}' is an input of the model and cannot be the label too; name the label with --label-key")
        self._batchable = batchable(inputs, outputs)
        self._batch = max(1, batch)
        self.notes: list[str] = []
        self._arrays: Record = {}
        #: Index of the first sample, and how many there are (None where only iterating tells).
        self.first, self.count = data.first, data.count
        if data.stacked is not None:
            self._select(data.stacked)
            self._check_stacked(self._arrays)

    @property
    def step(self) -> int:
        """Samples per run of stacked data."""
        fixed = {value.dims[0] for value in self.inputs if value.dims and value.dims[0] > 0 and not self._extra_axis(value)}
        if any(self._extra_axis(value) for value in self.inputs):
            return 1
        if fixed:
            return max(fixed)
        return self._batch if self._batchable else 1

    def __iter__(self) -> Iterator[Feed]:
        if self.data.stacked is not None:
            yield from self._stacked(self._arrays)
            return
        index = self.first
        for origin, record in self.data.records():
            for feed in self._complete(origin, record, index):
                yield feed
            index += feed.count
        if index == self.first:
            raise InvalidInput(f"{self.data.name} has no samples")

    # Stacked arrays -----------------------------------------------------------------------------

    def _select(self, arrays: Record) -> None:
        """Takes the selected samples of every array that has the inputs' number of samples."""
        key = TOKENS if self._uses_tokens(arrays, self.data.name) else self._names[0]
        total = len(arrays[key])
        begin, end, _ = self.data.selected.indices(total)
        if end <= begin:
            raise InvalidInput(f"{self.data.name}: no samples" + (f" in that range (there are {total})" if total else ""))
        self._arrays = {name: a[begin:end] if len(a) == total else a for name, a in arrays.items()}
        self.first, self.count = begin, end - begin

    def _extra_axis(self, value: Value) -> bool:
        """Whether the array has one axis more than the input: its samples are complete feeds."""
        array = self._arrays.get(value.name)
        return array is not None and array.ndim == len(value.dims) + 1

    def _check_stacked(self, arrays: Record) -> None:
        where = self.data.name
        if self.label_key is not None and self.label_key in arrays and len(arrays[self.label_key]) != self.count:
            raise InvalidInput(f"{where}: '{self.label_key}' has {len(arrays[self.label_key])} entries for {self.count} samples")
        if self._uses_tokens(arrays, where):
            return
        for value in self.inputs:
            array = arrays[value.name]
            if len(array) != self.count:
                raise InvalidInput(f"{where}: '{value.name}' has {len(array)} samples, other arrays {self.count}")
            if self._extra_axis(value):
                check_array(value, array[0], f"{where} (one sample)")
            else:
                # The first axis counts samples; only the rest is the model's.
                step = value.dims[0] if value.dims and value.dims[0] > 0 else 1
                check_array(value, array[:1] if step == 1 else np.broadcast_to(array[:1], (step, *array.shape[1:])), where)
                if len(array) % step:
                    raise InvalidInput(f"{where}: the model takes {step} samples at once, which does not divide {len(array)}; select with [a:b]")
            self._check_finite(value.name, array, where, self.first)

    def _check_finite(self, name: str, array: np.ndarray, where: str, first: int | None) -> None:
        if array.dtype.kind == "f" and np.isnan(array).any():
            sample = "" if first is None else f" in sample {first + int(np.argwhere(np.isnan(array))[0][0])}"
            raise InvalidInput(f"{where}: '{name}' holds NaN{sample}")

    def _stacked(self, arrays: Record) -> Iterator[Feed]:
        total, first = self.count, self.first
        extras = {key: a for key, a in arrays.items() if key not in self._names and len(a) == total}
        if TOKENS in arrays and not self._has_inputs(arrays):
            yield from self._token_feeds(arrays[TOKENS], extras, first, self.data.name)
            return
        step = self.step
        for begin in range(0, total, step):
            part = slice(begin, min(begin + step, total))
            inputs = {}
            for value in self.inputs:
                array = arrays[value.name]
                inputs[value.name] = array[begin] if self._extra_axis(value) else array[part]
            yield Feed(inputs, first + begin, part.stop - begin, self.data.name, {key: a[part] for key, a in extras.items()})

    # Complete feeds -----------------------------------------------------------------------------

    def _complete(self, origin: str, record: Record, index: int) -> Iterator[Feed]:
        for position, value in enumerate(self.inputs):  # test data may have numbers for names
            if value.name not in record and f"#{position}" in record:
                record[value.name] = record.pop(f"#{position}")
        extras = {key: a for key, a in record.items() if key not in self._names}
        if self._uses_tokens(record, origin):
            tokens = record[TOKENS]
            yield from self._token_feeds(tokens if tokens.ndim > 1 else tokens[None], extras, index, origin)
            return
        for value in self.inputs:
            check_array(value, record[value.name], origin)
            self._check_finite(value.name, record[value.name], origin, None)
        label = extras.get(self.label_key) if self.label_key else None
        count = len(label) if label is not None and label.ndim else 1
        yield Feed({name: record[name] for name in self._names}, index, count, origin, extras)

    # Tokens -------------------------------------------------------------------------------------

    def _has_inputs(self, record: Record) -> bool:
        return all(name in record for name in self._names)

    def _uses_tokens(self, record: Record, where: str) -> bool:
        """True where inputs are to be made from tokens; raises where inputs are missing."""
        missing = [value for value in self.inputs if value.name not in record]
        if not missing:
            return False
        others = [key for key in record if key not in self._names]
        if TOKENS not in record or TOKENS in self._names:
            value = missing[0]
            raise InvalidInput(f"{where}: no array for input '{value.name}'{nearest(value.name, others)}; the model wants {value}")
        tokens = record[TOKENS]
        if tokens.dtype.kind not in "iu" or tokens.ndim not in (1, 2) or not tokens.shape[-1]:
            raise InvalidInput(f"{where}: '{TOKENS}' must be integers [sequences, length], not {tokens.dtype} {list(tokens.shape)}")
        self._ids()
        return True

    def _ids(self) -> Value:
        return ids_input(self.inputs)

    def _token_feeds(self, tokens: np.ndarray, extras: Record, first: int, origin: str) -> Iterator[Feed]:
        ids = self._ids()
        step = ids.dims[0] if ids.dims[0] > 0 else self._batch
        if len(tokens) % step and ids.dims[0] > 0:
            raise InvalidInput(f"{origin}: the model takes {step} sequences at once, which does not divide {len(tokens)}")
        for begin in range(0, len(tokens), step):
            rows = tokens[begin : begin + step].astype(np.int64)
            some = {key: a[begin : begin + step] for key, a in extras.items()}
            for start, end, scored in self.window.spans(rows.shape[1]):
                part = rows[:, start:end]
                inputs = self._token_inputs(ids, part, origin)
                yield Feed(inputs, first + begin, len(rows), origin, some, part, scored, start, rows.shape[1])

    def _token_inputs(self, ids: Value, tokens: np.ndarray, origin: str) -> Record:
        for value in self.inputs:
            if value is not ids and is_past(value):
                self._note(f"{value.name}: empty past")
        return token_inputs(self.inputs, tokens, origin)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def ids_input(inputs: list[Value]) -> Value:
    """The input that takes token ids: `input_ids`, or the only integer input."""
    for value in inputs:
        if value.name == "input_ids":
            return value
    integers = [value for value in inputs if value.dtype in ("i64", "i32")]
    if len(integers) != 1:
        raise InvalidInput(f"tokens need an input named input_ids or a single integer input; the model has {', '.join(map(str, inputs))}")
    return integers[0]


def is_past(value: Value) -> bool:
    """Whether an input takes keys and values of earlier tokens."""
    return value.name.startswith("past")


def token_inputs(inputs: list[Value], tokens: np.ndarray, origin: str, past: Record | None = None, begin: int = 0) -> Record:
    """All inputs for integer tokens [sequences, length]: ids, a mask of ones, positions from `begin`.

    past: the arrays that past inputs get, of `begin` positions; None: empty ones.
    """
    ids = ids_input(inputs)
    batch, length = tokens.shape
    result: Record = {}
    for value in inputs:
        name, dtype = value.name, numpy_dtype(value.dtype)
        if value is ids:
            array = tokens.astype(dtype)
        elif "mask" in name:
            array = np.ones((batch, begin + length), dtype)
        elif "position" in name:
            array = np.broadcast_to(np.arange(begin, begin + length, dtype=dtype), (batch, length)).copy()
        elif is_past(value):
            # Batch first; the one other dynamic axis counts past positions, of which there are none at first.
            array = past[name] if past is not None else np.empty([batch if i == 0 else max(d, 0) for i, d in enumerate(value.dims)], dtype)
        else:
            raise InvalidInput(f"{origin}: do not know what to feed input {value} from tokens; give every input as an array instead")
        check_array(value, array, origin)
        result[name] = array
    return result
