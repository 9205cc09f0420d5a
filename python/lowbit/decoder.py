# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A causal language model as a function of tokens, whatever its ports: logits of a sequence, and of one token after another."""
from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from .data import Record
from .errors import InvalidInput, nearest
from .feeds import ids_input, is_past, token_inputs
from .subjects import Subject

_STEM = re.compile(r"^(past_key_values?|past|present_key_values?|present)")


class Decoder:
    """output: the logits' name; None takes the only output of rank 3, or one called logits.

    cached: whether it has inputs for keys and values of earlier tokens, each with the output that the next
    step gets there: equal names but for past… and present…. Otherwise the prefix runs again for every token.
    """

    def __init__(self, subject: Subject, output: str | None = None) -> None:
        self.subject = subject
        ids_input(subject.inputs)
        self.output = output or self._choose()
        if output is not None and all(value.name != output for value in subject.outputs):
            raise InvalidInput(f"{subject.name} has no output '{output}'{nearest(output, [v.name for v in subject.outputs])}")
        stems = {_STEM.sub("", value.name): value.name for value in subject.outputs if _STEM.match(value.name)}
        pasts = [value.name for value in subject.inputs if is_past(value)]
        self._caches = {name: stems.get(_STEM.sub("", name)) for name in pasts}
        self.cached = bool(pasts) and all(self._caches.values())

    def _choose(self) -> str:
        names = [value.name for value in self.subject.outputs if len(value.dims) == 3]
        if "logits" in names:
            return "logits"
        if len(names) != 1:
            raise InvalidInput(f"{self.subject.name} has {len(names)} outputs [batch, length, vocabulary]; choose one with --output")
        return names[0]

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """[tokens, vocabulary]: what follows each token."""
        return self._run(tokens, None, 0)[0]

    def _run(self, tokens: Sequence[int], past: Record | None, begin: int) -> tuple[np.ndarray, Record]:
        rows = np.asarray(tokens, np.int64)[None]
        outputs = self.subject.run(token_inputs(self.subject.inputs, rows, self.subject.name, past, begin))
        values = np.asarray(outputs[self.output])
        if values.ndim != 3 or values.shape[:2] != rows.shape:
            raise InvalidInput(f"{self.subject.name}: '{self.output}' has shape {list(values.shape)}, expected [1, {rows.shape[1]}, vocabulary]; choose another with --output")
        return values[0], outputs

    def start(self) -> Continuation:
        return Continuation(self)

    def _present(self, outputs: Record, total: int) -> Record:
        """The next step's past; it has to hold all `total` positions so far."""
        past = {name: outputs[present] for name, present in self._caches.items()}
        for value in self.subject.inputs:
            if value.name in past:
                axis = next((i for i, d in enumerate(value.dims) if i and d < 0), None)
                if axis is None or past[value.name].shape[axis] != total:
                    raise InvalidInput(f"{self.subject.name}: output '{self._caches[value.name]}' has shape {list(past[value.name].shape)}, which does not hold "
                                       f"the {total} positions so far; such a cache is not supported")
        return past


class Continuation:
    """One sequence that grows: `feed` appends tokens and gives the logits [vocabulary] after the last."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._tokens: list[int] = []
        self._past: Record | None = None

    def feed(self, tokens: Sequence[int]) -> np.ndarray:
        if not tokens:
            raise InvalidInput("there is no token to go on from")
        begin = len(self._tokens)
        self._tokens.extend(int(t) for t in tokens)
        if not self._decoder.cached:
            return self._decoder.logits(self._tokens)[-1]
        values, outputs = self._decoder._run(tokens, self._past, begin)
        self._past = self._decoder._present(outputs, len(self._tokens))
        return values[-1]
