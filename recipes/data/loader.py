"""Loading a data set, wherever it is."""

import collections.abc
import numbers
import os
import pathlib

import numpy as np

from keras_iplt.errors import DataError, OptionError
from keras_iplt.support.arguments import check_count, check_share

from ..data.dataset import PARTS, Data, Handling, Memory, check_take
from ..data.folders import read_folder
from ..data.images import AUGMENTATIONS, check_images, resized, scaled
from ..data.in_memory import read_digits, read_npz
from ..data.named import KNOWN, read_named, unknown

__all__ = ["load"]

_TEST_SHARE = 0.2


def load(
    source, *, size=None, scaling="scale", augment="usual", batch_size=128, validation=0.1,
    take=None, seed=0, data_dir=None, download=False,
):  # fmt: skip
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
    size, augment = _size(size), _augment(augment)
    check_count("batch_size", batch_size)
    check_share("validation", validation)
    take = _take(take)
    if not isinstance(seed, numbers.Integral) or isinstance(seed, bool) or seed < 0:
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
    parts = _cut(found, parts, validation, take, seed)
    if len(parts["train"]) < batch_size:
        raise DataError(
            f"{found.name}: expected at least one batch of {batch_size} to train on, received: "
            f"{len(parts['train'])} examples; see batch_size="
        )
    handling = Handling(scaled(scaling, shape[-1], top), augment, int(batch_size), int(seed))
    return Data(found.name, found.classes, shape, parts, handling)


# -- options ---------------------------------------------------------------------------------------


def _size(size):
    if size is None:
        return None
    pair = (size, size) if isinstance(size, numbers.Number) else size
    if not isinstance(pair, collections.abc.Sequence) or len(pair) != 2:
        raise OptionError(f"size: expected an integer or (rows, columns), received: {size!r}")
    return tuple(check_count("size", number) for number in pair)


def _augment(augment):
    if augment is not None and augment not in ("usual", *AUGMENTATIONS):
        raise OptionError(
            f"augment: expected 'usual', {', '.join(map(repr, AUGMENTATIONS))} or None, received: "
            f"{augment!r}"
        )
    return augment


def _take(take):
    """How many examples to take of a part: part -> number."""
    if not isinstance(take, collections.abc.Mapping):
        take = {} if take is None else {"train": take}
    for part, count in take.items():
        if part not in PARTS:
            raise OptionError(f"take: expected the parts {', '.join(PARTS)}, received: {part!r}")
        check_count(f"take: {part}", count)
    return take


# -- sources ---------------------------------------------------------------------------------------


def _found(source, size, data_dir, download):
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


def _is_path(name, path):
    """Whether a string means a file; `a/b` without a file there may be a data set's config."""
    return path.exists() or path.suffix.lower() == ".npz" or name.startswith((".", "~", os.sep))


# -- parts -----------------------------------------------------------------------------------------


def _prepared(found, size, scaling):
    """The parts as they are batched from, the shape of an image, and what stands for white."""
    if not isinstance(found.parts["train"], tuple):  # streams, which resize as they go
        return dict(found.parts), found.parts["train"].shape, 255
    parts: dict[str, Memory] = {}
    first = None
    for part, (images, labels) in found.parts.items():
        images, top = check_images(f"{found.name}: {part}", images, scaling)
        if first is None:
            first = images.shape[1:], top
        if (images.shape[1:], top) != first:
            raise DataError(
                f"{found.name}: expected images as in train, {first[0]} up to {first[1]}, "
                f"received in {part}: {images.shape[1:]} up to {top}"
            )
        parts[part] = Memory(images, labels)
    _check_classes(found, parts["train"].labels)
    if size is not None:
        parts = {p: Memory(resized(own.images, size), own.labels) for p, own in parts.items()}
    return parts, parts["train"].images.shape[1:], top


def _check_classes(found, labels):
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


def _cut(found, parts, validation, take, seed):
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


def _split(found, part, share, seed, name):
    count = round(share * len(part))
    if count < 1 or len(part) - count < part.least():
        raise DataError(
            f"{found.name}: {len(part)} examples of {part.least()} classes are too few to split "
            f"{share:.0%} off as the {name} part"
        )
    return part.split(share, seed)
