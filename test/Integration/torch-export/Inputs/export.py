# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Exports a model of models.py with its inputs for each length; both stay in a folder, so that a second time is cheap."""
from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from pathlib import Path

import numpy as np
import torch

import models

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def flat_inputs(inputs: dict) -> list[torch.Tensor]:
    """In the order of the exported model's inputs."""
    return [tensor for value in inputs.values() for tensor in (value if isinstance(value, list) else [value])]


def cast(value, dtype: torch.dtype):
    if isinstance(value, list):
        return [cast(entry, dtype) for entry in value]
    return value.to(dtype) if value.is_floating_point() else value


def examples(model: models.Model, dtype: torch.dtype) -> list[dict]:
    torch.manual_seed(11)
    return [{name: cast(value, dtype) for name, value in model.example(lengths).items()} for lengths in model.lengths]


def exported(model: models.Model, opset: int, dtype: str, folder: Path) -> Path:
    """The .onnx file, exported now unless it is there from an earlier time; whoever changes models.py empties the folder."""
    path = folder / f"{model.name}-{opset}-{dtype}-torch{torch.__version__.split('+')[0]}.onnx"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(5)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        module = model.build().to(DTYPES[dtype])
        inputs = examples(model, DTYPES[dtype])[0]
        shapes = {name: [axes] * len(inputs[name]) if isinstance(inputs[name], list) else axes for name, axes in model.shapes().items()}
        temporary = path.with_suffix(f".{os.getpid()}.onnx")
        torch.onnx.export(module, (), str(temporary), kwargs=inputs, dynamo=True, dynamic_shapes=shapes, opset_version=opset,
                          external_data=False, verbose=False)
    temporary.rename(path)
    return path


def feeds(model: models.Model, dtype: str, names: list[str]) -> list[dict[str, np.ndarray]]:
    """One dict of arrays per length; bf16 as ml_dtypes' bfloat16."""
    result = []
    for inputs in examples(model, DTYPES[dtype]):
        tensors = flat_inputs(inputs)
        if len(tensors) != len(names):
            raise ValueError(f"{model.name}: {len(tensors)} tensors for the inputs {names}")
        result.append({name: to_numpy(tensor) for name, tensor in zip(names, tensors)})
    return result


def torch_run(model: models.Model, dtype: str, index: int) -> list[np.ndarray]:
    """What torch itself computes in this dtype, at the length of this index."""
    torch.manual_seed(5)
    with torch.no_grad():
        result = model.build().to(DTYPES[dtype])(**examples(model, DTYPES[dtype])[index])
    tensors = [result] if isinstance(result, torch.Tensor) else result
    return [to_numpy(tensor) for tensor in tensors]


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()
