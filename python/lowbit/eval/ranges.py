# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""How much of what the evaluation data make of a model lies outside of the ranges that a bundle was calibrated with."""
from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: A layer with a larger share of its input's values beyond its scale is named in a warning.
NOTABLE = 0.01


def outside_ranges(model: str, bundle: Path, manifest: dict[str, Any], data: Any, calibration: str | os.PathLike[str], *,
                   threads: int = 0, progress: Callable[[int, int | None], None] | None = None) -> list[dict[str, Any]] | None:
    """Per observed value {name, outside, saturated, wider_by}, the most saturated first; None for a bundle of another calibration.

    outside: the share of values beyond all that calibration saw; saturated: beyond the range that the recipe chose,
    absent where it chose none. The float model runs over the data once more, with observers.
    """
    from ..compiler import coverage_of  # needs the compiler, which evaluation alone does not

    digest = hashlib.sha256(Path(calibration).read_bytes()).hexdigest()
    if (manifest.get("calibration") or {}).get("sha256") != digest:
        return None
    found = coverage_of(model, str(bundle / "recipe.yaml"), data, calibration, threads=threads, progress=progress)
    keys = ("name", "outside", "saturated", "wider_by")
    rows = [{key: entry[key] for key in keys if key in entry} for entry in found["observers"]]
    return sorted(rows, key=lambda row: (-row.get("saturated", 0.0), -row.get("outside", 0.0), row["name"]))


def warning_of(name: str, rows: list[dict[str, Any]]) -> str | None:
    """One line where values are clipped that calibration had not seen; None where there is nothing to say."""
    notable = [row for row in rows if row.get("saturated", 0.0) > NOTABLE and row.get("outside", 0.0) > 0]
    if not notable:
        return None
    worst = notable[0]
    return (f"{name}: {len(notable)} of {len(rows)} ranges are too small for these data; the worst, of {worst['name']}, "
            f"clips {100 * worst['saturated']:.2g} % of the values: calibrate on data like these")
