"""What a source of images has, before it is cut into parts."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from keras_iplt.errors import DataError

__all__ = ["Arrays", "Source", "check_labels"]

Arrays: TypeAlias = tuple[np.ndarray, np.ndarray]  # images and labels


@dataclasses.dataclass(frozen=True)
class Source:
    """Examples of a source.

    Attributes:
        name: the name of the data set.
        parts: train and, where there are any, validation and test: (images, labels) each, or what
            reads them as a stream.
        classes: their names.
        augment: what is usual for these images.
        complete: whether every class must have examples to train on.
    """

    name: str
    parts: Mapping[str, Any]
    classes: tuple[str, ...]
    augment: str | None = None
    complete: bool = True


def check_labels(where: str, labels: Any, count: int, classes: int | None = None) -> np.ndarray:
    """Labels as int32, one for each of `count` images.

    Args:
        where: what has them, for messages.
        labels: an array; a second axis of length one is left out.
        count: how many there must be.
        classes: how many classes there are, if that is known.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "biuf":
        raise DataError(
            f"{where}: expected one class per image, as integers from 0, received labels of shape "
            f"{labels.shape}, {labels.dtype}"
        )
    if len(labels) != count:
        raise DataError(
            f"{where}: expected as many labels as images, received: {len(labels)} labels, {count} "
            "images"
        )
    most = classes or count  # every class has an image to be trained on
    right = np.isfinite(labels) & (labels == np.floor(labels)) & (labels >= 0) & (labels < most)
    if not right.all():
        wrong = labels[~right]
        expected = "from 0"
        if classes or wrong[0] >= most:
            expected = f"from 0 to {most - 1}" + ("" if classes else ", an image for each")
        raise DataError(f"{where}: expected classes {expected}, received: {wrong[0]}")
    return labels.astype("int32")
