"""Loading images with boxes, wherever they are."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_iplt.errors import DataError, OptionError
from keras_iplt.support.arguments import check_count, check_share, is_integer

from ..data.dataset import Data, Memory
from ..data.images import Handling, scaled
from ..data.loader import checked_size, checked_take, cut
from ..data.named import opened
from ..data.source import Source
from .annotated import padded, read_images
from .batches import Boxed, BoxedStream
from .canvas import digits_on_canvases
from .coco import is_coco, read_coco
from .voc import is_voc, read_voc

__all__ = ["load"]

NAMED = ("coco", "voc")
_AUGMENTATIONS = ("crop", "flip", "crop_flip")
_PARTS = ("train", "validation", "test")


def load(
    source: str | os.PathLike[str] = "digits", *, size: int | tuple[int, int] | None = None,
    scaling: Any = "scale", augment: str | None = "usual", batch_size: int = 16,
    validation: float = 0.1, take: int | Mapping[str, int] | None = None, seed: int = 0,
    classes: Sequence[str] | None = None, data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> Data:  # fmt: skip
    """Loads images with boxes in them.

    Images are fitted into a frame, their aspect kept and black beside them. What a batch has is
    the images and `(images, most, 5)`: left, top, right and bottom in pixels of the frame, and the
    class; rows of the class -1 fill up.

    Args:
        source: "digits" (scikit-learn's, on canvases); a folder in the format of Pascal VOC or of
            COCO; or "coco/2017", "voc/2007" or another name of TensorFlow Datasets.
        size: rows and columns of the frame, or one number for both: 96 for digits, else 300.
        scaling, batch_size, validation, take, seed, data_dir, download: see `recipes.data.load`;
            what is taken is taken at random.
        augment: what is done to training images: "crop" (moved by up to an eighth of the side),
            "flip", "crop_flip" or None; "usual" is "flip", but None for digits. Data of TensorFlow
            Datasets are not moved.
        classes: their names in the order of labels, for folders: others are refused. By default
            those that there are.

    Returns:
        A `recipes.data.Data`.

    Example:

    >>> from recipes import detection
    >>> digits = detection.load("digits", take={"train": 64, "test": 20}, size=64)
    >>> digits
    <digits: 64 train, 100 validation, 20 test; images (64, 64, 3), 10 classes>
    >>> images, boxes = digits.train[0]
    >>> images.shape, boxes.shape
    ((16, 64, 64, 3), (16, 4, 5))
    """
    frame = checked_size(size) or ((96, 96) if source == "digits" else (300, 300))
    if augment not in (None, "usual", *_AUGMENTATIONS):
        raise OptionError(
            f"augment: expected 'usual', {', '.join(map(repr, _AUGMENTATIONS))} or None, received: "
            f"{augment!r}"
        )
    check_count("batch_size", batch_size)
    check_share("validation", validation)
    taken = checked_take(take)
    if not is_integer(seed) or seed < 0:
        raise OptionError(f"seed: expected an integer from 0, received: {seed!r}")
    found = _found(source, frame, classes, data_dir, download)
    if "crop" in (augment or "") and isinstance(found.parts["train"], BoxedStream):
        raise OptionError(
            f"augment: expected 'flip' or None for data that are read while they are used, such as "
            f"{found.name}; received: {augment!r}"
        )
    scaler = scaled(scaling, 3, 255)
    parts = cut(found, dict(found.parts), validation, taken, seed)
    if len(parts["train"]) < batch_size:
        raise DataError(
            f"{found.name}: expected at least one batch of {batch_size} to train on, received: "
            f"{len(parts['train'])} images; see batch_size="
        )
    if isinstance(parts["train"], Memory) and (parts["train"].labels[..., 4] < 0).all():
        raise DataError(f"{found.name}: expected boxes in images to train on, received: none")
    handling = Handling(scaler, found.augment if augment == "usual" else augment,
                        int(batch_size), int(seed))  # fmt: skip
    return Data(found.name, found.classes, (*frame, 3), parts, handling)


def _found(
    source: Any, size: tuple[int, int], classes: Sequence[str] | None, data_dir: Any, download: bool
) -> Source:
    """What a source has."""
    try:
        path = pathlib.Path(source).expanduser()
    except (TypeError, RuntimeError) as error:
        raise OptionError(f"source: expected a name or a path, received: {source!r}") from error
    if source == "digits":
        drawn = list(digits_on_canvases(size))
        return _in_memory("digits", drawn, tuple("0123456789"), None)
    if path.is_dir():
        return _folder(path, size, classes)
    if isinstance(source, str) and not source.startswith((".", "~", os.sep)) and path.suffix == "":
        return _named(source, size, data_dir, download)
    raise DataError(f"{path}: expected a folder; there is none")


def _folder(path: pathlib.Path, size: tuple[int, int], classes: Sequence[str] | None) -> Source:
    for fits, read in ((is_voc, read_voc), (is_coco, read_coco)):
        if fits(path):
            found, name = read(path, classes), path.resolve().name
            images = [(part, *read_images(name, own, size, found.reports))
                      for part, own in found.parts.items() if own]  # fmt: skip
            found.reports.tell(name)
            return _in_memory(name, images, found.classes, "flip")
    raise DataError(
        f"{path}: expected a folder of Pascal VOC (Annotations, JPEGImages) or of COCO "
        f"(annotations/instances_train….json), received: "
        f"{', '.join(sorted(p.name for p in path.iterdir())[:5]) or 'an empty folder'}"
    )


def _in_memory(
    name: str, parts: Sequence[tuple[str, np.ndarray, list[np.ndarray]]], classes: tuple[str, ...],
    augment: str | None,
) -> Source:  # fmt: skip
    most = max((len(own) for _, _, boxes in parts for own in boxes), default=0)
    boxed = {part: Boxed(images, padded(boxes, max(1, most))) for part, images, boxes in parts}
    return Source(name, boxed, classes, augment)


def _named(name: str, size: tuple[int, int], data_dir: Any, download: bool) -> Source:
    """A data set of TensorFlow Datasets, as a stream."""
    tfds, builder = opened(name, data_dir, download, NAMED)
    features = builder.info.features
    there = list(features.keys()) if hasattr(features, "keys") else []
    inner = getattr(features["objects"], "feature", {}) if "objects" in there else {}
    if "image" not in there or "bbox" not in inner or "label" not in inner:
        raise DataError(
            f"{name}: expected a data set of images with boxes ('image', 'objects' with 'bbox' and "
            f"'label'), received: {', '.join(there) or type(features).__name__}"
        )
    splits = {part: part for part in _PARTS if part in builder.info.splits}
    if name.startswith("coco"):  # what its test split shows is secret
        splits = {"train": "train", "test": "validation"}
    parts = {
        part: BoxedStream(tfds, builder, split, (*size, 3), 0,
                          int(builder.info.splits[split].num_examples))
        for part, split in splits.items()
    }  # fmt: skip
    return Source(name, parts, tuple(inner["label"].names), "flip", complete=False)
