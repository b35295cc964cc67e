"""Separable convolutions as the two that they are: integers are rounded between them, too."""

from collections.abc import Mapping

import keras
from keras import layers

from keras_iplt import _keras as private
from keras_iplt.graph.cloning import cloned
from keras_iplt.graph.slices import numbers_of
from keras_iplt.quantization.quantize_config import QuantizeConfig

__all__ = ["with_both_parts"]

Annotations = Mapping[str, QuantizeConfig | None] | None


def with_both_parts(model: keras.Model, annotated: Annotations) -> tuple[keras.Model, Annotations]:
    """The model with two layers where there was a separable convolution, and how each is quantised.

    The model itself where there is none that is to be quantised by default.

    Args:
        model: a Functional or Sequential model.
        annotated: see `layout_of`.
    """
    several = {
        id(layer): _parts(layer)
        for layer in private.all_layers(model)
        if type(layer) is layers.SeparableConv2D
        and layer.data_format == "channels_last"
        and (annotated is None or (layer.name in annotated and annotated[layer.name] is None))
    }
    if not several:
        return model, annotated
    if annotated is not None:
        annotated = {**annotated, **{one.name: None for both in several.values() for one in both}}

    def in_two(operation: keras.Operation) -> list[keras.Operation]:
        if not isinstance(operation, keras.Layer):
            return [private.copied(operation)]
        return several.get(id(operation), [operation])

    return cloned(model, in_two), annotated


def _parts(layer: layers.SeparableConv2D) -> list[keras.Operation]:
    """What it computes for each channel, and over all of them."""
    of_both = {"dtype": layer.dtype_policy, "trainable": layer.trainable}
    depthwise = layers.DepthwiseConv2D(
        layer.kernel_size, layer.strides, layer.padding, layer.depth_multiplier,
        dilation_rate=layer.dilation_rate, use_bias=False,
        depthwise_initializer=layer.depthwise_initializer,
        depthwise_regularizer=layer.depthwise_regularizer,
        depthwise_constraint=layer.depthwise_constraint,
        name=f"{layer.name}_depthwise", **of_both,
    )  # fmt: skip
    pointwise = layers.Conv2D(
        layer.filters, 1, activation=layer.activation, use_bias=layer.use_bias,
        kernel_initializer=layer.pointwise_initializer, bias_initializer=layer.bias_initializer,
        kernel_regularizer=layer.pointwise_regularizer, bias_regularizer=layer.bias_regularizer,
        activity_regularizer=layer.activity_regularizer,
        kernel_constraint=layer.pointwise_constraint, bias_constraint=layer.bias_constraint,
        name=layer.name, **of_both,
    )  # fmt: skip
    first, *others = map(numbers_of, layer.variables)
    width = first.shape[-2]
    depthwise.build((None, None, None, width))
    pointwise.build((None, None, None, width * layer.depth_multiplier))
    depthwise.set_weights([first])
    pointwise.set_weights(others)
    return [depthwise, pointwise]
