"""The masks of one layer: which of its weights stay, at which step they are found anew."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt.criteria.filters import check_finite
from keras_iplt.errors import OptionError
from keras_iplt.graph.slices import numbers_of
from keras_iplt.sparsity import select
from keras_iplt.sparsity.patterns import MbyN

__all__ = ["Pruning"]

_NO_THRESHOLD = 999.0  # what tfmot writes where weights are not compared with one


class Pruning:
    """Masks of a layer by magnitude. Runs on the host, between training steps.

    Args:
        weights: variables.
        block_size: `(height, width)` of what is pruned together, in matrices only.
        block_pooling_type: "AVG" or "MAX": what stands for a block, its mean or its largest
            magnitude.
        sparsity_m_by_n: `(m, n)` for m zeros in every n consecutive weights, found once, at the
            first step; no schedule is asked then. Or None.

    Example:

    >>> weight = keras.Variable([[1.0, -4.0], [3.0, 2.0]])
    >>> ((threshold, mask),) = Pruning([weight]).masks(sparsity=0.5)
    >>> float(threshold), mask.tolist()
    (3.0, [[False, True], [True, False]])
    """

    def __init__(
        self,
        weights: Sequence[keras.Variable],
        block_size: tuple[int, int] = (1, 1),
        block_pooling_type: str = "AVG",
        sparsity_m_by_n: tuple[int, int] | None = None,
    ) -> None:
        self._weights = weights
        self._block_size, self._pooling = block_size, block_pooling_type
        self._m_by_n = None if sparsity_m_by_n is None else MbyN(*sparsity_m_by_n)
        for weight in weights if block_size != (1, 1) else ():
            if len(weight.shape) != 2:
                raise OptionError(
                    f"block_size: expected (1, 1) for weights that are not matrices, received: "
                    f"{block_size!r} for {weight.path!r} of shape {tuple(weight.shape)}"
                )

    def due(self, step: int, answer: tuple[Any, Any]) -> bool:
        """Whether masks are made anew at a step, given what the schedule answers at it."""
        return bool(answer[0]) if self._m_by_n is None else step == 1

    def masks(self, sparsity: Any) -> Iterator[tuple[Any, np.ndarray]]:
        """For each weight in turn `(threshold, mask)`, the mask an array, True for what stays."""
        for weight in self._weights:
            value = numbers_of(weight)
            if not np.isfinite(value).all():
                check_finite(value, weight, weight.path)
            if value.dtype.itemsize < 4:  # slow to compare
                value = value.astype(np.float32)
            yield self._threshold_and_mask(np.abs(value), sparsity)

    def _threshold_and_mask(self, magnitudes: np.ndarray, sparsity: Any) -> tuple[Any, np.ndarray]:
        if self._m_by_n is not None:
            return _NO_THRESHOLD, self._m_by_n.mask(magnitudes, magnitudes.size)
        if self._block_size == (1, 1):
            return _largest(magnitudes, sparsity)
        pooled = select.blocks(magnitudes, self._block_size, self._pooling)
        threshold, stays = _largest(pooled, sparsity)
        return threshold, select.unblocked(stays, self._block_size, magnitudes.shape)


def _largest(magnitudes: np.ndarray, sparsity: Any) -> tuple[Any, np.ndarray]:
    """The threshold for a sparsity, and a mask: all that lie on it stay.

    How many are kept is computed in float32 as tfmot does, at least one.
    """
    # Of schedules of the user's own it may be a tensor.
    number = sparsity if isinstance(sparsity, float) else float(numbers_of(sparsity))
    share = np.float32(1) - np.float32(number)
    keep = max(int(np.rint(np.float32(magnitudes.size) * share)), 1)
    threshold = select.threshold(magnitudes, keep)
    return threshold, magnitudes >= threshold
