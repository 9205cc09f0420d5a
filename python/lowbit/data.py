# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Opens what `--data` names: one stacked `.npz`, folders of feeds, ONNX test data, or a function.

Nothing here knows a model; `feeds.py` matches the arrays with a model's inputs.
"""
from __future__ import annotations

import importlib.util
import itertools
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .errors import Error, InvalidInput, Unavailable, nearest, one_line

Record = dict[str, np.ndarray]


@dataclass
class Data:
    """Samples, either `stacked` (arrays whose first axis is the sample) or a sequence of complete feeds.

    selected: the range of samples of stacked data still to be taken (only a model's inputs tell
    which axis counts). first: index of the first complete feed, for reports. count: how many
    there are; None where only iterating tells.
    """

    name: str
    stacked: Record | None = None
    records: Callable[[], Iterator[tuple[str, Record]]] | None = None
    selected: slice = field(default_factory=lambda: slice(None))
    first: int = 0
    count: int | None = None


def open_data(source: Any) -> Data:
    """Data from a path as on the command line, a dict of stacked arrays, or an iterable of dicts.

    Raises InvalidInput, with one line, for anything that cannot be read.
    """
    if isinstance(source, Data):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _open_path(os.fspath(source))
    if isinstance(source, Mapping):
        return _stacked("data", {str(k): np.asarray(v) for k, v in source.items()}, slice(None))
    if hasattr(source, "get_next") or callable(source) or isinstance(source, Iterable):
        return _iterated("data", source if callable(source) else lambda: source, slice(None))
    raise InvalidInput(f"data must be a path, a dict of arrays or an iterable of dicts, not {type(source).__name__}")


def load_npz(path: Path) -> Record:
    """All arrays of an .npz file."""
    if not path.exists():
        raise InvalidInput(f"{path}: no such file{_nearest_file(path)}")
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder, not an .npz file")
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise InvalidInput(f"{path} holds one array without a name; save it with numpy.savez(path, INPUT_NAME=array)")
        with file:
            return {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, NotImplementedError) as error:
        if path.stat().st_size == 0:
            raise InvalidInput(f"{path} is empty") from None
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            raise InvalidInput(f"{path} is not an .npz of plain arrays (object arrays and pickles are refused)") from None
        raise InvalidInput(f"{path} is not a readable .npz file: {one_line(error)}") from None


def _nearest_file(path: Path) -> str:
    folder = path.parent
    return nearest(path.name, [p.name for p in folder.iterdir()][:1000]) if folder.is_dir() else ""


def split_range(text: str) -> tuple[str, slice]:
    """PATH and the range of PATH[a:b]."""
    match = re.fullmatch(r"(.+)\[(-?\d*):(-?\d*)\]", text)
    if not match or os.path.exists(text):
        if re.search(r"\[[^\]/]*\]$", text) and not os.path.exists(text) and not match:
            raise InvalidInput(f"'{text}': a range of samples is written [a:b]")
        return text, slice(None)
    path, begin, end = match.groups()
    try:
        return path, slice(int(begin) if begin else None, int(end) if end else None)
    except ValueError:
        raise InvalidInput(f"'{text}': a range of samples is written [a:b]") from None


def _open_path(text: str) -> Data:
    path_text, selected = split_range(text)
    function = re.fullmatch(r"(.+\.py):(\w+)", path_text)
    if function:
        return _iterated(path_text, load_function(path_text), selected)
    path = Path(path_text)
    if path.is_dir():
        return _folder(path, selected)
    if path.suffix == ".py":
        raise InvalidInput(f"{path}: name the function as well, {path}:FUNC")
    if path.exists() and path.suffix not in (".npz", ".npy"):
        raise InvalidInput(f"{path}: data must be an .npz file, a folder, or FILE.py:FUNC")
    return _stacked(str(path), load_npz(path), selected)


def _stacked(name: str, arrays: Record, selected: slice) -> Data:
    if not arrays:
        raise InvalidInput(f"{name} holds no arrays")
    for key, array in arrays.items():
        if not array.ndim:
            raise InvalidInput(f"{name}: array '{key}' has no sample axis; arrays are stacked, first axis = sample")
    return Data(name, stacked=arrays, selected=selected)


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def _folder(path: Path, selected: slice) -> Data:
    if (path / "manifest.json").exists():
        raise InvalidInput(f"{path} is a bundle, not data")
    if list(path.glob("input_*.pb")):
        return _files(path, [path], _load_test_data, selected)
    sets = sorted((p for p in path.glob("test_data_set_*") if p.is_dir()), key=_natural)
    if sets:
        return _files(path, sets, _load_test_data, selected)
    files = sorted(path.glob("*.npz"), key=_natural)
    if not files:
        raise InvalidInput(f"{path} holds neither .npz files nor test_data_set_* folders")
    return _files(path, files, load_npz, selected)


def _files(path: Path, files: list[Path], load: Callable[[Path], Record], selected: slice) -> Data:
    begin, end, _ = selected.indices(len(files))
    if end <= begin:
        raise InvalidInput(f"{path}: no samples in that range (there are {len(files)})")
    chosen = files[begin:end]
    return Data(str(path), records=lambda: ((str(f), load(f)) for f in chosen), first=begin, count=len(chosen))


def _load_test_data(folder: Path) -> Record:
    """One ONNX test data set. Inputs are named as in the file, or `#i` for input i; outputs `expected:…`."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise Unavailable("ONNX test data needs the Python package onnx: pip install onnx") from None
    record: Record = {}
    for file in sorted(folder.glob("*.pb"), key=_natural):
        kind, _, number = file.stem.partition("_")
        if kind not in ("input", "output") or not number.isdigit():
            continue
        tensor = onnx.TensorProto()
        try:
            tensor.ParseFromString(file.read_bytes())
            array = numpy_helper.to_array(tensor)
        except Exception as error:  # protobuf's own DecodeError, or ValueError, TypeError, KeyError of the helper
            raise InvalidInput(f"{file} is not a readable ONNX tensor: {one_line(error)}") from None
        name = tensor.name or f"#{number}"
        record[name if kind == "input" else f"expected:{name}"] = array
    if not record:
        raise InvalidInput(f"{folder} holds no input_*.pb")
    return record


