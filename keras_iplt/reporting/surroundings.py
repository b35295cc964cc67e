"""What it takes to repeat the run: the command, and versions."""

import importlib.metadata
import platform
import shlex
import sys
from typing import Any
from xml.etree.ElementTree import Element

import keras

from keras_iplt.errors import OptionError
from keras_iplt.reporting.page import add, add_row, table

__all__ = ["add_surroundings", "checked_command", "versions"]


def versions() -> dict[str, str]:
    """Names and versions of everything that had a part in it.

    >>> list(versions())[:3]
    ['keras_iplt', 'Python', 'Keras']
    """
    import keras_iplt  # not at the top: the package imports this module

    found = {
        "keras_iplt": keras_iplt.__version__,
        "Python": platform.python_version(),
        "Keras": keras.__version__,
        "backend": keras.backend.backend(),
    }
    for name, module in (
        ("TensorFlow", "tensorflow"),
        ("JAX", "jax"),
        ("PyTorch", "torch"),
        ("NumPy", "numpy"),
        ("matplotlib", "matplotlib"),
    ):
        version = _version(module)
        if version:
            found[name] = version
    return found | {"platform": platform.platform()}


def _version(module: str) -> str | None:
    """Of a package that is loaded, or else installed."""
    if hasattr(sys.modules.get(module), "__version__"):
        return sys.modules[module].__version__
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return None


def checked_command(command: Any) -> str | None:
    """The command as one line; a list is quoted as a shell wants it."""
    if command is None or isinstance(command, str):
        return command
    if isinstance(command, (list, tuple)) and all(isinstance(part, str) for part in command):
        return shlex.join(command)
    raise OptionError(f"command: expected a string or a list of strings, received: {command!r}")


def add_surroundings(main: Element, command: str | None) -> None:
    section = add(main, "section")
    add(section, "h2", "To repeat it")
    if command:
        add(section, "pre", command)
    body = table(section, "Versions", ["what", "version"], left=2)
    for name, version in versions().items():
        add_row(body, name, [version], left=1)
