"""One layer at a time: prune, retrain, look, and take back what went too far.

The way in which Hubens et al., "An Experimental Study of the Impact of Pre-training on the Pruning
of a Convolutional Neural Network", prune: the least sensitive layer gives up filters as long as
the accuracy recovers, then the next one does.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypedDict

import keras

from keras_iplt.analysis.backup import SearchBackup, check_again
from keras_iplt.analysis.fitting import evaluated as _evaluated
from keras_iplt.analysis.fitting import trained as _trained
from keras_iplt.analysis.sensitivities import Sensitivity
from keras_iplt.analysis.zeroing import sensitivity as analyse
from keras_iplt.criteria import DEFAULT
from keras_iplt.criteria import get as get_criterion
from keras_iplt.criteria.base import AnyCriterion
from keras_iplt.errors import OptionError
from keras_iplt.graph.names import by_layer
from keras_iplt.graph.selectors import Layers
from keras_iplt.graph.slices import numbers_of
from keras_iplt.graph.trace import trace
from keras_iplt.planning.decide import plan
from keras_iplt.planning.options import PlanOptions
from keras_iplt.support import records
from keras_iplt.support.arguments import (
    Count,
    Data,
    Directory,
    Kind,
    NotNegative,
    Path,
    Step,
    Verbosity,
    checked,
    take_options,
)
from keras_iplt.support.backups import KeptFile
from keras_iplt.support.files import file_at
from keras_iplt.support.fingerprints import fingerprint, of_data
from keras_iplt.support.metrics import watched, worsened
from keras_iplt.support.progress import silent
from keras_iplt.support.tables import Table, Tables, thousands
from keras_iplt.support.text import printable, text_repr
from keras_iplt.surgery.refitting import Compensate
from keras_iplt.surgery.rewriting import rewrite

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Guided", "GuidedStep", "prune_guided"]


def _is_keras_file(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).endswith(".keras")


Names: TypeAlias = Annotated[Iterable[str], Kind("names of layers", len)]


@dataclasses.dataclass(frozen=True)
class GuidedStep:
    """One attempt at a layer.

    How many channels it was to keep of how many it had at first, the metric after retraining, the
    model's parameters, and whether that was good enough."""

    layer: str
    left: records.Count
    size: records.Count
    value: float
    params: records.Count
    kept: bool


@text_repr
@dataclasses.dataclass(frozen=True)
class Guided(Tables):
    """What came of pruning one layer at a time. Print it for a table.

    Attributes:
        model: the pruned model, as it was after the last step that was good enough.
        metric, baseline: what was watched, and its value before anything was removed.
        value: its value for `model`.
        params: the parameters before anything was removed.
        steps: a `GuidedStep` per attempt.
    """

    model: Any
    metric: str
    baseline: float
    value: float
    params: int
    steps: tuple[GuidedStep, ...]

    def _blocks(self) -> list[str | Table]:
        rows = [("layer", "channels", self.metric, "params", "")]
        rows.append(("", "", f"{self.baseline:.4f}", thousands(self.params), ""))
        for step in self.steps:
            rows.append((step.layer, f"{step.left} of {step.size}", f"{step.value:.4f}",
                         thousands(step.params), "" if step.kept else "taken back"))  # fmt: skip
        return [Table(rows, left=1)]


@dataclasses.dataclass(frozen=True)
class _State:
    """What a backup holds beside the model, of what JSON takes."""

    metric: str
    baseline: float
    layers: list[str]
    steps: list[GuidedStep]


class GuidedKeywords(TypedDict, total=False):
    """What `prune_guided` takes beside its signature: options of its own, and some of `fit`."""

    metric: str | None
    layers: Iterable[str] | None
    ignore: Layers
    only: Layers | None
    convolutions_only: bool
    path: str | os.PathLike[str] | None
    backup_dir: str | os.PathLike[str] | None
    compensate: Any
    verbose: int
    batch_size: int | None
    callbacks: Any
    class_weight: Mapping[int, float] | None
    shuffle: bool
    steps_per_epoch: int | None


@checked
@dataclasses.dataclass(frozen=True)
class _Options:
    """See `prune_guided` for each entry."""

    metric: str | None = None
    layers: Names | None = None
    ignore: Layers = ()
    only: Layers | None = None
    convolutions_only: bool = False
    path: Annotated[Path, Kind("a path that ends with .keras", _is_keras_file)] | None = None
    backup_dir: Directory | None = None
    compensate: Compensate = None
    verbose: Verbosity = 1


