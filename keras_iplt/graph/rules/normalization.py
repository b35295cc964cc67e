"""Normalisation: per channel, over groups of channels, or over all of them."""

from typing import Any

import keras
import numpy as np

from keras_iplt.graph.channels import SOLID, Channels, Outputs
from keras_iplt.graph.flow import Flow, channels_in
from keras_iplt.graph.rules.registry import After, layer_rule, operation_rule, register_rule
from keras_iplt.layers import PaddedLayerNormalization


@layer_rule("BatchNormalization")
def batch_norm(flow: Flow, layer: keras.Layer, x: Channels, mask: Any = None) -> Outputs:
    ids = flow.vector(x, layer.axis, "it is normalised along another axis")
    for variable in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance):
        if variable is not None:
            flow.follow(variable, 0, ids)
    scaled = layer.gamma is not None
    return _normalised(flow, layer, flow.place(ids, layer.axis, masked=_scaled(x, scaled)))


def _scaled(x: Channels, scaled: bool) -> float | None:
    """What a masked channel holds once it was normalised: its scale, if it has one, is zero too."""
    return 0.0 if scaled or x.zero else None


def _normalised(flow: Flow, layer: keras.Operation, y: Channels) -> Outputs:
    """`y`, unless masked channels were divided by their deviation, with nothing added to it."""
    if layer.epsilon == 0:
        return flow.frozen(y, "a masked one would be divided by zero, as epsilon is 0")
    return y


@layer_rule(
    "GroupNormalization", resize=lambda layer, after: {"groups": _groups_left(layer, after)}
)
def group_norm(flow: Flow, layer: keras.Layer, x: Channels) -> Outputs:
    ids = flow.vector(x, layer.axis, "it is normalised along another axis")
    _hold_together(flow, layer, x, layer.axis)
    groups = layer.groups if layer.groups != -1 else len(ids)
    members = ids.reshape(groups, -1)
    if groups == 1 and (ids != SOLID).any():
        flow.freeze(ids, "all of its channels are normalised together")
    elif members.shape[1] > 1:  # whole groups go
        flow.join(members[:, :1], members, "a group of channels normalised together must stay")
    for variable in (layer.gamma, layer.beta):
        if variable is not None:
            flow.follow(variable, 0, ids)
    y = flow.place(ids, layer.axis, masked=_scaled(x, layer.gamma is not None))
    return _normalised(flow, layer, y)


def _groups_left(layer: keras.Layer, after: After) -> int:
    if layer.groups == -1:
        return -1
    x = after.call.args[0]
    return layer.groups * after.lengths(x)[layer.axis] // x.shape[layer.axis]


def _axes(layer: keras.Layer, x: Channels) -> list[int]:
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    return [axis % len(x.shape) for axis in axes]


def _width_before(layer: keras.Layer, after: After) -> dict[str, Any]:
    (x,) = channels_in((after.call.args, after.call.kwargs))
    axes = _axes(layer, x)
    lost = any(after.lengths(x)[axis] != x.shape[axis] for axis in axes)
    return {"width": x.shape[axes[0]]} if lost and not after.call.approximate else {}


@register_rule(PaddedLayerNormalization)
@layer_rule("LayerNormalization", resize=_width_before)
def layer_norm(flow: Flow, layer: keras.Layer, x: Channels) -> Outputs:
    """Exact when masked channels are zero: the smaller layer counts those that went."""
    axes = _axes(layer, x)
    if len(axes) == 1:
        _hold_together(flow, layer, x, axes[0])
    if not set(axes) & set(x.varying):
        # Over positions: scale and offset belong to those, and are not masked.
        y = Channels(x.ids, x.shape, 0.0 if x.zero and layer.beta is None else None)
        return _normalised(flow, layer, y)
    if len(axes) > 1:
        return flow.frozen(x, "layer normalisation is over several axes")
    if not (x.zero or flow.approximate):
        return flow.frozen(x, "it is normalised over its channels, masked ones not being zero")
    if type(layer) not in (keras.layers.LayerNormalization, PaddedLayerNormalization):
        return flow.frozen(x, "its class is derived from that of layer normalisation")
    x = flow.only(x, axes[0])
    for variable in (layer.gamma, layer.beta):
        if variable is not None:
            flow.follow(variable, 0, flow.vector(x, axes[0]))
    scaled = layer.gamma is not None or (flow.approximate and x.zero)
    return Channels(x.ids, x.shape, 0.0 if scaled else None)


