"""Channels that have died: what zeros in the weights allow to remove."""

import numpy as np

from keras_iplt.cost import parameters, share_removed
from keras_iplt.graph.weights import numbers_of
from keras_iplt.plan import finished

__all__ = ["plan_without", "removable", "silent_channels", "unused_channels", "zero_channels"]


def zero_channels(graph):
    """A mask over classes: every slice of every variable is zero. Without them the outputs are the
    same."""
    return ~_alive(graph, ("input", "output", "follow"))


def unused_channels(graph):
    """A mask over classes: all weights by which later layers multiply the channels are zero.
    Without them the outputs are the same, whatever the channels are."""
    read = np.zeros(len(graph.classes), bool)
    for piece in graph.slices:
        if piece.role == "input":
            read[graph.classes[piece.ids]] = True
    for rescale in graph.rescales:  # divided by a norm over all channels, or their number
        read[graph.classes[rescale.ids]] = False
    return read & ~_alive(graph, ("input",))


def silent_channels(graph):
    """A mask over classes: all weights of the filters that create the channels are zero, so that
    the channels are constant. Without them the outputs are the same only once the constants are
    made up for."""
    created = np.zeros(len(graph.classes), bool)
    for producer in graph.producers:
        created[graph.classes[producer.ids]] = True
    return created & ~_alive(graph, ("output",))


def plan_without(graph, marked):
    """A `Plan` that removes the marked classes, as far as they can be removed."""
    removed = []
    for group in graph.groups:
        classes = removable(group, marked[group.classes])
        removed.append(tuple(np.flatnonzero(np.isin(group.classes, classes)).tolist()))
    filters = [group.filters for group in graph.groups]
    return finished(graph, removed, filters, {}, share_removed(parameters, graph))


def removable(group, marked):
    """The marked channels of a group, less those that have to stay."""
    return group.classes[marked][: group.size - group.least]


def _alive(graph, roles):
    """A mask over classes: some weight in slices of these roles is not zero."""
    alive = np.zeros(len(graph.classes), bool)
    for piece in graph.slices:
        if piece.role in roles and (piece.role != "output" or len(piece.variable.shape) > 1):
            value = numbers_of(piece.variable)
            others = tuple(axis for axis in range(value.ndim) if axis != piece.axis)
            alive[graph.classes[piece.ids[(value != 0).any(axis=others)]]] = True
    return alive
