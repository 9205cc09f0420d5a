# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Verdicts: ok, drift, cliff or inconclusive, by stated limits.

*cliff*: a collapse. Open: the mean itself breaks a limit. Hidden: the mean passes, a tail or a
slice does not. *drift*: a significant change, no collapse. *inconclusive*: no collapse was seen,
but this much data could not have detected the gate (or, without one, a collapse). The limits are
printed in the report's protocol; gates are for stricter ones.
"""
from __future__ import annotations

import math
from typing import Any

from .figures import Figures
from .gates import Gate

LIMITS: dict[str, dict[str, float]] = {
    "classify": {
        "open.accuracy_drop": 0.05, "open.accuracy_drop_p": 0.01, "open.top1_agreement": 0.80,
        "hidden.slice_drop": 0.10, "hidden.slice_p": 0.01, "hidden.confident_broken": 0.02, "hidden.confident_broken_count": 3,
        "drift.p": 0.05, "drift.kl": 0.01, "drift.top1_agreement": 0.98,
    },
    "lm": {
        "open.perplexity_ratio": 1.5, "open.kl": 0.5,
        "hidden.kl_cvar1": 2.0, "hidden.slice_ratio": 1.5, "hidden.slice_count": 100, "hidden.sequence_ratio": 2.0,
        "hidden.position_ratio": 1.5, "hidden.position_p": 0.01,
        # 1 % is MLPerf's limit for quantized models (99 % of the reference's quality). Where next tokens are nearly tied any
        # change swaps them: KL of 0.01 allows a total variation of 7 % (Pinsker's inequality).
        "drift.perplexity_ratio": 1.01, "drift.kl": 0.01, "drift.top1_agreement": 0.95,
    },
    "regress": {
        "open.rmse_ratio": 1.5, "open.sqnr_db": 10, "hidden.relative_error_cvar1": 0.5, "hidden.slice_ratio": 2.0, "drift.sqnr_db": 40,
    },
    "embed": {"open.spearman_drop": 0.05, "open.cosine_distance": 0.1, "hidden.cosine_distance_cvar1": 0.3, "drift.cosine_distance": 0.01},
    "drift": {"open.sqnr_db": 10, "hidden.relative_error_cvar1": 0.5, "drift.sqnr_db": 40},
}


# Tasks whose units are right or wrong.
ACCURACY = ("classify", "choices", "cloze", "generate")


# Generations of equal worth part at the first near tie, so that how many stayed the same decides nothing.
LIMITS["generate"] = {key: limit for key, limit in LIMITS["classify"].items() if not key.endswith("top1_agreement")}


def limits_for(task: str) -> dict[str, float]:
    task = "classify" if task in ("choices", "cloze") else task
    return LIMITS.get(task, LIMITS["drift"])


def verdict(figures: Figures, index: int, candidate: dict[str, Any], gates: list[Gate]) -> dict[str, str]:
    """{value, rule, where} for a candidate whose figures are in `candidate`."""
    task = figures.task.name
    limits = limits_for(task)
    if candidate["drift"]["nonfinite"]:
        where = next(name for name, drift in figures.seen.outputs[index].items() if drift.nonfinite)
        return _result("cliff", "open: the candidate's output holds NaN or infinity", f"output {where}")
    judge = {**dict.fromkeys(ACCURACY, _classify), "lm": _language, "regress": _regress, "embed": _embed}.get(task, _plain)
    found = judge(figures, index, candidate, limits)
    if found["value"] == "cliff":
        return found
    blind = _undetectable(figures, candidate, gates)
    return blind or found


def _result(value: str, rule: str, where: str = "") -> dict[str, str]:
    return {"value": value, "rule": rule, "where": where}


def _classify(figures: Figures, index: int, c: dict[str, Any], limits: dict[str, float]) -> dict[str, str]:
    flips, drift = c["flips"], c["drift"]
    drop, p = (flips["correct_to_wrong"] - flips["wrong_to_correct"]) / flips["pairs"], flips["mcnemar_p_adjusted"]
    if drop >= limits["open.accuracy_drop"] and p < limits["open.accuracy_drop_p"]:
        return _result("cliff", f"open: accuracy fell by {drop:.1%} (limit {limits['open.accuracy_drop']:.0%}, McNemar p = {p:.1e})", "all samples")
    if "open.top1_agreement" in limits and drift["top1_agreement"] <= limits["open.top1_agreement"]:
        return _result("cliff", f"open: only {drift['top1_agreement']:.1%} of the answers stayed (limit {limits['open.top1_agreement']:.0%})", "all samples")
    level = limits["hidden.slice_p"] / max(1, figures.slice_count())
    for name, part in sorted(c["slices"].items(), key=lambda item: item[1]["change"]):
        if -part["change"] >= limits["hidden.slice_drop"] and part["mcnemar_p"] < level and part["correct_to_wrong"] > part["wrong_to_correct"]:
            return _result("cliff", f"hidden: accuracy of a slice fell by {-part['change']:.1%} (limit {limits['hidden.slice_drop']:.0%}, "
                                    f"McNemar p = {part['mcnemar_p']:.1e}) while the mean passes", f"slice {name} ({part['count']} samples)")
    sure = flips["confident"]
    if sure["share"] >= limits["hidden.confident_broken"] and sure["broken"] >= limits["hidden.confident_broken_count"]:
        return _result("cliff", f"hidden: {sure['broken']} of {sure['count']} answers that the reference was sure of and right about broke "
                                f"(limit {limits['hidden.confident_broken']:.0%})", "tail: confident answers")
    if p < limits["drift.p"]:
        return _result("drift", f"answers changed significantly: {flips['correct_to_wrong']} correct→wrong, {flips['wrong_to_correct']} wrong→correct, McNemar p = {p:.2g}", "all samples")
    change = c["task"]["change"]
    if figures.task.metric != "accuracy" and change["p_adjusted"] < limits["drift.p"]:
        return _result("drift", f"{figures.task.metric} changed significantly, by {change['value']:.3g} (p = {change['p_adjusted']:.2g})", "all samples")
    return _moved(drift, limits, f"{flips['pairs']:,} samples detect a drop of ≥ {flips['detectable_drop']:.2%}")


def _moved(drift: dict[str, Any], limits: dict[str, float], power: str, within: str | None = None) -> dict[str, str]:
    """within: what to say of a change that was found and is within its limit."""
    if drift["kl"] > limits["drift.kl"]:
        return _result("drift", f"the distribution moved by {drift['kl']:.3g} nats of KL (limit {limits['drift.kl']:g})", "all samples")
    if "drift.top1_agreement" in limits and drift["top1_agreement"] < limits["drift.top1_agreement"]:
        return _result("drift", f"{drift['top1_agreement']:.1%} of the answers stayed (limit {limits['drift.top1_agreement']:.0%})", "all samples")
    held = "KL and agreement within their limits" if "drift.top1_agreement" in limits else "KL within its limit"
    return _result("ok", f"{within or f'no difference of the task value found ({power})'}, {held}", "")


def _language(figures: Figures, index: int, c: dict[str, Any], limits: dict[str, float]) -> dict[str, str]:
    drift = c["drift"]
    ratio = drift["perplexity_ratio"]
    if ratio >= limits["open.perplexity_ratio"]:
        return _result("cliff", f"open: perplexity rose to {ratio:.2f} times the reference's (limit {limits['open.perplexity_ratio']:g})", "all positions")
    if drift["kl"] >= limits["open.kl"]:
        return _result("cliff", f"open: mean KL {drift['kl']:.2f} nats (limit {limits['open.kl']:g})", "all positions")
    for name, part in sorted(c["slices"].items(), key=lambda item: -item[1]["candidate"] / item[1]["reference"]):
        change = part["candidate"] / part["reference"]
        if part["count"] >= limits["hidden.slice_count"] and change >= limits["hidden.slice_ratio"]:
            return _result("cliff", f"hidden: perplexity of a slice rose to {change:.2f} times the reference's (limit {limits['hidden.slice_ratio']:g}) "
                                    "while the mean passes", f"slice {name} ({part['count']} positions)")
    sequence = figures.worst_sequence(index)
    if sequence and sequence[0] >= limits["hidden.sequence_ratio"]:
        return _result("cliff", f"hidden: one sequence's perplexity rose to {sequence[0]:.2f} times the reference's (limit {limits['hidden.sequence_ratio']:g}) "
                                "while the mean passes", f"sequence {sequence[1]}")
    worst = c["tail"]["kl"]["cvar1"]
    if worst >= limits["hidden.kl_cvar1"]:
        return _result("cliff", f"hidden: the worst 1 % of positions have a mean KL of {worst:.2f} nats (limit {limits['hidden.kl_cvar1']:g}) "
                                f"while the mean is {drift['kl']:.3f}", f"tail: sequence {c['worst'][0]['index']}, position {c['worst'][0]['position']}")
    place = figures.position_change(index)
    if place and place["p"] < limits["hidden.position_p"] and place["after"] / max(place["before"], 1.0) >= limits["hidden.position_ratio"]:
        return _result("cliff", f"hidden: from position {place['position']} on perplexity is {place['after']:.2f} times the reference's, {place['before']:.2f} before "
                                f"(limit {limits['hidden.position_ratio']:g} between them)", f"positions from {place['position']}")
    low, high = drift["perplexity_ratio_ci95"]
    if ratio > limits["drift.perplexity_ratio"] and low > 1 and c["task"]["change"]["p_adjusted"] < 0.05:
        return _result("drift", f"perplexity rose significantly, to {ratio:.4f} times the reference's (95 % interval {low:.4f} … {high:.4f})", "all positions")
    power = f"{figures.m.protocol['units']:,} positions detect a ratio of ≥ {drift['perplexity_ratio_detectable']:.4f}"
    within = f"perplexity rose significantly, but only to {ratio:.4f} times the reference's (limit {limits['drift.perplexity_ratio']:g})" if low > 1 else None
    return _moved(drift, limits, power, within)


def _regress(figures: Figures, index: int, c: dict[str, Any], limits: dict[str, float]) -> dict[str, str]:
    reference, value = (math.sqrt(figures.seen.mean(name)) for name in ("value", f"{index}.value"))
    if reference > 0 and value / reference >= limits["open.rmse_ratio"]:
        return _result("cliff", f"open: rmse rose to {value / reference:.2f} times the reference's (limit {limits['open.rmse_ratio']:g})", "all samples")
    found = _plain(figures, index, c, limits)
    if found["value"] == "cliff":
        return found
    for name, part in c["slices"].items():
        if part["reference"] > 0 and part["count"] >= 20 and part["candidate"] / part["reference"] >= limits["hidden.slice_ratio"]:
            return _result("cliff", f"hidden: rmse of a slice rose to {part['candidate'] / part['reference']:.2f} times the reference's "
                                    f"(limit {limits['hidden.slice_ratio']:g}) while the mean passes", f"slice {name} ({part['count']} samples)")
    change, metric = c["task"]["change"], figures.task.metric
    low, high = change["ci95"]
    worse = high < 0 if figures.task.higher_is_better else low > 0
    if worse and change["p_adjusted"] < 0.05:
        return _result("drift", f"{metric} got worse significantly, by {abs(change['value']):.3g} (95 % interval of the change {low:.3g} … {high:.3g})", "all samples")
    return found


def _embed(figures: Figures, index: int, c: dict[str, Any], limits: dict[str, float]) -> dict[str, str]:
    distance, change = c["tail"]["cosine_distance"], (c["task"] or {}).get("change")
    if change and -change["value"] >= limits["open.spearman_drop"] and change["ci95"][1] < 0:
        return _result("cliff", f"open: {figures.task.metric.capitalize()}'s correlation fell by {-change['value']:.3f} (limit {limits['open.spearman_drop']:g})", "all pairs")
    if distance["mean"] >= limits["open.cosine_distance"]:
        return _result("cliff", f"open: mean cosine distance {distance['mean']:.3f} (limit {limits['open.cosine_distance']:g})", "all samples")
    if distance["cvar1"] >= limits["hidden.cosine_distance_cvar1"]:
        return _result("cliff", f"hidden: the worst 1 % of embeddings have a mean cosine distance of {distance['cvar1']:.3f} (limit {limits['hidden.cosine_distance_cvar1']:g}) "
                                f"while the mean is {distance['mean']:.3f}", f"tail: sample {c['worst'][0]['index']}")
    if change and not change["ci95"][0] <= 0 <= change["ci95"][1] and change["p_adjusted"] < 0.05:
        return _result("drift", f"the correlation changed significantly, by {change['value']:.3g}", "all pairs")
    if distance["mean"] > limits["drift.cosine_distance"]:
        return _result("drift", f"mean cosine distance {distance['mean']:.3g} (limit {limits['drift.cosine_distance']:g})", "all samples")
    return _result("ok", _found_nothing(change) + "distances within their limits", "")


def _plain(figures: Figures, index: int, c: dict[str, Any], limits: dict[str, float]) -> dict[str, str]:
    chosen = figures.m.protocol["output"]
    sqnr = c["drift"]["outputs"][chosen]["sqnr_db"]
    if not sqnr >= limits["open.sqnr_db"]:
        return _result("cliff", f"open: SQNR {sqnr:.1f} dB (limit {limits['open.sqnr_db']:g} dB)", f"output {chosen}")
    worst = c["tail"]["relative_error"]["cvar1"]
    if worst >= limits["hidden.relative_error_cvar1"]:
        return _result("cliff", f"hidden: the worst 1 % of samples are off by {worst:.0%} (limit {limits['hidden.relative_error_cvar1']:.0%}) while SQNR is {sqnr:.1f} dB",
                       f"tail: sample {c['worst'][0]['index']}")
    change = (c.get("task") or {}).get("change")
    if figures.task.name != "regress" and change and change["ci95"] and not change["ci95"][0] <= 0 <= change["ci95"][1] and change["p_adjusted"] < 0.05:
        return _result("drift", f"{c['task']['metric']} changed significantly, by {change['value']:.3g}", "all samples")
    if sqnr < limits["drift.sqnr_db"]:
        return _result("drift", f"SQNR {sqnr:.1f} dB (limit {limits['drift.sqnr_db']:g} dB)", f"output {chosen}")
    return _result("ok", _found_nothing(change) + "SQNR and the worst 1 % within their limits", "")


def _found_nothing(change: dict[str, Any] | None) -> str:
    """What not finding a difference means: how large a one would have been found."""
    if not change:
        return ""
    return f"no difference of the task value found (this much data detects ≥ {change['detectable']:.3g}), "


def _undetectable(figures: Figures, c: dict[str, Any], gates: list[Gate]) -> dict[str, str] | None:
    """Where this much data could not detect that a gate is broken (or, without gates, a collapse)."""
    units = figures.m.protocol["units"]
    flips = c["flips"]
    for gate in gates:
        need = {"p99": 100, "p999": 1000, "cvar1": 100}.get(gate.path.rpartition(".")[2])
        if need and gate.path.startswith("tail.") and units < need:
            return _result("inconclusive", f"{gate.path} needs at least {need} {figures.task.unit}s, there are {units}", f"gate {gate.text}")
        if isinstance(gate.limit, float) and gate.path == "drift.top1_agreement" and gate.operator.startswith(">") and gate.limit < 1:
            if 3 / units > 1 - gate.limit:  # none of n changed: at 95 % up to 3/n may
                return _result("inconclusive", f"{units} {figures.task.unit}s can show an agreement of at most {1 - 3 / units:.2%} at 95 %", f"gate {gate.text}")
        allowed = _allowed_drop(figures, c, gate)
        if allowed is not None and flips and flips["detectable_drop"] > allowed > 0:
            return _result("inconclusive", f"the gate allows a drop of {allowed:.2%}; {units} samples detect one of {flips['detectable_drop']:.2%} or more", f"gate {gate.text}")
    if gates:
        return None
    if figures.task.name in ACCURACY and flips["detectable_drop"] > LIMITS["classify"]["open.accuracy_drop"]:
        return _result("inconclusive", f"{units} samples detect a drop of {flips['detectable_drop']:.1%} or more, the limit of a collapse is {LIMITS['classify']['open.accuracy_drop']:.0%}", "all samples")
    if figures.task.name == "lm":
        high = c["drift"]["perplexity_ratio_ci95"][1]
        if figures.seen.samples > 1 and (math.isnan(high) or high >= LIMITS["lm"]["open.perplexity_ratio"]):
            return _result("inconclusive", f"the perplexity ratio may be up to {high:.2f}, the limit of a collapse is {LIMITS['lm']['open.perplexity_ratio']:g}", "all positions")
    return None


def _allowed_drop(figures: Figures, c: dict[str, Any], gate: Gate) -> float | None:
    if figures.task.name not in ACCURACY or figures.task.metric != "accuracy" or not isinstance(gate.limit, float) or not gate.operator.startswith(">"):
        return None
    if gate.path == "task.change.value":
        return -gate.limit
    if gate.path == "task.value":
        return c["task"]["value"] - c["task"]["change"]["value"] - gate.limit
    return None
