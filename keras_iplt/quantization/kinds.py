"""What .tflite computes in integers: which layers and operations, and how each is to be rounded."""

import dataclasses
from typing import Any

import keras
from keras import layers

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError
from keras_iplt.support.around import Around

__all__ = ["Kind", "kind_of"]


@dataclasses.dataclass(frozen=True)
class Kind:
    """How an operation is computed in integers.

    Attributes:
        does: "weighted" (a convolution), "joins" (an addition), "norm", "relu", "own" (others of a
            range of their own), "passes" (what comes out is among what came in), "concatenates",
            or "float" (not at all).
        weights: by the name of a weight, the axes along which each index has a range of its own.
        activation: of a layer with one of its own, the kind of that.
        fixed: the range of what comes out, where that is known.
        reason: why it is computed in floating point.
        only_int8: whether files cannot have it with activations of 16 bits.
    """

    does: str
    weights: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    activation: "Kind | None" = None
    fixed: tuple[float, float] | None = None
    reason: str = ""
    only_int8: bool = False


_PASSES, _RELU, _NORM, _OWN = Kind("passes"), Kind("relu"), Kind("norm"), Kind("own")
_JOINS, _CONCATENATES = Kind("joins"), Kind("concatenates", only_int8=True)
_SHAPED = Kind("own", only_int8=True)  # by a table of 256 entries, or with numbers of 8 bits
# TFLite demands these very ranges: a step of 1/256 from zero, and one of 1/128 around it.
_SHARE, _BALANCE = Kind("own", fixed=(0.0, 255 / 256)), Kind("own", fixed=(-1.0, 127 / 128))

# The output channels of each kernel. Ranges are per channel, so that a batch norm that follows
# scales weights and range alike: rounding before it or after it is folded in is the same.
_KERNELS: dict[str, tuple[int, ...]] = {
    "Conv1D": (-1,),
    "Conv2D": (-1,),
    "Conv2DTranspose": (-2,),
    "Dense": (-1,),
    "DepthwiseConv2D": (-2, -1),
}
# Average pooling and resizing round once more, on the same grid: by half a step at most.
_PASSING = """
    ActivityRegularization AlphaDropout AveragePooling1D AveragePooling2D Cropping1D Cropping2D
    Dropout Flatten GaussianDropout GaussianNoise GlobalMaxPooling1D GlobalMaxPooling2D Identity
    MaxPooling1D MaxPooling2D Permute RepeatVector Reshape SpatialDropout1D SpatialDropout2D
    UpSampling1D ZeroPadding1D ZeroPadding2D
""".split()
_OTHERS = {
    "Add": _JOINS,
    "Subtract": _JOINS,
    "Multiply": _JOINS,
    "Concatenate": _CONCATENATES,
    "GlobalAveragePooling1D": _OWN,
    "GlobalAveragePooling2D": _OWN,
}
_LAYERS: dict[type, Kind] = {
    **{getattr(layers, name): _PASSES for name in _PASSING},
    **{getattr(layers, name): kind for name, kind in _OTHERS.items()},
}
_OPERATIONS = {
    **dict.fromkeys(("ExpandDims", "Reshape", "Squeeze", "Transpose", "GetItem", "Ravel"), _PASSES),
    **dict.fromkeys(("Add", "Subtract", "Multiply"), _JOINS),
    "Concatenate": _CONCATENATES,
}
_ACTIVATIONS = {
    "linear": _PASSES,
    "relu": _RELU,
    "relu6": _RELU,
    "sigmoid": dataclasses.replace(_SHARE, only_int8=True),
    "softmax": _SHARE,
    "tanh": _BALANCE,
    "leaky_relu": _OWN,
    **dict.fromkeys(("exponential", "gelu", "hard_silu", "hard_swish", "silu", "swish"), _SHAPED),
}


def kind_of(operation: keras.Operation, tensors: int) -> Kind:
    """How an operation that takes so many tensors is computed in integers, if it is.

    Only Keras's own classes are known: one that is derived from them may compute anything."""
    kind, name = type(operation), type(operation).__name__
    if not isinstance(operation, keras.Layer):
        known = private.is_keras_operation(operation)
        found = known and (_OPERATIONS.get(name) or _ACTIVATIONS.get(name.lower()))
        return (
            _of_two(found, name, tensors) if found else _float(f"{name} has no integer form here")
        )
    if isinstance(operation, Around) and operation.comes_off:
        raise ModelError(
            f"layer {operation.name!r}: expected one without a wrapper, received: a {name}. Strip "
            "it first, by strip_pruning or strip_clustering: quantization comes last"
        )
    if not private.is_keras_layer(operation):
        return _float(f"{name} is not one of Keras's layers: annotate it with a QuantizeConfig")
    if getattr(operation, "lora_enabled", False):
        return _float("adapted by LoRA: merge the adapter first")
    if name in _KERNELS:
        return _weighted(operation, name)
    if kind is layers.BatchNormalization:
        return (
            _NORM
            if operation.axis in (-1, operation.input_spec.ndim - 1)
            else _float("normalises along another axis than the last")
        )
    if kind is layers.Activation:
        return _activation(operation.activation)
    if kind is layers.ReLU:
        return _relu(operation)
    if kind is layers.LeakyReLU:
        return _OWN
    if kind is layers.PReLU:
        return Kind("own", {"alpha": ()}, only_int8=True)
    if kind is layers.Softmax:
        return _SHARE if operation.axis == -1 else _float("a softmax along another axis")
    if kind is layers.UpSampling2D and operation.interpolation in ("nearest", "bilinear"):
        return _PASSES
    found = _LAYERS.get(kind)
    return _of_two(found, name, tensors) if found else _float(f"{name} has no integer form here")


def _float(reason: str) -> Kind:
    return Kind("float", reason=reason)


def _of_two(kind: Kind, name: str, tensors: int) -> Kind:
    if kind is _JOINS and tensors > 2:
        return _float(f"{name} of {tensors} tensors: integers want two")
    return dataclasses.replace(kind, only_int8=True) if tensors == 1 and kind is _JOINS else kind


def _weighted(layer: Any, name: str) -> Kind:
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return _float("channels_first, which TFLite does not know")
    return Kind("weighted", {"kernel": _KERNELS[name]}, _activation(layer.activation))


def _activation(function: Any) -> Kind:
    name = getattr(function, "__name__", "")
    if private.is_from_keras(function) and name in _ACTIVATIONS:
        return _ACTIVATIONS[name]
    return _float(f"the activation {name or function} has no integer form here")


def _relu(layer: Any) -> Kind:
    if layer.threshold or layer.max_value not in (None, 6):
        return _float("a ReLU with a threshold, or another limit than 6")
    if not layer.negative_slope:
        return _RELU
    return _OWN if layer.max_value is None else _float("a leaky ReLU with a limit")
