# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The result of an evaluation: a plain dict in the shape that docs/evaluation.md states, and ways to show it."""
from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np

from ..errors import GateFailed, InvalidInput
from ..output import write_text
from .figures import Figures
from .gates import Gate, parse_gate

SCHEMA = "lowbit.eval/2"
PERCENT = ("accuracy", "top5", "acc_norm")  # metrics that people read in percent
_INFINITY = "\ue000infinity"


class Report:
    """data: what `--json` prints. distributions: per candidate and quantity the sorted per-unit values, for plots."""

    def __init__(self, data: dict[str, Any], distributions: list[dict[str, np.ndarray]], figures: Figures | None = None,
                 layers: list[list[dict[str, Any]] | None] | None = None) -> None:
        self.data, self.distributions, self.figures = data, distributions, figures
        #: Why gates could not be judged, if they could not.
        self.gate_error: InvalidInput | None = None
        self.layers = layers or [None] * len(distributions)

    def survival(self, index: int, quantity: str) -> list[tuple[float, float]]:
        """(value, share of the units with at least that value) of a candidate, from the largest value down."""
        if self.figures is not None:
            return self.figures.seen.tails[index][quantity].survival()
        values = np.asarray(self.distributions[index][quantity])
        return list(zip(values[::-1].tolist(), (np.arange(1, len(values) + 1) / len(values)).tolist()))

    def pictures(self, index: int) -> list[np.ndarray | None]:
        """For each of a candidate's worst samples its input as a small picture, u8 [height, width, 1 or 3]; None where it is no image."""
        if self.figures is None:
            return [None] * len(self.data["candidates"][index]["worst"])
        return [item["picture"] for item in self.figures.seen.worst[index]]

    def check(self, gate: str | Gate) -> None:
        """Raises GateFailed unless the gate holds for every candidate; InvalidInput if a path is missing."""
        gate = parse_gate(gate) if isinstance(gate, str) else gate
        for candidate in self.data["candidates"]:
            if not gate.holds(candidate):
                raise GateFailed(f"{candidate['name']}: gate '{gate.text}' does not hold: {gate.path} is {show(gate.value(candidate))}")

    def apply(self, gates: list[Gate]) -> bool:
        """Records whether each gate holds for each candidate under `gates`; true if all do."""
        self.data["gates"] = [
            {"gate": gate.text, "candidate": candidate["name"], "value": gate.value(candidate), "holds": gate.holds(candidate)}
            for gate in gates for candidate in self.data["candidates"]]
        self.data["passed"] = all(entry["holds"] for entry in self.data["gates"])
        return self.data["passed"]

    def to_json(self, indent: int | None = 1) -> str:
        """JSON text. NaN becomes null; infinity 1e999, which is JSON's grammar and reads back as infinity."""
        return to_json(self.data, indent)

    def to_html(self, path: str | os.PathLike[str], force: bool = True) -> None:
        """Writes one self-contained page."""
        from .html import page

        write_text(path, page(self), force=force)

    def to_junit(self, path: str | os.PathLike[str], force: bool = True) -> None:
        """Writes the gates and verdicts as JUnit test cases."""
        from .junit import document

        write_text(path, document(self), force=force)


def to_json(data: Any, indent: int | None = 1) -> str:
    text = json.dumps(_plain(data), indent=indent, ensure_ascii=False, allow_nan=False)
    return text.replace(f'"-{_INFINITY}"', "-1e999").replace(f'"{_INFINITY}"', "1e999")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else (_INFINITY if value > 0 else f"-{_INFINITY}")
    return value


def show(value: Any) -> str:
    """A figure for people: four significant digits."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.4g}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.2e}"


def show_task(metric: str | None, value: float | None) -> str:
    """A task value as usual: accuracies in percent."""
    if value is None or metric is None:
        return "–"
    return f"{value:.2%}" if metric in PERCENT and math.isfinite(value) else show(value)
