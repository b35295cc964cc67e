"""The default: eight bits, as TFLite computes with them."""

from keras_iplt.quantization.quantize import Default8BitQuantizeScheme
from keras_iplt.quantization.quantize_config import Default8BitQuantizeConfig

__all__ = ["Default8BitQuantizeConfig", "Default8BitQuantizeScheme"]
