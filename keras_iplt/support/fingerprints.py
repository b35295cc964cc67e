"""A short text that tells models and data apart."""

import hashlib
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

__all__ = ["fingerprint", "of_data"]

_ROWS = 256  # of each array of data


def fingerprint(parts: Iterable[Any] = (), arrays: Iterable[Any] = ()) -> str:
    """The same text for the same things.

    Args:
        parts: of which `repr` tells all that counts.
        arrays: whose numbers count.
    """
    found = hashlib.sha256()
    for part in parts:
        found.update(repr(part).encode())
    for array in arrays:
        array = np.ascontiguousarray(array)
        found.update(f"{array.shape} {array.dtype}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def of_data(data: Any) -> str:
    """Of arrays by their first rows; of what has to be gone through to be read, by its class."""
    leaves = [x for x in keras.tree.flatten(data) if x is not None]
    arrays = [x for x in leaves if hasattr(x, "shape") and hasattr(x, "__getitem__")]
    others = [type(x).__name__ for x in leaves if not hasattr(x, "shape")]
    shapes = [tuple(x.shape) for x in arrays]
    return fingerprint([shapes, others], [np.asarray(x[:_ROWS]) for x in arrays])
