# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""From a cliff to a model that passes: raises the fewest layers of a bundle until gates hold."""
from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .compiler import compile_bundle
from .data import Data, open_data
from .errors import InvalidInput
from .eval import evaluate
from .eval.gates import Gate, parse_gate
from .eval.sensitivity import Probe, measure_of, sensitivity
from .feeds import Feeder, Window
from .output import check_free, write_text
from .recipe_text import KEEP_FLOAT, KEEP_FP16, weights_scheme
from .runtime import Bundle
from .signature import batchable
from .split import Half, split
from .subjects import open_subject
from .variants import Layer, Variants

SCHEMA = "lowbit.restore/1"
LEVELS = ("int8", "fp16", "float")
PRUNE_TRIALS = 12
RULE = ("layers in the order of their drift when quantized alone, per byte that raising adds, and in that of the drift itself; the shortest "
        "prefix of either order with which the gates hold on the choosing half and its resamples; then layers taken back in chunks while they still hold")

Progress = Callable[[int, "int | None"], None]


@dataclass(frozen=True)
class Move:
    """Raises a layer to a level. bytes: what that adds, at nominal widths."""

    layer: Layer
    level: str
    bytes: int

    @property
    def scheme(self) -> str:
        if self.level == "int8":
            return weights_scheme("{type: i8, per: channel}", "float" if self.layer.op == "Gather" else self.layer.activations)
        return KEEP_FP16 if self.level == "fp16" else KEEP_FLOAT


def moves_of(layer: Layer, levels: Sequence[str]) -> list[Move]:
    """What can be done with a layer, lowest level first."""
    parameters = layer.fp32_bytes // 4
    result = []
    for level, width in (("int8", 1), ("fp16", 2), ("float", 4)):
        better = layer.bits < 8 or layer.per == "tensor" if level == "int8" else True
        if level in levels and better:
            result.append(Move(layer, level, max(parameters * width - layer.bytes, 1)))
    return result


@dataclass
class Trial:
    """A set of moves and how the gates fared on the choosing half."""

    moves: tuple[Move, ...]
    holds: bool
    candidate: dict[str, Any]

    @property
    def raised(self) -> dict[str, Move]:
        """The last move of each layer."""
        return {move.layer.name: move for move in self.moves}

    @property
    def added(self) -> int:
        return sum(move.bytes for move in self.raised.values())


@dataclass
class Search:
    """Tries sets of moves; each is compiled and evaluated once. judge: a bundle and data → a candidate's part of the report."""

    variants: Variants
    judge: Callable[[Bundle, Data], dict[str, Any]]
    gates: list[Gate]
    half: Half
    seed: int
    resamples: int
    progress: Progress | None = None
    _known: dict[frozenset[tuple[str, str]], Trial] = field(default_factory=dict)
    _stable: dict[frozenset[tuple[str, str]], bool] = field(default_factory=dict)
    tried: int = 0

    def _key(self, moves: Sequence[Move]) -> frozenset[tuple[str, str]]:
        return frozenset((name, move.level) for name, move in {move.layer.name: move for move in moves}.items())

    def schemes(self, moves: Sequence[Move]) -> dict[str, str]:
        return {move.layer.name: move.scheme for move in moves}

    def trial(self, moves: Sequence[Move]) -> Trial:
        """Whether all gates hold on the half, and on as many resamples of it."""
        key = self._key(moves)
        if key not in self._known:
            bundle = self.variants.compile(self.schemes(moves))
            try:
                candidate = self.judge(bundle, self.half.data)
                holds = self._hold(candidate) and self._on_resamples(bundle)
            finally:
                self.variants.drop(bundle)
            self._known[key] = Trial(tuple(moves), holds, candidate)
            self.tried += 1
            if self.progress:
                self.progress(self.tried, None)
        return self._known[key]

    def _hold(self, candidate: dict[str, Any]) -> bool:
        return all(gate.holds(candidate) for gate in self.gates)

    def _on_resamples(self, bundle: Bundle) -> bool:
        rng = np.random.default_rng(self.seed)
        return all(self._hold(self.judge(bundle, self.half.resampled(rng))) for _ in range(self.resamples))

    def shortest(self, moves: list[Move], low: int, high: int) -> Trial:
        """By bisection a prefix that holds where the next shorter does not; the prefix of length `high` holds, that of `low` does not."""
        while high - low > 1:
            middle = (low + high) // 2
            if self.trial(moves[:middle]).holds:
                high = middle
            else:
                low = middle
        return self.trial(moves[:high])

    def pruned(self, trial: Trial) -> Trial:
        """Takes raised layers back, in chunks and least sensitive first, while the gates hold; at most PRUNE_TRIALS attempts."""
        chunks = _halves(list(trial.moves))[::-1] if len(trial.moves) > 1 else []
        left = PRUNE_TRIALS
        while chunks and left:
            chunk = chunks.pop(0)
            fewer = [move for move in trial.moves if move not in chunk]
            left -= 1
            attempt = self.trial(fewer)
            if attempt.holds:
                trial = attempt
            elif len(chunk) > 1:
                chunks += _halves(chunk)[::-1]
        return trial


