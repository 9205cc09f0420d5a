# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Reads the JSONL of tasks on text: multiple choice, cloze, and generate-and-check."""
from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Data, split_range
from ..errors import InvalidInput, nearest
from ..signature import Value
from ..tokenizer import Tokenizer

CONTEXTS = ("context", "query", "ctx", "prompt", "doc_to_text")
GOLDS = ("gold", "label", "target", "answer", "doc_to_target")
ITEM = Value("item", "i64", (2,), ("",))  # its index and its checksum


@dataclass
class Line:
    """One JSON object. where: for messages. fields: all of it."""

    where: str
    fields: dict[str, Any]
    checksum: int
    extras: dict[str, np.ndarray] = field(default_factory=dict)

    def fail(self, what: str) -> InvalidInput:
        return InvalidInput(f"{self.where}: {what}")

    def one_of(self, names: tuple[str, ...], what: str) -> Any:
        """The first of these fields that is there."""
        for name in names:
            if name in self.fields:
                return self.fields[name]
        raise self.fail(f"no {what}; it is called {', '.join(names[:-1])} or {names[-1]}{nearest(names[0], list(self.fields))}")

    def ids(self, name: str) -> list[int] | None:
        """A field of token ids, None where it is absent."""
        value = self.fields.get(name)
        if value is not None and not (isinstance(value, list) and all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in value)):
            raise self.fail(f"'{name}' must be a list of token ids")
        return value

    def text(self, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self.fail(f"{name} must be text, not {type(value).__name__}")
        return value


def read_lines(source: Any) -> tuple[str, int, list[Line]]:
    """(name, index of the first, lines) of a .jsonl path, `[a:b]` after it selecting lines, or of an iterable of dicts."""
    if isinstance(source, (str, os.PathLike)):
        name, selected = split_range(os.fspath(source))
        path = Path(name)
        if not path.is_file() or path.suffix not in (".jsonl", ".json"):
            raise InvalidInput(f"{path} is no .jsonl file, which tasks on text need: one JSON object per line")
        try:
            texts = [text for text in path.read_text(encoding="utf-8").splitlines() if text.strip()]
        except UnicodeDecodeError:
            raise InvalidInput(f"{path} is not UTF-8 text") from None
    elif isinstance(source, Mapping) or not hasattr(source, "__iter__"):
        raise InvalidInput("tasks on text need a .jsonl file, or an iterable of dicts")
    else:
        name, selected, texts = "data", slice(None), [json.dumps(item, sort_keys=True) for item in source]
    begin, end, _ = selected.indices(len(texts))
    if end <= begin:
        raise InvalidInput(f"{name}: no items" + (f" in that range (there are {len(texts)})" if texts else ""))
    return name, begin, [_line(name, index, texts[index]) for index in range(begin, end)]


def _line(name: str, index: int, text: str) -> Line:
    where = f"{name} item {index}"
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{where} is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InvalidInput(f"{where} is not a JSON object")
    line = Line(where, fields, zlib.crc32(text.encode()))
    for key, value in fields.items():
        if key.startswith("slice:") or key == "document":
            if isinstance(value, float) or not isinstance(value, (int, str)) or (key == "document" and not isinstance(value, int)):
                raise line.fail(f"'{key}' must be an integer" + (" or text" if key != "document" else ""))
            line.extras[key] = np.asarray([value])
    return line


def as_data(name: str, first: int, lines: list[Line]) -> Data:
    """Feeds of the items' numbers, for models that know the items."""
    def records() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        for i, line in enumerate(lines):
            yield line.where, {ITEM.name: np.asarray([i, line.checksum], np.int64), **line.extras}

    return Data(name, records=records, first=first, count=len(lines))


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Ids of a context and of what follows, as lm-evaluation-harness splits them: spaces at the context's end belong to
    the continuation, both are encoded together, and the context is as many ids as it has alone."""
    stripped = context.rstrip()
    continuation, context = context[len(stripped):] + continuation, stripped
    whole, alone = tokenizer.encode(context + continuation), tokenizer.encode(context)
    return whole[: len(alone)], whole[len(alone):]


def clipped(text: str, most: int = 400) -> str:
    """The end of a text."""
    return text if len(text) <= most else "… " + text[-most:]
