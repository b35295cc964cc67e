"""What each layer of a model can lose by itself, measured by zeros.

By the law that masked equals pruned, zeros tell what pruning would cost. For each layer they go
into its variables alone, and only what these reach is computed again.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeAlias

import keras
import numpy as np

from keras_iplt.analysis.measuring import Examples, Meter
from keras_iplt.analysis.replay import Replay
from keras_iplt.analysis.sensitivities import ResultFile, Sensitivity
from keras_iplt.criteria import DEFAULT
from keras_iplt.criteria.base import AnyCriterion
from keras_iplt.graph.channels import Graph
from keras_iplt.graph.names import by_layer
from keras_iplt.graph.selectors import Layers
from keras_iplt.graph.slices import kept_axes, numbers_of, zeroed
from keras_iplt.graph.trace import graph_for
from keras_iplt.planning.decide import candidates_of, check_weights, ranked
from keras_iplt.planning.options import PlanOptions
from keras_iplt.planning.ranking import Candidate
from keras_iplt.running.observe import Batch
from keras_iplt.support.arguments import Data, Kind, Path, Step, Verbosity, checked
from keras_iplt.support.fingerprints import fingerprint
from keras_iplt.support.metrics import watched
from keras_iplt.support.progress import silent, told

__all__ = ["sensitivity"]

Ratios: TypeAlias = Annotated[
    Iterable[Step],
    Kind(
        "numbers in (0, 1) that rise",
        lambda ratios: len(ratios) and all(a < b for a, b in itertools.pairwise(ratios)),
    ),
]


@checked
def sensitivity(
    model: keras.Model | Graph,
    data: Data,
    ratios: Ratios = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    criterion: AnyCriterion = DEFAULT,
    metric: str | None = None,
    ignore: Layers = (),
    only: Layers | None = None,
    convolutions_only: bool = False,
    path: Path | None = None,
    verbose: Verbosity = 1,
) -> Sensitivity:
    """Measures what each layer of a model can lose by itself.

    Loss and metrics per layer and share of its filters. The model is left as it is.

    Args:
        model: a compiled Keras model: its loss and metrics are measured, as `evaluate` does.
        data: `(x, y)`, `(x, y, sample_weight)` or batches of these that can be gone through
            several times. A few hundred examples are enough to compare layers.
        ratios: shares of the filters of a layer, rising, each in (0, 1).
        criterion: which filters go first, see `keras_iplt.plan`. Criteria that look at data look
            at these.
        metric: the name of the metric that the result is ranked by; by default the first one that
            the model was compiled with, else the loss.
        ignore, only, convolutions_only: layers to leave out, see `keras_iplt.plan`.
        path: a JSON file that is written after each layer. If it is there, of the same analysis,
            the work goes on where it ended.
        verbose: 0 for no progress bar, which only terminals and notebooks get.

    Returns:
        A `Sensitivity`. Print it for a table, plot it with `keras_iplt.plots.sensitivity`, or let
        its `per_layer()` tell `keras_iplt.plan` what to take from where.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8, activation="relu", name="hidden"),
    ...     keras.layers.Dense(2)])
    >>> model.compile(loss="mse")
    >>> x = np.random.default_rng(0).normal(size=(32, 4))
    >>> y = model.predict(x, verbose=0)
    >>> found = iplt.sensitivity(model, (x, y), ratios=(0.25, 0.5), verbose=0)
    >>> found.layers, found.removed.tolist(), found.baseline["loss"] < 1e-6
    (('hidden',), [[2, 4]], True)
    >>> bool(found.drop()[0, 1] > found.drop()[0, 0] > 0)
    True
    """
    options = PlanOptions(
        criterion=criterion, ignore=ignore, only=only, convolutions_only=convolutions_only
    )
    with silent(when=not verbose):
        graph, shares = graph_for(model), tuple(map(float, ratios))
        return _measured(graph, Examples(graph.model, data), shares, options, metric, path)


def _measured(
    graph: Graph,
    given: Examples,
    ratios: tuple[float, ...],
    options: PlanOptions,
    metric: str | None,
    path: Any,
) -> Sensitivity:
    check_weights(graph)
    filters = options.countable(graph)
    groups = [graph.groups[index] for index in filters]
    scores = ranked(graph, options.criterion, given.data, groups, None)
    candidates = {c.index: c for c in candidates_of(graph, filters, scores)}
    layers = {
        name: [_Unit(graph, [candidates[i] for i in indices], ratio) for ratio in ratios]
        for name, indices in by_layer(graph, filters).items()
    }
    meter = Meter(graph.model, given.first)
    result = _unmeasured(graph.model.name, ratios, layers, meter.names, metric)
    journal = ResultFile(path, _fingerprint(graph, result, candidates.values(), given.first))
    done = journal.load(result)
    if not done:
        result.baseline.update(meter.measured(Replay(graph.function, []), [[]], given)[0])
        journal.save(result, done)
    for row, units in told(list(enumerate(layers.values()))[done:], "layer"):
        changes = [unit.zeros() for unit in units]
        found = meter.measured(Replay(graph.function, units[0].variables), changes, given)
        for name, table in result.values.items():
            table[row] = [figures[name] for figures in found]
        journal.save(result, row + 1)
    return result


def _unmeasured(
    model: str,
    ratios: tuple[float, ...],
    layers: Mapping[str, Sequence["_Unit"]],
    metrics: Sequence[str],
    metric: str | None,
) -> Sensitivity:
    """A result with no figure in it yet."""
    removed = np.array([[unit.count for unit in units] for units in layers.values()])
    return Sensitivity(
        model=model,
        metric=watched(metrics, metric),
        layers=tuple(layers),
        sizes=tuple(units[0].size for units in layers.values()),
        ratios=ratios,
        removed=removed,
        baseline={},
        values={name: np.full(removed.shape, np.nan) for name in metrics},
    )


class _Unit:
    """The channels that go from a layer at a ratio: those that `per_layer` of `plan` takes."""

    def __init__(self, graph: Graph, candidates: Sequence[Candidate], ratio: float) -> None:
        self._graph, chosen = graph, []
        self.size = sum(c.size for c in candidates)
        for candidate in candidates:
            candidate.take_share(ratio)
            chosen.append(candidate.classes[candidate.chosen])
        self.count = sum(map(len, chosen))
        self._gone = graph.gone(chosen)
        touched = graph.gone([candidate.classes for candidate in candidates])
        self.variables = [
            pieces[0].variable
            for pieces in graph.by_variable.values()
            if any(touched[piece.ids].any() for piece in pieces)
        ]

    def zeros(self) -> list[Any]:
        """What the variables hold when the channels are zero."""
        found = []
        for variable in self.variables:
            kept = kept_axes(variable, self._graph.by_variable[id(variable)], self._gone)
            value = zeroed(numbers_of(variable), kept)
            found.append(keras.ops.convert_to_tensor(value, dtype=variable.dtype))
        return found


def _fingerprint(
    graph: Graph, result: Sensitivity, candidates: Iterable[Candidate], batch: Batch
) -> str:
    """What tells one analysis from another: operations, weights, what goes, and data."""
    parts = (graph.signature, result.ratios, result.metric, result.layers)
    arrays = [c.order for c in candidates] + [result.removed]
    arrays += [numbers_of(v) for v in graph.model.weights]
    arrays += [numbers_of(x) for x in keras.tree.flatten((batch.inputs, batch.y))]
    return fingerprint(parts, arrays)
