"""Functions applied to every number alike, and the activations that are not."""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt.graph.channels import SOLID, Channels, Outputs
from keras_iplt.graph.flow import Flow
from keras_iplt.graph.masked import Operand, trial
from keras_iplt.graph.rules.registry import layer_rule, operation_rule

__all__ = [
    "activate",
    "applied",
    "follow_parameter",
    "key_of",
    "mixing",
    "settings_of",
    "tried",
]

_MIXING = {"softmax", "log_softmax", "sparsemax", "glu"}  # of keras.activations

_UNARY = """
    Absolute Arccos Arccosh Arcsin Arcsinh Arctan Arctanh BitwiseInvert BitwiseNot Cast Cbrt
    Ceil Celu Clip Conjugate ConvertToTensor Copy Cos Cosh Deg2rad Elu Erf Erfc Erfinv Exp Exp2
    Expm1 Fabs Floor Gelu HardShrink HardSigmoid HardSilu HardTanh Imag Isfinite Isinf Isnan
    LeakyRelu Log Log10 Log1p Log2 LogSigmoid LogicalNot NanToNum Negative OnesLike Rad2deg Real
    Reciprocal Relu Relu6 Round Rsqrt SaturateCast Selu Sigmoid Sign Silu Sin Sinc Sinh
    SoftShrink Softplus Softsign SparsePlus SparseSigmoid Sqrt Square Squareplus
    StopGradient Tan Tanh TanhShrink Threshold Trunc ZerosLike
""".split()


def activate(flow: Flow, activation: Any, x: Channels) -> Any:
    """The output of a layer's `activation` argument on its channels (the last axis)."""
    if activation is None or activation is keras.activations.linear:
        return x
    if isinstance(activation, keras.Layer):
        if activation.weights or not activation.built:
            return flow.frozen(x, "its activation is a layer that has, or may get, weights")
        return flow.call(activation, (x,), {})
    name = getattr(activation, "__name__", "")
    known: Any = getattr(keras.activations, name, None)
    if known is not activation:
        return flow.call_function(activation, x)
    if name in _MIXING:
        return mixing(flow, x, -1, f"{name} compares its channels")
    return applied(flow, x, activation, activation)


def mixing(flow: Flow, x: Channels, axis: int | Sequence[int], reason: str) -> Channels:
    """An operation that mixes what lies along `axis`: channels along it are frozen."""
    axes = axis if isinstance(axis, (list, tuple)) else (axis,)
    for one in axes:
        if x.ids.shape[one] > 1 or (x.shape[one] != 1 and not x.varying):
            flow.freeze(x, reason)
            return flow.solid(x.shape)
    return type(x)(x.ids, x.shape, masked=None)


def applied(flow: Flow, x: Channels, function: Callable[..., Any], key: Hashable) -> Channels:
    """`x` after a function of single numbers."""
    if (x.ids == SOLID).all():
        return type(x)(x.ids, x.shape)
    number = tried(flow, function, (Operand.of(x),), key, [x])
    return type(x)(x.ids, x.shape, number)


def tried(
    flow: Flow,
    function: Callable[..., Any],
    operands: tuple[Operand, ...],
    key: Hashable,
    tensors: Sequence[Channels],
) -> float | None:
    """What a masked channel holds after a function of single numbers.

    `tensors` are frozen where it would not be a number.

    Args:
        function: of as many tensors as there are operands.
        operands: `Operand`s.
        key: equal for equal functions.
        tensors: the `Channels` among the operands.
    """
    outcome = flow.trials.get((key, operands))
    if outcome is None:
        outcome = flow.trials[key, operands] = trial(function, operands)
    if not outcome.finite:
        for x in tensors:
            flow.freeze(x, "masked it would not be a finite number")
    return outcome.number


@operation_rule(*_UNARY)
def unary(flow: Flow, operation: keras.Operation, x: Any, *_: Any, **__: Any) -> Outputs:
    if not hasattr(x, "ids"):
        return flow.solid(flow.shapes[0])
    if any(np.ndim(value) for value in settings_of(operation).values()):
        return flow.frozen(x, "it meets constants per channel")
    return applied(flow, x, operation.call, key_of(operation))


def settings_of(operation: keras.Operation) -> dict[str, Any]:
    """The attributes of an operation or layer that decide what it computes."""
    return {
        name: value
        for name, value in vars(operation).items()
        if not name.startswith("_") and isinstance(value, (*_PLAIN, tuple, list, np.ndarray))
    }


_PLAIN = (int, float, str, bool, np.generic)


def key_of(operation: keras.Operation) -> tuple[type, tuple[tuple[str, str], ...]]:
    """Equal for operations that compute the same: one trial does for all of them."""
    settings = settings_of(operation)
    settings.pop("name", None)
    return type(operation), tuple(sorted((name, repr(value)) for name, value in settings.items()))


@layer_rule("Activation")
def activation_layer(flow: Flow, layer: keras.Layer, x: Channels) -> Any:
    return activate(flow, layer.activation, x)


@layer_rule("ReLU", "LeakyReLU", "ELU")
def activation_with_settings(flow: Flow, layer: keras.Layer, x: Channels) -> Channels:
    return applied(flow, x, functools.partial(type(layer).call, layer), key_of(layer))


@layer_rule("Softmax")
def softmax_layer(flow: Flow, layer: keras.Layer, x: Channels, mask: Any = None) -> Channels:
    return mixing(flow, x, layer.axis, "softmax compares its channels")


@operation_rule("Softmax", "LogSoftmax", "Sparsemax", "Glu")
def softmax(flow: Flow, operation: keras.Operation, x: Channels, *_: Any, **__: Any) -> Channels:
    axis = getattr(operation, "axis", -1)
    axis = range(len(x.shape)) if axis is None else axis
    y = mixing(flow, x, tuple(axis) if isinstance(axis, range) else axis, "it compares channels")
    return type(y)(y.ids, flow.shapes[0], masked=None)


@layer_rule("PReLU")
def prelu(flow: Flow, layer: keras.Layer, x: Channels) -> Channels:
    follow_parameter(flow, layer.alpha, x, first_axis=1)
    # Numbers above zero stay as they are; of others what comes out depends on the slope.
    positive = x.masked is not None and x.masked >= 0
    return type(x)(x.ids, x.shape, x.masked if positive else None)


def follow_parameter(
    flow: Flow, variable: keras.Variable, x: Channels, first_axis: int | None = None
) -> bool:
    """Records `variable` as one entry per channel of `x`, their last axes aligned.

    With `first_axis` its last is aligned with the first of `x`.

    Returns:
        Whether it has one entry per channel, so that it is masked with them.
    """
    if len(x.varying) > 1:
        x = flow.only(x, max(x.varying, key=lambda axis: x.ids.shape[axis]))
    shift = len(x.shape) - len(variable.shape) if first_axis is None else first_axis
    for axis in x.varying:
        own = axis - shift
        if 0 <= own < len(variable.shape) and variable.shape[own] == x.shape[axis]:
            flow.follow(variable, own, flow.vector(x, axis))
            return True
    return False
