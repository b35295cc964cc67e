"""What is left of variables and tensors when channels go. Knows ids, not layers."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt.graph.channels import Channels, Shape, Slice

__all__ = [
    "Kept",
    "kept_along",
    "kept_axes",
    "kept_lengths",
    "lengths_left",
    "numbers_of",
    "take",
    "zeroed",
]

Kept = tuple[np.ndarray | None, ...]  # per axis the indices that stay; None: all of them


def kept_axes(variable: keras.Variable, slices: Iterable[Slice], gone: np.ndarray) -> Kept:
    """Per axis of a variable: None (whole) or the sorted indices that stay.

    Args:
        variable: anything with a shape.
        slices: the `Slice`s of this variable.
        gone: mask over all ids, True for those removed.
    """
    kept: list[np.ndarray | None] = [None] * len(variable.shape)
    for piece in slices:
        lost = gone[piece.ids]
        if lost.any():
            kept[piece.axis] = np.flatnonzero(~lost)
    return tuple(kept)


def lengths_left(variable: keras.Variable, kept: Kept) -> tuple[int, ...]:
    """The shape of a variable after channels went."""
    return tuple(int(n) if k is None else len(k) for n, k in zip(variable.shape, kept, strict=True))


def take(value: np.ndarray, kept: Sequence[np.ndarray | None]) -> np.ndarray:
    """The part of an array that stays."""
    for axis, indices in enumerate(kept):
        if indices is not None:
            value = value.take(indices, axis)
    return value


def zeroed(value: np.ndarray, kept: Sequence[np.ndarray | None]) -> np.ndarray:
    """A copy of an array with what goes set to zero."""
    value = np.array(value)
    for axis, indices in enumerate(kept):
        if indices is not None:
            lost = np.ones(value.shape[axis], bool)
            lost[indices] = False
            value[(slice(None),) * axis + (lost,)] = 0
    return value


def kept_along(x: Channels, axis: int, gone: np.ndarray) -> np.ndarray | None:
    """The positions of a tensor that stay along one axis, or None if all do."""
    lost = gone[x.ids]
    axis %= lost.ndim
    if lost.shape[axis] == 1 or not lost.any():
        return None
    lost = lost.all(axis=tuple(a for a in range(lost.ndim) if a != axis))
    return np.flatnonzero(~lost) if lost.any() else None


def kept_lengths(x: Channels, gone: np.ndarray) -> Shape:
    """The shape of a tensor after channels went."""
    kept = (kept_along(x, axis, gone) for axis in range(len(x.shape)))
    return tuple(n if k is None else len(k) for n, k in zip(x.shape, kept, strict=True))


def numbers_of(tensor: Any) -> np.ndarray:
    """The numbers of a tensor or of a variable's value, not to be written to.

    Shares memory where the backend can. (`keras.ops.convert_to_numpy` copies twice on TensorFlow:
    a second for the largest kernel of VGG16, longer than all the rest of planning.)
    """
    value = tensor.value if isinstance(tensor, keras.Variable) else tensor
    if keras.backend.backend() == "torch":
        value = keras.ops.convert_to_numpy(value)
    else:  # on TensorFlow a variable copies; the tensor it reads as does not
        value = np.asarray(value.read_value() if hasattr(value, "read_value") else value)
    standard = value.dtype.kind != "V" and value.dtype.name != "bfloat16"
    return value if standard else value.astype("float32")
