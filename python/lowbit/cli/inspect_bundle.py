# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What a bundle says of itself, without running it: no device, driver or processor of its kind is needed."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..errors import InvalidInput
from .console import size


def read_bundle(path: Path) -> dict[str, Any]:
    """The manifest, with `name` and `total_bytes` of the folder's files."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput(f"{path}: is a folder without manifest.json, so it is no bundle") from None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path / 'manifest.json'}: {error}") from None
    if not isinstance(manifest, dict) or not str(manifest.get("schema", "")).startswith("lowbit.bundle/"):
        raise InvalidInput(f"{path / 'manifest.json'}: is not the manifest of a bundle")
    total = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return {"name": path.name, "total_bytes": total, **manifest}


def show_bundle(console: Console, data: dict[str, Any]) -> None:
    device = data.get("device") or {}
    summary = data.get("summary") or {}
    arch = f"{device['arch']}, host code {data.get('arch')}" if device else f"{data.get('arch')} ({', '.join(data.get('isa', []))})"
    console.print(f"[bold]{data['name']}[/]: bundle for {data.get('target')} ({arch}), {size(data['total_bytes'])}")
    console.print(f"  recipe {data.get('recipe', {}).get('name', '')}: {summary.get('quantized', 0)} of {summary.get('quantizable', 0)} layers quantized",
                  markup=False)
    for kind in ("inputs", "outputs"):
        for value in data.get(kind, []):
            dims = [s or ("?" if d < 0 else str(d)) for d, s in zip(value["dims"], value.get("symbols") or [""] * len(value["dims"]))]
            console.print(f"  {kind[:-1]}  {value['name']}: {value['dtype']} [{', '.join(dims)}]", markup=False)
    _table(console, ("layer", "operator", "weights", "activations"),
           [(layer.get("name", ""), layer.get("op", ""), layer.get("weights", ""), layer.get("activations", "")) for layer in data.get("layers", [])])
    _table(console, ("kernel", "from", "threads", "shared", "registers", "spilled", "layers"),
           [(kernel["name"], kernel.get("generator", ""), kernel.get("threads", ""), kernel.get("shared_bytes", ""), kernel.get("registers", ""),
             kernel.get("spill_bytes", ""), len(kernel.get("layers", []))) for kernel in device.get("kernels", [])])


def _table(console: Console, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in ("threads", "shared", "registers", "spilled", "layers") else "left")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)
