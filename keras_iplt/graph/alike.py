"""Layers of one class and config, called alike: what is found out about one holds for the others.

A language model has dozens of equal layers. How one of them is made smaller is found out by trying
(see `learning`), and the answer follows from nothing but what is compared here.
"""

import collections
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.channels import SOLID, Call, Channels, Gain, covered_by
from keras_iplt.graph.flow import Flow
from keras_iplt.graph.recordings import plain_differences, same
from keras_iplt.graph.recreate import config_of

__all__ = ["Likeness", "likeness"]


class Likeness(NamedTuple):
    """What tells how a custom layer is made smaller.

    Attributes:
        layer: the layer.
        facts: its config, how it is called, and which of its channels stand together, which are
            numbered in the order in which they are met.
        ids: number of a channel -> its class of ids; 0 for all that stay.
    """

    layer: keras.Layer
    facts: Any
    ids: np.ndarray

    def is_like(self, other: "Likeness") -> bool:
        """Whether what is found out about one of the two layers holds for the other."""
        inside = [private.all_layers(one.layer) for one in (self, other)]
        return (
            same(self.facts, other.facts)
            and [*map(type, inside[0])] == [*map(type, inside[1])]
            and not any(any(plain_differences(a, b)) for a, b in zip(*inside, strict=True))
        )

    def moved(self, ids: np.ndarray, other: "Likeness", roots: np.ndarray) -> np.ndarray:
        """The ids of the other layer that stand where `ids` do in this one."""
        numbers = np.zeros(len(roots), np.int64)
        numbers[self.ids] = np.arange(len(self.ids))
        return other.ids[numbers[roots[ids]]]


def likeness(flow: Flow, call: Call, roots: np.ndarray, stay: np.ndarray) -> Likeness:
    """The likeness of a layer that is called.

    Args:
        flow: the `Flow`.
        call: the layer's call.
        roots: the class of each id.
        stay: a mask over all ids of those that are frozen.
    """
    layer, vectors = call.operation, list[np.ndarray]()
    free = np.where(stay, SOLID, roots)

    def place(ids: np.ndarray) -> tuple[int, ...]:
        vectors.append(free[ids].ravel())
        return ids.shape

    def described(x: Any) -> Any:
        if isinstance(x, Channels):
            gain = None if x.gain is None else (place(x.gain.ids), x.gain.power)
            return place(x.ids), x.shape, x.masked, gain
        if isinstance(x, Gain):
            return place(x.ids), x.power
        if isinstance(x, keras.KerasTensor):
            return tuple(x.shape), x.dtype
        return tuple(x.shape) if isinstance(x, keras.Variable) else x

    within = {id(call), *covered_by(flow.calls, call)}
    index = {id(v): i for i, v in enumerate(layer.variables)}
    times = collections.Counter(id(one.operation) for one in flow.calls.values())
    facts = [
        _unnamed(config_of(layer)),
        [(tuple(v.shape), v.dtype) for v in layer.variables],
        keras.tree.map_structure(described, call.specs),
        [
            (index[key], axis, piece.role, place(piece.ids))
            for (key, axis), piece in flow.slices.items()
            if key in index
        ],
        [
            (index[id(r.variable)], r.power, r.offset, place(r.ids))
            for r in flow.rescales
            if id(r.variable) in index
        ],
        [
            (
                type(one.operation),
                keras.tree.map_structure(described, (one.args, one.kwargs, one.outputs)),
                {key: described(gain) for key, gain in one.scaled.items()},
            )
            for one in flow.calls.values()
            if id(one) in within
        ],
        [times[id(one)] for one in private.all_layers(layer)],
    ]
    found, first, numbers = np.unique(
        np.concatenate([[SOLID], *vectors]), return_index=True, return_inverse=True
    )
    order = np.argsort(first)
    return Likeness(layer, [facts, np.argsort(order)[numbers.ravel()]], found[order])


def _unnamed(config: Any) -> Any:
    """A config without the names of the layer and of those inside.

    With what makes them again in place of the objects that some configs hold."""
    if isinstance(config, (list, tuple)):
        return [_unnamed(x) for x in config]
    if hasattr(config, "get_config") and not isinstance(config, type):
        return type(config), _unnamed(config.get_config())
    if not isinstance(config, dict):
        return config
    inside = {"config": _unnamed(config["config"])} if "class_name" in config else {}
    left_out = {"name", "shared_object_id", "build_config"}
    return {k: _unnamed(v) for k, v in config.items() if k not in left_out} | inside
