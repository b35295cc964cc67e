"""Models that a subclassed model holds.

Those that tell what it takes, and those that see its layers from outside of its `call`, as what
`keras.distillation.Distiller` extracts features with."""

from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.graph.channels import Channels
from keras_iplt.graph.flow import Flow, channels_in
from keras_iplt.graph.walk import is_graph_model

__all__ = ["freeze_seen", "inputs_of", "wraps_models"]


def wraps_models(model: keras.Model) -> bool:
    """Whether a subclassed model, not called yet, takes what the models that it holds say.

    There is nothing left in it to build then."""
    inside = private.all_layers(model)[1:]
    return all(layer.built for layer in inside) and inputs_of(model) is not None


def inputs_of(model: keras.Model) -> Any:
    """What the first model that a model holds takes, as symbolic tensors.

    None unless the others take as many of the same shapes."""
    held = [layer for layer in private.sublayers(model) if is_graph_model(layer)]
    found = [private.input_structure(private.known_function(each)) for each in held]
    kinds = {tuple((t.shape, t.dtype) for t in keras.tree.flatten(each)) for each in found}
    return found[0] if len(kinds) == 1 else None


def freeze_seen(flow: Flow, model: keras.Model) -> None:
    """What models see that a subclassed model holds and does not call stays.

    It is used where nobody can follow, in the computation of a loss, say."""
    if is_graph_model(model):
        return
    called = {id(call.operation) for call in flow.calls.values()}
    for other in private.models_of(model)[1:]:
        if id(other) not in called and is_graph_model(other):
            for x in _seen_by(private.known_function(other), flow):
                flow.freeze(x, f"model {other.name!r}, which is not called, uses it too")


def _seen_by(function: keras.Function, flow: Flow) -> list[Channels]:
    """The channels that a graph puts out, or uses in another way than the one that was read."""
    known: dict[int, Channels] = {}  # by id of a symbolic tensor
    seen: list[Channels] = []
    for node in private.nodes(function):
        call = flow.calls.get(id(node))
        if call is not None:
            known |= zip(map(id, node.outputs), channels_in(call.outputs), strict=True)
            continue
        seen += [known[id(tensor)] for tensor in node.input_tensors if id(tensor) in known]
        for other in flow.calls_of(node.operation):
            seen += channels_in((other.args, other.kwargs, other.outputs))
    return seen + [known[id(tensor)] for tensor in function.outputs if id(tensor) in known]
