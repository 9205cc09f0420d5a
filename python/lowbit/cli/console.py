# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the command prints: results on stdout; remarks and progress on stderr."""
from __future__ import annotations

import math
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..eval.report import to_json
from ..output import write_text

PATIENCE = 2.0  # seconds before a progress bar appears


class Log:
    """Remarks of one command. With --json or -o too, stdout holds nothing but the result."""

    def __init__(self, options: Namespace) -> None:
        self._options = options
        self.stdout = Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 200)
        self._stderr = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        if not self._options.quiet:
            self._stderr.print(text, markup=False)

    def detail(self, text: str) -> None:
        if self._options.verbose:
            self._stderr.print(text, markup=False)

    def result(self, data: Any, show: Callable[[Console], None]) -> None:
        """A result as a file (-o), as JSON (--json), or for people."""
        path = getattr(self._options, "out", None)
        if path:
            write_text(path, to_json(data) + "\n", force=self._options.force)
            self.say(f"wrote {path}")
        if self._options.json:
            print(to_json(data))
        elif not path or not self._options.quiet:
            show(self.stdout)

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int | None], None]]:
        """A function (done, total or None) that draws a bar once the work has taken two seconds on a terminal."""
        if self._options.quiet or not self._stderr.is_terminal:
            yield lambda done, total: None
            return
        bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                       console=self._stderr, transient=True,
                       speed_estimate_period=math.inf)  # The mean speed: phases of one layer differ, layers repeat.
        start, task = time.monotonic(), None

        def update(done: int, total: int | None) -> None:
            nonlocal task
            if task is None and time.monotonic() - start > PATIENCE:
                task = bar.add_task(what, total=total)
                bar.start()
            if task is not None:
                bar.update(task, completed=done, total=total)

        try:
            yield update
        finally:
            bar.stop()

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """A spinner for work that cannot say how far it is."""
        if self._options.quiet or not self._stderr.is_terminal:
            yield
            return
        with self._stderr.status(what):
            yield


def size(count: int | None) -> str:
    """Bytes for people."""
    if count is None:
        return "–"
    if count < 10_000:
        return f"{count:,} B"
    return f"{count / 1e3:,.1f} kB" if count < 1_000_000 else f"{count / 1e6:,.2f} MB"
