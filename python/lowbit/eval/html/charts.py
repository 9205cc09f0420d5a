# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Charts as inline SVG, drawn by matplotlib in the page's own colours: CSS variables, so that light and dark both work.

Each chart is drawn twice, for wide and for narrow windows, since the letters of a picture shrink with it.
"""
from __future__ import annotations

import importlib.util
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import Unavailable
from .markup import Html, tag

# What is drawn in these colours is given the variable in their place.
_INK, _SOFT, _LINE, _PAPER = "#0b0001", "#0b0002", "#0b0003", "#0b0004"
_VARIABLES = {_INK: "--fg", _SOFT: "--soft", _LINE: "--line", _PAPER: "--bg", **{f"#0c000{i}": f"--c{i}" for i in range(6)}}
_DASHES = ((0, ()), (0, (5, 2)), (0, (1.5, 1.5)))
_DASHES_SVG = (None, "5 2", "1.5 1.5")
_MARKERS = "osD^vPX"  # of the reference, then of the candidates
_SIGNS = "■◆▲▼✚✖"
WIDE, NARROW = (10.5, 4.2), (4.7, 3.9)  # inches of 72 units


@dataclass
class Point:
    """A model in a plane. name: which of the candidates, from 0; None is the reference."""

    name: int | None
    x: float
    y: float
    bounds: tuple[float, float] | None = None


@dataclass
class Plane:
    """One chart of points. better: "low" or "high" y; the line joins those that no other one beats."""

    x_label: str
    y_label: str
    points: list[Point]
    better: str = "low"
    log_y: bool = False
    percent: bool = False


def require() -> None:
    """Raises Unavailable where charts cannot be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise Unavailable("writing a page needs the Python package matplotlib: pip install matplotlib")


def colour(i: int) -> str:
    return f"#0c000{i % 6}"


def swatch(i: int) -> Html:
    """The line and the marker of candidate i, for a legend beside a chart."""
    line = tag("line", x1=1, x2=31, y1=7, y2=7, stroke=f"var(--c{i % 6})", stroke_width=2.5, stroke_dasharray=_DASHES_SVG[i // 6 % 3])
    sign = tag("span", _SIGNS[i % 6], style=f"color:var(--c{i % 6})")
    return tag("span", tag("svg", line, viewBox="0 0 32 14", class_="swatch"), sign, aria_hidden="true")


def tails(name: str, title: str, x_label: str, y_label: str, series: Sequence[Sequence[tuple[float, float]]]) -> Html:
    """Curves of (value, share of the units at least that large), both axes logarithmic."""
    points = [[(x, y) for x, y in curve if 0 < x < math.inf] for curve in series]
    largest = max((x for curve in points for x, _ in curve), default=0.0)
    if not largest:
        return Html("")
    # What almost all units exceed is no tail: at most nine decades are shown.
    smallest = max(min(x for curve in points for x, y in curve if y <= 0.95 or x == curve[0][0]), largest * 1e-9)

    def draw(figure: Any, narrow: bool) -> None:
        axes = figure.subplots()
        _logarithmic(axes, "x")
        _logarithmic(axes, "y", _share)
        for i, curve in enumerate(points):
            if curve:
                x, y = zip(*curve)
                axes.step(x, y, where="pre", color=colour(i), linestyle=_DASHES[i // 6 % 3], linewidth=1.6)
                axes.plot(x[0], y[0], "o", color=colour(i), markersize=3.5)
        axes.set_xlim(smallest / 1.3, largest * 1.5)
        axes.set_ylim(top=1.3)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)

    return _chart(name, title, draw, WIDE, NARROW)


def planes(name: str, title: str, charts: Sequence[Plane]) -> Html:
    """Charts beside each other, below each other in narrow windows."""
    charts = [chart for chart in charts if any(point.name is not None for point in chart.points)]
    if not charts:
        return Html("")

    def draw(figure: Any, narrow: bool) -> None:
        grid = figure.subplots(len(charts), 1, squeeze=False) if narrow else figure.subplots(1, len(charts), squeeze=False)
        for axes, chart in zip(grid.ravel(), charts):
            _plane(axes, chart)

    return _chart(name, title, draw, (WIDE[0] if len(charts) > 1 else 6.5, 3.9), (NARROW[0], 3.4 * len(charts)))


def _plane(axes: Any, chart: Plane) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if chart.log_y:
        _logarithmic(axes, "y")
    elif chart.percent:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.6g} %"))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: si(x)))
    axes.grid(True, color=_LINE, linewidth=0.6)
    front = _front(chart)
    if len(front) > 1:
        axes.step([p.x for p in front], [p.y for p in front], where="post", color=_SOFT, linewidth=1, linestyle=(0, (1, 2)))
    for point in chart.points:
        ink = _INK if point.name is None else colour(point.name)
        if point.bounds:
            axes.vlines(point.x, *point.bounds, color=ink, linewidth=1.2)
        axes.plot(point.x, point.y, _MARKERS[0 if point.name is None else 1 + point.name % 6], color=ink, markersize=7)
        if point.name is None or not point.bounds:  # bars stand close together; the legend has their signs
            axes.annotate("reference" if point.name is None else str(point.name + 1), (point.x, point.y), (6 if point.name is not None else -6, 5),
                          textcoords="offset points", color=ink, ha="left" if point.name is not None else "right", fontweight="bold")
    axes.margins(0.12, 0.15)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)


def _front(chart: Plane) -> list[Point]:
    """The points that no other one beats, by x."""
    sign = 1 if chart.better == "low" else -1
    front: list[Point] = []
    for point in sorted(chart.points, key=lambda p: (p.x, sign * p.y)):
        if not front or sign * point.y < sign * front[-1].y:
            front.append(point)
    return front


def _logarithmic(axes: Any, which: str, label: Callable[[int], str] | None = None) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda v, _: (label or _power)(round(math.log10(v))) if v > 0 else ""))
    axis.grid(True, color=_LINE, linewidth=0.6)


