"""What batch norms remember of their inputs, measured again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError
from keras_iplt.graph.slices import numbers_of
from keras_iplt.graph.trace import trace
from keras_iplt.running.observe import batches
from keras_iplt.running.relay import Relay, Values, Weights, hold
from keras_iplt.running.steps import Step, filled, recorded
from keras_iplt.support.arguments import Data, Positive, Verbosity, checked
from keras_iplt.support.progress import silent, told

__all__ = ["Moments", "recalibrate", "rows_of"]


@checked
def recalibrate(
    model: keras.Model, data: Data, memory: Positive = 2e9, verbose: Verbosity = 1
) -> None:
    """Measures the moving means and variances of a model's batch norms again, in place.

    Where channels are removed, or training was short, what batch norms remember is of another
    model, and evaluation suffers from it (`fit` itself uses the statistics of each batch). They
    are set to the exact mean and variance over all of `data`, in the order of the network, each
    after those before it; those of a batch norm that is used several times, over all its uses.

    Do it after `rewrite` or `shrink` without training, and after a short training. Not after
    `compensate`, which has fitted the weights to the statistics as they are.

    Args:
        model: a model with `BatchNormalization` layers. Those that are not trainable are left
            alone, as in training.
        data: `x` or batches, as for `keras_iplt.plan`; labels are not looked at.
        memory: how many bytes of tensors to hold between two batch norms. What does not fit is
            computed again from the beginning for each of them: that takes long.
        verbose: 0 for no progress bar, which only terminals and notebooks get.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    >>> iplt.recalibrate(model, np.array([[0.0, 1.0], [2.0, 1.0]]))
    >>> keras.ops.convert_to_numpy(model.layers[0].moving_mean)
    array([1., 1.], dtype=float32)
    """
    with silent(when=not verbose):
        _recalibrate(model, data, memory)


def _recalibrate(model: keras.Model, data: Any, memory: float) -> None:
    graph = trace(model)
    program = recorded(graph.function, graph.calls)
    found = {id(step.operation) for step in program.steps}
    norms = [x for x in private.all_layers(model) if isinstance(x, _BatchNorm) and x.trainable]
    unseen = [norm.path for norm in norms if id(norm) not in found]
    if unseen:
        raise ModelError(
            f"expected batch norms whose inputs can be seen; {', '.join(map(repr, unseen))} stand "
            "inside layers that are not looked into. Put them into the model itself"
        )
    if not norms:
        return
    data = [*data] if isinstance(data, Iterator) else data
    weights: Weights = {}

    def started() -> Relay:
        return Relay(program, batches(model, data), [weights], memory, all_along=True)

    uses: dict[int, list[int]] = {id(norm): [] for norm in norms}
    for index, step in enumerate(program.steps):
        uses.get(id(step.operation), []).append(index)
    relay = started()
    for several in told(sorted(uses.values()), "layer"):
        # What goes into the later uses of a norm is looked at ahead of the others.
        ahead = relay if len(several) == 1 else started()
        known = Moments()
        for index in several:
            ahead.advance(index)
            step = program.steps[index]
            for (values,) in ahead.batches():
                known.add(rows_of(step, values))
        _remember(step.operation, known, weights)
    for variable, value in weights.values():
        variable.assign(value)


_BatchNorm = keras.layers.BatchNormalization


def rows_of(step: Step, values: Values) -> np.ndarray:
    """What a batch norm takes moments of: (positions, channels), without what is masked."""
    x, mask = values[step.inputs[0]], filled(step.kwargs.get("mask"), values)
    rows = np.moveaxis(numbers_of(x), step.operation.axis, -1)
    return rows.reshape(-1, rows.shape[-1]) if mask is None else rows[numbers_of(mask)]


class Moments:
    """The mean and the variance of rows that come in parts, exact whatever their number."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: np.ndarray | float = 0.0
        self._squares: np.ndarray | float = 0.0  # of the distances from the mean

    def add(self, rows: np.ndarray) -> None:
        """Some more rows."""
        if not len(rows):
            return
        rows = rows.astype(np.float64)
        mean, before = rows.mean(axis=0), self.count
        self.count += len(rows)
        apart = mean - self.mean
        self._squares += ((rows - mean) ** 2).sum(axis=0)
        self._squares += apart**2 * before * len(rows) / self.count
        self.mean += apart * len(rows) / self.count

    @property
    def variance(self) -> np.ndarray | float:
        return self._squares / self.count


def _remember(norm: keras.layers.BatchNormalization, known: Moments, weights: Weights) -> None:
    if known.count:
        hold(weights, norm.moving_mean, known.mean)
        hold(weights, norm.moving_variance, known.variance)
