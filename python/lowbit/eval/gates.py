# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Gates: conditions on figures of a candidate, such as `drift.top1_agreement >= 0.99`."""
from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInput, nearest

_OPERATORS = {">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Gate:
    """`path` of a candidate's part of the report, compared with `limit`: a number or, for ==, text."""

    text: str
    path: str
    operator: str
    limit: float | str

    def value(self, candidate: dict[str, Any]) -> Any:
        """The figure that the gate looks at; a missing one is an error."""
        value = lookup(candidate, self.path)
        if isinstance(self.limit, float) and not isinstance(value, (int, float)):
            what = "an object" if isinstance(value, (dict, list)) else "missing" if value is None else f"'{value}'"
            inner = nearest("", [f"{self.path}.{key}" for key in value]) if isinstance(value, dict) else ""
            raise InvalidInput(f"gate '{self.text}': {self.path} is {what}, not a number{inner}")
        return value

    def holds(self, candidate: dict[str, Any]) -> bool:
        """False also where the value is NaN, whatever the operator."""
        value = self.value(candidate)
        if isinstance(value, float) and math.isnan(value):
            return False
        return bool(_OPERATORS[self.operator](value, self.limit))


def parse_gate(text: str) -> Gate:
    """`PATH OPERATOR NUMBER`; `verdict.value == ok` and the like compare text."""
    match = re.fullmatch(r"\s*(\S(?:.*?[^\s<>=!])?)\s*(>=|<=|==|!=|>|<)\s*([^\s<>=]\S*)\s*", text)
    if not match:
        raise InvalidInput(f"gate '{text}': expected PATH OPERATOR NUMBER, such as 'drift.top1_agreement >= 0.99'")
    path, sign, limit_text = match.groups()
    percent = limit_text.endswith("%")
    try:
        limit: float | str = float(limit_text.rstrip("%")) / (100 if percent else 1)
    except ValueError:
        if sign not in ("==", "!=") or not re.fullmatch(r"[\w-]+", limit_text):
            raise InvalidInput(f"gate '{text}': '{limit_text}' is not a number") from None
        limit = limit_text
    if isinstance(limit, float) and math.isnan(limit):
        raise InvalidInput(f"gate '{text}': nothing compares with NaN")
    return Gate(text.strip(), path, sign, limit)


def lookup(tree: Any, path: str) -> Any:
    """The value at a dotted path. Keys may hold dots themselves: the longest key that fits is taken."""
    here, rest = tree, path
    while rest:
        done = path[: len(path) - len(rest)]
        if isinstance(here, list) and (match := re.match(r"(\d+)(?:\.|$)", rest)):
            index = int(match.group(1))
            if index >= len(here):
                raise InvalidInput(f"'{path}' is not in the report: {done.rstrip('.')} has {len(here)} entries")
            here, rest = here[index], rest[match.end():]
            continue
        keys = list(here) if isinstance(here, dict) else []
        fitting = [key for key in keys if rest == key or rest.startswith(f"{key}.")]
        if not fitting:
            raise InvalidInput(f"'{path}' is not in the report{nearest(path, [done + key for key in keys] or paths(tree))}")
        key = max(fitting, key=len)
        here, rest = here[key], rest[len(key) + 1 :]
    return here


def paths(tree: Any, prefix: str = "") -> list[str]:
    """All paths to numbers and texts."""
    if isinstance(tree, dict):
        return [p for key, value in tree.items() for p in paths(value, f"{prefix}{key}.")]
    return [] if isinstance(tree, list) else [prefix.rstrip(".")]
