"""From a Keras model to a file that runs elsewhere, checked there before it is put in its place."""

from keras_iplt.exporting.exporter import Export, export
from keras_iplt.exporting.layer_errors import QuantizationErrors, quantization_errors
from keras_iplt.exporting.runtimes import Runtime, tflite_runtime, timed

__all__ = [
    "Export",
    "QuantizationErrors",
    "Runtime",
    "export",
    "quantization_errors",
    "tflite_runtime",
    "timed",
]
