"""All at once: what the removed channels held is told from those that stay, as a linear map.

    removed channels ≈ kept channels · A + c        on the inputs of a layer in the whole model
    weights of the kept += A · weights of the removed;    bias += c · weights of the removed

One pass over the data, and a matrix as large as there are channels: for whatever consumes channels
by its weights, recurrent layers and layers that are used several times included. Exact where a
channel is a combination of others (but for a constant at image borders that are padded).
"""

from __future__ import annotations

import functools
from collections.abc import Container
from typing import Any

import keras
import numpy as np

from keras_iplt.graph.channels import Call, Channels, Graph, Slice
from keras_iplt.graph.flow import channels_in
from keras_iplt.graph.slices import kept_axes, numbers_of, zeroed
from keras_iplt.running.observe import batches, observe
from keras_iplt.running.relay import Weights, held_by
from keras_iplt.running.steps import Program
from keras_iplt.surgery.refitting.behind import Behind
from keras_iplt.surgery.refitting.least_squares import Sums
from keras_iplt.surgery.refitting.linear import Linear, linear

__all__ = ["at_once"]

_PER_BATCH = 1024  # samples, or
_PER_CHANNEL = 4  # so many for each channel, where that is more


def at_once(
    program: Program,
    graph: Graph,
    gone: np.ndarray,
    weights: Weights,
    data: Any,
    memory: float,
    done: Container[int] = (),
) -> None:
    """Changes what the consumers of removed channels hold in a pruned model.

    Args:
        program: the steps of the model.
        graph, gone: its channels, and those that go.
        weights: what the variables of the pruned model hold, zeros where channels go. What is
            fitted is put there.
        data: as for `Refit`.
        memory: how many bytes the sums over samples of one consumer may take.
        done: ids of kernels to leave alone.
    """
    maps: dict[int, list[_Map]] = {}  # by id(call)
    known: dict[int, _Map] = {}  # by id(variable): of a layer that is used several times, one
    takers = _takers(program)
    for call in graph.calls.values():
        if call.carry == "model" or call.inner is not None:
            continue  # the calls inside are visited instead
        for variable in getattr(call.operation, "weights", ()):
            for piece in graph.by_variable.get(id(variable), ()):
                axis = _axis(call, piece, graph)
                if id(variable) in done or axis is None or not gone[piece.ids].any():
                    continue
                taker = takers.get(id(variable))
                one = known.get(id(variable)) or _Map(
                    piece, axis, graph.classes[piece.ids], gone, taker
                )
                if one.bytes <= memory:
                    known[id(variable)] = one
                    maps.setdefault(id(call), []).append(one)
    rng = np.random.default_rng(0)

    def visit(call: Call, inputs: list[tuple[Channels, np.ndarray]]) -> None:
        for one in maps[id(call)]:
            several = (v for x, v in inputs if _runs_along(x, one.piece, graph) is not None)
            one.see(next(several), rng)

    if maps:
        observe(graph, batches(graph.model, data), visit, wanted=lambda call: id(call) in maps)
    for one in known.values():
        one.put(weights, graph, gone)


def _axis(call: Call, piece: Slice, graph: Graph) -> int | None:
    """The axis of the call's input along which stand the channels that a variable consumes."""
    if piece.role != "input" or piece.variable.name == "recurrent_kernel":
        return None  # it consumes what its own layer put out a step before
    axes = [_runs_along(x, piece, graph) for x in channels_in((call.args, call.kwargs))]
    return next((axis for axis in axes if axis is not None), None)


def _runs_along(x: Channels, piece: Slice, graph: Graph) -> int | None:
    """The axis of a tensor along which stand the channels of a piece, and no others."""
    classes = graph.classes[x.ids].ravel()
    same = len(x.varying) == 1 and np.array_equal(classes, graph.classes[piece.ids])
    return next(iter(x.varying)) if same else None


Taker = tuple[Linear, keras.Variable, float]


def _takers(program: Program) -> dict[int, Taker]:
    """By id(kernel): the layer as a product, what takes up a constant for it, and the sign."""
    behind, found = Behind(program), {}
    for step in program.steps:
        product = linear(step.operation)
        taker = None if product is None else behind.absorber(step, product)
        if product is not None and taker is not None:
            found[id(product.kernel)] = product, *taker
    return found


class _Map:
    """From the channels that stay to those that go, of one consumer.

    Channels that stand at several positions each (maps that were flattened) are told from each
    other position by position.
    """

    def __init__(
        self, piece: Slice, axis: int, classes: np.ndarray, gone: np.ndarray, taker: Taker | None
    ) -> None:
        self.piece, self._axis, self._taker = piece, axis, taker
        counts = np.unique(classes, return_counts=True)[1]
        order = np.argsort(classes, kind="stable")
        alike = (counts == counts[0]).all()
        self._order = order.reshape(len(counts), -1) if alike else order[:, None]
        self._lost = gone[piece.ids][self._order[:, 0]]
        lost = int(self._lost.sum())
        self._sizes = len(self._lost) - lost + (taker is not None), lost
        self.bytes = Sums.bytes(1, *self._sizes)

    @functools.cached_property
    def _sums(self) -> Sums:
        return Sums(1, *self._sizes)

    def see(self, x: np.ndarray, rng: np.random.Generator) -> None:
        """Some more data: what goes into the consumer."""
        rows = np.moveaxis(x, self._axis, -1).reshape(len(x), -1, x.shape[self._axis])
        wanted = -(-max(_PER_BATCH, _PER_CHANNEL * len(self._order)) // len(x))
        if wanted < rows.shape[1]:
            rows = rows[:, np.sort(rng.choice(rows.shape[1], wanted, replace=False))]
        per_example = rows.shape[1] * self._order.shape[1]
        rows = rows[..., self._order.T].reshape(-1, 1, len(self._order))
        features = rows[..., ~self._lost]
        if self._taker is not None:
            features = np.concatenate([features, np.ones_like(features[..., :1])], axis=2)
        self._sums.add(features, rows[..., self._lost], per_example)

    def put(self, weights: Weights, graph: Graph, gone: np.ndarray) -> None:
        """Gives the pruned model the weights that follow."""
        found = self._sums.fit()
        if found is None:
            return
        left, variable = int((~self._lost).sum()), self.piece.variable
        kept = list(kept_axes(variable, graph.by_variable[id(variable)], gone))
        kept[self.piece.axis] = None
        kernel = zeroed(numbers_of(variable), kept)  # what it held, but for outputs that go
        rows = np.moveaxis(kernel, self.piece.axis, 0)
        moved = np.zeros_like(rows)
        moved[self._order[~self._lost]] = np.tensordot(
            found[0, :left], rows[self._order[self._lost]], (1, 0)
        )
        _add(weights, variable, np.moveaxis(moved, 0, self.piece.axis))
        if self._taker is not None:
            product, taker, sign = self._taker
            held = np.zeros(len(rows))
            held[self._order[self._lost]] = found[0, left][:, None]
            lengths = [1] * kernel.ndim
            lengths[self.piece.axis] = len(held)
            constant = product.matrix(kernel * held.reshape(lengths)).sum(axis=1)
            bias = product.bias_from(constant) if sign > 0 else constant.ravel()
            _add(weights, taker, sign * bias)


def _add(weights: Weights, variable: keras.Variable, change: np.ndarray) -> None:
    value = held_by(weights, variable)
    weights[id(variable)] = variable, (value + change).astype(value.dtype)
