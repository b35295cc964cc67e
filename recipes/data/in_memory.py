"""Images that are here already: .npz files, and the digits that come with scikit-learn."""

import pathlib
from collections.abc import Sequence

import numpy as np

from keras_iplt.errors import DataError
from keras_iplt.support.extras import required
from keras_iplt.support.npz import opened_npz

from .source import Source, check_labels

__all__ = ["read_digits", "read_npz"]

_NAMES = {
    "train": (("x_train", "y_train"), ("x", "y")),
    "validation": (("x_val", "y_val"),),
    "test": (("x_test", "y_test"),),
}


def read_digits() -> Source:
    """1,797 handwritten digits of 8 × 8 pixels, which scikit-learn brings."""
    x, y = required("sklearn.datasets", "demo", "the digits come with").load_digits(return_X_y=True)
    images = (x.reshape(-1, 8, 8) / 16).astype("float32")
    return Source("digits", {"train": (images, y.astype("int32"))}, tuple("0123456789"))


def read_npz(path: pathlib.Path) -> Source:
    """Examples of an .npz file, never a pickle.

    Args:
        path: an .npz file with x_train and y_train, or x and y; also x_val and y_val, x_test and
            y_test. What else it has is not read.

    Returns:
        A `Source`.
    """
    arrays = {
        part: own for part, pairs in _NAMES.items() if (own := _arrays(path, pairs)) is not None
    }
    if "train" not in arrays:
        raise DataError(f"{path}: expected arrays x_train and y_train, or x and y")
    parts, classes = {}, 0
    for part, (names, x, y) in arrays.items():
        y = check_labels(f"{path}: {names[1]}", y, len(x) if x.ndim else 0, classes or None)
        if part == "train":
            classes = int(y.max(initial=-1)) + 1
        parts[part] = (x, y)
    return Source(path.stem, parts, tuple(map(str, range(classes))))


def _arrays(
    path: pathlib.Path, pairs: Sequence[tuple[str, str]]
) -> tuple[tuple[str, str], np.ndarray, np.ndarray] | None:
    """The first pair of names that a file has, and its arrays; None if it has none of them."""
    with opened_npz(path, "expected an .npz file of named arrays of numbers") as file:
        for pair in pairs:
            found = [name for name in pair if name in file.files]
            if len(found) == 1:
                raise DataError(
                    f"{path}: expected {pair[0]} and {pair[1]}, received: {found[0]} alone"
                )
            if found:
                return pair, file[pair[0]], file[pair[1]]
        return None
