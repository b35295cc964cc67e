"""Incremental pruning based on less training, inside a plain `model.fit`."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import keras

from keras_iplt import _keras as private
from keras_iplt.callbacks.options import IPLTKeywords, IPLTOptions
from keras_iplt.callbacks.progress import Progress, ProgressState, WayBack
from keras_iplt.callbacks.scheduled import Logs, State
from keras_iplt.callbacks.timed import Account, TimedCallback
from keras_iplt.criteria import DEFAULT
from keras_iplt.criteria.base import AnyCriterion
from keras_iplt.errors import OptionError, WeightsError
from keras_iplt.planning.budgets import Unsaid, check_one
from keras_iplt.planning.options import PlanOptions, Scope
from keras_iplt.support import records
from keras_iplt.support.arguments import Count, Data, Step, checked, one_of, take_options
from keras_iplt.support.text import warn
from keras_iplt.surgery.recalibration import recalibrate
from keras_iplt.surgery.shrinking import rehearse

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["IPLTCallback"]

_TARGET = Unsaid(0.7)


@dataclasses.dataclass(frozen=True)
class _State(State):
    progress: ProgressState
    soft_share: records.Part  # that is at zero and goes on learning


class IPLTCallback(TimedCallback):
    """Removes filters while a model trains, early, so that most of it is spent on the small model.

    After every few epochs some more go (Li et al., "Incremental pruning based on less training").

    Args:
        target: the share of the filters that goes in the end, 0.7 unless a budget says how much is
            left; or a list of ratios, a mapping of epochs to ratios, an object of
            `keras_iplt.schedules`, or any `PruningSchedule` of tensorflow-model-optimization.
        step: the share of the original filters that goes at each step.
        every: the epochs between steps (the paper's k), at most 5 by default: as many as let the
            last step fall in the first half of the training.
        criterion: which filters go: see `keras_iplt.plan`.
        scope: `"global"` or `"layer"`: see `keras_iplt.plan`.
        mode: how. `"shrink"`: the model becomes smaller at each step, and its batches cheaper.
            `"mask"`: what goes is held at zero until the target is reached, then the model becomes
            smaller once, as in the paper. `"soft"`: what is zeroed at the end of an epoch goes on
            learning and may come back; the model becomes smaller when training ends, or after
            `soft_epochs`.
        data: what data-driven criteria look at: `(x, y)`, `x`, or batches of these.
        guard: a `Guard` that holds steps, takes one back or stops while a metric is down.
        backup_dir: a directory for a backup at the end of each epoch. A training that was killed
            goes on from there: run the same script again.
        soft_epochs: for mode `"soft"`: after how many epochs the model becomes smaller.
        also: other models over the same layers: see `keras_iplt.shrink`.
        compensate: data without labels, or a `keras_iplt.Refit`: at each step, what stays is fitted
            anew to what the model computed before it.
        recalibrate: data without labels: when training ends, the statistics of batch norms are
            measured on them again. They lag behind where the last epochs had few batches.
        verbose: 0 for silence, 1 for a line at each step, and one at the end: the seconds that
            pruning took, and those that it saved.
        ignore, only, min_channels, round_to, of, per_layer, max_ratio, convolutions_only: see
            `keras_iplt.plan`.
        approximate, heads: see `keras_iplt.trace`.
        params, macs, flops, size, latency, at_most: a budget, in place of `target`: what the last
            step leaves is within it. See `keras_iplt.plan`.

    The logs of every epoch hold `ratio` (the share that is gone; with `"soft"`, that is at zero),
    `params` and `flops` (of what is left; `flops` only if the model's input has a fixed size).

    Example:

    >>> import keras
    >>> import numpy as np
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(20, "relu"), keras.layers.Dense(2)])
    >>> model.compile("adam", "mse")
    >>> callback = iplt.IPLTCallback(target=0.5, step=0.25, every=1, verbose=0)
    >>> history = model.fit(
    ...     np.ones((8, 4)), np.ones((8, 2)), epochs=4, callbacks=[callback], verbose=0)
    >>> history.history["ratio"]
    [0.0, 0.25, 0.5, 0.5]
    >>> model.layers[0].units
    10
    """

    state_class = _State

    @checked
    def __init__(
        self,
        target: Any = _TARGET,
        step: Step = 0.1,
        every: Count | None = None,
        criterion: AnyCriterion = DEFAULT,
        scope: Scope = "global",
        mode: Annotated[str, one_of("shrink", "mask", "soft")] = "shrink",
        data: Data | None = None,
        **options: Unpack[IPLTKeywords],
    ) -> None:
        others: dict[str, Any] = {"criterion": criterion, "scope": scope, **options}
        run = take_options(IPLTOptions, others)
        super().__init__(target, step, every, run)
        if run.soft_epochs is not None and mode != "soft":
            raise OptionError(
                f"soft_epochs: expected None in mode {mode!r}, received: {run.soft_epochs!r}"
            )
        self.mode, self.soft_epochs, self.also, self.data = mode, run.soft_epochs, run.also, data
        self.compensate, self.recalibrate = run.compensate, run.recalibrate
        self.options = PlanOptions.of_keywords(others)
        check_one("target", target, self.options.at_most)
        self._drifting: list[
            keras.Variable
        ] = []  # masked variables that training moves away from zero
        self._soft_share = 0.0  # the share that is at zero and goes on learning
        self._softened = False  # whether this epoch's filters have been zeroed
        self._batches_begun = 0  # in this epoch
        self._look_after = 1  # batches, until an update of the weights is certain

    def _begin(self) -> Any:
        self._drifting, self._soft_share = [], 0.0
        progress = Progress(
            self.model, self.schedule.target, self.options, self.data, self.compensate
        )
        if self.options.at_most is not None:
            self.target = progress.target
        target = progress.target
        if target:  # whatever cannot work is found out now, not after hours
            rehearse(self.model, progress.plan(target, criterion=DEFAULT), self.also)
        return progress

    # -- an epoch --

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        super().on_epoch_begin(epoch, logs)
        if self.mode == "soft" and self._course.epochs >= self._soft_end:
            self.finish()
        self._softened = False
        self._batches_begun = 0
        self._look_after = private.batches_per_update(self.model.optimizer)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        super().on_train_batch_begin(batch, logs)
        if self._batches_begun:
            self._keep_zeros(look=self._batches_begun <= self._look_after)
        self._batches_begun += 1

    def on_test_begin(self, logs: Logs = None) -> None:
        if self._inside_epoch:
            self._soften()
            self._keep_zeros()
        super().on_test_begin(logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._soften()
        self._keep_zeros(look=True)
        super().on_epoch_end(epoch, logs)

    def finish(self) -> None:
        """Carries out what waits.

        `fit` does so when it ends; after one that was interrupted, call it before the model is
        saved."""
        progress = self.progress
        if progress is None:
            return
        private.synchronize(self.model)
        if progress.masked is None and self._soft_share > progress.ratio:
            progress.mask(progress.plan(self._course.share))  # it ended before it was meant to
        if progress.masked is not None:
            smaller = progress.weights_left()
            undo = progress.carry_out(also=self.also)
            if self._way_back is not None:  # of the step that waited
                self._way_back[0].undo = undo
            self._soft_share = 0.0
            if self.mode == "soft":
                self._company.forget()  # the best epoch had other filters at zero
            else:
                self._company.follow(smaller)

    def on_train_end(self, logs: Logs = None) -> None:
        with self._working():
            self.finish()
            if self.recalibrate is not None:
                private.synchronize(self.model)
                recalibrate(self.model, self.recalibrate)
        super().on_train_end(logs)

    # -- a step --

    def _step_if_due(self) -> None:
        if self.mode != "soft":
            super()._step_if_due()

    def _make_step(self, due: float) -> Callable[[], None] | None:
        progress = self.progress
        if progress.masked is not None and progress.criterion.sees_zeros:
            progress.carry_out(also=self.also)
        plan = progress.plan(due)
        guarded = self.guard is not None and self.guard.action == "back"
        way_back = WayBack(progress) if guarded else None
        lost = progress.lost_most(plan)
        if self._stays_masked(due):
            progress.mask(plan)
        else:
            undo = progress.carry_out(plan, self.also)
            self._drifting = []
            if way_back is not None:
                way_back.undo = undo
        self._told = self._summary()
        self._say(f"epoch {self._course.epochs + 1}: {self._told}{lost and f'; most from {lost}'}")
        return way_back

    def _stays_masked(self, due: float) -> bool:
        """Whether what goes is held at zero until the target is reached."""
        target = self.schedule.target
        return self.mode == "mask" and target is not None and due < target - 1e-9

    def _keep_zeros(self, look: bool = False) -> None:
        """Zeros stay zero by themselves, as a rule; where they do not, they are put back."""
        if self.progress.masked is None:
            return
        if look:
            private.synchronize(self.model)
            known = {id(variable) for variable in self._drifting}
            found = self.progress.drifting()
            self._drifting += [variable for variable in found if id(variable) not in known]
        if self._drifting:
            private.synchronize(self.model)
            self.progress.hold(self._drifting)

    # -- soft --

    @property
    def _soft_end(self) -> int:
        """After how many epochs filters no longer come back."""
        return min(self._end, self.soft_epochs or self._end)

    def _soften(self) -> None:
        """At the end of an epoch, before it is measured, zeroes the least important filters.
        In the last soft epoch with all that belongs to them, so that what is measured is what will
        be left."""
        if self.mode != "soft" or self._softened or self._course.epochs >= self._soft_end:
            return
        self._softened = True
        after = self._course.epochs + 1
        share = self._due(after)
        if share and self._may_step():
            private.synchronize(self.model)
            try:
                plan = self.progress.plan(share)
            except WeightsError as error:
                warn(f"nothing is removed: {error}", stacklevel=4)
                return
            if after >= self._soft_end:
                self.progress.mask(plan)
            else:
                self.progress.soften(plan)
            self._course.share, self._soft_share = share, self.progress.share(plan)

    # -- telling --

    def _figures(self) -> dict[str, float]:
        progress = self.progress
        share = max(progress.ratio, self._soft_share)
        figures = {"ratio": share, "params": progress.params}
        return figures if progress.flops is None else {**figures, "flops": progress.flops}

    def _summary(self) -> str:
        figures = self._figures()
        names = {"params": "parameters", "flops": "FLOPs"}
        of = self.progress.options.plain()["of"]
        of = names.get(of, of)
        gone = "at zero" if self._soft_share > self.progress.ratio else "gone"
        text = f"{figures['ratio']:.1%} of the {of} {gone}, {figures['params']:,} parameters left"
        return text if "flops" not in figures else f"{text}, {figures['flops'] / 1e6:,.2f} MFLOPs"

    def _in_seconds(self, account: Account) -> str:
        text = super()._in_seconds(account)
        loss = account.pruning + account.compiling > (account.saved or 0.0)
        if loss and self.mode == "shrink" and self._clock.changes > 1:
            text += ". In trainings as short as this, mode='mask' costs less: it compiles once"
        return text

    # -- after a training was killed --

    def _made_for(self) -> dict[str, Any]:
        made = super()._made_for()
        if self.options.at_most is not None:  # of which the share may be measured anew
            made["schedule"] = [self.step, self.every]
        return {
            "model": list(self.progress.architecture),
            **made,
            "mode": [self.mode, self.soft_epochs],
            "options": self.progress.options.plain(),
        }

    def _state(self, epoch: int) -> _State:
        own = dict(progress=self.progress.state(), soft_share=self._soft_share)
        return _State(**vars(super()._state(epoch)), **own)

    def _set_state(self, state: _State, undo: contextlib.ExitStack) -> None:
        super()._set_state(state, undo)
        self.progress.replay(state.progress, self.also, undo)
        self._soft_share = state.soft_share
