"""Attention: per-head query/key and value channels, the same ones for every head."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.channels import SOLID, Channels, Outputs
from keras_iplt.graph.flow import Flow, channels_in, product
from keras_iplt.graph.rules.registry import After, layer_rule, operation_rule


def _resize_heads(layer: keras.Layer, after: After) -> dict[str, Any]:
    query, _, value, output = private.attention_denses(layer)
    return {
        "num_heads": after.size(private.kernel_of(query), 1),
        "key_dim": after.size(private.kernel_of(query), -1),
        "value_dim": after.size(private.kernel_of(value), -1),
        "output_shape": (after.size(private.kernel_of(output), -1),),
    }


@layer_rule("MultiHeadAttention", resize=_resize_heads)
def multi_head(
    flow: Flow,
    layer: keras.Layer,
    query: Channels,
    value: Channels,
    key: Channels | None = None,
    *_: Any,
    return_attention_scores: bool = False,
    **__: Any,
) -> Outputs:
    """Softmax compares positions, not channels, so heads may get narrower.

    Scores are divided by sqrt(key_dim): the query projection makes good for what is divided by
    less."""
    return _attend(flow, layer, query, value, key, return_attention_scores)


def _resize_grouped(layer: keras.Layer, after: After) -> dict[str, Any]:
    query, key, *_ = map(private.kernel_of, private.attention_denses(layer))
    return {
        "head_dim": after.size(query, -1),
        "num_query_heads": after.size(query, 1),
        "num_key_value_heads": after.size(key, 1),
    }


@layer_rule("GroupQueryAttention", resize=_resize_grouped)
def grouped_query(
    flow: Flow,
    layer: keras.Layer,
    query: Channels,
    value: Channels,
    key: Channels | None = None,
    *_: Any,
    return_attention_scores: bool = False,
    **__: Any,
) -> Outputs:
    y = _attend(flow, layer, query, value, key, return_attention_scores)
    for other in (value, key):
        if other is not None:
            reason = "this attention demands as many channels of its values as of its queries"
            flow.join(flow.vector(query, -1), flow.vector(other, -1), reason)
    outputs = flow.vector(y[0] if isinstance(y, list) else y, -1)
    flow.join(flow.vector(query, -1), outputs, "this attention puts out as many channels as go in")
    return y


def _attend(
    flow: Flow,
    layer: keras.Layer,
    query: Channels,
    value: Channels,
    key: Channels | None,
    return_scores: bool,
) -> Outputs:
    of_query, of_key, of_value, of_output = private.attention_denses(layer)
    asking, merging = private.kernel_of(of_query), private.kernel_of(of_output)
    narrow = flow.create(layer, asking.shape[-1])
    wide = flow.create(layer, private.kernel_of(of_value).shape[-1])
    if len(wide) == len(narrow):  # they stay equally long: fused kernels demand it
        flow.join(narrow, wide, "")
    key = value if key is None else key
    outputs = flow.create(layer, merging.shape[-1])
    shared = _heads(flow, layer, private.kernel_of(of_key).shape[1])
    heads = np.repeat(shared, asking.shape[1] // len(shared))  # of which several share keys
    gates = [(gate, query, heads, wide) for gate in private.attention_gates(layer)]
    projections = [
        (of_query, query, heads, narrow),
        (of_key, key, shared, narrow),
        (of_value, value, shared, wide),
    ]
    for projection, x, several, ids in projections + gates:
        _project(flow, projection, x, several, ids)
    for variable in (asking, of_query.bias):
        flow.rescale(variable, narrow, 0.5)
    asked = flow.positions(query.shape, -1)
    pairs = _pairs(flow, query, value, private.attention_axes(layer))
    flow.work(pairs, heads, narrow)
    flow.work(pairs, heads, wide)
    if flow.heads:
        flow.consume(merging, 0, heads)
    flow.consume(merging, 1, wide)
    flow.slice(merging, -1, outputs, "output")
    copies = math.prod(merging.shape[2:-1])  # further axes of `output_shape`
    asked = None if asked is None else asked * copies
    flow.work(asked, heads, wide, outputs)
    if of_output.bias is not None:
        flow.follow(of_output.bias, -1, outputs)
        flow.work(asked, outputs, adds=True)
    if len(merging.shape) != 3 or len(query.shape) != 3:
        flow.freeze(outputs, "the attention has several axes of positions or of channels")
        return flow.solid_outputs()
    y = flow.place(outputs, -1)
    return [y, *(flow.solid(shape) for shape in flow.shapes[1:])] if return_scores else y


def _pairs(
    flow: Flow, query: Channels, value: Channels, axes: Sequence[int] | None = None
) -> int | None:
    """How many scores are computed: positions asked, times those that each looks at."""
    asked = flow.positions(query.shape, -1)
    seen = product([value.shape[axis] for axis in axes or range(1, len(value.shape) - 1)])
    return None if asked is None or seen is None else asked * seen


def _heads(flow: Flow, layer: keras.Layer, count: int) -> np.ndarray:
    """One id per head, or per group of heads that share their keys and values."""
    return flow.create(layer, count, part="heads") if flow.heads else np.full(count, SOLID)


def _project(
    flow: Flow, projection: keras.Layer, x: Channels, heads: np.ndarray, ids: np.ndarray
) -> None:
    """One of the dense layers that make heads: kernel (in, heads, size of a head)."""
    inputs = flow.vector(x, -1, "its positions differ in their channels")
    kernel = private.kernel_of(projection)
    flow.consume(kernel, 0, inputs)
    flow.slice(kernel, -1, ids, "output")
    steps = flow.positions(x.shape, -1)
    flow.work(steps, inputs, heads, ids)
    if flow.heads:
        flow.slice(kernel, 1, heads, "output")
        flow.follow(projection.bias, 0, heads)
    if projection.bias is not None:
        # TensorFlow adds a bias (heads, 1) to (batch, positions, heads, 1) along the positions
        # when there are as many of them as heads.
        flow.at_least(ids, 2)
        flow.follow(projection.bias, -1, ids)
        flow.work(steps, heads, ids, adds=True)


@layer_rule("Attention")
def dot_attention(flow: Flow, layer: keras.Layer, inputs: Any, *_: Any, **__: Any) -> Outputs:
    """Scores sum over the channels of query and key, which must be zero where masked."""
    query, value, *rest = inputs
    key = rest[0] if rest else value
    pairs = _pairs(flow, query, value)
    if layer.score_mode == "dot":
        flow.work(pairs, flow.vector(query, -1))
    flow.work(pairs, flow.vector(value, -1))
    if layer.score_mode != "dot" or not (query.zero or key.zero):
        flow.freeze(query, "attention scores add up over its channels")
        flow.freeze(key, "attention scores add up over its channels")
    else:
        flow.join(
            flow.vector(query, -1), flow.vector(key, -1), "the other side of attention must stay"
        )
    y = Channels(flow.only(value, -1).ids, flow.shapes[0], 0.0 if value.zero else None)
    return [y, *(flow.solid(shape) for shape in flow.shapes[1:])] if flow.shapes[1:] else y


@operation_rule("DotProductAttention")
def attend(
    flow: Flow,
    operation: keras.Operation,
    query: Channels,
    key: Channels,
    value: Channels,
    bias: Any = None,
    mask: Any = None,
    scale: float | None = None,
) -> Channels:
    """Queries, keys and values (batch, position, head, channel), of one length as the result is."""
    several = [flow.vector(x, -1) for x in (query, key, value)]
    pairs = _pairs(flow, query, value, axes=[1])
    flow.work(pairs, several[0])
    flow.work(pairs, several[2])
    for other in several[1:]:
        flow.join(several[0], other, "queries, keys and values are as long as each other")
    if scale is None or not (query.zero or key.zero):
        flow.freeze(several[0], "attention scores are divided by a number of channels")
    for x in channels_in([bias, mask]):
        flow.freeze(x, "it steers an operation")
    return flow.place(several[2], -1, masked=0.0 if value.zero else None)


@layer_rule("AdditiveAttention")
def additive_attention(flow: Flow, layer: keras.Layer, inputs: Any, *_: Any, **__: Any) -> Outputs:
    query, value, *rest = inputs
    key = rest[0] if rest else value
    ids, others = flow.vector(query, -1), flow.vector(key, -1)
    pairs = _pairs(flow, query, value)
    flow.work(pairs, ids)
    flow.work(pairs, flow.vector(value, -1))
    flow.join(ids, others, "the other side of attention must stay")
    if layer.use_scale:
        flow.follow(layer.scale, 0, ids)
    elif (ids != SOLID).any() and not (query.zero and key.zero):
        flow.freeze(ids, "attention scores add up over its channels")
    y = Channels(flow.only(value, -1).ids, flow.shapes[0], 0.0 if value.zero else None)
    return [y, *(flow.solid(shape) for shape in flow.shapes[1:])] if flow.shapes[1:] else y
