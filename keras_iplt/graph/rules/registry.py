"""Which rule reads which operation, and how users add their own."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, overload

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.channels import Call, Channels, Shape
from keras_iplt.graph.walk import overrides_call
from keras_iplt.support.arguments import checked

__all__ = [
    "After",
    "Resized",
    "Rule",
    "layer_rule",
    "operation_rule",
    "register_rule",
    "rule_for",
    "supported",
]


class After(Protocol):
    """What a `resize` may ask: how things are once the channels are gone.

    Attributes:
        call: the (first) call of the layer, or that of the operation, with `Channels` for tensors.
    """

    call: Call

    def size(self, variable: keras.Variable, axis: int) -> int:
        """How much is left of a variable along an axis."""

    def lengths(self, x: Channels) -> Shape:
        """The shape that is left of a tensor."""

    def kept_along(self, x: Channels, axis: int) -> np.ndarray:
        """The positions of a tensor that stay along an axis."""

    def size_of_input(self, axis: int) -> int | None:
        """How many channels are left in the call's input."""

    def serialized(self, layer: keras.Layer) -> dict[str, Any]:
        """The config of a wrapped layer after it was made smaller."""

    def sliced(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Resized":
        """Arguments of an element-wise operation, with constants cut to the channels left."""


Resized = tuple[dict[str, Any], tuple[Any, ...], dict[str, Any]]  # config changes, args, kwargs
Resize = Callable[..., Any]  # of a layer to config changes, of an operation to what is `Resized`
Trace = TypeVar("Trace", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Rule:
    """How an operation is read and recreated.

    Attributes:
        trace: `trace(flow, operation, *args, **kwargs)` returns the `Channels` that come out.
        resize: for layers, `resize(layer, after)` returns what changes in the layer's config;
            for operations of `keras.ops`, `resize(operation, after, args, kwargs)` returns
            `(config changes, args, kwargs)`. `None` where nothing changes.
    """

    trace: Callable[..., Any]
    resize: Resize | None = None


_LAYERS: dict[type, Rule] = {}
_OPERATIONS: dict[str, Rule] = {}


def layer_rule(*names: str, resize: Resize | None = None) -> Callable[[Trace], Trace]:
    """Registers a rule for layers of `keras.layers` (those of them that this Keras has)."""

    def register(trace: Trace) -> Trace:
        for name in names:
            if hasattr(keras.layers, name):
                _LAYERS[getattr(keras.layers, name)] = Rule(trace, resize)
        return trace

    return register


def operation_rule(*names: str, resize: Resize | None = None) -> Callable[[Trace], Trace]:
    """Registers a rule for operations of `keras.ops`, by the name of their class."""

    def register(trace: Trace) -> Trace:
        for name in names:
            _OPERATIONS[name] = Rule(trace, resize)
        return trace

    return register


@overload
def register_rule(
    layer_class: type[keras.Layer], trace: Trace, *, resize: Resize | None = None
) -> Trace: ...


@overload
def register_rule(
    layer_class: type[keras.Layer], trace: None = None, *, resize: Resize | None = None
) -> Callable[[Trace], Trace]: ...


@checked
def register_rule(
    layer_class: type[keras.Layer],
    trace: Callable[..., Any] | None = None,
    *,
    resize: Callable[..., Any] | None = None,
) -> Any:
    """Teaches the tracer a custom layer. Usable as a decorator.

    Most custom layers need no rule: their `call` is read operation by operation. A rule is for
    layers that cannot be read that way, or whose config does not tell how to make them smaller.

    Args:
        layer_class: the layer's class. Subclasses that override `call` or `build` are not meant.
        trace: `trace(flow, layer, x)` describes the layer with the verbs of `Flow` and returns
            the channels that come out.
        resize: `resize(layer, after)` returns the entries of `layer.get_config()` that change;
            `after.size(variable, axis)` says how much is left of a variable.

    Example: a layer that computes with numbers, so that its `call` cannot be recorded.

    >>> import keras
    >>> import numpy as np
    >>> import keras_iplt as iplt
    >>> class Doubled(keras.layers.Layer):
    ...     def __init__(self, units, **kwargs):
    ...         super().__init__(**kwargs)
    ...         self.units = units
    ...     def build(self, shape):
    ...         self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
    ...     def call(self, x):
    ...         if "KerasTensor" in type(x).__name__:
    ...             raise TypeError("numbers only")
    ...         return 2 * keras.ops.matmul(x, self.kernel)
    ...     def compute_output_shape(self, shape):
    ...         return (*shape[:-1], self.units)
    ...     def get_config(self):
    ...         return {**super().get_config(), "units": self.units}
    >>> @iplt.register_rule(Doubled, resize=lambda layer, after: {
    ...     "units": after.size(layer.kernel, 1)})
    ... def doubled(flow, layer, x):
    ...     units = flow.create(layer, layer.units)
    ...     inputs = flow.vector(x, -1)
    ...     flow.consume(layer.kernel, 0, inputs)
    ...     flow.slice(layer.kernel, 1, units, "output")
    ...     flow.work(flow.positions(flow.shapes[0], -1), inputs, units)  # multiply-adds
    ...     return flow.place(units, axis=-1)
    >>> model = keras.Sequential([keras.Input((4,)), Doubled(8), keras.layers.Dense(2)])
    >>> iplt.prune(model, ratio=0.5).layers[0].units
    4
    """

    @checked
    def register(trace: Callable[..., Any]) -> Any:
        _LAYERS[layer_class] = Rule(trace, resize)
        return trace

    return register if trace is None else register(trace)


@checked
def rule_for(operation: keras.Operation) -> Rule | None:
    """The rule for an operation, or None.

    A class that computes otherwise than the registered class it derives from has none."""
    if not isinstance(operation, keras.Layer):
        if private.is_keras_operation(operation):
            return _OPERATIONS.get(type(operation).__name__)
        return None
    for base in type(operation).__mro__:
        if base in _LAYERS:
            same = not overrides_call(operation, base) and _builds_like(operation, base)
            return _LAYERS[base] if same else None
    return None


def _builds_like(layer: keras.Layer, base: type) -> bool:
    return type(layer).build is getattr(base, "build", None)


def supported() -> tuple[list[str], list[str]]:
    """Names of the layers and operations that have a rule: `(layers, operations)`."""
    return sorted(kind.__name__ for kind in _LAYERS), sorted(_OPERATIONS)
