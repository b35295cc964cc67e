"""Batches of data on their way through a model, from stop to stop, all of them together.

Whoever changes weights by what goes into a layer (`keras_iplt.recalibrate`, refitting) wants all
data before that layer at once, and wants them to go on through the layer as it is afterwards:

    batch 1  ──►│            │──►│
    batch 2  ──►│ fit conv1  │──►│ fit conv2   …       one pass over the data for all layers
    batch 3  ──►│            │──►│

Only what is still needed is held. Where memory does not hold all batches (early tensors are large),
the others either join as soon as there is room, or run from the beginning at each stop.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt.graph.slices import numbers_of
from keras_iplt.running.observe import Batch, without_gradients
from keras_iplt.running.steps import Program, last_uses, places

__all__ = ["Relay", "Values", "Weights", "held_by", "hold"]

Values = MutableMapping[int, Any]  # by place, see `Program`
Weights = dict[int, tuple[keras.Variable, Any]]  # by id: a variable, and what it holds instead

_BYTES = 4  # of a number: nearly all tensors are of float32


def held_by(weights: Weights, variable: keras.Variable) -> np.ndarray:
    """What a variable holds in a version of the model."""
    known = weights.get(id(variable))
    return numbers_of(variable) if known is None else np.asarray(known[1])


def hold(weights: Weights, variable: keras.Variable, value: Any) -> None:
    """Lets a variable hold something else in a version of the model."""
    weights[id(variable)] = variable, np.asarray(value).astype(held_by(weights, variable).dtype)


class Relay:
    """Batches before the same step of a model.

    Args:
        program: the steps of the model.
        given: the batches.
        weights: per version of the model, what its variables hold instead of their own values. The
            caller may change these between stops. Versions after the first are computed only where
            they differ from it, which `edited` tells: ids of the variables in which they do.
        edited: see `weights`.
        memory: how many bytes of tensors to hold at most; one batch is always held.
        all_along: whether batches that are not held are seen at every stop too, run from the
            beginning each time; otherwise they join when there is room for them.
    """

    def __init__(
        self,
        program: Program,
        given: Iterable[Batch],
        weights: Sequence[Weights],
        memory: float,
        edited: Iterable[int] = (),
        all_along: bool = False,
    ) -> None:
        self._program, self._weights, self._memory = program, weights, memory
        self._all_along = all_along
        self._reached = program.reached({*edited})
        self._drop = last_uses(program.steps, {*places(program.outputs)})
        self._at = 0
        self._held: list[list[Values]] = []
        self._waiting: Iterator[Batch] = iter(given)
        self._later: list[Batch] = []  # those never held, where they are seen all along
        self._sizes = [0.0] * (len(program.steps) + 1)  # of a batch from each step on, at most
        self._scopes = self._made_scopes()
        first = next(self._waiting)
        self._scout(first)
        self._held.append(self._begin(first))
        self._let_join()

    def __len__(self) -> int:
        """How many batches are held."""
        return len(self._held)

    def advance(self, stop: int) -> None:
        """All batches go on to just before a step."""
        self._scopes = self._made_scopes()
        for values in self._held:
            self._run(values, self._at, stop)
        self._at = stop
        self._let_join()

    def batches(self) -> Iterator[list[Values]]:
        """Per batch, the values of each version."""
        yield from self._held
        if self._all_along:
            self._later += self._waiting
            for batch in self._later:
                values = self._begin(batch)
                self._run(values, 0, self._at)
                yield values

    def _made_scopes(self) -> list[keras.StatelessScope]:
        """What lets variables hold other values, per version."""
        return [keras.StatelessScope([*weights.values()]) for weights in self._weights]

    def _begin(self, batch: Batch) -> list[Values]:
        start = dict(zip(self._program.inputs, batch.inputs, strict=True))
        return [start, *(ChainMap({}, start) for _ in self._weights[1:])]

    def _let_join(self) -> None:
        while (len(self._held) + 1) * self._sizes[self._at] <= self._memory:
            batch = next(self._waiting, None)
            if batch is None:
                return
            values = self._begin(batch)
            self._run(values, 0, self._at)
            self._held.append(values)

    def _run(self, values: list[Values], start: int, stop: int) -> None:
        for index in range(start, stop):
            self._step(values, index)

    def _step(self, values: list[Values], index: int) -> None:
        step = self._program.steps[index]
        for version, (own, scope) in enumerate(zip(values, self._scopes, strict=True)):
            if version == 0 or self._reached[index]:
                with scope, without_gradients():
                    step.run(own)
        for place in self._drop.get(index, ()):
            for own in values:
                local = own.maps[0] if isinstance(own, ChainMap) else own
                local.pop(place, None)

    def _scout(self, batch: Batch) -> None:
        """One batch goes all the way, to see how much of it has to be held from each step on."""
        values = self._begin(batch)
        self._sizes[0] = _size(values)
        for index in range(len(self._program.steps)):
            self._step(values, index)
            self._sizes[index + 1] = _size(values)
        for index in reversed(range(len(self._program.steps))):
            self._sizes[index] = max(self._sizes[index], self._sizes[index + 1])


def _size(values: Sequence[Mapping[int, Any]]) -> float:
    several = {id(x): x for version in values for x in version.values()}
    return float(sum(_BYTES * math.prod(x.shape) for x in several.values()))
