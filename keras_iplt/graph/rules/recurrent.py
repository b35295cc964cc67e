"""Recurrent layers and embeddings."""

from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.channels import SOLID, Channels, Outputs
from keras_iplt.graph.flow import Flow, channel_axis, channels_in
from keras_iplt.graph.masked import Operand, trial
from keras_iplt.graph.rules.registry import layer_rule

_GATES = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}


def _gates(layer: keras.Layer) -> int:
    return next(_GATES[kind.__name__] for kind in type(layer).__mro__ if kind.__name__ in _GATES)


def _states(
    flow: Flow, layer: keras.Layer, ids: np.ndarray, initial_state: Any, axis: int = -1
) -> Outputs:
    """Output and states: all of them carry the layer's units."""
    states = channels_in(initial_state)
    for state in states:
        flow.join(flow.vector(state, axis), ids, "it starts from a state that stays")
    # A masked unit adds activation(0), times a gate, to what it starts from.
    from_zero = all(state.zero for state in states) and not layer.stateful
    quiet = trial(layer.cell.activation, [Operand(True, (0.0,))]).number == 0
    masked = 0.0 if quiet and from_zero else None
    outputs = [flow.place(ids, axis, output=i, masked=masked) for i in range(len(flow.shapes))]
    return outputs if len(outputs) > 1 else outputs[0]


def _count_steps(
    flow: Flow, x: Channels, kernel: keras.Variable, inputs: np.ndarray, ids: np.ndarray, gates: int
) -> None:
    steps = x.shape[1]
    flow.work(None if steps is None else steps * gates, inputs, ids)
    flow.work(None if steps is None else steps * gates, ids, ids)


@layer_rule(
    "SimpleRNN", "GRU", "LSTM", resize=lambda layer, after: {
        "units": after.size(layer.cell.recurrent_kernel, 0)
    }
)  # fmt: skip
def recurrent(
    flow: Flow, layer: keras.Layer, x: Channels, initial_state: Any = None, mask: Any = None
) -> Outputs:
    cell, gates = layer.cell, _gates(layer)
    inputs = flow.vector(x, -1, "its steps differ in their channels")
    units = flow.create(layer, cell.units)
    flow.consume(cell.kernel, 0, inputs)
    flow.slice(cell.kernel, 1, np.tile(units, gates), "output")
    flow.consume(cell.recurrent_kernel, 0, units)
    flow.slice(cell.recurrent_kernel, 1, np.tile(units, gates), "output")
    if cell.bias is not None:
        flow.follow(cell.bias, -1, np.tile(units, gates))
        steps = x.shape[1]
        biases = gates * (cell.bias.shape[0] if len(cell.bias.shape) == 2 else 1)
        flow.work(None if steps is None else steps * biases, units, adds=True)
    _count_steps(flow, x, cell.kernel, inputs, units, gates)
    return _states(flow, layer, units, initial_state)


@layer_rule(
    "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", resize=lambda layer, after: {
        "filters": after.size(layer.cell.recurrent_kernel, -2)
    }
)  # fmt: skip
def conv_lstm(
    flow: Flow, layer: keras.Layer, x: Channels, initial_state: Any = None, mask: Any = None
) -> Outputs:
    cell, axis = layer.cell, channel_axis(layer)
    if layer.data_format == "channels_first":
        flow.work(None)
        return flow.frozen(x, "a recurrent convolution with channels first is not understood")
    inputs = flow.vector(x, axis, "a convolution mixes its positions")
    units = flow.create(layer, cell.filters, convolution=True)
    for kernel, consumed in ((cell.kernel, inputs), (cell.recurrent_kernel, units)):
        flow.consume(kernel, -2, consumed)
        flow.slice(kernel, -1, np.tile(units, 4), "output")
        spatial = flow.positions(flow.shapes[0][:1] + flow.shapes[0][-len(kernel.shape) + 1 :], -1)
        steps = x.shape[1]
        positions = None if steps is None or spatial is None else steps * spatial
        window = int(np.prod(kernel.shape[:-2]))
        flow.work(None if positions is None else positions * window * 4, consumed, units)
    if cell.bias is not None:
        flow.follow(cell.bias, 0, np.tile(units, 4))
        flow.work(None if positions is None else positions * 4, units, adds=True)
    return _states(flow, layer, units, initial_state)


@layer_rule("Embedding", resize=lambda layer, after: {
    "output_dim": after.size(private.weight_called(layer, "embeddings"), 1)})  # fmt: skip
def embedding(flow: Flow, layer: keras.Layer, x: Any) -> Channels:
    if isinstance(x, Channels) and (x.ids != SOLID).any():
        flow.freeze(x, "it is used as an index")
    ids = flow.create(layer, layer.output_dim)
    flow.slice(private.weight_called(layer, "embeddings"), 1, ids, "output")
    return flow.place(ids, -1)
