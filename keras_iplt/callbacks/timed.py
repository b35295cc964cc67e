"""What pruning costs a training in seconds, and what it saves.

Whenever the model has become smaller, the first batch takes longer, since the training function is
compiled anew; the batches after it are quicker than those of the whole model were. Validation has
a function of its own, and goes the same way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Iterator

from keras_iplt.callbacks.scheduled import Logs, ScheduledCallback
from keras_iplt.support.progress import silent

__all__ = ["Account", "Clock", "TimedCallback"]


@dataclasses.dataclass(frozen=True)
class Lap:
    """One epoch's batches of training, or of validation.

    Attributes:
        changes: how often the model had become smaller.
        anew: whether its first batch is the first since then.
        first, others: seconds of the first batch, and of all others.
        count: how many others there are.
    """

    changes: int
    anew: bool
    first: float
    others: float
    count: int

    @property
    def is_clean(self) -> bool:
        """Whether there is a batch for which nothing is compiled."""
        return self.count > 0 or not self.anew

    @property
    def batch(self) -> float:
        """Seconds of such a batch."""
        return self.others / self.count if self.count else self.first


@dataclasses.dataclass(frozen=True)
class Account:
    """Seconds: what pruning took, what compiling took, what quicker batches saved.

    The last is None where there was nothing to measure it by."""

    pruning: float
    compiling: float
    saved: float | None


class Clock:
    """Looks on while a model is trained.

    Attributes:
        changes: how often the model has become smaller.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._pruning = 0.0
        self._laps: dict[str, list[Lap]] = {"train": [], "test": []}
        self._running: str | None = None
        self._began, self._first, self._count = 0.0, 0.0, 0

    @contextlib.contextmanager
    def pruning(self) -> Iterator[None]:
        """Around what counts as pruning."""
        began = time.perf_counter()
        yield
        self._pruning += time.perf_counter() - began

    def begin(self, what: str) -> None:
        """Batches are about to be gone through, to `"train"` or to `"test"`."""
        self._running, self._count, self._began = what, 0, time.perf_counter()

    def batch(self) -> None:
        """One of them is done."""
        if not self._count:
            self._first = time.perf_counter() - self._began
        self._count += 1

    def end(self) -> None:
        """All of them are."""
        if self._running is None or not self._count:
            return
        laps, whole = self._laps[self._running], time.perf_counter() - self._began
        anew = not laps or laps[-1].changes != self.changes
        laps.append(Lap(self.changes, anew, self._first, whole - self._first, self._count - 1))
        self._running = None

    def account(self) -> Account:
        """What all of it comes to, beside the same training without pruning."""
        compiling, saved, known = 0.0, 0.0, True
        for laps in self._laps.values():
            at_first = [lap for lap in laps if not lap.changes]
            clean = [lap.batch for lap in at_first if lap.is_clean]
            for lap in laps[len(at_first) :]:
                like = [one.batch for one in laps if one.changes == lap.changes and one.is_clean]
                batch = lap.batch if lap.is_clean else min(like or clean, default=lap.first)
                extra = max(0.0, lap.first - batch) if lap.anew else 0.0
                compiling += extra
                known = known and bool(clean)
                if clean:
                    usual = statistics.median(clean) * (lap.count + 1)
                    saved += usual - (lap.first + lap.others - extra)
        return Account(self._pruning, compiling, saved if known else None)


class TimedCallback(ScheduledCallback):
    """Base of callbacks that make a model smaller, and say in the end what that cost and saved."""

    _clock = Clock()  # of the fit
    _seen = None  # the graph that the model had at the last look

    def on_train_begin(self, logs: Logs = None) -> None:
        self._clock = Clock()
        with self._working():
            super().on_train_begin(logs)
        self._seen = self.progress.graph

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        with self._working():
            super().on_epoch_begin(epoch, logs)
        if self.progress.graph is not self._seen:
            self._seen = self.progress.graph
            self._clock.changes += 1
        self._clock.begin("train")

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._clock.batch()

    def on_test_begin(self, logs: Logs = None) -> None:
        if self._inside_epoch:
            self._clock.end()
            self._clock.begin("test")

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._clock.batch()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._clock.end()
        super().on_epoch_end(epoch, logs)

    def on_train_end(self, logs: Logs = None) -> None:
        super().on_train_end(logs)
        if self._clock.changes:
            self._say(self._in_seconds(self._clock.account()))

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        """Around whatever training without pruning would not have."""
        with self._clock.pruning(), silent(when=not self._speaks):
            yield

    def _in_seconds(self, account: Account) -> str:
        text = f"pruning took {account.pruning:.1f} s, compiling what was left another"
        text += f" {account.compiling:.1f} s"
        if account.saved is None:
            return text
        if account.saved <= 0:
            return f"{text}; the smaller model was no quicker"
        return f"{text}; the smaller model saved about {account.saved:.1f} s"
