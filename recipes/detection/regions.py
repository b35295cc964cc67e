"""Regions of interest: the boxes that a network proposes, and what its feature map shows there."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.utils import bounding_boxes

from .matching import changed

__all__ = ["Proposals", "RegionAlign", "distinct"]

_ROUNDS = 8


def distinct(boxes: Any, overlap: float) -> Any:
    """Which boxes do not overlap with a better one that is distinct itself.

    Non-maximum suppression without a loop over boxes: after each round what depends on one link
    more of the chain of overlaps is right. A chain of more than eight links is rare, and its end
    does no harm among proposals.

    Args:
        boxes: (batch, n, 4), best first.
        overlap: how much two boxes may have in common.

    Returns:
        (batch, n), 1 for those that are, else 0.
    """
    shared = bounding_boxes.compute_iou(boxes, boxes, "xyxy")
    before = ops.cast(shared > overlap, boxes.dtype) * np.tri(boxes.shape[1], k=-1, dtype="float32")
    left = ops.ones_like(boxes[..., 0])
    for _ in range(_ROUNDS):
        left = ops.cast(ops.max(before * left[:, None], axis=-1) < 0.5, boxes.dtype)
    return left


@keras.saving.register_keras_serializable("keras_iplt")
class Proposals(keras.layers.Layer):
    """The best boxes of what a network says of its anchors, always as many: (batch, count, 4).

    Args:
        frame: rows and columns of the image.
        count: how many.
        overlap: how much two of them may have in common, as long as there are others.
        looked_at: how many of the best are compared, as a multiple of `count`.
    """

    def __init__(
        self, frame: Sequence[int], count: int, overlap: float = 0.7, looked_at: int = 4,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(**options)
        self.frame, self.count = tuple(frame), count
        self.overlap, self.looked_at = overlap, looked_at

    def call(self, said: Any) -> Any:
        said = ops.stop_gradient(said)
        edge = np.array([*self.frame[::-1], *self.frame[::-1]], "float32")
        boxes = ops.minimum(ops.maximum(changed(said[..., :4], said[..., 4:8]), 0.0), edge)
        score = said[..., 9] - said[..., 8]
        many = min(said.shape[1], self.count * self.looked_at)
        score, best = ops.top_k(score, many)
        boxes = ops.take_along_axis(boxes, best[..., None], axis=1)
        score += 1e4 * distinct(boxes, self.overlap)  # what is left goes before all others
        best = ops.top_k(score, min(many, self.count))[1]
        return ops.take_along_axis(boxes, best[..., None], axis=1)

    def get_config(self) -> dict[str, Any]:
        own = ("frame", "count", "overlap", "looked_at")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


@keras.saving.register_keras_serializable("keras_iplt")
class RegionAlign(keras.layers.Layer):
    """RoI align: what a map shows in each box, at one size: (batch, n, size, size, channels).

    Each of size × size parts of a box is the mean of samples × samples points, and each point is
    interpolated between the four places of the map around it. Rows and columns can be done one
    after the other, so that this is two products with matrices of weights.

    Args:
        frame: rows and columns of the image.
        size: how many parts a box is cut into, both ways.
        samples: how many points a part is the mean of, both ways.
    """

    def __init__(
        self, frame: Sequence[int], size: int = 7, samples: int = 2, **options: Any
    ) -> None:
        super().__init__(**options)
        self.frame, self.size, self.samples = tuple(frame), size, samples

    def call(self, features: Any, boxes: Any) -> Any:
        left, top, right, bottom = (boxes[..., index] for index in range(4))
        rows = self._weights(top, bottom, self.frame[0], features.shape[1])
        columns = self._weights(left, right, self.frame[1], features.shape[2])
        x = ops.einsum("bnsh,bhwc->bnswc", ops.cast(rows, features.dtype), features)
        return ops.einsum("bntw,bnswc->bnstc", ops.cast(columns, features.dtype), x)

    def _weights(self, start: Any, stop: Any, side: int, places: int) -> Any:
        """(batch, n, size, places): the share of each place in each part of a box, along a side."""
        count = self.size * self.samples
        inner = (np.arange(count, dtype="float32") + 0.5) / count
        points = start[..., None] + (stop - start)[..., None] * inner
        points = ops.clip(points * (places / side) - 0.5, 0, places - 1)
        near = ops.maximum(1 - ops.abs(points[..., None] - np.arange(places, dtype="float32")), 0.0)
        parts = (-1, near.shape[1], self.size, self.samples, places)
        return ops.mean(ops.reshape(near, parts), axis=3)

    def get_config(self) -> dict[str, Any]:
        own = ("frame", "size", "samples")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}
