"""What files hold in the place of quantised layers: rounded weights, and ranges that are fixed.

A converter sees plain layers, the weights of which lie on the grid that it will find for them, and
fake quantisation between constants, which it turns into the scales of integers.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_iplt.errors import ExportError
from keras_iplt.graph.slices import numbers_of
from keras_iplt.quantization.fake import fake_quantized
from keras_iplt.support.other_values import other_values

__all__ = ["Written", "as_convolution", "fixed", "in_few_bits"]


class Written(keras.layers.Layer):
    """A layer that only stands in a model while that is written.

    Args:
        name: of the layer.
        inner: the layers in it.
        function: what it computes.
        spec: a function of symbolic tensors that returns those that come out.
        step: how far apart the numbers are that come out, where they are rounded.
        bits: how many those have that are passed on.
    """

    def __init__(
        self,
        name: str,
        inner: list[keras.Layer],
        function: Callable[..., Any],
        spec: Callable[..., Any],
        step: float | None = None,
        bits: int = 8,
    ) -> None:
        super().__init__(name=name)
        self.inner, self.function, self.spec = inner, function, spec
        self.step, self.bits = step, bits

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return self.spec(*args, **kwargs)


Rounding = Callable[[Any], Any]


def fixed(name: str, quantizer: Any, state: Any) -> tuple[Rounding, float | None]:
    """What a quantizer does once its range is held, and its step.

    Args:
        name: of the layer.
        quantizer, state: a `Quantizer` and what its `build` returned.
    """
    if not hasattr(quantizer, "held"):  # one of the user's own
        return lambda x: quantizer(x, False, weights=state), None
    held = quantizer.held(state)
    if held is None:
        raise ExportError(
            f"layer {name!r}: expected a range, found while training, received: none. Train the "
            "quantised model first, on real examples, or measure ranges on some: "
            "keras_iplt.quantization.calibrate(model, x)"
        )
    low, high = held
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ExportError(
            f"layer {name!r}: expected a finite range, received: {low} to {high}. Infinite numbers "
            "passed through it in training: mend the data, and quantise and train anew"
        )
    bits, narrow = quantizer.num_bits, quantizer.narrow_range
    per_axis = np.ndim(low) > 0
    if not per_axis:
        low, high = float(low), float(high)
    step = None if per_axis else (high - low) / (2**bits - 1 - narrow)
    return lambda x: fake_quantized(x, low, high, bits, narrow, per_axis), step


def as_convolution(norm: Any) -> tuple[keras.Layer, Rounding]:
    """A batch norm as a convolution with one weight per channel, which integers can compute.

    Each weight is the largest of its channel, so that rounding changes none of them."""
    mean, variance = numbers_of(norm.moving_mean), numbers_of(norm.moving_variance)
    scale = 1 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        scale = scale * numbers_of(norm.gamma)
    bias = -mean * scale + (numbers_of(norm.beta) if norm.center else 0)
    width = len(scale)
    convolution = keras.layers.DepthwiseConv2D(1)
    convolution.build((None, None, None, width))
    convolution.set_weights([scale.reshape(1, 1, width, 1), bias])
    return convolution, _over_pixels(convolution)


def in_few_bits(layer: Any, num_bits: int) -> tuple[keras.Layer, Rounding]:
    """A convolution or Dense layer whose kernel a converter knows to be of few bits, and writes so.

    By itself it would find eight. For a Dense layer it can do so only if that is a convolution.

    Args:
        layer: a Conv2D or Dense layer with rounded weights.
        num_bits: of the kernel.
    """
    convolution, function = layer, layer
    if isinstance(layer, keras.layers.Dense):
        convolution = keras.layers.Conv2D(
            layer.units, 1, activation=layer.activation, use_bias=layer.use_bias
        )
        convolution.build((None, None, None, layer.kernel.shape[0]))
        kernel, *bias = map(numbers_of, layer.variables)
        convolution.set_weights([kernel[None, None], *bias])
        function = _over_pixels(convolution)
    kernel = numbers_of(convolution.kernel)
    high = np.abs(kernel).max((0, 1, 2))
    high = np.where(high == 0, 1.0, high)

    def call(x: Any, training: bool | None = None) -> Any:
        rounded = fake_quantized(ops.convert_to_tensor(kernel), -high, high, num_bits, True, True)
        with other_values(convolution, [(convolution.kernel, rounded)]):
            return function(x)

    return convolution, call


def _over_pixels(convolution: keras.Layer) -> Rounding:
    """A convolution of single pixels, of tensors of any rank."""

    def call(x: Any, training: bool | None = None, mask: Any = None) -> Any:
        if len(x.shape) == 4:
            return convolution(x)
        pixels = int(np.prod(x.shape[1:-1], dtype=int))
        y = convolution(ops.reshape(x, (-1, pixels, 1, x.shape[-1])))
        return ops.reshape(y, (-1, *x.shape[1:-1], y.shape[-1]))

    return call
