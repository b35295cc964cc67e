"""Operations that combine tensors position by position: their channels stand or fall together."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt.graph.channels import SOLID, Channels, Outputs, Shape
from keras_iplt.graph.flow import Flow
from keras_iplt.graph.masked import Operand
from keras_iplt.graph.rules.activation import applied, follow_parameter, key_of, tried
from keras_iplt.graph.rules.registry import layer_rule, operation_rule

__all__ = ["avoid_misplaced_sum", "combine"]

_BINARY = """
    Add Arctan2 BitwiseAnd BitwiseLeftShift BitwiseOr BitwiseRightShift BitwiseXor Divide
    DivideNoNan Equal FloorDivide Fmax Fmin Fmod Greater GreaterEqual Heaviside Hypot
    LeftShift Less LessEqual Logaddexp Logaddexp2 LogicalAnd LogicalOr LogicalXor Maximum
    Minimum Mod Multiply Nextafter NotEqual Power RightShift Subtract TrueDivide Where
""".split()


def combine(
    flow: Flow, operands: Sequence[Any], function: Callable[..., Any], key: Hashable
) -> Channels:
    """The channels of `function(*operands)` computed position by position.

    Operands are `Channels`, variables (one entry per channel), arrays or numbers.
    """
    shape = flow.shapes[0]
    operands = [_spread_over(flow, x, operands, shape) for x in operands]
    tensors = [x for x in operands if isinstance(x, Channels)]
    if not tensors:
        return flow.solid(shape)
    result, *others = (_with_rank(x, len(shape)) for x in tensors)
    for other in others:
        result = _meet(flow, result, other, shape)
    ids = flow.partition.find(result.ids)
    if (ids == SOLID).all():
        return Channels(ids, shape)
    known = tuple(_known(flow, x, ids, shape) for x in operands)
    for x in operands:
        if not isinstance(x, (Channels, keras.Variable)):
            _check_constant(flow, x, result, shape)
    return Channels(ids, shape, tried(flow, function, known, key, tensors))


def _spread_over(flow: Flow, x: Any, operands: Sequence[Any], shape: Shape) -> Any:
    """A variable as a tensor, where nothing else has several entries along its last axis.

    What comes out has its channels then."""
    if not isinstance(x, keras.Variable) or not x.shape or shape[-1] == 1:
        return x
    others = [y for y in operands if y is not x]
    thin = all(y.shape and y.shape[-1] == 1 if isinstance(y, Channels) else np.size(y) == 1
               for y in others)  # fmt: skip
    return flow.tensor_of(x) if thin and any(isinstance(y, Channels) for y in others) else x


def avoid_misplaced_sum(flow: Flow, x: Channels, shape: Sequence[int | None]) -> None:
    """Freezes channels of `x` whose loss would let Keras add something of this shape elsewhere.

    `keras.ops.add` on TensorFlow takes whatever has one axis longer than 1 for a bias: it is added
    along the last axis of `x` if that has the same length, or else along axis 1, even where it
    belongs to another axis. What is frozen is so on every backend, for plans to be the same.
    """
    shift = len(x.shape) - len(shape)
    long = [axis + shift for axis, length in enumerate(shape) if length != 1]
    if len(long) > 1:
        for axis in set(long) & set(x.varying):
            flow.at_least(flow.vector(x, axis), 2)  # else one long axis may be what is left
    if len(long) != 1 or long == [len(x.shape) - 1]:
        return
    (own,) = long
    for other in {1, len(x.shape) - 1} - {own}:
        shrinks = x.shape[own] if own in x.varying else x.shape[other]
        stays = x.shape[other] if own in x.varying else x.shape[own]
        if not {own, other} & set(x.varying):
            continue
        # A length that is not known may be any.
        if shrinks is None or stays is None or shrinks >= stays > 1:
            flow.freeze(x, "Keras would add a bias along another axis that is as long as its own")


def _known(flow: Flow, x: Any, ids: np.ndarray, shape: Shape) -> Operand:
    """What is known of an operand where the channels `ids` of the result are masked."""
    if isinstance(x, Channels):
        own = flow.partition.find(_with_rank(x, len(shape)).ids)
        own, ids = np.broadcast_arrays(own, ids)
        if (own == ids)[ids != SOLID].all():
            return Operand.of(x)
        return Operand(False, None)  # it is there for channels that stay, too
    if isinstance(x, keras.Variable):
        followed = follow_parameter(flow, x, Channels(ids, shape))
        return Operand(followed, (0.0,) if followed else None)
    if isinstance(x, (str, type(None))):
        return Operand(False, None)
    numbers = np.unique(np.asarray(keras.ops.convert_to_numpy(x), "float32"))
    return Operand(False, tuple(numbers.tolist()))


def _with_rank(x: Channels, rank: int) -> Channels:
    """`x` with leading axes of length 1, as broadcasting adds them."""
    missing = rank - len(x.shape)
    return Channels(
        x.ids.reshape((1,) * missing + x.ids.shape), (1,) * missing + tuple(x.shape), x.masked
    )


def _meet(flow: Flow, a: Channels, b: Channels, shape: Shape) -> Channels:
    """Two tensors of one rank combined: ids joined, or those of a broadcast operand frozen."""
    if _is_broadcast_over(b, a):
        a, b = b, a
    if _is_broadcast_over(a, b):
        flow.freeze(a, "each of its channels is broadcast over several others")
        return Channels(b.ids, shape)
    flow.join(a.ids, b.ids, "it is combined with a tensor whose channels stay")
    ids = np.where(*np.broadcast_arrays(a.ids != SOLID, a.ids, b.ids))
    return Channels(flow.partition.find(ids), shape)


def _is_broadcast_over(a: Channels, b: Channels) -> bool:
    """Whether `a` has length 1 along every axis on which the channels of `b` differ."""
    return bool(b.varying) and all(a.shape[axis] == 1 for axis in b.varying)


def _check_constant(flow: Flow, x: Any, result: Channels, shape: Shape) -> None:
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
def merge_layer(flow: Flow, layer: keras.Layer, inputs: list[Channels]) -> Outputs:
    if any(not isinstance(x, Channels) and np.size(x) > 1 for x in inputs):
        return flow.frozen(inputs, "it is merged with an array")
    name = next(kind.__name__ for kind in type(layer).__mro__ if kind.__name__ in _MERGES)
    ranks = {len(x.shape) for x in inputs}
    if len(ranks) > 1:
        return flow.frozen(inputs, "tensors of different rank are merged")
    binary = _MERGES[name]

    def function(*values: Any) -> Any:
        total = values[0]
        for value in values[1:]:
            total = binary(total, value)
        return total / len(values) if name == "Average" else total

    return combine(flow, inputs, function, (name, len(inputs)))


@operation_rule(*_BINARY, resize=lambda op, after, args, kwargs: after.sliced(args, kwargs))
def binary(flow: Flow, operation: keras.Operation, *args: Any, **kwargs: Any) -> Channels:
    operands = [*args, *kwargs.values()]
    # Those given by name come in any order: the trial must pass them by name, too.
    names = tuple(kwargs)

    def function(*values: Any) -> Any:
        by_place = values[: len(args)]
        return operation.call(*by_place, **dict(zip(names, values[len(args) :], strict=True)))

    y = combine(flow, operands, function, (key_of(operation), len(args), names))
    if type(operation).__name__ == "Add":
        for x in operands:
            if not isinstance(x, Channels):
                avoid_misplaced_sum(flow, y, tuple(np.shape(x)))
    return y


@layer_rule("Rescaling")
def rescaling(flow: Flow, layer: keras.Layer, x: Channels) -> Outputs:
    scalar = np.ndim(layer.scale) == 0 and np.ndim(layer.offset) == 0
    if not scalar:
        return flow.frozen(x, "it is rescaled by constants per channel")
    return applied(flow, x, lambda n: n * layer.scale + layer.offset, key_of(layer))
