"""What Keras keeps of graphs: nodes, functions, symbolic tensors and what is recorded of them."""

import contextlib
import inspect
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras.src.backend.common.symbolic_scope import in_symbolic_scope
from keras.src.models.functional import Functional

__all__ = [
    "BUILT_SHAPES",
    "INPUT_SHAPE",
    "LOGITS",
    "TENSOR_SHAPE",
    "Functional",
    "arguments",
    "copied",
    "function_of",
    "input_structure",
    "is_keras_operation",
    "is_symbolic",
    "is_used",
    "known_function",
    "mask_of",
    "named",
    "nodes",
    "output_structure",
    "place_of",
    "producer_of",
    "remade",
    "restored_nodes",
    "with_arguments",
]


# Attributes that shapes are recorded in: of a symbolic tensor, of an input layer, and of any layer
# (by the argument of its `build`).
TENSOR_SHAPE, INPUT_SHAPE, BUILT_SHAPES = "_shape", "_batch_shape", "_build_shapes_dict"


def function_of(model: keras.Operation) -> keras.Function | None:
    """The `keras.Function` behind a Functional or built Sequential model, else None."""
    if isinstance(model, keras.Sequential):
        return model._functional if model.built else None
    return model if hasattr(model, "_nodes_by_depth") else None


def known_function(model: keras.Operation) -> keras.Function:
    """The `keras.Function` behind a model that is known to have one."""
    function = function_of(model)
    assert function is not None, f"{model!r} is no graph of operations"
    return function


def nodes(function: keras.Function) -> list[Any]:
    """The nodes of this graph (not of others over the same layers), inputs first."""
    by_depth = function._nodes_by_depth
    return [
        node
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if node.operation is not None and not node.is_input
    ]


def arguments(node: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a node's operation was called with: `(args, kwargs)`, symbolic tensors included."""
    return node.arguments.args, node.arguments.kwargs


def with_arguments(node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The arguments of a node in the form that the node holds them in."""
    return type(node.arguments)(*args, **kwargs)


def input_structure(function: keras.Function) -> Any:
    """The inputs of the graph in the structure the user gave them (list, dict …)."""
    return function._inputs_struct


def output_structure(function: keras.Function) -> Any:
    """The outputs of the graph in the structure the user gave them."""
    return function._outputs_struct


def is_keras_operation(operation: object) -> bool:
    """Whether this is one of Keras's own `keras.ops` (not a layer)."""
    return not isinstance(operation, keras.Layer) and type(operation).__module__.startswith(
        ("keras.src.ops", "keras.ops")
    )


def copied(operation: keras.Operation) -> keras.Operation:
    """The same operation (not a layer) without the nodes it stands at."""
    new = object.__new__(type(operation))  # copy.copy would write it to a file and read it again
    vars(new).update(vars(operation))
    vars(new).update(_inbound_nodes=[], _outbound_nodes=[])
    return new


def remade(operation: keras.Operation, changes: dict[str, Any]) -> keras.Operation:
    """The same operation (not a layer) made with other arguments.

    Keras remembers those it was made with unless there are arrays, NumPy numbers … among them; then
    they are looked up under their names.
    """
    if not changes:
        return copied(operation)
    known = getattr(operation, "_auto_config", None)
    names = [n for n in inspect.signature(type(operation).__init__).parameters if n != "self"]
    given = vars(operation) if known is None else known.config
    arguments = {name: given[name] for name in names if name in given}
    return type(operation)(**{**arguments, **changes})


def producer_of(tensor: Any) -> keras.Operation:
    """The operation that a symbolic tensor comes from."""
    return tensor._keras_history.operation


def place_of(tensor: Any) -> int:
    """Which of its operation's outputs a symbolic tensor is."""
    return tensor._keras_history.tensor_index


def is_used(tensor: Any) -> bool:
    """Whether an operation has taken in an input tensor."""
    return bool(producer_of(tensor)._outbound_nodes)


def mask_of(tensor: Any) -> Any:
    """The mask that a tensor carries from layer to layer, or None."""
    return getattr(tensor, "_keras_mask", None)


LOGITS = "_keras_logits"  # what a probability was computed from, which losses prefer to it


def is_symbolic(*tensors: Any) -> bool:
    """Whether a layer is called only to learn shapes, not to compute."""
    flat = keras.tree.flatten(tensors)
    return in_symbolic_scope() or any(isinstance(x, keras.KerasTensor) for x in flat)


@contextlib.contextmanager
def restored_nodes(layer: keras.Operation | None) -> Iterator[None]:
    """Forgets, at the end, the nodes that symbolic calls recorded on `layer` and inside it.
    Threads take turns: each would forget what the other has just recorded."""
    operations = list(layer._flatten_layers()) if isinstance(layer, keras.Layer) else []
    for inner in list(operations):
        operations += getattr(inner, "operations", [])
    with _RECORDING:
        before = [(op, len(op._inbound_nodes), len(op._outbound_nodes)) for op in operations]
        try:
            yield
        finally:
            for op, inbound, outbound in before:
                del op._inbound_nodes[inbound:]
                del op._outbound_nodes[outbound:]


@contextlib.contextmanager
def named(names: Iterable[tuple[keras.Layer, str]]) -> Iterator[None]:
    """Lets layers have other names inside: those of a graph must differ."""
    pairs = [(layer, layer.name, name) for layer, name in names]
    for layer, _, name in pairs:
        object.__setattr__(layer, "name", name)
    try:
        yield
    finally:
        for layer, name, _ in pairs:
            object.__setattr__(layer, "name", name)


_RECORDING = threading.RLock()
