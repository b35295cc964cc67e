"""Layers that several others hold: weights that are tied."""

from collections import Counter
from collections.abc import Iterator

import keras

from keras_iplt import _keras as private
from keras_iplt.graph.channels import Graph

__all__ = ["shared_layers"]


def shared_layers(graph: Graph) -> dict[int, keras.Layer]:
    """Layers inside others that are used elsewhere, too, by id.

    An embedding that the last layer of a language model was given, say."""
    holders = {id(layer): layer for layer in _made(graph, graph.function)}
    inside = [
        one
        for layer in holders.values()
        for one in {id(one): one for one in private.all_layers(layer)[1:]}.values()
    ]
    counts = Counter(map(id, inside))
    return {id(one): one for one in inside if counts[id(one)] > 1 or id(one) in holders}


def _made(graph: Graph, function: keras.Function) -> Iterator[keras.Layer]:
    """The layers that a smaller model consists of."""
    for node in private.nodes(function):
        call = graph.calls.get(id(node))
        if call is None:
            continue  # hangs off an input of another graph
        if call.carry == "model":
            yield from _made(graph, private.known_function(call.operation))
        elif call.carry == "flatten" and call.inner is not None:
            yield from _made(graph, call.inner)
        elif isinstance(call.operation, keras.Layer):
            yield call.operation
