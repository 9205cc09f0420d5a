# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The candidates in the order of their bit widths, and where on the way down the damage sets in."""
from __future__ import annotations

import math
import re
from typing import Any

from ..subjects import Subject

_PER_BIT = 4.0  # rounding noise power per bit less (6.02 dB), and KL with it


def weight_bits(subject: Subject) -> float | None:
    """Mean bits of the weights of a bundle's layers, by their number; None where that is not known."""
    layers = (subject.manifest or {}).get("layers") or []
    bits = total = 0.0
    for layer in layers:
        weights, count = str(layer.get("weights") or ""), layer.get("fp32_bytes") or 0
        width = {"float": 32, "f32": 32, "f16": 16}.get(weights)
        if width is None:
            match = re.fullmatch(r"[iuf](\d+)\w*", weights)
            width = int(match.group(1)) if match else None
        if width is None or not count:
            continue
        bits, total = bits + width * count, total + count
    return bits / total if total else None


def ladder(subjects: list[Subject], entries: list[dict[str, Any]], task: str) -> dict[str, Any] | None:
    """{order_by, rungs: [{name, bits or bytes, damage, verdict}], change}; None for a single candidate.

    damage: mean KL, or noise power 1 / SQNR where there is none. change: the split of the rungs that
    explains most of the damage's variance, {after, before, factor, expected}: `expected` is what 4 times
    the noise per bit gives; None where nothing rises.
    """
    if len(entries) < 2:
        return None
    bits = [weight_bits(subject) for subject in subjects]
    key, sizes = ("bits", bits) if all(b is not None for b in bits) else ("bytes", [entry["bytes"] for entry in entries])
    if any(size is None for size in sizes):
        return None
    rungs = []
    for entry, size in zip(entries, sizes):
        noise = entry["drift"].get("kl", 10 ** (-entry["drift"]["sqnr_db"] / 10) if not math.isnan(entry["drift"]["sqnr_db"]) else math.nan)
        rungs.append({"name": entry["name"], key: size, "damage": noise, "verdict": entry["verdict"]["value"]})
    rungs.sort(key=lambda rung: (-rung[key], rung["damage"] if not math.isnan(rung["damage"]) else math.inf))
    return {"order_by": key, "rungs": rungs, "change": _change(rungs, key)}


def _change(rungs: list[dict[str, Any]], key: str) -> dict[str, Any] | None:
    damage = [rung["damage"] for rung in rungs]
    if not all(math.isfinite(d) for d in damage):
        return None
    best, split = 0.0, 0
    for k in range(1, len(damage)):
        a, b = sum(damage[:k]) / k, sum(damage[k:]) / (len(damage) - k)
        gain = (b - a) * abs(b - a) * k * (len(damage) - k)
        if gain > best:
            best, split = gain, k
    if not split:
        return None
    above, below = rungs[split - 1], rungs[split]
    factor = below["damage"] / above["damage"] if above["damage"] > 0 else math.inf
    return {"after": above["name"], "before": below["name"], "factor": factor,
            "expected": _PER_BIT ** (above["bits"] - below["bits"]) if key == "bits" else None,
            "cliff": above["verdict"] != "cliff" and below["verdict"] == "cliff"}
