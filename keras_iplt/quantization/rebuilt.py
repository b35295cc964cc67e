"""The graph of a model again, with others in the place of its operations."""

from collections.abc import Callable
from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.graph.walk import is_graph_model, walk

__all__ = ["rebuilt"]

Layers = list[keras.Operation]


def rebuilt(
    model: keras.Model,
    replace: Callable[[keras.Operation], Layers],
    inputs: Callable[[keras.Model, int], Layers] = lambda model, i: [],
) -> keras.Model:
    """A new model, uncompiled, of the graph of another, which stays as it is.

    Args:
        model: a Functional or built Sequential model.
        replace: called once for each operation that is no such model; returns what is called in its
            place, one after the other: nothing passes on what there is.
        inputs: called for each model and place of an input of it; returns what that goes through.
    """
    return _rebuilt(model, replace, inputs, {})


def _rebuilt(
    model: keras.Model,
    replace: Callable[[keras.Operation], Layers],
    inputs: Callable[[keras.Model, int], Layers],
    made: dict[int, Layers],
) -> keras.Model:
    def again(operation: keras.Operation) -> Layers:
        if id(operation) not in made:
            made[id(operation)] = (
                [_rebuilt(operation, replace, inputs, made)]
                if is_graph_model(operation)
                else replace(operation)
            )
        return made[id(operation)]

    function = private.known_function(model)
    starts = [
        keras.Input(batch_shape=x.shape, dtype=x.dtype, name=private.producer_of(x).name)
        for x in function.inputs
    ]
    if isinstance(model, keras.Sequential):
        several = [*inputs(model, 0), *(one for layer in model.layers for one in again(layer))]
        return keras.Sequential([starts[0], *several], name=model.name)

    def apply(node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        several = again(node.operation)
        if not several:
            return keras.tree.flatten((args, kwargs))[0]
        first, *others = several
        return _through(others, first(*args, **kwargs))

    given = [_through(inputs(model, i), x) for i, x in enumerate(starts)]
    outputs = walk(function, given, apply)
    structure = keras.tree.pack_sequence_as(private.input_structure(function), starts)
    return keras.Model(structure, outputs, name=model.name)


def _through(several: Layers, x: Any) -> Any:
    for one in several:
        x = one(x)
    return x
