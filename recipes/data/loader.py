"""Loading a data set, wherever it is."""

import collections.abc
import os
import pathlib
from typing import Any

import numpy as np

from keras_iplt.errors import DataError, OptionError
from keras_iplt.support.arguments import check_count, check_share, is_integer, is_real

from .dataset import PARTS, Data, Memory, Part, check_take
from .folders import read_folder
from .images import AUGMENTATIONS, Handling, check_images, resized, scaled
from .in_memory import read_digits, read_npz
from .named import KNOWN, read_named, unknown
from .source import Source

__all__ = ["checked_size", "checked_take", "cut", "load"]

_TEST_SHARE = 0.2


def load(
    source: str | os.PathLike[str], *, size: int | tuple[int, int] | None = None,
    scaling: Any = "scale", augment: str | None = "usual", batch_size: int = 128,
    validation: float = 0.1, take: int | collections.abc.Mapping[str, int] | None = None,
    seed: int = 0, data_dir: str | os.PathLike[str] | None = None, download: bool = False,
) -> Data:  # fmt: skip
    """Loads images with a class each.

    Args:
        source: "digits" (scikit-learn's), "mnist", "cifar10", "cifar100", "svhn_cropped",
            "caltech101", "imagenet2012" or another name of TensorFlow Datasets; an .npz file with
            x_train, y_train, x_test and y_test, or x and y; or a folder with a folder of images for
            each class, or with folders train and test of such.
        size: (rows, columns) to resize images to, or one number for both. As they are unless told,
            but for caltech101 and imagenet2012: 224.
        scaling: "scale" to [0, 1], as `keras.applications` does by "tf", "torch" or "caffe", or
            (mean, standard deviation) of pixels in [0, 1]. None leaves the numbers as they are.
        augment: what is done to training images: "crop" (moved by up to an eighth of the side,
            black behind), "flip" (left and right, half of the time), "crop_flip", None, or "usual":
            "crop_flip" for CIFAR, "zoom_flip" for ImageNet, None for all others. "zoom_flip" takes
            a part of the image, of any size: only for data that do not fit into memory.
        batch_size: how many examples a batch has.
        validation: the share of the training examples that becomes the validation part, where the
            source has none; 0 for no such part.
        take: how many training examples, or `{part: number}`, of what is in the parts otherwise.
            About the same share of every class is taken, at least one example of each; of data that
            do not fit into memory, the first ones.
        seed: a number that the validation part, what is taken, order and augmentation follow from.
        data_dir: where TensorFlow Datasets keeps what it has prepared.
        download: whether TensorFlow Datasets may download and prepare it.

    Returns:
        A `Data`. Its parts are train, test (a fifth of the examples, the same for all seeds, where
        the source has no test part) and validation.

    Example:

    >>> from recipes import data
    >>> data.load("digits", size=32, augment="flip", take=500, batch_size=64)
    <digits: 500 train, 144 validation, 359 test; images (32, 32, 1), 10 classes>
    """
    size, augment = checked_size(size), _augment(augment)
    check_count("batch_size", batch_size)
    check_share("validation", validation)
    take = checked_take(take)
    if not is_integer(seed) or seed < 0:
        raise OptionError(f"seed: expected an integer from 0, received: {seed!r}")
    scaled(scaling, None, 255)  # before long work
    found = _found(source, size, data_dir, download)
    if augment == "usual":
        augment = found.augment
    parts, shape, top = _prepared(found, size, scaling)
    if "zoom" in (augment or "") and isinstance(parts["train"], Memory):
        raise OptionError(
            f"augment: expected 'crop', 'flip', 'crop_flip' or None for data in memory, such as "
            f"{found.name}; received: {augment!r}"
        )
    parts = cut(found, parts, validation, take, seed)
    if len(parts["train"]) < batch_size:
        raise DataError(
            f"{found.name}: expected at least one batch of {batch_size} to train on, received: "
            f"{len(parts['train'])} examples; see batch_size="
        )
    handling = Handling(scaled(scaling, shape[-1], top), augment, int(batch_size), int(seed))
    return Data(found.name, found.classes, shape, parts, handling)


# -- options ---------------------------------------------------------------------------------------


