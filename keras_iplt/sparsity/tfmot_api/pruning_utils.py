"""m zeros in every n consecutive weights, for kernels in Keras's layout.

Consecutive means along the input channels, which runtimes such as TensorFlow Lite keep last:

    Dense    (in, out)                    as rows of inputs    (out, in)
    Conv2D   (height, width, in, out)     as rows of inputs    (out * height * width, in)
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_iplt.errors import OptionError
from keras_iplt.graph.slices import numbers_of
from keras_iplt.sparsity import select

__all__ = [
    "convert_to_tuple_of_two_int",
    "generate_m_by_n_mask",
    "is_pruned_m_by_n",
    "m_by_n_sparsity_mask_prepare",
    "weights_rearrange",
]


def convert_to_tuple_of_two_int(value: Any, name: str) -> tuple[int, int]:
    """Two integers as a tuple.

    Args:
        value: what a user gave: a tuple or a list.
        name: of the argument, for the error if it is something else.

    Example:

    >>> convert_to_tuple_of_two_int([2, 4], "sparsity_m_by_n")
    (2, 4)
    """
    pair = tuple(value) if hasattr(value, "__iter__") else ()
    if len(pair) != 2 or not all(isinstance(x, int) and not isinstance(x, bool) for x in pair):
        raise OptionError(f"{name}: expected a tuple of two integers, received: {value!r}")
    return pair


def weights_rearrange(weights: Any) -> np.ndarray:
    """A kernel as a matrix with input channels along its rows.

    Args:
        weights: of rank 2 or 4, in Keras's layout.

    Returns:
        An array.

    Example:

    >>> weights_rearrange(np.ones((3, 3, 8, 16))).shape
    (144, 8)
    """
    value = _array(weights)
    if value.ndim == 2:
        return value.T
    if value.ndim == 4:
        return value.transpose(3, 0, 1, 2).reshape(-1, value.shape[2])
    raise OptionError(f"weights: expected rank 2 or 4, received: shape {value.shape}")


def m_by_n_sparsity_mask_prepare(mask: Any, weights_shape: Iterable[int]) -> np.ndarray:
    """Undoes `weights_rearrange`.

    Args:
        mask: a matrix with input channels along its rows.
        weights_shape: of the kernel that it is for.

    Returns:
        The mask in the layout of the kernel, as an array.

    Example:

    >>> m_by_n_sparsity_mask_prepare(np.ones((144, 8)), (3, 3, 8, 16)).shape
    (3, 3, 8, 16)
    """
    mask, shape = _array(mask), tuple(weights_shape)
    if len(shape) not in (2, 4):
        raise OptionError(f"weights_shape: expected rank 2 or 4, received: {shape}")
    if mask.ndim != 2 or mask.size != np.prod(shape):
        raise OptionError(
            f"mask: expected a matrix of {np.prod(shape)} numbers for weights of shape {shape}, "
            f"received: shape {mask.shape}"
        )
    if len(shape) == 2:
        if mask.T.shape != shape:
            raise OptionError(f"mask: expected shape {shape[::-1]}, received: {mask.shape}")
        return mask.T
    return mask.reshape(shape[3], *shape[:3]).transpose(1, 2, 3, 0)


def generate_m_by_n_mask(weights: Any, m_by_n: tuple[int, int] = (2, 4)) -> np.ndarray:
    """Ones and zeros: zeros for the m smallest of every n consecutive weights of each row.

    Args:
        weights: a matrix, as from `weights_rearrange`.
        m_by_n: (m, n) with m less than n.

    Returns:
        An array. Where the length of a row is no multiple of n, what is left at its end keeps its
        n - m largest.

    Example:

    >>> generate_m_by_n_mask([[1.0, -4.0, 3.0, 2.0]])
    array([[0., 1., 1., 0.]], dtype=float32)
    """
    m, n = m_by_n
    if m >= n:
        raise OptionError(f"m_by_n: expected (m, n) with m less than n, received: {m_by_n!r}")
    return select.m_by_n(np.abs(_array(weights)), m, n).astype(np.float32)


def is_pruned_m_by_n(
    weights: Any, m_by_n: tuple[int, int] = (2, 4), last_channel: str = "C_OUT"
) -> bool:
    """Whether every n consecutive weights along the input channels hold at least m zeros.

    Args:
        weights: a kernel of rank 2 or 4.
        m_by_n: (m, n).
        last_channel: "C_OUT" for Keras's layout, "C_IN" for that of TensorFlow Lite.

    Example:

    >>> is_pruned_m_by_n([[1, 2], [3, 0], [0, 5], [0, 0]])
    True
    >>> is_pruned_m_by_n([[1, 2, 3, 0]], last_channel="C_IN")
    False
    """
    m, n = m_by_n
    if m > n:
        raise OptionError(f"m_by_n: expected (m, n) with m at most n, received: {m_by_n!r}")
    if last_channel not in ("C_OUT", "C_IN"):
        raise OptionError(f"last_channel: expected 'C_OUT' or 'C_IN', received: {last_channel!r}")
    value = _array(weights)
    rows = (
        value.reshape(-1, value.shape[-1]) if last_channel == "C_IN" else weights_rearrange(value)
    )
    starts = np.arange(0, rows.shape[1], n)
    return bool((np.add.reduceat(rows != 0, starts, axis=1, dtype=np.int64) <= n - m).all())


def _array(weights: Any) -> np.ndarray:
    """Numbers of a tensor, a variable or nested lists."""
    return numbers_of(weights) if hasattr(weights, "shape") else np.asarray(weights)
