# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A bundle's model compiled again with an edited recipe, as often as it takes."""
from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .calibration import Progress
from .compiler import calibrate_to, compile_bundle, compiler_errors, export_to, quantize_on
from .errors import InvalidInput, Unsupported
from .recipe_text import KEEP_FLOAT, RecipeText, activations_of, weights_of, weights_scheme
from .runtime import Bundle

BITS = {"i8": 8, "u8": 8, "i4": 4, "u4": 4, "i3": 3, "u3": 3, "f16": 16, "float": 32}


@dataclass(frozen=True)
class Layer:
    """A quantized layer of a bundle. bytes: of its weights at their width, with scales; scheme, activations: of its rule, in YAML."""

    name: str
    op: str
    weights: str
    per: str
    scheme: str
    activations: str
    bytes: int
    fp32_bytes: int

    @property
    def activation_type(self) -> str:
        """`float`, an integer type, or one with `dynamic` beside it."""
        found = re.match(r"\{type: (\w+).*?(?:, (dynamic): (\w+))?\}$", self.activations)
        return " ".join(part for part in found.groups() if part) if found else self.activations

    @property
    def bits(self) -> int:
        return BITS[self.weights]


class Variants:
    """Compiles MODEL.onnx for the CPU with the recipe of `bundle`, edited.

    calibration: a file that fits the model, or None; data: calibration data, from which one is made
    where the recipe needs it, and on which sequential recipes round. scratch: a folder for what is
    compiled. The model must be the one that the bundle was compiled from, by its hash.
    """

    def __init__(self, bundle: Bundle, model: str, scratch: str | os.PathLike[str], *, data: Any = None, calibration: str | None = None,
                 dims: Mapping[str, int] | None = None, threads: int = 0) -> None:
        self.bundle, self.model, self.data = bundle, model, data
        self.dims, self.threads = dict(dims or {}), threads
        self._scratch = Path(scratch)
        manifest = bundle.manifest
        if manifest.get("target", "cpu") != "cpu":
            raise Unsupported(f"{bundle.path} was compiled for {manifest['target']}: layers are judged on the CPU, whose results are the same; "
                              "compile the recipe for cpu, and the result's recipe.yaml for the target")
        self._check_model(manifest)
        path = bundle.path / "recipe.yaml"
        if not path.is_file():
            raise InvalidInput(f"{bundle.path} has no recipe.yaml; compile it again")
        self.recipe = RecipeText.parse(path.read_text())
        self.arch: str | None = manifest.get("arch")
        self.layers = self._layers(manifest, str(path))
        self.calibration = calibration
        #: Schemes of layers whose rules are not the bundle's, unless an edit says otherwise.
        self.base: dict[str, str] = {}
        self._count = 0

    def _check_model(self, manifest: Mapping[str, Any]) -> None:
        path = Path(self.model)
        if not path.is_file():
            raise InvalidInput(f"{path}: no such file")
        expected = manifest.get("model", {}).get("sha256")
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if expected != found:
            raise InvalidInput(f"{self.bundle.path} was compiled from another model than {path} (SHA-256 {str(expected)[:12]}…, not {found[:12]}…)")

    def _layers(self, manifest: Mapping[str, Any], recipe: str) -> list[Layer]:
        with compiler_errors() as module:
            explained = {layer["name"]: layer for layer in json.loads(module.recipe_explain(self.model, recipe))["layers"]}
        result, seen = [], set()
        for entry in manifest["layers"]:
            if entry["weights"] in ("float", "f16") or entry["name"] not in explained or entry["name"] in seen:
                continue
            seen.add(entry["name"])
            origin = explained[entry["name"]].get("origin") or ""
            line = origin[len(recipe) + 1 :].partition(":")[0]
            if not line.isdigit():
                continue  # the model's own decision, not the recipe's
            rule = self.recipe.at(int(line))
            result.append(Layer(entry["name"], entry["op"], entry["weights"], entry.get("per", ""), weights_of(rule), activations_of(rule),
                                entry["bytes"], entry["fp32_bytes"]))
        return result

    def reround(self, algorithm: str) -> int:
        """Layers of less than 8 bits keep their type, granularity and bytes, but are rounded by this algorithm; returns their number."""
        if algorithm == "gptq" and self.data is None:
            raise InvalidInput("gptq rounds weights on data: give --calibration-data C")
        low = [layer for layer in self.layers if layer.bits < 8]
        for layer in low:
            chosen = "mse" if layer.op == "Gather" and algorithm == "gptq" else algorithm  # nothing multiplies a table
            weights = re.sub(r"algorithm: \w+", f"algorithm: {chosen}", layer.scheme)
            self.base[layer.name] = weights_scheme(weights, layer.activations)
        return len(low)

    def text(self, schemes: Mapping[str, str]) -> str:
        """The recipe in which these layers have these schemes (YAML of a rule without its match)."""
        groups: dict[str, list[str]] = {}
        for name, scheme in {**self.base, **schemes}.items():
            groups.setdefault(scheme, []).append(name)
        recipe = self.recipe
        final = [schemes.get(layer.name, self.base.get(layer.name, weights_scheme(layer.scheme, layer.activations))) for layer in self.layers]
        if not any(activations_of(scheme) != "float" for scheme in final):
            recipe = recipe.without("smooth")  # there is nothing for it to read, which it refuses
        if all("keep:" in scheme for scheme in final):
            recipe = recipe.without("awq").without("bias-correction")
        return recipe.with_rules((names, scheme) for scheme, names in groups.items())

    def alone(self, layer: str, scheme: str | None = None) -> dict[str, str]:
        """Schemes in which only this layer is quantized, as the recipe says or by `scheme`."""
        schemes = {other.name: KEEP_FLOAT for other in self.layers if other.name != layer}
        return {**schemes, **({layer: scheme} if scheme else {})}

    def compile(self, schemes: Mapping[str, str], out: str | os.PathLike[str] | None = None) -> Bundle:
        """The bundle with these schemes; without `out` it lives in the scratch folder until `drop`."""
        recipe = self._write(schemes)
        if out is None:
            self._count += 1
            out = self._scratch / f"variant{self._count}.lowbit"
        compile_bundle(self.model, os.fspath(out), recipe=recipe, arch=self.arch, dims=self.dims, **self.prepared(recipe), force=True)
        return Bundle(out, threads=self.threads)

    def export(self, schemes: Mapping[str, str], out: str | os.PathLike[str]) -> None:
        """The same as ONNX with QuantizeLinear and DequantizeLinear."""
        recipe = self._write(schemes)
        export_to(self.model, os.fspath(out), runtime="onnxruntime", recipe=recipe, dims=self.dims, **self.prepared(recipe), force=True)

    def drop(self, bundle: Bundle) -> None:
        bundle.close()
        shutil.rmtree(bundle.path, ignore_errors=True)

    def _write(self, schemes: Mapping[str, str]) -> str:
        path = self._scratch / "recipe.yaml"
        path.write_text(self.text(schemes))
        return str(path)

    def prepared(self, recipe: str) -> dict[str, Any]:
        """calibration and quantizer for a recipe; what the bundle's own recipe measures serves all that quantize no more."""
        with compiler_errors() as module:
            sequential = module.recipe_is_sequential(recipe)
        quantizer = None
        if sequential:
            quantizer = quantize_on(self.model, recipe, self.data, calibration=self.calibration, dims=self.dims)
        return {"calibration": self.calibration, "quantizer": quantizer}

    def calibrate(self, progress: Progress | None = None) -> int:
        """Measures what the bundle's recipe needs, unless a file was given; returns the number of samples, 0 where it needs none."""
        if self.calibration is not None:
            return 0
        recipe = str(self.bundle.path / "recipe.yaml")
        if self.data is None:
            with compiler_errors() as module:
                if module.Calibrator(self.model, recipe, threads=self.threads).observers:
                    raise InvalidInput("the bundle's recipe needs calibration: give --calibration-data C, or --calibration CAL")
            return 0
        file = self._scratch / "calibration.lbcal"
        done = calibrate_to(self.model, recipe, self.data, file, threads=self.threads, progress=progress, force=True)
        self.calibration = str(file) if done.samples else None
        return done.samples