def _halves(moves: list[Move]) -> list[list[Move]]:
    middle = (len(moves) + 1) // 2
    return [part for part in (moves[:middle], moves[middle:]) if part]


def find(search: Search, entries: list[dict[str, Any]], levels: Sequence[str]) -> tuple[Trial, str]:
    """(the best trial, the order it came from). Where no trial holds, the one with everything raised."""
    start = search.trial([])
    if start.holds:
        return start, "none: the gates hold already"
    alone = {entry["layer"]: entry["alone"] for entry in entries}
    found: list[tuple[Trial, str]] = []
    best_effort = start
    for name, weight in (("drift per byte", lambda move: alone[move.layer.name] / move.bytes), ("drift", lambda move: alone[move.layer.name])):
        moves, ends = _sequence(search.variants.layers, levels, weight)
        low = 0
        for end in ends:
            if end == low:
                continue
            best_effort = search.trial(moves[:end])
            if best_effort.holds:
                found.append((search.shortest(moves, low, end), name))
                break
            low = end
        if not found:
            return best_effort, "none"
    trial, name = min(found, key=lambda item: (len(item[0].raised), item[0].added))
    return search.pruned(trial), name


def _sequence(layers: list[Layer], levels: Sequence[str], weight: Callable[[Move], float]) -> tuple[list[Move], list[int]]:
    """Moves to the first level, most sensitive first, then those to the next; and where each level ends."""
    sequence: list[Move] = []
    ends = []
    for level in LEVELS:
        here = [move for layer in layers for move in moves_of(layer, levels) if move.level == level]
        sequence += sorted(here, key=lambda move: (-weight(move), move.layer.name))
        ends.append(len(sequence))
    return sequence, ends


