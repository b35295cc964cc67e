"""What programs around the library ask of models, and Keras tells only in private."""

from __future__ import annotations

from typing import Any

from keras_iplt._keras import function_of, producer_of, without_values

__all__ = ["last_activation", "without_values"]


def last_activation(tensor: Any) -> str:
    """The name of the function that an output of a model comes from, a nested model's too."""
    operation = producer_of(tensor)
    if (function := function_of(operation)) is not None:
        return last_activation(function.outputs[0])
    activation = getattr(operation, "activation", None)
    return getattr(activation, "__name__", type(operation).__name__.lower())
