# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compares a result with an earlier one of the same evaluation: what got worse?"""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, nearest
from .report import SCHEMA, show

# From best to worst; that a verdict could not be reached is not worse than drift.
_ORDER = {"ok": 0, "drift": 1, "inconclusive": 1, "cliff": 2}
_SAME = ("task", "metric", "samples", "units", "output", "window", "stride")  # of the protocol
_KL_RATIO = 1.1  # of mean KL, beside leaving the earlier interval


class Baseline:
    """path: a file that `lowbit eval -o` or `--json` wrote."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.data = json.loads(self.path.read_text())
        except OSError as error:
            raise InvalidInput(f"{path}: {error.strerror}") from None
        except ValueError:
            raise InvalidInput(f"{path} is not a result of lowbit eval") from None
        if not isinstance(self.data, dict) or self.data.get("schema") != SCHEMA:
            raise InvalidInput(f"{path} is not a result of this version of lowbit eval (schema {SCHEMA})")

    def compare(self, data: dict[str, Any]) -> dict[str, Any]:
        """{file, regressions: [{candidate, what}]}; InvalidInput where the two are not of the same evaluation."""
        old, new = self.data["protocol"], data["protocol"]
        for key in _SAME:
            if old.get(key) != new.get(key):
                raise InvalidInput(f"{self.path} cannot be compared with: its {key} is {old.get(key)}, now it is {new.get(key)}")
        known = {c["name"]: c for c in self.data["candidates"]}
        regressions = []
        for candidate in data["candidates"]:
            earlier = known.get(candidate["name"])
            if earlier is None and len(known) == len(data["candidates"]) == 1:
                earlier = next(iter(known.values()))
            if earlier is None:
                raise InvalidInput(f"{self.path} has no candidate '{candidate['name']}'{nearest(candidate['name'], known)}")
            regressions += [{"candidate": candidate["name"], "what": what} for what in _worse(earlier, candidate, new["higher_is_better"])]
        return {"file": str(self.path), "regressions": regressions}


def _worse(old: dict[str, Any], new: dict[str, Any], higher_is_better: bool | None) -> list[str]:
    found = []
    before, now = old["verdict"]["value"], new["verdict"]["value"]
    if _ORDER[now] > _ORDER[before]:
        found.append(f"verdict {now}, was {before}: {new['verdict']['rule']}")
    changes = [(c["task"] or {}).get("change") for c in (old, new)]
    if all(changes) and higher_is_better is not None:
        (low, high), value = changes[0]["ci95"], changes[1]["value"]
        if value is None or low is not None and (value < low if higher_is_better else value > high):
            found.append(f"{new['task']['metric']} changed by {show(value)} against the reference, was {show(changes[0]['value'])} "
                         f"(95 % interval {show(low)} … {show(high)})")
    kl = [c["drift"].get("kl") for c in (old, new)]
    limit = (old["drift"].get("kl_ci95") or [None, None])[1]
    if kl[0] is not None and limit is not None and (kl[1] is None or not kl[1] <= max(limit, _KL_RATIO * kl[0], 1e-9)):
        found.append(f"mean KL {show(kl[1])} nats, was {show(kl[0])} (95 % interval up to {show(limit)})")
    return found
