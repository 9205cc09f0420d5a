# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Peak memory of one model, measured in a process of its own: `python -m lowbit.memory MODEL THREADS FEED.npz`."""
from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

RUNS = 3
WHAT = (f"growth of a fresh process's resident memory from before its runtime was loaded to the highest while the model "
        f"was opened and run {RUNS} times")


def peak_memory(source: str, feed: Mapping[str, np.ndarray], threads: int) -> int | None:
    """Bytes, as `WHAT` says; None where the system does not tell."""
    with tempfile.TemporaryDirectory(prefix="lowbit-") as folder:
        path = Path(folder) / "feed.npz"
        np.savez(path, **feed)
        # The child finds the package where this process did, also from a checkout.
        code = f"import sys; sys.path[:] = {sys.path!r}; from lowbit.memory import main; main()"
        done = subprocess.run([sys.executable, "-c", code, source, str(threads), str(path)], capture_output=True, text=True)
    text = done.stdout.strip()
    return int(text) if done.returncode == 0 and text.isdigit() else None


def _resident(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{key}:"))


def main() -> None:
    from .subjects import open_subject

    source, threads, path = sys.argv[1:]
    with np.load(path) as file:
        feed = {name: file[name] for name in file.files}
    start = _resident("VmRSS")
    subject = open_subject(source, threads=int(threads))
    for _ in range(RUNS):
        subject.run(feed)
    print(_resident("VmHWM") - start)
