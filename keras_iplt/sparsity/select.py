"""The largest of many numbers, without sorting them: O(n) selection, and the masks it makes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["bisected", "blocks", "largest", "m_by_n", "threshold", "unblocked"]


def threshold(magnitudes: np.ndarray, keep: int) -> Any:
    """The smallest of the `keep` largest numbers of an array."""
    flat = magnitudes.reshape(-1)
    for part in (flat[flat > 0], flat[flat == 0], flat[flat < 0]):
        if keep <= part.size:
            # Not over zeros and others together: many equals make partition very slow.
            return np.partition(part, part.size - keep)[part.size - keep] if part[0] else part[0]
        keep -= part.size
    raise ValueError("keep: expected at most as many as there are numbers")


def largest(magnitudes: np.ndarray, keep: int) -> np.ndarray:
    """A mask, True for exactly the `keep` largest numbers of an array.

    Among equals those that come first stay.

    >>> largest(np.array([[3.0, 1.0], [1.0, 2.0]]), keep=3)
    array([[ True,  True],
           [False,  True]])
    """
    if keep <= 0:
        return np.zeros(magnitudes.shape, bool)
    border = threshold(magnitudes, keep)
    mask = magnitudes > border
    equal = np.flatnonzero(magnitudes == border)
    mask.reshape(-1)[equal[: keep - np.count_nonzero(mask)]] = True
    return mask


def bisected(
    arrays: Sequence[np.ndarray], zeros: int, within: float = 0.0
) -> tuple[float, list[int]]:
    """One threshold for many arrays: how many numbers of each lie at or below it.

    The threshold is found by bisection between zero and the largest number; numbers that are
    known to lie on one side are not looked at again, so that all rounds together cost little more
    than two passes. Where many numbers equal the threshold, as many of them are taken, the last
    arrays first, as make the count exact.

    Args:
        arrays: of numbers that are not negative.
        zeros: how many numbers are to lie at or below the threshold, of all together.
        within: how far the count may be off.

    Returns:
        `(threshold, counts)`.

    >>> bisected([np.array([4.0, 3.0, 2.0]), np.array([1.0, 2.0])], zeros=2)
    (2.0, [0, 2])
    """
    left = [np.ravel(array) for array in arrays]  # may lie on either side
    below = [0] * len(left)  # known to lie at or below the threshold
    real = np.result_type(np.float32, *left).type
    low, high = real(-1), real(max((array.max() for array in left if array.size), default=0))
    if zeros <= 0:
        return float(low), below
    while True:
        middle = real(low + (high - low) / 2)
        last = not low < middle < high  # nothing lies between: what is left are equals
        middle = high if last else middle
        counts = [int(np.count_nonzero(array <= middle)) for array in left]
        excess = sum(below) + sum(counts) - zeros
        if abs(excess) <= within or last:
            break
        if excess > 0:
            high = middle
            left = [array[array <= middle] for array in left]
        else:
            low = middle
            left = [array[array > middle] for array in left]
            below = [a + b for a, b in zip(below, counts, strict=True)]
    if last:
        for i, count in enumerate(counts):
            spared = max(0, min(count, excess))
            counts[i] -= spared
            excess -= spared
    return float(middle), [a + b for a, b in zip(below, counts, strict=True)]


def blocks(magnitudes: np.ndarray, block: tuple[int, int], pooling: str) -> np.ndarray:
    """Magnitudes of the blocks of a matrix: of each its mean or largest number.

    Blocks at the end may be smaller than the others.

    Args:
        magnitudes: a matrix.
        block: `(height, width)`.
        pooling: "AVG" or "MAX".
    """
    starts = [np.arange(0, n, size) for n, size in zip(magnitudes.shape, block, strict=True)]
    reduce = np.maximum if pooling == "MAX" else np.add
    pooled = reduce.reduceat(reduce.reduceat(magnitudes, starts[0], axis=0), starts[1], axis=1)
    if pooling == "MAX":
        return pooled
    heights, widths = (
        np.diff([*start, n]) for start, n in zip(starts, magnitudes.shape, strict=True)
    )
    return pooled / np.outer(heights, widths)


def unblocked(mask: np.ndarray, block: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """The mask of a matrix of some shape, from one of its blocks."""
    spread = mask.repeat(block[0], axis=0).repeat(block[1], axis=1)
    return spread[: shape[0], : shape[1]]


def m_by_n(magnitudes: np.ndarray, m: int, n: int) -> np.ndarray:
    """A mask that is False for the `m` smallest of every `n` consecutive numbers of each row.

    In a group at the end that is shorter, for what exceeds n - m.

    >>> m_by_n(np.array([[1.0, 4.0, 3.0, 2.0, 5.0]]), 2, 4)
    array([[False,  True,  True, False,  True]])
    """
    rows, columns = magnitudes.shape
    padded = np.full((rows, -(-columns // n) * n), -1.0)
    padded[:, :columns] = magnitudes
    groups = padded.reshape(-1, n)
    order = np.argsort(-groups, axis=1, kind="stable")  # among equals, those that come first
    mask = np.zeros(groups.shape, bool)
    np.put_along_axis(mask, order[:, : n - m], True, axis=1)
    return mask.reshape(padded.shape)[:, :columns]