def restore(bundle: str | os.PathLike[str] | Bundle, model: str, data: Any, gates: Sequence[str], *, out: str | os.PathLike[str] | None = None,
            calibration_data: Any = None, calibration: str | None = None, dims: Mapping[str, int] | None = None, task: str = "classify",
            label_key: str = "label", output: str | None = None, metric: str | None = None, batch: int = 32, window: int = 0, stride: int = 0, pool: str = "mean",
            levels: Sequence[str] = ("int8", "fp16"), reround: str | None = None, samples: int = 64, resamples: int = 4, price_per_hour: float | None = None,
            seed: int = 0, threads: int = 0, force: bool = False, progress: Callable[[str], Progress] | None = None) -> dict[str, Any]:
    """Raises the fewest layers of a bundle until all gates hold; writes `out` and its recipe beside it where they do.

    model: the .onnx that the bundle was compiled from. data: as for `evaluate`; one half chooses the
    layers, the other gives the figures. calibration_data or calibration: as for `compile`, where the
    recipe needs it. levels: in which steps layers are raised. reround: an algorithm
    (mse, gptq, …) by which layers of less than 8 bits that are not raised are rounded again, at their own width. samples: on how many of the choosing half
    sensitivity is measured, 0 for all. resamples: of the choosing half, on which the gates have to hold
    too. progress: makes a progress function for a step. Returns the report of docs/how-to/restore.md; its
    `passed` says whether anything was written.
    """
    if not gates:
        raise InvalidInput("name at least one gate, such as 'verdict.value == ok'")
    parsed = [parse_gate(text) for text in gates]
    for level in levels:
        if level not in LEVELS:
            raise InvalidInput(f"there is no level '{level}': {', '.join(LEVELS)}")
    recipe_out = recipe_path(out) if out is not None else None
    for path in (out, recipe_out):
        if path is not None:
            check_free(path, force)
    steps = progress or (lambda what: lambda done, total: None)
    opened = bundle if isinstance(bundle, Bundle) else Bundle(bundle, threads=threads)
    reference = open_subject(model, threads=threads)

    def judge(candidate: Bundle, some: Data) -> dict[str, Any]:
        report = evaluate(reference, [candidate], some, task=task, label_key=label_key, output=output, metric=metric, gates=list(gates), batch=batch,
                          window=window, stride=stride, pool=pool, seed=seed, threads=threads)
        if report.gate_error:
            raise report.gate_error
        return report.data["candidates"][0]

    with tempfile.TemporaryDirectory(prefix="lowbit-") as scratch:
        variants = Variants(opened, model, scratch, data=calibration_data, calibration=calibration, dims=dims, threads=threads)
        if not variants.layers:
            raise InvalidInput(f"{opened.path} has no layer that its recipe quantized, so none can be raised")
        inputs = opened.inputs
        choosing, held = split(open_data(data), inputs, seed, _step(opened))
        samples_measured = variants.calibrate(steps("calibrating"))
        rerounded = variants.reround(reround) if reround else 0
        feeder = Feeder(choosing.data, inputs, opened.outputs, batch=batch if task != "lm" else 1, window=Window(window, stride))
        chosen_output = output or _output(task, [value.name for value in reference.outputs])
        probe = Probe.make(reference, feeder, samples, chosen_output, measure_of(task), threads)
        table = sensitivity(variants, probe, restore=False, progress=steps("measuring layers"))
        search = Search(variants, judge, parsed, choosing, seed, resamples, steps("trying recipes"))
        trial, order = find(search, table["layers"], levels)
        final = variants.compile(search.schemes(trial.moves))
        on_held = judge(final, held.data)
        before = judge(opened, held.data)
        passed = trial.holds and all(gate.holds(on_held) for gate in parsed)
        report = {
            "schema": SCHEMA, "passed": passed, "model": Path(model).name, "bundle": opened.path.name,
            "protocol": {"task": task, "data": open_data(data).name, "choosing_samples": choosing.samples, "held_samples": held.samples,
                         "split": "by SHA-256 of the sample's inputs and the seed", "seed": seed, "resamples": resamples, "levels": list(levels), "reround": reround,
                         "calibration_samples": samples_measured, "rule": RULE, "recipes_tried": search.tried,
                         "variants_compiled": search.tried + len(table["layers"]) + 1},
            "sensitivity": table,
            "raised": _raised(trial, table["layers"], final),
            "rerounded": rerounded - sum(move.layer.bits < 8 for move in trial.raised.values()) if reround else 0,
            "layers": len(variants.layers), "order": order, "holds_on_choosing": trial.holds,
            "gates": _gates(parsed, before, trial.candidate, on_held),
            "verdict": {"before": before["verdict"], "choosing": trial.candidate["verdict"], "held": on_held["verdict"]},
            "bytes": _bytes(opened, final),
            "task": {"before": before["task"], "held": on_held["task"]},
        }
        report["throughput"] = _throughput(opened, final, held, task, seed, threads, price_per_hour) if passed else None
        report["recommendation"] = _recommendation(report)
        if passed and out is not None:
            text = (final.path / "recipe.yaml").read_text()
            _write(variants, search.schemes(trial.moves), Path(out), recipe_out, text, force)
        variants.drop(final)
    return report


def recipe_path(out: str | os.PathLike[str]) -> Path:
    """Where the recipe goes: FIXED.lowbit → FIXED.recipe.yaml."""
    path = Path(out)
    return path.with_name((path.name[: -len(".lowbit")] if path.name.endswith(".lowbit") else path.name) + ".recipe.yaml")


def _write(variants: Variants, schemes: dict[str, str], out: Path, recipe_out: Path, text: str, force: bool) -> None:
    """The recipe, and the bundle from that very file; neither where one fails."""
    existed = recipe_out.exists()
    write_text(recipe_out, text, force=force)
    try:
        compile_bundle(variants.model, os.fspath(out), recipe=str(recipe_out), arch=variants.arch, dims=variants.dims,
                       **variants.prepared(str(recipe_out)), force=force)
    except BaseException:
        if not existed:
            recipe_out.unlink(missing_ok=True)
        raise


def _step(bundle: Bundle) -> int:
    fixed = [value.dims[0] for value in bundle.inputs if value.dims and value.dims[0] > 0]
    return 1 if batchable(bundle.inputs, bundle.outputs) or not fixed else max(fixed)


def _output(task: str, names: list[str]) -> str:
    from .eval import make_task

    return make_task(task).choose_output(names)


