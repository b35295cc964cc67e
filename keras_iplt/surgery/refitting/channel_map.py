"""From the channels that stay to those that go: a linear map, and the weights that follow from it.

removed channels ≈ kept channels · A + c
weights of the kept += A · weights of the removed;    bias += c · weights of the removed
"""

from __future__ import annotations

import functools

import keras
import numpy as np

from keras_iplt.graph.channels import Graph, Slice
from keras_iplt.graph.slices import kept_axes, numbers_of, zeroed
from keras_iplt.running.linear import Linear, some_positions
from keras_iplt.running.relay import Weights, held_by
from keras_iplt.surgery.refitting.least_squares import Sums

__all__ = ["ChannelMap", "Taker"]

_PER_BATCH = 1024  # samples, or
_PER_CHANNEL = 4  # so many for each channel, where that is more

# A layer as a product, what takes up a constant for it, and the sign.
Taker = tuple[Linear, keras.Variable, float]


class ChannelMap:
    """From the channels that stay to those that go, of one consumer.

    Channels that stand at several positions each (maps that were flattened) are told from each
    other position by position.

    Args:
        piece: what the consumer's kernel holds of its input channels.
        graph, gone: the channels of the model, and those that go.
        taker: what takes up a constant, or None.
    """

    def __init__(self, piece: Slice, graph: Graph, gone: np.ndarray, taker: Taker | None) -> None:
        self.piece, self._taker = piece, taker
        pieces = graph.by_variable[id(piece.variable)]
        self._kept = list(kept_axes(piece.variable, pieces, gone))
        self._kept[piece.axis] = None  # of the other axes
        classes = graph.classes[piece.ids]
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

    def see(self, kept: np.ndarray, lost: np.ndarray, axis: int, rng: np.random.Generator) -> None:
        """Some more data.

        Args:
            kept, lost: what goes into the consumer: where the channels that stay are taken from,
                and those that go.
            axis: where channels stand in both.
            rng: chooses positions where there are more than it takes.
        """
        kept, lost = (np.moveaxis(x, axis, -1) for x in (kept, lost))
        kept, lost = (x.reshape(len(x), -1, x.shape[-1]) for x in (kept, lost))
        samples = max(_PER_BATCH, _PER_CHANNEL * len(self._order))
        chosen = some_positions(kept.shape[1], samples, len(kept), rng)
        features = self._rows(kept, chosen)[..., ~self._lost]
        if self._taker is not None:
            features = np.concatenate([features, np.ones_like(features[..., :1])], axis=2)
        per_example = len(chosen) * self._order.shape[1]
        self._sums.add(features, self._rows(lost, chosen)[..., self._lost], per_example)

    def _rows(self, x: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        return x[:, chosen][..., self._order.T].reshape(-1, 1, len(self._order))

    def put(self, weights: Weights) -> None:
        """Gives the pruned model the weights that follow."""
        found = self._sums.fit()
        if found is None:
            return
        left, variable = int((~self._lost).sum()), self.piece.variable
        kernel = zeroed(numbers_of(variable), self._kept)
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
            constant = product.of_ones(kernel * held.reshape(lengths))
            bias = product.bias_from(constant) if sign > 0 else constant.ravel()
            _add(weights, taker, sign * bias)


def _add(weights: Weights, variable: keras.Variable, change: np.ndarray) -> None:
    value = held_by(weights, variable)
    weights[id(variable)] = variable, (value + change).astype(value.dtype)
