"""How important a filter is: one number each, the least important have the smallest.

    from the weights    energy (the default)
                        l1  l2  lp  l1_mean  l2_mean  lp_mean  fpgm  lamp  bn_scale  random
    from data           taylor  gradient  apoz  activation  thinet  lasso

A name stands for an object with default settings, and a function of an array `(filters, weights
of one filter)` that returns one number per filter is a criterion too:

>>> import keras
>>> import numpy as np
>>> from keras_iplt import criteria
>>> from keras_iplt.graph.trace import trace
>>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
>>> _ = model.layers[0].kernel.assign([[3, 0, 1], [4, 0, 1], [0, 2, 1], [0, 0, 1]])
>>> graph = trace(model)
>>> channels = graph.groups[0].classes
>>> criteria.scores(graph, "l2")[channels]
array([5., 2., 2.])
>>> criteria.scores(graph, criteria.Lp(p=1))[channels]
array([7., 2., 4.])
>>> criteria.scores(graph, lambda weights: np.abs(weights).max(axis=1))[channels]
array([4., 2., 1.])

A channel may have several filters: the convolutions that are added up in a residual stream have
one each, and a Dense layer that is reshaped to 7 × 7 maps has 49 per map. Their numbers are
reduced to one by their mean ("energy": by their sum), or as `reduce` says: "sum", "max" or "l2"
(the root of the sum of squares). The same holds for several batch norms, and for several layers
that see a channel.
"""

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np

from keras_iplt.criteria.base import AnyCriterion, Criterion
from keras_iplt.criteria.data import Activation, APoZ, Gradient, Taylor
from keras_iplt.criteria.filters import Filters, check_finite
from keras_iplt.criteria.reconstruction import Lasso, ThiNet
from keras_iplt.criteria.weights import (
    L1,
    L2,
    LAMP,
    BatchNormScale,
    Custom,
    Energy,
    GeometricMedian,
    Lp,
    Random,
)
from keras_iplt.errors import CriterionError, DataError, WeightsError
from keras_iplt.graph.channels import Graph, Group
from keras_iplt.graph.slices import numbers_of
from keras_iplt.running.observe import marked
from keras_iplt.support.arguments import Data, checked

__all__ = [
    "APoZ",
    "Activation",
    "BatchNormScale",
    "Criterion",
    "Custom",
    "Energy",
    "Filters",
    "GeometricMedian",
    "Gradient",
    "L1",
    "L2",
    "LAMP",
    "Lasso",
    "Lp",
    "Random",
    "Taylor",
    "ThiNet",
    "get",
    "scores",
]

_NAMED: dict[str, Callable[[], Criterion]] = {
    "activation": Activation,
    "apoz": APoZ,
    "bn_scale": BatchNormScale,
    "energy": Energy,
    "fpgm": GeometricMedian,
    "gradient": Gradient,
    "l1": L1,
    "l1_mean": lambda: L1(mean=True),
    "l2": L2,
    "l2_mean": lambda: L2(mean=True),
    "lamp": LAMP,
    "lasso": Lasso,
    "lp": Lp,
    "lp_mean": lambda: Lp(mean=True),
    "random": Random,
    "taylor": Taylor,
    "thinet": ThiNet,
}


DEFAULT = "energy"  # see "Which filters go" in docs/measured.md


@checked
def get(identifier: AnyCriterion) -> Criterion:
    """The criterion that a name, an object or a function stands for.

    Args:
        identifier: one of the names in this module's description, a `Criterion`, or a function of
            an array `(filters, weights of one filter)` that returns one number per filter.

    Example:

    >>> get("l1_mean")
    L1(mean=True, reduce='mean')
    """
    if isinstance(identifier, Criterion):
        return identifier
    if isinstance(identifier, str) and identifier in _NAMED:
        return _NAMED[identifier]()
    if isinstance(identifier, type) and issubclass(identifier, Criterion):
        return identifier()
    if callable(identifier):
        return Custom(identifier)
    raise CriterionError(
        f"criterion: expected one of {', '.join(map(repr, _NAMED))}, a keras_iplt.criteria object "
        f"or a function of an array (filters, weights), received: {identifier!r}"
    )


@checked
def scores(
    graph: Graph,
    criterion: AnyCriterion = DEFAULT,
    data: Data | None = None,
    groups: Iterable[Group] | None = None,
) -> np.ndarray:
    """The importance of every channel of a model.

    Args:
        graph: the `Graph` of the model.
        criterion: whatever `get` takes.
        data: what criteria that need data look at: `(x, y)`, `x`, or batches of these.
        groups: the groups of the graph to look at, all of them by default.

    Returns:
        An array with one number per id: at the id that names a class, the importance of that
        channel; NaN everywhere else.
    """
    return scores_after(np.ones(len(graph.classes)), graph, get(criterion), data, groups)


def scores_after(
    times: np.ndarray,
    graph: Graph,
    criterion: Criterion,
    data: Any,
    groups: Iterable[Group] | None,
) -> np.ndarray:
    """The `scores` of a model that has lost channels: it had `times` as many, per class.

    Weights have been trained since, so that the share which is left is that of the channels."""
    if criterion.needs_data and data is None:
        raise DataError(
            f"criterion {criterion.name!r} expected data=(x, y), x or batches of these, "
            "received: None"
        )
    groups = graph.groups if groups is None else tuple(groups)
    wanted = marked(graph, [group.classes for group in groups])
    size = len(graph.classes)
    found = [(np.zeros(0, np.int64), np.zeros(0)), *criterion.collect(graph, wanted, data)]
    classes = np.concatenate([graph.classes[ids].ravel() for ids, _ in found])
    values = np.concatenate([np.asarray(v, np.float64).ravel() for _, v in found])
    if criterion.adds_up:
        values = values + np.log(times[classes])
    result = _reduced(criterion.reduce, classes, values, size)
    result[~wanted | (graph.classes != np.arange(size))] = np.nan
    counts = np.bincount(classes, minlength=size)
    for group in groups:
        if not counts[group.classes].all():
            names = ", ".join(dict.fromkeys(repr(p.path) for p in group.producers))
            raise CriterionError(
                f"criterion {criterion.name!r} has no score for channels of {names}: "
                f"{criterion.missing}"
            )
        if not np.isfinite(result[group.classes]).all():
            _blame(graph, criterion, group)
    return result


def _reduced(reduce: str, classes: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """The values of each class reduced to one."""
    if reduce == "max":
        result = np.full(size, -np.inf)
        np.maximum.at(result, classes, values)
        return result
    total = np.bincount(classes, values**2 if reduce == "l2" else values, size)
    if reduce == "mean":
        return total / np.maximum(np.bincount(classes, minlength=size), 1)
    return np.sqrt(total) if reduce == "l2" else total


def _blame(graph: Graph, criterion: Criterion, group: Group) -> NoReturn:
    """Says why scores are not finite: the weights are not, or else the data are to blame."""
    for variable in graph.model.weights:
        value = numbers_of(variable)
        check_finite(value, variable, variable.path.rpartition("/")[0])
    names = ", ".join(dict.fromkeys(repr(p.path) for p in group.producers))
    problem = f"criterion {criterion.name!r} is not finite for channels of {names}"
    if criterion.needs_data:
        raise DataError(f"{problem}: look for NaN, infinite or huge numbers in the data")
    raise WeightsError(f"{problem}: their weights are too large for it")
