"""How important a filter is: one number each, the least important have the smallest.

    from the weights    l1  l2  lp  l1_mean  l2_mean  lp_mean  fpgm  lamp  bn_scale  random
    from data           taylor  gradient  apoz  activation

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
reduced to one by their mean, or as `reduce` says: "sum", "max" or "l2" (the root of the sum of
squares). The same holds for several batch norms, and for several layers that see a channel.
"""

import inspect
import math
from collections.abc import Callable

import keras
import numpy as np

from keras_iplt.errors import CriterionError, DataError, WeightsError
from keras_iplt.filters import Filters, check_finite, filters_of
from keras_iplt.gradients import gradients
from keras_iplt.graph.weights import numbers_of
from keras_iplt.observe import batches, consumers, marked, observe

__all__ = [
    "APoZ",
    "Activation",
    "BatchNormScale",
    "Criterion",
    "Custom",
    "Filters",
    "GeometricMedian",
    "Gradient",
    "L1",
    "L2",
    "LAMP",
    "Lp",
    "Random",
    "Taylor",
    "get",
    "scores",
]

_REDUCTIONS = ("mean", "sum", "max", "l2")


class Criterion:
    """Base of all criteria: override `score`.

    Args:
        reduce: how the numbers of several filters of one channel become one: "mean", "sum",
            "max" or "l2".

    Example:

    >>> class Spread(Criterion):
    ...     def score(self, filters):
    ...         return filters.weights.std(axis=1)
    >>> get(Spread(reduce="max"))
    Spread(reduce='max')
    """

    needs_data = False
    missing = "their layer records no weights of theirs: see keras_iplt.register_rule"

    def __init__(self, reduce="mean"):
        if reduce not in _REDUCTIONS:
            raise CriterionError(f"reduce: expected one of {_REDUCTIONS}, received: {reduce!r}")
        self.reduce = reduce

    @property
    def name(self):
        """What the criterion is called in plans and messages."""
        return type(self).__name__.lower()

    def score(self, filters):
        """One number per filter of a layer.

        Args:
            filters: a `Filters`; `filters.weights` is an array with one row
                per filter.
        """
        raise NotImplementedError(f"{type(self).__name__} must override score(filters)")

    def collect(self, graph, wanted, data):
        """Pairs `(ids, numbers)`: what is known about the channels marked in `wanted`, a mask
        over all ids. An id may appear any number of times."""
        for filters in filters_of(graph, wanted):
            yield filters.ids, self._checked(self.score(filters), filters)

    def _checked(self, values, filters):
        values = np.asarray(numbers_of(values), np.float64)
        if values.shape != (len(filters),):
            raise CriterionError(
                f"criterion {self.name!r} on layer {filters.path!r}: expected shape "
                f"({len(filters)},), one number per filter, received: {values.shape}"
            )
        if not np.isfinite(values).all():
            raise CriterionError(
                f"criterion {self.name!r} on layer {filters.path!r}: expected finite numbers, "
                f"received: {values[~np.isfinite(values)][0]} for filter "
                f"{np.flatnonzero(~np.isfinite(values))[0]}"
            )
        return values

    def get_config(self):
        """The constructor's arguments."""
        names = inspect.signature(type(self)).parameters
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config):
        """The criterion with these arguments."""
        return cls(**config)

    def __repr__(self):
        settings = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({settings})"


# -- from the weights ------------------------------------------------------------------------------


class Lp(Criterion):
    """The p-norm of a filter's kernel, without its bias: (Σ |w|^p)^(1/p).

    Args:
        p: the exponent.
        mean: divide the sum by the number of weights first, so that layers with filters of
            different size compare.
        reduce: see `Criterion`.
    """

    def __init__(self, p=2.0, mean=False, reduce="mean"):
        super().__init__(reduce)
        if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 < p < math.inf:
            raise CriterionError(f"p: expected a positive number, received: {p!r}")
        self.p, self.mean = p, bool(mean)

    @property
    def name(self):
        return super().name + ("_mean" if self.mean else "")

    def score(self, filters):
        total = filters.power_sums(self.p)
        return (total / filters.size if self.mean else total) ** (1 / self.p)


class L1(Lp):
    """The sum of the absolute weights of a filter (`mean`: their mean). See `Lp`."""

    def __init__(self, mean=False, reduce="mean"):
        super().__init__(1, mean, reduce)


