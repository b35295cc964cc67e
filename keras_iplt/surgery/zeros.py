"""Operations carried out on zeros: what they say of their shapes is not all that can go wrong."""

import math
from typing import Any

import keras

from keras_iplt import _keras as private

__all__ = ["works_on_zeros"]

_MOST_NUMBERS = 1_000_000  # in a tensor that an operation is tried on


def works_on_zeros(node: Any) -> bool:
    """Raises what the operation of a node raises on zeros of the recorded shapes.

    Nothing that it assigns stays.

    Returns:
        Whether it puts out tensors of the recorded shapes (empty ones aside), or is too large to
        be tried.
    """
    if any(math.prod(n or 2 for n in x.shape) > _MOST_NUMBERS for x in node.input_tensors):
        return True

    def zeros(x: Any) -> Any:
        if not isinstance(x, keras.KerasTensor):
            return x
        return keras.ops.zeros([2 if n is None else n for n in x.shape], x.dtype)

    args, kwargs = keras.tree.map_structure(zeros, private.arguments(node))
    with keras.StatelessScope():
        results = keras.tree.flatten(node.operation(*args, **kwargs))
    return all(
        wanted in (None, length)
        for result, x in zip(results, node.outputs, strict=True)
        if 0 not in x.shape
        for length, wanted in zip(result.shape, x.shape, strict=True)
    )
