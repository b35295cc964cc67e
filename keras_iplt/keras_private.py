"""Every attribute of Keras that is not public API and that keras_iplt relies on, in one place.

When Keras changes one of them, `tests/test_keras_private.py` fails and names it.
"""

import contextlib
import copy

import keras
from keras.src.models.functional import Functional

__all__ = [
    "Functional",
    "arguments",
    "attention_denses",
    "compile_arguments",
    "copied",
    "function_of",
    "input_structure",
    "is_keras_operation",
    "nodes",
    "output_structure",
    "own_variables",
    "producer_of",
    "restored_nodes",
    "shapes_built_with",
    "sublayers",
]


def function_of(model):
    """The `keras.Function` behind a Functional or built Sequential model, else None."""
    if isinstance(model, keras.Sequential):
        return model._functional if model.built else None
    return model if hasattr(model, "_nodes_by_depth") else None


def nodes(function):
    """The nodes of this graph (not of others over the same layers), inputs first."""
    by_depth = function._nodes_by_depth
    return [
        node
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if node.operation is not None and not node.is_input
    ]


def arguments(node):
    """What a node's operation was called with: `(args, kwargs)`, symbolic tensors included."""
    return node.arguments.args, node.arguments.kwargs


def input_structure(function):
    """The inputs of the graph in the structure the user gave them (list, dict …)."""
    return function._inputs_struct


def output_structure(function):
    """The outputs of the graph in the structure the user gave them."""
    return function._outputs_struct


def is_keras_operation(operation):
    """Whether this is one of Keras's own `keras.ops` (not a layer)."""
    return not isinstance(operation, keras.Layer) and type(operation).__module__.startswith(
        ("keras.src.ops", "keras.ops")
    )


def compile_arguments(model):
    """What `compile` was called with, as it was given."""
    return dict(model._compile_config.config)


def producer_of(tensor):
    """The operation that a symbolic tensor comes from."""
    return tensor._keras_history.operation


def copied(operation):
    """The same operation (not a layer) without the nodes it stands at."""
    new = copy.copy(operation)
    new._inbound_nodes, new._outbound_nodes = [], []
    return new


def sublayers(layer):
    """The layers directly inside a layer."""
    return list(layer._layers)


def own_variables(layer):
    """The variables a layer holds itself: not those of its sublayers, not random seeds."""
    return list(layer._trainable_variables) + list(layer._non_trainable_variables)


def shapes_built_with(layer):
    """The input shapes that the layer was built with, as a dict by argument name, or None."""
    return getattr(layer, "_build_shapes_dict", None)


def attention_denses(layer):
    """The query, key, value and output projections of an attention layer."""
    return layer._query_dense, layer._key_dense, layer._value_dense, layer._output_dense


@contextlib.contextmanager
def restored_nodes(layer):
    """Forgets, at the end, the nodes that symbolic calls recorded on `layer` and inside it."""
    operations = list(layer._flatten_layers()) if isinstance(layer, keras.Layer) else []
    for inner in list(operations):
        operations += getattr(inner, "operations", [])
    before = [(op, len(op._inbound_nodes), len(op._outbound_nodes)) for op in operations]
    try:
        yield
    finally:
        for op, inbound, outbound in before:
            del op._inbound_nodes[inbound:]
            del op._outbound_nodes[outbound:]
