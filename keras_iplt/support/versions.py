"""Versions of whatever had a part in a result: what it takes to repeat it."""

import importlib.metadata
import platform
import sys

import keras

__all__ = ["versions"]


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
    for name in ("TensorFlow", "JAX", "PyTorch", "NumPy", "matplotlib"):
        version = _version({"PyTorch": "torch"}.get(name, name.lower()))
        if version is not None:
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
