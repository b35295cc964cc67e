"""Criteria that look at nothing but the weights."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeAlias

import keras
import numpy as np

from keras_iplt.criteria.base import Criterion
from keras_iplt.criteria.filters import Filters, check_finite, filters_of, readers_of
from keras_iplt.errors import CriterionError
from keras_iplt.graph.channels import SOLID, Graph
from keras_iplt.graph.slices import numbers_of
from keras_iplt.support.arguments import Kind, checked

__all__ = [
    "BatchNormScale",
    "Custom",
    "Energy",
    "GeometricMedian",
    "L1",
    "L2",
    "LAMP",
    "Lp",
    "Random",
]


Exponent: TypeAlias = Annotated[
    float, Kind("a positive number", lambda p: 0 < p < math.inf, CriterionError)
]
Seed: TypeAlias = Annotated[int, Kind("an integer from 0", lambda n: n >= 0, CriterionError)]
Function: TypeAlias = Annotated[
    Callable[[np.ndarray], Any], Kind("a function of an array", error=CriterionError)
]
_TINY = np.finfo(np.float64).tiny
_LEAST = 1e-9  # of a layer's squares is always left: what goes last has a finite number


class Lp(Criterion):
    """The p-norm of a filter's kernel, without its bias: (Σ |w|^p)^(1/p).

    Args:
        p: the exponent.
        mean: divide the sum by the number of weights first, so that layers with filters of
            different size compare.
        reduce: see `Criterion`.
    """

    @checked
    def __init__(self, p: Exponent = 2.0, mean: bool = False, reduce: str = "mean") -> None:
        super().__init__(reduce)
        self.p, self.mean = p, mean
        self.sees_zeros = self.mean

    @property
    def name(self) -> str:
        return super().name + ("_mean" if self.mean else "")

    def score(self, filters: Filters) -> np.ndarray:
        total = filters.power_sums(self.p)
        return (total / filters.size if self.mean else total) ** (1 / self.p)


class L1(Lp):
    """The sum of the absolute weights of a filter (`mean`: their mean). See `Lp`."""

    @checked
    def __init__(self, mean: bool = False, reduce: str = "mean") -> None:
        super().__init__(1, mean, reduce)


class L2(Lp):
    """The Euclidean norm of a filter, Eq. 3 of the IPLT paper. See `Lp`.

    `mean`: the root of the mean square."""

    @checked
    def __init__(self, mean: bool = False, reduce: str = "mean") -> None:
        super().__init__(2, mean, reduce)


class GeometricMedian(Criterion):
    """The sum of a filter's distances to all other filters of its layer.

    Those near the geometric median can be replaced by others (FPGM, He et al., CVPR 2019)."""

    sees_zeros = True

    @property
    def name(self) -> str:
        return "fpgm"

    def score(self, filters: Filters) -> np.ndarray:
        products = np.zeros((len(filters), len(filters)))
        for block in filters.blocks(1 << 23):
            # Distances do not change with the origin; near the filters, less is cancelled below.
            block = block.astype(np.float64)
            block -= block.mean(axis=1, keepdims=True)
            products += block.T @ block
        squares = products.diagonal().copy()
        products *= -2
        products += squares[:, None]
        products += squares
        np.maximum(products, 0, out=products)
        np.fill_diagonal(products, 0)
        return np.sqrt(products, out=products).sum(axis=1)


class LAMP(Criterion):
    """Layer-adaptive magnitude of filters (after that of weights by Lee et al., ICLR 2021).

    A filter's squared norm over the sum of those of all filters of its layer that are at least as
    large, itself included."""

    def score(self, filters: Filters) -> np.ndarray:
        squares = filters.power_sums(2)
        ascending = np.sort(squares)
        sums = np.cumsum(ascending[::-1])[::-1]
        sums = sums[np.searchsorted(ascending, squares)]
        return np.divide(squares, sums, out=np.zeros_like(squares), where=sums > 0)


class Energy(Criterion):
    """By how much the squared weights of layers shrink if a channel and all smaller ones go.

    Minus the logarithm of the share of them that is left, summed over the layers that make the
    channel and those that read it. One that is made or read by zeros alone costs nothing.

    It compares across layers, whatever their size and scale: where layers lose the same share, they
    pay the same; and however much goes, none is emptied. The layers of coupled channels add up, so
    that a residual stream costs what all its layers lose, and so do the steps of a training, by
    the channels that they took.

    Args:
        reduce: see `Criterion`.
    """

    adds_up = True

    @checked
    def __init__(self, reduce: str = "sum") -> None:
        super().__init__(reduce)

    def collect(
        self, graph: Graph, wanted: np.ndarray, data: Any
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        ends = [
            [_squares_of_classes(graph, filters) for filters in found]
            for found in (filters_of(graph, wanted), readers_of(graph, wanted))
        ]
        idle = np.zeros(len(graph.classes), bool)
        for end in filter(None, ends):
            classes, squares = map(np.concatenate, zip(*end, strict=True))
            idle[classes] |= np.bincount(classes, squares, len(idle))[classes] == 0
        for classes, squares in itertools.chain(*ends):
            squares = np.where(idle[classes], 0, squares)
            order = np.argsort(squares, kind="stable")  # equal ones go one after the other
            lost = np.empty(len(squares))
            lost[order] = np.cumsum(squares[order])
            whole = max(squares.sum(), _TINY)
            yield classes, -np.log(np.maximum(1 - lost / whole, _LEAST))


def _squares_of_classes(graph: Graph, filters: Filters) -> tuple[np.ndarray, np.ndarray]:
    """The classes of which a layer has filters, without constants, and their squared weights."""
    free = graph.classes[filters.ids] != SOLID
    classes, place = np.unique(graph.classes[filters.ids[free]], return_inverse=True)
    return classes, np.bincount(place, filters.power_sums(2)[free], len(classes))


class BatchNormScale(Criterion):
    """|gamma| of the batch normalization that follows (network slimming, Liu et al., ICCV 2017)."""

    missing = "no BatchNormalization with a scale follows them"

    @property
    def name(self) -> str:
        return "bn_scale"

    def collect(
        self, graph: Graph, wanted: np.ndarray, data: Any
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        layers = {
            id(call.operation): (call.path, call.operation)
            for call in graph.calls.values()
            if isinstance(call.operation, keras.layers.BatchNormalization)
        }
        for path, layer in layers.values():
            for piece in graph.by_variable.get(id(layer.gamma), ()):
                if wanted[piece.ids].any():
                    gamma = numbers_of(layer.gamma)
                    check_finite(gamma, layer.gamma, path)
                    yield piece.ids, np.abs(gamma)


class Random(Criterion):
    """Random numbers, the same for the same model and seed: what others must beat."""

    @checked
    def __init__(self, seed: Seed = 0) -> None:
        super().__init__()
        self.seed = seed

    def collect(
        self, graph: Graph, wanted: np.ndarray, data: Any
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        classes = np.unique(graph.classes[wanted])
        yield classes, np.random.default_rng(self.seed).random(len(wanted))[classes]


class Custom(Criterion):
    """A plain function as a criterion.

    Args:
        function: takes an array `(filters, weights of one filter)`, returns one number per filter.
        reduce: see `Criterion`.
    """

    sees_zeros = True  # for all that is known

    @checked
    def __init__(self, function: Function, reduce: str = "mean") -> None:
        super().__init__(reduce)
        self.function = function

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def score(self, filters: Filters) -> Any:
        return self.function(filters.weights)
