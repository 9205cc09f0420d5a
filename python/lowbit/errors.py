# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What can go wrong. `code` is the exit code of the `lowbit` command and the C API's status."""
from __future__ import annotations

import difflib
from collections.abc import Iterable


class Error(Exception):
    """Base of all errors that lowbit raises on purpose; its text says what to do."""

    code = 5

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class GateFailed(Error):
    """A gate of an evaluation does not hold."""

    code = 1


class InvalidInput(Error):
    """Bad usage, configuration, data, or a damaged file."""

    code = 2


class Unsupported(Error):
    """The model, an operator or the recipe cannot be handled."""

    code = 3


class OutOfMemory(Error):
    """Not enough memory or disk."""

    code = 4


class InternalError(Error):
    """A fault of lowbit itself."""

    code = 5


class Unavailable(Error):
    """A device, a tool or an optional Python package is not there."""

    code = 6


_BY_CODE = {kind.code: kind for kind in (GateFailed, InvalidInput, Unsupported, OutOfMemory, InternalError, Unavailable)}


def from_code(code: int, message: str) -> Error:
    """The error for a status of the C API or of the compiler."""
    kind = _BY_CODE.get(code)
    return kind(message) if kind else Error(message, code)


def nearest(name: str, known: Iterable[str]) -> str:
    """" (did you mean 'x'?)", or the list of what there is, or nothing; to end a message with."""
    known = sorted(set(known))
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not match:
        lower = {k.lower(): k for k in known}
        match = [lower[name.lower()]] if name.lower() in lower else []
    if match:
        return f" (did you mean '{match[0]}'?)"
    if not known:
        return ""
    shown = ", ".join(f"'{k}'" for k in known[:8])
    return f" (there is {shown}{', …' if len(known) > 8 else ''})"


def one_line(error: BaseException) -> str:
    """The first line of an exception's text, for use inside another message."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