def _power(power: int) -> str:
    return f"{10.0**power:g}" if -3 <= power <= 4 else "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _share(power: int) -> str:
    return f"{10.0 ** (power + 2):g} %"


def si(value: float) -> str:
    """A number with k, M or G."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g}"


def _chart(name: str, title: str, draw: Callable[[Any, bool], None], wide: tuple[float, float], narrow: tuple[float, float]) -> Html:
    return tag("div", _svg(f"{name}-w", title, draw, wide, False), _svg(f"{name}-n", title, draw, narrow, True), class_="chart")


def _svg(name: str, title: str, draw: Callable[[Any, bool], None], size: tuple[float, float], narrow: bool) -> Html:
    import matplotlib
    from matplotlib.figure import Figure

    settings = {
        "svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False, "font.family": "DejaVu Sans", "font.size": 9.5, "axes.edgecolor": _SOFT,
        "axes.labelcolor": _SOFT, "xtick.color": _SOFT, "ytick.color": _SOFT, "text.color": _INK, "axes.spines.top": False, "axes.spines.right": False,
        "axes.axisbelow": True, "figure.constrained_layout.use": True, "axes.unicode_minus": True, "path.simplify": True}
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **settings}):
        figure = Figure(figsize=size)
        figure.patch.set_visible(False)
        draw(figure, narrow)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return Html(_adapt(file.getvalue(), name, title, "narrow" if narrow else "wide"))


def _adapt(svg: str, name: str, title: str, kind: str) -> str:
    """The <svg> alone, with CSS variables for colours, ids that are unique on the page, and a title."""
    svg = svg[svg.index("<svg") :]
    view = re.search(r'viewBox="([^"]+)"', svg).group(1)
    svg = svg[svg.index(">") + 1 :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.S)
    for placeholder, variable in _VARIABLES.items():
        svg = svg.replace(placeholder, f"var({variable})")
    svg = svg.replace("xlink:href", "href")
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m.group(1)}"' if m.group(1) in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"font: (\w+) ([\d.]+)px [^;\"]*", r"font-weight: \1; font-size: \2px", svg)
    svg = re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><")
    head = tag("title", title, id=f"{name}-title")
    return f'<svg viewBox="{view}" class="{kind}" role="img" aria-labelledby="{name}-title">{head}{svg.strip()}'
