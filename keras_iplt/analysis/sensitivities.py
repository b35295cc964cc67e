"""How much a model suffers when one layer loses filters: accuracy per layer and ratio.

By the law that masked equals pruned, zeros tell what pruning would cost. For each layer they go
into its variables alone, and only what these reach is computed again.
"""

import contextlib
import dataclasses
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeAlias

import keras
import numpy as np

from keras_iplt.analysis.measuring import Examples, Meter
from keras_iplt.analysis.replay import Replay
from keras_iplt.criteria import DEFAULT
from keras_iplt.criteria import get as get_criterion
from keras_iplt.criteria.base import AnyCriterion, Criterion
from keras_iplt.errors import OptionError
from keras_iplt.graph.channels import Graph
from keras_iplt.graph.names import by_layer
from keras_iplt.graph.selectors import Layers, as_list
from keras_iplt.graph.slices import kept_axes, numbers_of, zeroed
from keras_iplt.graph.trace import graph_for
from keras_iplt.planning.countable import countable
from keras_iplt.planning.decide import candidates_of, check_weights, ranked
from keras_iplt.running.observe import Batch
from keras_iplt.support.arguments import (
    Data,
    Kind,
    NotNegative,
    Path,
    Step,
    Verbosity,
    checked,
)
from keras_iplt.support.backups import KeptFile
from keras_iplt.support.files import file_at
from keras_iplt.support.fingerprints import fingerprint
from keras_iplt.support.metrics import less_is_better, watched
from keras_iplt.support.progress import silent, told
from keras_iplt.support.records import Count, read, read_json
from keras_iplt.support.tables import Table, Tables
from keras_iplt.support.text import MALFORMED, printable

__all__ = ["Sensitivity", "sensitivity"]

