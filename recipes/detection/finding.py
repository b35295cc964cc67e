"""From what a detector says to boxes, and how good they are."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_iplt.errors import OptionError

from ..data import Data
from .anchors import Cells
from .average_precision import AveragePrecision, average_precision
from .matching import changed
from .overlap import without_duplicates

__all__ = ["Decoded", "chosen", "evaluated", "found", "with_boxes"]

CLASSES = 9  # the column of the first class in what a detector says


@keras.saving.register_keras_serializable("keras_iplt")
class Decoded(keras.layers.Layer):
    """Boxes, cut at the edge of the frame, and scores of the classes.

    Args:
        frame: rows and columns of the image.
        objectness: whether classes do not exclude each other, and stand behind how sure it is that
            there is anything, as YOLOX has them; else they stand behind the background.
    """

    def __init__(self, frame: Sequence[int], objectness: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.frame, self.objectness = tuple(frame), objectness

    def call(self, said: Any) -> tuple[Any, Any]:
        boxes = changed(said[..., :4], said[..., 4:8])
        edge = np.array([*self.frame[::-1], *self.frame[::-1]], "float32")
        if self.objectness:
            scores = ops.sigmoid(said[..., 8:9]) * ops.sigmoid(said[..., 9:])
        else:
            scores = ops.softmax(said[..., 8:])[..., 1:]
        return ops.minimum(ops.maximum(boxes, 0.0), edge), scores

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "frame": self.frame, "objectness": self.objectness}


def with_boxes(detector: keras.Model) -> keras.Model:
    """A detector whose outputs are boxes (batch, n, 4) and scores (batch, n, classes), to ship.

    What it finds twice is left to `chosen`.
    """
    boxes, scores = _decoded(detector)(_of_boxes(detector).output)
    return keras.Model(detector.inputs[0], {"boxes": boxes, "scores": scores}, name=detector.name)


def chosen(
    boxes: np.ndarray, scores: np.ndarray, least: float = 0.05, overlap: float = 0.5,
    most: int = 100,
) -> np.ndarray:  # fmt: skip
    """What is seen in one image: the best boxes, none of them twice.

    Args:
        boxes, scores: (n, 4) and (n, classes), of a model that `with_boxes` made.
        least: boxes with a lower score are left out.
        overlap: how much two boxes of a class may have in common.
        most: how many there are at most.

    Returns:
        (m, 6): left, top, right, bottom, class and score, best first.
    """
    place, label = np.nonzero(scores >= least)
    score = scores[place, label]
    best = np.argsort(-score, kind="stable")[:1000]
    place, label, score = place[best], label[best], score[best]
    left = without_duplicates(boxes[place], score, label, overlap, most)
    rows = [boxes[place[left]], label[left, None], score[left, None]]
    return np.concatenate(rows, axis=1)


def found(detector: keras.Model, images: Any, **options: Any) -> list[np.ndarray]:
    """What a detector sees in images: for each an array as of `chosen`.

    Args:
        detector: as `ssd` makes it.
        images: an array.
        **options: of `chosen`.
    """
    return _seen(detector, detector.predict(images, verbose=0), **options)


def evaluated(detector: keras.Model, data: Data, part: str = "test") -> AveragePrecision:
    """How well a detector finds what is in a part of data.

    Args:
        detector: as `ssd` makes it.
        data: of `recipes.detection.load`.
        part: "train", "validation" or "test".
    """
    check_classes(detector, data)
    truths: list[np.ndarray] = []
    seen: list[np.ndarray] = []
    for images, boxes in _batches(data, part):
        seen += _seen(detector, detector.predict_on_batch(images))
        truths += list(boxes)
    return average_precision(seen, truths, len(data.classes))


def check_classes(detector: keras.Model, data: Data) -> None:
    """Refuses data of other classes than a detector has."""
    classes = _of_boxes(detector).output.shape[-1] - CLASSES
    if classes != len(data.classes):
        raise OptionError(
            f"expected a detector of the {len(data.classes)} classes of {data.name}, received one "
            f"of {classes}: make it with classes={len(data.classes)}"
        )
    frame = tuple(detector.inputs[0].shape[1:3])
    if frame != data.input_shape[:2]:
        raise OptionError(
            f"expected a detector of images of {data.input_shape[:2]} as {data.name} has them, "
            f"received one of {frame}: load the data with size={frame}"
        )


def _of_boxes(detector: keras.Model) -> keras.Layer:
    """The layer that says something of the boxes that are found, last of all."""
    return detector.get_layer("detections")


def _decoded(detector: keras.Model) -> Decoded:
    frame = tuple(detector.inputs[0].shape[1:3])
    return Decoded(frame, isinstance(_of_boxes(detector), Cells), name="decoded")


def _seen(detector: keras.Model, said: Any, **options: Any) -> list[np.ndarray]:
    """What is seen in each image of a batch, of what a detector said."""
    count = _of_boxes(detector).output.shape[1]
    both = _decoded(detector)(ops.convert_to_tensor(said[:, -count:]))
    boxes, scores = map(ops.convert_to_numpy, both)
    return [chosen(*pair, **options) for pair in zip(boxes, scores, strict=True)]


def _batches(data: Data, part: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for images, boxes in data.batches(part, training=False):
        yield ops.convert_to_numpy(images), np.asarray(boxes)
