# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs jobs in a few processes that live long; a crash or a hang costs its own job only."""
from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

#: What a job gives: (result, why). A job that crashes or hangs gives "crash".
Result = tuple[str, str]


def serve(pipe: Connection, run: Callable[..., Result]) -> None:
    """A worker: jobs come in, results go out."""
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    while job := pipe.recv():
        try:
            pipe.send(run(*job))
        except Exception as error:  # not an error that lowbit raises on purpose: a defect
            pipe.send(("crash", f"{type(error).__name__}: {error}"))


class Worker:
    """A process with at most one job."""

    def __init__(self, run: Callable[..., Result], seconds: float) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=serve, args=(theirs, run), daemon=True)
        self.process.start()
        theirs.close()
        self.seconds, self.since = seconds, 0.0
        self.job: int | None = None

    def start(self, number: int, job: tuple[Any, ...]) -> None:
        self.job, self.since = number, time.monotonic()
        self.pipe.send(job)

    def poll(self) -> Result | None:
        """The job's result where there is one; a worker that gave none must be replaced (`dead`)."""
        if self.pipe.poll():
            try:
                return self.pipe.recv()
            except EOFError:
                self.process.join()
                return "crash", f"the process ended with {self.process.exitcode}"
        if time.monotonic() - self.since > self.seconds:
            self.process.kill()
            self.process.join()
            return "crash", f"nothing after {self.seconds} s"
        return None

    @property
    def dead(self) -> bool:
        return not self.process.is_alive()


def run_all(run: Callable[..., Result], jobs: list[tuple[Any, ...]], processes: int, seconds: float) -> list[Result]:
    """run(*job) for each job, in forked processes, each within so many seconds; results in the order of the jobs."""
    results: dict[int, Result] = {}
    waiting = list(reversed(range(len(jobs))))
    workers = [Worker(run, seconds) for _ in range(min(processes, len(jobs)))]
    while len(results) < len(jobs):
        for index, worker in enumerate(workers):
            if worker.job is not None and (result := worker.poll()):
                results[worker.job] = result
                worker.job = None
                if worker.dead:
                    workers[index] = worker = Worker(run, seconds)
            if worker.job is None and waiting:
                number = waiting.pop()
                worker.start(number, jobs[number])
        busy = [worker.pipe for worker in workers if worker.job is not None]
        if busy and len(results) < len(jobs):
            wait(busy, timeout=1)
    for worker in workers:
        worker.process.kill()
    return [results[number] for number in range(len(jobs))]
