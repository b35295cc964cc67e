"""How many bits weights and activations have, by default."""

import dataclasses
from typing import Annotated, Any

import keras
from keras import layers

from keras_iplt.errors import OptionError
from keras_iplt.quantization.quantize_config import (
    Default8BitQuantizeConfig,
    DefaultNBitQuantizeConfig,
    QuantizeConfig,
    activations_quantizer,
)
from keras_iplt.quantization.quantizers import Quantizer
from keras_iplt.support.arguments import checked, one_of

__all__ = ["Default8BitQuantizeScheme", "DefaultNBitQuantizeScheme"]

# Files hold others in 8 bits: converters know no other numbers in them, and they are few.
_IN_FEW_BITS = (layers.Conv2D, layers.Dense)


@checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DefaultNBitQuantizeScheme:
    """Weights per channel and activations per tensor, of as many bits as asked for.

    What of a model that means, `layout` says. How a single layer is quantised is changed by a
    `QuantizeConfig` of its own.

    Args:
        num_bits_weight: 4 or 8, of the kernels of Conv2D and Dense. Others have 8.
        num_bits_activation: 8 or 16. Those of 16 bits are as many below zero as above.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="head")])
    >>> from keras_iplt import quantization
    >>> scheme = DefaultNBitQuantizeScheme(num_bits_activation=16)
    >>> print(quantization.layout(model, scheme))
    operation  weights  output
    head       kernel   int16
    """

    num_bits_weight: Annotated[int, one_of(4, 8)] = 8
    num_bits_activation: Annotated[int, one_of(8, 16)] = 8

    def __post_init__(self) -> None:
        if (self.num_bits_weight, self.num_bits_activation) == (4, 16):
            raise OptionError(
                "num_bits_weight: expected 8 with num_bits_activation=16, received: 4. TFLite has "
                "no operations for both"
            )

    def config(
        self,
        operation: keras.Operation | None = None,
        weights: dict[str, tuple[int, ...]] | None = None,
        **how: Any,
    ) -> QuantizeConfig:
        """How an operation is quantised; see `Default8BitQuantizeConfig`."""
        bits = self.num_bits_weight if type(operation) in _IN_FEW_BITS else 8
        if bits == self.num_bits_activation == 8:
            return Default8BitQuantizeConfig(weights, **how)
        return DefaultNBitQuantizeConfig(
            weights, num_bits_weight=bits, num_bits_activation=self.num_bits_activation, **how
        )

    def for_inputs(self) -> Quantizer:
        """How inputs of a model are quantised."""
        return activations_quantizer(None, self.num_bits_activation)


class Default8BitQuantizeScheme(DefaultNBitQuantizeScheme):
    """Eight bits as TFLite computes with them: weights per channel, activations per tensor."""

    def __init__(self) -> None:
        super().__init__()
