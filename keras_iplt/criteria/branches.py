"""How important a residual branch is: what it costs to leave it out, or what its weights tell."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt.errors import ModelError
from keras_iplt.graph.channels import Branch, Graph
from keras_iplt.graph.shortening import branches_for
from keras_iplt.graph.silence import silenced
from keras_iplt.graph.slices import numbers_of
from keras_iplt.graph.trace import Branches, graph_for
from keras_iplt.running.gradients import loss_of
from keras_iplt.running.observe import Batch, batches, without_gradients
from keras_iplt.running.steps import Step, filled, recorded
from keras_iplt.support.arguments import Data, Verbosity, checked, several
from keras_iplt.support.progress import silent, told

__all__ = ["branch_scores"]


@checked
def branch_scores(
    model: keras.Model | Graph,
    data: Data | None = None,
    without: Branches = (),
    verbose: Verbosity = 1,
) -> dict[Branch, float]:
    """How important the residual branches of a model are, the least important first.

    Args:
        model: a Keras model, or its `Graph`. It is left as it is.
        data: `(x, y)`, `x`, or batches of these. Of a compiled model and data with labels, a score
            is by how much the loss grows when the branch is left out; without labels, or a loss,
            how much the outputs change, squared, as a share of their squares. Without data, the
            weights tell: the mean size of the scales of the normalisation at the branch's end, or
            if there is none, of the weights there.
        without: branches that are left out already, which get no score: what is the least
            important may change with each that goes.
        verbose: 0 for no progress bar, which only terminals and notebooks get.

    Returns:
        `{branch: score}` in the order of the scores, to pick from: `branches=[*scores][:4]`.

    Example:

    >>> import keras
    >>> import keras_iplt as iplt
    >>> x = image = keras.Input((4,))
    >>> for name in ("first", "second"):
    ...     y = keras.layers.Dense(4, kernel_initializer="zeros" if name == "second" else "ones")(x)
    ...     x = keras.layers.Add(name=name)([x, y])
    >>> scores = iplt.branch_scores(keras.Model(image, x))
    >>> [branch.name for branch in scores]
    ['second', 'first']
    """
    with silent(when=not verbose):
        graph = graph_for(model)
        gone = branches_for(graph, several(without))
        inside = {call for branch in gone for call in (id(branch.call), *branch.holds)}
        left = [branch for branch in graph.branches if id(branch.call) not in inside]
        if data is None:
            found = np.array([_size(branch) for branch in left])
        else:
            found = _costs(graph, left, gone, told(batches(graph.model, data), "batch"))
        order = np.argsort(found, kind="stable")
        return {left[place]: float(found[place]) for place in order}


def _size(branch: Branch) -> float:
    """How much a branch adds, as far as its weights tell; without bounds if they do not."""
    try:
        ends = [variable for variable, _ in silenced(branch)]
    except ModelError:
        return float("inf")
    scales = [v for v in ends if v.name in ("gamma", "scale")] or [
        v for v in ends if len(v.shape) > 1
    ]
    return float(np.mean([np.abs(numbers_of(v)).mean() for v in scales])) if scales else 0.0


def _costs(
    graph: Graph, left: list[Branch], gone: tuple[Branch, ...], given: Iterable[Batch]
) -> np.ndarray:
    """What leaving out each branch costs, the mean over all examples."""
    program = recorded(graph.function, graph.calls)
    affected = [_affected(program.steps, branch) for branch in left]
    total, count = np.zeros(len(left)), 0
    with keras.StatelessScope(), without_gradients():
        for batch in given:
            values = dict(zip(program.inputs, batch.inputs, strict=True))
            _run(program.steps, values, gone)
            outputs = filled(program.outputs, values)
            cost = _cost(graph.model, batch, outputs)
            for place, steps in enumerate(affected):
                others = dict(values)
                _run(steps, others, (left[place], *gone))
                total[place] += len(batch.inputs[0]) * cost(filled(program.outputs, others))
            count += len(batch.inputs[0])
    return total / count


def _affected(steps: Sequence[Step], branch: Branch) -> list[Step]:
    """The steps that compute something else without a branch."""
    changed, found = set[int](), list[Step]()
    begins = [one.call for one in _within(branch)]
    for step in steps:
        if step.call in begins or not changed.isdisjoint(step.inputs):
            changed.update(step.outputs)
            found.append(step)
    return found


def _run(steps: Iterable[Step], values: dict[int, Any], gone: Iterable[Branch]) -> None:
    """Runs steps without what some branches add."""
    leaving: dict[int, set[int]] = {}
    for one in (inner for branch in gone for inner in _within(branch)):
        leaving.setdefault(id(one.call), set()).update(one.places)
    for step in steps:
        if id(step.call) not in leaving:
            step.run(values)
            continue
        several = enumerate(keras.tree.flatten((step.args, step.kwargs)))
        left = [x for place, x in several if place not in leaving[id(step.call)]]
        values[step.outputs[0]] = sum(filled(left, values))


def _within(branch: Branch) -> list[Branch]:
    """A branch and those in it: a program may run a layer as one step, or what is in it."""
    return [branch, *(deep for one in branch.inside for deep in _within(one))]


def _cost(model: keras.Model, batch: Batch, outputs: Any) -> Callable[[Any], float]:
    """A function of other outputs: how much worse they are for a batch, or how different."""
    if model.compiled and batch.y is not None:
        best = float(loss_of(model, batch, outputs))
        return lambda others: float(loss_of(model, batch, others)) - best
    known = [numbers_of(y).astype("float64") for y in keras.tree.flatten(outputs)]
    size = sum(float((y**2).sum()) for y in known)

    def change(others: Any) -> float:
        pairs = zip(keras.tree.flatten(others), known, strict=True)
        return sum(float(((numbers_of(a) - b) ** 2).sum()) for a, b in pairs) / max(size, 1e-30)

    return change
