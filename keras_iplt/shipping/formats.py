"""Writing a model in a format, with inputs and outputs that have names."""

import re
import tempfile
import warnings

import keras

from keras_iplt import keras_private as private
from keras_iplt.errors import ExportError, OptionError

__all__ = ["FORMATS", "PRECISIONS", "io_names", "write"]

PRECISIONS = ("float32", "float16", "dynamic", "int8")
FORMATS = {"tflite": ".tflite", "saved_model": "", "keras": ".keras"}


def write(model, path, format, precision, batch_size, samples):
    """Writes a model.

    Args:
        model: a Functional or Sequential model.
        path: a file, or for a SavedModel a directory, that is not there yet.
        format, precision, batch_size: see `keras_iplt.export`.
        samples: a list of lists of arrays, one per input, each of one example.
    """
    if format == "keras":
        model.save(path)
        return
    if keras.backend.backend() != "tensorflow":
        raise OptionError(
            f"format {format!r}: expected the TensorFlow backend, received: "
            f"{keras.backend.backend()!r}. Export a .keras file, and from there with "
            "KERAS_BACKEND=tensorflow"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # converters warn of themselves
            _WRITERS[format](model, str(path), precision, batch_size, samples)
    except Exception as error:  # converters raise whatever they like
        raise ExportError(
            f"model {model.name!r} cannot be converted to {format!r}, {precision}: "
            f"{type(error).__name__}: {str(error).strip()[:500]}"
        ) from error


def io_names(model):
    """Names of inputs and of outputs (those of their layers) as they stand in what is written,
    numbered where several would be called the same."""
    function = private.function_of(model)
    outputs = [private.producer_of(x) for x in keras.tree.flatten(function.outputs)]
    return _apart(x.name for x in function.inputs), _apart(layer.name for layer in outputs)


def _apart(names):
    """Identifiers that differ from each other."""
    found: list[str] = []
    for name in map(_identifier, names):
        count = sum(other == name or other.startswith(f"{name}_") for other in found)
        found.append(f"{name}_{count}" if name in found else name)
    return found


def _identifier(name):
    """TensorFlow wants a letter first."""
    name = re.sub(r"\W", "_", name).lstrip("_")
    return name if name[:1].isalpha() else f"x_{name}"


def _serving(model, batch_size):
    """A `tf.Module` that holds the weights, and a function of it with names."""
    import tensorflow as tf

    names, output_names = io_names(model)
    inputs = private.function_of(model).inputs
    specs = [
        tf.TensorSpec((batch_size, *x.shape[1:]), x.dtype, name=name)
        for name, x in zip(names, inputs, strict=True)
    ]

    structure = private.input_structure(private.function_of(model))

    def serve(*tensors):
        outputs = model(keras.tree.pack_sequence_as(structure, tensors), training=False)
        return dict(zip(output_names, keras.tree.flatten(outputs), strict=True))

    module = tf.Module()
    module.held = [variable.value for variable in model.variables]
    module.serve = tf.function(serve, input_signature=specs, autograph=False)
    return module, module.serve.get_concrete_function()


def _saved_model(model, path, precision, batch_size, samples):
    import tensorflow as tf

    module, function = _serving(model, batch_size)
    tf.saved_model.save(module, path, signatures={"serving_default": function})


def _tflite(model, path, precision, batch_size, samples):
    import tensorflow as tf

    # By way of a SavedModel: only then are there signatures in every case.
    with tempfile.TemporaryDirectory() as directory:
        _saved_model(model, directory, precision, batch_size, samples)
        converter = tf.lite.TFLiteConverter.from_saved_model(directory)
        content = _converted(converter, precision, io_names(model)[0], samples)
    with open(path, "wb") as file:
        file.write(content)


def _converted(converter, precision, names, samples):
    import tensorflow as tf

    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        named = [dict(zip(names, sample, strict=True)) for sample in samples]
        converter.representative_dataset = lambda: iter(named)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter.convert()


_WRITERS = {"saved_model": _saved_model, "tflite": _tflite}