@checked
def prune_guided(
    model: keras.Model,
    train: Data,
    validation: Data,
    step: Step = 0.25,
    tolerance: NotNegative = 0.01,
    epochs: Count = 5,
    criterion: AnyCriterion = DEFAULT,
    **options: Unpack[GuidedKeywords],
) -> Guided:
    """Prunes one layer at a time, as far as a metric recovers. The model is left as it is.

    The least sensitive layer loses a share of its filters and the whole model is retrained for a
    few epochs. As long as the metric is within the tolerance of what it was at first, the same
    layer loses more; if not, the step is taken back, weights included, and the next layer's turn
    comes.

    Args:
        model: a compiled and trained Functional or Sequential model. Retraining begins with the
            learning rate that its optimizer has now: set it to the lowest of the training.
        train: what to retrain on: `(x, y)`, `(x, y, sample_weight)` or a dataset for `fit`.
        validation: what to judge by, in the same forms, but to be gone through several times.
        step: the share of a layer's filters, of those that it had at first, that go in a step.
        tolerance: how much worse the metric may be than at first; 0.01 is one point of accuracy.
        epochs: of retraining after each step.
        criterion: which filters of the layer go: see `keras_iplt.plan`. Not one that needs data.
        metric: the name of what to watch, as in the logs of `evaluate`; by default the first
            metric that the model was compiled with, else the loss.
        layers: names of the layers to prune, in this order; by default those of a `sensitivity`
            analysis on `validation`, the least sensitive first.
        ignore, only, convolutions_only: what to leave out of these: see `keras_iplt.plan`.
        path: a `.keras` file that holds the best model so far, written after each step.
        backup_dir: a directory for what is done so far. A pruning that was killed goes on after its
            last step: run the same script again, on the same weights (a script that trains the
            model first keeps them in a file). Of data, the first rows of arrays tell whether they
            are the same, and what the whole model makes of `validation`.
        verbose: 0 for silence, 1 for a line at each step.
        compensate: data without labels, or a `Refit`: at each step, what stays is fitted anew to
            what the model computed before it, and then retrained. See `keras_iplt.rewrite`.
        batch_size, callbacks, class_weight, shuffle, steps_per_epoch: see `fit`.

    Returns:
        A `Guided`, with the pruned model (the one given, if no step was good enough). Print it
        for a table.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8, activation="relu", name="hidden"),
    ...     keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> y = x[:, :1]
    >>> found = iplt.prune_guided(
    ...     model, (x, y), (x, y), step=0.5, tolerance=10.0, epochs=1, verbose=0)
    >>> [(step.layer, step.left, step.kept) for step in found.steps], found.model.layers[0].units
    ([('hidden', 4, True)], 4)
    """
    of_fit: dict[str, Any] = dict(options)
    own = take_options(_Options, of_fit)
    with silent(when=not own.verbose):
        guided = _Guided(model, train, validation, step, tolerance, epochs, criterion, own, of_fit)
        return _pruned(guided, own.backup_dir)


def _pruned(guided: _Guided, backup_dir: Any) -> Guided:
    if backup_dir is None:
        guided.begin()
        return guided.run()
    with SearchBackup(backup_dir, "guided", guided.made_for()) as backup:
        done = backup.load(_State)
        if done is None:
            guided.begin()
        else:
            guided.go_on(backup, *done)
        found = guided.run(backup)
        backup.delete()
    return found


