"""Layers with symbols in place of their variables, so that what code does to them is recorded."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_iplt._keras.graphs import function_of

__all__ = ["StandIns", "calls_through"]

# What Keras reads of a layer itself: these lists stay those of the layer.
_OWN = {"_layers", "_trainable_variables", "_non_trainable_variables", "_metrics", "_tracker"}

Call = Callable[..., Any]


class StandIns:
    """Copies of layers, made one for each, that hold symbols where the layers hold variables.

    Nothing is copied but attributes: whatever `call` of a copy reads of itself and of layers in it
    is a symbol where it was a variable, and whatever it sets is set on the copy.

    Args:
        symbol: returns the symbolic tensor for a variable.
    """

    def __init__(self, symbol: Callable[[keras.Variable], keras.KerasTensor]) -> None:
        self._symbol = symbol
        # id(layer) -> (layer, copy); kept, so that no id is given twice
        self._copies: dict[int, tuple[keras.Layer, keras.Layer]] = {}
        self._originals: dict[int, keras.Layer] = {}

    def of(self, layer: keras.Layer) -> keras.Layer:
        """The copy that stands in for a layer."""
        if id(layer) not in self._copies:
            copy = object.__new__(type(layer))
            self._copies[id(layer)] = layer, copy
            self._originals[id(copy)] = layer
            vars(copy).update(
                (name, value if name in _OWN else self._replaced(value))
                for name, value in vars(layer).items()
            )
        return self._copies[id(layer)][1]

    def original(self, layer: keras.Layer) -> keras.Layer:
        """The layer that a copy stands in for; of any other layer, itself."""
        return self._originals.get(id(layer), layer)

    def dismiss(self) -> None:
        """Empties the copies, so that none is found among the models and layers there are."""
        for _, copy in self._copies.values():
            vars(copy).clear()
        self._copies.clear()

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, keras.Variable):
            return self._symbol(value)
        if isinstance(value, keras.Layer):
            return value if function_of(value) is not None else self.of(value)
        if isinstance(value, dict):
            new = {key: self._replaced(one) for key, one in value.items()}
            return new if any(new[key] is not value[key] for key in new) else value
        if isinstance(value, list) or type(value) is tuple:
            several = [self._replaced(one) for one in value]
            changed = any(a is not b for a, b in zip(several, value, strict=True))
            return (tuple if isinstance(value, tuple) else list)(several) if changed else value
        return value


@contextlib.contextmanager
def calls_through(handler: Callable[[Call, keras.Layer, Any, Any], Any]) -> Iterator[None]:
    """Lets `handler(call, layer, args, kwargs)` answer when this thread calls a layer.
    `call` is what Keras would do. To be used by one thread at a time."""
    original, thread = keras.Layer.__call__, threading.get_ident()

    def call(self: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:
            return original(self, *args, **kwargs)
        return handler(original, self, args, kwargs)

    keras.Layer.__call__ = call
    try:
        yield
    finally:
        keras.Layer.__call__ = original
