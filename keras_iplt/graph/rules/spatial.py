"""Operations that leave channels alone: pooling, resizing, noise; and reductions."""

import numpy as np

from keras_iplt.graph.channels import SOLID, Channels
from keras_iplt.graph.flow import channel_axis
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


def per_channel(flow, x, axis, zero=None):
    """The output of an operation that works on each channel by itself, along other axes."""
    x = flow.only(x, axis, "its positions are pooled, resized or cut")
    return Channels(x.ids, flow.shapes[0], x.zero if zero is None else zero)


@layer_rule(*_SPATIAL)
def spatial(flow, layer, x):
    return per_channel(flow, x, channel_axis(layer))


@layer_rule(*_IDENTITY)
def identity(flow, layer, x):
    return x


@operation_rule("MaxPool", "AveragePool", "AdaptiveAveragePool", "AdaptiveMaxPool", "Resize",
                "CropImages", "PadImages", "GaussianBlur", "AffineTransform")  # fmt: skip
def spatial_operation(flow, operation, x, *_, **__):
    return per_channel(flow, x, channel_axis(operation))


# -- reductions --


def reduce_axes(flow, x, axes, keepdims, reason, exact=False):
    """A reduction over `axes`. Channels along them are frozen, unless masked zeros do not change
    the result (`exact`)."""
    rank = len(x.shape)
    axes = range(rank) if axes is None else axes if isinstance(axes, (tuple, list)) else [axes]
    axes = tuple(axis % rank for axis in axes)
    ids = x.ids
    along = [axis for axis in axes if axis in x.varying]
    whole = not x.varying and any(x.shape[axis] not in (1, None) for axis in axes) and x.ids.size
    if along and not (exact and x.zero):
        flow.freeze(x, reason)
        ids = np.full((1,) * rank, SOLID)
    elif along:
        x = flow.only(x, along[0]) if len(x.varying) > 1 else x
        ids = np.full((1,) * rank, SOLID)
    if whole and not along:
        ids = ids.ravel()[:1].reshape((1,) * rank)
    if not keepdims:
        ids = np.squeeze(ids, axes) if all(ids.shape[a] == 1 for a in axes) else ids
    return Channels(ids, flow.shapes[0], x.zero)


@layer_rule(*(f"Global{kind}Pooling{d}" for d in _DIMS for kind in ("Average", "Max")))
def global_pooling(flow, layer, x, mask=None):
    axis = channel_axis(layer) % len(x.shape)
    x = flow.only(x, axis, "its positions are pooled")
    axes = [i for i in range(1, len(x.shape)) if i != axis]
    return reduce_axes(flow, x, axes, layer.keepdims, "it is pooled")


@operation_rule("Mean", "Max", "Min", "Amax", "Amin", "Prod", "Std", "Var", "All", "Any", "Median",
                "Logsumexp", "Argmax", "Argmin", "CountNonzero", "Quantile", "Nanmean",
                "Nanmax", "Nanmin")  # fmt: skip
def reduction(flow, operation, x, *_, **__):
    keepdims = getattr(operation, "keepdims", False)
    kind = type(operation).__name__.lower()
    return reduce_axes(flow, x, operation.axis, keepdims, f"{kind} compares or counts its channels")


@operation_rule("Sum", "Nansum")
def total(flow, operation, x):
    return reduce_axes(
        flow, x, operation.axis, operation.keepdims,
        "it is summed over its channels where a masked one is not zero", exact=True,
    )  # fmt: skip


@operation_rule("Cumsum", "Cumprod", "Sort", "Argsort")
def along_axis(flow, operation, x):
    axis = operation.axis
    if axis is None or axis % len(x.shape) in x.varying:
        return flow.frozen(x, "its channels are sorted or accumulated")
    return Channels(x.ids, flow.shapes[0], False)


@operation_rule("Moments")
def moments(flow, operation, x):
    outer, results = flow.shapes, []
    for shape in outer:
        flow.shapes = (shape,)
        results.append(
            reduce_axes(flow, x, operation.axes, operation.keepdims, "its channels are averaged")
        )
    flow.shapes = outer
    return results
