"""Running what was written, in the runtime that it is for."""

import importlib.metadata
import time
import warnings

import keras
import numpy as np

from keras_iplt import keras_private as private
from keras_iplt.shipping.formats import io_names

__all__ = ["Runtime", "load"]


class Runtime:
    """A written model, loaded.

    Attributes:
        name: of what runs it, with its version.
    """

    def __init__(self, name, call):
        self.name, self._call = name, call

    def __call__(self, inputs):
        """The outputs, as a list of arrays, for a list of arrays."""
        return [np.asarray(x) for x in self._call(inputs)]

    def latency(self, inputs, seconds=1.0, most=100):
        """The median of the seconds that a call takes, after one that warms up."""
        self(inputs)
        taken: list[float] = []
        while sum(taken) < seconds and len(taken) < most:
            begin = time.perf_counter()
            self._call(inputs)
            taken.append(time.perf_counter() - begin)
        return float(np.median(taken))


def load(model, path, format):
    """A `Runtime` for a file that was written from a model."""
    return _LOADERS[format](model, str(path))


def _tflite(model, path):
    interpreter, name = _interpreter(path)
    runner = interpreter.get_signature_runner()
    inputs, outputs = io_names(model)

    def call(values):
        found = runner(**dict(zip(inputs, values, strict=True)))
        return [found[name] for name in outputs]

    return Runtime(name, call)


def _interpreter(path):
    """TFLite's, on one thread, and its name: LiteRT's if that is installed, else TensorFlow's."""
    try:
        from ai_edge_litert.interpreter import Interpreter

        version = importlib.metadata.version("ai-edge-litert")
        return Interpreter(path, num_threads=1), f"LiteRT {version}"
    except ImportError:
        import tensorflow as tf

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that LiteRT takes its place
            return tf.lite.Interpreter(
                path, num_threads=1
            ), f"TFLite of TensorFlow {tf.__version__}"


def _saved_model(model, path):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    function = loaded.signatures["serving_default"]
    inputs, outputs = io_names(model)

    def call(values, kept=loaded):  # which holds the variables
        found = function(**{n: tf.constant(v) for n, v in zip(inputs, values, strict=True)})
        return [found[name].numpy() for name in outputs]

    return Runtime(f"TensorFlow {tf.__version__}", call)


def _keras(model, path):
    loaded = keras.saving.load_model(path, compile=False, safe_mode=False)
    return Runtime(f"Keras {keras.__version__}", lambda values: outputs_of(loaded, values))


def outputs_of(model, values):
    """What a Keras model computes, as a list of arrays."""
    structure = private.input_structure(private.function_of(model))
    given = keras.tree.pack_sequence_as(structure, values)
    outputs = model(given, training=False)
    return [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(outputs)]


_LOADERS = {"tflite": _tflite, "saved_model": _saved_model, "keras": _keras}
