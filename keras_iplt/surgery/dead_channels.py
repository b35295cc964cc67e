"""Channels that have died: what zeros in the weights allow to remove."""

from typing import Any

import numpy as np

from keras_iplt.graph.channels import SOLID, Graph, Group
from keras_iplt.graph.classes import name_before
from keras_iplt.graph.costs import parameters, share_removed
from keras_iplt.graph.flow import channels_in
from keras_iplt.graph.slices import numbers_of
from keras_iplt.planning.plan import Plan, finished

__all__ = ["plan_without", "removable", "silent_channels", "unused_channels", "zero_channels"]


def zero_channels(graph: Graph) -> np.ndarray:
    """A mask over classes: every slice of every variable is zero.

    Without them the outputs are the same."""
    return ~_alive(graph, ("input", "output", "follow"))


def unused_channels(graph: Graph) -> np.ndarray:
    """A mask over classes: later layers multiply the channels by zeros; nothing else reads them.

    Without them the outputs are the same, whatever the channels are."""
    read = np.zeros(len(graph.classes), bool)
    for piece in graph.slices:
        if piece.role == "input":
            read[graph.classes[piece.ids]] = True
    return read & ~_alive(graph, ("input",)) & ~_acting(graph)


def silent_channels(graph: Graph) -> np.ndarray:
    """A mask over classes: all weights of the filters are zero, so that the channels are constant.

    Without them the outputs are the same only once the constants are made up for."""
    created = np.zeros(len(graph.classes), bool)
    for producer in graph.producers:
        created[graph.classes[producer.ids]] = True
    return created & ~_alive(graph, ("output",))


def plan_without(graph: Graph, marked: np.ndarray) -> Plan:
    """A `Plan` that removes the marked classes, as far as they can be removed."""
    removed = []
    for group in graph.groups:
        classes = removable(group, marked[group.classes])
        removed.append(tuple(np.flatnonzero(np.isin(group.classes, classes)).tolist()))
    filters = [group.filters for group in graph.groups]
    return finished(graph, removed, filters, {}, share_removed(parameters, graph))


def removable(group: Group, marked: np.ndarray) -> np.ndarray:
    """The marked channels of a group, less those that have to stay."""
    return group.classes[marked][: group.size - group.least]


# Each of their outputs depends on all channels.
_NORMS = {"LayerNormalization", "Normalize", "RMSNormalization", "UnitNormalization"}


def _acting(graph: Graph) -> np.ndarray:
    """A mask over classes: the channels act on others without being multiplied with weights.
    By a norm, where an operation takes them in (a sum, a product of two tensors) and no kernel of
    its own stands between, or inside an operation (queries and keys)."""
    acting = np.zeros(len(graph.classes), bool)
    for call in graph.calls.values():
        taken, given = _ids((call.args, call.kwargs)), _ids(call.outputs)
        own = [p for p in graph.slices if f"{p.path}/".startswith(f"{call.path}/")]
        if name_before(type(call.operation).__name__) not in _NORMS:
            weighed = [piece.ids for piece in own if piece.role == "input"]
            taken = np.setdiff1d(taken, np.concatenate([given, *weighed]))
        inside = [np.setdiff1d(piece.ids, given) for piece in own if piece.role == "output"]
        acting[graph.classes[np.concatenate([taken, *inside])]] = True
    return acting


def _ids(tensors: Any) -> np.ndarray:
    return np.unique(np.concatenate([[SOLID], *(x.ids.ravel() for x in channels_in(tensors))]))


def _alive(graph: Graph, roles: tuple[str, ...]) -> np.ndarray:
    """A mask over classes: some weight in slices of these roles is not zero."""
    alive = np.zeros(len(graph.classes), bool)
    for piece in graph.slices:
        if piece.role in roles and (piece.role != "output" or len(piece.variable.shape) > 1):
            value = numbers_of(piece.variable)
            others = tuple(axis for axis in range(value.ndim) if axis != piece.axis)
            alive[graph.classes[piece.ids[(value != 0).any(axis=others)]]] = True
    return alive
