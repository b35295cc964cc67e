"""Operations that combine tensors position by position: their channels stand or fall together."""

import keras
import numpy as np

from keras_iplt.graph.channels import SOLID, Channels
from keras_iplt.graph.rules.activation import follow_parameter, zero_at
from keras_iplt.graph.rules.registry import layer_rule, operation_rule

__all__ = ["combine"]

_BINARY = """
    Add Arctan2 BitwiseAnd BitwiseLeftShift BitwiseOr BitwiseRightShift BitwiseXor Divide
    DivideNoNan Equal FloorDivide Fmax Fmin Fmod Greater GreaterEqual Heaviside Hypot
    LeftShift Less LessEqual Logaddexp Logaddexp2 LogicalAnd LogicalOr LogicalXor Maximum
    Minimum Mod Multiply Nextafter NotEqual Power RightShift Subtract TrueDivide Where
""".split()

_STAND_IN = 0.7  # for numbers that are not known to be zero


def combine(flow, operands, function, key):
    """The channels of `function(*operands)` computed position by position.

    Operands are `Channels`, variables (one entry per channel), arrays or numbers.
    """
    tensors = [x for x in operands if isinstance(x, Channels)]
    zero = zero_at(function, tuple(_at_zero(x) for x in operands), key)
    if not tensors:
        return flow.solid(flow.shapes[0])
    shape = flow.shapes[0]
    result, *others = (_with_rank(x, len(shape)) for x in tensors)
    for other in others:
        result = _meet(flow, result, other, shape)
    for x in operands:
        if isinstance(x, keras.Variable):
            follow_parameter(flow, x, Channels(result.ids, shape))
        elif not isinstance(x, Channels):
            _check_constant(flow, x, result, shape)
    return Channels(flow.partition.find(result.ids), shape, zero)


def _at_zero(x):
    """What an operand is where its channels are masked."""
    if isinstance(x, Channels):
        return 0.0 if x.zero and (x.ids != SOLID).any() else _STAND_IN
    if isinstance(x, keras.Variable):
        return 0.0 if len(x.shape) else _STAND_IN
    return float(x) if isinstance(x, (bool, int, float)) else _STAND_IN


def _with_rank(x, rank):
    """`x` with leading axes of length 1, as broadcasting adds them."""
    missing = rank - len(x.shape)
    return Channels(
        x.ids.reshape((1,) * missing + x.ids.shape), (1,) * missing + tuple(x.shape), x.zero
    )


def _meet(flow, a, b, shape):
    """Two tensors of one rank combined: ids joined, or those of a broadcast operand frozen."""
    if _is_broadcast_over(b, a):
        a, b = b, a
    if _is_broadcast_over(a, b):
        flow.freeze(a, "each of its channels is broadcast over several others")
        return Channels(b.ids, shape)
    flow.join(a.ids, b.ids, "it is combined with a tensor whose channels stay")
    ids = np.where(*np.broadcast_arrays(a.ids != SOLID, a.ids, b.ids))
    return Channels(flow.partition.find(ids), shape)


def _is_broadcast_over(a, b):
    """Whether `a` has length 1 along every axis on which the channels of `b` differ."""
    return bool(b.varying) and all(a.shape[axis] == 1 for axis in b.varying)


def _check_constant(flow, x, result, shape):
    """A constant that spreads the channels of `result` over new positions is a dead end."""
    wide = np.shape(x) if not isinstance(x, (str, type(None))) else ()
    for axis in range(1, len(wide) + 1):
        if wide[-axis] != 1 and len(result.shape) >= axis and result.shape[-axis] == 1:
            flow.freeze(result, "it is broadcast against a constant")


_MERGES = {
    "Add": keras.ops.add,
    "Average": keras.ops.add,
    "Maximum": keras.ops.maximum,
    "Minimum": keras.ops.minimum,
    "Multiply": keras.ops.multiply,
    "Subtract": keras.ops.subtract,
}


@layer_rule(*_MERGES)
def merge_layer(flow, layer, inputs):
    name = next(kind.__name__ for kind in type(layer).__mro__ if kind.__name__ in _MERGES)
    ranks = {len(x.shape) for x in inputs}
    if len(ranks) > 1:
        return flow.frozen(inputs, "tensors of different rank are merged")
    binary = _MERGES[name]

    def function(*values):
        total = values[0]
        for value in values[1:]:
            total = binary(total, value)
        return total

    return combine(flow, inputs, function, (name, len(inputs)))


@operation_rule(*_BINARY, resize=lambda op, after, args, kwargs: after.sliced(args, kwargs))
def binary(flow, operation, *args, **kwargs):
    operands = [*args, *kwargs.values()]
    return combine(flow, operands, operation.call, type(operation).__name__)


@layer_rule("Rescaling")
def rescaling(flow, layer, x):
    scalar = np.ndim(layer.scale) == 0 and np.ndim(layer.offset) == 0
    if not scalar:
        return flow.frozen(x, "it is rescaled by constants per channel")
    return Channels(x.ids, x.shape, x.zero and layer.offset == 0)
