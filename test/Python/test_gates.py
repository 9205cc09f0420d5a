# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Gates: how they are read, what they compare with, and that nothing slips through."""
import math

import pytest

from lowbit import GateFailed, InvalidInput
from lowbit.eval.gates import lookup, parse_gate
from lowbit.eval.report import Report

CANDIDATE = {
    "name": "a", "task": {"value": 0.9, "ci95": [0.8, 0.95]}, "drift": {"top1_agreement": 0.99, "kl": math.nan, "outputs": {"y.0": {"cosine": 1.0}, "y": {"cosine": 0.5}}},
    "slices": {"class=3": {"change": -0.01}, "domain=a.b": {"change": 0}}, "bytes": None, "verdict": {"value": "ok"}}


@pytest.mark.parametrize("text, holds", [
    ("drift.top1_agreement >= 0.99", True), ("drift.top1_agreement > 0.99", False), ("drift.top1_agreement >= 99%", True),
    ("task.value<0.95", True), ("task.value == 0.9", True), ("task.value != 0.9", False), ("task.value <= 9e-1", True),
    ("task.ci95.0 >= 0.8", True), ("slices.class=3.change > -0.02", True), ("slices.domain=a.b.change == 0", True),
    ("drift.outputs.y.0.cosine == 1", True), ("drift.outputs.y.cosine == 0.5", True),
    ("verdict.value == ok", True), ("verdict.value != cliff", True), ("verdict.value == drift", False),
    ("drift.kl < 1", False), ("drift.kl >= 0", False), ("drift.kl != 5", False),
])
def test_gates(text, holds):
    assert parse_gate(text).holds(CANDIDATE) is holds


@pytest.mark.parametrize("text", ["", "drift.kl", "drift.kl < ", "< 3", "drift.kl < many", "drift.kl < nan", "drift.kl =< 3", "a b"])
def test_gates_that_cannot_be_read(text):
    with pytest.raises(InvalidInput):
        parse_gate(text)


@pytest.mark.parametrize("path, hint", [
    ("drift.top1_agrement", "did you mean 'drift.top1_agreement'"), ("drfit.kl", "did you mean 'drift'"), ("task.ci95.2", "has 2 entries"), ("slices.class=4.change", "slices.class=3"),
])
def test_missing_paths_are_errors_with_a_hint(path, hint):
    with pytest.raises(InvalidInput, match="not in the report") as caught:
        lookup(CANDIDATE, path)
    assert hint in str(caught.value)


@pytest.mark.parametrize("text, why", [("drift < 1", "an object"), ("bytes < 1", "missing"), ("verdict.value < 1", "'ok'")])
def test_gates_need_numbers(text, why):
    with pytest.raises(InvalidInput, match=why):
        parse_gate(text).holds(CANDIDATE)


def test_a_gate_holds_for_every_candidate():
    report = Report({"candidates": [CANDIDATE, {**CANDIDATE, "name": "b", "task": {"value": 0.1}}]}, [])
    report.check("drift.top1_agreement >= 0.99")
    with pytest.raises(GateFailed, match="b: gate 'task.value >= 0.5' does not hold") as caught:
        report.check("task.value >= 0.5")
    assert caught.value.code == 1
    assert report.apply([parse_gate("task.value >= 0.5")]) is False
    assert [g["holds"] for g in report.data["gates"]] == [True, False]
