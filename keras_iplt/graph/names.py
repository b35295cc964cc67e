"""Layers by name: what a user calls a layer, and which groups of channels that means."""

from collections.abc import Collection, Iterable, Mapping

import keras
import numpy as np

from keras_iplt.errors import OptionError
from keras_iplt.graph.channels import SOLID, Graph
from keras_iplt.graph.selectors import Selector, described, is_name, matches, name_of, near

__all__ = ["by_layer", "groups_of", "names_for", "own_shares", "paths_of", "shares_by_name"]


def own_shares(
    graph: Graph, per_layer: Mapping[Selector, float], prunable: Collection[int]
) -> dict[int, float]:
    """`{group index: share}` from `{selector: share}`, of which none is two shares for a group."""
    found: dict[int, float] = {}
    for key, share in per_layer.items():
        indices = [index for index in groups_of(graph, key) if index in prunable]
        if share and not indices:
            raise OptionError(
                f"per_layer: {name_of(key)!r} has no channel that may be pruned"
                + "".join(
                    f"; frozen: {f.reason}"
                    for f in graph.frozen
                    if f.operation in paths_of(graph, key)
                )
            )
        for index in indices:
            if found.setdefault(index, share) != share:
                names = ", ".join(p.path for p in graph.groups[index].producers)
                raise OptionError(
                    f"per_layer: expected one ratio for channels that must be pruned together, "
                    f"received: {found[index]} and {share} for {names}"
                )
    return found


def groups_of(graph: Graph, key: Selector) -> list[int]:
    """The groups whose channels a layer creates, or holds one entry each of (batch norm …)."""
    paths = paths_of(graph, key)
    touched = np.zeros(len(graph.classes), bool)
    for producer in graph.producers:
        if producer.path in paths:
            touched[graph.classes[producer.ids]] = True
    for path in paths:
        for piece in graph.by_path.get(path, ()):
            if piece.role == "follow":
                touched[graph.classes[piece.ids]] = True
    touched[SOLID] = False
    return [group.index for group in graph.groups if touched[group.classes].any()]


def by_layer(graph: Graph, prunable: Collection[int]) -> dict[str, list[int]]:
    """The path of a layer -> the groups that it stands for in `per_layer`.

    Until all groups have a layer."""
    found: dict[str, list[int]] = {}
    for index in prunable:
        if not any(index in indices for indices in found.values()):
            path = graph.groups[index].producers[0].path
            found[path] = [i for i in groups_of(graph, path) if i in prunable]
    return found


def paths_of(graph: Graph, key: Selector) -> set[str]:
    """Paths of the operations that a selector stands for, and of those inside these."""
    places = _places(graph)
    heads = {path for path, operation in places if matches(key, operation, path)}
    if not heads:
        raise OptionError(
            f"model {graph.model.name!r} has no layer {described(key)}. Close to it: "
            + ", ".join(map(repr, near(key, _known(graph, key))))
        )
    inside = tuple(f"{head}/" for head in heads)
    return heads | {path for path, _ in places if path.startswith(inside)}


def _places(graph: Graph) -> list[tuple[str, keras.Operation]]:
    """Operations by path, and parts of them that create channels (the heads of attention)."""
    found = [(call.path, call.operation) for call in graph.calls.values()]
    return found + [(producer.path, producer.layer) for producer in graph.producers]


def _known(graph: Graph, key: Selector) -> set[str]:
    """What a selector of this kind could have said."""
    operations = _places(graph)
    if isinstance(key, type):
        return {type(operation).__name__ for _, operation in operations}
    return {name for path, operation in operations for name in (path, operation.name)}


def names_for(graph: Graph, keys: Iterable[Selector]) -> list[str]:
    """What selectors mean in a model.

    Names stay as they are, all else becomes the paths of layers with channels that may be pruned,
    in the order of the graph."""
    found: dict[str, None] = {}
    for key in keys:
        paths = paths_of(graph, key)
        if isinstance(key, str) and is_name(key):
            found[key] = None
        elif isinstance(key, keras.Layer):
            found |= {call.path: None for call in graph.by_operation[id(key)]}
        else:
            found |= {path: None for path in _with_channels(graph) if path in paths}
    return list(found)


def shares_by_name(
    graph: Graph, per_layer: Mapping[Selector, float], prunable: Collection[int]
) -> dict[str, float]:
    """The same with names, as `names_for` finds them.

    What has a share by its own name does not get another by a pattern, a class or a function."""
    found: dict[str, float] = {}
    named: set[int] = set()  # groups
    for key in sorted(per_layer, key=is_name, reverse=True):
        share, names = per_layer[key], names_for(graph, [key])
        own_shares(graph, {key: share}, prunable)  # there are some
        if is_name(key):
            named.update(groups_of(graph, key))
        else:
            free = {*prunable} - named
            names = [name for name in names if free.intersection(groups_of(graph, name))]
        for name in names:
            if found.setdefault(name, share) != share:
                raise OptionError(
                    f"per_layer: expected one ratio for {name!r}, received: {found[name]} and "
                    f"{share}, the latter for {name_of(key)!r}"
                )
    return found


def _with_channels(graph: Graph) -> list[str]:
    """Paths of the operations that create channels that may go, or hold an entry for each."""
    producers = {p.path for p in graph.producers if (graph.classes[p.ids] != SOLID).any()}
    others = {
        path
        for path, pieces in graph.by_path.items()
        if any(p.role == "follow" and (graph.classes[p.ids] != SOLID).any() for p in pieces)
    }
    return [*dict.fromkeys(path for path, _ in _places(graph) if path in producers | others)]
