"""A new model is called once before anyone gets it."""

from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.graph.inline import TRIALS, at_lengths
from keras_iplt.running.observe import without_gradients

__all__ = ["check_runs"]

_BATCH = 2  # of one, much is broadcast that does not fit


def check_runs(small: keras.Model, model: keras.Model) -> None:
    """Calls a new model on zeros, and raises what it raises, if the old one takes them.

    Args:
        small: the new model.
        model: the old one, which is called only if the new one fails.
    """
    for lengths in TRIALS:
        try:
            return _call(small, small, lengths)
        except Exception:
            # The lengths may be none that the model is made for. Whatever the old one says of them:
            try:
                _call(model, small, lengths)
            except Exception:
                continue
            raise


def _call(model: keras.Model, like: keras.Model, lengths: tuple[int, ...]) -> None:
    function = private.known_function(like)
    zeros = [
        keras.ops.zeros(at_lengths(x.shape, (_BATCH, *lengths[1:])), x.dtype)
        for x in function.inputs
    ]
    packed: Any = keras.tree.pack_sequence_as(private.input_structure(function), zeros)
    with keras.StatelessScope(), without_gradients():
        model(packed, training=False)
