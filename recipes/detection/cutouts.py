"""What boxes show, cut out: images with a class each, of the same data that detectors have."""

import dataclasses

import numpy as np

from keras_iplt.errors import DataError

from ..data import Data
from ..data.dataset import Memory, Part
from ..data.images import resized
from .batches import Boxed

__all__ = ["cutouts"]


def cutouts(data: Data) -> Data:
    """A data set for classifiers: each box of each image, as large as the images were.

    Args:
        data: of `recipes.detection.load`, in memory.

    Example:

    >>> from recipes import detection
    >>> digits = detection.load("digits", size=32, take={"train": 16, "validation": 1, "test": 1})
    >>> images, labels = detection.cutouts(digits).arrays("train", take=12)
    >>> images.shape, labels.shape
    ((12, 32, 32, 3), (12,))
    """
    parts: dict[str, Part] = {}
    for name, part in data.parts.items():
        if not isinstance(part, Boxed):
            raise DataError(
                f"{data.name}: boxes are cut out of images in memory, and these are streamed: give "
                "a folder in the format of Pascal VOC or COCO"
            )
        parts[name] = _cut_out(part, data.input_shape[:2])
    return dataclasses.replace(data, name=f"{data.name}, cut out", parts=parts)


def _cut_out(part: Boxed, size: tuple[int, int]) -> Memory:
    images, labels = [], []
    for image, boxes in zip(part.images, part.labels, strict=True):
        for *box, label in boxes[boxes[:, 4] >= 0].tolist():
            left, top = map(int, box[:2])
            right, bottom = max(left + 1, round(box[2])), max(top + 1, round(box[3]))
            images.append(resized(image[None, top:bottom, left:right], size)[0])
            labels.append(label)
    return Memory(np.array(images, "uint8").reshape(-1, *size, 3), np.array(labels, "int32"))
