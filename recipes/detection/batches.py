"""Batches of images and boxes, from memory and as streams: the same on every backend."""

import dataclasses
from typing import Any

import numpy as np

from ..data.batches import Batches
from ..data.dataset import Memory
from ..data.decoding import tensorflow
from ..data.streams import Stream

__all__ = ["Boxed", "BoxedStream", "flipped_boxes", "moved_boxes"]


def flipped_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    """Boxes as in a mirror; padding stays as it is.

    >>> flipped_boxes(np.array([[1, 2, 4, 5, 0], [0, 0, 0, 0, -1]]), 10)
    array([[ 6,  2,  9,  5,  0],
           [ 0,  0,  0,  0, -1]])
    """
    left, top, right, bottom, label = np.moveaxis(boxes, -1, 0)
    mirrored = np.stack([width - right, top, width - left, bottom, label], axis=-1)
    return np.where(label[..., None] < 0, boxes, mirrored)


def moved_boxes(boxes: np.ndarray, by: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes moved with their images; what is left of less than a quarter becomes padding.

    Args:
        boxes: (images, n, 5).
        by: (images, 2): how many pixels down, and to the right.
        size: rows and columns of the images.
    """
    moved = boxes.copy()
    moved[..., :4] += np.tile(by[:, ::-1], 2)[:, None]
    moved[..., :4] = np.clip(moved[..., :4], 0, np.tile(size[::-1], 2))
    before, after = (np.prod(b[..., 2:4] - b[..., :2], axis=-1) for b in (boxes, moved))
    return np.where(((boxes[..., 4] >= 0) & (4 * after >= before))[..., None], moved, _PADDING)


_PADDING = np.array([0, 0, 0, 0, -1], "float32")


class BoxBatches(Batches):
    """Batches `(images, boxes)`, boxes as (images, most, 5)."""

    def _batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        images, boxes = super()._batch(index)
        start = index * self._batch_size
        _, corners, mirrored = (a[start : start + self._batch_size] for a in self._draw())
        size = images.shape[1:3]
        if "crop" in self._augment:
            boxes = moved_boxes(boxes, self._margin - corners, size)
        if "flip" in self._augment:
            boxes = np.where(mirrored[:, None, None], flipped_boxes(boxes, size[1]), boxes)
        return images, boxes


@dataclasses.dataclass(frozen=True, eq=False)
class Boxed(Memory):
    """A part in memory: its labels are boxes, (images, most, 5)."""

    batch_class = BoxBatches

    @property
    def strata(self) -> np.ndarray:
        return np.zeros(len(self), int)


@dataclasses.dataclass(frozen=True, eq=False)
class BoxedStream(Stream):
    """A part that TensorFlow reads while it is used.

    Attributes:
        most: how many boxes an image has, padding included; more are left out.
    """

    most: int = 100

    def _example(self, example: Any, augment: str | None, chance: Any) -> tuple[Any, Any]:
        tf = tensorflow()
        image = self.builder.info.features["image"].decode_example(example["image"])
        objects, (rows, columns) = example["objects"], self.shape[:2]
        old = tf.cast(tf.shape(image)[:2], tf.float32)
        new = tf.round(old * tf.reduce_min(tf.constant([rows, columns], tf.float32) / old))
        extent = tf.cast(tf.maximum(new, 1), tf.int32)
        image = tf.image.resize(tf.cast(image, tf.float32), extent, antialias=True)
        image = tf.image.pad_to_bounding_box(tf.clip_by_value(image, 0, 255), 0, 0, rows, columns)
        top, left, bottom, right = tf.unstack(objects["bbox"] * tf.tile(new, [2]), axis=-1)
        if "flip" in (augment or ""):
            mirrored = tf.random.stateless_uniform((), chance[2]) < 0.5
            image = tf.where(mirrored, image[:, ::-1], image)
            left, right = (tf.where(mirrored, columns - b, a)
                           for a, b in ((left, right), (right, left)))  # fmt: skip
        label = tf.cast(objects["label"], tf.float32)
        boxes = tf.stack([left, top, right, bottom, label], axis=-1)
        boxes = tf.boolean_mask(boxes, self._wanted(tf, objects, boxes))[: self.most]
        padding = tf.tile(tf.constant(_PADDING)[None], [self.most - tf.shape(boxes)[0], 1])
        boxes = tf.ensure_shape(tf.concat([boxes, padding], axis=0), (self.most, 5))
        return tf.ensure_shape(image, self.shape), boxes

    def _wanted(self, tf: Any, objects: Any, boxes: Any) -> Any:
        """Which boxes count: neither crowds nor difficult ones, nor what has no area."""
        wanted = tf.reduce_all(boxes[:, 2:4] > boxes[:, :2], axis=-1)
        for key in ("is_crowd", "is_difficult"):
            if key in objects:
                wanted = wanted & ~objects[key]
        return wanted
