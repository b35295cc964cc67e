"""Packages that only some of the work needs: asked for where it begins, and named if missing."""

import importlib
from typing import Any

from keras_iplt.errors import MissingExtraError

__all__ = ["required"]


def required(module: str, extra: str, purpose: str) -> Any:
    """Imports a module of an optional package.

    Args:
        module: its name.
        extra: the extra of keras-iplt that brings it.
        purpose: what it is needed for, as in "plots need".

    Returns:
        The module.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} {module.partition('.')[0]}, which cannot be imported ({error}): "
            f"pip install 'keras-iplt[{extra}]'"
        ) from error
