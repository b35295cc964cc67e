"""A model over other layers: the same graph, with layers put in place of its own."""

from collections.abc import Callable

import keras

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError

__all__ = ["cloned"]

_GRAPHS = (keras.Sequential, private.Functional)


def cloned(
    model: keras.Model, function: Callable[[keras.Operation], keras.Operation]
) -> keras.Model:
    """The graph of a model, uncompiled, over the layers that a function puts in place of its own.

    Args:
        model: a Functional or Sequential model; it stays as it is.
        function: called once for each layer, in nested models too, however often it is used.
    """
    return _cloned(model, function, {})


def _cloned(
    model: keras.Model,
    function: Callable[[keras.Operation], keras.Operation],
    made: dict[int, keras.Operation],
) -> keras.Model:
    if not isinstance(model, _GRAPHS):
        raise ModelError(f"model: expected a Functional or Sequential model, received: {model!r}")

    def again(layer: keras.Operation) -> keras.Operation:
        if id(layer) not in made:
            nested = isinstance(layer, _GRAPHS)
            made[id(layer)] = _cloned(layer, function, made) if nested else function(layer)
        return made[id(layer)]

    inputs = None  # clone_model would name those of a Functional model otherwise
    if not isinstance(model, keras.Sequential):
        inputs = keras.tree.map_structure(_input_like, model.input)
    compiled, model.compiled = model.compiled, False  # what is compiled may have no config
    try:
        return keras.models.clone_model(model, inputs, clone_function=again)
    finally:
        model.compiled = compiled


def _input_like(x: keras.KerasTensor) -> keras.KerasTensor:
    return keras.Input(batch_shape=x.shape, dtype=x.dtype, name=private.producer_of(x).name)
