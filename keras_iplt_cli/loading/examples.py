"""Images and labels from .npz files."""

import dataclasses
import os
import pathlib

import numpy as np

from keras_iplt.errors import DataError
from keras_iplt.support.npz import opened_npz

__all__ = ["Examples", "load_examples"]

_PAIRS = (("x", "y"), ("x_test", "y_test"), ("x_val", "y_val"), ("images", "labels"))


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples from a file.

    Attributes:
        x: what goes into a model.
        y: the labels, or None where there are none.
        names: what the file calls the two.
    """

    x: np.ndarray
    y: np.ndarray | None
    names: tuple[str, ...]

    @property
    def data(self) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """As functions of keras_iplt take it."""
        return self.x if self.y is None else (self.x, self.y)


def load_examples(path: str | os.PathLike[str], take: int | None = None) -> Examples:
    """Reads examples from an .npz file, never a pickle.

    Args:
        path: an .npz file with arrays x and y, x_test and y_test, x_val and y_val, or images and
            labels; the first of these that it has is taken. Labels may be missing.
        take: how many examples, from the beginning; all by default.

    Returns:
        An `Examples`.
    """
    path = pathlib.Path(path)
    expected = f"expected an .npz file with arrays {', or '.join(map(' and '.join, _PAIRS))}"
    if not path.exists():
        raise DataError(f"{path}: no such file")
    with opened_npz(path, expected) as file:
        pair = next((p for p in _PAIRS if p[0] in file.files), None)
        if pair is None:
            raise DataError(f"{path}: {expected}; received: {', '.join(file.files) or 'none'}")
        names = tuple(name for name in pair if name in file.files)
        lengths = {name: (file.shape(name) or (0,))[0] for name in names}
        if len({*lengths.values()}) > 1:
            found = ", ".join(f"{length} in {name!r}" for name, length in lengths.items())
            raise DataError(f"{path}: expected as many labels as examples, received: {found}")
        x, *rest = (file.read(name, take) for name in names)
    return _checked(path, x, rest[0] if rest else None, names)


def _checked(
    path: pathlib.Path,
    x: np.ndarray,
    y: np.ndarray | None,
    names: tuple[str, ...],
) -> Examples:
    for name, array in zip(names, (x,) if y is None else (x, y), strict=True):
        if array.ndim == 0 or array.dtype.kind not in "biuf":
            raise DataError(
                f"{path}: {name!r}: expected an array of numbers, one row per example; received: "
                f"shape {array.shape}, {array.dtype}"
            )
    if not len(x):
        raise DataError(f"{path}: {names[0]!r} is empty")
    return Examples(x, y, names)
