"""Images in folders: one for each class."""

import pathlib
from collections.abc import Sequence

import numpy as np

from keras_iplt.errors import DataError

from .decoding import fitting, tensorflow
from .source import Source

__all__ = ["decoded", "read_folder"]

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png"}
_PARTS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
_LIMIT = 16 * 2**30  # bytes of memory for all images
_LARGEST = 2**28  # bytes of one file


def read_folder(path: pathlib.Path, size: tuple[int, int] | None) -> Source:
    """Images of a folder, as RGB.

    Args:
        path: has a folder of images per class, or folders train and, where there are any,
            validation (or val) and test, which do.
        size: (rows, columns), or None if all are of one size.

    Returns:
        A `Source`.
    """
    roots = {"train": path}
    if (path / "train").is_dir() and _folders(path / "train"):
        roots = {
            part: path / name
            for part, names in _PARTS.items()
            for name in names
            if (path / name).is_dir()
        }
    classes = [folder.name for folder in _folders(roots["train"])]
    if len(classes) < 2:
        raise DataError(
            f"{path}: expected a folder of images for each class, received: "
            f"{', '.join(classes) or 'no folders'}"
        )
    files = {part: _files(root, classes) for part, root in roots.items()}
    count = sum(map(len, files.values()))
    parts = {}
    for part, own in files.items():
        images = _read([file for file, _ in own], size, count)
        parts[part] = images, np.array([label for _, label in own], "int32")
        size = images.shape[1], images.shape[2]
    return Source(path.resolve().name, parts, tuple(classes))


def _folders(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        (p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")),
        key=lambda p: p.name,
    )


def _files(root: pathlib.Path, classes: Sequence[str]) -> list[tuple[pathlib.Path, int]]:
    """`(file, label)` of every image."""
    found: list[tuple[pathlib.Path, int]] = []
    for folder in _folders(root):
        if folder.name not in classes:
            raise DataError(
                f"{folder}: expected one of the classes to train on ({', '.join(classes)}), "
                f"received: {folder.name!r}"
            )
        own = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES)
        for file in own:
            if not file.is_file():
                raise DataError(f"{file}: expected an image, received: a device, a pipe or a link")
            if file.stat().st_size > _LARGEST:
                raise DataError(f"{file}: expected an image of less than {_LARGEST:,} bytes")
        if not own:
            raise DataError(
                f"{folder}: expected images ({', '.join(sorted(_SUFFIXES))}), received: none"
            )
        found += [(file, classes.index(folder.name)) for file in own]
    if not found:
        raise DataError(f"{root}: expected a folder of images for each class, received: no folders")
    return found


def _read(files: Sequence[pathlib.Path], size: tuple[int, int] | None, count: int) -> np.ndarray:
    """(files, rows, columns, 3): the images, uint8."""
    first = decoded(files[0], size)
    if first.nbytes * count > _LIMIT:
        raise DataError(
            f"{files[0].parent.parent}: {count:,} images of {first.shape} do not fit into memory; "
            "make them smaller by size=, or prepare them with TensorFlow Datasets, which streams"
        )
    images = np.empty((len(files), *first.shape), "uint8")
    for index, file in enumerate(files):
        image = decoded(file, size) if index else first
        if image.shape != first.shape:
            raise DataError(
                f"{file}: expected images of one size, or size=(rows, columns); received: "
                f"{image.shape[:2]} after {first.shape[:2]}"
            )
        images[index] = image
    return images


def decoded(file: pathlib.Path, size: tuple[int, int] | None) -> np.ndarray:
    tf = tensorflow()
    try:
        with tf.device("CPU"):
            image = tf.io.decode_image(file.read_bytes(), channels=3, expand_animations=False)
            return fitting(image, size).numpy()
    except (tf.errors.InvalidArgumentError, OSError) as error:
        reason = getattr(error, "message", str(error)).partition("{{")[0].strip()
        raise DataError(f"{file}: expected an image; it cannot be read: {reason}") from error
