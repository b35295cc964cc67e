"""Channels that are scattered among those of a stream that stays."""

from typing import Any

import keras

from keras_iplt.graph.channels import SOLID, Channels, Outputs
from keras_iplt.graph.flow import Flow
from keras_iplt.graph.rules.registry import After, register_rule
from keras_iplt.layers import Scatter


def _resize(layer: keras.Layer, after: After) -> dict[str, Any]:
    left = after.kept_along(after.call.args[0], layer.axis)
    return {"kept": layer.positions[left].tolist()}


@register_rule(Scatter, resize=_resize)
def scatter(flow: Flow, layer: keras.Layer, x: Channels) -> Outputs:
    ids = flow.vector(x, layer.axis)
    if not x.zero and (ids != SOLID).any():
        return flow.frozen(x, "a masked one is not zero where it is scattered")
    for call in flow.calls_of(layer):  # one list of positions must do for every use
        earlier = flow.vector(call.args[0], layer.axis)
        flow.join(earlier, ids, "a shared layer meets channels that stay")
    stream = flow.partition.fresh(layer.width)
    flow.freeze(stream, "it is part of a residual stream that keeps its full width")
    return flow.place(stream, layer.axis)
