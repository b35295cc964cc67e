"""Convolutions consume channels and create others; depthwise ones follow their input."""

import math
from typing import Any

import keras
import numpy as np

from keras_iplt.graph.channels import Channels, Outputs, Shape
from keras_iplt.graph.flow import Flow, channel_axis
from keras_iplt.graph.rules.activation import activate
from keras_iplt.graph.rules.registry import After, layer_rule, operation_rule

__all__ = ["add_bias", "convolve"]

_DIMS = ("1D", "2D", "3D")


# -- convolutions --


def convolve(
    flow: Flow,
    x: Channels,
    layer: keras.Operation,
    kernel: keras.Variable,
    bias: keras.Variable | None,
    axis: int,
    transposed: bool = False,
) -> Channels:
    """A convolution with `kernel` (…, in / groups, out), or (…, out, in) where transposed.

    Returns the output, before any activation.
    """
    inputs = flow.vector(x, axis, "a convolution mixes its positions")
    *window, consumed, created = kernel.shape
    if transposed:
        consumed, created = created, consumed
    # What a transposed convolution does per input position, a plain one does per output position.
    positions = flow.positions(x.shape if transposed else flow.shapes[0], axis)
    positions = None if positions is None else positions * math.prod(window)
    groups = len(inputs) // consumed
    in_axis, out_axis = (-1, -2) if transposed else (-2, -1)
    if groups == len(inputs) and groups > 1:  # depthwise, spelt as a grouped convolution
        outputs = np.repeat(inputs, created // groups)
        flow.follow(kernel, out_axis, outputs)
        flow.work(positions, outputs)
    else:
        outputs = flow.create(layer, created, convolution=True)
        if groups > 1:  # every group must keep equally many inputs and outputs
            inputs, members = inputs.reshape(groups, -1), outputs.reshape(groups, -1)
            flow.join(inputs[:1], inputs, "one group of a grouped convolution must stay")
            flow.join(members[:1], members, "")
            inputs = inputs[0]
        flow.consume(kernel, in_axis, inputs)
        flow.slice(kernel, out_axis, outputs, "output")
        flow.work(positions, inputs, outputs)
    add_bias(flow, bias, outputs, axis)
    return flow.place(outputs, axis)


def add_bias(flow: Flow, bias: keras.Variable | None, outputs: np.ndarray, axis: int) -> None:
    """One bias per output channel, added at each position."""
    if bias is not None:
        flow.follow(bias, 0, outputs)
        flow.work(flow.positions(flow.shapes[0], axis), outputs, adds=True)


def depthwise(
    flow: Flow, x: Channels, kernel: keras.Variable, bias: keras.Variable | None, axis: int
) -> Channels:
    """One filter (or `multiplier` of them) per input channel; kernel (…, in, multiplier)."""
    inputs = flow.vector(x, axis, "a convolution mixes its positions")
    *window, _, multiplier = kernel.shape
    outputs = np.repeat(inputs, multiplier)
    positions = flow.positions(flow.shapes[0], axis)
    flow.follow(kernel, -2, inputs)
    flow.work(None if positions is None else positions * math.prod(window), outputs)
    add_bias(flow, bias, outputs, axis)
    return flow.place(outputs, axis)


def resize_filters(layer: keras.Layer, after: After) -> dict[str, Any]:
    filters = after.size(layer.kernel, -1)
    if layer.groups > 1 and layer.kernel.shape[-2] == 1:
        # Depthwise: whole groups go, each with its filters.
        return {"filters": filters, "groups": after.size_of_input(channel_axis(layer))}
    return {"filters": filters}


@layer_rule(*(f"Conv{d}" for d in _DIMS), resize=resize_filters)
def conv(flow: Flow, layer: keras.Layer, x: Channels) -> Any:
    y = convolve(flow, x, layer, layer.kernel, layer.bias, channel_axis(layer))
    return activate(flow, layer.activation, y)


@layer_rule(
    *(f"Conv{d}Transpose" for d in _DIMS),
    resize=lambda layer, after: {"filters": after.size(layer.kernel, -2)},
)
def conv_transpose(flow: Flow, layer: keras.Layer, x: Channels) -> Any:
    axis = channel_axis(layer)
    y = convolve(flow, x, layer, layer.kernel, layer.bias, axis, transposed=True)
    return activate(flow, layer.activation, y)


@layer_rule("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise_conv(flow: Flow, layer: keras.Layer, x: Channels) -> Any:
    y = depthwise(flow, x, layer.kernel, layer.bias, channel_axis(layer))
    return activate(flow, layer.activation, y)


@layer_rule(
    "SeparableConv1D",
    "SeparableConv2D",
    resize=lambda layer, after: {"filters": after.size(layer.pointwise_kernel, -1)},
)
def separable_conv(flow: Flow, layer: keras.Layer, x: Channels) -> Any:
    axis = channel_axis(layer)
    between = x.shape[axis] * layer.depth_multiplier
    outer, flow.shapes = flow.shapes, (_with_length(flow.shapes[0], axis, between),)
    y = depthwise(flow, x, layer.depthwise_kernel, None, axis)
    flow.shapes = outer
    y = convolve(flow, y, layer, layer.pointwise_kernel, layer.bias, axis)
    return activate(flow, layer.activation, y)


def _with_length(shape: Shape, axis: int, length: int) -> Shape:
    lengths = list(shape)
    lengths[axis] = length
    return tuple(lengths)


@operation_rule("Conv")
def conv_operation(flow: Flow, operation: keras.Operation, x: Channels, kernel: Any) -> Outputs:
    if not isinstance(kernel, keras.Variable):
        return _computed_kernel(flow, operation, x, kernel)
    return convolve(flow, x, operation, kernel, None, channel_axis(operation))


@operation_rule("DepthwiseConv")
def depthwise_operation(
    flow: Flow, operation: keras.Operation, x: Channels, kernel: Any
) -> Outputs:
    if not isinstance(kernel, keras.Variable):
        return _computed_kernel(flow, operation, x, kernel)
    return depthwise(flow, x, kernel, None, channel_axis(operation))


@operation_rule("SeparableConv")
def separable_operation(
    flow: Flow, operation: keras.Operation, x: Channels, *kernels: Any
) -> Outputs:
    return _computed_kernel(flow, operation, x, *kernels)


@operation_rule("ConvTranspose")
def transposed_operation(
    flow: Flow, operation: keras.Operation, x: Channels, kernel: Any
) -> Outputs:
    return _computed_kernel(flow, operation, x, kernel, shape=x.shape)


def _computed_kernel(
    flow: Flow, operation: keras.Operation, x: Channels, *kernels: Any, shape: Shape | None = None
) -> Outputs:
    """Nothing can go; it costs as many multiply-adds per position as the kernels have numbers."""
    positions = flow.positions(shape or flow.shapes[0], channel_axis(operation))
    numbers = sum(math.prod(k.shape if hasattr(k, "shape") else np.shape(k)) for k in kernels)
    flow.work(None if positions is None else positions * numbers)
    return flow.frozen([x, *kernels], "the kernel of a convolution is computed")
