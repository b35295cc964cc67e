"""What stands behind a layer: who takes up a constant for it, and what its output is added to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_iplt.graph.slices import numbers_of
from keras_iplt.running.linear import Linear
from keras_iplt.running.steps import Program, Step, places

__all__ = ["Behind", "Meeting"]

_LEAST_SCALE = 1e-2  # of a batch norm: below, hardly anything of the layer comes through


class Meeting(NamedTuple):
    """Where a layer's output is added to something.

    Attributes:
        other: the place of what it is added to.
        scale: what each output channel is multiplied by until then.
    """

    other: int
    scale: np.ndarray

    def lacking(self, whole: Any, pruned: Any) -> np.ndarray:
        """What the layer has to put out in addition: (examples, positions, channels).

        The sum is then what it is in the whole model, although the other summand is not."""
        missing = numbers_of(whole) - numbers_of(pruned)
        clear = np.abs(self.scale) >= _LEAST_SCALE
        missing = np.where(clear, missing / np.where(clear, self.scale, 1), 0)
        return missing.reshape(len(missing), -1, missing.shape[-1])


class Behind:
    """What stands behind the steps of a program."""

    def __init__(self, program: Program) -> None:
        self._users: dict[int, list[Step | None]] = {}  # None: whoever takes the outputs
        for step in program.steps:
            for place in step.inputs:
                self._users.setdefault(place, []).append(step)
        for place in places(program.outputs):
            self._users.setdefault(place, []).append(None)
        self._uses = Counter[int]()  # of operations and variables, by their ids
        for step in program.steps:
            self._uses.update({id(step.operation), *step.variables})

    def used_once(self, step: Step) -> bool:
        """Whether a step shares its operation, and variables, with no other step."""
        return all(self._uses[one] == 1 for one in {id(step.operation), *step.variables})

    def absorber(self, step: Step, layer: Linear) -> tuple[keras.Variable, float] | None:
        """`(variable, sign)`: what takes up a constant; None if nothing does.

        That is the layer's own bias, or the moving mean of the batch norm right behind it."""
        if layer.has_bias:
            return layer.layer.bias, 1.0
        norm = self._next(step)
        if norm is None or layer.layer.bias is not None or not _is_plain(layer.layer):
            return None
        if type(norm.operation) is not keras.layers.BatchNormalization:
            return None
        if not (self.used_once(norm) and self.used_once(step)):
            return None  # a norm behind each use would have to take it up
        mean = norm.operation.moving_mean
        fits = _norm_axis(norm.operation) == layer.output_axis
        return (mean, -1.0) if fits and tuple(mean.shape) == (layer.outputs,) else None

    def meeting(self, step: Step, layer: Linear, known: Container[int]) -> Meeting | None:
        """Where the layer's output is added to a tensor that is known by then; None if it is not.

        Nothing but a batch norm stands between."""
        if not _is_plain(layer.layer) or layer.output_axis != -1:
            return None
        scale = np.ones(layer.outputs)
        here, behind = step, self._next(step)
        while behind is not None and type(behind.operation) in _PASSING:
            if type(behind.operation) is keras.layers.BatchNormalization:
                if _norm_axis(behind.operation) != -1:
                    return None
                scale = scale * _scale(behind.operation)
            here, behind = behind, self._next(behind)
        if behind is None or type(behind.operation).__name__ != "Add":
            return None
        others = [place for place in behind.inputs if place != here.outputs[0]]
        if len(behind.inputs) != 2 or len(others) != 1 or others[0] not in known:
            return None
        return Meeting(others[0], scale)

    def _next(self, step: Step) -> Step | None:
        """The one step that uses what a step puts out."""
        if len(step.outputs) != 1:
            return None
        users = self._users.get(step.outputs[0], [])
        return users[0] if len(users) == 1 else None


_PASSING = (
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)


def _is_plain(layer: keras.Layer) -> bool:
    """Whether a layer puts out its product as it is."""
    return getattr(layer, "activation", None) in (None, keras.activations.linear)


def _norm_axis(norm: keras.layers.BatchNormalization) -> int:
    """The axis that is not averaged over: from the end if it is the last, else from the start."""
    rank = norm.input_spec.ndim
    axis: int = norm.axis % rank
    return -1 if axis == rank - 1 else axis


def _scale(norm: keras.layers.BatchNormalization) -> np.ndarray:
    """What a batch norm multiplies its input by."""
    gamma = 1.0 if norm.gamma is None else numbers_of(norm.gamma)
    return gamma / np.sqrt(numbers_of(norm.moving_variance).astype(np.float64) + norm.epsilon)
