# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compiles and calibrates. All decisions are the compiler's (C++); here are paths, data and errors."""
from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import _native
from .calibration import Calibrated, Feeds, Progress, run_calibration, run_coverage
from .data import open_data
from .errors import InvalidInput, from_code
from .output import check_free
from .runtime import Bundle


@contextlib.contextmanager
def compiler_errors() -> Iterator[Any]:
    """The compiler module; its errors become lowbit.Error."""
    module = _native.compiler()
    try:
        yield module
    except module.Error as error:
        raise from_code(getattr(error, "code", 5), str(error)) from None


def _existing(model: str) -> str:
    path = Path(model)
    if not path.exists():
        raise InvalidInput(f"{path}: no such file")
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder, not an .onnx file")
    return str(path)


def compile_bundle(model: str, out: str, *, recipe: str = "fp32", calibration: str | None = None, target: str = "cpu",
                   arch: str | None = None, dims: Mapping[str, int] | None = None, quantizer: Any = None,
                   force: bool = False) -> dict[str, Any]:
    """Compiles the .onnx file into the folder `out` and returns the report. arch None is the target's default; quantizer: of `quantize_on`."""
    check_free(out, force)
    with compiler_errors() as module:
        report = module.compile(_existing(model), out, **_options(recipe, calibration, target, arch, dims), quantizer=quantizer, force=force)
    return json.loads(report)


def emit(model: str, form: str, *, recipe: str = "fp32", calibration: str | None = None, target: str = "cpu",
         arch: str | None = None, dims: Mapping[str, int] | None = None, quantizer: Any = None) -> bytes:
    """The module in a form on the way to code: onnx, qdq, quantized, scheduled, llvm, asm, ptx or cubin."""
    with compiler_errors() as module:
        return bytes(module.emit(_existing(model), form, **_options(recipe, calibration, target, arch, dims), quantizer=quantizer))


def emit_device_code(model: str, form: str, *, recipe: str = "fp32", calibration: str | None = None, target: str = "cuda",
                     arch: str | None = None, dims: Mapping[str, int] | None = None) -> dict[str, bytes]:
    """The kernels as files, name to bytes; `kernels.json` says what each is. Forms: ptx, cubin."""
    with compiler_errors() as module:
        return dict(module.emit_device_code(_existing(model), form, **_options(recipe, calibration, target, arch, dims)))


def export_to(model: str, out: str, *, runtime: str, recipe: str, calibration: str | None = None, dims: Mapping[str, int] | None = None,
              external_data: bool = False, quantizer: Any = None, force: bool = False) -> dict[str, Any]:
    """Writes the quantized model as ONNX for another runtime and returns the report."""
    check_free(out, force)
    with compiler_errors() as module:
        report = module.export_model(_existing(model), out, runtime=runtime, recipe=recipe, calibration=calibration,
                                     dims=dict(dims or {}), external_data=external_data, quantizer=quantizer, force=force)
    return json.loads(report)


def _options(recipe: str, calibration: str | None, target: str, arch: str | None, dims: Mapping[str, int] | None) -> dict[str, Any]:
    options: dict[str, Any] = {"recipe": recipe, "calibration": calibration, "target": target, "dims": dict(dims or {})}
    if arch is not None:
        options["arch"] = arch
    return options


def calibrate_to(model: str, recipe: str, data: Any, out: str | os.PathLike[str], *, force: bool = False,
                 progress: Progress | None = None, **options: Any) -> Calibrated:
    """Feeds the data in order to what the recipe observes; where it observes nothing, nothing is fed or written.

    Options: batch, resume, merge, threads, as for `run_calibration`.
    """
    with compiler_errors() as module:
        return run_calibration(module, _existing(model), recipe, data, out, force=force, progress=progress, **options)


def coverage_of(model: str, recipe: str, data: Any, calibration: str | os.PathLike[str], *, progress: Progress | None = None,
                **options: Any) -> dict[str, Any]:
    """How much of what the data make of the model lies outside of a calibration file. Options: batch, threads."""
    with compiler_errors() as module:
        return run_coverage(module, _existing(model), recipe, data, calibration, progress=progress, **options)


def quantize_on(model: str, recipe: str, data: Any, *, calibration: str | None = None, dims: Mapping[str, int] | None = None,
                progress: Progress | None = None) -> tuple[Any, list[str]]:
    """Rounds the weights layer by layer on the data, as sequential recipes (GPTQ, …) ask: (quantizer, remarks for people).

    The quantizer is None for other recipes. progress: called with the done thousandths of the work.
    """
    with compiler_errors() as module:
        if not module.recipe_is_sequential(recipe):
            return None, []
        if data is None:
            raise InvalidInput(f"recipe {recipe} rounds weights on data: give calibration data (--data D)")
        quantizer = module.Quantizer(_existing(model), recipe, calibration, dict(dims or {}))
        feeds = Feeds(quantizer, open_data(data), 1)
        for feed in feeds:
            quantizer.add(feed.inputs)
        quantizer.run((lambda done: progress(int(1000 * done), 1000)) if progress else None)
        return quantizer, feeds.notes


