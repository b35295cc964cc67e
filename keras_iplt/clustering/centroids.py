"""Where centroids lie at first."""

import enum

import numpy as np

__all__ = ["CentroidInitialization", "first_centroids"]

_ROUNDS = 100  # of k-means: centroids on a line settle long before


class CentroidInitialization(str, enum.Enum):
    """How the first centroids are found.

    - `LINEAR`: evenly spaced from the smallest weight to the largest.
    - `RANDOM`: drawn evenly from between the smallest weight and the largest.
    - `DENSITY_BASED`: with as many weights between each and the next.
    - `KMEANS_PLUS_PLUS`: k-means, begun by k-means++: where weights are close to some centroid.
    """

    LINEAR = "CentroidInitialization.LINEAR"
    RANDOM = "CentroidInitialization.RANDOM"
    DENSITY_BASED = "CentroidInitialization.DENSITY_BASED"
    KMEANS_PLUS_PLUS = "CentroidInitialization.KMEANS_PLUS_PLUS"


def first_centroids(
    weights: np.ndarray, count: int, how: CentroidInitialization, with_zero: bool = False
) -> np.ndarray:
    """So many centroids for some weights.

    Args:
        weights: an array of any shape.
        count: how many centroids.
        how: a `CentroidInitialization`.
        with_zero: one of them is zero, and negative and positive weights share the others, as they
            share the weights.

    Example:

    >>> first_centroids(np.array([0.0, 1, 2, 8]), 3, CentroidInitialization.LINEAR)
    array([0., 4., 8.])
    >>> first_centroids(np.array([0, 0, -4, -5, 1.0]), 3, CentroidInitialization.LINEAR, True)
    array([-5.,  0.,  1.])
    """
    weights = np.sort(weights, axis=None)
    if not with_zero:
        return _HOW[how](weights, count)
    negative, positive = weights[weights < 0], weights[weights > 0]
    below = round((count - 1) * len(negative) / max(1, len(negative) + len(positive)))
    below = min(max(below, len(negative) > 0), count - 1 - (len(positive) > 0))
    zero = np.zeros(1, weights.dtype)
    parts = (negative, below), (positive, count - 1 - below)
    left, right = (_HOW[how](x, n) if len(x) else np.zeros(n, x.dtype) for x, n in parts)
    return np.concatenate([left, zero, right])


def _linear(weights: np.ndarray, count: int) -> np.ndarray:
    if count == 1:
        return weights[:1]
    return np.linspace(weights[0], weights[-1], count, dtype=weights.dtype)


def _random(weights: np.ndarray, count: int) -> np.ndarray:
    drawn = np.random.default_rng(0).uniform(weights[0], weights[-1], count)
    return np.sort(drawn).astype(weights.dtype)


def _density_based(weights: np.ndarray, count: int) -> np.ndarray:
    return np.quantile(weights, np.linspace(0.01, 1, count)).astype(weights.dtype)


def _kmeans_plus_plus(weights: np.ndarray, count: int) -> np.ndarray:
    random = np.random.default_rng(0)
    numbers = weights.astype("float64")
    centroids = [random.choice(numbers)]
    far = (numbers - centroids[0]) ** 2
    for _ in range(count - 1):
        total = far.sum()
        # Where all weights lie on centroids, another one finds no better place.
        next_one = random.choice(numbers, p=far / total if total else None)
        centroids.append(next_one)
        far = np.minimum(far, (numbers - next_one) ** 2)
    return _settled(numbers, np.sort(centroids)).astype(weights.dtype)


def _settled(numbers: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Each centroid at the mean of the sorted numbers that are closest to it, until they stay."""
    sums = np.concatenate([[0], np.cumsum(numbers)])
    for _ in range(_ROUNDS):
        ends = np.searchsorted(numbers, (centroids[1:] + centroids[:-1]) / 2)
        ends = np.concatenate([[0], ends, [len(numbers)]])
        sizes = np.diff(ends)
        means = np.diff(sums[ends]) / np.maximum(sizes, 1)
        moved = np.where(sizes > 0, means, centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


_HOW = {
    CentroidInitialization.LINEAR: _linear,
    CentroidInitialization.RANDOM: _random,
    CentroidInitialization.DENSITY_BASED: _density_based,
    CentroidInitialization.KMEANS_PLUS_PLUS: _kmeans_plus_plus,
}
