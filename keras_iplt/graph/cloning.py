"""A model over other layers: the same graph, with layers put in place of its own."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError, OptionError

__all__ = ["cloned", "wrapped"]

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


def wrapped(
    given: Any,
    wrap: Callable[..., keras.Layer],
    wrap_in_model: Callable[[keras.Layer], keras.Layer],
    options: Mapping[str, Any],
    refusal: str,
) -> Any:
    """A layer, those of a list, or those of a model, each with a wrapper around it.

    Args:
        given: the layer, list or model; it stays as it is.
        wrap: of a layer alone, and of one in a list.
        wrap_in_model: of a layer in a model.
        options: of the wrapper of a layer alone, for `wrap`.
        refusal: what to say of anything else, before its type.
    """
    if options and isinstance(given, (list, keras.Model)):
        raise OptionError(
            f"expected no keywords but those of the signature for models and lists, received: "
            f"{', '.join(map(repr, options))}. They are for the wrapper of one layer"
        )

    def in_model(operation: keras.Operation) -> keras.Operation:
        if not isinstance(operation, keras.Layer):
            return private.copied(operation)
        if isinstance(operation, keras.Model):
            raise ModelError("Subclassed models are not supported currently.")
        return _but_inputs(wrap_in_model, operation)

    if isinstance(given, list):
        return [_but_inputs(wrap, layer) for layer in given]
    if isinstance(given, _GRAPHS):
        return cloned(given, in_model)
    if isinstance(given, keras.Layer) and not isinstance(given, keras.Model):
        return wrap(given, **options)
    raise OptionError(f"{refusal}{type(given).__name__}.")


def _but_inputs(wrap: Callable[..., keras.Layer], layer: keras.Layer) -> keras.Layer:
    """The layer as it is wrapped; of inputs a copy, as there is nothing to wrap."""
    if isinstance(layer, keras.layers.InputLayer):
        return type(layer).from_config(layer.get_config())
    return wrap(layer)
