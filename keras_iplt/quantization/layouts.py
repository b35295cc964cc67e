"""What of a model is quantised, and where: decided once for the whole of it, from its graph.

A convolution, the batch norm behind it and the activation behind that are one operation on a
phone, and only what comes out at the end is rounded. What is only moved about needs no rounding
anew. What is joined in a concatenation shares the range of that. What is computed in integers takes
integers: so what goes into it is rounded, wherever it comes from.
"""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError
from keras_iplt.graph.walk import is_graph_model
from keras_iplt.quantization.kinds import Kind, kind_of
from keras_iplt.quantization.quantize_config import QuantizeConfig
from keras_iplt.quantization.schemes import DefaultNBitQuantizeScheme
from keras_iplt.support.tables import Table, Tables

__all__ = ["Layout", "Place", "layout_of"]


@dataclasses.dataclass(frozen=True)
class Place:
    """What becomes of an operation.

    Attributes:
        path: its name, after those of the nested models it is in.
        operation: it.
        config: what of it is rounded; None for nothing.
        words: what becomes of its output, for people.
        reason: why it is computed in floating point, or "".
    """

    path: str
    operation: keras.Operation
    config: QuantizeConfig | None
    words: str
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Layout(Tables):
    """What of a model is quantised, and where. Print it.

    Attributes:
        places: a `Place` for each operation, in order, those in nested models too.
        inputs: for each model, by its id, whether each of its inputs is rounded.
    """

    places: tuple[Place, ...]
    inputs: Mapping[int, list[bool]]

    @property
    def left(self) -> tuple[Place, ...]:
        """What stays in floating point, and why."""
        return tuple(place for place in self.places if place.reason)

    def _blocks(self) -> list[str | Table]:
        rows = [["operation", "weights", "output", ""]]
        for place in self.places:
            weights = getattr(place.config, "weights", {})
            rows.append(
                [
                    place.path,
                    ", ".join(weights) or "-",
                    place.words,
                    place.reason and f"float: {place.reason}",
                ]
            )
        return [Table(rows, 4)]


def layout_of(
    model: keras.Model,
    annotated: Mapping[str, QuantizeConfig | None] | None,
    scheme: DefaultNBitQuantizeScheme,
) -> Layout:
    """What of a model is to be quantised.

    Args:
        model: a Functional or built Sequential model.
        annotated: by the name of a layer, how it is to be, None for the default; those that are not
            in it are not quantised. None for the default everywhere.
        scheme: what the default is.
    """
    places: list[Place] = []
    inputs: dict[int, list[bool]] = {}
    _read(model, annotated, scheme, "", places, inputs)
    return Layout(tuple(places), inputs)


class _Graph:
    """One model's graph while it is decided on."""

    def __init__(self, function: keras.Function, annotated: Any) -> None:
        self.nodes = private.nodes(function)
        self.kinds = {id(node): self._kind(node, annotated) for node in self.nodes}
        self.given = {id(node): (annotated or {}).get(node.operation.name) for node in self.nodes}
        self.calls = collections.Counter(id(node.operation) for node in self.nodes)
        self.outputs = set(map(id, keras.tree.flatten(private.output_structure(function))))
        self.consumers: dict[int, list[Any]] = collections.defaultdict(list)
        for node in self.nodes:
            for x in node.input_tensors:
                self.consumers[id(x)].append(node)

    def _kind(self, node: Any, annotated: Any) -> Kind:
        operation = node.operation
        if is_graph_model(operation):
            return Kind("model")
        if annotated is not None and isinstance(operation, keras.Layer):
            if operation.name not in annotated:
                return Kind("float", reason="not annotated")
            if annotated[operation.name] is not None:
                return Kind("own")
        if not all("float" in x.dtype for x in (*node.input_tensors, *node.outputs)):
            return Kind("float", reason="not computed in floating point numbers to begin with")
        given = keras.tree.flatten(private.arguments(node))
        if any(getattr(x, "shape", ()) for x in given if not isinstance(x, keras.KerasTensor)):
            return Kind("float", reason="takes in an array of constants")
        return kind_of(operation, len(node.input_tensors))

    def only_consumer(self, node: Any) -> Any:
        """The node that alone takes in what a node alone puts out, or None."""
        if len(node.outputs) != 1 or id(node.outputs[0]) in self.outputs:
            return None
        consumers = self.consumers[id(node.outputs[0])]
        if len(consumers) != 1 or max(self.calls[id(n.operation)] for n in (node, *consumers)) > 1:
            return None
        return consumers[0]

    def ends_in(self, node: Any) -> Any:
        """The node that a node is computed in one with, or None.
        A batch norm is folded into the weights before it, an activation into what it follows."""
        following = self.only_consumer(node)
        if following is None or self.given[id(node)] or self.given[id(following)]:
            return None
        kind, then = self.kinds[id(node)], self.kinds[id(following)].does
        if kind.activation is not None and kind.activation.does != "passes":
            return None
        if kind.does == "weighted" and then == "norm":
            return following
        return following if kind.does in ("weighted", "norm", "joins") and then == "relu" else None

    def follows_weights(self, node: Any) -> bool:
        """Whether a batch norm is folded into the weights before it."""
        return any(
            self.ends_in(other) is node
            for other in self.nodes
            if self.kinds[id(other)].does == "weighted"
        )

    def needed(self) -> set[int]:
        """The ids of the tensors that something takes in that is computed in integers."""
        found: set[int] = set()
        for node in reversed(self.nodes):
            does = self.kinds[id(node)].does
            if does == "passes":
                wanted = any(id(x) in found for x in node.outputs)
            else:
                wanted = does not in ("float", "model")
            if wanted:
                found.update(map(id, node.input_tensors))
        return found


