# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Text to token ids and back, by a `tokenizer.json`."""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .errors import InvalidInput, Unavailable, one_line


class Tokenizer:
    """A `tokenizer.json` as Hugging Face's tokenizers writes it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            import tokenizers
        except ImportError:
            raise Unavailable("a tokenizer needs the Python package tokenizers: pip install tokenizers") from None
        if not Path(path).is_file():
            raise InvalidInput(f"{path}: no such tokenizer.json")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(os.fspath(path))
        except Exception as error:  # the package raises plain Exception
            raise InvalidInput(f"{path} is not a tokenizer.json: {one_line(error)}") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.name = Path(path).name

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Ids of a text. special: with what the tokenizer adds, such as a first token."""
        return self._tokenizer.encode(text, add_special_tokens=special).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def word(self, context: Sequence[int], token: int) -> str:
        """What a token adds after its context: decoders treat a first one differently."""
        before, after = (self._tokenizer.decode(ids, skip_special_tokens=False) for ids in (list(context), [*context, token]))
        return after[len(before):] if after.startswith(before) and len(after) > len(before) else (self._tokenizer.id_to_token(token) or str(token))

    def token(self, number: int) -> str | None:
        """A token as the vocabulary writes it."""
        return self._tokenizer.id_to_token(number)
