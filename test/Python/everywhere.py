# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Bundles on every kernel variant of this machine."""
from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lowbit.runtime import Bundle


def run_everywhere(bundle: Path, feeds: dict[str, np.ndarray], threads: Sequence[int] = (1, 2)) -> dict[str, np.ndarray]:
    """The outputs, which have to be the same bits on every kernel variant of this machine and for every number of threads."""
    results = []
    for isa, count in itertools.product(("avx2", "avx512vnni"), threads):
        try:
            results.append(Bundle(str(bundle), threads=count, isa=isa).run(feeds))
        except Exception as error:
            if isa == "avx2" or "avx512" not in str(error):
                raise
    for other, name in itertools.product(results[1:], results[0]):
        assert np.array_equal(results[0][name], other[name]), name
    return results[0]
