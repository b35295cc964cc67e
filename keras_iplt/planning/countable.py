"""Which groups of channels may lose any, by the layers that were asked for, and what they count."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from keras_iplt.errors import NothingToPruneError
from keras_iplt.graph.channels import Graph, Group
from keras_iplt.graph.names import groups_of
from keras_iplt.graph.selectors import Selector

__all__ = ["countable"]


def countable(
    graph: Graph,
    ignore: Iterable[Selector],
    convolutions_only: bool,
    only: Iterable[Selector] | None = None,
) -> dict[int, np.ndarray]:
    """group index -> how many filters that count go with each channel, if it may lose any."""
    filters = {g.index: _filters_of(graph, g, convolutions_only) for g in graph.groups}
    if only is not None:
        wanted = {index for key in only for index in groups_of(graph, key)}
        filters = {index: counts for index, counts in filters.items() if index in wanted}
    for key in ignore:
        for index in groups_of(graph, key):
            filters.pop(index, None)
    filters = {index: counts for index, counts in filters.items() if counts.any()}
    if not filters:
        raise NothingToPruneError(_nothing_to_prune(graph))
    return filters


def _filters_of(graph: Graph, group: Group, convolutions_only: bool) -> np.ndarray:
    """How many filters that count go with each channel of a group."""
    if not convolutions_only:
        return group.filters
    counts = np.zeros(len(graph.classes), np.int64)
    for producer in group.producers:
        if producer.convolution:
            np.add.at(counts, graph.classes[producer.ids], 1)
    return counts[group.classes]


def _nothing_to_prune(graph: Graph) -> str:
    reasons = "; ".join(f"{f.operation}: {f.reason}" for f in graph.frozen[:3])
    return (
        f"model {graph.model.name!r} has no channel that may be pruned: {len(graph.groups)} groups "
        "of channels, all of them left out by ignore, only or convolutions_only"
        if graph.groups
        else f"model {graph.model.name!r} has no channel that may be pruned; frozen: {reasons}"
    )
