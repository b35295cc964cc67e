"""What all callbacks share that prune by a schedule.

When a step is due, who may hold it, what the logs say, and how a training goes on after it was
killed.

A subclass says what a step is: it overrides the methods under "what a step is".
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import keras

from keras_iplt import _keras as private
from keras_iplt import schedules
from keras_iplt.callbacks.backup import Backup, restorable
from keras_iplt.callbacks.options import RunOptions
from keras_iplt.callbacks.other_callbacks import Company
from keras_iplt.errors import BackupError, WeightsError
from keras_iplt.support.records import Count, Number, Part
from keras_iplt.support.text import printable, warn

__all__ = ["Course", "Logs", "ScheduledCallback", "State"]

Logs: TypeAlias = "dict[str, Any] | None"  # of an epoch

_ACTIONS = {
    "hold": "the step waits",
    "back": "the last step is taken back, and no other follows",
    "stop": "training stops",
}


@dataclasses.dataclass
class Course:
    """Where the training of a model stands, over all its fits.

    Attributes:
        epochs, batches: how many have been trained.
        held: for how many epochs steps have waited; the schedule's clock stands still then.
        share: the share that the last step was asked for.
        last_step, gap: the epoch of the last step, and how long after the one before it was.
        ended: no other step follows.
        loss: that of the last epoch.
    """

    epochs: Count = 0
    batches: Count = 0
    held: Count = 0
    share: Part = 0.0
    last_step: Count = 0
    gap: Count = 0
    ended: bool = False
    loss: float = 0.0

    def step_made(self, share: float) -> None:
        """A step was made at the start of this epoch."""
        self.gap = max(1, self.epochs - self.last_step)
        self.last_step, self.share = self.epochs, share


@dataclasses.dataclass(frozen=True)
class State:
    """What a backup holds beside the values of variables, of what JSON takes.

    Attributes:
        epoch: the last one that was trained, as `fit` counts.
        made: what the backup is of use for, by name.
        course: where the training stands.
        guard: the best and the last value of what the guard watches; None without one.
    """

    epoch: Count
    made: dict[str, Any]
    course: Course
    guard: tuple[Number | None, float | None] | None

    def __post_init__(self) -> None:
        course = self.course
        least = max(self.epoch + 1, course.last_step, course.gap)
        if course.epochs < least:
            raise ValueError(f"course.epochs: expected {least} or more, received: {course.epochs}")
        if course.held > course.epochs + course.batches:  # it counts either
            raise ValueError(f"course.held: expected less, received: {course.held}")


class ScheduledCallback(keras.callbacks.Callback):
    """Base of callbacks that prune by a schedule.

    Args:
        target, step, every: see `keras_iplt.IPLTCallback`.
        run: `RunOptions`.
    """

    state_class: type[State] = State  # of its backups

    def __init__(self, target: Any, step: float, every: int | None, run: RunOptions) -> None:
        super().__init__()
        self.target, self.step, self.every = target, step, every
        self.schedule = schedules.get(target, step, 1 if every is None else every)
        self.guard, self.verbose = run.guard, run.verbose
        self.backup = None if run.backup_dir is None else Backup(run.backup_dir)
        self.progress: Any = None  # of the model that is being trained
        self._course = Course()
        self._company: Any = None  # the other callbacks of the fit
        self._way_back: Any = None  # (what takes the last step back, the share before it)
        self._offset: int | None = None  # epochs of earlier fits
        self._told: str | None = None  # the last line about where things stand
        self._inside_epoch = False
        self._last_batch = 0

    # -- what a step is --

    def _begin(self) -> Any:
        """A model is trained for the first time.
        Returns what knows how far its pruning has come; raises whatever cannot work."""
        raise NotImplementedError

    def _make_step(self, due: float) -> Callable[[], None] | None:
        """Makes the step after which the share `due` is gone.
        Returns a function that takes the step back, if the guard goes back, else None."""
        raise NotImplementedError

    def _figures(self) -> dict[str, float]:
        """What the logs hold at every epoch."""
        raise NotImplementedError

    def _summary(self) -> str:
        """The same as a line of text."""
        raise NotImplementedError

    def _made_for(self) -> dict[str, Any]:
        """What a backup must have been made for to be of use here, by name."""
        optimizers = private.inner_optimizers(self.model.optimizer)
        return {
            "schedule": repr(self.schedule),
            "optimizer": [type(optimizer).__name__ for optimizer in optimizers],
        }

    def _state(self, epoch: int) -> State:
        """What a backup holds at the end of an epoch, beside the values of variables."""
        guard = None if self.guard is None else (self.guard.best, self.guard.last)
        return State(epoch, self._made_for(), self._course, guard)

    def _set_state(self, state: Any, undo: contextlib.ExitStack) -> None:
        """Goes on from there; `undo` gets what takes back whatever the model loses."""
        self._course = state.course
        if self.guard is not None and state.guard is not None:
            self.guard.best, self.guard.last = state.guard

    def _changed(self) -> list[Any]:
        """Objects that the beginning of a training changes, beside the model."""
        return [self, *([] if self.guard is None else [self.guard])]

    # -- a training begins --

    def set_model(self, model: keras.Model) -> None:
        """Called by `fit`, `evaluate` and `predict`: whatever was going on before is over."""
        super().set_model(model)
        self._inside_epoch = False

    def on_train_begin(self, logs: Logs = None) -> None:
        self._company = Company(self, ScheduledCallback)
        self._offset = self._told = None
        private.synchronize(self.model)
        if self.backup is not None:
            self.backup.prepare(self.model)
        if self.progress is None or self.progress.model is not self.model:
            with self._as_before_on_errors():
                self._course = Course()
                self._way_back = None
                self.progress = self._begin()
                self._fit_schedule()
                if self.backup is not None:
                    self._resume(self.backup)
                self._warn_about_reach()
        else:
            self.progress.look_again()
        self._company.hide([*self._figures()])

    @contextlib.contextmanager
    def _as_before_on_errors(self) -> Iterator[None]:
        """So that what was refused once is refused again, and not trained on half of it."""
        before = [(one, dict(vars(one))) for one in self._changed()]
        try:
            yield
        except BaseException:
            for one, attributes in before:
                vars(one).clear()
                vars(one).update(attributes)
            if self.backup is not None:
                self.backup.release()
            raise

    def _fit_schedule(self) -> None:
        """The paper's k, fitted to the number of epochs."""
        if isinstance(self.target, (schedules.Schedule, Mapping)):
            return
        self.schedule = schedules.get(self.target, self.step, self.every or 1)
        steps = self.schedule.last_epoch
        if self.every is not None or steps is None:
            return  # of tfmot, which counts in batches
        epochs = self.params["epochs"]
        every = schedules.spacing(steps, epochs)
        self.schedule = schedules.get(self.target, self.step, every)
        if steps > epochs // 2:
            warn(
                f"{steps} steps do not fit into the first half of {epochs} epochs: too little of "
                f"the training is left for the small model. Train for {2 * steps} epochs, or take "
                "larger steps",
                stacklevel=5,
            )

    def _warn_about_reach(self) -> None:
        epochs, last = self.params["epochs"], self.schedule.last_epoch
        if last is not None and last >= epochs > self._course.epochs:
            warn(
                f"target: {self.schedule.target:.0%} is reached at epoch {last}, but training ends "
                f"after {epochs} epochs, at {self.schedule(epochs - 1):.0%}. Train for more than "
                f"{last} epochs, or make more or larger steps",
                stacklevel=5,
            )

    # -- an epoch --

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        course = self._course
        if self._offset is None:  # a second fit counts its epochs anew; the schedule goes on
            self._offset = max(0, course.epochs - epoch)
        course.epochs = epoch + self._offset
        self._tell()
        if not course.ended:
            self._step_if_due()
        self._inside_epoch = True
        self._last_batch = 0

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._last_batch = batch

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        logs = {} if logs is None else logs
        self._inside_epoch = False
        course = self._course
        course.epochs += 1
        course.batches += self.params["steps"] or self._last_batch + self.model.steps_per_execution
        course.loss = float(logs.get("loss", 0.0))
        logs.update({name: float(value) for name, value in self._figures().items()})
        if self.guard is not None:
            self.guard.update(logs)
            if self.guard.action == "stop" and not course.ended and self._guard_looks():
                self._may_step()  # now: once an epoch has begun, its first batch is trained
        if self.backup is not None:
            self.backup.save(self.model, self._state(epoch))

    def on_train_end(self, logs: Logs = None) -> None:
        self._tell()
        self.finish()
        if self.backup is not None:
            self.backup.delete()
            private.set_initial_epoch(self.model, None)

    def finish(self) -> None:
        """Whatever is left to do when training ends."""

    @property
    def _end(self) -> int:
        """The epoch at which this fit ends."""
        return self.params["epochs"] + self._offset

    # -- a step --

    def _due(self, epoch: int) -> float:
        """The share that has to be gone at the start of an epoch."""
        return self.schedule(epoch - self._course.held, self._course.batches)

    def _is_due(self) -> bool:
        return self._due(self._course.epochs) > self._course.share + 1e-9

    def _guard_looks(self) -> bool:
        """At every step, and once more as long after the last one as it came after that before."""
        course = self._course
        again = course.gap > 0 and course.epochs == course.last_step + course.gap
        return again or self._is_due()

    def _step_if_due(self) -> None:
        course = self._course
        if self._is_due():
            if not self._may_step() or not self._step_made(self._due(course.epochs)):
                course.held += 1
        elif self._guard_looks():
            self._may_step()

    def _step_made(self, due: float) -> bool:
        before = self._course.share
        try:
            undo = self._make_step(due)
        except WeightsError as error:
            warn(f"nothing is removed: {error}", stacklevel=6)
            return False
        self._way_back = None if undo is None else (undo, before)
        self._company.forget()
        self._course.step_made(due)
        return True

    def _may_step(self) -> bool:
        if not math.isfinite(self._course.loss):
            warn(
                f"the loss is {self._course.loss}: nothing is removed until it is a number again",
                stacklevel=6,
            )
            return False
        if self.guard is None or not self.guard.fallen:
            return True
        action = self.guard.action
        if action == "back" and self._way_back is None:
            action = "hold"
        self._say(f"{self.guard}: {_ACTIONS[action]}")
        if action == "stop":
            self._course.ended = self.model.stop_training = True
        elif action == "back":
            undo, self._course.share = self._way_back
            undo()
            self._way_back, self._course.ended = None, True
            self._company.forget()
        return False

    # -- telling --

    @property
    def _speaks(self) -> bool:
        return bool(self.verbose and self.params.get("verbose", 1))

    def _say(self, text: str) -> None:
        if self._speaks:
            print(f"{type(self).__name__}: {printable(text)}", flush=True)

    def _tell(self) -> None:
        """A line under the progress bar of the epoch before, if there is anything new."""
        summary = self._summary()
        if self._told not in (None, summary):
            self._say(summary)
        self._told = summary

    # -- after a training was killed --

    def _resume(self, backup: Backup) -> None:
        state = backup.load(self.state_class)
        if state is None:
            return
        backup.check_made_for(state.made, self._made_for())
        if state.epoch >= self.params["epochs"]:
            raise BackupError(
                f"{backup.path} is a backup of another training: expected at most "
                f"{self.params['epochs']} epochs, received: {state.epoch + 1}. Train for as many, "
                "or remove it"
            )
        with contextlib.ExitStack() as undo, backup.reading():
            undo.callback(restorable(self.model))
            self._set_state(state, undo)
            backup.restore(self.model)
            undo.pop_all()
        private.set_initial_epoch(self.model, state.epoch + 1)
        self._say(f"goes on after epoch {state.epoch + 1}: {self._summary()}")
