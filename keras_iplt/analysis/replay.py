"""A model as a list of steps, of which only those are run again that a change reaches.

With other numbers in the variables of one layer, all that is computed before it, and beside it,
stays as it was:

    conv1 ── conv2 ── add ── dense       conv2 changed: conv1 is run once, conv2, add and dense
      └───────────────┘                  as often as there are numbers to try

What is run again and again can be compiled, where the backend does that fast (TensorFlow).
"""

import dataclasses
from collections.abc import Callable, Container, Sequence
from typing import Any, NamedTuple

import keras

from keras_iplt import _keras as private
from keras_iplt.graph.walk import accepts, is_graph_model, walk

__all__ = ["Replay"]


@dataclasses.dataclass(frozen=True)
class _Slot:
    """Stands for a tensor: the place of its value."""

    place: int


class _Step(NamedTuple):
    """An operation, its arguments with slots for tensors, and the places of its outputs."""

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[int]

    @property
    def inputs(self) -> list[int]:
        return _places((self.args, self.kwargs))

    def uses(self, variables: set[int]) -> bool:
        """Whether it computes with one of these variables, given by their ids."""
        own = getattr(self.operation, "weights", ())
        return any(
            id(v) in variables for v in (*own, *keras.tree.flatten((self.args, self.kwargs)))
        )

    def run(self, values: dict[int, Any]) -> None:
        args, kwargs = _filled((self.args, self.kwargs), values)
        outputs = keras.tree.flatten(self.operation(*args, **kwargs))
        values.update(zip(self.outputs, outputs, strict=True))


class Begun(NamedTuple):
    """What does not depend on the variables: values by place, losses that layers added, and
    whether a value carries a mask."""

    values: dict[int, Any]
    losses: list[Any]
    masked: bool


class Replay:
    """What a model computes when some of its variables hold other numbers.

    Args:
        function: the operations of the model; those of nested models are steps of their own.
        variables: the variables that will hold other numbers.

    Attributes:
        once, again: the steps that these do not reach, and those that they do.
    """

    def __init__(self, function: keras.Function, variables: Sequence[keras.Variable]) -> None:
        self.variables = list(variables)
        self._steps: list[_Step] = []
        self._count = 0
        inputs = self._slots(function.inputs)
        self._inputs = _places(inputs)
        self._outputs = walk(function, inputs, self._record)
        self.once, self.again = self._divided({id(v) for v in variables})
        ends = _places(self._outputs)
        self._kept = {*ends, *(place for step in self.again for place in step.inputs)}
        self._drop_once = _last_uses(self.once, self._kept)
        self._drop_again = _last_uses(self.again, ends)
        self._start, self._end = self._begin, self._finish

    def begin(self, inputs: Sequence[Any]) -> Begun:
        """Runs what does not depend on the variables."""
        values, losses = self._start(inputs)
        masked = any(private.mask_of(x) is not None for x in values.values())
        return Begun(values, losses, masked)

    def finish(self, begun: Begun, numbers: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Runs the rest.

        Args:
            begun: what `begin` returned.
            numbers: what the variables hold, in their order.

        Returns:
            The outputs of the model, and the losses that its layers added.
        """
        # No mask gets into what is compiled.
        finish = self._finish if begun.masked else self._end
        outputs, losses = finish(begun.values, numbers)
        return outputs, begun.losses + losses

    def compile(self, once: bool = True, again: bool = True) -> None:
        """From now on, what is run once for each batch, or again and again, runs compiled. Not for
        models whose layers add losses or masks there; does nothing on backends where compiling
        takes longer than it saves."""
        if keras.backend.backend() == "tensorflow":
            self._start = _compiled(self._begin) if once else self._start
            self._end = _compiled(self._finish) if again else self._end

    def _begin(self, inputs: Sequence[Any]) -> tuple[dict[int, Any], list[Any]]:
        values = dict(zip(self._inputs, inputs, strict=True))
        with keras.StatelessScope(collect_losses=True) as scope:
            self._run(self.once, self._drop_once, values)
        return {place: x for place, x in values.items() if place in self._kept}, scope.losses

    def _finish(self, values: dict[int, Any], numbers: Sequence[Any]) -> tuple[Any, list[Any]]:
        values = dict(values)
        pairs = zip(self.variables, numbers, strict=True)
        with keras.StatelessScope(pairs, collect_losses=True) as scope:
            self._run(self.again, self._drop_again, values)
        return _filled(self._outputs, values), scope.losses

    def _slots(self, tensors: Sequence[Any]) -> list[_Slot]:
        self._count += len(tensors)
        return [_Slot(self._count - i) for i in range(len(tensors), 0, -1)]

    def _record(self, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        operation = node.operation
        if is_graph_model(operation):
            inputs = keras.tree.flatten(args[0] if args else kwargs["inputs"])
            return walk(private.known_function(operation), inputs, self._record)
        if isinstance(operation, keras.Layer) and accepts(operation.call, "training"):
            kwargs = {**kwargs, "training": False}
        outputs = self._slots(node.outputs)
        self._steps.append(_Step(operation, args, kwargs, _places(outputs)))
        return outputs

    def _divided(self, changed: set[int]) -> tuple[list[_Step], list[_Step]]:
        """The steps that the variables do not reach, and those that they do."""
        once, again = [], []
        reached: set[int] = set()
        for step in self._steps:
            if step.uses(changed) or not reached.isdisjoint(step.inputs):
                reached.update(step.outputs)
                again.append(step)
            else:
                once.append(step)
        return once, again

    def _run(
        self, steps: Sequence[_Step], drop: dict[int, list[int]], values: dict[int, Any]
    ) -> None:
        for index, step in enumerate(steps):
            step.run(values)
            for place in drop.get(index, ()):
                del values[place]


def _places(structure: Any) -> list[int]:
    return [x.place for x in keras.tree.flatten(structure) if isinstance(x, _Slot)]


def _filled(structure: Any, values: dict[int, Any]) -> Any:
    """The structure with values in place of slots."""
    return keras.tree.map_structure(
        lambda x: values[x.place] if isinstance(x, _Slot) else x, structure
    )


def _last_uses(steps: Sequence[_Step], kept: Container[int]) -> dict[int, list[int]]:
    """index of a step -> the places that nobody needs after it, so that memory holds no more than
    it has to."""
    last: dict[int, int] = {}
    for index, step in enumerate(steps):
        last.update(dict.fromkeys((*step.inputs, *step.outputs), index))
    found: dict[int, list[int]] = {}
    for place, index in last.items():
        if place not in kept:
            found.setdefault(index, []).append(place)
    return found


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors, traced for each shape of these; its second result is an empty list."""
    import tensorflow as tf

    def found(*given: Any) -> Any:
        results, _ = function(*given)
        return results, [getattr(x, private.LOGITS, None) for x in keras.tree.flatten(results)]

    traced = tf.function(found, autograph=False)
    made: dict[Any, Callable[..., Any]] = {}

    def call(*given: Any) -> Any:
        shapes = tuple(tuple(x.shape) for x in keras.tree.flatten(given))
        if shapes not in made:  # by hand: TensorFlow warns of functions that are often traced
            made[shapes] = traced.get_concrete_function(*given)
        results, logits = made[shapes](*given)
        for x, own in zip(keras.tree.flatten(results), logits, strict=True):
            if own is not None:
                setattr(x, private.LOGITS, own)
        return results, []

    return call
