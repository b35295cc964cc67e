"""Operations that leave channels alone: pooling, resizing, noise; and reductions."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_iplt.graph.channels import SOLID, Channels, Gain, Outputs
from keras_iplt.graph.flow import Flow, channel_axis
from keras_iplt.graph.masked import constant_through
from keras_iplt.graph.rules.registry import layer_rule, operation_rule

__all__ = ["per_channel", "reduce_axes"]

_DIMS = ("1D", "2D", "3D")

_SPATIAL = [
    *(f"{kind}{d}" for d in _DIMS for kind in ("MaxPooling", "AveragePooling", "Cropping",
                                               "UpSampling", "AdaptiveAveragePooling",
                                               "AdaptiveMaxPooling", "SpatialDropout")),
    "CenterCrop", "RandomCrop", "RandomFlip", "RandomRotation", "RandomTranslation",
    "RandomZoom", "RandomShear", "RandomPerspective", "RandomElasticTransform",
    "RandomErasing", "Resizing",
]  # fmt: skip

_IDENTITY = [
    "ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise",
    "Identity",
]  # fmt: skip


def per_channel(
    flow: Flow, x: Channels, axis: int, averages: bool = True, fill: float = 0
) -> Channels:
    """The output of an operation that works on each channel by itself, along other axes.

    Args:
        averages: whether it computes with the numbers; else it picks some of them.
        fill: the number that it puts where there is none.
    """
    x = flow.only(x, axis, "its positions are pooled, resized or cut")
    stays = x.masked == fill if averages else True
    return Channels(x.ids, flow.shapes[0], x.masked if stays else None)


@layer_rule(*_SPATIAL)
def spatial(flow: Flow, layer: keras.Layer, x: Channels) -> Channels:
    return per_channel(flow, x, channel_axis(layer), *_how(layer))


def _how(operation: keras.Operation) -> tuple[bool, float]:
    """`(averages, fill)` of an operation, see `per_channel`.
    What happens in training alone, as in random flips, does not count."""
    name = type(operation).__name__
    return "Max" not in name, getattr(operation, "fill_value", 0) or 0


@layer_rule(*_IDENTITY)
def identity(flow: Flow, layer: keras.Layer, x: Channels) -> Channels:
    return x


@operation_rule("MaxPool", "AveragePool", "AdaptiveAveragePool", "AdaptiveMaxPool", "Resize",
                "CropImages", "PadImages", "GaussianBlur", "AffineTransform")  # fmt: skip
def spatial_operation(
    flow: Flow, operation: keras.Operation, x: Channels, *_: Any, **__: Any
) -> Channels:
    return per_channel(flow, x, channel_axis(operation), *_how(operation))


# -- reductions --


def reduce_axes(
    flow: Flow,
    x: Channels,
    axes: int | tuple[int, ...] | list[int] | None,
    keepdims: bool,
    reason: str,
    masked: float | None,
    exact: bool = False,
) -> Channels:
    """A reduction over `axes`.

    Channels along them are frozen, unless masked zeros do not change the result (`exact`). Along
    others, `masked` is what becomes of a channel that is masked."""
    rank = len(x.shape)
    over = _axes_of(axes, rank)
    ids = x.ids
    along = [axis for axis in over if axis in x.varying]
    whole = not x.varying and any(x.shape[axis] not in (1, None) for axis in over) and x.ids.size
    if along and not (exact and x.zero):
        flow.freeze(x, reason)
        ids = np.full((1,) * rank, SOLID)
    elif along:
        x = flow.only(x, along[0]) if len(x.varying) > 1 else x
        ids = np.full((1,) * rank, SOLID)
    if whole and not along:
        ids = ids.ravel()[:1].reshape((1,) * rank)
    if not keepdims:
        ids = np.squeeze(ids, over) if all(ids.shape[a] == 1 for a in over) else ids
    return Channels(ids, flow.shapes[0], masked)


def _axes_of(axes: int | tuple[int, ...] | list[int] | None, rank: int) -> tuple[int, ...]:
    some = range(rank) if axes is None else axes if isinstance(axes, (tuple, list)) else [axes]
    return tuple(axis % rank for axis in some)


@layer_rule(*(f"Global{kind}Pooling{d}" for d in _DIMS for kind in ("Average", "Max")))
def global_pooling(flow: Flow, layer: keras.Layer, x: Channels, mask: Any = None) -> Channels:
    axis = channel_axis(layer) % len(x.shape)
    x = flow.only(x, axis, "its positions are pooled")
    axes = [i for i in range(1, len(x.shape)) if i != axis]
    return reduce_axes(flow, x, axes, layer.keepdims, "it is pooled", x.masked)


@operation_rule("Mean", "Max", "Min", "Amax", "Amin", "Prod", "Std", "Var", "All", "Any", "Median",
                "Logsumexp", "Argmax", "Argmin", "CountNonzero", "Quantile", "Nanmean",
                "Nanmax", "Nanmin")  # fmt: skip
def reduction(
    flow: Flow, operation: keras.Operation, x: Channels, *args: Any, **kwargs: Any
) -> Channels:
    keepdims = getattr(operation, "keepdims", False)
    reason = f"{type(operation).__name__.lower()} compares or counts its channels"
    masked = _of_a_constant(operation, x, *args, **kwargs)
    if type(operation).__name__ != "Mean" or not x.zero:
        return reduce_axes(flow, x, operation.axis, keepdims, reason, masked)
    y = reduce_axes(flow, x, operation.axis, keepdims, reason, masked, exact=True)
    along = [axis for axis in _axes_of(operation.axis, len(x.shape)) if axis in x.varying]
    if not along:
        return y
    gain = Gain(flow.vector(x, along[0]), 1.0)  # a mean over fewer, zeros left out, is larger
    return dataclasses.replace(y, gain=gain)


def _of_a_constant(
    operation: keras.Operation, x: Channels, *args: Any, **kwargs: Any
) -> float | None:
    """What becomes of a masked channel that is the same number everywhere."""
    return constant_through(
        lambda tensor: operation.call(tensor, *args, **kwargs), len(x.shape), x.masked
    )


@operation_rule("Sum", "Nansum")
def total(flow: Flow, operation: keras.Operation, x: Channels) -> Channels:
    return reduce_axes(
        flow, x, operation.axis, operation.keepdims,
        "it is summed over its channels where a masked one is not zero",
        _of_a_constant(operation, x), exact=True,
    )  # fmt: skip


@operation_rule("Cumsum", "Cumprod", "Sort", "Argsort")
def along_axis(flow: Flow, operation: keras.Operation, x: Channels) -> Outputs:
    axis = operation.axis
    if axis is None or axis % len(x.shape) in x.varying:
        return flow.frozen(x, "its channels are sorted or accumulated")
    return Channels(x.ids, flow.shapes[0], _of_a_constant(operation, x))


@operation_rule("Moments")
def moments(flow: Flow, operation: keras.Operation, x: Channels) -> list[Channels]:
    outer, results = flow.shapes, []
    for shape in outer:
        flow.shapes = (shape,)
        results.append(
            reduce_axes(
                flow,
                x,
                operation.axes,
                operation.keepdims,
                "its channels are averaged",
                0.0 if x.zero else None,
            )
        )
    flow.shapes = outer
    return results
