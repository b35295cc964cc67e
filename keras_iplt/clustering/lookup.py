"""Weights looked up from centroids, so that gradients reach both."""

import enum
from typing import Any

from keras import ops

__all__ = ["GradientAggregation", "looked_up"]


class GradientAggregation(str, enum.Enum):
    """What a centroid's gradient is, of those of the weights that take its value.

    - `SUM`: their sum.
    - `AVG`: their mean.
    """

    SUM = "GradientAggregation.SUM"
    AVG = "GradientAggregation.AVG"


def looked_up(weights: Any, centroids: Any, aggregation: GradientAggregation) -> Any:
    """Each weight as its closest centroid.

    Gradients reach the centroids, and the weights as if they were what is computed with, so that
    these can move to another centroid.

    Args:
        weights: a tensor.
        centroids: a tensor of shape `(clusters,)`, or `(channels, clusters)` if each channel (the
            last axis of the weights) has its own.
        aggregation: a `GradientAggregation`.

    Example:

    >>> weights, centroids = ops.array([0.1, 0.9, 0.4]), ops.array([1.0, 0.0])
    >>> [float(x) for x in looked_up(weights, centroids, GradientAggregation.SUM)]
    [0.0, 1.0, 0.0]
    """
    # Each variable is read once, and updates wait for the lookup, since gradients pass `where`:
    # TensorFlow's graphs may otherwise come to read what has been updated already.
    weights, centroids = (ops.reshape(x, x.shape) for x in (weights, centroids))
    places = ops.stop_gradient(_closest(weights, centroids))
    flat = ops.reshape(centroids, (-1,))
    if aggregation is GradientAggregation.AVG:
        ones = ops.ones_like(ops.reshape(weights, (-1,)))
        sizes = ops.segment_sum(ones, ops.reshape(places, (-1,)), num_segments=flat.shape[0])
        held = ops.stop_gradient(flat)
        flat = held + (flat - held) / ops.maximum(sizes, 1)
    straight = weights - ops.stop_gradient(weights)
    return ops.take(flat, places) + ops.where(places >= 0, straight, 0)


def _closest(weights: Any, centroids: Any) -> Any:
    """The place of the closest centroid among all."""
    order, ordered = ops.argsort(centroids, axis=-1), ops.sort(centroids, axis=-1)
    borders = (ordered[..., 1:] + ordered[..., :-1]) / 2
    if len(centroids.shape) == 1:
        rank = ops.searchsorted(borders, ops.reshape(weights, (-1,)))
        return ops.reshape(ops.take(order, rank), weights.shape)
    channels, clusters = centroids.shape
    rank = ops.sum(ops.cast(ops.expand_dims(weights, -1) > borders, "int32"), axis=-1)
    first = ops.arange(channels, dtype="int32") * clusters
    return ops.take(ops.reshape(ops.cast(order, "int32") + first[:, None], (-1,)), rank + first)
