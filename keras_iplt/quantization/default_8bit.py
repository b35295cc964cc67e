"""The default: eight bits, as TFLite computes with them."""

from keras_iplt.quantization.quantize_config import Default8BitQuantizeConfig
from keras_iplt.quantization.schemes import Default8BitQuantizeScheme

__all__ = ["Default8BitQuantizeConfig", "Default8BitQuantizeScheme"]
