# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Time and memory of several models, interleaved in one process."""
from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .data import open_data
from .errors import InvalidInput
from .feeds import Feeder
from .memory import WHAT, peak_memory
from .signature import batchable
from .subjects import Subject, open_subject, random_feed

SCHEMA = "lowbit.bench/1"
WARMUP = 3
AUTO_SECONDS, AUTO_ROUNDS = 3.0, (20, 1000)


def bench(sources: list[str], *, inputs: Any = None, repeat: int = 0, dims: Mapping[str, int] | None = None, batch: int = 1,
          seed: int = 0, threads: int = 0, progress: Callable[[int, int | None], None] | None = None) -> dict[str, Any]:
    """Runs each model once a round, in rotating order, on the same inputs.

    inputs: data as for `--data`, of which the first feed (of `batch` samples) is used; None draws
    random ones. repeat: rounds; 0 takes as many as fit three seconds, 20 … 1000. dims: sizes of
    dynamic dimensions of random inputs, by symbol. Times are milliseconds of one run, without
    opening the model.
    """
    if repeat < 0:
        raise InvalidInput(f"--repeat must not be negative: {repeat}")
    subjects = [open_subject(source, threads=threads, shared=len(sources) > 1) for source in sources]
    feed, described = _feed(subjects[0], inputs, dims or {}, batch, seed)
    for subject in subjects:
        for _ in range(WARMUP):
            subject.run(feed)
    memory = [peak_memory(source, feed, threads) for source in sources]
    times: list[list[int]] = [[] for _ in subjects]
    begin = time.perf_counter()
    rounds = 0
    while True:
        for offset in range(len(subjects)):
            which = (offset + rounds) % len(subjects)
            started = time.perf_counter_ns()
            subjects[which].run(feed)
            times[which].append(time.perf_counter_ns() - started)
        rounds += 1
        if progress:
            progress(rounds, repeat or None)
        enough = time.perf_counter() - begin >= AUTO_SECONDS and rounds >= AUTO_ROUNDS[0]
        if rounds >= (repeat or AUTO_ROUNDS[1]) or (not repeat and enough):
            break
    results = []
    first = float(np.median(times[0]))
    for subject, nanoseconds, peak in zip(subjects, times, memory):
        ms = np.asarray(nanoseconds, np.float64) / 1e6
        p10, median, p90 = np.quantile(ms, [0.1, 0.5, 0.9])
        results.append({
            "name": subject.name, "runtime": subject.runtime, "bytes": subject.bytes, "peak_memory_bytes": peak,
            "ms": {"median": float(median), "p10": float(p10), "p90": float(p90), "min": float(ms.min())},
            "speed": first / 1e6 / float(median)})
    return {
        "schema": SCHEMA,
        "protocol": {
            "inputs": described, "shapes": {name: list(a.shape) for name, a in feed.items()}, "rounds": rounds, "warmup": WARMUP,
            "order": "interleaved: each model once a round, the first one rotating; onnxruntime's threads do not spin between runs" if len(subjects) > 1 else "one model",
            "threads": threads or "each runtime's default",
            "peak_memory": WHAT},
        "subjects": results}


def _feed(subject: Subject, inputs: Any, dims: Mapping[str, int], batch: int, seed: int) -> tuple[dict[str, np.ndarray], str]:
    if inputs is not None:
        if dims:
            raise InvalidInput("--dim is for random inputs; --inputs have their own shapes")
        feeder = Feeder(open_data(inputs), subject.inputs, subject.outputs, batch=batch)
        feed = next(iter(feeder))
        return feed.inputs, f"{feeder.data.name}, sample {feed.start}" + (f" … {feed.start + feed.count - 1}" if feed.count > 1 else "")
    symbols = {s for value in subject.inputs for s in value.symbols if s}
    for name in dims:
        if name not in symbols:
            raise InvalidInput(f"the model has no dynamic dimension '{name}'; it has {', '.join(sorted(symbols)) or 'none'}")
    sizes = dict(dims)
    if batch > 1 and batchable(subject.inputs, subject.outputs):
        sizes.setdefault(subject.inputs[0].symbols[0], batch)
    ones = sorted(symbols - sizes.keys())
    said = f"random (seed {seed}), N(0, 1) and integers 0 … 99" + (f"; {', '.join(ones)} = 1" if ones else "")
    return random_feed(subject.inputs, np.random.default_rng(seed), sizes), said

