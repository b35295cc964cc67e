"""Finding out how a custom layer is made smaller: by trying it with a few channels fewer."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from keras_iplt.graph.alike import likeness
from keras_iplt.graph.channels import (
    Call,
    Channels,
    Gain,
    Recipe,
)
from keras_iplt.graph.flow import Flow
from keras_iplt.graph.recreate import config_of
from keras_iplt.graph.trials import CutTrial, Kind, Trial, custom_inside, frozen_roots

__all__ = ["learn_to_recreate"]

_WAYS: dict[str, type[Trial]] = {"resize": CutTrial, "recreate": Trial}


class Lesson(NamedTuple):
    """How a custom layer is made smaller.

    Attributes:
        carry: "recreate" or "resize" (see `Call`).
        recipe: which entries of the config follow what.
        stuck: ids of the channels that cannot go.
        problem: the sentence that says why.
    """

    carry: str
    recipe: Recipe | None
    stuck: list[np.ndarray]
    problem: str = ""

    def of(self, moved: Callable[[np.ndarray], np.ndarray]) -> "Lesson":
        """The same of a layer like it: `moved` says which ids stand in place of some."""
        recipe = self.recipe and {
            key: Gain(moved(follows.ids), follows.power) if isinstance(follows, Gain) else follows
            for key, follows in self.recipe.items()
        }
        return Lesson(self.carry, recipe, [moved(ids) for ids in self.stuck], self.problem)


def learn_to_recreate(flow: Flow, call: Call) -> Lesson:
    """Tries a custom layer with a few channels fewer.

    Of all kinds that it has, or else of those that can go without the others; made from its
    config, or cut with its code left as it is. The next layer that is like it is not tried."""
    try:
        config_of(call.operation)
    except Exception as error:  # code of others: whatever it raises
        problem = f"has no config to be made again from ({type(error).__name__}: {error})"
        return Lesson("recreate", None, _ids_of(flow, call), problem)
    roots = flow.partition.find(np.arange(len(flow.partition)))
    stay = np.isin(roots, list(frozen_roots(flow, roots)))
    own = likeness(flow, call, roots, stay)
    for other, lesson in flow.lessons:
        if own.is_like(other):
            return lesson.of(lambda ids, other=other: other.moved(ids, own, roots))
    lesson = _tried(flow, call)
    flow.lessons.append((own, lesson))
    return lesson


def _tried(flow: Flow, call: Call) -> Lesson:
    trial = Trial(flow, call)
    if trial.too_large:
        return Lesson("recreate", None, _ids_of(flow, call), "is too large to be tried on numbers")
    recipe, problem = trial.outcome()
    if recipe is not None:
        return Lesson("recreate", recipe, [])
    kinds, recipe = trial.kinds, CutTrial(flow, call).outcome()[0]
    if recipe is not None:
        return Lesson("resize", recipe, [])
    able = _able_inside(flow, call, kinds)
    for carry, way in _WAYS.items() if len(kinds) > 1 else ():
        attempt = functools.partial(way, flow, call)
        fewer = carry == "resize" and len(able) < len(kinds)
        alone = _workable(attempt, able) if fewer else _workable_parts(attempt, kinds)
        recipe = attempt(alone).outcome()[0] if alone else None
        if recipe is not None:
            stuck = [np.array(kind) for kind in kinds if kind not in alone]
            return Lesson(carry, recipe, stuck, problem)
    return Lesson("recreate", None, _ids_of(flow, call), problem)


def _workable(trial: Callable[[list[Kind]], "Trial"], kinds: list[Kind]) -> list[Kind]:
    """Which of several kinds may go: all, or what is found of them by halves."""
    if not kinds or trial(kinds).outcome()[0] is not None:
        return kinds
    return _workable_parts(trial, kinds)


def _workable_parts(trial: Callable[[list[Kind]], "Trial"], kinds: list[Kind]) -> list[Kind]:
    """The same where it is known that not all of them may."""
    middle = len(kinds) // 2
    halves = (kinds[:middle], kinds[middle:]) if middle else ()
    return [kind for half in halves for kind in _workable(trial, half)]


def _able_inside(flow: Flow, call: Call, kinds: list[Kind]) -> list[Kind]:
    """Which of several kinds each custom layer inside can lose that is tried alone.

    It is smaller, and tried sooner, than what it stands in."""
    for one in custom_inside(flow, call):
        attempt = functools.partial(CutTrial, flow, one)
        own = [kind for kind in attempt().kinds if kind in kinds]
        stuck = {*own} - {*_workable(attempt, own)}
        kinds = [kind for kind in kinds if kind not in stuck]
    return kinds


def _ids_of(flow: Flow, call: Call) -> list[np.ndarray]:
    """The ids in what goes into a layer, in what comes out and in its variables."""
    variables = {id(v) for v in call.operation.variables}
    tensors = keras.tree.flatten((call.args, call.kwargs, call.outputs))
    pieces = [p.ids for p in flow.slices.values() if id(p.variable) in variables]
    return [x.ids for x in tensors if isinstance(x, Channels)] + pieces
