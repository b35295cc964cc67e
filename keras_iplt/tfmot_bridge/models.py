"""Wrapping the layers of a model, and taking out what is zero."""

from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt import schedules
from keras_iplt.errors import OptionError
from keras_iplt.graph.channels import SOLID, Graph
from keras_iplt.graph.cloning import cloned
from keras_iplt.graph.compilation import carry_compilation
from keras_iplt.graph.names import paths_of
from keras_iplt.graph.selectors import Layers, as_list, name_of
from keras_iplt.graph.trace import trace
from keras_iplt.support.arguments import checked
from keras_iplt.surgery.dead_channels import plan_without, zero_channels
from keras_iplt.surgery.rewriting import rewrite
from keras_iplt.tfmot_bridge.wrapper import KINDS, SUPPORTED, PruneFilters, wrappers_in

__all__ = ["prune_filters", "strip_filters"]


@checked
def prune_filters(
    model: keras.Model, schedule: Any, layers: Layers | None = None, criterion: str = "l2"
) -> keras.Model:
    """Wraps layers of a model in `PruneFilters`.

    Args:
        model: a Functional or Sequential model; it stays as it is.
        schedule: whatever `keras_iplt.schedules.get` takes, tfmot's schedules included.
        layers: layers or their names (a nested model stands for all layers in it); by default
            all dense layers and convolutions with filters that can be removed.
        criterion: see `PruneFilters`.

    Returns:
        A new model with the same weights and, if the model is compiled, the same settings and a
        fresh optimizer. Train it with `UpdateFilters` among the callbacks.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8, name="hidden"), keras.layers.Dense(2)])
    >>> [layer.name for layer in prune_filters(model, 0.5, layers="hidden").layers][0]
    'prune_filters_hidden'
    """
    schedule, graph = schedules.get(schedule), trace(model)
    wanted = _prunable(graph) if layers is None else _named(graph, layers)
    pairs = []

    def copied(layer: keras.Operation) -> keras.Operation:
        if not isinstance(layer, keras.Layer):
            return private.copied(layer)
        copy = type(layer).from_config(layer.get_config())
        pairs.append((layer, copy))
        return PruneFilters(copy, schedule, criterion) if id(layer) in wanted else copy

    wrapped = cloned(model, copied)
    if not wrappers_in(wrapped):
        raise OptionError(
            f"layers: expected dense layers or convolutions of model {model.name!r} that can be "
            f"wrapped, received: {layers if layers is None else [*map(name_of, as_list(layers))]}"
        )
    for layer, copy in pairs:
        copy.set_weights(layer.get_weights())
        if hasattr(copy, "finalize_state") and copy.weights:
            copy.finalize_state()  # preprocessing layers compute constants from their weights
    carry_compilation(model, wrapped)
    return wrapped


@checked
def strip_filters(model: keras.Model) -> keras.Model:
    """The model without its wrappers, and without the channels that are zero throughout.

    Args:
        model: a model with `PruneFilters` layers; it stays as it is.

    Returns:
        A new, smaller model with the same outputs.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    >>> strip_filters(prune_filters(model, 0.5)).layers[0].name == model.layers[0].name
    True
    """
    with private.restored_nodes(model):
        bare = cloned(model, lambda x: x.layer if isinstance(x, PruneFilters) else x)
        graph = trace(bare)
        small = rewrite(bare, plan_without(graph, zero_channels(graph)))
    carry_compilation(model, small)
    return small


# -- which layers --


def _prunable(graph: Graph) -> set[int]:
    """ids of the layers with filters that can be removed."""
    return {
        id(p.layer)
        for p in graph.producers
        if isinstance(p.layer, SUPPORTED) and (graph.classes[p.ids] != SOLID).any()
    }


def _named(graph: Graph, layers: Layers) -> set[int]:
    """ids of the layers that were asked for."""
    wanted = set()
    for key in as_list(layers):
        paths = paths_of(graph, key)
        found = {
            id(call.operation)
            for call in graph.calls.values()
            if call.path in paths and isinstance(call.operation, SUPPORTED)
        }
        if not found:
            raise OptionError(
                f"layers: expected one of {', '.join(KINDS)}, received: {name_of(key)!r}"
            )
        wanted |= found
    return wanted
