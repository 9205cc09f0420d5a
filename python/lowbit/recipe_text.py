# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Edits recipes in their canonical text, as bundles hold them: rules put before all others decide about the layers they name."""
from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .errors import InvalidInput

_RULE = "  - match: "
_OPTIONAL = "    optional: true\n"


@dataclass(frozen=True)
class RecipeText:
    """head: everything before the rules. rules: the text of each, and the line of the file where it begins."""

    head: str
    rules: tuple[str, ...]
    lines: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> RecipeText:
        """The canonical form that bundles hold as recipe.yaml; InvalidInput for anything else."""
        begin = re.search(r"^rules:( \[\])?\n", text, re.MULTILINE)
        if not text.startswith("lowbit: 1\n") or not begin:
            raise InvalidInput("the bundle's recipe.yaml is not in the form that lowbit compile writes")
        rules: list[str] = []
        lines: list[int] = []
        for number, line in enumerate(text[begin.end():].splitlines(keepends=True), text[: begin.end()].count("\n") + 1):
            if line.startswith(_RULE):
                rules.append("")
                lines.append(number)
            elif not rules or not line.startswith("    "):
                raise InvalidInput(f"line {number} of the bundle's recipe.yaml is not in the form that lowbit compile writes")
            rules[-1] += line
        return cls(text[: begin.start()], tuple(rules), tuple(lines))

    def at(self, line: int) -> str:
        """The text of the rule that holds this line of the file."""
        return next(rule for rule, begin in zip(reversed(self.rules), reversed(self.lines)) if begin <= line)

    def without(self, transform: str) -> RecipeText:
        """The recipe without a transform, where it lists it."""
        found = re.search(r"^transforms: \[(.*)\]$", self.head, re.MULTILINE)
        listed = re.findall(r"\{[\w-]+: \{[^}]*\}\}|[\w-]+", found.group(1)) if found else []
        kept = [text for text in listed if re.match(r"\{?([\w-]+)", text).group(1) != transform]
        if kept == listed:
            return self
        return replace(self, head=self.head[: found.start(1)] + ", ".join(kept) + self.head[found.end(1):])

    def with_rules(self, first: Iterable[tuple[Iterable[str], str]]) -> str:
        """The recipe with a rule for each (names of layers, scheme) before its own, which become optional."""
        text = self.head + "rules:\n"
        for names, scheme in first:
            patterns = ", ".join(json.dumps(pattern(name), ensure_ascii=False) for name in names)
            text += f"{_RULE}{{name: [{patterns}]}}\n{scheme}"
        for rule in self.rules:
            text += rule if rule.endswith(_OPTIONAL) else rule + _OPTIONAL
        return text


def pattern(name: str) -> str:
    """A pattern that matches this name alone."""
    if "*" in name or name.startswith("re:"):
        return "re:" + re.sub(r"([\\.^$*+?()\[\]{}|])", r"\\\1", name)
    return name


def activations_of(rule: str) -> str:
    """The `activations` of a rule's text, `float` where it says none."""
    return _value(rule, "activations") or "float"


def weights_of(rule: str) -> str:
    """The `weights` of a rule's text, `float` where it says none."""
    return _value(rule, "weights") or "float"


def _value(rule: str, key: str) -> str:
    found = re.search(rf"^    {key}: (.*)\n", rule, re.MULTILINE)
    return found.group(1) if found else ""


def weights_scheme(weights: str, activations: str = "float") -> str:
    return f"    weights: {weights}\n    activations: {activations}\n"


KEEP_FLOAT = "    keep: float\n"
KEEP_FP16 = "    keep: fp16\n"
