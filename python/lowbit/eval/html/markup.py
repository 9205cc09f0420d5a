# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Builds HTML in which everything that is not `Html` is escaped, so that no name of a model or file can become markup."""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ..report import show

_VOID = {"meta", "input", "img", "br"}


class Html(str):
    """Text that is markup already."""


def text(*children: Any) -> Html:
    """The children one after the other: `Html` as it is, other text escaped, None left out, sequences flattened."""
    parts = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, str):
            parts.append(escape(child, quote=False))
        elif isinstance(child, Iterable):
            parts.append(text(*child))
        else:
            parts.append(escape(str(child), quote=False))
    return Html("".join(parts))


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """An element. Attributes lose a trailing underscore and get hyphens for others; None and False are left out."""
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        written.append(f" {key}" if value is True else f' {key}="{escape(str(value))}"')
    start = f"<{name}{''.join(written)}>"
    return Html(start if name in _VOID else f"{start}{text(*children)}</{name}>")


@dataclass
class Cell:
    """One entry of a table. value: what it is sorted by, where that is not its text; kind: a class of the style sheet."""

    shown: Any
    value: float | None = None
    kind: str | None = None
    style: str | None = None


def number(value: Any, shown: str | None = None, kind: str | None = None) -> Cell:
    """A cell for a figure, None where there is none; `shown` replaces four significant digits."""
    real = isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
    return Cell(show(value) if shown is None else shown, float(value) if real else None, kind)


def table(caption: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]], *, sort: bool = False, name: str | None = None) -> Html:
    """A table that scrolls by itself where it is wider than the page.

    columns: (title, "text" or "number"); rows: of Cells, texts or numbers, the first cell being the row's header.
    sort: its headers become buttons. name: the id that a filter refers to.
    """
    def cell(entry: Any, column: int) -> Html:
        entry = entry if isinstance(entry, Cell) else (Cell(entry) if isinstance(entry, str) or entry is None else number(entry))
        kinds = " ".join(filter(None, ["t" if columns[column][1] == "text" else None, entry.kind])) or None
        by = None if not sort or columns[column][1] == "text" or entry.value is None else f"{entry.value:.9g}"
        head = {"scope": "row"} if column == 0 else {}
        return tag("th" if column == 0 else "td", entry.shown, class_=kinds, data_v=by, style=entry.style, **head)

    heads = [tag("th", title, scope="col", class_="t" if kind == "text" else None, data_kind=kind if sort else None) for title, kind in columns]
    body = [tag("tr", *(cell(entry, i) for i, entry in enumerate(row))) for row in rows]
    whole = tag("table", tag("caption", tag("span", caption)), tag("thead", tag("tr", *heads)), tag("tbody", *body), id=name, data_sort=sort)
    return tag("div", whole, class_="scroll", role="region", aria_label=caption, tabindex="0")


def details(summary: Any, *children: Any, open_: bool = False) -> Html:
    return tag("details", tag("summary", summary), *children, open=open_)
