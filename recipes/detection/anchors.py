"""Boxes of all places, sizes and shapes, which a detector moves to where something is."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from .matching import VARIANCE

__all__ = ["Anchors", "Cells", "anchor_boxes", "cell_boxes", "per_place"]

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


def cell_boxes(frame: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """What YOLOX has in place of anchors: a square at each corner of a grid, as large as its cells.

    Args:
        frame: rows and columns of the image.
        strides: the side of the cells of each level.

    Returns:
        (cells, 4): left, top, right and bottom in pixels, level by level, row by row. Its upper
        left corner is the middle of a square, and the middle of the cell its lower right one.

    >>> cell_boxes((4, 8), [4])
    array([[-2., -2.,  2.,  2.],
           [ 2., -2.,  6.,  2.]], dtype=float32)
    """
    found = []
    for stride in strides:
        y, x = (np.arange(0, side, stride) for side in frame)
        corner = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        found.append(np.concatenate([corner - stride / 2, corner + stride / 2], axis=-1))
    return np.concatenate(found).astype("float32")


class _References(keras.layers.Layer):
    """Puts the box that is meant before what a network says of it: `(batch, boxes, 4 + …)`."""

    boxes: np.ndarray

    def call(self, x: Any) -> Any:
        boxes = ops.zeros_like(x[..., :4]) + ops.cast(self.boxes, x.dtype)
        return ops.concatenate([boxes, x], axis=-1)

    def compute_output_shape(self, shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (*shape[:-1], shape[-1] + 4)  # type: ignore[operator]


@keras.saving.register_keras_serializable("keras_iplt")
class Anchors(_References):
    """Anchors, before what a network says of each.

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

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._places}


@keras.saving.register_keras_serializable("keras_iplt")
class Cells(_References):
    """Squares at the corners of cells, before what YOLOX says of each.

    It says how far the middle of a box is from the corner, and the logarithms of its sides, all in
    cells; here these become changes as all other detectors have them.

    Args:
        frame, strides: see `cell_boxes`.
    """

    def __init__(self, frame: Sequence[int], strides: Sequence[int], **options: Any) -> None:
        super().__init__(**options)
        self.frame, self.strides = tuple(frame), tuple(strides)
        self.boxes = cell_boxes(frame, strides)

    def call(self, x: Any) -> Any:
        in_cells = ops.cast(np.array(VARIANCE), x.dtype)
        return super().call(ops.concatenate([x[..., :4] / in_cells, x[..., 4:]], axis=-1))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "frame": self.frame, "strides": self.strides}
