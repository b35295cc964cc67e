"""Following a model's operations in order, and turning a layer's `call` into operations.

`walk` is how every pass over a model works: the tracer carries `Channels`, the rewriter symbolic
tensors, data-driven scores real numbers.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_iplt import _keras as private

__all__ = ["accepts", "inline", "is_graph_model", "kinds", "overrides_call", "walk"]


def is_graph_model(operation: keras.Operation) -> bool:
    """Whether an operation is a Functional or Sequential model whose `call` is Keras's own."""
    if not isinstance(operation, keras.Model) or private.function_of(operation) is None:
        return False
    base = keras.Sequential if isinstance(operation, keras.Sequential) else private.Functional
    if type(operation).call is not base.call:
        return False
    return type(operation).__call__ is base.__call__ or _delegates(operation)


_DELEGATES: dict[type, bool] = {}  # class -> answer


def _delegates(model: keras.Model) -> bool:
    """Whether a class that overrides `__call__` (KerasHub's tasks do) only passes it on: what
    comes out of a symbolic call then comes from the model itself."""
    kind = type(model)
    if kind not in _DELEGATES:
        function = private.known_function(model)
        symbols = [keras.KerasTensor(t.shape, t.dtype) for t in function.inputs]
        packed = keras.tree.pack_sequence_as(private.input_structure(function), symbols)
        with private.restored_nodes(model):
            try:
                outputs = keras.tree.flatten(model(packed))
                _DELEGATES[kind] = all(private.producer_of(y) is model for y in outputs)
            except Exception:
                # Code of others: whatever it raises, it does more than pass on.
                _DELEGATES[kind] = False
    return _DELEGATES[kind]


def overrides_call(operation: keras.Operation, base: Any) -> bool:
    """Whether the operation's class replaces the `call` (or `__call__`) of `base`."""
    kind = type(operation)
    return kind.call is not base.call or kind.__call__ is not base.__call__


def walk(
    function: keras.Function,
    inputs: Sequence[Any],
    apply: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any],
) -> Any:
    """Runs `apply(node, args, kwargs)` for each node and returns the outputs.

    Args:
        function: a `keras.Function` (Functional models are).
        inputs: one value per flat input.
        apply: called with the node and its arguments, symbolic tensors replaced by the values
            computed so far; returns the value (or structure of values) of the node's outputs.
    """
    values = {id(tensor): value for tensor, value in zip(function.inputs, inputs, strict=True)}

    def known(x: Any) -> Any:
        return values[id(x)] if isinstance(x, keras.KerasTensor) else x

    for node in private.nodes(function):
        args, kwargs = private.arguments(node)
        if any(id(t) not in values for t in node.input_tensors):
            continue  # hangs off an input of another graph; the outputs do not need it
        outputs = apply(
            node, keras.tree.map_structure(known, args), keras.tree.map_structure(known, kwargs)
        )
        for tensor, value in zip(node.outputs, keras.tree.flatten(outputs), strict=True):
            values[id(tensor)] = value
    return keras.tree.map_structure(known, private.output_structure(function))


def kinds(function: keras.Function) -> list[type]:
    """The classes of a graph's operations in order: equal kinds mean the same computation."""
    return [type(node.operation) for node in private.nodes(function)]


def inline(
    layer: keras.Layer | None,
    call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> keras.Function | None:
    """Records what `call(*args, **kwargs)` does to symbolic tensors.

    Args:
        layer: the layer (or None) on which no trace of the recording may remain: no node, and
            nothing that was assigned to a variable.
        call: the function to record.
        args, kwargs: its arguments; `keras.KerasTensor`s stand for tensors.

    Returns:
        A `keras.Function`, or None if `call` does not work on symbolic tensors.
    """
    inputs = []

    def symbol(x: Any) -> Any:
        if not isinstance(x, keras.KerasTensor):
            return x
        inputs.append(keras.Input(batch_shape=x.shape, dtype=x.dtype))
        return inputs[-1]

    args, kwargs = keras.tree.map_structure(symbol, (args, kwargs))
    with private.restored_nodes(layer), keras.StatelessScope():  # what it assigns is let go
        try:
            outputs = call(*args, **kwargs)
            if all(any(y is x for x in inputs) for y in keras.tree.flatten(outputs)):
                # Nothing is done, of which Keras 3.10 makes no function.
                outputs = keras.tree.map_structure(keras.layers.Identity(), outputs)
            return keras.Function(inputs, outputs)
        except Exception:
            # Whatever user code raises on symbolic input means the same here: it cannot be
            # recorded. The caller tries another way or freezes with that reason.
            return None


def accepts(call: Callable[..., Any], name: str) -> bool:
    """Whether a function takes an argument of that name."""
    try:
        return name in inspect.signature(call).parameters
    except (TypeError, ValueError):
        return False
