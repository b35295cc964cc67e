"""Custom layers, tried on numbers: whether one that is made again computes the same."""

import functools
import inspect
import types
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt.errors import ModelError
from keras_iplt.graph.channels import (
    Call,
    Gain,
    Recipe,
    Shape,
)
from keras_iplt.graph.inline import at_lengths
from keras_iplt.graph.recreate import config_of, recreate

__all__ = [
    "MOST_NUMBERS",
    "check_round_trip",
    "followed_by",
    "names_read",
    "results_of",
    "tried_on",
]

MOST_NUMBERS = 4_000_000  # in a tensor that a layer is tried on

_BATCH = 3


def check_round_trip(call: Call) -> None:
    """Raises a `ModelError` unless a custom layer, made again from its config, computes the same.

    Args:
        call: the layer's call. Layers that do not compute the same twice are let through.
    """
    layer = call.operation
    specs = [s for s in keras.tree.flatten(call.specs) if isinstance(s, keras.KerasTensor)]
    if any(np.prod(tried_on(call, s.shape), dtype=float) > MOST_NUMBERS for s in specs):
        return
    random = np.random.default_rng(0)

    def number(spec: Any) -> Any:
        if not isinstance(spec, keras.KerasTensor):
            return spec
        value = random.uniform(0.1, 1, tried_on(call, spec.shape))
        return keras.ops.convert_to_tensor(value, dtype=spec.dtype)

    args, kwargs = keras.tree.map_structure(number, call.specs)
    try:
        with keras.StatelessScope():
            layer(*args, **kwargs)
    except Exception:  # code of others, on numbers and sizes that it may not be made for
        return
    twin = recreate(layer)
    twin(*args, **kwargs)
    same_weights = [w.shape for w in twin.weights] == [w.shape for w in layer.weights]
    if same_weights:
        for source, target in zip(layer.weights, twin.weights, strict=True):
            target.assign(source.value)
    with keras.StatelessScope():
        results = [results_of(one, args, kwargs) for one in (layer, layer, twin)]
    if not _equal(*results[:2]):
        return
    if not same_weights or not _equal(*results[1:]):
        raise ModelError(
            f"layer {layer.name!r} ({type(layer).__name__}) computes something else when it is "
            "made again from its config: get_config must return every argument of __init__, and "
            "from_config must use them"
        )


def results_of(
    layer: keras.Layer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[np.ndarray]:
    return [_numpy(y) for y in keras.tree.flatten(layer(*args, **kwargs))]


def _equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(
        x.shape == y.shape and np.allclose(x, y, 1e-4, 1e-5, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )


def followed_by(
    layer: keras.Layer, recipe: Recipe, shapes: Sequence[Sequence[int]], gone: np.ndarray
) -> dict[str, Any]:
    """What a recipe makes of a layer's config, for the shapes of weights that are left."""
    config = config_of(layer) if recipe else {}
    return {
        key: config[key] * follows.factor(gone)
        if isinstance(follows, Gain)
        else shapes[follows[0]][follows[1]]
        for key, follows in recipe.items()
    }


def tried_on(call: Call, shape: Shape) -> list[int]:
    """The shape to try a custom layer on.

    It is of a small batch, and of lengths that the layer was read with where they are not known."""
    lengths = None if call.inner is None else call.inner.lengths
    found = at_lengths(shape, (_BATCH, *(lengths[1:] if lengths else (_BATCH,))))
    return [n for n in found if n is not None]  # all of them


def _numpy(y: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(y), "float32")


_MAKING = {"__init__", "build", "get_config", "from_config"}


def names_read(layer: keras.Layer) -> frozenset[str]:
    """What the code of a layer's class mentions, but for that which makes layers.

    Only such attributes can matter to a layer that is made already."""
    return frozenset[str]().union(*map(_names_read_by, type(layer).__mro__))


@functools.cache
def _names_read_by(kind: type) -> set[str]:
    names = set[str]()
    for name, value in vars(kind).items():
        function = getattr(value, "fget", getattr(value, "__func__", value))
        if isinstance(function, types.FunctionType) and name not in _MAKING:
            names |= _names_in(inspect.unwrap(function).__code__)
    return names


def _names_in(code: types.CodeType) -> set[str]:
    inner = [_names_in(one) for one in code.co_consts if isinstance(one, types.CodeType)]
    return set(code.co_names).union(*inner)
