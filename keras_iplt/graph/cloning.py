"""A model over other layers: the same graph, with layers put in place of its own."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError, OptionError
from keras_iplt.graph.recreate import model_class
from keras_iplt.graph.walk import is_graph_model, walk

__all__ = ["cloned", "wrapped"]

_GRAPHS = (keras.Sequential, private.Functional)
Several = list[keras.Operation]
Replace = Callable[[keras.Operation], keras.Operation | Several]


def _nothing(model: keras.Model, i: int) -> Several:
    return []


def cloned(
    model: keras.Model, replace: Replace, inputs: Callable[[keras.Model, int], Several] = _nothing
) -> keras.Model:
    """The graph of a model, uncompiled, over what a function puts in place of its operations.

    A class of your own is kept where it is made from inputs and outputs.

    Args:
        model: a Functional or Sequential model; it stays as it is.
        replace: called once for each operation that is no such model, in nested models too, however
            often it is used. Returns what is called in its place, one or several after each other:
            none passes on what there is.
        inputs: called for each model and place of an input of it; returns what that goes through.
    """
    return _cloned(model, replace, inputs, {})


def _cloned(
    model: keras.Model,
    replace: Replace,
    inputs: Callable[[keras.Model, int], Several],
    made: dict[int, Several],
) -> keras.Model:
    if not isinstance(model, _GRAPHS):
        raise ModelError(f"model: expected a Functional or Sequential model, received: {model!r}")

    def again(operation: keras.Operation) -> Several:
        if id(operation) not in made:
            unbuilt = isinstance(operation, keras.Sequential) and not operation.built
            if is_graph_model(operation) or unbuilt:
                found: Any = _cloned(operation, replace, inputs, made)
            else:
                found = replace(operation)
            made[id(operation)] = found if isinstance(found, list) else [found]
        return made[id(operation)]

    function = private.function_of(model)
    starts = [_like(private.producer_of(x)) for x in function.inputs] if function else []
    if isinstance(model, keras.Sequential):
        several = [*inputs(model, 0), *(one for layer in model.layers for one in again(layer))]
        return keras.Sequential([*starts, *several], model.trainable, model.name)

    def apply(node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        several = again(node.operation)
        if not several:
            return keras.tree.flatten((args, kwargs))[0]
        first, *others = several
        return _through(others, first(*args, **kwargs))

    images = [layer.output for layer in starts]
    given = [_through(inputs(model, i), x) for i, x in enumerate(images)]
    outputs = walk(private.known_function(model), given, apply)
    structure = keras.tree.pack_sequence_as(private.input_structure(function), images)
    return model_class(model)(inputs=structure, outputs=outputs, name=model.name)


def _like(layer: keras.Layer) -> keras.Layer:
    return type(layer).from_config(layer.get_config())


def _through(several: Several, x: Any) -> Any:
    for one in several:
        x = one(x)
    return x


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
        return _like(layer)
    return wrap(layer)
