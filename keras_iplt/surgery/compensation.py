"""What removed channels contributed on average, folded into what later layers add anyway.

A dense layer or convolution that loses input channels loses, on average over the data, the
product of their mean with its weights. That product is added to its bias, or taken from the
moving mean of the batch norm right behind it. Exact for channels that are constant (at image
borders only under "valid" padding), an approximation for all others.
"""

from typing import Any

import keras
import numpy as np

from keras_iplt.graph.channels import Call, Channels, Graph
from keras_iplt.graph.flow import channel_axis, channels_in
from keras_iplt.graph.slices import numbers_of
from keras_iplt.running.observe import batches, observe

__all__ = ["compensation"]

_LINEAR = tuple(getattr(keras.layers, name) for name in ("Dense", "Conv1D", "Conv2D", "Conv3D"))


def compensation(graph: Graph, gone: np.ndarray, data: Any) -> dict[int, np.ndarray]:
    """What to add to which variable of the unpruned model.

    Args:
        graph: the `Graph` of the model.
        gone: mask over all ids: True for those removed.
        data: as for `plan`; labels are not looked at.

    Returns:
        id(variable) -> array of the variable's shape.
    """
    # id(call) -> the inputs it loses, the variable that makes good for them and its sign
    losing: dict[int, tuple[np.ndarray, keras.Variable, float]] = {}
    for call in graph.calls.values():
        absorber = _absorber(graph, call) if type(call.operation) in _LINEAR else None
        if absorber is not None:
            lost = gone[_consumed(graph, call.operation)]
            if lost.any():
                losing[id(call)] = lost, *absorber
    sums: dict[int, tuple[np.ndarray, int]] = {}

    def visit(call: Call, inputs: list[tuple[Channels, np.ndarray]]) -> None:
        ((_, x),) = inputs
        x = np.moveaxis(x, channel_axis(call.operation), -1)
        x = x.reshape(-1, x.shape[-1])
        total, count = sums.get(id(call.operation), (0.0, 0))
        sums[id(call.operation)] = total + x.sum(axis=0, dtype="float64"), count + len(x)

    observe(graph, batches(graph.model, data), visit, wanted=lambda call: id(call) in losing)
    added = {}
    for call in graph.calls.values():
        if id(call) in losing:
            lost, variable, sign = losing[id(call)]
            total, count = sums[id(call.operation)]
            kernel = numbers_of(call.operation.kernel)
            kernel = kernel.sum(axis=tuple(range(kernel.ndim - 2)), dtype="float64")
            added[id(variable)] = sign * ((total / count * lost) @ kernel)
    return added


def _consumed(graph: Graph, layer: keras.Layer) -> np.ndarray:
    """The ids of a layer's input channels; none where its inputs come in groups."""
    for piece in graph.by_variable.get(id(layer.kernel), ()):
        if piece.role == "input" and getattr(layer, "groups", 1) == 1:
            return piece.ids
    return np.zeros(0, np.int64)


def _absorber(graph: Graph, call: Call) -> tuple[keras.Variable, float] | None:
    """`(variable, sign)`: the variable that can take up a constant that the layer lost."""
    layer = call.operation
    if layer.bias is not None:
        return layer.bias, 1.0
    behind = [
        other
        for other in graph.calls.values()
        if any(x is call.outputs for x in channels_in((other.args, other.kwargs)))
    ]
    if len(behind) == 1 and isinstance(behind[0].operation, keras.layers.BatchNormalization):
        return behind[0].operation.moving_mean, -1.0
    return None
