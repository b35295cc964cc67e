"""Boxes of all places, sizes and shapes, which a detector moves to where something is."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

__all__ = ["Anchors", "anchor_boxes", "per_place"]

RATIOS = (1.0, 2.0, 0.5)  # width by height


def per_place(ratios: Sequence[float] = RATIOS) -> int:
    """How many anchors stand at each place: one for each ratio, and a larger square.

    >>> per_place((1.0, 2.0, 0.5))
    4
    """
    return len(ratios) + 1


def anchor_boxes(
    frame: Sequence[int], grids: Sequence[Sequence[int]], scales: Sequence[float],
    ratios: Sequence[float] = RATIOS,
) -> np.ndarray:  # fmt: skip
    """The anchors of several grids of places, as SSD has them.

    Args:
        frame: rows and columns of the image.
        grids: rows and columns of each level.
        scales: the side of a square anchor of each level, as a share of the shorter side of the
            frame, and one more: the larger square of a level is between two scales.
        ratios: widths by heights.

    Returns:
        (anchors, 4): left, top, right and bottom in pixels, level by level, row by row, the anchors
        of one place together.

    >>> anchor_boxes((8, 8), [(1, 2)], [0.5, 0.5], [1.0])
    array([[0., 2., 4., 6.],
           [0., 2., 4., 6.],
           [4., 2., 8., 6.],
           [4., 2., 8., 6.]], dtype=float32)
    """
    found = []
    for (rows, columns), scale, larger in zip(grids, scales, scales[1:], strict=False):
        y, x = (
            (np.arange(n) + 0.5) * side / n for n, side in zip((rows, columns), frame, strict=True)
        )
        centre = np.stack(np.meshgrid(x, y), axis=-1)[:, :, None]
        sides = [(scale * math.sqrt(ratio), scale / math.sqrt(ratio)) for ratio in ratios]
        sides.append((math.sqrt(scale * larger),) * 2)
        half = np.array(sides) * min(frame) / 2
        found.append(np.concatenate([centre - half, centre + half], axis=-1).reshape(-1, 4))
    return np.concatenate(found).astype("float32")


@keras.saving.register_keras_serializable("keras_iplt")
class Anchors(keras.layers.Layer):
    """Puts its anchor before what a network says of each: `(batch, anchors, 4 + …)`.

    Args:
        frame, grids, scales, ratios: see `anchor_boxes`.
    """

    def __init__(
        self, frame: Sequence[int], grids: Sequence[Sequence[int]], scales: Sequence[float],
        ratios: Sequence[float] = RATIOS, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(**options)
        self._places = {"frame": frame, "grids": grids, "scales": scales, "ratios": ratios}
        self.boxes = anchor_boxes(frame, grids, scales, ratios)

    def call(self, x: Any) -> Any:
        boxes = ops.zeros_like(x[..., :4]) + ops.cast(self.boxes, x.dtype)
        return ops.concatenate([boxes, x], axis=-1)

    def compute_output_shape(self, shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (*shape[:-1], shape[-1] + 4)  # type: ignore[operator]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._places}
