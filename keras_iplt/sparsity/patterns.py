"""Which weights of a variable go, once it is known how many: the smallest, under a pattern.

Weights            any, the smallest first
WeightsPerFilter   the smallest of each filter, of all filters alike
WholeFilters       whole filters, those with the smallest l2 norm
Blocks             blocks of a matrix
MbyN               m of every n consecutive inputs
"""

from typing import Annotated, TypeAlias

import numpy as np

from keras_iplt.errors import OptionError
from keras_iplt.sparsity.pool import Prunable
from keras_iplt.sparsity.select import blocks, largest, m_by_n, unblocked
from keras_iplt.support.arguments import Count, Kind, checked, one_of
from keras_iplt.support.configurable import Configurable

__all__ = [
    "Blocks", "MbyN", "Pair", "Pattern", "Pooling", "Weights", "WeightsPerFilter", "WholeFilters",
    "get",
]  # fmt: skip

Pooling: TypeAlias = Annotated[str, one_of("AVG", "MAX")]
Pair: TypeAlias = Annotated[tuple[Count, Count], Kind("two positive integers")]


class Pattern(Configurable):
    """Base of all patterns: override `mask`."""

    fixed: float | None = None  # the only sparsity there is, if there is but one

    def mask(self, magnitudes: np.ndarray, zeros: int, filter_axis: int = -1) -> np.ndarray:
        """A mask of the array's shape, True for what stays.

        Args:
            magnitudes: an array; the smallest go first. Numbers below zero are of weights that
                are gone already.
            zeros: how many weights go; as close to it as the pattern allows.
            filter_axis: the axis that counts filters.
        """
        raise NotImplementedError(f"{type(self).__name__} must override mask()")

    def check(self, prunable: Prunable) -> None:
        """Raises an `OptionError` where the pattern does not fit a variable."""


class Weights(Pattern):
    """Any weights: unstructured sparsity.

    >>> Weights().mask(np.array([[1.0, 4.0], [3.0, 2.0]]), zeros=2)
    array([[False,  True],
           [ True, False]])
    """

    def mask(self, magnitudes: np.ndarray, zeros: int, filter_axis: int = -1) -> np.ndarray:
        return largest(magnitudes, magnitudes.size - zeros)


class WeightsPerFilter(Pattern):
    """Single weights ranked inside each filter.

    Every filter loses as many, to within one (Sarkar et al., first reading).

    >>> WeightsPerFilter().mask(np.array([[1.0, 8.0], [3.0, 9.0]]), zeros=2)
    array([[False, False],
           [ True,  True]])
    """

    def mask(self, magnitudes: np.ndarray, zeros: int, filter_axis: int = -1) -> np.ndarray:
        rows, shape = _filters_first(magnitudes, filter_axis)
        each, rest = divmod(zeros, len(rows))
        mask = np.stack([largest(row, row.size - each) for row in rows])
        if rest:  # one more of the filters whose next weight is smallest
            left = np.where(mask, rows, np.inf)
            next_place = left.argmin(axis=1)
            next_value = np.take_along_axis(left, next_place[:, None], axis=1)[:, 0]
            chosen = np.flatnonzero(~largest(next_value, len(rows) - rest))
            mask[chosen, next_place[chosen]] = False
        return _back(mask, shape, filter_axis)


class WholeFilters(Pattern):
    """Whole filters, those with the smallest l2 norm, emptied in place.

    One filter of each layer stays (Sarkar et al., second reading).

    >>> WholeFilters().mask(np.array([[1.0, 8.0], [3.0, 9.0]]), zeros=2)
    array([[False,  True],
           [False,  True]])
    """

    def mask(self, magnitudes: np.ndarray, zeros: int, filter_axis: int = -1) -> np.ndarray:
        rows, shape = _filters_first(magnitudes, filter_axis)
        count = min(len(rows) - 1, int(zeros / rows.shape[1] + 0.5))
        rows = np.maximum(rows, 0)
        norms = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
        stays = largest(norms, len(rows) - count)
        return _back(np.repeat(stays[:, None], rows.shape[1], axis=1), shape, filter_axis)


class Blocks(Pattern):
    """Blocks of matrices, as kernels of processors like them.

    Smaller blocks at the edges count as blocks.

    Args:
        block_size: `(height, width)`.
        pooling: "AVG" or "MAX": what stands for a block, its mean magnitude or its largest.
    """

    @checked
    def __init__(self, block_size: Pair, pooling: Pooling = "AVG") -> None:
        self.block_size, self.pooling = block_size, pooling

    def mask(self, magnitudes: np.ndarray, zeros: int, filter_axis: int = -1) -> np.ndarray:
        pooled = blocks(np.maximum(magnitudes, 0), self.block_size, self.pooling)
        share = zeros / magnitudes.size
        stays = largest(pooled, max(1, round(pooled.size * (1 - share))))
        return unblocked(stays, self.block_size, magnitudes.shape)

    def check(self, prunable: Prunable) -> None:
        _check_rank(self, prunable, (2,))


class MbyN(Pattern):
    """`m` zeros in every `n` consecutive inputs, such as the 2 of 4 that some hardware is made for.

    Of dense layers and two-dimensional convolutions.

    Args:
        m, n: whole numbers, m less than n.
    """

    @checked
    def __init__(self, m: Count = 2, n: Count = 4) -> None:
        self.m, self.n = m, n
        if m >= n:
            raise OptionError(f"m: expected less than n={n}, received: {m!r}")
        self.fixed = m / n

    def mask(self, magnitudes: np.ndarray, zeros: int, filter_axis: int = -1) -> np.ndarray:
        if not zeros:
            return np.ones(magnitudes.shape, bool)
        inputs_last = np.swapaxes(magnitudes, -1, -2)
        rows = inputs_last.reshape(-1, inputs_last.shape[-1])
        mask = m_by_n(rows, self.m, self.n).reshape(inputs_last.shape)
        return np.swapaxes(mask, -1, -2)

    def check(self, prunable: Prunable) -> None:
        _check_rank(self, prunable, (2, 4))


_BY_NAME = {
    "weights": Weights, "weights_per_filter": WeightsPerFilter, "filters": WholeFilters,
}  # fmt: skip


@checked
def get(pattern: str | Pattern) -> Pattern:
    """The pattern that a name stands for; a `Pattern` as it is.

    Names are "weights", "weights_per_filter" and "filters".

    >>> get("filters")
    WholeFilters()
    """
    if isinstance(pattern, Pattern):
        return pattern
    if isinstance(pattern, str) and pattern in _BY_NAME:
        return _BY_NAME[pattern]()
    raise OptionError(
        f"pattern: expected {', '.join(map(repr, _BY_NAME))} or a Pattern, received: {pattern!r}"
    )


def _filters_first(array: np.ndarray, axis: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """The array as a matrix with one row per filter, and what `_back` needs."""
    moved = np.moveaxis(array, axis, 0)
    return moved.reshape(len(moved), -1), moved.shape


def _back(matrix: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray:
    return np.moveaxis(matrix.reshape(shape), 0, axis)


def _check_rank(pattern: Pattern, prunable: Prunable, ranks: tuple[int, ...]) -> None:
    shape = tuple(prunable.variable.shape)
    if len(shape) not in ranks:
        raise OptionError(
            f"pattern {pattern}: expected weights of rank {' or '.join(map(str, ranks))}, "
            f"received: {prunable.path!r} of shape {shape}. Name it in ignore"
        )
