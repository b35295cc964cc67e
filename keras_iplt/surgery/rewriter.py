"""Making every layer and model of a graph again, smaller."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError
from keras_iplt.graph.channels import Affine, Call, Graph
from keras_iplt.graph.custom import check_round_trip, followed_by
from keras_iplt.graph.cut_layers import cut, numbers_left
from keras_iplt.graph.flow import channels_in
from keras_iplt.graph.gains import multiplied
from keras_iplt.graph.inline import structure_of
from keras_iplt.graph.left import Left
from keras_iplt.graph.recreate import forgotten, is_custom, model_class, recreate
from keras_iplt.graph.rules import rule_for
from keras_iplt.graph.sharing import shared_layers
from keras_iplt.graph.slices import Kept, kept_axes, kept_lengths, lengths_left, numbers_of, take
from keras_iplt.graph.trace import graph_of
from keras_iplt.graph.walk import is_graph_model, walk

__all__ = ["AfterRewriting", "Rewriter"]


class AfterRewriting(Left):
    """What a `resize` may ask of a model that is made again."""

    def __init__(self, rewriter: "Rewriter", call: Call) -> None:
        super().__init__(call, rewriter.kept, rewriter.gone)
        self._rewriter = rewriter

    def serialized(self, layer: keras.Layer) -> dict[str, Any]:
        if any(call.node is not None for call in self._rewriter.graph.by_operation[id(layer)]):
            raise ModelError(
                f"layer {layer.name!r} is used inside {self.call.path!r} and also directly, which "
                "cannot be rebuilt. Use two layers, or put every use inside a wrapper"
            )
        return keras.saving.serialize_keras_object(self._rewriter.wrapped(layer))


class Rewriter:
    """Makes every layer and model of a graph again, each once."""

    def __init__(
        self, graph: Graph, gone: np.ndarray, fitted: dict[int, np.ndarray] | None = None
    ) -> None:
        self.graph, self.gone = graph, gone
        self._fitted = fitted or {}  # id(old variable) -> what counts instead of its value
        self._made: dict[int, keras.Layer] = {}  # id(old layer or model) -> new
        # (old layer, new layer), to carry weights over
        self._pairs: list[tuple[keras.Layer, keras.Layer]] = []
        # (new layer, its own initializers by name)
        self._initializers: list[tuple[keras.Layer, dict[str, Any]]] = []
        # (old model, new model), inner ones first
        self._models: list[tuple[keras.Model, keras.Model]] = []
        # id(operation from inside a custom layer) -> its name in the new model
        self._rename: dict[int, str] = {}
        self._names: set[str] = set()  # taken in the model that is being made
        self._shared = shared_layers(graph)
        # (old symbolic tensors, new ones) of every operation called again
        self.twins: list[tuple[list[keras.KerasTensor], list[keras.KerasTensor]]] = []

    def kept(self, variable: keras.Variable) -> Kept:
        """What stays of a variable, per axis."""
        return kept_axes(variable, self.graph.by_variable.get(id(variable), ()), self.gone)

    # -- models --

    def model(self, old: keras.Model) -> keras.Model:
        """The smaller model."""
        if id(old) not in self._made:
            new = self._sequential(old) if self._stays_sequential(old) else self._functional(old)
            self._made[id(old)] = new
            self._models.append((old, new))
        return self._made[id(old)]

    def _stays_sequential(self, model: keras.Model) -> bool:
        calls = (c for layer in getattr(model, "layers", ()) for c in self._calls(layer))
        return isinstance(model, keras.Sequential) and all(c.carry != "flatten" for c in calls)

    def _sequential(self, old: keras.Sequential) -> keras.Sequential:
        image = self._input(private.known_function(old).inputs[0], old)
        return keras.Sequential([image, *map(self.layer, old.layers)], name=old.name)

    def _functional(self, old: keras.Model) -> keras.Model:
        function = self.graph.function if old is self.graph.model else graph_of(old)
        outer, self._names = self._names, {n.operation.name for n in private.nodes(function)}
        inputs = [self._input(t, old) for t in function.inputs]
        outputs = walk(function, inputs, self._apply)
        self._names = outer
        packed = keras.tree.pack_sequence_as(structure_of(function), inputs)
        return model_class(old)(inputs=packed, outputs=outputs, name=old.name)

    def _input(self, tensor: keras.KerasTensor, model: keras.Model) -> keras.KerasTensor:
        """A new input of the shape that is left of an old one."""
        old = private.producer_of(tensor)
        calls = [c for c in self._calls(model) if c.carry == "model"]
        config = old.get_config()
        if calls:
            function = private.known_function(model)
            place = [id(t) for t in function.inputs].index(id(tensor))
            given = calls[0].inputs[place]
            left = kept_lengths(given, self.gone)
            config["batch_shape"] = tuple(
                n if n is None or now == was else now
                for n, was, now in zip(tensor.shape, given.shape, left, strict=True)
            )
        return type(old).from_config(config).output

    # -- operations --

    def _calls(self, operation: keras.Operation) -> Sequence[Call]:
        return self.graph.by_operation.get(id(operation), ())

    def _apply(self, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        outputs = self._called_again(node, args, kwargs)
        self.twins.append((node.outputs, keras.tree.flatten(outputs)))
        return outputs

    def _called_again(self, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = self.graph.calls[id(node)]
        operation = node.operation
        if call.carry == "flatten" and not self._stays(call):
            return walk(call.inner, symbols_in((args, kwargs)), self._apply_inlined)
        if isinstance(operation, keras.Layer):
            new = self.model(operation) if is_graph_model(operation) else self.layer(operation)
            return new(*args, **kwargs)
        rule, changes = rule_for(operation), {}
        if rule is not None and rule.resize is not None:
            changes, args, kwargs = rule.resize(operation, AfterRewriting(self, call), args, kwargs)
        args, kwargs = multiplied(call, args, kwargs, self.gone)
        args, kwargs = keras.tree.map_structure(self._carried, (args, kwargs))
        new = private.remade(operation, changes)
        new.name = self._rename.get(id(operation), operation.name)
        return new(*args, **kwargs)

    def _stays(self, call: Call) -> bool:
        """Whether a layer that its operations could take the place of stays one.

        It does where nothing of it goes, and it can be made again."""
        if call.operation.variables or self.loses(call) or forgotten(call.operation):
            return False
        try:
            check_round_trip(call)
        except ModelError:
            return False
        return True

    def _carried(self, x: Any) -> Any:
        """The new variable for one that an operation takes from a layer."""
        owner = self._owner(x) if isinstance(x, keras.Variable) else None
        if owner is None:
            return x
        new = self.layer(owner)
        if len(new.variables) != len(owner.variables):
            raise ModelError(
                f"an operation takes {x.path!r} from layer {owner.name!r}, which is used after it. "
                "Put both into a layer"
            )
        (place,) = (i for i, own in enumerate(owner.variables) if own is x)
        return new.variables[place]

    def _owner(self, variable: keras.Variable) -> keras.Layer | None:
        """The layer, of those that a model is made of, that holds a variable."""
        for old, _ in self._pairs:
            if any(own is variable for own in old.variables):
                return old
        layers = (call.operation for call in self.graph.calls.values() if call.carry == "rule")
        return next((one for one in layers if isinstance(one, keras.Layer)
                     and any(own is variable for own in one.variables)), None)  # fmt: skip

    def _apply_inlined(self, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Inside a model, `training` is handed down anew; what was recorded belongs to the trace.
        kwargs = {k: v for k, v in kwargs.items() if k != "training"}
        self._rename[id(node.operation)] = self._free_name(self.graph.calls[id(node)])
        return self._apply(node, args, kwargs)

    def _free_name(self, call: Call) -> str:
        """A name for what came from inside a custom layer: its own, or with the layer's before."""
        name = call.operation.name
        if name in self._names:
            name = call.path.replace("/", "_")
        return self._unused(name)

    def _unused(self, name: str) -> str:
        while name in self._names:
            name += "_again"
        self._names.add(name)
        return name

    def layer(self, old: keras.Layer) -> keras.Layer:
        """The smaller layer."""
        if is_graph_model(old):
            return self.model(old)
        if id(old) not in self._made:
            new = self._made[id(old)] = self.wrapped(old)
            self._pairs.append((old, new))
            self._start_from_zeros(new)
        return self._made[id(old)]

    def wrapped(self, old: keras.Layer) -> keras.Layer:
        """The smaller layer, for another layer to wrap: that one carries its weights."""
        if is_graph_model(old):
            return self.model(old)
        call = next(iter(self._calls(old)), None)
        if call is not None and is_custom(old):
            check_round_trip(call)
        changes = self.changes(old, call)
        if id(old) in self._rename:
            changes["name"] = self._rename[id(old)]
        inside = [one for one in private.all_layers(old)[1:] if id(one) in self._shared]
        shared = {id(one): self.layer(one) for one in inside}
        if call is not None and call.carry == "resize" and self.loses(call):
            shapes = [lengths_left(v, self.kept(v)) for v in old.variables]
            return cut(call, shapes, self.numbers(call), changes.get("name", old.name))
        return recreate(old, changes, shared)

    def numbers(self, call: Call) -> list[tuple[tuple[int, str], Any]]:
        """What the code of a layer computes with, once channels are gone: see `numbers_left`."""
        return numbers_left(call, call.recipe or {}, self._calls, self.kept, self.gone)

    def changes(self, layer: keras.Layer, call: Call | None) -> dict[str, Any]:
        """What changes in a layer's config."""
        changes = self._sliced_initializers(layer)
        if call is None:
            return changes
        if call.carry == "recreate":
            shapes = [lengths_left(w, self.kept(w)) for w in layer.weights]
            changes |= followed_by(layer, call.recipe or {}, shapes, self.gone)
        rule = rule_for(layer)
        if rule is not None and rule.resize is not None and self.loses(call):
            changes |= rule.resize(layer, AfterRewriting(self, call))
        return changes

    def loses(self, call: Call) -> bool:
        """Whether anything of a layer goes: what stays whole keeps its config to the letter."""
        tensors = channels_in((call.args, call.kwargs, call.outputs))
        return any(self.gone[x.ids].any() for x in tensors) or any(
            k is not None for v in call.operation.weights for k in self.kept(v)
        )

    def _sliced_initializers(self, layer: keras.Layer) -> dict[str, Any]:
        """Initialisers that hold an array, cut to the variable that is left."""
        changes = {}
        for name, initializer in vars(layer).items():
            if not name.endswith("_initializer"):
                continue
            variable = getattr(layer, name.removesuffix("_initializer"), None)
            if isinstance(initializer, keras.initializers.Constant) and np.ndim(initializer.value):
                value = np.asarray(initializer.value)
                if isinstance(variable, keras.Variable) and value.ndim == len(variable.shape):
                    value = take(value, self.kept(variable))
                changes[name] = keras.initializers.Constant(value)
        return changes

    # -- weights --

    def _start_from_zeros(self, new: keras.Layer) -> None:
        """Spares a new layer the random numbers that the old one's values replace anyway."""
        if is_custom(new) or private.sublayers(new):
            return
        own = {name: x for name, x in vars(new).items() if name.endswith("_initializer")}
        self._initializers.append((new, own))
        vars(new).update(dict.fromkeys(own, keras.initializers.Zeros()))

    def carry_weights(self) -> None:
        """Gives every new layer what is left of the old one's values and its trainable flags."""
        for new, own in self._initializers:
            vars(new).update(own)
        tied = {id(v): v for layer in self._shared.values() for v in layer.variables}
        carried: dict[int, keras.Variable] = {}
        for old, new in self._pairs:
            expected = [lengths_left(v, self.kept(v)) for v in old.variables]
            if [tuple(v.shape) for v in new.variables] != expected:
                raise ModelError(
                    f"layer {old.name!r} ({type(old).__name__}) did not come back from its config "
                    f"as expected: weights {expected}, "
                    f"received: {[tuple(v.shape) for v in new.variables]}. Its get_config and "
                    "from_config must round-trip; see keras_iplt.register_rule"
                )
            for source, target in zip(old.variables, new.variables, strict=True):
                if id(source) in tied and carried.setdefault(id(source), target) is not target:
                    raise ModelError(
                        f"layer {old.name!r} ({type(old).__name__}) shares {source.path!r} with "
                        "another layer, and no longer does when it is made again from its config. "
                        "Let get_config serialize the layer that it shares"
                    )
                value = self.value(source)
                # A copy: on JAX the old model's buffer would be donated in the new one's fit.
                target.assign(keras.ops.copy(source.value) if value is None else value)
            if hasattr(new, "finalize_state") and new.weights:
                new.finalize_state()  # preprocessing layers compute constants from their weights

    def value(self, variable: keras.Variable) -> np.ndarray | None:
        """What becomes of the value of a variable of the old model; None if it stays."""
        kept, change = self.kept(variable), self.factors.get(id(variable), Affine())
        fitted = self._fitted.get(id(variable))
        if change == Affine() and fitted is None and all(k is None for k in kept):
            return None
        return change.of(take(numbers_of(variable) if fitted is None else fitted, kept))

    def carry_flags(self) -> None:
        """Gives every new layer and variable the old one's `trainable`.

        A model's flag sets that of all its layers, so outer ones come first."""
        for old, new in [*reversed(self._models), *self._pairs]:
            if new.trainable != old.trainable:
                new.trainable = old.trainable
        for old, new in self._pairs:
            for source, target in zip(old.variables, new.variables, strict=True):
                if target.trainable != source.trainable:
                    target.trainable = source.trainable

    @functools.cached_property
    def factors(self) -> dict[int, Affine]:
        """id(old variable) -> what becomes of its values."""
        return {id(r.variable): r.change(self.gone) for r in self.graph.rescales}


def symbols_in(structure: Any) -> list[keras.KerasTensor]:
    """All symbolic tensors in a structure of arguments."""
    return [x for x in keras.tree.flatten(structure) if isinstance(x, keras.KerasTensor)]
