"""What rounding does to channels: nothing. So quantised models are pruned like others.

Each weight's range is that of the weights, per output channel, and goes with the channel; that of
activations is one for all channels and stays.
"""

import dataclasses
from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.graph.channels import Channels, Outputs
from keras_iplt.graph.flow import Flow, channels_in
from keras_iplt.graph.gains import ended
from keras_iplt.graph.rules import register_rule
from keras_iplt.graph.rules.registry import After
from keras_iplt.quantization.wrapper import QuantizeLayer, QuantizeWrapper

__all__ = ["wrapped"]


def _smaller(layer: QuantizeWrapper, after: After) -> dict[str, Any]:
    return {"layer": after.serialized(layer.layer)}


@register_rule(QuantizeWrapper, resize=_smaller)
def wrapped(flow: Flow, layer: QuantizeWrapper, *args: Any, **kwargs: Any) -> Outputs:
    """What the layer in it does."""
    if any(len(variable.shape) for variable in private.own_variables(layer)):
        return flow.refused(
            layer.layer, [args, kwargs], "its quantizers keep something of each channel or weight"
        )
    outputs = flow.call(layer.layer, args, kwargs)
    if not layer.rounds_outputs:
        return outputs
    outputs = ended(flow, outputs)
    return keras.tree.pack_sequence_as(outputs, [_rounded(x) for x in channels_in(outputs)])


@register_rule(QuantizeLayer)
def rounded(flow: Flow, layer: QuantizeLayer, inputs: Channels) -> Outputs:
    """Zeros stay zeros: every range has a step there."""
    return _rounded(inputs)


def _rounded(x: Channels) -> Channels:
    return dataclasses.replace(x, masked=0.0 if x.zero else None)
