"""Regularisers and constraints that are written for one size."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.flow import Flow, channels_in

__all__ = ["freeze_penalised"]


def freeze_penalised(flow: Flow) -> None:
    """Freezes channels that a regulariser or constraint of others cannot do without.

    Found out by calling it on fewer of them."""
    flow.path = ""
    for piece in flow.slices.values():
        for kind in ("regularizer", "constraint"):
            function = getattr(piece.variable, kind, None)
            if not _works(function, tuple(piece.variable.shape), piece.axis):
                flow.freeze(piece.ids, _reason(kind, function, piece.path))
    for call in flow.calls.values():
        function = getattr(call.operation, "activity_regularizer", None)
        for x in channels_in(call.outputs) if function is not None else ():
            for axis in x.varying:
                if not _works(function, x.shape, axis):
                    flow.freeze(x, _reason("activity regularizer", function, call.path))


def _reason(kind: str, function: Any, path: str) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return f"the {kind} {name} of {path} is written for as many channels as there are"


def _works(function: Callable[[Any], Any] | None, shape: Sequence[int | None], axis: int) -> bool:
    """Whether a function takes tensors that are shorter along an axis."""
    if function is None or private.is_from_keras(function):
        return True
    for length in _shorter(shape[axis] or 1):
        less = [2 if n is None else n for n in shape]
        less[axis] = length
        try:
            keras.ops.convert_to_numpy(function(keras.ops.ones(less)))
        except Exception:  # code of others, on a size that it may not be made for
            return False
    return True


def _shorter(length: int) -> Iterator[int]:
    yield from np.unique([max(1, length - 1), max(1, length // 2), 1]).tolist()
