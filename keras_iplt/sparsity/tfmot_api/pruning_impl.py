"""The masks of one layer: which of its weights stay, at which step they are found anew."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_iplt.criteria.filters import check_finite
from keras_iplt.errors import OptionError
from keras_iplt.graph.slices import numbers_of
from keras_iplt.sparsity import select
from keras_iplt.sparsity.tfmot_api import pruning_utils

__all__ = ["Pruning"]

_NO_THRESHOLD = 999.0  # what tfmot writes where weights are not compared with one


class Pruning:
    """Masks of a layer by magnitude. Runs on the host, between training steps.

    Args:
        training_step_fn: called without arguments, gives the number of the step; the first is 1.
        pruning_vars: a list of `(weight, mask, threshold)`, Keras's variables or TensorFlow's.
        pruning_schedule: called with a step, gives `(whether, sparsity)`.
        block_size: `(height, width)` of what is pruned together, in matrices only.
        block_pooling_type: "AVG" or "MAX": what stands for a block, its mean or its largest
            magnitude.
        sparsity_m_by_n: `(m, n)` for m zeros in every n consecutive weights, found once, at the
            first step; no schedule is asked then. Or None.

    Example:

    >>> import keras
    >>> weight, mask = (keras.Variable([[1.0, -4.0], [3.0, 2.0]]) for _ in range(2))
    >>> threshold = keras.Variable(0.0)
    >>> pruning = Pruning(
    ...     lambda: 1, [(weight, mask, threshold)], lambda step: (True, 0.5), (1, 1), "AVG")
    >>> pruning.conditional_mask_update()
    >>> pruning.weight_mask_op()
    >>> keras.ops.convert_to_numpy(weight)
    array([[ 0., -4.],
           [ 3.,  0.]], dtype=float32)
    """

    def __init__(
        self,
        training_step_fn: Callable[[], Any],
        pruning_vars: Sequence[tuple[Any, Any, Any]],
        pruning_schedule: Callable[[Any], tuple[Any, Any]],
        block_size: Sequence[int],
        block_pooling_type: str,
        sparsity_m_by_n: tuple[int, int] | None = None,
    ) -> None:
        self._step_fn, self._pruning_vars = training_step_fn, pruning_vars
        self._pruning_schedule = pruning_schedule
        self._block_pooling_type = block_pooling_type
        height, width = block_size
        self._block_size = height, width
        self._sparsity_m_by_n = sparsity_m_by_n
        if self._block_size != (1, 1):
            for weight, *_ in pruning_vars:
                if len(weight.shape) != 2:
                    raise OptionError(
                        f"block_size: expected (1, 1) for weights that are not matrices, received: "
                        f"{block_size!r} for {_path(weight)!r} of shape {tuple(weight.shape)}"
                    )

    def due(self, step: int, answer: tuple[Any, Any]) -> bool:
        """Whether masks are made anew at a step, given what the schedule answers at it."""
        return step == 1 if self._sparsity_m_by_n else bool(answer[0])

    def masks(self, sparsity: Any) -> Iterator[tuple[Any, np.ndarray]]:
        """For each weight in turn `(threshold, mask)`, the mask an array, True for what stays."""
        for weight, *_ in self._pruning_vars:
            value = numbers_of(weight)
            if not np.isfinite(value).all():
                check_finite(value, weight, _path(weight))
            if value.dtype.itemsize < 4:  # slow to compare
                value = value.astype(np.float32)
            yield self._threshold_and_mask(value, sparsity)

    def conditional_mask_update(self) -> None:
        """Finds masks and thresholds anew if this is a step for it."""
        step = _number(self._step_fn())
        answer = self._pruning_schedule(step)
        if self.due(step, answer):
            found = self.masks(answer[1])
            for (_, mask, threshold), (new_threshold, new_mask) in zip(
                self._pruning_vars, found, strict=True
            ):
                _assign(threshold, new_threshold)
                _assign(mask, new_mask)

    def weight_mask_op(self) -> None:
        """Multiplies the weights with their masks."""
        for weight, mask, _ in self._pruning_vars:
            _assign(weight, numbers_of(weight) * numbers_of(mask))

    def _update_mask(self, weights: Any) -> tuple[Any, np.ndarray]:
        return _largest(np.abs(numbers_of(weights)), self._sparsity())

    def _maybe_update_block_mask(self, weights: Any) -> tuple[Any, np.ndarray]:
        return self._threshold_and_mask(numbers_of(weights), self._sparsity())

    def _sparsity(self) -> Any:
        return self._pruning_schedule(_number(self._step_fn()))[1]

    def _threshold_and_mask(self, value: np.ndarray, sparsity: Any) -> tuple[Any, np.ndarray]:
        if self._sparsity_m_by_n:
            rows = pruning_utils.weights_rearrange(value)
            mask = pruning_utils.generate_m_by_n_mask(rows, self._sparsity_m_by_n)
            mask = pruning_utils.m_by_n_sparsity_mask_prepare(mask, value.shape)
            return _NO_THRESHOLD, mask.astype(bool)
        magnitudes = np.abs(value)
        if self._block_size == (1, 1):
            return _largest(magnitudes, sparsity)
        pooled = select.blocks(magnitudes, self._block_size, self._block_pooling_type)
        threshold, mask = _largest(pooled, sparsity)
        height, width = self._block_size
        mask = mask.repeat(height, axis=0).repeat(width, axis=1)
        return threshold, mask[: value.shape[0], : value.shape[1]]


def _largest(magnitudes: np.ndarray, sparsity: Any) -> tuple[Any, np.ndarray]:
    """The threshold for a sparsity, and a mask: all that lie on it stay.

    How many are kept is computed in float32 as tfmot does, at least one.
    """
    share = np.float32(1) - np.float32(_number(sparsity, float))
    keep = max(int(np.rint(np.float32(magnitudes.size) * share)), 1)
    threshold = select.threshold(magnitudes, keep)
    return threshold, magnitudes >= threshold


def _path(weight: Any) -> str:
    return getattr(weight, "path", getattr(weight, "name", ""))  # TensorFlow's tensors have neither


def _number(value: Any, kind: type = int) -> Any:
    return value if isinstance(value, kind) else kind(numbers_of(value))


def _assign(variable: Any, value: Any) -> None:
    kind = variable.dtype if isinstance(variable.dtype, str) else variable.dtype.as_numpy_dtype
    variable.assign(np.asarray(value).astype(kind))
