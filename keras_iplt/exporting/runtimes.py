"""Running what was written, in the runtime that it is for, and how long that takes."""

import importlib.metadata
import os
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import ExportError, OptionError
from keras_iplt.exporting.examples import Arrays
from keras_iplt.exporting.formats import io_names
from keras_iplt.support.arguments import Positive, blaming, checked, said
from keras_iplt.support.extras import required

__all__ = ["Runtime", "interpreter_of", "load", "outputs_of", "tflite_runtime", "timed"]

# So long does one runtime have the processor before the next one's turn comes.
_TURN = 0.01

# From inputs to two functions: one computes, the other returns what it found.
Ready = Callable[[Sequence[Any]], tuple[Callable[[], object], Callable[[], list[Any]]]]


class Runtime:
    """A written model, loaded.

    Attributes:
        name: of what runs it, with its version.
        inputs, outputs: what they are called, in order.
    """

    @checked
    def __init__(self, name: str, inputs: list[str], outputs: list[str], ready: Ready) -> None:
        self.name, self.inputs, self.outputs, self._ready = name, inputs, outputs, ready

    def __call__(self, inputs: Sequence[Any]) -> Arrays:
        """The outputs, as a list of arrays, for a list of arrays."""
        run, found = self._ready(inputs)
        run()
        return [np.asarray(x) for x in found()]

    def ready(self, inputs: Sequence[Any]) -> Callable[[], object]:
        """A function without arguments that computes once, on these inputs, and nothing else."""
        return self._ready(inputs)[0]

    @checked
    def latency(self, inputs: Sequence[Any], seconds: Positive = 0.3) -> float:
        """The median of the seconds that one computation takes."""
        return timed([self], inputs, seconds)[0]


@checked
def timed(runtimes: Sequence[Runtime], inputs: Sequence[Any], seconds: float = 1.0) -> list[float]:
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


def _turn(run: Callable[[], object], taken: list[float]) -> None:
    """Computes for a while, at least once, and notes how long each time took."""
    last = begin = time.perf_counter()
    while last - begin < _TURN:
        run()
        now = time.perf_counter()
        taken.append(now - last)
        last = now


# -- runtimes --


def load(model: keras.Model, path: str | os.PathLike[str], format: str) -> Runtime:
    """A `Runtime` for a file that was written from a model."""
    return _LOADERS[format](model, str(path), *io_names(model))


@checked
def tflite_runtime(
    model: str | os.PathLike[str] | bytes,
    threads: int = 1,
    inputs: list[str] | None = None,
    outputs: list[str] | None = None,
) -> Runtime:
    """A `Runtime` for TFLite: LiteRT's interpreter if that is installed, else TensorFlow's.

    Where the file takes and gives integers with a scale, the `Runtime` converts: it takes floats
    as well, and gives floats. That is not timed.

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

    def ready(values: Sequence[Any]) -> tuple[Callable[[], object], Callable[[], list[Any]]]:
        for key, value in zip(inputs, values, strict=True):
            interpreter.resize_tensor_input(takes[key]["index"], np.shape(value))
        interpreter.allocate_tensors()
        for key, value in zip(inputs, values, strict=True):
            interpreter.set_tensor(takes[key]["index"], _as_taken(value, takes[key]))
        found = [gives[key] for key in outputs]
        return interpreter.invoke, lambda: [
            _in_floats(interpreter.get_tensor(one["index"]), one) for one in found
        ]

    return Runtime(name, inputs, outputs, ready)


def _as_taken(x: Any, tensor: dict[str, Any]) -> Any:
    """Floats as the integers that a file takes, if it takes such with a scale."""
    scale, zero = tensor["quantization"]
    if not scale or np.asarray(x).dtype.kind != "f":
        return x
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.round(x / scale) + zero, limits.min, limits.max).astype(tensor["dtype"])


def _in_floats(x: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Integers with a scale as the floats that they stand for."""
    scale, zero = tensor["quantization"]
    return (x.astype("float32") - zero) * np.float32(scale) if scale else x


def interpreter_of(model: str | os.PathLike[str] | bytes, threads: int) -> tuple[Any, str]:
    """An interpreter for a .tflite file, given by its path or its content, and what it is called:
    LiteRT's if that is installed, else TensorFlow's."""
    with blaming(f"{said(model)}: the interpreter of .tflite files", ExportError):
        return _opened(model, threads)


def _opened(model: str | os.PathLike[str] | bytes, threads: int) -> tuple[Any, str]:
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


def _tflite(model: keras.Model, path: str, inputs: list[str], outputs: list[str]) -> Runtime:
    return tflite_runtime(path, 1, inputs, outputs)


def _onnx(model: keras.Model, path: str, inputs: list[str], outputs: list[str]) -> Runtime:
    onnxruntime = required("onnxruntime", "onnx", "ONNX files need")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def compute(values: Sequence[Any]) -> list[Any]:
        return session.run(outputs, dict(zip(inputs, values, strict=True)))

    return _calling(compute, f"onnxruntime {onnxruntime.__version__}", inputs, outputs)


def _saved_model(model: keras.Model, path: str, inputs: list[str], outputs: list[str]) -> Runtime:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    function = loaded.signatures["serving_default"]

    def compute(
        values: Sequence[Any], kept: Any = loaded
    ) -> list[Any]:  # which holds the variables
        found = function(**{n: tf.constant(v) for n, v in zip(inputs, values, strict=True)})
        return [found[name].numpy() for name in outputs]

    return _calling(compute, f"TensorFlow {tf.__version__}", inputs, outputs)


def _keras(model: keras.Model, path: str, inputs: list[str], outputs: list[str]) -> Runtime:
    # A layer of the user's own needs no registration to be checked.
    own = {type(layer).__name__: type(layer) for layer in private.all_layers(model)}
    loaded = keras.saving.load_model(path, own, compile=False, safe_mode=False)

    def compute(values: Sequence[Any]) -> list[Any]:
        return outputs_of(loaded, values)

    return _calling(compute, f"Keras {keras.__version__}", inputs, outputs)


def _calling(
    compute: Callable[[Sequence[Any]], list[Any]], name: str, inputs: list[str], outputs: list[str]
) -> Runtime:
    """A `Runtime` in which computing and returning what was found is one step."""

    def ready(values: Sequence[Any]) -> tuple[Callable[[], object], Callable[[], list[Any]]]:
        found: list[Any] = []

        def run() -> None:
            found[:] = compute(values)

        return run, lambda: found

    return Runtime(name, inputs, outputs, ready)


def outputs_of(model: keras.Model, values: Sequence[Any]) -> Arrays:
    """What a Keras model computes, as a list of arrays. State that its layers keep stays."""
    structure = private.input_structure(private.known_function(model))
    given = keras.tree.pack_sequence_as(structure, values)
    with keras.StatelessScope():
        outputs = model(given, training=False)
    return [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(outputs)]


_LOADERS = {"tflite": _tflite, "onnx": _onnx, "saved_model": _saved_model, "keras": _keras}
