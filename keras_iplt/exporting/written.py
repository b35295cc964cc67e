"""Layers that say themselves what is written in their place.

A layer with a method `as_written` that returns another one, which keeps its numbers rounded as the
file is to hold them, makes the file one of integers. An attribute `step` of the latter says how far
apart the numbers are that come out, `bits` how many those have that are passed on.
"""

from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import OptionError
from keras_iplt.exporting.examples import Arrays
from keras_iplt.graph.cloning import cloned
from keras_iplt.graph.walk import is_graph_model

__all__ = ["as_written", "apart_in_steps", "check_asked", "precision_of", "says_how", "steps_of"]

_FEW = 0.001  # the share of outputs that may be off by more
# Files hold biases rounded, and runtimes round a number near the middle between two steps their own
# way. What follows carries that on: behind few layers a step is the most that was seen, behind the
# twenty of a ResNet three.
_STEPS = 8.01


def says_how(model: keras.Model) -> bool:
    """Whether layers of a model say what is written in their place."""
    return any(hasattr(layer, "as_written") for layer in private.all_layers(model))


def as_written(model: keras.Model) -> keras.Model:
    """The model over what its layers say is written in their place, if any says so."""
    if not says_how(model):
        return model

    def written(operation: keras.Operation) -> keras.Operation:
        if hasattr(operation, "as_written"):
            return operation.as_written()
        return operation if isinstance(operation, keras.Layer) else private.copied(operation)

    return cloned(model, written)


def check_asked(precision: str, keep_float: Any) -> None:
    """Refuses other numbers than those that a model was trained with."""
    if precision not in ("float32", "int8") or keep_float:
        raise OptionError(
            f"precision: expected none for a model that was trained in integers, nor keep_float, "
            f"received: {precision!r}, {keep_float!r}. keras_iplt.quantization.strip_quantization "
            "makes it plain again"
        )


def precision_of(model: keras.Model) -> str:
    """Of the integers that a model computes in over what is written."""
    bits = {getattr(layer, "bits", 8) for layer in private.all_layers(model)}
    return "int16x8" if 16 in bits else "int8"


def steps_of(model: keras.Model) -> list[float | None]:
    """How far apart the numbers in each output are; None where that is not known."""
    return [_step(x) for x in keras.tree.flatten(private.known_function(model).outputs)]


def _step(x: Any) -> float | None:
    operation = private.producer_of(x)
    if is_graph_model(operation):
        outputs = keras.tree.flatten(private.known_function(operation).outputs)
        return _step(outputs[private.place_of(x)])
    return getattr(operation, "step", None)


def apart_in_steps(
    expected: list[Arrays], found: list[Arrays], steps: list[float | None]
) -> tuple[float, float] | None:
    """How far outputs are apart but for one in a thousand, and how far they may be.

    Both are relative to the largest number, and of the output where they are worst.

    Args:
        expected, found: outputs, by batch.
        steps: of each output; where one is not known the answer is None.
    """
    worst = 0.0, 0.0, -1.0
    for i, step in enumerate(steps):
        if step is None:
            return None
        several = [(np.ravel(a[i]), np.ravel(b[i])) for a, b in zip(expected, found, strict=True)]
        a, b = (np.concatenate(arrays).astype("float64") for arrays in zip(*several, strict=True))
        if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
            return None
        apart = np.sort(np.abs(a - b))[-1 - int(np.ceil(_FEW * len(a)))] if len(a) > 1 else 0.0
        largest = max(np.abs(a).max(initial=0), 1e-6)
        worst = max(worst, (apart / step, apart / largest, _STEPS * step / largest))
    return worst[1], worst[2]