class L2(Lp):
    """The Euclidean norm of a filter (`mean`: the root of the mean square), Eq. 3 of the IPLT
    paper. See `Lp`."""

    def __init__(self, mean=False, reduce="mean"):
        super().__init__(2, mean, reduce)


class GeometricMedian(Criterion):
    """The sum of a filter's distances to all other filters of its layer: those near the geometric
    median can be replaced by others (FPGM, He et al., CVPR 2019)."""

    @property
    def name(self):
        return "fpgm"

    def score(self, filters):
        products = np.zeros((len(filters), len(filters)))
        for block in filters.blocks(1 << 23):
            # Distances do not change with the origin; near the filters, less is cancelled below.
            block = block.astype(np.float64)
            block -= block.mean(axis=1, keepdims=True)
            products += block.T @ block
        squares = products.diagonal().copy()
        products *= -2
        products += squares[:, None]
        products += squares
        np.maximum(products, 0, out=products)
        np.fill_diagonal(products, 0)
        return np.sqrt(products, out=products).sum(axis=1)


class LAMP(Criterion):
    """A filter's squared norm over the sum of those of all filters of its layer that are at least
    as large, itself included: layer-adaptive magnitude (Lee et al., ICLR 2021), of filters."""

    def score(self, filters):
        squares = filters.power_sums(2)
        ascending = np.sort(squares)
        sums = np.cumsum(ascending[::-1])[::-1]
        sums = sums[np.searchsorted(ascending, squares)]
        return np.divide(squares, sums, out=np.zeros_like(squares), where=sums > 0)


class BatchNormScale(Criterion):
    """|gamma| of the batch normalization that follows (network slimming, Liu et al., ICCV 2017)."""

    missing = "no BatchNormalization with a scale follows them"

    @property
    def name(self):
        return "bn_scale"

    def collect(self, graph, wanted, data):
        layers = {
            id(call.operation): (call.path, call.operation)
            for call in graph.calls.values()
            if isinstance(call.operation, keras.layers.BatchNormalization)
        }
        for path, layer in layers.values():
            for piece in graph.by_variable.get(id(layer.gamma), ()):
                if wanted[piece.ids].any():
                    gamma = numbers_of(layer.gamma)
                    check_finite(gamma, layer.gamma, path)
                    yield piece.ids, np.abs(gamma)


class Random(Criterion):
    """Random numbers, the same for the same model and seed: what others must beat."""

    def __init__(self, seed=0):
        super().__init__()
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise CriterionError(f"seed: expected an integer of 0 or more, received: {seed!r}")
        self.seed = seed

    def collect(self, graph, wanted, data):
        classes = np.unique(graph.classes[wanted])
        yield classes, np.random.default_rng(self.seed).random(len(wanted))[classes]


class Custom(Criterion):
    """A plain function as a criterion.

    Args:
        function: takes an array `(filters, weights of one filter)`, returns one number per filter.
        reduce: see `Criterion`.
    """

    def __init__(self, function, reduce="mean"):
        super().__init__(reduce)
        if not callable(function):
            raise CriterionError(f"expected a function of an array, received: {function!r}")
        self.function = function

    @property
    def name(self):
        return getattr(self.function, "__name__", type(self.function).__name__)

    def score(self, filters):
        return self.function(filters.weights)


# -- from gradients --------------------------------------------------------------------------------


class _FromGradients(Criterion):
    """One number per filter and batch, from weights and gradients; averaged over the batches."""

    needs_data = True

    def collect(self, graph, wanted, data):
        layers = filters_of(graph, wanted)
        variables, weights = {}, {}
        for filters in layers:
            for variable, *_ in filters.parts + filters.bias_parts:
                variables[id(variable)] = variable
                weights[id(variable)] = numbers_of(variable)
                check_finite(weights[id(variable)], variable, filters.path)
        totals = [np.zeros(len(filters)) for filters in layers]
        number = 0
        for arrays in gradients(graph.model, batches(graph.model, data), [*variables.values()]):
            number += 1
            slopes = dict(zip(variables, arrays, strict=True))
            for total, filters in zip(totals, layers, strict=True):
                total += self.of_batch(filters, weights, slopes)
        for filters, total in zip(layers, totals, strict=True):
            yield filters.ids, total / number

    def of_batch(self, filters, weights, slopes):
        """One number per filter; weights and slopes are arrays by id of variable."""
        raise NotImplementedError


