"""Schedules that count in epochs."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_iplt.errors import OptionError
from keras_iplt.schedules.base import Schedule
from keras_iplt.support.arguments import Count, Epoch, Power, Share, Step, checked, expect

__all__ = [
    "Exponential",
    "Incremental",
    "OneShot",
    "Polynomial",
    "Ratios",
    "fitted_every",
    "spacing",
]

_TOLERANCE = 1e-9  # of a step: 0.3 / 0.1 is a little less than 3


@keras.saving.register_keras_serializable("keras_iplt")
class Incremental(Schedule):
    """Another `step` after every `every` epochs, until `target` is gone: the IPLT paper.

    Args:
        target: the final share.
        step: how much goes at a time.
        every: the paper's k.

    Example:

    >>> schedule = Incremental(0.25, step=0.1, every=2)
    >>> [schedule(epoch) for epoch in range(8)]
    [0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.25, 0.25]
    """

    end: int

    @checked
    def __init__(self, target: Share, step: Step = 0.1, every: Count = 5) -> None:
        self.target = target
        self.step = step
        self.every = every
        self.end = _steps(self.target, self.step) * self.every

    def __call__(self, epoch: int, step: int | None = None) -> float:
        if epoch >= self.end:
            return self.target
        # Three steps of 0.1 are 0.3, not 0.30000000000000004.
        return min(self.target, round(self.step * (epoch // self.every), 12))


@keras.saving.register_keras_serializable("keras_iplt")
class Ratios(Schedule):
    """Shares one by one.

    Args:
        ratios: shares that do not decrease: a list, whose i-th (from 0) holds from epoch
            `(i + 1) * every` on, or a mapping `{epoch: share}`.
        every: for a list, how many epochs each share holds.

    Example:

    >>> [Ratios([0.2, 0.5], every=2)(epoch) for epoch in range(6)]
    [0.0, 0.0, 0.2, 0.2, 0.5, 0.5]
    >>> Ratios({0: 0.2, 3: 0.5}).last_epoch
    3
    """

    end: int

    @checked
    def __init__(self, ratios: Any, every: Count = 1) -> None:
        self.every = every
        self.ratios = _ratios(ratios)
        if isinstance(self.ratios, dict):
            if self.every != 1:
                raise OptionError(
                    f"every: expected none beside {{epoch: ratio}}, received: {every!r}"
                )
            self._epochs, self._shares = list(self.ratios), list(self.ratios.values())
        else:
            self._epochs = [(i + 1) * self.every for i in range(len(self.ratios))]
            self._shares = self.ratios
        self.target, self.end = self._shares[-1], self._epochs[-1]

    def __call__(self, epoch: int, step: int | None = None) -> float:
        place = bisect.bisect_right(self._epochs, epoch)
        return self._shares[place - 1] if place else 0.0

    @classmethod
    @checked
    def from_config(cls, config: dict[str, Any]) -> Ratios:
        ratios = config.get("ratios")
        if isinstance(ratios, dict):  # JSON has no numbers for keys
            config = {**config, "ratios": {int(epoch): ratio for epoch, ratio in ratios.items()}}
        return cls(**config)


@keras.saving.register_keras_serializable("keras_iplt")
class OneShot(Schedule):
    """Everything at once.

    Args:
        target: the share.
        epoch: when.

    Example:

    >>> [OneShot(0.5, epoch=2)(epoch) for epoch in range(4)]
    [0.0, 0.0, 0.5, 0.5]
    """

    @checked
    def __init__(self, target: Share, epoch: Epoch) -> None:
        self.target = target
        self.epoch = self.end = epoch

    def __call__(self, epoch: int, step: int | None = None) -> float:
        return self.target if epoch >= self.epoch else 0.0


@keras.saving.register_keras_serializable("keras_iplt")
class Polynomial(Schedule):
    """Fast at first, then slower: tfmot's `PolynomialDecay`, in epochs.

        target + (initial - target) * (1 - (epoch - begin) / (end - begin)) ** power

    Before `begin` nothing is gone. Unlike in tfmot, `target` holds from `end` on even where `end`
    is not a multiple of `every` after `begin`.

    Args:
        target: the final share.
        begin: the epoch at which `initial` goes.
        end: the epoch at which `target` is gone.
        initial: the share to begin with.
        power: the exponent; 1 is a straight line.
        every: how many epochs each share holds.

    Example:

    >>> [round(Polynomial(0.8, begin=1, end=5)(epoch), 2) for epoch in range(7)]
    [0.0, 0.0, 0.46, 0.7, 0.79, 0.8, 0.8]
    """

    end: int

    @checked
    def __init__(
        self,
        target: Share,
        begin: Epoch,
        end: Epoch,
        initial: Share = 0.0,
        power: Power = 3,
        every: Count = 1,
    ) -> None:
        self.target, self.initial = target, initial
        if self.initial > self.target:
            raise OptionError(
                f"initial: expected at most target={self.target}, received: {initial!r}"
            )
        self.begin, self.end = _span(begin, end)
        self.power, self.every = power, every

    def __call__(self, epoch: int, step: int | None = None) -> float:
        if epoch < self.begin:
            return 0.0
        left = (1 - _progress(self, epoch)) ** self.power
        return min(self.target, self.target + (self.initial - self.target) * left)


@keras.saving.register_keras_serializable("keras_iplt")
class Exponential(Schedule):
    """The same share of what is left, every time.

    What is left decays geometrically, from 1 at `begin` to `1 - target` at `end`.

        1 - (1 - target) ** ((epoch - begin) / (end - begin))

    Args:
        target: the final share.
        begin: the epoch up to which nothing is gone.
        end: the epoch at which `target` is gone.
        every: how many epochs each share holds.

    Example:

    >>> [round(Exponential(0.75, begin=0, end=4)(epoch), 3) for epoch in range(6)]
    [0.0, 0.293, 0.5, 0.646, 0.75, 0.75]
    """

    end: int

    @checked
    def __init__(self, target: Share, begin: Epoch, end: Epoch, every: Count = 1) -> None:
        self.target = target
        self.begin, self.end = _span(begin, end)
        self.every = every

    def __call__(self, epoch: int, step: int | None = None) -> float:
        if epoch >= self.end:
            return self.target
        return min(self.target, 1 - (1 - self.target) ** _progress(self, epoch))


@checked
def fitted_every(target: Share, step: Step, epochs: Count, most: Count = 5) -> int:
    """The paper's k for a training: the largest that puts the last step into its first half.

    Args:
        target: the final share.
        step: how much goes at a time.
        epochs: how many epochs are trained.
        most: the largest k.

    Returns:
        How many epochs to train between two steps, at least 1 (even where the last step then
        comes later).

    Example:

    >>> fitted_every(0.7, step=0.1, epochs=100), fitted_every(0.7, step=0.1, epochs=40)
    (5, 2)
    """
    return spacing(_steps(target, step), epochs, most)


@checked
def spacing(steps: Epoch, epochs: Count, most: Count = 5) -> int:
    """The same for a number of steps."""
    return max(1, min(most, epochs // 2 // max(1, steps)))


# -- arithmetic --


def _steps(target: float, step: float) -> int:
    """How many steps reach the target."""
    return math.ceil(target / step - _TOLERANCE)


def _progress(schedule: Polynomial | Exponential, epoch: int) -> float:
    """How far between begin and end, in [0, 1], as of the last update."""
    if epoch >= schedule.end:
        return 1.0
    since = max(0, epoch - schedule.begin) // schedule.every * schedule.every
    return since / (schedule.end - schedule.begin)


# -- checks --


def _span(begin: int, end: int) -> tuple[int, int]:
    """`begin` and `end` if they are in that order."""
    if end <= begin:
        raise OptionError(f"end: expected an epoch after begin={begin}, received: {end}")
    return begin, end


def _ratios(ratios: Any) -> Any:
    """A list of shares, or a dict of shares by epoch in order, that do not decrease."""
    found: Any = None
    shares: list[float] = []
    if isinstance(ratios, Mapping):
        for epoch in ratios:
            expect("ratios", Epoch, epoch)
        found = {int(e): expect(f"ratios at epoch {e}", Share, ratios[e]) for e in sorted(ratios)}
        shares = list(found.values())
    elif isinstance(ratios, (list, tuple, np.ndarray)):
        found = shares = [expect(f"ratios[{i}]", Share, ratio) for i, ratio in enumerate(ratios)]
    if not shares or any(a > b for a, b in itertools.pairwise(shares)):
        raise OptionError(
            "ratios: expected a list of shares, or a mapping {epoch: share}, that is not empty and "
            f"does not decrease, received: {ratios!r}"
        )
    return found
