# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The report as one page that needs nothing else: verdicts first, then the figures, the layers, and what to read."""
from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from ..report import Report
from . import charts
from .findings import figures, flips, gates, pareto, slices, tails, verdicts
from .layers import layers
from .markup import Html, tag, text
from .worst import protocol, worst

_HERE = Path(__file__).parent


def page(*reports: Report) -> str:
    """A whole HTML document; several reports come one after the other."""
    charts.require()
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Nothing may be loaded, and no script but this one may run.
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = tag("head", tag("meta", charset="utf-8"), tag("meta", http_equiv="Content-Security-Policy", content=policy),
               tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
               tag("title", "lowbit eval: ", ", ".join(report.data["reference"]["name"] for report in reports)), tag("style", Html(style)))
    bodies = [_report(report, f"r{i}-" if len(reports) > 1 else "", i == 0) for i, report in enumerate(reports)]
    skip = tag("a", "Skip to the verdicts", href="#content", class_="skip")
    document = tag("html", head, tag("body", skip, tag("main", *bodies, id="content"), tag("script", Html(script))), lang="en")
    return f"<!doctype html>\n{document}\n"


def _report(report: Report, prefix: str, first: bool) -> Html:
    parts = [
        ("verdicts", "Verdicts", text(verdicts(report), gates(report))), ("figures", "Figures", figures(report)),
        ("pareto", "Size, speed and quality", pareto(report, prefix)), ("tail", "The tail", tails(report, prefix)),
        ("flips", "Answers that changed", flips(report)), ("slices", "Slices", slices(report, f"{prefix}slices-table")),
        ("layers", "Layers", layers(report, f"{prefix}layers-table")), ("worst", "Worst cases", worst(report)), ("protocol", "Protocol", protocol(report))]
    parts = [(f"{prefix}{name}", title, body) for name, title, body in parts if body]
    data = report.data
    counted = f"{data['protocol']['samples']:,} samples" + ("" if data["protocol"]["unit"] == "sample" else f", {data['protocol']['units']:,} {data['protocol']['unit']}s")
    title = tag("h1", "What quantization changed in ", data["reference"]["name"])
    button = tag("button", "Theme", type="button", id="theme", hidden=True) if first else None
    said = tag("p", f"Reference in {data['reference']['runtime']}; task {data['protocol']['task']} on {data['protocol']['data']}: {counted}.", class_="soft")
    contents = tag("nav", tag("ul", *(tag("li", tag("a", name, href=f"#{key}")) for key, name, _ in parts)), aria_label=f"Contents, {data['reference']['name']}")
    sections = [tag("section", tag("h2", name, id=f"{key}-title"), body, id=key, aria_labelledby=f"{key}-title") for key, name, body in parts]
    return tag("article", tag("div", title, button, class_="bar"), said, contents, *sections)
