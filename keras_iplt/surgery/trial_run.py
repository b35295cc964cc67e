"""A new model is called once before anyone gets it."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.inline import TRIALS, at_lengths
from keras_iplt.running.observe import without_gradients

__all__ = ["check_runs", "difference"]

_BATCH = 2  # of one, much is broadcast that does not fit
Numbers = Callable[[Any, str], Any]  # of a shape and a dtype


def check_runs(small: keras.Model, model: keras.Model) -> None:
    """Calls a new model on zeros, and raises what it raises, if the old one takes them.

    Args:
        small: the new model.
        model: the old one, which is called only if the new one fails.
    """
    for lengths in TRIALS:
        try:
            _call(small, small, lengths, keras.ops.zeros)
            return
        except Exception:
            # The lengths may be none that the model is made for. Whatever the old one says of them:
            try:
                _call(model, small, lengths, keras.ops.zeros)
            except Exception:
                continue
            raise


def difference(small: keras.Model, other: keras.Model) -> float:
    """How far apart the outputs of two models are on random numbers, relative to the largest.

    Args:
        small: a new model.
        other: a functional one that takes the same.

    Returns:
        The difference, NaN if no lengths are found that the other one takes.
    """
    for lengths in TRIALS:
        try:
            expected = _call(other, other, lengths, _random)
        except Exception:
            continue  # lengths that the models are not made for
        pairs = zip(_call(small, other, lengths, _random), expected, strict=True)
        return max(float(np.abs(a - b).max(initial=0) / np.abs(b).max(initial=1e-6))
                   for a, b in pairs)  # fmt: skip
    return float("nan")


def _random(shape: Any, dtype: str) -> Any:
    random = np.random.default_rng(0)
    if "int" in dtype or dtype == "bool":
        return keras.ops.convert_to_tensor(random.integers(0, 2, shape), dtype)
    return keras.ops.convert_to_tensor(random.normal(size=shape), dtype)


def _call(
    model: keras.Model, like: keras.Model, lengths: tuple[int, ...], numbers: Numbers
) -> list[np.ndarray]:
    function = private.known_function(like)
    given = [numbers(at_lengths(x.shape, (_BATCH, *lengths[1:])), x.dtype) for x in function.inputs]
    packed: Any = keras.tree.pack_sequence_as(private.input_structure(function), given)
    with keras.StatelessScope(), without_gradients():
        outputs = keras.tree.flatten(model(packed, training=False))
    return [np.asarray(keras.ops.convert_to_numpy(y), "float64") for y in outputs]
