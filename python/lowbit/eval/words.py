# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The text of worst tokens."""
from __future__ import annotations

from typing import Any

from ..errors import InvalidInput
from ..tokenizer import Tokenizer


def add_words(worst: list[dict[str, Any]], tokenizer: Tokenizer) -> None:
    """Gives each worst token `words`: its context and the tokens that came, and that each model preferred, as text."""
    for entry in worst:
        if "context" not in entry:
            raise InvalidInput("--tokenizer is for tasks on text")
        context = entry["context"]
        entry["words"] = {"context": tokenizer.decode(context), **{key: tokenizer.word(context, entry[key]) for key in ("label", "reference", "candidate") if entry[key] >= 0}}
        entry["words"].setdefault("candidate", "NaN")
