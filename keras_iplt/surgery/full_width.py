"""Residual branches that can be pruned although the stream they are added to cannot."""

from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError
from keras_iplt.graph.branches import functions_of
from keras_iplt.graph.channels import SOLID, Call, Channels, Graph
from keras_iplt.graph.compilation import carry_compilation
from keras_iplt.graph.trace import trace
from keras_iplt.layers import Scatter
from keras_iplt.support.arguments import checked
from keras_iplt.surgery.rewriter import Rewriter

__all__ = ["full_width"]


@checked
def full_width(model: keras.Model) -> keras.Model:
    """The model with each residual branch scattered back to full width before it is added.

    Filters whose outputs are added up can only go together, from all blocks of a residual stream
    alike. Behind a `Scatter` layer the last convolution of each branch may lose filters of its
    own, while the stream (the shortcuts, padded or projected, and what feeds them) stays whole:
    the way in which soft filter pruning counts its ResNets (He et al., IJCAI 2018).

    Of the tensors that are added, the one with the fewest layers before it that create channels
    (convolutions …) is the shortcut; those with more of them are residual branches.

    Args:
        model: a Keras model with residual additions. It stays as it is.

    Returns:
        A new model that computes the same, compiled if `model` is.

    Example:

    >>> import keras
    >>> import keras_iplt as iplt
    >>> x = image = keras.Input((8, 8, 16))
    >>> x = keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="first")(x)
    >>> x = keras.layers.Conv2D(16, 3, padding="same", name="last")(x)
    >>> x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add(name="add")([image, x]))
    >>> model = keras.Model(image, keras.layers.Dense(10, name="head")(x))
    >>> print(iplt.trace(full_width(model)))
    channels  filters  created by
          16       16  first
          16       16  last
           -       10  head        frozen: it is an output of the model
    """
    graph = trace(model)
    branches = _branches(graph)
    if not branches:
        raise ModelError(
            f"model {model.name!r} has no residual branch: no addition of tensors of the same "
            "shape, one of which has more convolutions before it than the other and can be pruned"
        )
    rewriter = _Widener(graph, branches)
    wide = rewriter.model(model)
    rewriter.carry_weights()
    rewriter.carry_flags()
    carry_compilation(model, wide)
    return wide


class _Widener(Rewriter):
    """Makes a model again as it is, with `Scatter` layers before additions.

    Args:
        graph: the `Graph` of the model.
        branches: id(node) -> {place among the tensors that are added: axis of its channels}.
    """

    def __init__(self, graph: Graph, branches: dict[int, dict[int, int]]) -> None:
        super().__init__(graph, np.zeros(len(graph.classes), bool))
        self._branches = branches

    def _called_again(self, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        places = self._branches.get(id(node), {})
        several = keras.tree.flatten((args, kwargs))
        for place, axis in places.items():
            x = several[place]
            name = self._unused(f"{node.operation.name}_scatter")
            several[place] = Scatter(x.shape[axis], axis=axis, name=name)(x)
        args, kwargs = keras.tree.pack_sequence_as((args, kwargs), several)
        return super()._called_again(node, args, kwargs)


def _branches(graph: Graph) -> dict[int, dict[int, int]]:
    """id(node) -> {place: axis}, for the additions of a model that have residual branches."""
    creators = [producer.path for producer in graph.producers]
    found: dict[int, dict[int, int]] = {}
    for function in functions_of(graph.calls, graph.function):
        above: dict[int, frozenset[str]] = {id(t): frozenset() for t in function.inputs}
        for node in private.nodes(function):
            call = graph.calls.get(id(node))
            if call is None:
                continue  # hangs off an input of another graph
            if type(node.operation).__name__ == "Add":
                places = _residual(call, private.arguments(node), above)
                found |= {id(node): places} if places else {}
            own = {path for path in creators if f"{path}/".startswith(f"{call.path}/")}
            here = frozenset(own).union(*(above[id(t)] for t in node.input_tensors))
            above.update(dict.fromkeys(map(id, node.outputs), here))
    return found


def _residual(call: Call, arguments: Any, above: dict[int, frozenset[str]]) -> dict[int, int]:
    """{place: axis of its channels} of what is added to a shortcut.

    Args:
        call, arguments: the addition, with `Channels` and with symbolic tensors.
        above: id(tensor) -> paths of the layers before it that create channels.
    """
    tensors = keras.tree.flatten(arguments)
    operands = [
        (place, x, len(above[id(tensors[place])]))
        for place, x in enumerate(keras.tree.flatten((call.args, call.kwargs)))
        if isinstance(x, Channels)
    ]
    fewest = min((depth for _, _, depth in operands), default=0)
    shortcuts = {x.shape for _, x, depth in operands if depth == fewest}
    return {
        place: x.varying[0]
        for place, x, depth in operands
        if depth > fewest and x.shape in shortcuts and _may_be_pruned(x)
    }


def _may_be_pruned(x: Channels) -> bool:
    return len(x.varying) == 1 and x.zero and (x.ids != SOLID).all()