def _hold_together(flow: Flow, layer: keras.Layer, x: Channels, axis: int) -> None:
    """The uses of a shared layer lose the same channels: without weights, nothing else says so."""
    reason = "a shared layer meets channels that stay"
    for call in flow.calls_of(layer):
        (earlier,) = channels_in((call.args, call.kwargs))
        if axis % len(x.shape) in {*x.varying, *earlier.varying}:
            before, now = (flow.vector(one, axis, reason) for one in (earlier, x))
            if len(before) == len(now):
                flow.join(before, now, reason)
            else:
                flow.freeze(before, reason)
                flow.freeze(now, reason)


def _resize_rms(layer: keras.Layer, after: After) -> dict[str, Any]:
    x = after.call.args[0]
    axis = _axes(layer, x)[0]
    return {"epsilon": layer.epsilon * x.shape[axis] / after.lengths(x)[axis]}


@layer_rule("RMSNormalization", resize=_resize_rms)
def rms_norm(flow: Flow, layer: keras.Layer, x: Channels) -> Outputs:
    """Exact when masked channels are zero.

    With C' of C channels left, the mean square grows by C / C', which epsilon and scale make good.
    """
    axes = _axes(layer, x)
    if axes != list(range(len(x.shape) - len(axes), len(x.shape))):
        return flow.frozen(x, "its scale does not lie along the axes that are normalised")
    along = set(axes) & set(x.varying)
    if not along:
        return _normalised(flow, layer, Channels(x.ids, x.shape, 0.0 if x.zero else None))
    if not x.zero or len(axes) > 1:
        return flow.frozen(x, "it is normalised over its channels, masked ones not being zero")
    x = flow.only(x, axes[0])
    ids = flow.vector(x, axes[0])
    flow.follow(layer.scale, 0, ids)
    flow.rescale(layer.scale, ids, -0.5)
    return x


@layer_rule("UnitNormalization")
def unit_norm(flow: Flow, layer: keras.Layer, x: Channels) -> Outputs:
    if set(_axes(layer, x)) & set(x.varying) and not x.zero:
        return flow.frozen(x, "it is normalised over its channels, masked ones not being zero")
    return Channels(x.ids, x.shape, 0.0 if x.zero else None)


@operation_rule("Normalize")
def normalize(flow: Flow, operation: keras.Operation, x: Channels) -> Outputs:
    axis = operation.axis % len(x.shape)
    if axis in x.varying and not (x.zero and operation.order == 2):
        return flow.frozen(x, "it is normalised over its channels")
    return _normalised(flow, operation, Channels(x.ids, x.shape, 0.0 if x.zero else None))


@operation_rule("BatchNorm")
def batch_norm_operation(
    flow: Flow,
    operation: keras.Operation,
    x: Channels,
    mean: Any,
    variance: Any,
    offset: Any = None,
    scale: Any = None,
    **_: Any,
) -> Outputs:
    given = [v for v in (mean, variance, offset, scale) if v is not None]
    if not all(isinstance(v, keras.Variable) for v in given):
        return flow.frozen([x, *given], "it is normalised with computed statistics")
    ids = flow.vector(x, operation.axis, "it is normalised along another axis")
    for variable in given:
        flow.follow(variable, 0, ids)
    y = flow.place(ids, operation.axis, masked=_scaled(x, scale is not None))
    return _normalised(flow, operation, y)


@operation_rule("LayerNorm", "RMSNorm")
def layer_norm_operation(
    flow: Flow, operation: keras.Operation, x: Channels, *_: Any, **__: Any
) -> Outputs:
    axis = operation.axis if isinstance(operation.axis, (tuple, list)) else [operation.axis]
    if {one % len(x.shape) for one in axis} & set(x.varying):
        return flow.frozen(x, "it is normalised over its channels")
    return _normalised(flow, operation, Channels(x.ids, x.shape, masked=None))


@layer_rule("Normalization")
def feature_normalization(flow: Flow, layer: keras.Layer, x: Channels) -> Outputs:
    if (np.asarray(x.ids) != SOLID).any():
        return flow.frozen(x, "it is normalised by constants per channel")
    return x
