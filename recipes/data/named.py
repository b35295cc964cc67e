"""Data sets by name, through TensorFlow Datasets."""

import dataclasses
import difflib
import os
import pathlib
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_iplt.errors import DataError, MissingExtraError, OptionError
from keras_iplt.support.extras import required

from .decoding import fitting, tensorflow
from .source import Arrays, Source, check_labels
from .streams import Stream

__all__ = ["KNOWN", "opened", "read_named", "unknown"]

_LIMIT = 4 * 2**30  # bytes of images in memory; more is streamed


@dataclasses.dataclass(frozen=True)
class _Usual:
    """How a data set is used in the literature.

    Attributes:
        splits: the names of splits in TensorFlow Datasets, by part.
        size: what images are resized to.
        augment: what is done to training images.
        without: classes that are left out.
        streamed: whether it never fits into memory.
    """

    splits: dict[str, str] = dataclasses.field(
        default_factory=lambda: {"train": "train", "test": "test"}
    )
    size: tuple[int, int] | None = None
    augment: str | None = None
    without: tuple[str, ...] = ()
    streamed: bool = False


KNOWN = {
    "caltech101": _Usual(size=(224, 224), without=("background_google",)),
    "cifar10": _Usual(augment="crop_flip"),
    "cifar100": _Usual(augment="crop_flip"),
    "imagenet2012": _Usual(  # the labels of its test split are secret
        {"train": "train", "test": "validation"}, (224, 224), "zoom_flip", streamed=True
    ),
    "mnist": _Usual(),
    "svhn_cropped": _Usual(),
}


def read_named(name: str, size: tuple[int, int] | None, data_dir: Any, download: bool) -> Source:
    """A data set of TensorFlow Datasets.

    Args:
        name: as TensorFlow Datasets calls it, perhaps with a config and a version.
        size: (rows, columns), or None for the usual one.
        data_dir: where data sets are prepared; TensorFlow Datasets has a default.
        download: whether to download and prepare it where that has not been done.

    Returns:
        A `Source`.
    """
    tfds, builder = opened(name, data_dir, download)
    images, labels = _features(builder, name)
    usual = KNOWN.get(_base(name)) or _Usual(_splits(builder, name))
    size = size or usual.size or images.shape[:2]
    if None in size:
        raise OptionError(
            f"size: expected (rows, columns), as the images of {name!r} differ in size; received: "
            "None"
        )
    shape = (*size, images.shape[2])
    counts = {part: _count(builder, split) for part, split in usual.splits.items()}
    if usual.streamed or sum(counts.values()) * np.prod(shape, dtype=float) > _LIMIT:
        streams = {
            part: Stream(tfds, builder, split, shape, 0, counts[part])
            for part, split in usual.splits.items()
        }
        return Source(name, streams, tuple(labels.names), usual.augment, complete=False)
    parts, names = {}, list(labels.names)
    for part, split in usual.splits.items():
        x, y = _read(builder, split, None if size == tuple(images.shape[:2]) else size)
        parts[part] = x, check_labels(f"{name}: {part}", y, len(x), len(names))
    for left_out in usual.without:
        if left_out in names:
            parts = {part: _without(*own, names.index(left_out)) for part, own in parts.items()}
            names.remove(left_out)
    return Source(name, parts, tuple(names), usual.augment, complete=False)


def opened(
    name: str, data_dir: Any, download: bool, known: Iterable[str] = KNOWN
) -> tuple[Any, Any]:
    """The module tensorflow_datasets, and the builder of a data set, prepared: see `read_named`."""
    try:
        tfds = required("tensorflow_datasets", "data", f"the data set {name!r} needs")
    except MissingExtraError:
        if _base(name) not in known:
            raise unknown(name, (), known) from None
        raise
    builder = _builder(tfds, name, data_dir, known)
    _prepare(builder, name, download)
    return tfds, builder


def _base(name: str) -> str:
    return name.partition("/")[0].partition(":")[0]


def unknown(name: str, more: Iterable[str], known: Iterable[str] = KNOWN) -> OptionError:
    """The error for a data set that nobody knows, with names that look like it."""
    known = ["digits", *known]
    close = difflib.get_close_matches(str(name).lower(), {*known, *more}, 3, 0.6)
    hint = f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
    rest = "" if more else ", for which pip install 'keras-iplt[data]'"
    files = "an .npz file or a folder of images" if "mnist" in known else "a folder"
    return OptionError(
        f"source: expected {', '.join(known)}, another name of TensorFlow Datasets{rest}, {files}; "
        f"received: {str(name)!r}{hint}"
    )