def _raised(trial: Trial, entries: list[dict[str, Any]], final: Bundle) -> list[dict[str, Any]]:
    alone = {entry["layer"]: entry for entry in entries}
    after = {entry["name"]: entry for entry in final.manifest["layers"]}
    result = []
    for name, move in trial.raised.items():
        result.append({"layer": name, "op": move.layer.op, "from": move.layer.weights, "per": move.layer.per, "to": move.level, "alone": alone[name]["alone"],
                       "bytes_before": move.layer.bytes, "bytes_after": after[name].get("bytes", move.layer.fp32_bytes)})
    return sorted(result, key=lambda entry: (-entry["alone"], entry["layer"]))


def _gates(gates: list[Gate], before: dict[str, Any], choosing: dict[str, Any], held: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"gate": gate.text, "before": gate.value(before), "choosing": gate.value(choosing), "held": gate.value(held),
             "holds_on_choosing": gate.holds(choosing), "holds_on_held": gate.holds(held)} for gate in gates]


def _bytes(before: Bundle, after: Bundle) -> dict[str, Any]:
    """Weights of the layers that could be quantized, before, after and in half precision; and the bundles' files."""
    def weights(bundle: Bundle) -> int:
        return sum(layer.get("bytes", layer["fp32_bytes"]) for layer in bundle.manifest["layers"] if "fp32_bytes" in layer)

    half = sum(layer["fp32_bytes"] // 2 for layer in after.manifest["layers"] if "fp32_bytes" in layer)
    return {"weights_before": weights(before), "weights_after": weights(after), "weights_fp16": half,
            "share_of_fp16_before": weights(before) / half, "share_of_fp16_after": weights(after) / half,
            "bundle_before": before.bytes, "bundle_after": after.bytes}


def _throughput(before: Bundle, after: Bundle, held: Half, task: str, seed: int, threads: int, price: float | None) -> dict[str, Any]:
    """Units per second of one run of the first held sample, measured by `bench`; what 1,000 of them cost at a price."""
    from .bench import bench

    timed = bench([str(before.path), str(after.path)], inputs=held.data, seed=seed, threads=threads)
    shapes = timed["protocol"]["shapes"]
    unit = "token" if task == "lm" else "sample"
    count = max(int(np.prod(shape)) for shape in shapes.values()) if task == "lm" else 1
    result: dict[str, Any] = {"unit": unit, "units_per_run": count, "shapes": shapes, "threads": timed["protocol"]["threads"]}
    for key, subject in zip(("before", "after"), timed["subjects"]):
        result[key] = {"median_ms": subject["ms"]["median"], "units_per_second": count / subject["ms"]["median"] * 1e3}
    if price is not None:
        result["price_per_hour"] = price
        result["cost_per_1000"] = price / 3600 * 1000 / result["after"]["units_per_second"]
    return result


def _recommendation(report: dict[str, Any]) -> str:
    """One sentence, with the figures that it rests on."""
    gates = " and ".join(f"'{gate['gate']}'" for gate in report["gates"])
    share = report["bytes"]["share_of_fp16_after"]
    kinds: dict[str, int] = {}
    for entry in report["raised"]:
        kinds[entry["to"]] = kinds.get(entry["to"], 0) + 1
    what = " and ".join(f"{level} for {count} of {report['layers']} layers" for level, count in kinds.items())
    if report["rerounded"]:
        what = (what + ", " if what else "") + f"{report['protocol']['reround']} rounding for {report['rerounded']} others at their own width"
    if not report["passed"]:
        where = "the held half" if report["holds_on_choosing"] else "the choosing half"
        found = "; ".join(f"{gate['gate']}: {gate['choosing']} on the choosing half, {gate['held']} on the held one" for gate in report["gates"])
        return f"not restored: with {what or 'nothing raised'} the gates fail on {where} ({found})"
    if not what:
        return f"keep the bundle: {gates} hold with nothing raised, at {share:.0%} of fp16's bytes"
    text = f"{what}: {gates} hold{'s' if len(report['gates']) == 1 else ''} on samples that took no part in choosing, at {share:.0%} of fp16's bytes"
    speed = report["throughput"]
    text += f"; {speed['after']['units_per_second']:,.0f} {speed['unit']}s per second measured"
    if "cost_per_1000" in speed:
        text += f", so 1,000 {speed['unit']}s cost {speed['cost_per_1000']:.3g} at {speed['price_per_hour']:g} per hour"
    return text
