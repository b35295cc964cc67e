"""A model as a list of steps, of which only those are run again that a change reaches.

With other numbers in the variables of one layer, all that is computed before it, and beside it,
stays as it was:

    conv1 ── conv2 ── add ── dense       conv2 changed: conv1 is run once, conv2, add and dense
      └───────────────┘                  as often as there are numbers to try

What is run again and again can be compiled, where the backend does that fast (TensorFlow).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras

from keras_iplt import _keras as private
from keras_iplt.running.steps import Step, filled, last_uses, places, recorded

__all__ = ["Replay"]


class Begun(NamedTuple):
    """What does not depend on the variables.

    Values by place, losses that layers added, and whether a value carries a mask."""

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
        program = recorded(function)
        self._inputs, self._outputs = program.inputs, program.outputs
        reached = program.reached({id(v) for v in variables})
        self.once = [s for s, again in zip(program.steps, reached, strict=True) if not again]
        self.again = [s for s, again in zip(program.steps, reached, strict=True) if again]
        ends = places(self._outputs)
        self._kept = {*ends, *(place for step in self.again for place in step.inputs)}
        self._drop_once = last_uses(self.once, self._kept)
        self._drop_again = last_uses(self.again, ends)
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
        """From now on, what is run once for each batch, or again and again, runs compiled.

        Not for models whose layers add losses or masks there; does nothing on backends where
        compiling takes longer than it saves."""
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
        return filled(self._outputs, values), scope.losses

    def _run(
        self, steps: Sequence[Step], drop: dict[int, list[int]], values: dict[int, Any]
    ) -> None:
        for index, step in enumerate(steps):
            step.run(values)
            for place in drop.get(index, ()):
                del values[place]


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
