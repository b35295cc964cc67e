"""Which filters of wrapped layers go, and what goes with them."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt import criteria
from keras_iplt.criteria.filters import Filters, Part
from keras_iplt.errors import OptionError
from keras_iplt.graph.channels import SOLID, Graph
from keras_iplt.surgery.dead_channels import removable
from keras_iplt.tfmot_bridge.wrapper import PruneFilters

__all__ = ["least_important", "masks", "ranked_by"]


def ranked_by(layer: PruneFilters, graph: Graph) -> Filters:
    """The `Filters` of a wrapped layer, one for each position of its kernel that counts them."""
    kernel, *bias = layer.get_prunable_weights()
    for piece in graph.by_variable.get(id(kernel), ()):
        if piece.role != "input":
            parts = [Part(kernel, piece.axis, None)]
            return Filters(piece.path, piece.ids, parts, [Part(b, 0, None) for b in bias])
    raise OptionError(
        f"layer: expected one whose filters can be told apart, received: {layer.layer.name!r}, "
        "which works on the input of the model or is not understood. Do not wrap it"
    )


def least_important(
    layer: PruneFilters, filters: Filters, graph: Graph, share: float
) -> np.ndarray:
    """A mask over the filters of a layer: True for the share of them that goes.

    Filters that can only be removed together (in grouped and gated layers) go together.
    """
    classes = graph.classes[filters.ids]
    own = -1 - np.arange(len(filters))  # what is never removed goes one by one
    _, units, sizes = np.unique(
        np.where(classes == SOLID, own, classes), return_inverse=True, return_counts=True
    )
    scores = criteria.get(layer.criterion).score(filters)
    means = np.bincount(units, scores) / sizes
    alive = np.bincount(units, filters.power_sums(1)) > 0
    order = np.lexsort((means, alive))
    wanted = min(int(share * len(filters) + 0.5), len(filters) - 1)
    chosen = order[np.cumsum(sizes[order]) <= wanted]
    return np.isin(units, chosen)


def masks(
    graph: Graph,
    layers: Sequence[PruneFilters],
    ranked: Sequence[Filters],
    dead: Sequence[np.ndarray],
) -> list[tuple[keras.Variable, Any]]:
    """`(variable, ones and zeros to multiply it with)` for all that is to be zero.

    Dead filters, and everything that belongs to channels of which no filter is alive."""
    # (id(variable), axis) -> (variable, mask)
    lost: dict[tuple[int, int], tuple[keras.Variable, np.ndarray]] = {}

    def lose(variable: keras.Variable, axis: int, mask: np.ndarray) -> None:
        if mask.any():
            _, before = lost.get((id(variable), axis), (None, False))
            lost[id(variable), axis] = variable, before | mask

    for filters, mask in zip(ranked, dead, strict=True):
        for part in filters.parts:
            lose(part.variable, part.axis, mask)
        for part in filters.bias_parts:
            lose(part.variable, part.axis, np.repeat(mask, part.variable.shape[0] // len(mask)))
    gone = _channels_without(graph, layers, ranked, dead)
    for piece in graph.slices:
        lose(piece.variable, piece.axis, gone[piece.ids])
    return [(v, _ones_and_zeros(v, axis, mask)) for (_, axis), (v, mask) in lost.items()]


def _channels_without(
    graph: Graph,
    layers: Sequence[PruneFilters],
    ranked: Sequence[Filters],
    dead: Sequence[np.ndarray],
) -> np.ndarray:
    """A mask over all ids: True for channels of which every filter is dead."""
    of_layer = {
        id(layer.layer): np.unique(graph.classes[filters.ids[mask]])
        for layer, filters, mask in zip(layers, ranked, dead, strict=True)
    }
    alive = np.zeros(len(graph.classes), bool)
    for producer in graph.producers:
        classes = graph.classes[producer.ids]
        alive[np.setdiff1d(classes, of_layer.get(id(producer.layer), ()))] = True
    return graph.gone([removable(group, ~alive[group.classes]) for group in graph.groups])


def _ones_and_zeros(variable: keras.Variable, axis: int, mask: np.ndarray) -> Any:
    shape = [1] * len(variable.shape)
    shape[axis] = -1
    return keras.ops.convert_to_tensor((~mask).astype("float32").reshape(shape), variable.dtype)
