"""A model without some of its residual branches, over the same layers."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.errors import OptionError
from keras_iplt.graph.branches import inside_of
from keras_iplt.graph.channels import Branch, Call, Graph
from keras_iplt.graph.compilation import carry_compilation
from keras_iplt.graph.inline import Recording, structure_of
from keras_iplt.graph.recreate import model_class
from keras_iplt.graph.selectors import Selector, described, matches, near
from keras_iplt.graph.walk import is_graph_model, walk
from keras_iplt.support.arguments import is_integer

__all__ = ["branches_for", "shortened"]


def branches_for(graph: Graph, keys: Iterable[Selector | int | Branch]) -> tuple[Branch, ...]:
    """The branches of a graph that are meant.

    Args:
        graph: a `Graph` of a whole model.
        keys: branches, their places in `graph.branches`, or selectors of the additions that they
            end in.
    """
    chosen: dict[int, Branch] = {}
    for key in keys:
        if isinstance(key, Branch):
            own = graph.branches[key.index : key.index + 1]  # of another graph of the model, maybe
            meant = [branch for branch in own if branch.name == key.name]
        elif is_integer(key):
            meant = [branch for branch in graph.branches if branch.index == key]
        else:
            meant = [b for b in graph.branches if matches(key, b.call.operation, b.name)]
        if not meant:
            names = [branch.name for branch in graph.branches]
            close = near(key, names) if isinstance(key, str) else names[:3]
            raise OptionError(
                f"model {graph.model.name!r} has no residual branch "
                f"{key if isinstance(key, (int, Branch)) else described(key)}. "
                + (f"Close to it: {', '.join(map(repr, close))}" if names else "It has none")
            )
        chosen |= {branch.index: branch for branch in meant}
    return tuple(chosen[index] for index in sorted(chosen))


def shortened(graph: Graph, branches: Sequence[Branch]) -> keras.Model:
    """The model of a graph without some of its branches: each addition is its shortcut alone.

    It is made of the same layers, on which it leaves no trace. A custom layer that loses a branch
    inside is a nested model of the layers in it.
    """
    short = _Shortener(graph, branches).model(graph.model, graph.function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not compiled: whoever needs it says so
        carry_compilation(graph.model, short)
    return short


class _Shortener:
    def __init__(self, graph: Graph, branches: Sequence[Branch]) -> None:
        self._calls = graph.calls
        self._leaving: dict[int, set[int]] = {}  # id(addition) -> which of its arguments, flat
        for branch in branches:
            self._leaving.setdefault(id(branch.call), set()).update(branch.places)
        self._made: dict[int, keras.Model] = {}  # by id(function)

    def model(self, old: keras.Layer, function: keras.Function) -> keras.Model:
        """What is left of a model, or of a custom layer with these operations."""
        if id(function) in self._made:
            return self._made[id(function)]
        inputs = [_input_like(x) for x in function.inputs]
        ends = set(map(id, keras.tree.flatten(private.output_structure(function))))

        def again(node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if isinstance(function, Recording):  # a model hands that down anew
                kwargs = {name: x for name, x in kwargs.items() if name != "training"}
            call = self._calls.get(id(node))
            if call is None or id(call) not in self._leaving:
                return self._called(call, node.operation, args, kwargs)
            left = self._without(call, args, kwargs)
            if id(node.outputs[0]) not in ends:
                return left
            return keras.layers.Identity(name=node.operation.name, dtype=left.dtype)(left)

        with private.restored_nodes(old), keras.StatelessScope():
            outputs = walk(function, inputs, again)
            packed = keras.tree.pack_sequence_as(structure_of(function), inputs)
            new = model_class(old)(inputs=packed, outputs=outputs, name=old.name)
        private.set_flag_of_its_own(new, old.trainable)
        self._made[id(function)] = new
        return new

    def _called(
        self, call: Call | None, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        inside = None if call is None else inside_of(call)
        if inside is not None and self._shortens(inside):
            if is_graph_model(operation):
                return self.model(operation, inside)(*args, **kwargs)
            tensors = [x for x in keras.tree.flatten((args, kwargs)) if _is_symbol(x)]
            return self.model(operation, inside)(tensors if len(tensors) > 1 else tensors[0])
        if not isinstance(operation, keras.Layer):
            operation = private.copied(operation)
        return operation(*args, **kwargs)

    def _shortens(self, function: keras.Function) -> bool:
        """Whether a branch that goes is in a graph, or in one that is nested in it."""
        calls = [self._calls[id(n)] for n in private.nodes(function) if id(n) in self._calls]
        inside = [one for one in map(inside_of, calls) if one is not None]
        return any(id(call) in self._leaving for call in calls) or any(map(self._shortens, inside))

    def _without(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What is left of an addition, or of a layer: one of its arguments may be all."""
        leaving = self._leaving[id(call)]
        several = enumerate(keras.tree.flatten((args, kwargs)))
        left = [x for place, x in several if _is_symbol(x) and place not in leaving]
        return left[0] if len(left) == 1 else call.operation(left)


def _input_like(x: keras.KerasTensor) -> keras.KerasTensor:
    layer = private.producer_of(x)
    return type(layer).from_config(layer.get_config()).output


def _is_symbol(x: Any) -> bool:
    return isinstance(x, keras.KerasTensor)
