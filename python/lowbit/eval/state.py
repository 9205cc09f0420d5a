# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Saves and loads what a run has accumulated: a tree of dicts, lists, numbers, texts and arrays, in one .npz without pickles."""
from __future__ import annotations

import json
import os
import zipfile
from typing import Any

import numpy as np

from ..errors import InvalidInput
from ..output import whole

_SKELETON = "tree"
_ARRAY = "\ue000array"


def save(path: str | os.PathLike[str], tree: dict[str, Any]) -> None:
    """Writes the tree, whole or not at all; replaces what exists. Floats come back bit for bit."""
    arrays: dict[str, np.ndarray] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            name = f"a{len(arrays)}"
            arrays[name] = value
            return {_ARRAY: name}
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, dict):
            return {key: plain(v) for key, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return value

    text = json.dumps(plain(tree))
    with whole(path, force=True) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays, **{_SKELETON: np.frombuffer(text.encode(), np.uint8)})


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tree of `save`; InvalidInput for a file that is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        skeleton = json.loads(bytes(arrays.pop(_SKELETON)).decode())
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise InvalidInput(f"{path} is not a checkpoint of lowbit eval: {error}") from None

    def full(value: Any) -> Any:
        if isinstance(value, dict):
            return arrays[value[_ARRAY]] if _ARRAY in value else {key: full(v) for key, v in value.items()}
        return [full(v) for v in value] if isinstance(value, list) else value

    return full(skeleton)
