"""Compile settings go along."""

from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.support.text import warn

__all__ = ["carry_compilation"]

_MADE_AGAIN = keras.Optimizer, keras.Loss, keras.Metric


def carry_compilation(old: keras.Model, new: keras.Model) -> None:
    """Compiles `new` as `old` was compiled, with an optimizer, losses and metrics of its own.

    What cannot be made again from its config is said in a warning, and `new` stays uncompiled.
    """
    if not getattr(old, "compiled", False):
        return
    try:
        given = private.compile_arguments(old)
        given["optimizer"] = old.optimizer  # as it is now, with what scales the loss around it
        new.compile(**keras.tree.map_structure(_made_again, given))
    except Exception as error:
        warn(
            f"the smaller model is not compiled: the settings of {old.name!r} cannot be carried "
            f"over ({type(error).__name__}: {error}). Call compile() on it",
            stacklevel=4,
        )


def _made_again(x: Any) -> Any:
    """An object of the same settings; names and functions stay as they are."""
    return type(x).from_config(x.get_config()) if isinstance(x, _MADE_AGAIN) else x