_FORMAT = "keras_iplt.sensitivity/1"
Ratios: TypeAlias = Annotated[
    Iterable[Step],
    Kind(
        "numbers in (0, 1) that rise",
        lambda ratios: len(ratios) and all(a < b for a, b in itertools.pairwise(ratios)),
    ),
]


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Whatever is wrong with a result that comes from elsewhere is wrong in one way."""
    try:
        yield
    except OptionError:
        raise
    except MALFORMED as error:
        raise OptionError(
            f"expected the JSON text of a sensitivity analysis ({_FORMAT}); "
            f"{type(error).__name__}: {error}"
        ) from error


@checked
@dataclasses.dataclass(frozen=True, eq=False)
class Sensitivity(Tables):
    """What became of a model's metrics when each layer alone lost filters. Print it for a table.

    Attributes:
        model: its name.
        metric: the metric that methods look at unless told otherwise.
        layers: one name per group of channels, that of a layer that creates them: what `per_layer`
            of `keras_iplt.plan` takes. A layer that creates several (attention) stands for all.
        sizes: how many channels each has.
        ratios: the shares that were tried.
        removed: array `(layers, ratios)`: how many channels went.
        baseline: each metric of the whole model.
        values: per metric an array `(layers, ratios)`.
    """

    model: str
    metric: str
    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    ratios: tuple[float, ...]
    removed: np.ndarray
    baseline: dict[str, float]
    values: dict[str, np.ndarray]

    @checked
    def drop(self, metric: str | None = None) -> np.ndarray:
        """Array `(layers, ratios)`: how much worse than the whole model each is (or, where
        negative, better)."""
        name = self._name(metric)
        worse = self.baseline[name] - self.values[name]
        return -worse if less_is_better(name) else worse

    @checked
    def per_layer(self, drop: NotNegative = 0.01, metric: str | None = None) -> dict[str, float]:
        """How much each layer can lose by itself: `{layer: ratio}`, for `keras_iplt.plan`.

        Together they cost more than each by itself: begin with a small drop, and train.

        Args:
            drop: how much worse the metric may be; 0.01 is one point of accuracy.
            metric: which one; that of this object by default.

        Returns:
            Per layer the largest ratio up to which the metric holds; 0.0 where none does.
        """
        held = np.logical_and.accumulate(self.drop(metric) <= drop + 1e-9, axis=1).sum(axis=1)
        return {name: (0.0, *self.ratios)[n] for name, n in zip(self.layers, held, strict=True)}

    @checked
    def ranking(self, metric: str | None = None) -> tuple[str, ...]:
        """The layers, the least sensitive first, by the mean drop over all ratios."""
        return tuple(self.layers[i] for i in np.argsort(self.drop(metric).mean(1), kind="stable"))

    def to_plain(self) -> dict[str, Any]:
        """The result as dicts, lists, strings and numbers; what is not a number is None."""
        return {
            "format": _FORMAT,
            **{key: getattr(self, key) for key in ("model", "metric", "layers", "sizes", "ratios")},
            "removed": self.removed.tolist(),
            "baseline": {name: _number(value) for name, value in self.baseline.items()},
            "values": {
                name: [[_number(x) for x in row] for row in values.tolist()]
                for name, values in self.values.items()
            },
        }

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "Sensitivity":
        """A result from what `to_plain` made."""
        with _reading():
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']!r}")
            baseline = {
                k: math.nan if v is None else float(v) for k, v in content["baseline"].items()
            }
            result = cls(
                model=str(content["model"]),
                metric=content["metric"],
                layers=tuple(map(str, content["layers"])),
                sizes=tuple(map(int, content["sizes"])),
                ratios=tuple(map(float, content["ratios"])),
                removed=np.array(content["removed"], int),
                baseline=baseline,
                values={name: np.array(rows, float) for name, rows in content["values"].items()},
            )
            result.values[result.metric], baseline[result.metric]
            table = (len(result.layers), len(result.ratios))
            shapes = {result.removed.shape, *(found.shape for found in result.values.values())}
            if shapes != {table} or len(result.sizes) != len(result.layers):
                raise ValueError(f"{table[0]} layers and {table[1]} ratios, and tables of {shapes}")
            return result

    def to_json(self) -> str:
        """The result as text that `from_json` reads."""
        return json.dumps(self.to_plain())

    @classmethod
    def from_json(cls, text: str) -> "Sensitivity":
        """A result from the text that `to_json` wrote, or from the file that was written while it
        was measured."""
        with _reading():
            return cls.from_plain(json.loads(text))

    def _name(self, metric: str | None) -> str:
        return watched(self.values, self.metric if metric is None else metric)

    def _blocks(self) -> list[str | Table]:
        rows = [("layer", "channels", *(f"{ratio:.0%}" for ratio in self.ratios))]
        for name, size, values in zip(
            self.layers, self.sizes, self.values[self.metric], strict=True
        ):
            rows.append((name, str(size), *(f"{value:.4f}" for value in values)))
        whole = (
            f"{printable(self.metric)} {self.baseline[self.metric]:.4f} before anything is removed"
        )
        return [whole, Table(rows, left=1)]


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
    """Measures what each layer of a model can lose by itself: loss and metrics per layer and share
    of its filters. The model is left as it is.

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
    chosen = as_list(ignore), None if only is None else as_list(only, "only"), convolutions_only
    with silent(when=not verbose):
        ratios = tuple(map(float, ratios))
        return _analysed(
            graph_for(model), data, ratios, get_criterion(criterion), metric, chosen, path
        )


