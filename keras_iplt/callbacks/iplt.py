"""Incremental pruning based on less training, inside a plain `model.fit`."""

import json
import math
import time
import warnings
from collections.abc import Mapping
from typing import Any

import keras

from keras_iplt import criteria, schedules
from keras_iplt import keras_private as private
from keras_iplt.callbacks.backup import Backup
from keras_iplt.callbacks.company import Company
from keras_iplt.callbacks.guard import Guard
from keras_iplt.callbacks.progress import Progress, WayBack
from keras_iplt.callbacks.waiting import Stopwatch
from keras_iplt.errors import BackupError, OptionError, WeightsError
from keras_iplt.surgery.shrink import rehearse

__all__ = ["IPLTCallback"]

_MODES = ("shrink", "mask", "soft")
_MOST_EVERY = 5  # the paper's k on CIFAR-10
_COUNTED = (schedules.Incremental, schedules.Ratios)
_SAID = {
    "hold": "the step waits",
    "back": "the last step is taken back, and no other follows",
    "stop": "training stops",
}


class IPLTCallback(keras.callbacks.Callback):
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
            when training ends.
        guard: a `Guard` that holds steps, takes one back or stops while a metric is down.
        data: what data-driven criteria look at: `(x, y)`, `x`, or batches of these.
        backup_dir: a directory for a backup at the end of each epoch. A training that was killed
            goes on from there: run the same script again.
        wait: whether steps may wait in mode `"shrink"`.
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
        guard=None, data=None, backup_dir=None, wait=True, also=(), verbose=1, **plan_options,
    ):  # fmt: skip
        super().__init__()
        if mode not in _MODES:
            raise OptionError(f"mode: expected one of {_MODES}, received: {mode!r}")
        if guard is not None and not isinstance(guard, Guard):
            raise OptionError(f"guard: expected a keras_iplt.Guard, received: {guard!r}")
        self.target, self.step, self.every = target, step, every
        self.schedule = schedules.get(target, step, 1 if every is None else every)
        self.mode, self.guard, self.data, self.wait = mode, guard, data, bool(wait)
        self.also, self.verbose = also, verbose
        self.options = {"criterion": criterion, "scope": scope, **plan_options}
        criteria.get(criterion)
        self.backup: Any = None if backup_dir is None else Backup(backup_dir)
        self.progress: Any = None  # a Progress, of the model that is being trained

    # -- a training begins --

    def on_train_begin(self, logs=None):
        self._company = Company(self)
        self._inside_epoch = self._ready = False
        self._told = None
        if self.backup is not None:
            self.backup.prepare()
        if self.progress is None or self.progress.model is not self.model:
            self._begin()
        else:
            self.progress.look_again()

    def _begin(self):
        """The first fit of this model."""
        private.synchronize(self.model)
        self._fit_schedule()
        self.progress = Progress(self.model, self.schedule.target, self.options, self.data)
        self._position = 0  # epochs trained
        self._batches = 0  # batches trained
        self._held = 0  # epochs for which steps have waited for the guard
        self._decided = 0.0  # the share that was last asked for
        self._last_step = None  # the epoch of the last step, and how long after the one before
        self._ended = False  # no other step follows
        self._way_back: Any = None
        self._loss = 0.0
        self._drifting = []  # masked variables that training moves away from zero
        self._soft_share = 0.0  # the share that was zeroed, to go on learning
        self._watch = Stopwatch()
        if self.schedule.target:
            # Whatever cannot work is found out now, not after hours.
            plan = self.progress.plan(self.schedule.target, criterion="l2")
            rehearse(self.model, plan, self.also)
        if self.backup is not None:
            self._resume()
        self._warn_about_reach()

    def _fit_schedule(self):
        """The paper's k, fitted to the number of epochs."""
        if self.every is None and isinstance(self.schedule, _COUNTED):
            steps = schedules.get(self.target, self.step, 1).last_epoch
            half = self.params["epochs"] // 2
            every = max(1, min(_MOST_EVERY, half // max(1, steps)))
            if not isinstance(self.target, (schedules.Schedule, Mapping)):
                self.schedule = schedules.get(self.target, self.step, every)
            if steps > half:
                warnings.warn(
                    f"{steps} steps do not fit into the first half of {self.params['epochs']} "
                    "epochs: too little of the training is left for the small model. Train for "
                    f"{2 * steps} epochs, or take larger steps",
                    stacklevel=4,
                )

    def _warn_about_reach(self):
        epochs = self.params["epochs"]
        last = self.schedule.last_epoch
        if last is not None and self._position == 0 and last > epochs - 1:
            warnings.warn(
                f"target: {self.schedule.target:.0%} is reached at epoch {last}, but training ends "
                f"after {epochs} epochs, at {self.schedule(epochs - 1):.0%}. Train for more than "
                f"{last} epochs, or make more or larger steps",
                stacklevel=4,
            )

    # -- an epoch --

    def on_epoch_begin(self, epoch, logs=None):
        if not self._ready:  # epochs are numbered anew by a second fit; the schedule goes on
            self._offset = max(0, self._position - epoch)
            self._ready = True
        self._position = epoch + self._offset
        self._tell()
        if not self._ended:
            self._step_if_due()
        self._inside_epoch, self._softened = True, False
        self._checked = self.progress.masked is None
        self._first_batch, self._last_batch = True, 0
        self._watch.start()

    def on_train_batch_begin(self, batch, logs=None):
        self._watch.batch()
        if self.progress.masked is not None and not self._first_batch:
            if not self._checked:
                private.synchronize(self.model)
                self._drifting, self._checked = self.progress.drifting(), True
            self._hold()
        self._first_batch, self._last_batch = False, batch

    def on_test_begin(self, logs=None):
        if self._inside_epoch:
            self._soften()
            self._hold()

    def on_test_batch_begin(self, batch, logs=None):
        if self._inside_epoch:
            self._watch.batch("test")

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        self._watch.stop()
        self._inside_epoch = False
        self._soften()
        if self.progress.masked is not None:
            self._drifting = self.progress.drifting()
            self._hold()
        self._position += 1
        self._batches += self.params["steps"] or self._last_batch + self.model.steps_per_execution
        self._loss = float(logs.get("loss", 0.0))
        logs.update(self._figures())
        if self.guard is not None:
            self.guard.update(logs)
        if self.backup is not None:
            self.backup.save(self.model, self._state(epoch))

    def on_train_end(self, logs=None):
        self._tell()
        self.finish()
        if self.backup is not None:
            self.backup.delete()
            private.set_initial_epoch(self.model, None)

    def finish(self):
        """Carries out what waits. `fit` does so when it ends; after one that was interrupted,
        call it before the model is saved."""
        progress = self.progress
        if progress is None:
            return
        private.synchronize(self.model)
        if self.mode == "soft" and progress.masked is None and self._decided > progress.ratio:
            progress.mask(progress.plan(self._decided))  # training ended before its last epoch
        if progress.masked is not None:
            smaller = progress.weights_left()
            progress.carry_out(also=self.also)
            if self.mode == "soft":
                self._company.forget()  # the best epoch had other filters at zero
            else:
                self._company.follow(smaller)
            self._say(f"smaller for good: {self._summary()}")

    # -- a step --

    def _step_if_due(self):
        due = self.schedule(self._position - self._held, self._batches)
        if self.mode == "soft":
            self._decided = due
        elif due > self._decided + 1e-9:
            if self._may_step():
                self._make_step(due)
            else:
                self._held += 1
        elif self._last_step and self._position == sum(self._last_step):
            self._may_step()  # the guard looks once more, as long after the last step as before

    def _may_step(self):
        if not math.isfinite(self._loss):
            warnings.warn(
                f"the loss is {self._loss}: no filter is removed until it is a number again",
                stacklevel=5,
            )
            return False
        if self.guard is None or not self.guard.fallen:
            return True
        self._say(f"{self.guard}: {_SAID[self.guard.action]}")
        if self.guard.action == "stop":
            self._ended = self.model.stop_training = True
        elif self.guard.action == "back" and self._way_back is not None:
            self._take_back()
        return False

    def _make_step(self, due):
        progress = self.progress
        at_once = False
        if progress.masked is not None and progress.criterion.sees_zeros:
            progress.carry_out(also=self.also)
            at_once = True  # the functions are to be traced again anyway
        try:
            plan = progress.plan(due)
        except WeightsError as error:
            warnings.warn(f"no filter is removed: {error}", stacklevel=5)
            self._held += 1
            return
        if self.guard is not None and self.guard.action == "back":
            self._way_back = WayBack(progress, self._decided)
        if self._carries_out(plan, due) or at_once:
            seconds = time.perf_counter()
            undo = progress.carry_out(plan, self.also)
            if self._way_back is not None:
                self._way_back.undos.append(undo)
            self._watch.made_anew()
            self._drifting = []
            self._say(f"smaller in {time.perf_counter() - seconds:.2f} s")
        else:
            progress.mask(plan)
        self._company.forget()
        before = self._last_step[0] if self._last_step else 0
        self._last_step = self._position, max(1, self._position - before)
        self._decided = due

    def _carries_out(self, plan, due):
        """Whether a step is carried out, or waits as zeros."""
        target = self.schedule.target
        if self.mode == "mask":
            return target is None or due >= target - 1e-9
        optimizer = getattr(self.model, "optimizer", None)
        if not self.wait or (optimizer is not None and private.depends_on_shapes(optimizer)):
            return True
        epochs = self._until_next(due)
        cost, saving = (
            self._watch.cost(),
            self._watch.saving(self.progress.share_left(plan), epochs),
        )
        if cost is None or saving is None or saving > cost:
            return True
        self._say(
            f"waits as zeros: tracing takes {cost:.1f} s and would save {saving:.1f} s in the next "
            f"{epochs} epochs"
        )
        return False

    def _until_next(self, due):
        """For how many epochs the model keeps the size that it would get now."""
        if isinstance(self.schedule, schedules.FromTfmot):
            return 1  # when it asks for more is not known in epochs
        end = self.params["epochs"] + self._offset
        later = range(self._position + 1, end)
        changes = (e for e in later if self.schedule(e - self._held) > due + 1e-9)
        return next(changes, end) - self._position

    def _take_back(self):
        self._way_back.go(self.progress)
        self._decided, self._way_back, self._ended = self._way_back.ratio, None, True
        self._watch.made_anew()
        self._company.forget()

    def _hold(self):
        if self._drifting:
            private.synchronize(self.model)
            self.progress.hold(self._drifting)

    # -- soft --

    def _soften(self):
        """At the end of an epoch, before it is measured, the least important filters are zeroed;
        in the last epoch all that goes with them, so that what is measured is what is left."""
        if self.mode != "soft" or self._softened:
            return
        self._softened = True
        end = self.params["epochs"] + self._offset
        ratio = self.schedule(self._position + 1 - self._held, self._batches)
        if not ratio or not math.isfinite(self._loss):
            return
        private.synchronize(self.model)
        plan = self.progress.plan(ratio, masked=False)
        if self._position + 1 >= end:
            self.progress.mask(plan)
        else:
            self.progress.soften(plan)
        self._decided, self._soft_ratio = ratio, self.progress.share(plan)

    # -- telling --

    def _figures(self):
        ratio = max(self.progress.ratio, self._soft_share)
        figures = {"ratio": ratio, "params": self.progress.params}
        if self.progress.flops is not None:
            figures["flops"] = self.progress.flops
        return {name: float(value) for name, value in figures.items()}

    def _summary(self):
        progress = self.progress
        of = {"filters": "filters", "params": "parameters", "flops": "FLOPs"}[progress.of]
        text = f"{progress.ratio:.1%} of the {of} gone, {progress.params:,} parameters"
        return (
            text if progress.flops is None else f"{text}, {progress.flops / 1e6:,.2f} MFLOPs left"
        )

    def _say(self, text):
        if self.verbose and self.params.get("verbose", 1):
            print(f"IPLT: {text}")

    def _tell(self):
        """A line under the progress bar of the epoch before, if there is anything new."""
        summary = self._summary()
        if self._told not in (None, summary):
            self._say(summary)
        self._told = summary

    # -- backup --

    def _state(self, epoch):
        return {
            "epoch": epoch,
            "made": self._made_for(),
            "progress": self.progress.state(),
            "position": self._position,
            "batches": self._batches,
            "held": self._held,
            "decided": self._decided,
            "last_step": self._last_step,
            "ended": self._ended,
            "loss": self._loss,
            "guard": None if self.guard is None else [self.guard.best, self.guard.last],
            "watch": [self._watch.epoch, self._watch.trace],
        }

    def _made_for(self):
        """What a backup must have been made for to be of use here."""
        return {
            "model": list(self.progress.architecture),
            "schedule": repr(self.schedule),
            "mode": self.mode,
            "options": repr({name: value for name, value in self.progress.options.items()}),
        }

    def _resume(self):
        state = self.backup.load()
        if state is None:
            return
        here = json.loads(json.dumps(self._made_for()))
        for what, made in here.items():
            if state["made"][what] != made:
                raise BackupError(
                    f"{self.backup.path} is a backup of another training: expected {what} {made}, "
                    f"received: {state['made'][what]}. Use another backup_dir, or remove it"
                )
        self.progress.replay(state["progress"], self.also)
        self.backup.restore(self.model)
        self._position, self._batches = state["position"], state["batches"]
        self._held, self._decided = state["held"], state["decided"]
        self._last_step, self._ended = state["last_step"], state["ended"]
        self._loss = state["loss"]
        self._watch.epoch, self._watch.trace = state["watch"]
        if self.guard is not None and state["guard"] is not None:
            self.guard.best, self.guard.last = state["guard"]
        private.set_initial_epoch(self.model, state["epoch"] + 1)
        self._say(f"goes on after epoch {state['epoch'] + 1}: {self._summary()}")