@dataclass
class Prepared:
    """What compiling with a recipe needs. calibration: a file; quantizer: of `quantize_on`.

    samples: how many were measured here; notes: remarks for people.
    """

    calibration: str | None = None
    quantizer: Any = None
    samples: int = 0
    notes: list[str] = field(default_factory=list)


def prepare(model: str, recipe: str, scratch: str, *, data: Any = None, calibration: str | None = None, dims: Mapping[str, int] | None = None,
            threads: int = 0, calibrating: Progress | None = None,
            quantizing: Progress | None = None) -> Prepared:
    """Measures and rounds what the recipe asks for.

    Without a calibration file, one is made from the data in the folder `scratch` where the recipe needs it.
    """
    done = Prepared(calibration)
    if data is not None and calibration is None:
        path = os.path.join(scratch, "calibration.lbcal")
        measured = calibrate_to(model, recipe, data, path, threads=threads, progress=calibrating)
        done = Prepared(path if measured.samples else None, None, measured.samples, measured.notes)
    done.quantizer, notes = quantize_on(model, recipe, data, calibration=done.calibration, dims=dims, progress=quantizing)
    done.notes += [note for note in notes if note not in done.notes]
    return done


@contextlib.contextmanager
def model_file(model: Any) -> Iterator[str]:
    """A path to the model, which may be a path, bytes or an onnx.ModelProto."""
    if hasattr(model, "SerializeToString"):
        model = model.SerializeToString()
    if isinstance(model, bytes):
        with tempfile.TemporaryDirectory(prefix="lowbit-") as folder:
            path = os.path.join(folder, "model.onnx")
            Path(path).write_bytes(model)
            yield path
    elif isinstance(model, (str, os.PathLike)):
        yield os.fspath(model)
    else:
        raise InvalidInput(f"a model is a path, bytes or an onnx.ModelProto, not {type(model).__name__}")


def calibrate(model: Any, data: Any, output: str | os.PathLike[str], *, recipe: str, force: bool = False, batch: int = 1,
              resume: bool = False, merge: Sequence[str | os.PathLike[str]] = (), threads: int = 0) -> int:
    """Writes what `recipe` needs to know about activations to `output`; returns the number of samples.

    model: path, bytes or onnx.ModelProto. data: a path as for `--data`, a dict of stacked arrays, an
    iterable of dicts, or onnxruntime's CalibrationDataReader. batch: samples per run where the model
    allows it; the result does not depend on it. resume: go on from `output` or what an interrupted
    call left beside it; the data must begin with the samples that it has seen. merge: calibration
    files of the same model and recipe whose statistics are added.
    """
    with model_file(model) as path:
        done = calibrate_to(path, recipe, data, output, force=force, batch=batch, resume=resume, merge=merge, threads=threads)
    if not done.samples:
        raise InvalidInput(f"recipe {recipe} needs no calibration")
    return done.samples


def compile(model: Any, *, recipe: str = "fp32", calibration_data: Any = None, calibration: str | os.PathLike[str] | None = None,
            target: str = "cpu", arch: str | None = None, dims: Mapping[str, int] | None = None,
            output: str | os.PathLike[str] | None = None, force: bool = False, threads: int = 0) -> Bundle:
    """Compiles a model (path, bytes or onnx.ModelProto) and opens the bundle.

    recipe: a name, NAME:key=value,… or a file. calibration_data: as for `calibrate`; calibration: a
    file that `calibrate` wrote; both for a recipe that rounds weights on data (GPTQ, …). dims: sizes for dynamic dimensions, by symbol.
    output: where the bundle is to stay; without it, it lives in a temporary folder as long as the
    returned object.
    """
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(model_file(model))
        folder = None
        if output is None:
            folder = tempfile.TemporaryDirectory(prefix="lowbit-")
            output = os.path.join(folder.name, "model.lowbit")
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="lowbit-"))
        done = prepare(path, recipe, scratch, data=calibration_data, calibration=os.fspath(calibration) if calibration else None, dims=dims)
        compile_bundle(path, os.fspath(output), recipe=recipe, calibration=done.calibration, target=target, arch=arch, dims=dims, quantizer=done.quantizer, force=force)
        bundle = Bundle(output, threads=threads)
        bundle._folder = folder  # removed with the bundle
        return bundle


def export(model: Any, output: str | os.PathLike[str], *, recipe: str, runtime: str = "onnxruntime", calibration_data: Any = None,
           calibration: str | os.PathLike[str] | None = None, dims: Mapping[str, int] | None = None, external_data: bool = False,
           force: bool = False) -> dict[str, Any]:
    """Writes a quantized ONNX model (QuantizeLinear and DequantizeLinear around float operators) for onnxruntime, tensorrt or openvino.

    Arguments as for `compile`. external_data: tensors of a KiB and more go to OUTPUT.data; above a GiB of them they do so
    anyway. Returns the report: the layers and what became of them.
    """
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(model_file(model))
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="lowbit-"))
        done = prepare(path, recipe, scratch, data=calibration_data, calibration=os.fspath(calibration) if calibration else None, dims=dims)
        return export_to(path, os.fspath(output), runtime=runtime, recipe=recipe, calibration=done.calibration, dims=dims, external_data=external_data,
                         quantizer=done.quantizer, force=force)
