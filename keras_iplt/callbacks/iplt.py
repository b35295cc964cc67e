"""Incremental pruning based on less training, inside a plain `model.fit`."""

import time
import warnings

from keras_iplt import _keras as private
from keras_iplt import criteria
from keras_iplt.callbacks.deferral import Stopwatch
from keras_iplt.callbacks.progress import Progress, WayBack, check_names
from keras_iplt.callbacks.scheduled import ScheduledCallback
from keras_iplt.errors import OptionError, WeightsError
from keras_iplt.surgery.shrinking import rehearse

__all__ = ["IPLTCallback"]

_MODES = ("shrink", "mask", "soft")


class IPLTCallback(ScheduledCallback):
    """Removes filters while a model trains: after every few epochs some more, early, so that most
    of the training is spent on the small model (Li et al., "Incremental pruning based on less
    training").

    Args:
        target: the share of the filters that goes in the end; or a list of ratios, a mapping of
            epochs to ratios, an object of `keras_iplt.schedules`, or any `PruningSchedule` of
            tensorflow-model-optimization.
        step: the share of the original filters that goes at each step.
        every: the epochs between steps (the paper's k), at most 5 by default: as many as let the
            last step fall in the first half of the training.
        criterion: which filters go: see `keras_iplt.plan`.
        scope: `"global"` or `"layer"`: see `keras_iplt.plan`.
        mode: how. `"shrink"`: the model becomes smaller at each step, and its epochs cheaper (a
            step may wait as zeros while tracing the model again would cost more than it saves:
            the results are the same). `"mask"`: what goes is held at zero until the target is
            reached, then the model becomes smaller once, as in the paper. `"soft"`: what is zeroed
            at the end of an epoch goes on learning and may come back; the model becomes smaller
            when training ends, or after `soft_epochs`.
        guard: a `Guard` that holds steps, takes one back or stops while a metric is down.
        data: what data-driven criteria look at: `(x, y)`, `x`, or batches of these.
        backup_dir: a directory for a backup at the end of each epoch. A training that was killed
            goes on from there: run the same script again.
        wait: whether steps may wait in mode `"shrink"`.
        soft_epochs: for mode `"soft"`: after how many epochs the model becomes smaller.
        also: other models over the same layers: see `keras_iplt.shrink`.
        verbose: 0 for silence, 1 for a line at each step.
        **plan_options: every other option of `keras_iplt.plan`: `ignore`, `min_channels`,
            `round_to`, `of`, `per_layer`, `max_ratio`, `convolutions_only`; and `approximate` of
            `keras_iplt.trace`.

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

    def __init__(
        self, target=0.7, step=0.1, every=None, criterion="l2", scope="global", mode="shrink",
        guard=None, data=None, backup_dir=None, wait=True, soft_epochs=None, also=(), verbose=1,
        **plan_options,
    ):  # fmt: skip
        super().__init__(target, step, every, guard, backup_dir, verbose)
        check_names(plan_options)
        if mode not in _MODES:
            raise OptionError(f"mode: expected one of {_MODES}, received: {mode!r}")
        if soft_epochs is not None and mode != "soft":
            raise OptionError(
                f"soft_epochs: expected None in mode {mode!r}, received: {soft_epochs!r}"
            )
        self.mode, self.wait, self.soft_epochs = mode, bool(wait), soft_epochs
        self.data, self.also = data, also
        self.options = {"criterion": criteria.get(criterion), "scope": scope, **plan_options}

    def _begin(self):
        self._drifting: list = []  # masked variables that training moves away from zero
        self._soft_share = 0.0  # the share that is at zero and goes on learning
        self._watch = Stopwatch()
        target = self.schedule.target
        progress = Progress(self.model, target, self.options, self.data)
        if target:  # whatever cannot work is found out now, not after hours
            rehearse(self.model, progress.plan(target, criterion="l2"), self.also)
        return progress

    # -- an epoch --

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        if self.mode == "soft" and self._course.epochs >= self._soft_end:
            self.finish()
        self._softened = False
        self._batches_begun = 0
        self._look_after = private.batches_per_update(self.model.optimizer)
        self._watch.start()

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(batch, logs)
        self._watch.batch()
        if self._batches_begun:
            self._keep_zeros(look=self._batches_begun <= self._look_after)
        self._batches_begun += 1

    def on_test_begin(self, logs=None):
        if self._inside_epoch:
            self._soften()
            self._keep_zeros()

    def on_test_batch_begin(self, batch, logs=None):
        if self._inside_epoch:
            self._watch.batch("test")

    def on_epoch_end(self, epoch, logs=None):
        self._watch.stop()
        self._soften()
        self._keep_zeros(look=True)
        super().on_epoch_end(epoch, logs)

    def finish(self):
        """Carries out what waits. `fit` does so when it ends; after one that was interrupted,
        call it before the model is saved."""
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
            self._watch.made_anew()
            self._soft_share = 0.0
            if self.mode == "soft":
                self._company.forget()  # the best epoch had other filters at zero
            else:
                self._company.follow(smaller)

    # -- a step --

    def _step_if_due(self):
        if self.mode != "soft":
            super()._step_if_due()

    def _make_step(self, due):
        progress = self.progress
        if progress.masked is not None and progress.criterion.sees_zeros:
            progress.carry_out(also=self.also)
            self._watch.made_anew()
        plan = progress.plan(due)
        guarded = self.guard is not None and self.guard.action == "back"
        way_back = WayBack(progress) if guarded else None
        if self._waits(plan, due):
            progress.mask(plan)
        else:
            began = time.perf_counter()
            undo = progress.carry_out(plan, self.also)
            self._watch.made_anew()
            self._drifting = []
            if way_back is not None:
                way_back.undo = undo
            self._say(f"the model is smaller, in {time.perf_counter() - began:.2f} s")
        return way_back

    def _waits(self, plan, due):
        """Whether a step waits as zeros, to be carried out later."""
        target = self.schedule.target
        if self.mode == "mask":
            return target is not None and due < target - 1e-9
        optimizer = getattr(self.model, "optimizer", None)
        if not self.wait or (optimizer is not None and private.mixes_weights(optimizer)):
            return False
        epochs = self._until_next(due)
        cost = self._watch.cost()
        saving = self._watch.saving(self.progress.share_left(plan), epochs)
        if cost is None or saving is None or saving > cost:
            return False
        self._say(
            f"the step waits as zeros: tracing takes {cost:.1f} s and would save {saving:.1f} s in "
            f"the next {epochs} epochs"
        )
        return True

    def _keep_zeros(self, look=False):
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
    def _soft_end(self):
        """After how many epochs filters no longer come back."""
        return min(self._end, self.soft_epochs or self._end)

    def _soften(self):
        """At the end of an epoch, before it is measured, the least important filters are zeroed;
        in the last soft epoch with all that belongs to them, so that what is measured is what
        will be left."""
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
                warnings.warn(f"nothing is removed: {error}", stacklevel=4)
                return
            if after >= self._soft_end:
                self.progress.mask(plan)
            else:
                self.progress.soften(plan)
            self._course.share, self._soft_share = share, self.progress.share(plan)

    # -- telling --

    def _figures(self):
        progress = self.progress
        share = max(progress.ratio, self._soft_share)
        figures = {"ratio": share, "params": progress.params}
        return figures if progress.flops is None else {**figures, "flops": progress.flops}

    def _summary(self):
        figures = self._figures()
        names = {"filters": "filters", "params": "parameters", "flops": "FLOPs"}
        of = names.get(self.progress.of, "latency")
        gone = "at zero" if self._soft_share > self.progress.ratio else "gone"
        text = f"{figures['ratio']:.1%} of the {of} {gone}, {figures['params']:,} parameters left"
        return text if "flops" not in figures else f"{text}, {figures['flops'] / 1e6:,.2f} MFLOPs"

    # -- after a training was killed --

    def _made_for(self):
        return {
            "model": list(self.progress.architecture),
            **super()._made_for(),
            "mode": [self.mode, self.soft_epochs],
            "options": self.progress.described(),
        }

    def _state(self):
        return {
            **super()._state(),
            "progress": self.progress.state(),
            "soft_share": self._soft_share,
            "watch": [self._watch.epoch, self._watch.trace],
        }

    def _set_state(self, state):
        super()._set_state(state)
        self.progress.replay(state["progress"], self.also)
        self._soft_share = state["soft_share"]
        self._watch.epoch, self._watch.trace = state["watch"]