def _builder(tfds: Any, name: str, data_dir: Any, known: Iterable[str]) -> Any:
    try:
        return tfds.builder(name, data_dir=None if data_dir is None else os.fspath(data_dir))
    except ImportError as error:
        raise MissingExtraError(
            f"the data set {name!r} cannot be read without another package ({error}): "
            "pip install 'keras-iplt[data]'"
        ) from error
    except Exception as error:  # of many kinds, some with the names of all data sets
        names = tfds.list_builders(with_community_datasets=False)
        if _base(name) not in names:
            raise unknown(name, names, known) from error
        raise OptionError(f"source: {name!r}: {_line(error)}") from error


def _prepare(builder: Any, name: str, download: bool) -> None:
    """Downloads if need be and allowed; says what to do if not."""
    place = builder.data_path
    if (place / "dataset_info.json").exists():
        return
    advice = (
        f"not prepared in {place}. data_dir= names another directory of TensorFlow Datasets; with "
        "a network, download=True fetches and prepares it"
    )
    if not download:
        by_hand = getattr(builder, "MANUAL_DOWNLOAD_INSTRUCTIONS", None)
        by_hand = f", once {' '.join(by_hand.split())}" if by_hand else ""
        raise DataError(f"{name}: {advice}{by_hand}")
    for host in _hosts(builder):
        try:
            socket.getaddrinfo(host, 443)
        except OSError as error:  # TensorFlow Datasets would try for minutes
            raise DataError(
                f"{name}: {host} cannot be reached ({error}), and it is {advice}"
            ) from error
    try:
        builder.download_and_prepare()
    except Exception as error:  # anything: of the network, the disk, the archive
        raise DataError(f"{name}: downloading or preparing it failed: {error}") from error


def _hosts(builder: Any) -> list[str]:
    """Where what is missing of a data set comes from, if that is known and no proxy is between."""
    if urllib.request.getproxies() or getattr(builder, "MANUAL_DOWNLOAD_INSTRUCTIONS", None):
        return []
    notes = pathlib.Path(builder.data_dir).parents[1].joinpath("downloads").glob("*.INFO")
    there = "".join(note.read_text(errors="replace") for note in notes)
    urls = [str(url) for url in getattr(builder, "url_infos", None) or ()]
    hosts = {urllib.parse.urlsplit(url).hostname for url in urls if url not in there}
    return sorted(host for host in hosts if host)


def _features(builder: Any, name: str) -> tuple[Any, Any]:
    """The features that are the image and its class."""
    features = builder.info.features  # much like a mapping, but not one
    there = list(features.keys()) if hasattr(features, "keys") else []
    image, label = (features[key] if key in there else None for key in ("image", "label"))
    names, shape = getattr(label, "names", None), getattr(image, "shape", None)
    depth = getattr(image, "np_dtype", getattr(image, "dtype", None))
    if names is None or shape is None or len(shape) != 3 or np.dtype(depth) != np.uint8:
        raise DataError(
            f"{name}: expected a data set of uint8 images with a class each ('image', 'label'), "
            f"received: {', '.join(there) or type(features).__name__}"
        )
    return image, label


def _splits(builder: Any, name: str) -> dict[str, str]:
    """Which splits are the parts; what there is beside training data is for testing."""
    there = list(builder.info.splits)
    if "train" not in there:
        raise DataError(f"{name}: expected a split 'train', received: {', '.join(there) or 'none'}")
    parts = {part: part for part in ("train", "validation", "test") if part in there}
    if "validation" in parts and "test" not in parts:
        parts["test"] = parts.pop("validation")
    return parts


def _count(builder: Any, split: str) -> int:
    splits = builder.info.splits
    return int(splits[split].num_examples) if split in splits else 0


def _read(builder: Any, split: str, size: tuple[int, int] | None) -> Arrays:
    """All images and labels of a split, in the order in which they are stored."""
    tf = tensorflow()
    with tf.device("CPU"):
        examples = builder.as_dataset(split=split, shuffle_files=False)
        examples = examples.map(
            lambda example: (fitting(example["image"], size), example["label"]),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        batches = list(examples.batch(256).prefetch(2).as_numpy_iterator())
    if not batches:
        raise DataError(f"{builder.info.name}: the split {split!r} is empty")
    images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    return images, labels


def _without(images: np.ndarray, labels: np.ndarray, label: int) -> Arrays:
    own = labels != label
    return images[own], labels[own] - (labels[own] > label).astype("int32")


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