class Taylor(_FromGradients):
    """How much the loss changes when a filter is set to zero, to first order: |Σ w · ∂L/∂w| over
    the filter's weights and its bias, per batch, averaged over the batches of `data`.

    It is the criterion of Molchanov et al. (ICLR 2017, CVPR 2019), activation times gradient. The
    output z of a filter is linear in its weights and bias, so that Σ w · ∂z/∂w = z, and the chain
    rule gives Σ w · ∂L/∂w = Σ z · ∂L/∂z over all positions and examples of the batch. Weight
    regularisation is no part of the loss here.
    """

    def of_batch(self, filters, weights, slopes):
        return np.abs(filters.dot(weights, slopes))


class Gradient(_FromGradients):
    """The l2 norm of the loss's gradient for a filter's kernel, averaged over the batches of
    `data`. Filters with a small one have settled."""

    def of_batch(self, filters, weights, slopes):
        return np.sqrt(filters.dot(slopes, slopes, biases=False))


# -- from activations ------------------------------------------------------------------------------


class _FromActivations(Criterion):
    """The mean of some number per activation, over data and positions, as the layers that consume
    the channel see it: after batch norm, activation function and pooling."""

    needs_data = True
    missing = (
        "they do not leave their layer, so their activations cannot be observed. Ignore the layer "
        "or use a criterion on its weights"
    )

    def collect(self, graph, wanted, data):
        consumed = consumers(graph, wanted)
        found: dict = {}

        def visit(call, inputs):
            for place, (x, values) in enumerate(inputs):
                if consumed[id(call)][x.ids].any():
                    # Along an axis on which ids do not change, they have length 1.
                    axes = tuple(axis for axis, length in enumerate(x.ids.shape) if length == 1)
                    total = self.of_values(values).sum(axes, np.float64, keepdims=True)
                    sofar, count = found.get((id(call), place), (x, 0.0, 0))[1:]
                    count += values.size // total.size
                    found[id(call), place] = x, sofar + total, count

        observe(graph, batches(graph.model, data), visit, lambda call: id(call) in consumed)
        for (key, _), (x, total, count) in found.items():
            seen = consumed[key][x.ids]
            yield x.ids[seen], (total / count)[seen]

    def of_values(self, values):
        """One number per activation."""
        raise NotImplementedError


class APoZ(_FromActivations):
    """The share of activations that are not zero: 1 − the average percentage of zeros (Hu et al.,
    2016). Tells filters apart where a ReLU is between them and the next layer."""

    def of_values(self, values):
        return values != 0


class Activation(_FromActivations):
    """The mean absolute activation."""

    def of_values(self, values):
        return np.abs(values)


# -- names, and the way in -------------------------------------------------------------------------

_NAMED: dict[str, Callable[[], Criterion]] = {
    "activation": Activation,
    "apoz": APoZ,
    "bn_scale": BatchNormScale,
    "fpgm": GeometricMedian,
    "gradient": Gradient,
    "l1": L1,
    "l1_mean": lambda: L1(mean=True),
    "l2": L2,
    "l2_mean": lambda: L2(mean=True),
    "lamp": LAMP,
    "lp": Lp,
    "lp_mean": lambda: Lp(mean=True),
    "random": Random,
    "taylor": Taylor,
}


def get(identifier):
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


def scores(graph, criterion="l2", data=None, groups=None):
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
    criterion = get(criterion)
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


def _reduced(reduce, classes, values, size):
    """The values of each class reduced to one."""
    if reduce == "max":
        result = np.full(size, -np.inf)
        np.maximum.at(result, classes, values)
        return result
    total = np.bincount(classes, values**2 if reduce == "l2" else values, size)
    if reduce == "mean":
        return total / np.maximum(np.bincount(classes, minlength=size), 1)
    return np.sqrt(total) if reduce == "l2" else total


def _blame(graph, criterion, group):
    """Says why scores are not finite: the weights are not, or else the data are to blame."""
    for variable in graph.model.weights:
        value = numbers_of(variable)
        check_finite(value, variable, variable.path.rpartition("/")[0])
    names = ", ".join(dict.fromkeys(repr(p.path) for p in group.producers))
    problem = f"criterion {criterion.name!r} is not finite for channels of {names}"
    if criterion.needs_data:
        raise DataError(f"{problem}: look for NaN, infinite or huge numbers in the data")
    raise WeightsError(f"{problem}: their weights are too large for it")
