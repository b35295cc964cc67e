"""Numbers as few bits will hold them, still as floating point numbers: what training is to feel."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

__all__ = ["fake_quantized", "rounded", "together"]


def rounded(weights: Any, axes: Sequence[int], num_bits: int = 8) -> Any:
    """Weights on a grid of `2**num_bits - 1` steps around zero, as wide as the largest of them.

    The range is that of the weights as they are, not one that was noted earlier: what an optimizer,
    a pruner or a file did to them is seen at once, and taking zeros away changes nothing. Nothing
    is clipped, so that gradients pass as they are.

    Args:
        weights: a tensor.
        axes: along which each index has a range of its own.
        num_bits: of a weight.
    """
    own = {axis % len(weights.shape) for axis in axes}
    others = [axis for axis in range(len(weights.shape)) if axis not in own]
    step = ops.max(ops.abs(weights), axis=others, keepdims=True) / (2 ** (num_bits - 1) - 1)
    step = ops.where(step == 0, 1.0, step)
    return weights + ops.stop_gradient(step * ops.round(weights / step) - weights)


def fake_quantized(
    x: Any,
    low: Any,
    high: Any,
    num_bits: int = 8,
    narrow_range: bool = False,
    per_axis: bool = False,
) -> Any:
    """Numbers on a grid of `2**num_bits` steps between two, shifted so that zero is a step.

    Gradients pass inside the range. On TensorFlow it is the operation that its converter knows.

    Args:
        x: a tensor.
        low, high: a range that holds zero.
        num_bits, narrow_range: how many steps; one less in a narrow range.
        per_axis: whether there is a range for each index of the last axis.
    """
    return keras.quantizers.fake_quant_with_min_max_vars(
        x, low, high, num_bits, narrow_range, axis=-1 if per_axis else None
    )


def together(weights: Any, firsts: Any) -> Any:
    """Weights, each as the first of those that it moves together with.

    The gradient of each is the mean of theirs, so that an optimizer moves all of them alike.

    Args:
        weights: a tensor.
        firsts: for each weight, the place of that first one in the flattened tensor.

    Example:

    >>> [float(x) for x in together(ops.array([0.5, 0.7, 0.5]), ops.array([0, 1, 0]))]
    [0.5, 0.699999988079071, 0.5]
    """
    flat = ops.reshape(weights, (-1,))
    held, places, size = ops.stop_gradient(flat), ops.reshape(firsts, (-1,)), flat.shape[0]
    numbers = ops.segment_sum(ops.ones_like(flat), places, num_segments=size)
    sums = ops.segment_sum(flat - held, places, num_segments=size)  # zeros, with gradients
    return ops.take(held + sums / ops.maximum(numbers, 1), firsts)
