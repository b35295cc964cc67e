"""Running what was written, in the runtime that it is for, and how long that takes."""

import importlib.metadata
import time
import warnings

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import OptionError
from keras_iplt.exporting.formats import io_names
from keras_iplt.support.extras import required

__all__ = ["Runtime", "interpreter_of", "load", "outputs_of", "tflite_runtime", "timed"]

# So long does one runtime have the processor before the next one's turn comes.
_TURN = 0.01


class Runtime:
    """A written model, loaded.

    Attributes:
        name: of what runs it, with its version.
        inputs, outputs: what they are called, in order.
    """

    def __init__(self, name, inputs, outputs, ready):
        """`ready(arrays)` returns two functions: one computes, the other returns what it found."""
        self.name, self.inputs, self.outputs, self._ready = name, inputs, outputs, ready

    def __call__(self, inputs):
        """The outputs, as a list of arrays, for a list of arrays."""
        run, found = self._ready(inputs)
        run()
        return [np.asarray(x) for x in found()]

    def ready(self, inputs):
        """A function without arguments that computes once, on these inputs, and nothing else."""
        return self._ready(inputs)[0]

    def latency(self, inputs, seconds=0.3):
        """The median of the seconds that one computation takes."""
        return timed([self], inputs, seconds)[0]


def timed(runtimes, inputs, seconds=1.0):
    """How long runtimes take, measured by turns.

    Whatever else keeps the machine busy meets all of them alike, so that their ratios hold where
    one measured after the other would not.

    Args:
        runtimes: a list of `Runtime`s.
        inputs: a list of arrays for all of them, or a list of such lists, one for each.
        seconds: to spend on each. Each computes at least five times, after once to warm up.

    Returns:
        A list: for each runtime the median of the seconds that one computation takes.
    """
    each = inputs if inputs and isinstance(inputs[0], (list, tuple)) else [inputs] * len(runtimes)
    if len(each) != len(runtimes):
        raise OptionError(
            f"inputs: expected a list for each of {len(runtimes)} runtimes, received: {len(each)}"
        )
    runs = [runtime.ready(given) for runtime, given in zip(runtimes, each, strict=True)]
    for run in runs:
        run()
    taken: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + seconds * len(runs)
    order = list(range(len(runs)))
    while time.perf_counter() < end or min(map(len, taken), default=5) < 5:
        for i in order:
            _turn(runs[i], taken[i])
        order.reverse()  # so that none always comes behind the same other
    return [float(np.median(times)) for times in taken]


def _turn(run, taken):
    """Computes for a while, at least once, and notes how long each time took."""
    last = begin = time.perf_counter()
    while last - begin < _TURN:
        run()
        now = time.perf_counter()
        taken.append(now - last)
        last = now


# -- runtimes --


def load(model, path, format):
    """A `Runtime` for a file that was written from a model."""
    return _LOADERS[format](model, str(path), *io_names(model))


def tflite_runtime(model, threads=1, inputs=None, outputs=None):
    """A `Runtime` for TFLite: LiteRT's interpreter if that is installed, else TensorFlow's.

    Args:
        model: the path of a .tflite file, or its content as bytes.
        threads: how many it may compute with.
        inputs, outputs: names in the order in which arrays are to be taken and returned; by
            default as the file's signature lists them.
    """
    interpreter, name = interpreter_of(model, threads)
    runner = interpreter.get_signature_runner()
    takes, gives = runner.get_input_details(), runner.get_output_details()
    inputs, outputs = inputs or [*takes], outputs or [*gives]

    def ready(values):
        for key, value in zip(inputs, values, strict=True):
            interpreter.resize_tensor_input(takes[key]["index"], np.shape(value))
        interpreter.allocate_tensors()
        for key, value in zip(inputs, values, strict=True):
            interpreter.set_tensor(takes[key]["index"], value)
        found = [gives[key]["index"] for key in outputs]
        return interpreter.invoke, lambda: [interpreter.get_tensor(i) for i in found]

    return Runtime(name, inputs, outputs, ready)


def interpreter_of(model, threads):
    """An interpreter for a .tflite file, given by its path or its content, and what it is called:
    LiteRT's if that is installed, else TensorFlow's."""
    whole = isinstance(model, bytes)
    given = {"model_content": model} if whole else {"model_path": str(model)}
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that LiteRT takes its place
            return tf.lite.Interpreter(
                **given, num_threads=threads
            ), f"TFLite of TensorFlow {tf.__version__}"
    version = importlib.metadata.version("ai-edge-litert")
    return Interpreter(**given, num_threads=threads), f"LiteRT {version}"


def _tflite(model, path, inputs, outputs):
    return tflite_runtime(path, 1, inputs, outputs)


def _onnx(model, path, inputs, outputs):
    onnxruntime = required("onnxruntime", "onnx", "ONNX files need")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def compute(values):
        return session.run(outputs, dict(zip(inputs, values, strict=True)))

    return _calling(compute, f"onnxruntime {onnxruntime.__version__}", inputs, outputs)


def _saved_model(model, path, inputs, outputs):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    function = loaded.signatures["serving_default"]

    def compute(values, kept=loaded):  # which holds the variables
        found = function(**{n: tf.constant(v) for n, v in zip(inputs, values, strict=True)})
        return [found[name].numpy() for name in outputs]

    return _calling(compute, f"TensorFlow {tf.__version__}", inputs, outputs)


def _keras(model, path, inputs, outputs):
    # A layer of the user's own needs no registration to be checked.
    own = {type(layer).__name__: type(layer) for layer in private.all_layers(model)}
    loaded = keras.saving.load_model(path, own, compile=False, safe_mode=False)

    def compute(values):
        return outputs_of(loaded, values)

    return _calling(compute, f"Keras {keras.__version__}", inputs, outputs)


def _calling(compute, name, inputs, outputs):
    """A `Runtime` in which computing and returning what was found is one step."""

    def ready(values):
        found: list = []

        def run():
            found[:] = compute(values)

        return run, lambda: found

    return Runtime(name, inputs, outputs, ready)


def outputs_of(model, values):
    """What a Keras model computes, as a list of arrays. State that its layers keep stays."""
    structure = private.input_structure(private.function_of(model))
    given = keras.tree.pack_sequence_as(structure, values)
    with keras.StatelessScope():
        outputs = model(given, training=False)
    return [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(outputs)]


_LOADERS = {"tflite": _tflite, "onnx": _onnx, "saved_model": _saved_model, "keras": _keras}
