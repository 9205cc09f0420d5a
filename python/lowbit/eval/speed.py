# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Adds what `lowbit bench` measured of the same models to a report."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..bench import SCHEMA
from ..errors import InvalidInput, nearest


def load_bench(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The result of `lowbit bench --json`; InvalidInput for anything else."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read as a result of lowbit bench: {error}") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise InvalidInput(f"{path} is not a result of lowbit bench (its schema is not {SCHEMA})")
    return data


def add_speed(report: dict[str, Any], bench: dict[str, Any], where: str = "bench") -> None:
    """Gives each model of the report that was timed, by its name, `speed`: {median_ms, p10_ms, p90_ms}."""
    timed = {subject["name"]: subject["ms"] for subject in bench["subjects"]}
    entries = [report["reference"], *report["candidates"]]
    if not any(entry["name"] in timed for entry in entries[1:]):
        name = entries[1]["name"]
        raise InvalidInput(f"{where} has no times of '{name}'{nearest(name, timed)}; it timed {', '.join(timed)}")
    for entry in entries:
        if entry["name"] in timed:
            entry["speed"] = {f"{key}_ms": timed[entry["name"]][key] for key in ("median", "p10", "p90")}
    report["protocol"]["speed"] = {key: bench["protocol"][key] for key in ("inputs", "shapes", "rounds", "threads")}
