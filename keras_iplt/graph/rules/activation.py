"""Functions applied to every number alike, and the activations that are not."""

import functools

import keras

from keras_iplt.graph.channels import SOLID
from keras_iplt.graph.rules.registry import layer_rule, operation_rule

__all__ = ["activate", "keeps_zero", "mixing"]

_MIXING = {"softmax", "log_softmax", "sparsemax", "glu"}  # of keras.activations

_UNARY = """
    Absolute Arccos Arccosh Arcsin Arcsinh Arctan Arctanh BitwiseInvert BitwiseNot Cast Cbrt
    Ceil Celu Clip Conjugate Copy Cos Cosh Deg2rad Elu Erf Erfc Erfinv Exp Exp2 Expm1 Fabs
    Floor Gelu HardShrink HardSigmoid HardSilu HardTanh Imag Isfinite Isinf Isnan LeakyRelu
    Log Log10 Log1p Log2 LogSigmoid LogicalNot NanToNum Negative OnesLike Rad2deg Real
    Reciprocal Relu Relu6 Round Rsqrt SaturateCast Selu Sigmoid Sign Silu Sin Sinc Sinh
    SoftShrink Softplus Softsign SparsePlus SparseSigmoid Sqrt Square Squareplus
    StopGradient Tan Tanh TanhShrink Threshold Trunc ZerosLike
""".split()


def activate(flow, activation, x):
    """The output of a layer's `activation` argument on its channels (the last axis)."""
    if activation is None or activation is keras.activations.linear:
        return x
    if isinstance(activation, keras.Layer):
        return flow.call(activation, (x,), {})
    name = getattr(activation, "__name__", "")
    if getattr(keras.activations, name, None) is not activation:
        return flow.call_function(activation, x)
    if name in _MIXING:
        return mixing(flow, x, -1, f"{name} compares its channels")
    return keeps_zero(x, activation, name)


def mixing(flow, x, axis, reason):
    """An operation that mixes what lies along `axis`: channels along it are frozen."""
    axes = axis if isinstance(axis, (list, tuple)) else (axis,)
    for one in axes:
        if x.ids.shape[one] > 1 or (x.shape[one] != 1 and not x.varying):
            flow.freeze(x, reason)
            return flow.solid(x.shape)
    return type(x)(x.ids, x.shape, zero=False)


def keeps_zero(x, function, key):
    """`x` after a function of single numbers; remembers whether zeros stay zeros."""
    zero = x.zero and ((x.ids == SOLID).all() or zero_at(function, (0.0,), key))
    return type(x)(x.ids, x.shape, zero)


_ZEROS: dict = {}


def zero_at(function, numbers, key):
    """Whether `function(*numbers)` is exactly zero; remembered under `key`."""
    key = (key, numbers)
    if key not in _ZEROS:
        tensors = [keras.ops.convert_to_tensor([[n]], "float32") for n in numbers]
        try:
            value = keras.ops.convert_to_numpy(function(*tensors))
            _ZEROS[key] = bool((value == 0).all())
        except Exception:  # not computable on plain numbers (bit operations, say): claim nothing
            _ZEROS[key] = False
    return _ZEROS[key]


@operation_rule(*_UNARY)
def unary(flow, operation, x, *_, **__):
    if not hasattr(x, "ids"):
        return flow.solid(flow.shapes[0])
    return keeps_zero(x, operation.call, _key(operation))


def _key(operation):
    settings = {k: v for k, v in vars(operation).items() if isinstance(v, (int, float, str, bool))}
    settings.pop("name", None)
    return type(operation).__name__, tuple(sorted(settings.items(), key=str))


@layer_rule("Activation")
def activation_layer(flow, layer, x):
    return activate(flow, layer.activation, x)


@layer_rule("ReLU", "LeakyReLU", "ELU")
def activation_with_settings(flow, layer, x):
    settings = tuple(v for v in vars(layer).values() if isinstance(v, (int, float)))
    function = functools.partial(type(layer).call, layer)
    return keeps_zero(x, function, (type(layer).__name__, settings))


@layer_rule("Softmax")
def softmax_layer(flow, layer, x, mask=None):
    return mixing(flow, x, layer.axis, "softmax compares its channels")


@operation_rule("Softmax", "LogSoftmax", "Sparsemax", "Glu")
def softmax(flow, operation, x, *_, **__):
    axis = getattr(operation, "axis", -1)
    axis = range(len(x.shape)) if axis is None else axis
    y = mixing(flow, x, tuple(axis) if isinstance(axis, range) else axis, "it compares channels")
    return type(y)(y.ids, flow.shapes[0], zero=False)


@layer_rule("PReLU")
def prelu(flow, layer, x):
    follow_parameter(flow, layer.alpha, x, first_axis=1)
    return x


def follow_parameter(flow, variable, x, first_axis=None):
    """Records `variable` as one entry per channel of `x`, its last axes aligned with those of `x`
    (or its first with `first_axis`)."""
    if len(x.varying) > 1:
        x = flow.only(x, max(x.varying, key=lambda axis: x.ids.shape[axis]))
    shift = len(x.shape) - len(variable.shape) if first_axis is None else first_axis
    for axis in x.varying:
        own = axis - shift
        if 0 <= own < len(variable.shape) and variable.shape[own] == x.shape[axis]:
            flow.follow(variable, own, flow.vector(x, axis))
