"""Incremental pruning of single weights, inside a plain `model.fit`."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

from keras_iplt import _keras as private
from keras_iplt import schedules
from keras_iplt.callbacks.options import RunKeywords, RunOptions
from keras_iplt.callbacks.progress import WayBack
from keras_iplt.callbacks.scheduled import ScheduledCallback, State
from keras_iplt.errors import OptionError
from keras_iplt.graph.selectors import Layers
from keras_iplt.sparsity.allocation import Allocation
from keras_iplt.sparsity.allocation import get as allocation_of
from keras_iplt.sparsity.meter import LossMeter
from keras_iplt.sparsity.patterns import Pattern
from keras_iplt.sparsity.patterns import get as pattern_of
from keras_iplt.sparsity.pool import PoolOptions
from keras_iplt.sparsity.progress import HeldProgress, HeldState
from keras_iplt.sparsity.tfmot_api.pruning_callbacks import UpdatePruningStep
from keras_iplt.support import records
from keras_iplt.support.arguments import Count, Step, checked, one_of, take_options
from keras_iplt.support.text import warn
from keras_iplt.surgery.shrinking import check_strategy

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["SparsityCallback"]


class SparsityKeywords(RunKeywords, total=False):
    """The options of `keras_iplt.SparsityCallback` that are not spelled out in its signature."""

    ignore: Layers
    convolutions_only: bool | None
    keep_zeros: bool


@dataclasses.dataclass(frozen=True)
class _State(State):
    progress: HeldState
    meter: tuple[float, records.Amount] | None


class SparsityCallback(ScheduledCallback):
    """Sets single weights to zero while a model trains, step by step, and holds them there.

    After every few epochs some more go (Sarkar et al., "An incremental pruning strategy for fast
    training of CNN models").

    The model stays as it is: no layer is wrapped, no variable added. Zeros are held inside the
    compiled training step, so that the weights are sparse after every batch and in every
    checkpoint. Zeros make files smaller once compressed; they make nothing faster.

    Args:
        target: the share of the weights that is zero in the end; or a list of shares, a mapping of
            epochs to shares, an object of `keras_iplt.schedules`, or a `PruningSchedule` of
            `keras_iplt.sparsity` or of tensorflow-model-optimization (which count in batches).
        step: the share of all weights that goes at each step.
        every: the epochs between steps (the paper's k), at most 5 by default: as many as let the
            last step fall in the first half of the training.
        allocation: how sparse each layer becomes: `"uniform"`, all alike; `"fixed"`, `"param"`,
            `"depth"`, of Zuo et al., which prune convolutions only; `"erk"`, `"uniform_plus"`; or
            an object of `keras_iplt.sparsity.allocation`.
        pattern: which weights of a layer go: `"weights"`, the smallest; `"weights_per_filter"`, the
            smallest of each filter; `"filters"`, all of the filters with the smallest l2 norm; or
            an object of `keras_iplt.sparsity.patterns`.
        per: `"epoch"`, or `"batch"` if the schedule and `every` count batches.
        layers: layers or their names, or None for all.
        ignore: layers or names of those that stay as they are.
        convolutions_only: whether dense layers stay as they are; None for what the allocation says.
        keep_zeros: whether weights that are zero when the training begins stay zero: for a model
            that was pruned before.
        guard: a `keras_iplt.Guard` that holds steps, takes one back or stops while a metric is
            down.
        backup_dir: a directory for a backup at the end of each epoch. A training that was killed
            goes on from there: run the same script again.
        verbose: 0 for silence, 1 for a line at each step.

    The logs of every epoch hold `sparsity` (the share that is zero) and `nonzeros` (how many
    weights are not), of the weights that are pruned.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(20, "relu", name="hidden"),
    ...     keras.layers.Dense(2, name="head")])
    >>> model.compile("adam", "mse")
    >>> callback = iplt.SparsityCallback(target=0.5, step=0.25, every=1, verbose=0)
    >>> history = model.fit(
    ...     np.ones((8, 4)), np.ones((8, 2)), epochs=4, callbacks=[callback], verbose=0)
    >>> history.history["sparsity"]
    [0.0, 0.25, 0.5, 0.5]
    >>> print(iplt.sparsity.measure(model))
    layer   weights  zeros  sparsity
    hidden       80     40     50.0%
    head         40     20     50.0%
    total       120     60     50.0%
    """

    state_class = _State

    @checked
    def __init__(
        self,
        target: Any = 0.9,
        step: Step = 0.1,
        every: Count | None = None,
        allocation: str | Allocation = "uniform",
        pattern: str | Pattern = "weights",
        per: Annotated[str, one_of("epoch", "batch")] = "epoch",
        layers: Layers | None = None,
        **options: Unpack[SparsityKeywords],
    ) -> None:
        given: dict[str, Any] = {"layers": layers, **options}
        super().__init__(target, step, every, take_options(RunOptions, given))
        self._pool = take_options(PoolOptions, given)
        if given:
            names = ", ".join(sorted(SparsityKeywords.__optional_keys__))
            raise OptionError(
                f"expected options of SparsityCallback ({names}), received: "
                f"{', '.join(map(repr, given))}"
            )
        self.per = "batch" if isinstance(self.schedule, schedules.FromTfmot) else per
        self.allocation, self.pattern = allocation_of(allocation), pattern_of(pattern)
        self._meter: LossMeter | None = None
        self._refused = False  # by the guard, in this epoch

    # -- a training begins --

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        self._refused = False
        self.progress.hold.begin()

    def _begin(self) -> HeldProgress:
        check_strategy(self.model)
        if any(isinstance(other, UpdatePruningStep) for other in private.companions(self)):
            raise OptionError(
                "expected no UpdatePruningStep beside SparsityCallback, received: one. Each would "
                "prune what the other does; use one of them"
            )
        progress = HeldProgress(self.model, self.allocation, self.pattern, self._pool)
        progress.check(self.schedule.target)
        if type(self.allocation).look is not Allocation.look:
            self._meter = LossMeter(self.model)
        return progress

    def _fit_schedule(self) -> None:
        if self.per == "epoch":
            super()._fit_schedule()
        elif self.every is None and not isinstance(self.schedule, schedules.FromTfmot):
            batches = self.params["epochs"] * (self.params["steps"] or 0)
            if not batches:
                raise OptionError(
                    "every: expected the number of batches between steps, since how many there are "
                    "is not known, received: None"
                )
            steps = schedules.get(self.target, self.step, 1).last_epoch
            if steps is not None:
                every = schedules.spacing(steps, batches, most=batches)
                self.schedule = schedules.get(self.target, self.step, every)

    def _warn_about_reach(self) -> None:
        if self.per == "epoch":
            super()._warn_about_reach()
            return
        batches = self.params["epochs"] * (self.params["steps"] or 0)
        last = self.schedule.last_epoch
        if last is not None and last >= batches > 0:
            warn(
                f"target: {self.schedule.target:.0%} is reached after {last} batches, but training "
                f"ends after {batches}. Train for longer, or make more or larger steps",
                stacklevel=5,
            )

    # -- in batches --

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._refused = False
        super().on_epoch_begin(epoch, logs)
        if self._meter is not None:
            self._meter.begin_epoch()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        passed = batch - self._last_batch
        super().on_train_batch_begin(batch, logs)
        if self.per == "epoch" or self._course.ended:
            return
        if self._refused:  # a guard looks at an epoch's metrics: the clock stands until then
            self._course.held += passed
        elif self._is_due():
            self._step_if_due()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._inside_epoch and self._meter is not None:
            self._meter.read()  # validation counts with the same metric

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._meter is not None:
            self._meter.end_epoch()
        super().on_epoch_end(epoch, logs)

    def _due(self, epoch: int) -> float:
        if self.per == "epoch":
            return super()._due(epoch)
        course = self._course
        batches = course.batches + (self._last_batch if self._inside_epoch else 0) - course.held
        if isinstance(self.schedule, schedules.FromTfmot):
            return self.schedule(epoch, max(0, batches) + 1)  # its first step is 1
        return self.schedule(max(0, batches))

    # -- a step --

    def _step_if_due(self) -> None:
        held = self._course.held
        super()._step_if_due()
        self._refused = self._course.held > held

    def _make_step(self, due: float) -> WayBack | None:
        progress = self.progress
        private.synchronize(self.model)
        if self._meter is not None:
            loss = self._meter.mean()
            if loss is not None:
                progress.allocation.look(loss, progress.gone)
        masks = progress.decide(due)
        guarded = self.guard is not None and self.guard.action == "back"
        way_back = WayBack(progress) if guarded else None
        progress.masked = masks
        if self._meter is not None:
            self._meter.begin_phase()
        return way_back

    def finish(self) -> None:
        """Leaves the model with its zeros and nothing else.

        `fit` does so when it ends; after one that was interrupted, call it before the model is
        trained without this callback."""
        if self.progress is not None:
            private.synchronize(self.model)
            self.progress.hold.put_back()
            self.progress.hold.end()

    # -- telling --

    def _figures(self) -> dict[str, float]:
        gone = sum(self.progress.gone)
        total = self.progress.total
        return {"sparsity": gone / total, "nonzeros": total - gone}

    def _summary(self) -> str:
        progress = self.progress
        return f"{progress.share:.1%} of {progress.total:,} weights are zero"

    # -- after a training was killed --

    def _made_for(self) -> dict[str, Any]:
        return {
            "weights": [[one.path, *map(int, one.variable.shape)] for one in self.progress.pool],
            **super()._made_for(),
            "options": [repr(self.allocation), repr(self.pattern), self.per],
        }

    def _state(self, epoch: int) -> _State:
        meter = None if self._meter is None else self._meter.state()
        own = dict(progress=self.progress.state(), meter=meter)
        return _State(**vars(super()._state(epoch)), **own)

    def _set_state(self, state: _State, undo: contextlib.ExitStack) -> None:
        super()._set_state(state, undo)
        self.progress.set_state(state.progress)
        if self._meter is not None:
            self._meter.set_state(state.meter)

    def _changed(self) -> list[Any]:
        return [*super()._changed(), self.allocation]