def load_function(text: str) -> Callable[..., Any]:
    """The function that FILE.py:FUNC names."""
    path_text, _, name = text.rpartition(":")
    path = Path(path_text)
    if not path.is_file():
        raise InvalidInput(f"{path}: no such file{_nearest_file(path)}")
    spec = importlib.util.spec_from_file_location(f"_lowbit_user_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # so that its classes can be pickled and dataclasses resolve
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InvalidInput(f"{path} cannot be imported: {type(error).__name__}: {one_line(error)}") from None
    function = getattr(module, name, None)
    if function is None:
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InvalidInput(f"{path} has no '{name}'{nearest(name, known)}")
    if not callable(function):
        raise InvalidInput(f"{path}:{name} is not a function")
    return function


def _iterated(name: str, factory: Callable[[], Any], selected: slice) -> Data:
    """Samples from an iterable of dicts, or from onnxruntime's CalibrationDataReader."""
    begin, end = selected.start or 0, selected.stop
    if begin < 0 or (end is not None and end < 0):
        raise InvalidInput(f"{name}: a range of an iterator cannot count from its end")

    def records() -> Iterator[tuple[str, Record]]:
        try:
            made = factory()
            samples = iter(made.get_next, None) if hasattr(made, "get_next") else iter(made)
            for index, sample in enumerate(itertools.islice(samples, begin, end), begin):
                if not isinstance(sample, Mapping):
                    raise InvalidInput(f"{name}: sample {index} is {type(sample).__name__}, not a dict of arrays")
                yield f"{name} sample {index}", {str(k): np.asarray(v) for k, v in sample.items()}
        except (Error, KeyboardInterrupt, MemoryError, GeneratorExit):
            raise
        except Exception as error:
            raise InvalidInput(f"{name} raised {type(error).__name__}: {one_line(error)}") from error

    return Data(name, records=records, first=begin)
