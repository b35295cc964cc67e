"""Layers around other layers."""

from typing import Any

import keras
import numpy as np

from keras_iplt.graph.channels import Channels, Outputs, Shape
from keras_iplt.graph.flow import Flow
from keras_iplt.graph.rules.registry import After, layer_rule


def _without_time(x: Channels) -> Channels:
    return Channels(x.ids[:, 0], (x.shape[0], *x.shape[2:]), x.masked)


def _with_time(x: Channels, shape: Shape) -> Channels:
    return Channels(np.expand_dims(x.ids, 1), shape, x.masked)


def _resize_inner(layer: keras.Layer, after: After) -> dict[str, Any]:
    return {"layer": after.serialized(layer.layer)}


@layer_rule("TimeDistributed", resize=_resize_inner)
def time_distributed(flow: Flow, layer: keras.Layer, x: Channels, mask: Any = None) -> Outputs:
    """The inner layer on each step; what it costs is counted once per step."""
    if 1 in x.varying:
        return flow.frozen(x, "its steps differ in their channels")
    shape, before = flow.shapes[0], len(flow.works)
    y = flow.call(layer.layer, (_without_time(x),), {})
    flow.repeat_works(before, x.shape[1])
    return _with_time(y, shape)


def _resize_both(layer: keras.Layer, after: After) -> dict[str, Any]:
    return {
        "layer": after.serialized(layer.forward_layer),
        "backward_layer": after.serialized(layer.backward_layer),
    }


@layer_rule("Bidirectional", resize=_resize_both)
def bidirectional(
    flow: Flow, layer: keras.Layer, x: Channels, initial_state: Any = None, mask: Any = None
) -> Outputs:
    if initial_state is not None or layer.return_state or layer.stateful:
        return flow.frozen([x, initial_state], "states of both directions are not understood")
    shapes = flow.shapes
    forward = flow.call(layer.forward_layer, (x,), {})
    backward = flow.call(layer.backward_layer, (x,), {})
    flow.shapes = shapes
    # Keras takes the second direction to be as wide as the first, whatever the merge mode.
    flow.join(forward.ids, backward.ids, "the other direction must stay")
    masked = 0.0 if forward.zero and backward.zero else None
    if layer.merge_mode is None:
        return [forward, backward]
    if layer.merge_mode == "concat":
        ids = np.concatenate([flow.vector(forward, -1), flow.vector(backward, -1)])
        return flow.place(ids, -1, masked=masked)
    return Channels(flow.partition.find(forward.ids), shapes[0], masked)
