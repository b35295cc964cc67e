"""What of a layer is quantised, and how."""

import abc
from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.quantization.quantizers import (
    FixedQuantizer,
    MovingAverageQuantizer,
    Quantizer,
    WeightsQuantizer,
)
from keras_iplt.support.arguments import checked

__all__ = ["Default8BitQuantizeConfig", "QuantizeConfig", "activations_quantizer"]

Pairs = list[tuple[Any, Quantizer]]


class QuantizeConfig(abc.ABC):
    """Base of what says how a layer is quantised, and of those of your own.

    The methods are tfmot's. Of its others, `set_quantize_weights` and `set_quantize_activations`
    may be there and are not called: a variable that `get_weights_and_quantizers` names is
    quantised wherever the layer uses it.
    """

    @abc.abstractmethod
    def get_weights_and_quantizers(self, layer: keras.Layer) -> Pairs:
        """Pairs of a variable of the layer, which is built, and its `Quantizer`."""

    @abc.abstractmethod
    def get_activations_and_quantizers(self, layer: keras.Layer) -> Pairs:
        """A pair `(layer.activation, quantizer)` for what comes out of the activation, or none."""

    @abc.abstractmethod
    def get_output_quantizers(self, layer: keras.Layer) -> list[Quantizer]:
        """A quantizer for each output of the layer, or none."""

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "QuantizeConfig":
        """What such a config says."""
        return cls(**config)

    def get_input_to_activation_quantizers(self, layer: keras.Layer) -> list[Quantizer]:
        """A quantizer for what goes into the layer's activation, or none."""
        return []


@keras.saving.register_keras_serializable("keras_iplt")
class Default8BitQuantizeConfig(QuantizeConfig):
    """Eight bits, as TFLite computes with them.

    Args:
        weights: by the name of a weight, the axes along which each index has a range of its own.
        output: whether what comes out is quantised.
        fixed: its range, where the activation says it: `(low, high)`.
        before_activation: whether what goes into the layer's own activation is quantised, too.
        as_convolution: whether .tflite files have a convolution in the layer's place, which is a
            batch normalisation that follows none.

    Example:

    >>> import keras
    >>> config = Default8BitQuantizeConfig({"kernel": (-1,)})
    >>> layer = keras.layers.Dense(2)
    >>> layer.build((None, 3))
    >>> [(weight.name, quantizer.axes) for weight, quantizer in
    ...     config.get_weights_and_quantizers(layer)]
    [('kernel', (-1,))]
    """

    @checked
    def __init__(
        self,
        weights: dict[str, tuple[int, ...]] | None = None,
        output: bool = True,
        fixed: tuple[float, float] | None = None,
        before_activation: bool = False,
        as_convolution: bool = False,
    ) -> None:
        self.weights, self.output, self.fixed = dict(weights or {}), output, fixed
        self.before_activation, self.as_convolution = before_activation, as_convolution

    def get_weights_and_quantizers(self, layer: keras.Layer) -> Pairs:
        return [
            (private.weight_called(layer, name), WeightsQuantizer(axes))
            for name, axes in self.weights.items()
        ]

    def get_activations_and_quantizers(self, layer: keras.Layer) -> Pairs:
        return []

    def get_input_to_activation_quantizers(self, layer: keras.Layer) -> list[Quantizer]:
        return [activations_quantizer()] if self.before_activation else []

    def get_output_quantizers(self, layer: keras.Layer) -> list[Quantizer]:
        return [activations_quantizer(self.fixed)] if self.output else []

    def get_config(self) -> dict[str, Any]:
        return {
            "weights": self.weights,
            "output": self.output,
            "fixed": self.fixed,
            "before_activation": self.before_activation,
            "as_convolution": self.as_convolution,
        }


def activations_quantizer(fixed: tuple[float, float] | None = None) -> Quantizer:
    """The quantizer of activations: of a range that is given, or found while training."""
    if fixed is not None:
        return FixedQuantizer(8, *fixed, narrow_range=False)
    return MovingAverageQuantizer(8, per_axis=False, symmetric=False, narrow_range=False)
