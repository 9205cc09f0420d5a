# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes files whole or not at all: beside their place first, then renamed."""
from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .errors import InvalidInput, OutOfMemory


def check_free(path: str | os.PathLike[str], force: bool) -> Path:
    """The path, if it may be written: it does not exist (or force), and its folder does."""
    path = Path(path)
    if not force and path.exists():
        raise InvalidInput(f"{path} exists; --force replaces it")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder, so {path.name} cannot be written there")
    if not os.access(folder, os.W_OK):
        raise InvalidInput(f"{folder} is not writable")
    return path


@contextmanager
def whole(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """A path beside `path` to write to; the file becomes `path` if the block ends well, and vanishes otherwise."""
    path = check_free(path, force)
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder")
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.absolute().parent) as folder:
        temporary = Path(folder) / path.name
        try:
            yield temporary
            os.replace(temporary, path)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OutOfMemory(f"{path}: no space left on the disk") from None
            raise


def write_bytes(path: str | os.PathLike[str], content: bytes, *, force: bool = False) -> None:
    with whole(path, force=force) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str, *, force: bool = False) -> None:
    write_bytes(path, content.encode(), force=force)


def write_folder(path: str | os.PathLike[str], files: Mapping[str, bytes], *, force: bool = False) -> None:
    """A folder with these files. With force, a folder that holds nothing but such files is replaced."""
    path = check_free(path, force)
    if path.exists():
        others = sorted(f.name for f in path.iterdir() if f.suffix not in {Path(name).suffix for name in files}) if path.is_dir() else [path.name]
        if others:
            raise InvalidInput(f"{path} holds other things ({others[0]}, …), so it is not replaced")
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.absolute().parent) as folder:
        fresh = Path(folder) / "new"
        fresh.mkdir()
        try:
            for name, content in files.items():
                (fresh / name).write_bytes(content)
            if path.exists():
                os.replace(path, Path(folder) / "old")
            os.replace(fresh, path)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OutOfMemory(f"{path}: no space left on the disk") from None
            raise
