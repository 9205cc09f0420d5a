# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Caches of keys and values in i8: one f32 scale per token and head, in a port NAME_scale beside the cache's (docs/quantization.md)."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .errors import InvalidInput
from .signature import Value
from .subjects import Subject

SCALE = "_scale"


def quantize_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x [..., D] as i8 [..., D] and f32 scales [..., 1], as the compiled model rounds: (Q15) of docs/quantization.md."""
    x = np.asarray(x, np.float32)
    with np.errstate(invalid="ignore"):
        scale = np.fmax.reduce(np.abs(x), axis=-1, keepdims=True, initial=np.float32(0)) / np.float32(127)
        scale[scale == 0] = 1
        q = np.clip(np.rint(x / scale), -128, 127)
    return np.where(np.isnan(q), -128, q).astype(np.int8), scale


def dequantize_rows(q: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The values that integers [..., D] with scales [..., 1] stand for, f32."""
    return q.astype(np.float32) * scale


class FloatCache:
    """A model that holds its cache in i8, with float ports for it: for comparing it with one that does not."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.name, self.runtime, self.bytes, self.manifest = subject.name, subject.runtime, subject.bytes, subject.manifest
        caches = (subject.manifest or {})["kv_cache"]["caches"]
        self._pasts = {cache["past"] for cache in caches}
        self._presents = {cache["present"] for cache in caches}
        self.inputs = self._float(subject.inputs, self._pasts)
        self.outputs = self._float(subject.outputs, self._presents)

    @staticmethod
    def _float(values: list[Value], caches: set[str]) -> list[Value]:
        scales = {name + SCALE for name in caches}
        missing = (caches | scales) - {value.name for value in values}
        if missing:
            raise InvalidInput(f"manifest.json: kv_cache names '{sorted(missing)[0]}', which is no port of the bundle")
        return [replace(value, dtype="f32") if value.name in caches else value for value in values if value.name not in scales]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        feed = {}
        for name, array in inputs.items():
            if name in self._pasts:
                feed[name], feed[name + SCALE] = quantize_rows(array)
            else:
                feed[name] = array
        outputs = self._subject.run(feed)
        return {value.name: dequantize_rows(outputs[value.name], outputs[value.name + SCALE]) if value.name in self._presents else outputs[value.name]
                for value in self.outputs}


def with_float_cache(subject: Subject) -> Subject:
    """The subject itself where its cache is float."""
    return FloatCache(subject) if (subject.manifest or {}).get("kv_cache") else subject
