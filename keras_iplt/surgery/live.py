"""What changes in live layers, operations and recorded tensors when channels go."""

import copy
import inspect
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError
from keras_iplt.graph.channels import Affine, Arguments, Call, Channels, Graph, Shape
from keras_iplt.graph.classes import class_with
from keras_iplt.graph.cut_layers import inside_of
from keras_iplt.graph.flow import channel_axis, channels_in
from keras_iplt.graph.gains import multiplied
from keras_iplt.graph.left import attributes_left, symbols_left
from keras_iplt.graph.recordings import plain_differences, same
from keras_iplt.graph.recreate import config_of, is_custom
from keras_iplt.graph.rules import rule_for
from keras_iplt.graph.rules.registry import Resized
from keras_iplt.graph.slices import Kept, kept_along
from keras_iplt.graph.walk import accepted, is_graph_model
from keras_iplt.surgery.journal import Journal
from keras_iplt.surgery.rewriter import AfterRewriting, Rewriter
from keras_iplt.surgery.zeros import works_on_zeros

__all__ = ["Live"]

# Entries of the config that Keras's layers hold under the same name, with nothing derived.
_HELD_AS_GIVEN = {"filters", "units", "output_dim", "groups", "epsilon", "width"}


class Live:
    """The changes to a live model, worked out before anything is touched.

    Attributes:
        graph, gone: the model that was read, and what goes.
        nodes: what the graphs of the model, and of those nested in it, are made of.
    """

    def __init__(self, graph: Graph, gone: np.ndarray) -> None:
        self.graph, self.gone = graph, gone
        self._rewriter = Rewriter(graph, gone)
        self._changes: list[tuple[Any, str, Any]] = []  # (owner, attribute, value)
        self._smaller: set[int] = set()  # ids of layers
        for calls in graph.by_operation.values():
            call = calls[0]
            if isinstance(call.operation, keras.Layer) and self._rewriter.loses(call):
                self._smaller.add(id(call.operation))
                self._look_at(call)
        self.nodes = [
            node
            for function in self._functions()
            for node in private.nodes(function)
            if id(node) in graph.calls
        ]
        self.tried: list[Any] = []  # nodes to be carried out once they are smaller
        for node in self.nodes:
            self._look_at_node(node)
        for call in graph.calls.values():
            if call.carry == "model":
                self._look_at_inputs(call)

    def _functions(self) -> Iterable[keras.Function]:
        """The graphs that live.
        Those recorded while reading a layer or a subclassed model are not among them."""
        calls = self.graph.calls.values()
        nested = [call.operation for call in calls if call.carry == "model"]
        models = [m for m in (self.graph.model, *nested) if is_graph_model(m)]
        return {id(m): private.known_function(m) for m in models}.values()

    def loses(self, layer: keras.Layer) -> bool:
        """Whether a layer becomes smaller."""
        return id(layer) in self._smaller

    def factors(self) -> dict[int, Affine]:
        """id(variable) -> what becomes of its values."""
        return self._rewriter.factors

    def states(self) -> Iterator[tuple[keras.Variable, Kept]]:
        """Pairs `(variable, what stays per axis)`: what stateful recurrent layers remember.

        A layer does not count that among its variables."""
        for call, *_ in self.graph.by_operation.values():
            for variable in private.remembered(call.operation):
                rank = len(variable.shape)
                axis = channel_axis(call.operation) % rank - rank
                kept = kept_along(channels_in(call.outputs)[0], axis, self.gone)
                if kept is not None:
                    yield variable, tuple(kept if a == axis else None for a in range(-rank, 0))

    def shape(self, shape: Sequence[int | None], x: Channels) -> Shape:
        """What is left of a recorded shape of the tensor whose channels are `x`."""
        kept = (kept_along(x, axis, self.gone) for axis in range(len(shape)))
        return tuple(n if k is None else len(k) for n, k in zip(shape, kept, strict=True))

    def expected(self, node: Any) -> Resized:
        """`(changes, args, kwargs)`: what an operation of `keras.ops` has to be then.

        That is its config, and its arguments, without the channels that go."""
        call, changes = self.graph.calls[id(node)], dict[str, Any]()
        args, kwargs = private.arguments(node)
        rule = rule_for(node.operation)
        if rule is not None and rule.resize is not None:
            after = AfterRewriting(self._rewriter, call)
            changes, args, kwargs = rule.resize(node.operation, after, args, kwargs)
        return changes, *multiplied(call, args, kwargs, self.gone)

    def carry_out(self, journal: Journal) -> None:
        """Makes the changes."""
        for owner, name, value in self._changes:
            journal.set(owner, name, value)

    # -- layers --

    def _look_at(self, call: Call) -> None:
        layer = call.operation
        self._look_at_shapes(call)
        if call.carry == "resize":
            self._look_at_numbers(call)
        if is_graph_model(layer) or (call.carry != "recreate" and self._wraps(layer)):
            return  # what is inside is called, and looked at, on its own
        if call.carry == "resize" or (id(call) in self.graph.covered and call.inner is not None):
            return  # the code of the layer, or of one around it, was tried on fewer channels
        changes = self._rewriter.changes(layer, call)
        if changes:
            config = config_of(layer)
            changes = {n: new for n, new in changes.items() if not same(config.get(n), new)}
        held = {n for n in changes if n.endswith("_initializer") or n in _HELD_AS_GIVEN}
        builds = call.carry != "keep" and (is_custom(layer) or private.sublayers(layer))
        if builds or held != set(changes):  # there may be more than the config tells
            self._look_at_twins(call, changes)
        else:
            self._changes += [(layer, name, changes[name]) for name in held]
            self._change_class(layer, held)

    def _look_at_numbers(self, call: Call) -> None:
        """The attributes that the code of a layer computes with."""
        inside, numbers = inside_of(call.operation), self._rewriter.numbers(call)
        for (index, name), value in numbers:
            self._changes.append((inside[index], name, value))
            self._change_class(inside[index], [name])

    def _change_class(self, layer: keras.Layer, entries: Collection[str]) -> None:
        kind = class_with(layer, entries)
        if kind is not type(layer):
            self._changes.append((layer, "__class__", kind))

    def _wraps(self, layer: keras.Layer) -> bool:
        """Whether a layer is a shell around others: not one that has an activation made a layer."""
        inside = private.sublayers(layer)
        called = all(id(inner) in self.graph.by_operation for inner in inside)
        return bool(inside) and called and not private.own_variables(layer)

    def _look_at_twins(self, call: Call, changes: dict[str, Any]) -> None:
        """Finds out which attributes follow from a config.
        The layer is made with the old one and with the new one."""
        try:
            self._changes += attributes_left(call, changes, self.gone)
        except Exception as error:  # code of others on fewer channels: whatever it raises
            raise ModelError(
                f"layer {call.path!r} does not work on fewer channels ({type(error).__name__}: "
                f"{error}): a size seems to be written into its code. Compute it from the "
                "tensor's shape; or use keras_iplt.rewrite"
            ) from error

    def symbols(self, call: Call) -> Arguments:
        """The arguments of a call as symbolic tensors of the shapes that are left."""
        return symbols_left(call, self.gone)

    def _look_at_shapes(self, call: Call) -> None:
        """The shapes that a layer was built with, and what it demands of its inputs."""
        layer = call.operation
        built = private.shapes_built_with(layer)
        if built:
            new = {name: self._built(call, name, shape) for name, shape in built.items()}
            self._changes.append((layer, private.BUILT_SHAPES, new))
        name, spec = private.input_spec_of(layer)
        if spec is not None:
            tensors = iter(channels_in((call.args, call.kwargs)))
            new = keras.tree.map_structure(lambda one: self._spec(one, next(tensors, None)), spec)
            self._changes.append((layer, name, new))

    def _built(self, call: Call, name: str, shapes: Any) -> Any:
        """Shapes by the name of an argument of `build`: `query_shape` is that of `query`."""
        kwargs = accepted(call.operation, call.kwargs)
        args = inspect.signature(call.operation.call).bind(*call.args, **kwargs).arguments
        given = args.get(name.removesuffix(private.TENSOR_SHAPE), next(iter(args.values())))
        tensors = iter(channels_in(given))

        def left(shape: Any) -> Any:
            x = next(tensors, None)
            return shape if x is None or len(x.shape) != len(shape) else self.shape(shape, x)

        if shapes is None:  # models do not always say
            return None
        return keras.tree.map_shape_structure(left, shapes)

    def _spec(self, spec: Any, x: Channels | None) -> Any:
        if x is None or not isinstance(spec, keras.InputSpec):
            return spec
        new = copy.copy(spec)
        if spec.shape is not None:
            new.shape = self.shape(spec.shape, x)
        if spec.axes:
            left = self.shape(x.shape, x)
            new.axes = {
                axis: n if n is None or n != x.shape[axis] else left[axis]
                for axis, n in spec.axes.items()
            }
        return new

    # -- graphs --

    def _look_at_node(self, node: Any) -> None:
        call = self.graph.calls[id(node)]
        for tensor, x in zip(node.outputs, channels_in(call.outputs), strict=True):
            self._changes.append((tensor, private.TENSOR_SHAPE, self.shape(tensor.shape, x)))
        operation = node.operation
        if isinstance(operation, keras.Layer):
            if self.loses(operation) and private.sublayers(operation) and _works(node):
                self.tried.append(node)
            return
        args, kwargs = private.arguments(node)
        changes, new_args, new_kwargs = self.expected(node)
        if changes or not same((args, kwargs), (new_args, new_kwargs)):
            self.tried.append(node)
        if changes:
            found = plain_differences(operation, private.remade(operation, changes))
            self._changes += [(operation, *change) for change in found]
        if not same((args, kwargs), (new_args, new_kwargs)):
            arguments = private.with_arguments(node, new_args, new_kwargs)
            self._changes.append((node, "arguments", arguments))

    def _look_at_inputs(self, call: Call) -> None:
        function = private.known_function(call.operation)
        for tensor, x in zip(function.inputs, call.inputs, strict=True):
            shape = self.shape(tensor.shape, x)
            self._changes.append((tensor, private.TENSOR_SHAPE, shape))
            self._changes.append((private.producer_of(tensor), private.INPUT_SHAPE, shape))


def _works(node: Any) -> bool:
    """Whether a layer can be tried at all."""
    try:
        return not is_graph_model(node.operation) and works_on_zeros(node)
    except Exception:  # code of others, on zeros and on sizes that it may not be made for
        return False
