"""The filters of a layer and their weights, wherever these stand in its kernels."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import keras
import numpy as np

from keras_iplt.errors import WeightsError
from keras_iplt.graph.channels import Graph, Slice
from keras_iplt.graph.slices import numbers_of

__all__ = ["Filters", "check_finite", "filters_of", "readers_of"]


class Part(NamedTuple):
    """A variable that holds weights of filters along one axis.

    Those of the i-th filter are at the positions `columns[i]`, or at position i where `columns` is
    None."""

    variable: keras.Variable
    axis: int
    columns: np.ndarray | None


class Filters:
    """The filters of one layer and their weights.

    Attributes:
        path: name of the layer, with the models around it.
        ids: the id of each filter.
        parts: where their weights are: in a kernel, and for a recurrent layer in a second one.
        bias_parts: where their biases are.
    """

    def __init__(
        self, path: str, ids: np.ndarray, parts: Iterable[Part], bias_parts: Iterable[Part] = ()
    ) -> None:
        self.path, self.ids = path, ids
        self.parts, self.bias_parts = list(parts), list(bias_parts)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> int:
        """The number of weights of one filter."""
        return sum(math.prod(part.variable.shape) for part in self.parts) // len(self)

    @property
    def weights(self) -> np.ndarray:
        """An array with one row per filter: a copy of its weights."""
        kinds = [numbers_of(part.variable).dtype for part in self.parts]
        result = np.empty((self.size, len(self)), np.result_type(np.float32, *kinds))
        start = 0
        for block in self.blocks():
            result[start : start + len(block)] = block
            start += len(block)
        return result.T

    def blocks(self, most: int = 1 << 18) -> Iterator[np.ndarray]:
        """The weights a few at a time: arrays with a *column* per filter and about `most` numbers.

        Large kernels are never copied whole, and what is done stays in the cache."""
        for part in self.parts:
            value = numbers_of(part.variable)
            for block in _blocks(value, part, most):
                if not np.isfinite(block).all():
                    check_finite(value, part.variable, self.path)
                yield block

    def power_sums(self, p: float) -> np.ndarray:
        """The sum of |w|^p over the weights of each filter."""
        total = np.zeros(len(self))
        for block in self.blocks():
            if p == 2:
                total += np.einsum("ij,ij->j", block, block, dtype=np.float64)
            elif p == 1:
                total += np.abs(block).sum(axis=0, dtype=np.float64)
            else:
                with np.errstate(over="ignore"):  # infinite scores are reported as such
                    total += (np.abs(block.astype(np.float64)) ** p).sum(axis=0)
        return total

    def dot(
        self, a: Mapping[int, np.ndarray], b: Mapping[int, np.ndarray], biases: bool = True
    ) -> np.ndarray:
        """The sum of a · b over the weights of each filter, and over its biases if asked for.

        `a` and `b` are arrays by id of variable."""
        total = np.zeros(len(self))
        for part in self.parts + (self.bias_parts if biases else []):
            key = id(part.variable)
            pairs = zip(_blocks(a[key], part), _blocks(b[key], part), strict=True)
            for x, y in pairs:
                total += np.einsum("ij,ij->j", x, y, dtype=np.float64)
        return total


def _blocks(value: np.ndarray, part: Part, most: int = 1 << 18) -> Iterator[np.ndarray]:
    """An array shaped like the variable of a part, some rows at a time, one column per filter."""
    length = value.shape[part.axis]
    value = value.reshape(math.prod(value.shape[: part.axis]), length, -1)
    step = max(1, most // math.prod(value.shape[1:]))
    for start in range(0, len(value), step):
        block = value[start : start + step].transpose(0, 2, 1).reshape(-1, length)
        if part.columns is not None:
            block = block[:, part.columns].transpose(0, 2, 1).reshape(-1, len(part.columns))
        yield block


def filters_of(graph: Graph, wanted: np.ndarray) -> list[Filters]:
    """The `Filters` of layers that create some of the channels marked in a mask over all ids."""
    owner = np.full(len(graph.classes), -1)
    row = np.zeros(len(graph.classes), np.int64)
    for index, producer in enumerate(graph.producers):
        owner[producer.ids] = index
        row[producer.ids] = np.arange(len(producer.ids))
    parts: dict[int, list[Part]] = {}
    strangers = []
    for piece in graph.slices:
        if piece.role != "output" or len(piece.variable.shape) < 2 or not wanted[piece.ids].any():
            continue
        index = int(owner[piece.ids[0]])
        columns = _columns(piece, index, owner, row, graph)
        if columns is None:  # a rule names the channels otherwise: each position is a filter
            part = Part(piece.variable, piece.axis, None)
            strangers.append(Filters(piece.path, piece.ids, [part]))
        else:
            # A shared layer creates its channels once per call; its weights are listed once.
            parts.setdefault(index, []).append(_part(piece, columns))
    found = []
    for index, own in sorted(parts.items()):
        producer = graph.producers[index]
        biases = [
            _part(piece, columns)
            for variable in getattr(producer.layer, "weights", ())
            for piece in graph.by_variable.get(id(variable), ())
            if piece.role == "follow"
            and (columns := _columns(piece, index, owner, row, graph)) is not None
        ]
        found.append(Filters(producer.path, producer.ids, own, biases))
    return found + strangers


def readers_of(graph: Graph, wanted: np.ndarray) -> list[Filters]:
    """The weights by which layers read the channels marked in `wanted`.

    All weights for one position of an input are as a filter here.
    """
    return [
        Filters(piece.path, piece.ids, [Part(piece.variable, piece.axis, None)])
        for piece in graph.slices
        if piece.role == "input" and wanted[piece.ids].any()
    ]


def _columns(
    piece: Slice, index: int, owner: np.ndarray, row: np.ndarray, graph: Graph
) -> np.ndarray | None:
    """Per filter of a producer its positions in a slice.
    None unless all filters of this producer, and nothing else, stand there, each equally often."""
    count = len(graph.producers[index].ids)
    if index < 0 or len(piece.ids) % count or (owner[piece.ids] != index).any():
        return None
    rows = row[piece.ids]
    times = len(rows) // count
    if (np.bincount(rows, minlength=count) != times).any():
        return None
    return np.argsort(rows, kind="stable").reshape(count, times)


def _part(piece: Slice, columns: np.ndarray) -> Part:
    in_order = columns.shape[1] == 1 and (columns[:, 0] == np.arange(len(columns))).all()
    return Part(piece.variable, piece.axis, None if in_order else columns)


def check_finite(value: np.ndarray, variable: keras.Variable, path: str) -> None:
    """Raises a `WeightsError` if the value of a variable of the layer `path` is not finite."""
    bad = np.count_nonzero(~np.isfinite(value))
    if bad:
        raise WeightsError(
            f"weights of layer {path!r} are not finite: {variable.path} {tuple(variable.shape)} "
            f"holds {bad} NaN or infinite values. Train with a smaller learning rate, or restore "
            "weights from before"
        )