class _Guided:
    """The layers in their order, the attempts so far, and the model of the last good one."""

    def __init__(
        self,
        model: keras.Model,
        train: Any,
        validation: Any,
        step: float,
        tolerance: float,
        epochs: int,
        criterion: AnyCriterion,
        options: _Options,
        fit_options: dict[str, Any],
    ) -> None:
        self.first = self.model = model
        self.train, self.validation, self.fit_options = train, validation, fit_options
        self.step, self.tolerance, self.epochs = step, tolerance, epochs
        self.criterion, self.options = get_criterion(criterion), options
        self.sizes = _sizes(model, options)
        path = None if options.path is None else file_at(options.path)
        self.product = None if path is None else KeptFile(path, of="pruning")
        self.state: _State

    def made_for(self) -> dict[str, Any]:
        """What tells this pruning from others."""
        options = self.options
        several = [self.train, self.validation]
        several += [] if options.compensate is None else [options.compensate]
        return {
            "sizes": self.sizes,
            "params": self.first.count_params(),
            **{name: getattr(self, name) for name in ("step", "tolerance", "epochs")},
            "criterion": self.criterion.name,
            "layers": options.layers and list(options.layers),
            "weights of the model": fingerprint([], map(numbers_of, self.first.weights))[:12],
            "data": [of_data(data)[:12] for data in several],
        }

    # -- where it begins, and goes on --

    def begin(self) -> None:
        """Judges the whole model, and finds the order of its layers."""
        metric, value = self._judged_whole()
        options = self.options
        order = _order(options.layers, self.sizes, lambda: analyse(
            self.model, self.validation, criterion=self.criterion, metric=metric,
            ignore=options.ignore, only=options.only, convolutions_only=options.convolutions_only,
        ))  # fmt: skip
        self.state = _State(metric, value, order, [])

    def go_on(self, backup: SearchBackup, best: keras.Model | None, state: _State) -> None:
        """Goes on where another left off, having judged the whole model, too.
        Raises an error if that was not this pruning."""
        metric, value = self._judged_whole()
        with backup.reading():
            _check(best, state, self.sizes, metric, value)
        self.model, self.state = self.first if best is None else best, state

    def _judged_whole(self) -> tuple[str, float]:
        found = _evaluated(self.model, self.validation)
        metric = watched(found, self.options.metric)
        return metric, found[metric]

    # -- pruning --

    def run(self, backup: SearchBackup | None = None) -> Guided:
        """Makes attempts, layer by layer, until none is left."""
        state = self.state
        for name in state.layers:
            while self._may_lose(name) and self._attempt(name):
                if backup is not None:
                    backup.save(None if self.model is self.first else self.model, state)
        good = (step.value for step in reversed(state.steps) if step.kept)
        value, params = next(good, state.baseline), self.first.count_params()
        return Guided(self.model, state.metric, state.baseline, value, params, tuple(state.steps))

    def _left(self, name: str) -> int:
        tried = (step.left for step in self.state.steps if step.layer == name)
        return min(tried, default=self.sizes[name])

    def _may_lose(self, name: str) -> bool:
        """Whether a layer has more than a step left, and none was taken back."""
        kept = all(step.kept for step in self.state.steps if step.layer == name)
        return kept and self._left(name) > self.step * self.sizes[name]

    def _attempt(self, name: str) -> bool:
        """Takes a step in a layer, and back if it is too much.

        Returns:
            Whether there was anything that could go.
        """
        left, size, state = self._left(name), self.sizes[name], self.state
        less = {name: self.step * size / left}
        chosen = plan(self.model, 0, per_layer=less, criterion=self.criterion)
        if not chosen.fpr:
            return False
        smaller = rewrite(self.model, chosen, self.options.compensate)
        _trained(smaller, self.train, self.epochs, self.fit_options)
        value = _evaluated(smaller, self.validation)[state.metric]
        kept = worsened(state.metric, value, state.baseline) <= self.tolerance + 1e-9
        left -= sum(map(len, chosen.removed))
        step = GuidedStep(name, left, size, value, smaller.count_params(), kept)
        state.steps.append(step)
        if self.options.verbose:
            print(printable(_line(step, state.metric, state.baseline)), flush=True)
        if kept:
            self.model = smaller
            if self.product is not None:
                with self.product.writing(), self.product.put() as partial:
                    self.model.save(partial)
        return True


def _check(
    best: keras.Model | None, state: _State, sizes: Mapping[str, int], metric: str, baseline: float
) -> None:
    """Raises an error if a backup cannot be one of this pruning."""
    if state.metric != metric:
        raise ValueError(f"metric: expected {metric!r}, received: {state.metric!r}")
    check_again("baseline", baseline, state.baseline)
    known = {name: sizes[name] for name in state.layers}
    for step in state.steps:
        if step.size != known.get(step.layer) or not 1 <= step.left < step.size:
            raise ValueError(f"steps: expected some of layers {known}, received: {step}")
    params = next((step.params for step in reversed(state.steps) if step.kept), None)
    if params != (None if best is None else best.count_params()):
        raise ValueError(f"the model: expected one of {params} parameters")


def _order(
    layers: Iterable[str] | None, sizes: Mapping[str, int], analysis: Callable[[], Sensitivity]
) -> list[str]:
    """The layers in the order in which they are pruned."""
    order = list(analysis().ranking() if layers is None else layers)
    for name in order:
        if name not in sizes:
            raise OptionError(
                f"layers: expected some of {', '.join(map(repr, sizes))}, received: {name!r}"
            )
    return order


def _sizes(model: keras.Model, options: _Options) -> dict[str, int]:
    """How many channels each layer has."""
    graph = trace(model)
    spared = PlanOptions(
        ignore=options.ignore, only=options.only, convolutions_only=options.convolutions_only
    )
    found = by_layer(graph, spared.countable(graph))
    return {name: sum(graph.groups[i].size for i in indices) for name, indices in found.items()}


def _line(step: GuidedStep, metric: str, baseline: float) -> str:
    done = "" if step.kept else ": taken back"
    return (
        f"{step.layer}: {step.left} of {step.size} channels, {metric} {step.value:.4f} "
        f"(at first {baseline:.4f}), {step.params:,} parameters{done}"
    )
