"""Images with boxes in them: fitted into a frame, checked and made alike."""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from keras_iplt.errors import DataError
from keras_iplt.support.text import warn

from ..data.decoding import fitting, tensorflow
from ..data.folders import decoded

__all__ = ["Annotated", "Annotations", "Reports", "fitted", "padded", "read_images"]

_LIMIT = 16 * 2**30  # bytes of memory for all images
_MOST = 1000  # boxes of an image


@dataclasses.dataclass(frozen=True)
class Annotated:
    """An image in a file, and where what is to see in it.

    Attributes:
        file: the image.
        boxes: (n, 5): left, top, right and bottom in its pixels, and the class.
    """

    file: pathlib.Path
    boxes: np.ndarray


@dataclasses.dataclass(frozen=True)
class Annotations:
    """What a folder has.

    Attributes:
        parts: train and, where there are any, validation and test.
        classes: their names.
        reports: what was found on the way.
    """

    parts: dict[str, list[Annotated]]
    classes: tuple[str, ...]
    reports: "Reports"


class Reports:
    """Boxes that are not taken as they are, told of in one warning."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, str]] = {}  # what, how many, and the first place

    def add(self, what: str, count: int, where: object) -> None:
        """Another `count` boxes of a kind."""
        if count:
            before, first = self._counts.get(what, (0, str(where)))
            self._counts[what] = before + int(count), first

    def tell(self, name: str) -> None:
        """Warns, if there is anything to say."""
        said = [
            f"{count} {'box' if count == 1 else 'boxes'} {what} (first in {first})"
            for what, (count, first) in self._counts.items()
        ]
        if said:
            warn(f"{name}: {'; '.join(said)}", stacklevel=5)


def checked(boxes: np.ndarray, shape: Sequence[int], where: object, reports: Reports) -> np.ndarray:
    """Boxes within an image of a size: cut at its edge, and without those that have no area there.

    Args:
        boxes: (n, 5), in pixels of the image.
        shape: rows and columns of the image.
        where: what has them, for messages.
        reports: what is told of those that are changed.
    """
    if not np.isfinite(boxes).all():
        raise DataError(f"{where}: expected boxes of finite numbers, received: NaN or infinity")
    if len(boxes) > _MOST:
        raise DataError(f"{where}: expected at most {_MOST:,} boxes, received: {len(boxes):,}")
    corners = np.clip(boxes[:, :4], 0, np.tile(shape[1::-1], 2))
    out = (np.abs(corners - boxes[:, :4]) > 1).any(axis=1)
    area = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    reports.add("without an area inside the image are left out", (~area).sum(), where)
    reports.add("that reach out of the image are cut at its edge", (out & area).sum(), where)
    return np.concatenate([corners, boxes[:, 4:]], axis=1)[area].astype("float32")


def fitted(
    image: np.ndarray, boxes: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """An image in a frame of a size, as large as its aspect allows, black below or beside it.

    Args:
        image: (rows, columns, 3), uint8.
        boxes: (n, 5), in its pixels.
        size: rows and columns of the frame.

    Returns:
        The framed image, and the boxes in pixels of the frame.
    """
    old = np.array(image.shape[:2])
    new = np.clip(np.rint(old * min(np.array(size) / old)).astype(int), 1, size)
    frame = np.zeros((*size, image.shape[2]), "uint8")
    with tensorflow().device("CPU"):
        frame[: new[0], : new[1]] = fitting(image, (int(new[0]), int(new[1]))).numpy()
    moved = boxes.astype("float32", copy=True)
    moved[:, :4] *= np.tile((new / old)[::-1], 2)
    return frame, moved


def read_images(
    name: str, examples: Sequence[Annotated], size: tuple[int, int], reports: Reports
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The images of a part in frames, uint8, and the boxes of each."""
    if len(examples) * 3 * size[0] * size[1] > _LIMIT:
        raise DataError(
            f"{name}: {len(examples):,} images of {size} do not fit into memory; make them smaller "
            "by size=, or prepare them with TensorFlow Datasets, which streams"
        )
    images, boxes = np.empty((len(examples), *size, 3), "uint8"), []
    for index, example in enumerate(examples):
        image = decoded(example.file, None)
        inside = checked(example.boxes, image.shape, example.file, reports)
        images[index], own = fitted(image, inside, size)
        boxes.append(own)
    return images, boxes


def padded(boxes: Iterable[np.ndarray], most: int) -> np.ndarray:
    """(images, most, 5): the boxes of each image, and rows of the class -1 behind them."""
    boxes = list(boxes)
    result = np.zeros((len(boxes), most, 5), "float32")
    result[..., 4] = -1
    for index, own in enumerate(boxes):
        result[index, : len(own)] = own
    return result
