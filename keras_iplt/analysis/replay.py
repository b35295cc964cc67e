"""A model as a list of steps, of which only those are run again that a change reaches.

With other numbers in the variables of one layer, all that is computed before it, and beside it,
stays as it was:

    conv1 ── conv2 ── add ── dense       conv2 changed: conv1 is run once, conv2, add and dense
      └───────────────┘                  as often as there are numbers to try
"""

import dataclasses
from typing import Any, NamedTuple

import keras

from keras_iplt import keras_private as private
from keras_iplt.graph.walk import accepts, is_graph_model, walk

__all__ = ["Replay"]


@dataclasses.dataclass(frozen=True)
class _Slot:
    """Stands for a tensor: the place of its value."""

    place: int


class _Step(NamedTuple):
    """An operation, its arguments with slots for tensors, and the places of its outputs."""

    operation: Any
    args: tuple
    kwargs: dict
    outputs: list[int]

    @property
    def inputs(self):
        return _places((self.args, self.kwargs))

    def uses(self, variables):
        """Whether it computes with one of these variables, given by their ids."""
        own = getattr(self.operation, "weights", ())
        return any(
            id(v) in variables for v in (*own, *keras.tree.flatten((self.args, self.kwargs)))
        )

    def run(self, values):
        args, kwargs = _filled((self.args, self.kwargs), values)
        outputs = keras.tree.flatten(self.operation(*args, **kwargs))
        values.update(zip(self.outputs, outputs, strict=True))


class Replay:
    """What a model computes when some of its variables hold other numbers.

    Args:
        function: the operations of the model; those of nested models are steps of their own.
        variables: the variables that will hold other numbers.
    """

    def __init__(self, function, variables):
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

    def begin(self, inputs):
        """The values that do not depend on the variables, as far as they are needed later."""
        values = dict(zip(self._inputs, inputs, strict=True))
        self._run(self.once, self._drop_once, values)
        return {place: value for place, value in values.items() if place in self._kept}

    def finish(self, values):
        """The outputs of the model, from what `begin` returned and the variables as they are."""
        values = dict(values)
        self._run(self.again, self._drop_again, values)
        return _filled(self._outputs, values)

    def _slots(self, tensors):
        self._count += len(tensors)
        return [_Slot(self._count - i) for i in range(len(tensors), 0, -1)]

    def _record(self, node, args, kwargs):
        operation = node.operation
        if is_graph_model(operation):
            inputs = keras.tree.flatten(args[0] if args else kwargs["inputs"])
            return walk(private.function_of(operation), inputs, self._record)
        if isinstance(operation, keras.Layer) and accepts(operation.call, "training"):
            kwargs = {**kwargs, "training": False}
        outputs = self._slots(node.outputs)
        self._steps.append(_Step(operation, args, kwargs, _places(outputs)))
        return outputs

    def _divided(self, changed):
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

    def _run(self, steps, drop, values):
        for index, step in enumerate(steps):
            step.run(values)
            for place in drop.get(index, ()):
                del values[place]


def _places(structure):
    return [x.place for x in keras.tree.flatten(structure) if isinstance(x, _Slot)]


def _filled(structure, values):
    """The structure with values in place of slots."""
    return keras.tree.map_structure(
        lambda x: values[x.place] if isinstance(x, _Slot) else x, structure
    )


def _last_uses(steps, kept):
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
