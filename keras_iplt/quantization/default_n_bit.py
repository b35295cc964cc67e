"""Fewer or more bits than eight, as far as TFLite has operations for them."""

from keras_iplt.quantization.quantize_config import DefaultNBitQuantizeConfig
from keras_iplt.quantization.schemes import DefaultNBitQuantizeScheme

__all__ = ["DefaultNBitQuantizeConfig", "DefaultNBitQuantizeScheme"]
