"""The JSON that a model is built from: what it names is Keras's own, or was imported by the user.

Keras runs what a config names. Its safe mode refuses Lambda code, and each version a little more
of what else can be misused; we ask for the same of all versions, and before anything is built.
"""

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import keras

from keras_iplt.errors import ModelError

__all__ = ["check_config", "read_config"]

# More than models have: what is beyond would take minutes to read or to build.
_DEEPEST, _PARTS, _LAYERS, _LONGEST = 400, 300_000, 10_000, 1_000

# Where Keras keeps what models are made of; not `keras.utils`, `keras.saving` and the like.
_OF_CLASSES = re.compile(
    r"keras(\.src)?(\.(activations|backend\.torch\.optimizers|constraints|dtype_policies|initializers"
    r"|layers|losses|metrics|models|ops|optimizers|quantizers|random|regularizers)(\.\w+)*)?"
)
_OF_FUNCTIONS = re.compile(
    r"keras(\.src)?\.(activations|constraints|initializers|losses|metrics|ops|regularizers)(\.\w+)*"
)
_BY_NAME = "activations constraints initializers losses metrics ops regularizers".split()
_PLAIN = {  # data that Keras writes as if they were objects
    *("__bytes__", "__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__"),
    *("__tuple__", "__typespec__"),
}
_RUNS = {  # Keras's own layers that run or read what the file says
    "TorchModuleWrapper": "holds a pickled PyTorch module, which can be any code",
    "TFSMLayer": "runs a SavedModel from elsewhere",
}


def read_config(path: pathlib.Path, text: bytes) -> dict[str, Any]:
    """The config of a model from JSON text."""
    if (parts := text.count(b"{") + text.count(b"[")) > _PARTS:
        raise ModelError(f"{path}: its config.json has {parts:,} parts, which no model has")
    try:
        config = json.loads(text)
    except RecursionError:
        raise ModelError(f"{path}: its config.json is nested too deeply") from None
    except ValueError as error:
        raise ModelError(f"{path}: its config.json is not JSON ({error})") from error
    if not isinstance(config, dict) or not {"class_name", "config"} <= config.keys():
        raise ModelError(f"{path}: its config.json does not describe a model")
    if any(depth > _DEEPEST for _, depth in _parts(config)):
        raise ModelError(f"{path}: its config.json is nested too deeply")
    return config


def check_config(path: pathlib.Path, config: dict[str, Any]) -> None:
    """Refuses a config that names what is neither Keras's nor registered."""
    layers = 0
    for entry in (part for part, _ in _parts(config) if isinstance(part, dict)):
        if {"class_name", "config"} <= entry.keys():
            _check_object(path, entry)
        layers += len(entry["layers"]) if isinstance(entry.get("layers"), list) else 0
        if layers > _LAYERS:
            raise ModelError(f"{path}: it has more than {_LAYERS:,} layers, which no model has")
        if len(str(entry.get("name", ""))) > _LONGEST:
            raise ModelError(f"{path}: it has a name of more than {_LONGEST:,} characters")
        _check_calls(path, entry)
        for key in ("vocabulary", "idf_weights"):  # a name of a file, as it happens to be allowed
            if isinstance(entry.get(key), str):
                raise ModelError(
                    f"{path}: {_name(entry)} reads its {key} from the file {entry[key]!r}"
                    + _unsafe("a model from elsewhere has no business with your files")
                )


def _parts(config: dict[str, Any]) -> Iterator[tuple[Any, int]]:
    """`(part, depth)` for all dicts and lists in a structure; without recursion, which ends."""
    waiting: list[tuple[Any, int]] = [(config, 1)]
    while waiting:
        part, depth = waiting.pop()
        yield part, depth
        values = part.values() if isinstance(part, dict) else part
        waiting += [(value, depth + 1) for value in values if isinstance(value, (dict, list))]


def _check_object(path: pathlib.Path, entry: dict[str, Any]) -> None:
    kind, inner = entry["class_name"], entry["config"]
    if not isinstance(kind, str):
        raise ModelError(f"{path}: its config.json has a class called {kind!r:.60}")
    if kind == "__lambda__" or (kind == "Lambda" and not _names_a_function(inner)):
        raise ModelError(
            f"{path}: it has a Lambda layer, whose Python code is in the file and would run"
            + _unsafe("code can do anything that you can")
        )
    if kind in _RUNS:
        raise ModelError(
            f"{path}: layer {_name(inner)} ({kind}) {_RUNS[kind]}"
            + _unsafe("code can do anything that you can")
        )
    if kind not in _PLAIN and not _is_known(entry):
        name = inner if kind == "function" else kind
        raise ModelError(_missing(path, kind == "function", name, entry.get("module")))


def _check_calls(path: pathlib.Path, entry: dict[str, Any]) -> None:
    """Refuses a call that is computed while the model is built, since it takes nothing from it."""
    calls = entry.get("inbound_nodes")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict) and not any(
            isinstance(part, dict) and part.get("class_name") == "__keras_tensor__"
            for part, _ in _parts(call)
        ):
            raise ModelError(
                f"{path}: {_name(entry)} computes with numbers of the file alone, which no layer "
                "does"
            )


def _is_known(entry: dict[str, Any]) -> bool:
    """Whether a class or function is registered, or one of Keras's that models are made of."""
    kind, module = entry["class_name"], entry.get("module")
    name = entry["config"] if kind == "function" else kind
    registered = name if kind == "function" else entry.get("registered_name") or kind
    if not isinstance(name, str) or not isinstance(registered, str):
        return False
    if keras.saving.get_registered_object(registered) is not None:
        return True
    if not name.isidentifier():
        return False
    if kind == "function" and module in ("builtins", None):
        return any(hasattr(getattr(keras, where), name) for where in _BY_NAME)
    if module is None:  # as older versions of Keras wrote it
        return any(hasattr(getattr(keras, where), name) for where in [*_BY_NAME, "layers"])
    allowed = _OF_FUNCTIONS if kind == "function" else _OF_CLASSES
    return isinstance(module, str) and allowed.fullmatch(module) is not None


def _names_a_function(config: Any) -> bool:
    """Whether a Lambda layer takes a function by its name, and nothing from the file."""
    function = config.get("function") if isinstance(config, dict) else None
    return isinstance(function, dict) and function.get("class_name") == "function"


def _name(config: Any) -> str:
    return repr(config.get("name")) if isinstance(config, dict) and "name" in config else "a layer"


def _unsafe(why: str) -> str:
    return f". Load it with --unsafe only if you trust where it comes from: {why}"


def _missing(path: pathlib.Path, function: bool, name: Any, module: Any) -> str:
    what = "the function" if function else "the class"
    of_module = "" if module in (None, "builtins") else f" of module {module!r}"
    example = "MODULE" if module in (None, "builtins") else module
    return (
        f"{path}: it needs {what} {str(name)!r}{of_module}, which is not Keras's: name the module "
        f"that registers it (@keras.saving.register_keras_serializable) with --import {example}"
    )
