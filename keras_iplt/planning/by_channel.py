"""A plan for channels that were chosen elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeAlias

import keras
import numpy as np

from keras_iplt.errors import OptionError
from keras_iplt.graph.channels import SOLID, Graph
from keras_iplt.graph.costs import parameters, share_removed
from keras_iplt.graph.names import paths_of
from keras_iplt.graph.selectors import name_of
from keras_iplt.graph.trace import graph_for
from keras_iplt.planning.plan import Plan, finished
from keras_iplt.support.arguments import Kind, checked

__all__ = ["plan_channels"]

Channels: TypeAlias = Annotated[
    Mapping[keras.Layer | str, Iterable[int]], Kind("{layer or name: indices}")
]


@checked
def plan_channels(model: keras.Model | Graph, channels: Channels) -> Plan:
    """A plan that removes the channels that you name, and whatever hangs together with them.

    Args:
        model: a Keras model, or its `Graph`. It is left as it is.
        channels: `{layer or name: indices}` of the filters, or units, that go. Those of layers
            that must be pruned together add up.

    Returns:
        A `Plan`.

    Example:

    >>> import keras
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8, name="hidden"), keras.layers.Dense(2)])
    >>> plan = iplt.plan_channels(model, {"hidden": [0, 3, 5]})
    >>> plan.kept(model.get_layer("hidden").kernel)[1].tolist()
    [1, 2, 4, 6, 7]
    """
    graph = graph_for(model)
    chosen = np.zeros(len(graph.classes), bool)
    for key, indices in channels.items():
        chosen[_classes(graph, key, indices)] = True
    removed = [tuple(np.flatnonzero(chosen[group.classes]).tolist()) for group in graph.groups]
    for group, gone in zip(graph.groups, removed, strict=True):
        if gone and group.size - len(gone) < group.least:
            names = ", ".join(producer.path for producer in group.producers)
            raise OptionError(
                f"channels: {len(gone)} of {group.size} cannot go from {names}: at least "
                f"{group.least} must stay"
            )
    options = {"channels": {name_of(key): sorted(own) for key, own in channels.items()}}
    filters = [group.filters for group in graph.groups]
    return finished(graph, removed, filters, options, share_removed(parameters, graph))


def _classes(graph: Graph, key: Any, indices: Iterable[int]) -> np.ndarray:
    """The classes of some filters of a layer."""
    paths = paths_of(graph, key)
    producers = [producer for producer in graph.producers if producer.path in paths]
    if len(producers) != 1:
        raise OptionError(
            f"channels: expected layers that create one set of channels, received: "
            f"{name_of(key)!r}, which creates {len(producers) or 'none'}"
        )
    ids = producers[0].ids
    for index in indices:
        if not 0 <= index < len(ids):
            raise OptionError(
                f"channels: expected indices from 0 to {len(ids) - 1} for {name_of(key)!r}, "
                f"received: {index!r}"
            )
    classes = graph.classes[ids[np.array(indices, int)]]
    if (classes == SOLID).any():
        reasons = [frozen.reason for frozen in graph.frozen if frozen.operation in paths]
        raise OptionError(
            f"channels: those of {name_of(key)!r} cannot go: {'; '.join(reasons) or 'frozen'}"
        )
    return classes