def _read(
    model: keras.Model,
    annotated: Any,
    scheme: DefaultNBitQuantizeScheme,
    prefix: str,
    places: list[Place],
    inputs: dict[int, list[bool]],
) -> bool:
    """Decides on a model and those in it. Returns whether all that comes out is rounded."""
    if id(model) in inputs:
        return True  # called again; where it is not rounded, no harm is done
    function = private.known_function(model)
    graph = _Graph(function, annotated)
    needed = graph.needed()
    inputs[id(model)] = [id(x) in needed for x in function.inputs]
    rounded = {id(x) for x in function.inputs if id(x) in needed}
    seen: set[int] = set()
    for node in graph.nodes:
        operation, kind = node.operation, graph.kinds[id(node)]
        path = prefix + operation.name
        if kind.does == "model":
            if _read(operation, annotated, scheme, f"{path}/", places, inputs):
                rounded.update(map(id, node.outputs))
            continue
        _check_width(kind, scheme, path)
        place = _place(graph, node, kind, scheme, path, rounded, needed)
        if place.words.startswith("int"):
            rounded.update(map(id, node.outputs))
        if id(operation) not in seen:
            seen.add(id(operation))
            places.append(place)
    return all(one in rounded for one in graph.outputs)


def _check_width(kind: Kind, scheme: DefaultNBitQuantizeScheme, path: str) -> None:
    if scheme.num_bits_activation > 8 and any(k and k.only_int8 for k in (kind, kind.activation)):
        raise ModelError(
            f"layer {path!r}: expected what files hold with activations of 16 bits, received an "
            "operation that they have in 8 bits only. Take num_bits_activation=8"
        )


def _place(
    graph: _Graph,
    node: Any,
    kind: Kind,
    scheme: DefaultNBitQuantizeScheme,
    path: str,
    rounded: set[int],
    needed: set[int],
) -> Place:
    operation, given = node.operation, graph.given[id(node)]
    integers = f"int{scheme.num_bits_activation}"
    if given is not None:
        return Place(path, operation, given, f"{integers} as told")
    is_needed = any(id(x) in needed for x in node.outputs)
    if kind.does == "passes":
        if all(id(x) in rounded for x in node.input_tensors):
            return Place(path, operation, None, f"{integers}, passed on")
        return Place(path, operation, None, "-", "so is what it moves")
    if kind.does == "float":
        rounds = is_needed and len(node.outputs) == 1
        config = scheme.config() if rounds else None
        return Place(path, operation, config, integers if rounds else "-", kind.reason)
    as_convolution = kind.does == "norm" and not graph.follows_weights(node)
    activation = kind.activation or Kind("passes")
    floats = activation.does == "float"
    then = graph.ends_in(node)
    if then is None and (after := graph.only_consumer(node)) is not None:
        shares = graph.kinds[id(after)].does == "concatenates" and not graph.given[id(after)]
        then = after if shares and kind.fixed is activation.fixed is None else None
    output = then is None and (is_needed or not floats)
    config = scheme.config(
        operation,
        kind.weights,
        output=output,
        fixed=activation.fixed or kind.fixed,
        before_activation=activation.does in ("own", "float"),
        as_convolution=as_convolution,
    )
    if then is not None:
        shared = graph.kinds[id(then)].does == "concatenates"
        words = f"{f'{integers}, the range of' if shared else 'with'} {then.operation.name}"
    else:
        words = integers if output else "-"
    does_anything = kind.weights or output or as_convolution
    return Place(path, operation, config if does_anything else None, words, activation.reason)
