"""A model as a list of steps: one operation each, its tensors known by their places.

    conv1 ── conv2 ── add ── dense       conv1: 0 -> 1;  conv2: 1 -> 2;  add: 1, 2 -> 3;
      └───────────────┘                  dense: 3 -> 4

Nested models are entered; given the calls of a `Graph`, so are the custom layers that it reads by
what they do. Who runs the steps decides in which order batches and steps alternate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Hashable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import keras

from keras_iplt import _keras as private
from keras_iplt.graph.channels import Call
from keras_iplt.graph.walk import accepts, is_graph_model, walk

__all__ = ["Program", "Slot", "Step", "filled", "last_uses", "places", "recorded"]

Opened = Callable[[Call], "keras.Function | None"]


@dataclasses.dataclass(frozen=True)
class Slot:
    """Stands for a tensor: the place of its value."""

    place: int


class Step(NamedTuple):
    """An operation, its arguments with slots for tensors, and the places of its outputs.

    `call` is what a `Graph` knows of it, None for steps of which it knows nothing.
    """

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[int]
    call: Call | None = None

    @property
    def inputs(self) -> list[int]:
        return places((self.args, self.kwargs))

    @property
    def variables(self) -> set[int]:
        """The ids of those that it computes with."""
        given = keras.tree.flatten((self.args, self.kwargs))
        own = getattr(self.operation, "weights", ())
        return {id(v) for v in (*own, *given) if isinstance(v, keras.Variable)}

    def uses(self, variables: Container[int]) -> bool:
        """Whether it computes with one of these variables, given by their ids."""
        return any(one in variables for one in self.variables)

    def run(self, values: MutableMapping[int, Any]) -> None:
        args, kwargs = filled((self.args, self.kwargs), values)
        outputs = keras.tree.flatten(self.operation(*args, **kwargs))
        values.update(zip(self.outputs, outputs, strict=True))


class Program(NamedTuple):
    """The steps of a model in order, the places of its inputs, and its outputs as slots."""

    inputs: list[int]
    steps: list[Step]
    outputs: Any

    def reached(self, variables: Container[int]) -> list[bool]:
        """Per step, whether it computes with one of these variables or with what comes of them."""
        found, marks = set[int](), list[bool]()
        for step in self.steps:
            marks.append(step.uses(variables) or not found.isdisjoint(step.inputs))
            if marks[-1]:
                found.update(step.outputs)
        return marks


def recorded(
    function: keras.Function,
    calls: Mapping[Hashable, Call] | None = None,
    opened: Opened = lambda call: None,
) -> Program:
    """The steps of a function.

    Args:
        function: the operations of a model.
        calls: those of a `Graph`: custom layers that it has looked into are entered.
        opened: what a layer of Keras's does inside, or None where it is to stay one step.
    """
    return _Recorder(calls or {}, opened).program(function)


class _Recorder:
    def __init__(self, calls: Mapping[Hashable, Call], opened: Opened) -> None:
        self._calls, self._opened = calls, opened
        self._steps: list[Step] = []
        self._count = 0

    def program(self, function: keras.Function) -> Program:
        inputs = self._slots(len(function.inputs))
        outputs = walk(function, inputs, self._apply)
        return Program(places(inputs), self._steps, outputs)

    def _slots(self, count: int) -> list[Slot]:
        self._count += count
        return [Slot(self._count - i) for i in range(count, 0, -1)]

    def _apply(self, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = self._calls.get(id(node))
        return self._perform(call, node.operation, args, kwargs, len(node.outputs))

    def _perform(
        self,
        call: Call | None,
        operation: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        count: int,
    ) -> Any:
        if is_graph_model(operation):
            inputs = keras.tree.flatten(args[0] if args else kwargs["inputs"])
            return walk(private.known_function(operation), inputs, self._apply)
        inner = None if call is None else call.inside or self._opened(call)
        if inner is not None:
            tensors = keras.tree.flatten((args, kwargs))
            given = map(self._given, getattr(inner, "given", ()))
            return walk(inner, [*(x for x in tensors if isinstance(x, Slot)), *given], self._apply)
        if isinstance(operation, keras.layers.TimeDistributed):
            within = self._calls.get((id(operation.layer), "inner"))
            if within is not None and (
                is_graph_model(operation.layer) or within.inside is not None
            ):
                return self._on_each_step(within, operation.layer, args[0])
        if isinstance(operation, keras.Layer) and accepts(operation.call, "training"):
            kwargs = {**kwargs, "training": False}
        return self._add(call, operation, args, kwargs, count)

    def _given(self, x: Any) -> Any:
        return x if isinstance(x, keras.Variable) else self._add(None, _itself, (x,), {}, 1)[0]

    def _add(
        self,
        call: Call | None,
        operation: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        count: int,
    ) -> list[Slot]:
        outputs = self._slots(count)
        self._steps.append(Step(operation, args, kwargs, places(outputs), call))
        return outputs

    def _on_each_step(self, call: Call, layer: keras.Layer, x: Slot) -> list[Slot]:
        flat = self._add(None, _steps_as_batch, (x,), {}, 1)
        (y,) = keras.tree.flatten(self._perform(call, layer, tuple(flat), {}, 1))
        return self._add(None, _batch_as_steps, (y, x), {}, 1)


def _itself(x: Any) -> Any:
    return x


def _steps_as_batch(x: Any) -> Any:
    return keras.ops.reshape(x, (-1, *x.shape[2:]))


def _batch_as_steps(y: Any, x: Any) -> Any:
    return keras.ops.reshape(y, (*keras.ops.shape(x)[:2], *y.shape[1:]))


def places(structure: Any) -> list[int]:
    """The places of all slots in a structure."""
    return [x.place for x in keras.tree.flatten(structure) if isinstance(x, Slot)]


def filled(structure: Any, values: Mapping[int, Any]) -> Any:
    """The structure with values in place of slots."""
    return keras.tree.map_structure(
        lambda x: values[x.place] if isinstance(x, Slot) else x, structure
    )


def last_uses(steps: Sequence[Step], kept: Container[int]) -> dict[int, list[int]]:
    """index of a step -> the places that nobody needs after it.

    So memory holds no more than it has to."""
    last: dict[int, int] = {}
    for index, step in enumerate(steps):
        last.update(dict.fromkeys((*step.inputs, *step.outputs), index))
    found: dict[int, list[int]] = {}
    for place, index in last.items():
        if place not in kept:
            found.setdefault(index, []).append(place)
    return found
