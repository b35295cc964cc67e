"""Training and evaluating a model on whatever data `fit` takes."""

import collections.abc
from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.errors import DataError
from keras_iplt.support.arguments import blaming

__all__ = ["evaluated", "trained"]


def trained(model: keras.Model, data: Any, epochs: int, options: dict[str, Any]) -> None:
    """Trains a model in place.

    Args:
        model: compiled.
        data: `(x, y)`, `(x, y, sample_weight)` or a dataset.
        epochs, options: for `fit`.
    """
    arrays, named = _arguments("train", data)
    with blaming("train: fit", DataError):
        model.fit(*arrays, epochs=epochs, verbose=0, **named, **options)


def evaluated(model: keras.Model, data: Any, name: str = "validation") -> dict[str, float]:
    """The loss and the metrics of a model by name.

    Args:
        model: compiled.
        data: in the same forms, but to be gone through several times.
        name: what errors call it.
    """
    if not model.compiled:
        raise DataError(
            f"model {model.name!r} is not compiled: call model.compile(loss=…, metrics=[…]) to "
            "say what it is to be trained for and judged by"
        )
    if isinstance(data, collections.abc.Iterator):
        raise DataError(
            f"{name}: expected (x, y) or a dataset that can be gone through several times, "
            f"received: an iterator ({type(data).__name__}), which ends"
        )
    arrays, named = _arguments(name, data)
    with blaming(f"{name}: evaluate", DataError), private.state_kept(model):
        return model.evaluate(*arrays, verbose=0, return_dict=True, **named)


def _arguments(name: str, data: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What `fit` and `evaluate` take for `(x, y)`, `(x, y, sample_weight)` or a dataset."""
    if not isinstance(data, tuple):
        return (data,), {}
    if len(data) not in (2, 3):
        raise DataError(
            f"{name}: expected (x, y), (x, y, sample_weight) or a dataset, received: a tuple of "
            f"{len(data)}"
        )
    return data[:2], dict(zip(("sample_weight",), data[2:], strict=False))