def checked_size(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = (size, size) if is_real(size) else size
    if not isinstance(pair, collections.abc.Sequence) or len(pair) != 2:
        raise OptionError(f"size: expected an integer or (rows, columns), received: {size!r}")
    return check_count("size", pair[0]), check_count("size", pair[1])


def _augment(augment: str | None) -> str | None:
    if augment is not None and augment not in ("usual", *AUGMENTATIONS):
        raise OptionError(
            f"augment: expected 'usual', {', '.join(map(repr, AUGMENTATIONS))} or None, received: "
            f"{augment!r}"
        )
    return augment


def checked_take(take: Any) -> collections.abc.Mapping[str, int]:
    """How many examples to take of a part: part -> number."""
    if not isinstance(take, collections.abc.Mapping):
        take = {} if take is None else {"train": take}
    for part, count in take.items():
        if part not in PARTS:
            raise OptionError(f"take: expected the parts {', '.join(PARTS)}, received: {part!r}")
        check_count(f"take: {part}", count)
    return take


# -- sources ---------------------------------------------------------------------------------------


def _found(source: Any, size: tuple[int, int] | None, data_dir: Any, download: bool) -> Source:
    """What a source has."""
    try:
        path = pathlib.Path(source).expanduser()
    except (TypeError, RuntimeError) as error:
        raise OptionError(f"source: expected a name or a path, received: {source!r}") from error
    name = source if isinstance(source, str) else None
    if name == "digits":
        return read_digits()
    if name is not None and not name.strip():
        raise unknown(name, ())
    if name is not None and (name in KNOWN or not _is_path(name, path)):
        return read_named(name, size, data_dir, download)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_dir():
        return read_folder(path, size)
    if path.suffix.lower() != ".npz":
        raise DataError(f"{path}: expected an .npz file or a folder, received: another file")
    return read_npz(path)


def _is_path(name: str, path: pathlib.Path) -> bool:
    """Whether a string means a file; `a/b` without a file there may be a data set's config."""
    return path.exists() or path.suffix.lower() == ".npz" or name.startswith((".", "~", os.sep))


# -- parts -----------------------------------------------------------------------------------------


def _prepared(
    found: Source, size: tuple[int, int] | None, scaling: Any
) -> tuple[dict[str, Part], Any, int]:
    """The parts as they are batched from, the shape of an image, and what stands for white."""
    if not isinstance(found.parts["train"], tuple):  # streams, which resize as they go
        return dict(found.parts), found.parts["train"].shape, 255
    checked = {
        part: check_images(f"{found.name}: {part}", images, scaling)
        for part, (images, _) in found.parts.items()
    }
    shape, top = checked["train"][0].shape[1:], checked["train"][1]
    for part, (images, white) in checked.items():
        if (images.shape[1:], white) != (shape, top):
            raise DataError(
                f"{found.name}: expected images as in train, {shape} up to {top}, received in "
                f"{part}: {images.shape[1:]} up to {white}"
            )
    _check_classes(found, found.parts["train"][1])
    parts: dict[str, Part] = {
        part: Memory(images if size is None else resized(images, size), found.parts[part][1])
        for part, (images, _) in checked.items()
    }
    return parts, (*(size or shape[:2]), shape[2]), top


def _check_classes(found: Source, labels: np.ndarray) -> None:
    if not found.complete:
        return
    if len(found.classes) < 2:
        raise DataError(f"{found.name}: expected two classes or more, received: one")
    empty = np.flatnonzero(np.bincount(labels, minlength=len(found.classes)) == 0)
    if len(empty):
        names = ", ".join(found.classes[index] for index in empty[:5])
        raise DataError(
            f"{found.name}: expected training examples of all {len(found.classes)} classes, "
            f"received none of: {names}{' …' if len(empty) > 5 else ''}"
        )


def cut(
    found: Source, parts: dict[str, Part], validation: float,
    take: collections.abc.Mapping[str, int], seed: int,
) -> dict[str, Part]:  # fmt: skip
    """Parts that are missing split off, and of each what is asked for."""
    if "test" not in parts:
        # By no one's seed: what is tested on must not change between runs.
        parts["train"], parts["test"] = _split(found, parts["train"], _TEST_SHARE, 0, "test")
    if "validation" not in parts and validation:
        parts["train"], parts["validation"] = _split(
            found, parts["train"], validation, seed, "validation"
        )
    for part, count in take.items():
        if part not in parts:
            raise OptionError(f"take: expected the parts {', '.join(parts)}, received: {part!r}")
        check_take(f"take: {part}", count, parts[part])
        parts[part] = parts[part].taken(count, seed)
    return {part: parts[part] for part in PARTS if part in parts}


def _split(found: Source, part: Part, share: float, seed: int, name: str) -> tuple[Part, Part]:
    count = round(share * len(part))
    if count < 1 or len(part) - count < part.least():
        raise DataError(
            f"{found.name}: {len(part)} examples of {part.least()} classes are too few to split "
            f"{share:.0%} off as the {name} part"
        )
    return part.split(share, seed)