def _analysed(
    graph: Graph,
    data: Any,
    ratios: tuple[float, ...],
    criterion: Criterion,
    metric: str | None,
    chosen: tuple[Any, Any, bool],
    path: Any,
) -> Sensitivity:
    model, given = graph.model, Examples(graph.model, data)
    check_weights(graph)
    ignore, only, convolutions_only = chosen
    filters = countable(graph, ignore, convolutions_only, only)
    groups = [graph.groups[index] for index in filters]
    scores = ranked(graph, criterion, data, groups, None)
    candidates = {c.index: c for c in candidates_of(graph, filters, scores)}
    units = {
        name: [_Unit(graph, [candidates[i] for i in indices], ratio) for ratio in ratios]
        for name, indices in by_layer(graph, filters).items()
    }
    removed = np.array([[unit.count for unit in row] for row in units.values()])
    meter = Meter(model, given.first)
    result = Sensitivity(
        model=model.name,
        metric=watched(meter.names, metric),
        layers=tuple(units),
        sizes=tuple(row[0].size for row in units.values()),
        ratios=ratios,
        removed=removed,
        baseline={},
        values={name: np.full(removed.shape, np.nan) for name in meter.names},
    )
    journal = _Journal(path, _fingerprint(graph, result, candidates.values(), given.first))
    done = journal.load(result)
    if not done:
        result.baseline.update(meter.measured(Replay(graph.function, []), [[]], given)[0])
        journal.save(result, done)
    left = list(enumerate(units.values()))[done:]
    for row, several in told(left, "layer"):
        replay = Replay(graph.function, several[0].variables)
        changes = [unit.zeros() for unit in several]
        for column, found in enumerate(meter.measured(replay, changes, given)):
            for name, value in found.items():
                result.values[name][row, column] = value
        journal.save(result, row + 1)
    return result


# -- what goes -------------------------------------------------------------------------------------


class _Unit:
    """The channels that go from a layer at a ratio: those that `per_layer` of `plan` takes."""

    def __init__(self, graph: Graph, candidates: Sequence[Any], ratio: float) -> None:
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


# -- going on where it ended -----------------------------------------------------------------------


class _Journal:
    """The file in which a result grows."""

    def __init__(self, path: str | os.PathLike[str] | None, fingerprint: str) -> None:
        self.path = None if path is None else file_at(path)
        self._file = None if self.path is None else KeptFile(self.path, of="analysis")
        self._fingerprint = fingerprint

    def load(self, result: Sensitivity) -> int:
        """Fills a result with what has been measured already; returns how many layers have."""
        if self.path is None or not self.path.exists():
            return 0
        try:
            content = read_json(dict[str, Any], self.path)
            same = read(str, content.get("fingerprint"), "fingerprint") == self._fingerprint
            done = read(Count, content.get("done"), "done")
            earlier = Sensitivity.from_plain(content)
            named = earlier.baseline.keys() == earlier.values.keys() == result.values.keys()
            if same and not (named and done <= len(result.layers)):
                raise ValueError("it has other metrics or layers")
        except (OSError, *MALFORMED) as error:
            raise OptionError(
                f"path: expected a new file or one of an analysis to go on with, received: "
                f"{str(self.path)!r}, which is neither ({type(error).__name__}: {error})"
            ) from error
        if not same:
            raise OptionError(
                f"path: {str(self.path)!r} holds an analysis of another model, of other data or "
                "with other options. Give another path, or remove it"
            )
        result.baseline.update(earlier.baseline)
        result.values.update(earlier.values)
        return done

    def save(self, result: Sensitivity, done: int) -> None:
        if self._file is not None:
            note = {**result.to_plain(), "done": done, "fingerprint": self._fingerprint}
            with self._file.writing(), self._file.put() as partial:
                partial.write_text(json.dumps(note), encoding="utf-8")


def _fingerprint(graph: Graph, result: Sensitivity, candidates: Iterable[Any], batch: Batch) -> str:
    """What tells one analysis from another: operations, weights, what goes, and data."""
    parts = (graph.signature, result.ratios, result.metric, result.layers)
    arrays = [c.order for c in candidates] + [result.removed]
    arrays += [numbers_of(v) for v in graph.model.weights]
    arrays += [numbers_of(x) for x in keras.tree.flatten((batch.inputs, batch.y))]
    return fingerprint(parts, arrays)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
