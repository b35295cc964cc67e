"""Layer by layer, each is fitted to what it put out in the whole model.

Its inputs are those that the pruned model gives it.

What a layer could not make good, the next one sees in its inputs and makes good in its turn.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from keras_iplt.graph.channels import Graph
from keras_iplt.graph.slices import kept_axes, numbers_of, zeroed
from keras_iplt.running.linear import Linear, linear, some_positions
from keras_iplt.running.relay import Relay, Values, Weights, held_by, hold
from keras_iplt.running.steps import Program, Step
from keras_iplt.support.progress import told
from keras_iplt.surgery.refitting.behind import Behind
from keras_iplt.surgery.refitting.channel_map import ChannelMap
from keras_iplt.surgery.refitting.least_squares import Sums

__all__ = ["Fit", "fit_by_layer", "fits"]

_PER_FEATURE = 20  # samples for each feature that is fitted, where there are as many
_AT_LEAST = 16384  # samples
_ENOUGH = 2  # samples for each feature, to do without a start


def fits(
    program: Program, graph: Graph, gone: np.ndarray, weights: Weights, memory: float
) -> dict[int, Fit]:
    """The fits that there are to make, by the index of their step.

    Args:
        program: the steps of the model.
        graph, gone: its channels, and those that go.
        weights: what the variables of the pruned model hold, zeros where channels go.
        memory: how many bytes the sums over samples of a layer may take.
    """
    behind = Behind(program)
    changed: set[int] = set()  # places of tensors that are not what they are in the whole model
    found = {}
    marks = zip(program.steps, program.reached({*weights}), strict=True)
    for index, (step, reached) in enumerate(marks):
        layer = linear(step.operation)
        if layer is not None and behind.used_once(step) and step.inputs[0] in changed:
            fit = Fit(layer, step, behind, graph, gone)
            if fit.bytes <= memory:
                found[index] = fit
        if reached:
            changed.update(step.outputs)
    return found


def fit_by_layer(several: Mapping[int, Fit], relay: Relay, weights: Weights) -> None:
    """Makes fits, one after the other.

    Args:
        several: the `fits`.
        relay: the data on their way; first through the whole model, second through the pruned one.
        weights: what the variables of the pruned model hold. What is fitted is put there.
    """
    rng = np.random.default_rng(0)
    for index, fit in told(several.items(), "layer"):
        relay.advance(index)
        fit.make(relay, weights, rng)


class Fit:
    """The fit of one layer.

    Attributes:
        layer: the layer as a product.
        bytes: what the sums over samples take.
    """

    def __init__(
        self, layer: Linear, step: Step, behind: Behind, graph: Graph, gone: np.ndarray
    ) -> None:
        self.layer, self._step, self._behind = layer, step, behind
        self._absorber = behind.absorber(step, layer)
        kernel = layer.kernel
        kept = kept_axes(kernel, graph.by_variable.get(id(kernel), ()), gone)
        stays = layer.matrix(zeroed(np.ones(kernel.shape, np.float32), kept)) != 0
        self._rows, self._columns = stays.any(axis=2), stays.any(axis=1)  # (groups, …)
        self._alone = len(stays) == 1  # then what goes need not be in the sums
        rows, columns = (
            int(x.sum()) if self._alone else x.shape[1] for x in (self._rows, self._columns)
        )
        self._sizes = len(stays), rows + (self._absorber is not None), columns
        self.bytes = Sums.bytes(*self._sizes)
        self._start = self._channel_map(graph, gone)

    def make(self, relay: Relay, weights: Weights, rng: np.random.Generator) -> None:
        """Looks at all data, which have to be right before the layer, and changes the weights."""
        layer, (place, *_) = self.layer, self._step.inputs
        examples = sum(len(versions[0][place]) for versions in relay.batches())
        first = next(relay.batches())
        count = layer.positions(self._before_and_after(first, weights)[0].shape)
        if self._start is not None and examples * count < _ENOUGH * self._sizes[1]:
            start, axis = self._start
            for versions in relay.batches():
                before, after = self._before_and_after(versions, weights)
                start.see(after, before, axis, rng)
            start.put(weights)
        whole = layer.matrix(numbers_of(layer.kernel))
        now = layer.matrix(held_by(weights, layer.kernel))
        moved = self._moved_bias(weights)
        sums = Sums(*self._sizes)
        meeting = self._behind.meeting(self._step, layer, first[0])
        samples = max(_AT_LEAST, _PER_FEATURE * self._sizes[1])
        for versions in relay.batches():
            before, after = self._before_and_after(versions, weights)
            count = layer.positions(before.shape)  # images of a batch may be of a size of their own
            chosen = some_positions(count, samples, examples, rng)
            features = layer.features(after, chosen)
            missing = _times(layer.features(before, chosen), whole) - _times(features, now) - moved
            if meeting is not None:
                lacking = meeting.lacking(*(version[meeting.other] for version in versions[:2]))
                if lacking.shape[:2] == (len(before), count):  # else it is added everywhere
                    missing += lacking[:, chosen].reshape(missing.shape)
            sums.add(self._left(features), self._asked(missing), len(chosen))
        change = sums.fit()
        if change is not None:
            self._put(weights, now, change)

    def _channel_map(self, graph: Graph, gone: np.ndarray) -> tuple[ChannelMap, int] | None:
        """Where to start from if there are too few samples for a fit by themselves.
        And the axis of channels."""
        for piece in graph.by_variable.get(id(self.layer.kernel), ()):
            if piece.role == "input" and gone[piece.ids].any() and self._alone:
                axis = self.layer.input_axis(piece.axis)
                taker = None if self._absorber is None else (self.layer, *self._absorber)
                return ChannelMap(piece, graph, gone, taker), axis
        return None

    def _before_and_after(
        self, versions: list[Values], weights: Weights
    ) -> tuple[np.ndarray, np.ndarray]:
        """The layer's input in the whole model and in the pruned one."""
        before, after = (numbers_of(version[self._step.inputs[0]]) for version in versions[:2])
        layer = self.layer
        return (
            layer.prepared(before, lambda variable: variable.value),
            layer.prepared(after, functools.partial(held_by, weights)),
        )

    def _moved_bias(self, weights: Weights) -> np.ndarray | float:
        """By how much the bias differs from that of the whole model, as far as it is not cut."""
        if self._absorber is None:
            return 0.0
        variable, sign = self._absorber
        moved = held_by(weights, variable) - numbers_of(variable)
        return sign * moved.reshape(1, len(self._columns), -1) * self._columns

    def _left(self, features: np.ndarray) -> np.ndarray:
        features = features[:, :, self._rows[0]] if self._alone else features * self._rows
        if self._absorber is None:
            return features
        return np.concatenate([features, np.ones_like(features[:, :, :1])], axis=2)

    def _asked(self, missing: np.ndarray) -> np.ndarray:
        return missing[:, :, self._columns[0]] if self._alone else missing * self._columns

    def _put(self, weights: Weights, now: np.ndarray, change: np.ndarray) -> None:
        groups, rows, columns = now.shape
        full = np.zeros((groups, rows + 1, columns))
        if self._alone:
            left = np.append(self._rows[0], self._absorber is not None)
            full[0][np.ix_(left, self._columns[0])] = change[0]
        else:
            full[:, : change.shape[1]] = change
        hold(weights, self.layer.kernel, self.layer.kernel_from(now + full[:, :rows]))
        if self._absorber is not None:
            variable, sign = self._absorber
            row = full[:, rows]
            moved = self.layer.bias_from(row) if sign > 0 else row.ravel()
            hold(weights, variable, held_by(weights, variable) + sign * moved)


def _times(features: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(samples, groups, outputs): the product, group by group."""
    return (features.transpose(1, 0, 2) @ matrix).transpose(1, 0, 2)
