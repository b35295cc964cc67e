"""Models that train as they will compute in 8-bit integers: quantisation-aware training.

The names are those of tensorflow-model-optimization (`tfmot.quantization.keras`), for Keras 3.

>>> import keras
>>> import numpy as np
>>> from keras_iplt import quantization
>>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
>>> quantized = quantization.quantize_model(model)
>>> quantized.compile("adam", "mse")
>>> _ = quantized.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0)
>>> [layer.name for layer in quantization.strip_quantization(quantized).layers]
['head']
"""

from keras_iplt.quantization import (
    channels,  # noqa: F401
    combine,
    default_8bit,
    default_n_bit,
    quantizers,
)
from keras_iplt.quantization.calibration import calibrate
from keras_iplt.quantization.layouts import Layout
from keras_iplt.quantization.quantize import (
    layout,
    quantize_annotate_layer,
    quantize_annotate_model,
    quantize_apply,
    quantize_model,
    quantize_scope,
    strip_quantization,
)
from keras_iplt.quantization.quantize_config import QuantizeConfig
from keras_iplt.quantization.wrapper import QuantizeAnnotate, QuantizeLayer, QuantizeWrapper

QuantizeWrapperV2 = QuantizeWrapper  # as tfmot calls it today

__all__ = [
    "Layout",
    "QuantizeAnnotate",
    "QuantizeConfig",
    "QuantizeLayer",
    "QuantizeWrapper",
    "QuantizeWrapperV2",
    "calibrate",
    "combine",
    "default_8bit",
    "default_n_bit",
    "layout",
    "quantize_annotate_layer",
    "quantize_annotate_model",
    "quantize_apply",
    "quantize_model",
    "quantize_scope",
    "quantizers",
    "strip_quantization",
]
