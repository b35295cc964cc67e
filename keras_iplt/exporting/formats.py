"""Writing a model in a format, with inputs and outputs that have names."""

import contextlib
import os
import pathlib
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.errors import ExportError
from keras_iplt.exporting.biases import with_wide_biases
from keras_iplt.exporting.examples import Arrays
from keras_iplt.exporting.onnx_files import onnx_content

__all__ = [
    "FORMATS",
    "INTEGER",
    "PRECISIONS",
    "TFLITE_PRECISIONS",
    "converter_of",
    "converting",
    "io_names",
    "one_line",
    "serving",
    "write",
]

PRECISIONS = ("float32", "float16", "dynamic", "int8")
TFLITE_PRECISIONS = (*PRECISIONS, "int16x8")
INTEGER = ("int8", "int16x8")  # these measure the ranges of activations
FORMATS = {"tflite": ".tflite", "onnx": ".onnx", "saved_model": "", "keras": ".keras"}


def write(
    model: keras.Model,
    path: pathlib.Path,
    format: str,
    precision: str,
    batch_size: int | None,
    samples: list[Arrays],
) -> None:
    """Writes a model.

    Args:
        model: a Functional or Sequential model.
        path: a file, or for a SavedModel a directory, that is not there yet.
        format, precision, batch_size: see `keras_iplt.export`; None for any number of examples.
        samples: a list of lists of arrays, one per input, each of one example; none where the
            ranges of integers stand in the graph.
    """
    with converting(model, format, precision):
        _WRITERS[format](model, str(path), precision, batch_size, samples)


@contextlib.contextmanager
def converting(model: keras.Model, format: str, precision: str) -> Iterator[None]:
    """What a converter raises says which model it was about."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # converters warn of themselves
            yield
    except OSError:  # a full disk is not the model's fault
        raise
    except Exception as error:  # converters raise whatever they like
        raise ExportError(
            f"model {model.name!r} cannot be converted to {format!r}, {precision}: "
            f"{one_line(error)}"
        ) from error


def one_line(error: BaseException) -> str:
    """What sort of error it is, and what it says, in a line.

    Colours, line breaks and most of a novel are left out."""
    text = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())
    return f"{type(error).__name__}: {text[:400]}"


# -- names --


def io_names(model: keras.Model) -> tuple[list[str], list[str]]:
    """Names of inputs and of outputs as they stand in what is written.

    Keys where the model has a dict of them, else the names of input tensors and output layers;
    numbered where several would be called the same."""
    function = private.known_function(model)
    inputs = _named(private.input_structure(function), [x.name for x in function.inputs])
    layers = [private.producer_of(x).name for x in keras.tree.flatten(function.outputs)]
    outputs = _named(private.output_structure(function), layers)
    names = _apart(inputs + outputs)  # ONNX wants them all to differ
    return names[: len(inputs)], names[len(inputs) :]


def _named(structure: Any, names: list[str]) -> list[str]:
    """The names, or the keys of a dict in their place."""
    if not isinstance(structure, dict):
        return names
    positions = keras.tree.pack_sequence_as(structure, list(range(len(names))))
    keys = {i: key for key, i in positions.items() if isinstance(i, int)}
    return [str(keys.get(i, name)) for i, name in enumerate(names)]


def _apart(names: Iterable[str]) -> list[str]:
    """Identifiers that differ from each other."""
    found: list[str] = []
    for name in map(_identifier, names):
        count = sum(other == name or other.startswith(f"{name}_") for other in found)
        found.append(f"{name}_{count}" if name in found else name)
    return found


def _identifier(name: str) -> str:
    """TensorFlow wants a letter first."""
    name = re.sub(r"\W", "_", name).lstrip("_")
    return name if name[:1].isalpha() else f"x_{name}"


# -- writers --


def serving(model: keras.Model, batch_size: int | None) -> Any:
    """A `tf.Module` that holds the weights, with a function `serve` that has names."""
    import tensorflow as tf

    names, output_names = io_names(model)
    inputs = private.known_function(model).inputs
    specs = [
        tf.TensorSpec((batch_size, *x.shape[1:]), x.dtype, name=name)
        for name, x in zip(names, inputs, strict=True)
    ]

    structure = private.input_structure(private.known_function(model))

    def serve(*tensors: Any) -> dict[str, Any]:
        outputs = model(keras.tree.pack_sequence_as(structure, tensors), training=False)
        return dict(zip(output_names, keras.tree.flatten(outputs), strict=True))

    module = tf.Module()
    module.held = [variable.value for variable in model.variables]
    module.serve = tf.function(serve, input_signature=specs, autograph=False)
    return module


def _saved_model(
    model: keras.Model, path: str, precision: str, batch_size: int | None, samples: list[Arrays]
) -> None:
    _save(serving(model, batch_size), path)


def _save(module: Any, path: str) -> None:
    import tensorflow as tf

    function = module.serve.get_concrete_function()
    tf.saved_model.save(module, path, signatures={"serving_default": function})


def _tflite(
    model: keras.Model, path: str, precision: str, batch_size: int | None, samples: list[Arrays]
) -> None:
    # By way of a SavedModel: only then are there signatures in every case.
    module = serving(model, batch_size)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as directory:
        converter = converter_of(module, directory, precision, io_names(model)[0], samples)
        content = converter.convert()
    if precision == "int16x8" and not samples:
        content = with_wide_biases(content)
    _write_bytes(path, content)


def converter_of(
    module: Any, directory: str, precision: str, names: list[str], samples: list[Arrays]
) -> Any:
    """TensorFlow's converter to .tflite.

    Args:
        module: what `serving` returns.
        directory: an empty one, that lasts until the converter is done.
        precision: of what is written.
        names: of the inputs.
        samples: see `write`.
    """
    import tensorflow as tf

    measures = precision in INTEGER and samples  # else ranges stand in the graph
    if measures and _loops(module.serve):
        raise ValueError(  # before TensorFlow's converter kills the process
            "it has a loop, the ranges in which TensorFlow cannot measure. Build recurrent layers "
            "with unroll=True, or choose precision 'dynamic'"
        )
    _save(module, directory)
    converter = tf.lite.TFLiteConverter.from_saved_model(directory)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if measures:
        named = [dict(zip(names, sample, strict=True)) for sample in samples]
        converter.representative_dataset = lambda: iter(named)
    kinds = tf.lite.OpsSet
    if precision == "int16x8":
        converter.target_spec.supported_ops = [
            kinds.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
    elif measures:
        converter.target_spec.supported_ops = [kinds.TFLITE_BUILTINS_INT8]
    return converter


def _loops(function: Any) -> bool:
    graph = function.get_concrete_function().graph.as_graph_def()
    inner = (node for inner in graph.library.function for node in inner.node_def)
    return any(node.op in ("While", "StatelessWhile") for node in (*graph.node, *inner))


def _onnx(
    model: keras.Model, path: str, precision: str, batch_size: int | None, samples: list[Arrays]
) -> None:
    _write_bytes(path, onnx_content(serving(model, batch_size).serve, batch_size))


def _keras(
    model: keras.Model, path: str, precision: str, batch_size: int | None, samples: list[Arrays]
) -> None:
    model.save(path)


def _write_bytes(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


_WRITERS = {"saved_model": _saved_model, "tflite": _tflite, "onnx": _onnx, "keras": _keras}
