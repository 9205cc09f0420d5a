# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What to read and look at: the worst cases of each candidate; and how everything was measured."""
from __future__ import annotations

from typing import Any

from .. import pictures
from ..report import Report, show
from .markup import Cell, Html, details, number, table, tag, text


def worst(report: Report) -> Html:
    parts = []
    for i, c in enumerate(report.data["candidates"]):
        images = report.pictures(i)
        if not c["worst"]:
            continue
        if any(image is not None for image in images):
            body = tag("ul", *(_picture(entry, image) for entry, image in zip(c["worst"], images)), class_="worst")
        elif "answers" in c["worst"][0]:
            body = _answers(c)
        elif "context" in c["worst"][0]:
            body = _tokens(c)
        else:
            keys = [key for key in dict.fromkeys(key for entry in c["worst"] for key in entry) if key != "index"]
            rows = [[str(entry["index"]), *(_cell(entry.get(key)) for key in keys)] for entry in c["worst"]]
            kinds = ["number" if all(isinstance(e.get(k), (int, float, type(None))) for e in c["worst"]) else "text" for k in keys]
            body = table(f"Worst samples of {c['name']}", [("sample", "text"), *((k.replace("_", " "), kind) for k, kind in zip(keys, kinds))], rows)
        parts.append(details(c["name"], body, open_=not parts))
    return text(*parts)


def _cell(value: Any) -> Any:
    return number(value) if value is None or isinstance(value, (int, float)) else Cell(" ".join(map(str, value)) if isinstance(value, list) else str(value), kind="wrap")


def _picture(entry: dict[str, Any], image: Any) -> Html:
    shown = tag("img", src=pictures.data_uri(image), width=image.shape[1], height=image.shape[0], alt=f"sample {entry['index']}") if image is not None else None
    facts = [tag("strong", f"sample {entry['index']}")]
    if "reference" in entry:
        facts.append(f"label {entry['label']}; {entry['reference']} → {entry['candidate']}")
        facts.append(f"reference sure to {entry['confidence']:.0%}")
    quantity = next((key for key in ("kl", "relative_error", "cosine_distance") if key in entry), None)
    if quantity:
        facts.append(f"{'KL' if quantity == 'kl' else quantity.replace('_', ' ')} {show(entry[quantity])}")
    return tag("li", shown, *(tag("div", fact) for fact in facts))


def _answers(c: dict[str, Any]) -> Html:
    """Worst items of tasks on text: the prompt's end, what was right, and what each model said."""
    rows = [[str(e["index"]), Cell(e["text"], kind="read"), *(Cell(e["answers"][key], kind="read") for key in ("expected", "reference", "candidate")),
             number(e["confidence"], f"{e['confidence']:.0%}"), number(e["kl"])] for e in c["worst"]]
    columns = [("item", "text"), ("prompt", "text"), ("expected", "text"), ("reference", "text"), ("candidate", "text"), ("reference sure to", "number"), ("KL", "number")]
    return table(f"Worst items of {c['name']}", columns, rows)


def _tokens(c: dict[str, Any]) -> Html:
    """Worst tokens: what came before, what came, and what each model would have said."""
    rows = []
    for entry in c["worst"]:
        words = entry.get("words")
        before = words["context"] if words else " ".join(map(str, entry["context"]))
        name = (lambda key: words[key]) if words else (lambda key: str(entry[key]))  # noqa: B023
        rows.append([f"{entry['index']}, {entry['position']}", Cell(text("… ", before, " " if not words else None, tag("mark", name("label"))), kind="read"),
                     name("reference"), name("candidate"), number(entry["confidence"], f"{entry['confidence']:.0%}"), number(entry["kl"]), number(entry["loss_increase"])])
    columns = [("sequence, position", "text"), ("context and token", "text"), ("reference's choice", "text"), ("candidate's", "text"), ("sure to", "number"),
               ("KL", "number"), ("loss increase", "number")]
    return table(f"Worst tokens of {c['name']}" + ("" if "words" in c["worst"][0] else " (numbers of tokens; --tokenizer shows their text)"), columns, rows)


def protocol(report: Report) -> Html:
    data = report.data
    rows: list[tuple[str, str]] = [("reference", f"{data['reference']['name']} in {data['reference']['runtime']}")]
    rows += [(f"candidate {i + 1}", f"{c['name']} in {c['runtime']}") for i, c in enumerate(data["candidates"])]
    for key, value in data["protocol"].items():
        rows.append((key.replace("_", " "), _plain(value)))
    overlap, batch = data["guards"]["overlap"], data["guards"]["batch_invariance"]
    rows.append(("calibration data among these", "not looked for" if overlap is None else _plain(overlap)))
    if batch:
        rows.append(("one by one against batched", _plain(batch)))
    return tag("dl", *((tag("dt", key), tag("dd", value)) for key, value in rows))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_plain(v)}" for key, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else show(value)
