"""What rules ask about a smaller model, answered from what goes.

And what follows from it for the attributes of layers."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError
from keras_iplt.graph.channels import Arguments, Call, Channels, Shape
from keras_iplt.graph.recordings import plain_differences
from keras_iplt.graph.recreate import recreate
from keras_iplt.graph.rules.registry import After, Resized
from keras_iplt.graph.slices import Kept, kept_along, kept_lengths, take

__all__ = ["Left", "attributes_left", "symbols_left"]

Attribute = tuple[keras.Layer, str, Any]  # layer, name, value


class Left(After):
    """What a `resize` may ask.

    Args:
        call: the call of the operation.
        kept: what stays of a variable, per axis.
        gone: a mask over all ids.
    """

    def __init__(
        self, call: Call, kept: Callable[[keras.Variable], Kept], gone: np.ndarray
    ) -> None:
        self.call, self._kept, self._gone = call, kept, gone

    def size(self, variable: keras.Variable, axis: int) -> int:
        kept = self._kept(variable)[axis]
        return int(variable.shape[axis]) if kept is None else len(kept)

    def lengths(self, x: Channels) -> Shape:
        return kept_lengths(x, self._gone)

    def kept_along(self, x: Channels, axis: int) -> np.ndarray:
        kept = kept_along(x, axis, self._gone)
        if kept is not None:
            return kept
        length = x.shape[axis]
        assert length is not None, "positions are asked for along axes that channels run along"
        return np.arange(length)

    def size_of_input(self, axis: int) -> int | None:
        return self.lengths(self.call.args[0])[axis]

    def serialized(self, layer: keras.Layer) -> dict[str, Any]:
        raise ModelError(f"layer {layer.name!r} is wrapped inside a layer that keeps its code")

    def sliced(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Resized:
        y = self.call.outputs

        def cut(x: Any) -> Any:
            if isinstance(x, (keras.KerasTensor, keras.Variable)) or not np.ndim(x):
                return x
            rank = np.ndim(x)
            kept = (
                self.kept_along(y, axis) if np.shape(x)[axis] > 1 else None
                for axis in range(-rank, 0)
                if y.shape[axis] is not None or np.shape(x)[axis] == 1
            )
            return take(np.asarray(keras.ops.convert_to_numpy(x)), tuple(kept))

        return {}, *keras.tree.map_structure(cut, (args, kwargs))


def symbols_left(call: Call, gone: np.ndarray) -> Arguments:
    """The arguments of a call as symbolic tensors of the shapes that are left."""

    def symbol(spec: Any, x: Any) -> Any:
        if not isinstance(spec, keras.KerasTensor):
            return spec
        return keras.KerasTensor(kept_lengths(x, gone), spec.dtype)

    return keras.tree.map_structure(symbol, call.specs, (call.args, call.kwargs))


def attributes_left(call: Call, changes: dict[str, Any], gone: np.ndarray) -> Iterator[Attribute]:
    """Which attributes follow from a config.

    The layer of a call is made with the old one and with the new one."""
    twins = []
    for config, removed in (({}, np.zeros_like(gone)), (changes, gone)):
        twins.append(recreate(call.operation, config))
        args, kwargs = symbols_left(call, removed)
        twins[-1](*args, **kwargs)
    yield from _compared(call.operation, *twins)


def _merged(live: Any, before: Any, after: Any) -> Any:
    """What is live, changed as `before` is to `after`: entries of shapes one by one.

    Those that stay may be lengths that the twins were tried on."""
    shapes = (live, before, after)
    if not all(isinstance(x, tuple) for x in shapes) or len(set(map(len, shapes))) > 1:
        return after
    return tuple(now if old == new else new for now, old, new in zip(*shapes, strict=True))


def _compared(layer: keras.Layer, before: keras.Layer, after: keras.Layer) -> Iterator[Attribute]:
    for name, value in plain_differences(before, after):
        yield layer, name, _merged(vars(layer).get(name), vars(before).get(name), value)
    for inside in zip(*map(private.sublayers, (layer, before, after)), strict=True):
        yield from _compared(*inside)
