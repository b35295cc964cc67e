"""As small as it goes: how much a model can lose while a metric holds, by bisection over shares."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras

from keras_iplt.analysis.backup import SearchBackup, check_again
from keras_iplt.analysis.fitting import evaluated, trained
from keras_iplt.analysis.profiles import profile
from keras_iplt.errors import OptionError
from keras_iplt.graph.channels import Graph
from keras_iplt.graph.slices import numbers_of
from keras_iplt.graph.trace import trace
from keras_iplt.planning.decide import decide
from keras_iplt.planning.measures import resolved
from keras_iplt.planning.options import Keywords, PlanOptions
from keras_iplt.planning.plan import Plan, bound
from keras_iplt.support import records
from keras_iplt.support.arguments import (
    Count,
    Data,
    Directory,
    NotNegative,
    Positive,
    Step,
    Verbosity,
    blaming,
    checked,
    take_options,
)  # fmt: skip
from keras_iplt.support.fingerprints import fingerprint, of_data
from keras_iplt.support.metrics import less_is_better, watched, worsened
from keras_iplt.support.progress import silent
from keras_iplt.support.tables import Table, Tables, thousands
from keras_iplt.support.text import printable, text_repr
from keras_iplt.surgery.refitting import Compensate
from keras_iplt.surgery.rewriting import rewrite

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["SearchKeywords", "Smallest", "Tried", "smallest"]


class SearchKeywords(Keywords, total=False):
    """The options of `keras_iplt.smallest` that are not spelled out in its signature."""

    compensate: Any
    epochs: int
    metric: str | None
    step: float
    verbose: int


@dataclasses.dataclass(frozen=True)
class Tried:
    """One model that was tried.

    The share that went, what is left, the metric, whether that was good enough, and the seconds
    that it took to make."""

    share: records.Part
    params: records.Count
    flops: records.Count | None
    value: float
    good: bool
    seconds: records.Amount


@dataclasses.dataclass(frozen=True)
class _State:
    """What a backup holds beside the model, of what JSON takes."""

    metric: str
    steps: list[Tried]
    plan: str | None


@text_repr
@dataclasses.dataclass(frozen=True, eq=False)
class Smallest(Tables):
    """What came of a search. Print it for a table, plot it with `keras_iplt.plots.smallest`.

    Attributes:
        model: the smallest model that was good enough; the one given, if none was.
        plan: what went, of the model given; None if nothing did.
        of: what shares are shares of.
        metric, within: what was watched, and how much worse it might be.
        tried: a `Tried` per model, from the whole one on, in the order in which they were made.
        complete: whether the search came to its end before its time was up.
    """

    model: Any
    plan: Plan | None
    of: str
    metric: str
    within: float
    tried: tuple[Tried, ...]
    complete: bool

    @property
    def best(self) -> Tried:
        """That of the model."""
        return max((one for one in self.tried if one.good), key=lambda one: one.share)

    @property
    def least(self) -> float:
        """The value of the metric that was still good enough."""
        worse = self.within if less_is_better(self.metric) else -self.within
        return self.tried[0].value + worse

    def _blocks(self) -> list[str | Table]:
        rows = [(f"{self.of} gone", "params", "FLOPs", self.metric, "")]
        for one in sorted(self.tried, key=lambda one: one.share):
            word = "" if one.good else "too bad"
            rows.append((f"{one.share:.1%}", thousands(one.params), thousands(one.flops),
                         f"{one.value:.4f}", "taken" if one is self.best else word))  # fmt: skip
        note = [] if self.complete else ["ended before it was done: more minutes lead further"]
        return [Table(rows, left=0), *note]


@checked
def smallest(
    model: keras.Model,
    data: Data,
    within: NotNegative = 0.01,
    train: Data | Callable[..., Any] | None = None,
    minutes: Positive | None = None,
    backup_dir: Directory | None = None,
    **options: Unpack[SearchKeywords],
) -> Smallest:
    """Makes a model as small as it goes while a metric holds. The model is left as it is.

    Shares are halved between the largest that was good enough and the smallest that was not: half
    of the parameters go, then a quarter or three quarters, and so on. Each time the whole model
    is pruned, fitted anew if there is data for that, trained on a little, and judged.

    Args:
        model: a compiled and trained Functional or Sequential model.
        data: what to judge by: `(x, y)`, `(x, y, sample_weight)` or a dataset, to be gone through
            several times.
        within: how much worse the metric may be than at first; 0.01 is one point of accuracy.
        train: what each model is trained on, in the same forms; or a function that trains the
            model that it is given, in place; None for no training.
        minutes: how long the search may take. It ends before a model that would take longer, going
            by the slowest so far; one is tried in any case.
        backup_dir: a directory for what is done so far. A search that was killed goes on from
            there: run the same script again, on the same weights. One whose time was up goes on
            with more minutes.
        compensate: data without labels, or a `Refit`: see `keras_iplt.rewrite`.
        epochs: of training on `train`; 1 by default. The learning rate is that of the model's
            optimizer.
        metric: the name of what to watch, as in the logs of `evaluate`; by default the first
            metric that the model was compiled with, else the loss.
        step: the search ends where it could make what is left smaller by this share of it at most;
            0.05 by default.
        verbose: 0 for silence, 1 for a line about each model.
        of: what is to be small, what shares are shares of: see `keras_iplt.plan`. `"params"` by
            default.
        criterion, scope, per_layer, ignore, only, min_channels, round_to, max_ratio,
            convolutions_only: see `keras_iplt.plan`. Criteria that look at data look at `train` if
            that is data, else at `data`.
        approximate, heads: see `keras_iplt.trace`.

    Returns:
        A `Smallest`, with the model and all that was tried. Print it for a table.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> y = model.predict(x, verbose=0)
    >>> found = iplt.smallest(model, (x, y), within=0.01, compensate=x, verbose=0)
    >>> found.model.count_params() < model.count_params(), found.best.value <= found.least
    (True, True)
    """
    seconds = None if minutes is None else 60.0 * minutes
    of_plan: dict[str, Any] = dict(options)
    own = take_options(_Options, of_plan)
    with silent(when=not own.verbose):
        search = _Search(model, data, within, train, own, of_plan)
        return _searched(search, seconds, backup_dir)


def _searched(search: _Search, seconds: float | None, backup_dir: Any) -> Smallest:
    if backup_dir is None:
        search.begin()
        return search.result(search.run(seconds))
    with SearchBackup(backup_dir, "smallest", search.made_for()) as backup:
        search.begin()
        done = backup.load(_State)
        if done is not None:
            with backup.reading():
                search.go_on(*done)
        complete = search.run(seconds, backup)
        if complete:
            backup.delete()
    return search.result(complete)


@checked
@dataclasses.dataclass(frozen=True)
class _Options:
    """See `smallest` for each entry."""

    compensate: Compensate = None
    epochs: Count = 1
    metric: str | None = None
    step: Step = 0.05
    verbose: Verbosity = 1


class _Search:
    """The shares tried so far, and the model of the largest that was good enough."""

    def __init__(
        self,
        model: keras.Model,
        data: Any,
        within: float,
        train: Any,
        own: _Options,
        of_plan: dict[str, Any],
    ) -> None:
        self.model, self.data, self.within, self.train = model, data, float(within), train
        self.compensate, self.verbose = own.compensate, own.verbose
        self.epochs, self.step = own.epochs, own.step
        self.metric: Any = own.metric
        options = PlanOptions.of_keywords({"of": "params", **of_plan})
        if options.at_most is not None:
            raise OptionError(
                f"expected no budget, as the smallest model is searched for, received: {of_plan}"
            )
        self.graph: Graph = trace(model, approximate=options.approximate, heads=options.heads)
        of, round_to = resolved(self.graph, options.of, options.round_to)  # measured once
        self.options = options.meant(self.graph).replace(of=of, round_to=round_to)
        self.best: keras.Model = model
        self.plan: Plan | None = None
        self.tried: list[Tried] = []
        self._low, self._high = 0.0, 1.0  # shares that are good enough, and too much
        # What went -> whether that was good enough.
        self._known: dict[Any, bool] = {((),) * len(self.graph.groups): True}

    # -- where it begins, and goes on --

    def made_for(self) -> dict[str, Any]:
        """What tells this search from others."""
        several = [self.data, self.compensate, None if callable(self.train) else self.train]
        return {
            "weights of the model": fingerprint([], map(numbers_of, self.model.weights))[:12],
            "data": [of_data(data)[:12] for data in several],
            "train": getattr(self.train, "__name__", None) if callable(self.train) else "data",
            "options": self.options.plain(),
            **{name: getattr(self, name) for name in ("within", "epochs", "metric", "step")},
        }

    def begin(self) -> None:
        """Judges the whole model."""
        self.choose(0.0)  # what cannot be planned is found out now
        found = self.judge(self.model)
        self.metric = watched(found, self.metric)
        self.note(0.0, self.model, found[self.metric], 0.0)

    def go_on(self, best: keras.Model | None, state: _State) -> None:
        """Goes on where another left off, having judged the whole model, too.
        Raises an error if that was not this search."""
        (whole,), (first, *others) = self.tried, state.steps
        if (state.metric, first.share, first.params) != (self.metric, 0.0, whole.params):
            raise ValueError(f"expected to begin with {whole}, received: {first}")
        check_again(state.metric, whole.value, first.value)
        self.tried = state.steps
        for one in others:
            if one.share == 0 or one.good != self.is_good(one.value):
                raise ValueError(f"steps: expected what follows from its value, received: {one}")
            self.learn(one.share, one.good)
        params = max(((one.share, one.params) for one in others if one.good), default=(0, None))[1]
        if params != (None if best is None else best.count_params()):
            raise ValueError(f"the model: expected one of {params} parameters")
        if best is not None:
            plan = Plan.from_json(records.read(str, state.plan, "plan"))
            self.best, self.plan = best, bound(plan, self.model)

    # -- trying --

    def run(self, deadline: float | None, backup: SearchBackup | None = None) -> bool:
        """Tries shares until they are near to each other, or there is no more time.

        Returns:
            Whether there was time enough.
        """
        while (share := self.next()) is not None:
            times = [one.seconds for one in self.tried]
            if deadline is not None and times[1:] and sum(times) + max(times) > deadline:
                return False
            began = time.perf_counter()
            try:
                plan = self.choose(share)
            except OptionError:  # so much cannot go
                self._high = share
                continue
            if plan.removed in self._known:
                self.learn(share, self._known[plan.removed])
                continue
            small = self.made(plan)
            value = self.judge(small)[self.metric]
            one = self.note(share, small, value, time.perf_counter() - began)
            self._known[plan.removed] = one.good
            self.learn(share, one.good)
            if one.good:
                self.best, self.plan = small, plan
            if backup is not None:
                backup.save(None if self.best is self.model else self.best, self.state())
        return True

    def next(self) -> float | None:
        """The share to try, or None if those tried are near enough to each other."""
        low, high = self._low, self._high
        return (low + high) / 2 if high - low > self.step * (1 - low) else None

    def learn(self, share: float, good: bool) -> None:
        """Whether a share is good enough."""
        if good:
            self._low = max(self._low, share)
        else:
            self._high = min(self._high, share)

    def choose(self, share: float) -> Plan:
        """What goes."""
        no_data = self.train is None or callable(self.train)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # whether it is too much is measured
            return decide(self.graph, share, self.options, self.data if no_data else self.train)

    def made(self, plan: Plan) -> keras.Model:
        """The smaller model."""
        small = rewrite(self.model, plan, self.compensate)
        if callable(self.train):
            with blaming("train"):
                self.train(small)
        elif self.train is not None:
            trained(small, self.train, self.epochs, {})
        elif not small.optimizer.built:  # as it has to be to be loaded again
            small.optimizer.build(small.trainable_variables)
        return small

    def judge(self, model: keras.Model) -> dict[str, float]:
        return evaluated(model, self.data, "data")

    def note(self, share: float, model: keras.Model, value: float, seconds: float) -> Tried:
        """Keeps what came of a share, and says so."""
        costs = profile(model)
        good = not share or self.is_good(value)
        one = Tried(share, costs.params, costs.flops, value, good, seconds)
        self.tried.append(one)
        if self.verbose:
            of = self.options.plain()["of"]
            print(
                f"{share:.1%} of the {of} gone, {one.params:,} parameters left: "
                f"{printable(self.metric)} "
                f"{value:.4f}" + ("" if not share else f", {'good enough' if good else 'too bad'}"),
                flush=True,
            )
        return one

    def is_good(self, value: float) -> bool:
        """Whether a metric is good enough."""
        return worsened(self.metric, value, self.tried[0].value) <= self.within + 1e-9

    def state(self) -> _State:
        """What `go_on` needs beside the model."""
        return _State(self.metric, self.tried, None if self.plan is None else self.plan.to_json())

    def result(self, complete: bool) -> Smallest:
        return Smallest(
            self.best, self.plan, self.options.plain()["of"], self.metric, self.within,
            tuple(self.tried), complete,
        )  # fmt: skip
