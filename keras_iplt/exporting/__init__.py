"""From a Keras model to a file that runs elsewhere, checked there before it is put in its place."""

from keras_iplt.exporting.exporter import Export, export
from keras_iplt.exporting.runtimes import Runtime, tflite_runtime, timed

__all__ = ["Export", "Runtime", "export", "tflite_runtime", "timed"]
