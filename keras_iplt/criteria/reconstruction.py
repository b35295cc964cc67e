"""How well what the next layers put out can be told without a channel: ThiNet, channel pruning.

What a layer puts out is a sum over its input channels, y = Σ y_c. All that either method has to
know of the data are the products G[c, d] = Σ y_c · y_d over examples, positions and outputs:

    ThiNet            goes next: the one that leaves |Σ_gone y_c|² = Σ_gone Σ_gone G[c, d] smallest
    channel pruning   stays: what has β_c ≠ 0 where ½ |y − Σ β_c y_c|² + λ Σ |β_c| is smallest, for
                      a λ that grows until few enough are left

Both say in which order the channels of a layer go. How many is for others to say, and what stays is
to be fitted to what y was: that is `compensate`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_iplt.criteria.base import Criterion
from keras_iplt.graph.channels import Call, Channels, Graph, Group, Slice
from keras_iplt.graph.slices import numbers_of
from keras_iplt.running.linear import Linear, linear, some_positions
from keras_iplt.running.observe import batches, observe
from keras_iplt.support.progress import told

__all__ = ["Lasso", "ThiNet"]

_PER_BATCH = 256  # positions at which what a layer puts out is looked at


class _FromProducts(Criterion):
    """A place in the order in which the channels of a group go, as a share of the group."""

    needs_data = True
    missing = (
        "no dense layer or convolution takes them in, so that there is nothing to be told without "
        "them. Ignore the layer or use a criterion on its weights"
    )

    def collect(
        self, graph: Graph, wanted: np.ndarray, data: Any
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        takers = _takers(graph, wanted)
        given = told(batches(graph.model, data), "batch")
        rng = np.random.default_rng(0)

        def visit(call: Call, inputs: list[tuple[Channels, np.ndarray]]) -> None:
            for taker in takers[id(call.operation)]:
                taker.see(inputs[0][1], rng)

        observe(graph, given, visit, lambda call: id(call.operation) in takers)
        sums: dict[int, np.ndarray] = {}
        for taker in itertools.chain(*takers.values()):
            share = taker.products / max(taker.products.trace(), np.finfo(np.float64).tiny)
            sums[taker.group.index] = sums.get(taker.group.index, 0) + share
        for index, products in sums.items():
            classes = graph.groups[index].classes
            yield classes, self.places(products) / len(classes)

    def places(self, products: np.ndarray) -> np.ndarray:
        """When each channel goes: 0 for the first.

        Args:
            products: (channels, channels), how what they bring goes together.
        """
        raise NotImplementedError


class ThiNet(_FromProducts):
    """Greedily, the channel without which the next layers' outputs change least (ThiNet).

    With what has gone before (Luo et al., ICCV 2017). Wants `data`; labels are not looked at."""

    def places(self, products: np.ndarray) -> np.ndarray:
        found = np.zeros(len(products), np.int64)
        # |gone + c|² = |gone|² + cost of c
        cost = np.diag(products).copy()
        for place in range(len(products)):
            goes = int(np.argmin(cost))
            found[goes] = place
            cost += 2 * products[goes]
            cost[goes] = np.inf
        return found


class Lasso(_FromProducts):
    """How long the LASSO holds a channel that tells the next layers' outputs from few channels.

    Channel pruning: He et al., ICCV 2017. Wants `data`; labels are not looked at."""

    def places(self, products: np.ndarray) -> np.ndarray:
        wanted = products.sum(axis=0)  # of each channel with all of y
        penalties = np.abs(wanted).max() * np.geomspace(1, _LEAST_PENALTY, _PENALTIES)
        last = np.zeros(len(products))  # the largest penalty under which a channel is held
        beta = np.zeros(len(products))
        for penalty in penalties:
            beta = _lasso(products, wanted, penalty, beta)
            last[(last == 0) & (beta != 0)] = penalty
        found = np.zeros(len(products), np.int64)
        found[np.lexsort((np.abs(beta) * np.sqrt(np.diag(products)), last))] = np.arange(len(found))
        return found


_LEAST_PENALTY, _PENALTIES, _STEPS = 1e-4, 100, 100


def _lasso(
    products: np.ndarray, wanted: np.ndarray, penalty: float, beta: np.ndarray
) -> np.ndarray:
    """The β that makes ½ β'Gβ − β'w + λ |β|₁ smallest, by proximal steps with momentum."""
    step = 1 / max(float(np.linalg.norm(products, 2)), np.finfo(np.float64).tiny)
    ahead, speed = beta, 1.0
    for _ in range(_STEPS):
        moved = ahead - step * (products @ ahead - wanted)
        before, beta = beta, np.sign(moved) * np.maximum(np.abs(moved) - step * penalty, 0)
        before_speed, speed = speed, (1 + np.sqrt(1 + 4 * speed**2)) / 2
        ahead = beta + (before_speed - 1) / speed * (beta - before)
    return beta


class _Taker:
    """What a layer makes of the channels of a group, one by one.

    Attributes:
        group: the group.
        products: the sums over what has been seen of their products with each other.
    """

    def __init__(self, layer: Linear, piece: Slice, graph: Graph, group: Group) -> None:
        self.group, self._layer = group, layer
        lengths = [1] * len(layer.kernel.shape)
        lengths[piece.axis] = -1
        ids = np.broadcast_to(graph.classes[piece.ids].reshape(lengths), layer.kernel.shape)
        # Which features of the layer are of which channel, group by group.
        of_feature = layer.matrix(ids)[:, :, 0]
        self._places = [
            [np.flatnonzero(features == each) for each in group.classes] for features in of_feature
        ]
        self._matrix = layer.matrix(numbers_of(layer.kernel).astype(np.float32))
        self.products = np.zeros((group.size, group.size))

    def see(self, x: np.ndarray, rng: np.random.Generator) -> None:
        """Some more data: what goes into the layer."""
        x = self._layer.prepared(x, lambda variable: variable.value)
        chosen = some_positions(self._layer.positions(x.shape), _PER_BATCH, len(x), rng)
        features = self._layer.features(x, chosen)
        for group, places in enumerate(self._places):
            brought = np.stack(
                [(features[:, group, each] @ self._matrix[group, each]).ravel() for each in places]
            )
            self.products += brought @ brought.T


def _takers(graph: Graph, wanted: np.ndarray) -> dict[int, list[_Taker]]:
    """By id(operation): what the layers that are products make of the groups wanted."""
    found: dict[int, list[_Taker]] = {}
    for call in graph.calls.values():
        layer = linear(call.operation)
        if layer is None or id(call.operation) in found:
            continue
        for piece in graph.by_variable.get(id(layer.kernel), ()):
            classes = graph.classes[piece.ids]
            for group in graph.groups if piece.role == "input" else ():
                if wanted[group.classes].all() and np.isin(classes, group.classes).any():
                    taker = _Taker(layer, piece, graph, group)
                    found.setdefault(id(call.operation), []).append(taker)
    return found
