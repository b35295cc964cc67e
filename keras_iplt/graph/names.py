"""Layers by name: what a user calls a layer, and which groups of channels that means."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import TypeAlias

import keras
import numpy as np

from keras_iplt.errors import OptionError
from keras_iplt.graph.channels import SOLID, Graph
from keras_iplt.support.arguments import check_share

__all__ = [
    "Layers",
    "as_dict",
    "as_list",
    "by_layer",
    "groups_of",
    "name_of",
    "own_shares",
    "paths_of",
]


# One or several layers, or their names.
Layers: TypeAlias = keras.Layer | str | Iterable[keras.Layer | str]


def own_shares(
    graph: Graph, per_layer: Mapping[keras.Layer | str, float], prunable: Collection[int]
) -> dict[int, float]:
    """`{group index: share}` from `{layer or name: share}`."""
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


def groups_of(graph: Graph, key: keras.Layer | str) -> list[int]:
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
    """The path of a layer -> the groups that it stands for in `per_layer`, until all groups have
    a layer."""
    found: dict[str, list[int]] = {}
    for index in prunable:
        if not any(index in indices for indices in found.values()):
            path = graph.groups[index].producers[0].path
            found[path] = [i for i in groups_of(graph, path) if i in prunable]
    return found


def paths_of(graph: Graph, key: keras.Layer | str) -> set[str]:
    """Paths of the operations that a layer object or a name stands for."""
    calls = graph.calls.values()
    if isinstance(key, keras.Layer):
        heads = {call.path for call in calls if call.operation is key}
    else:
        heads = {call.path for call in calls if key in (call.path, call.operation.name)}
    if not heads:
        names = sorted({name for call in calls for name in (call.path, call.operation.name)})
        close = difflib.get_close_matches(name_of(key), names, 3) or names[:3]
        raise OptionError(
            f"model {graph.model.name!r} has no layer {name_of(key)!r}"
            + (" that is this very object" if isinstance(key, keras.Layer) else "")
            + f". Close to it: {', '.join(map(repr, close))}"
        )
    inside = tuple(f"{head}/" for head in heads)
    return heads | {call.path for call in calls if call.path.startswith(inside)}


def name_of(key: keras.Layer | str) -> str:
    """A layer's name, or the name itself."""
    return key.name if isinstance(key, keras.Layer) else key


def as_list(ignore: Layers) -> list[keras.Layer | str]:
    """One layer or name, or several, as a list."""
    several = [ignore] if isinstance(ignore, (str, keras.Layer)) else ignore
    if not isinstance(several, Iterable):
        raise OptionError(f"ignore: expected layers or names of layers, received: {ignore!r}")
    several = list(several)
    for key in several:
        if not isinstance(key, (str, keras.Layer)):
            raise OptionError(f"ignore: expected layers or names of layers, received: {key!r}")
    return several


def as_dict(per_layer: Mapping[keras.Layer | str, float] | None) -> dict[keras.Layer | str, float]:
    """Shares by layer or name."""
    if per_layer is None:
        return {}
    if not isinstance(per_layer, Mapping):
        raise OptionError(f"per_layer: expected {{layer or name: ratio}}, received: {per_layer!r}")
    for key, share in per_layer.items():
        if not isinstance(key, (str, keras.Layer)):
            raise OptionError(f"per_layer: expected layers or names of layers, received: {key!r}")
        check_share(f"per_layer of {name_of(key)!r}", share)
    return dict(per_layer)
