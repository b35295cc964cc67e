"""What of a layer is quantised, and how."""

import abc
from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.errors import OptionError
from keras_iplt.quantization.quantizers import (
    FixedQuantizer,
    MovingAverageQuantizer,
    Quantizer,
    WeightsQuantizer,
)
from keras_iplt.support.arguments import Count, checked

__all__ = [
    "Default8BitQuantizeConfig",
    "DefaultNBitQuantizeConfig",
    "QuantizeConfig",
    "activations_quantizer",
]

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
        keep_zeros, keep_clusters: whether weights stay zero, and equal, that are so when the layer
            is wrapped; see `combine`.

    Example:

    >>> import keras
    >>> config = Default8BitQuantizeConfig({"kernel": (-1,)})
    >>> layer = keras.layers.Dense(2)
    >>> layer.build((None, 3))
    >>> [(weight.name, quantizer.axes) for weight, quantizer in
    ...     config.get_weights_and_quantizers(layer)]
    [('kernel', (-1,))]
    """

    num_bits_weight = num_bits_activation = 8

    @checked
    def __init__(
        self,
        weights: dict[str, tuple[int, ...]] | None = None,
        output: bool = True,
        fixed: tuple[float, float] | None = None,
        before_activation: bool = False,
        as_convolution: bool = False,
        keep_zeros: bool = False,
        keep_clusters: bool = False,
    ) -> None:
        self.weights, self.output, self.fixed = dict(weights or {}), output, fixed
        self.before_activation, self.as_convolution = before_activation, as_convolution
        self.keep_zeros, self.keep_clusters = keep_zeros, keep_clusters

    def get_weights_and_quantizers(self, layer: keras.Layer) -> Pairs:
        how = self.num_bits_weight, self.keep_zeros, self.keep_clusters
        return [
            (_weight(layer, name), WeightsQuantizer(axes, *how))
            for name, axes in self.weights.items()
        ]

    def get_activations_and_quantizers(self, layer: keras.Layer) -> Pairs:
        return []

    def get_input_to_activation_quantizers(self, layer: keras.Layer) -> list[Quantizer]:
        bits = self.num_bits_activation
        return [activations_quantizer(None, bits)] if self.before_activation else []

    def get_output_quantizers(self, layer: keras.Layer) -> list[Quantizer]:
        bits = self.num_bits_activation
        return [activations_quantizer(self.fixed, bits)] if self.output else []

    def get_config(self) -> dict[str, Any]:
        return {
            "weights": self.weights,
            "output": self.output,
            "fixed": self.fixed,
            "before_activation": self.before_activation,
            "as_convolution": self.as_convolution,
            "keep_zeros": self.keep_zeros,
            "keep_clusters": self.keep_clusters,
        }


@keras.saving.register_keras_serializable("keras_iplt")
class DefaultNBitQuantizeConfig(Default8BitQuantizeConfig):
    """As `Default8BitQuantizeConfig`, of other numbers of bits.

    Args:
        *args, **kwargs: of that.
        num_bits_weight, num_bits_activation: see `DefaultNBitQuantizeScheme`.
    """

    def __init__(
        self, *args: Any, num_bits_weight: Count = 8, num_bits_activation: Count = 8, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.num_bits_weight, self.num_bits_activation = num_bits_weight, num_bits_activation

    def get_config(self) -> dict[str, Any]:
        bits = {name: getattr(self, name) for name in ("num_bits_weight", "num_bits_activation")}
        return {**super().get_config(), **bits}


def _weight(layer: keras.Layer, name: str) -> keras.Variable:
    try:
        return private.weight_called(layer, name)
    except AttributeError as error:
        names = ", ".join(repr(variable.name) for variable in layer.weights)
        raise OptionError(
            f"weights: expected names of weights of layer {layer.name!r}, among {names}, received: "
            f"{name!r}"
        ) from error


def activations_quantizer(fixed: tuple[float, float] | None = None, num_bits: int = 8) -> Quantizer:
    """The quantizer of activations: of a range that is given, or found while training.

    TFLite's numbers of 16 bits are as many below zero as above, and where the range is given it
    is that from -1 to 1."""
    wide = num_bits > 8
    if fixed is not None:
        low, high = (-1.0, 1 - 2.0 ** (1 - num_bits)) if wide else fixed
        return FixedQuantizer(num_bits, low, high, narrow_range=False)
    return MovingAverageQuantizer(num_bits, per_axis=False, symmetric=wide, narrow_range=wide)
