"""Following a model's operations in order.

`walk` is how every pass over a model works: the tracer carries `Channels`, the rewriter symbolic
tensors, data-driven scores real numbers.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.support.progress import silent, told

__all__ = [
    "accepts",
    "behind",
    "is_graph_model",
    "kinds",
    "needed",
    "output_spec",
    "overrides_call",
    "accepted",
    "walk",
    "walk_on",
]


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
    """Whether a class that overrides `__call__` (KerasHub's tasks do) only passes it on.
    What comes out of a symbolic call then comes from the model itself."""
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


Apply = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]  # of a node, args and kwargs


def walk(function: keras.Function, inputs: Sequence[Any], apply: Apply) -> Any:
    """Runs `apply(node, args, kwargs)` for each node and returns the outputs.

    Args:
        function: a `keras.Function` (Functional models are).
        inputs: one value per flat input. Those that a `Recording` is given come last; without
            them it walks on what they stand for.
        apply: called with the node and its arguments, symbolic tensors replaced by the values
            computed so far; returns the value (or structure of values) of the node's outputs.
    """
    given = getattr(function, "given", ())
    if len(inputs) < len(function.inputs):
        inputs = [*inputs, *given]
    values = {id(tensor): value for tensor, value in zip(function.inputs, inputs, strict=True)}
    walk_on(told(private.nodes(function), "operation"), values, apply)
    return keras.tree.map_structure(
        lambda x: values[id(x)] if isinstance(x, keras.KerasTensor) else x,
        private.output_structure(function),
    )


def walk_on(nodes: Iterable[Any], values: dict[int, Any], apply: Apply) -> None:
    """Runs `apply(node, args, kwargs)` for some nodes of a graph.

    Args:
        nodes: the nodes, in order.
        values: by id of a symbolic tensor what is known so far, which grows.
        apply: as for `walk`.
    """

    def known(x: Any) -> Any:
        return values[id(x)] if isinstance(x, keras.KerasTensor) else x

    for node in nodes:
        args, kwargs = private.arguments(node)
        if any(id(t) not in values for t in node.input_tensors):
            continue  # hangs off an input of another graph; the outputs do not need it
        with silent():  # a model that is nested in this one counts as one
            outputs = apply(
                node, keras.tree.map_structure(known, args), keras.tree.map_structure(known, kwargs)
            )
        for tensor, value in zip(node.outputs, keras.tree.flatten(outputs), strict=True):
            values[id(tensor)] = value


def kinds(function: keras.Function) -> list[type]:
    """The classes of a graph's operations in order: equal kinds mean the same computation."""
    return [type(node.operation) for node in private.nodes(function)]


def output_spec(operation: keras.Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The symbolic outputs of an operation."""
    return operation.compute_output_spec(*args, **accepted(operation, kwargs))


def accepted(operation: keras.Operation, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments without `training` if `call` does not take it.

    Keras lets layers be called with it all the same."""
    if accepts(operation.call, "training"):
        return kwargs
    return {k: v for k, v in kwargs.items() if k != "training"}


def needed(function: keras.Function, wanted: Sequence[bool]) -> set[int]:
    """The ids of the tensors that the wanted ones of a function's outputs are computed from."""
    outputs = keras.tree.flatten(private.output_structure(function))
    return behind(function, [x for x, one in zip(outputs, wanted, strict=True) if one])


def behind(function: keras.Function, tensors: Sequence[Any]) -> set[int]:
    """The ids of some tensors of a function, and of all that these are computed from."""
    found = set(map(id, tensors))
    for node in reversed(private.nodes(function)):
        if any(id(x) in found for x in node.outputs):
            found.update(map(id, node.input_tensors))
    return found


def accepts(call: Callable[..., Any], name: str) -> bool:
    """Whether a function takes an argument of that name."""
    try:
        return name in inspect.signature(call).parameters
    except (TypeError, ValueError):
        return False
