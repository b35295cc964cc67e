"""Keras and models: imported and loaded when there is work to do."""

import contextlib
import importlib
import os
import sys
import tempfile

from keras_iplt.cli.talk import say
from keras_iplt.errors import DataError, ModelError, OptionError

__all__ = ["compiled", "examples", "held_back", "library", "loaded", "module"]

_started = False


def module(name):
    """A module of keras_iplt, which brings Keras and its backend."""
    with _quiet_start():
        return importlib.import_module(name)


def library():
    """keras_iplt."""
    return module("keras_iplt")


def loaded(options, path, compile=False):
    """A model from a .keras file."""
    load_model = module("keras_iplt.cli.loading").load_model
    for name in options.modules:
        _import(name)
    say(f"loading {path}")
    try:
        return load_model(path, unsafe=options.unsafe, compile=compile)
    except ModelError as error:
        if not compile:
            raise
        model = load_model(path, unsafe=options.unsafe, compile=False)
        say(f"left uncompiled, since what it was compiled with cannot be loaded: {error}")
        return model


def examples(options):
    """Examples from the file that `--data` names, or None."""
    if options.data is None:
        return None
    found = module("keras_iplt.cli.loading").load_examples(options.data, options.take)
    shapes = ", ".join(
        f"{name} {array.shape}"
        for name, array in zip(found.names, (found.x, found.y), strict=False)
    )
    say(f"data: {shapes} of {options.data}")
    if found.x.dtype.kind in "iu":
        say(
            f"{found.names[0]!r} holds integers up to {found.x.max()}, which go in as they are; if "
            "the model was trained on scaled ones, put these into the file"
        )
    return found


def compiled(model, found):
    """The model, compiled by what its outputs and the labels suggest unless it is already."""
    if getattr(model, "compiled", False) or found.y is None:
        return model
    keras = importlib.import_module("keras")
    if len(model.outputs) != 1:
        raise ModelError(
            f"model {model.name!r} has {len(model.outputs)} outputs and is not compiled: compile "
            "it with the loss of each before saving it"
        )
    units, y = model.outputs[0].shape[-1], found.y
    activation = _last_activation(model.outputs[0])
    logits = {"from_logits": activation not in ("softmax", "sigmoid")}
    one_each = y.ndim == 1 or y.shape[-1] == 1
    if one_each and units == 1 and set(y.ravel()[:1000].tolist()) <= {0, 1}:
        loss = keras.losses.BinaryCrossentropy(**logits)
    elif (
        one_each and y.dtype.kind in "biu" and units is not None and 0 <= y.min() <= y.max() < units
    ):
        loss = keras.losses.SparseCategoricalCrossentropy(**logits)
    elif y.ndim == 2 and y.shape[-1] == units and activation == "sigmoid":
        loss = keras.losses.BinaryCrossentropy(**logits)
    elif y.ndim == 2 and y.shape[-1] == units:
        loss = keras.losses.CategoricalCrossentropy(**logits)
    else:
        raise DataError(
            f"model {model.name!r} is not compiled, and its loss cannot be guessed from labels of "
            f"shape {y.shape}, {y.dtype}, between {y.min()} and {y.max()}, for outputs of shape "
            f"{tuple(model.outputs[0].shape)}: compile it before saving it"
        )
    model.compile(loss=loss, metrics=["accuracy"])
    say(
        f"{model.name} is not compiled: taking {type(loss).__name__} of "
        f"{'logits' if logits['from_logits'] else 'probabilities'}, and accuracy"
    )
    return model


def _last_activation(tensor):
    """The name of the function that an output comes from."""
    private = importlib.import_module("keras_iplt._keras")
    operation = private.producer_of(tensor)
    if (function := private.function_of(operation)) is not None:  # a nested model
        return _last_activation(function.outputs[0])
    activation = getattr(operation, "activation", None)
    return getattr(activation, "__name__", type(operation).__name__.lower())


def _import(name):
    """Imports a module of the user, from where the command was given as well."""
    if name.endswith(".py") or os.sep in name:
        hint = os.path.splitext(name)[0].strip("./").replace(os.sep, ".")
        raise OptionError(f"--import: expected the name of a module, such as {hint}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever a module of the user does
        raise OptionError(f"--import {name}: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _quiet_start():
    """Holds back what is said while Keras's backend is loaded and looks for devices."""
    global _started
    if _started:
        yield
        return
    with held_back():
        yield
        if importlib.import_module("keras").backend.backend() == "tensorflow":
            importlib.import_module("tensorflow").config.list_physical_devices()
    _started = True


@contextlib.contextmanager
def held_back():
    """Holds back what TensorFlow's libraries say on standard error, for which they heed no
    setting; it is shown if something goes wrong. Python's own warnings pass."""
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(tempfile.TemporaryFile())
        sys.stderr.flush()
        shown = os.dup(2)
        stack.callback(os.close, shown)
        if _is_standard_error(sys.stderr):
            ours = stack.enter_context(open(shown, "w", buffering=1, closefd=False))
            stack.enter_context(contextlib.redirect_stderr(ours))
        os.dup2(held.fileno(), 2)
        stack.callback(os.dup2, shown, 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(shown, held.read())
            raise


def _is_standard_error(stream):
    try:
        return stream.fileno() == 2
    except (OSError, ValueError):  # a stream that is no file
        return False
