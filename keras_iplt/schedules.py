"""How much is gone, when: a schedule is a function of the epoch that never decreases.

    epoch             0    1    2    3    4    5    6    7
    Incremental       0    0   .1   .1   .2   .2   .3   .3     target .3, another .1 every 2 epochs
    Ratios            0   .2   .2   .5   .5   .5   .5   .5     {1: .2, 3: .5}
    OneShot           0    0    0   .3   .3   .3   .3   .3     target .3 at epoch 3
    Polynomial        0    0  .21  .29  .30  .30  .30  .30     target .3 from epoch 1 to 4 (rounded)
    Exponential       0    0  .11  .21  .30  .30  .30  .30     the same, geometrically

Shares are of the *original* model, and hold at the start of an epoch: what is said of epoch 5 is
gone after five whole epochs of training. `FromTfmot` runs a schedule of
tensorflow-model-optimization, and `get` tells which schedule a number, a list or a mapping means.
"""

import bisect
import collections.abc
import inspect
import itertools
import math
import numbers
import sys
from typing import Any

import keras
import numpy as np

from keras_iplt.errors import OptionError

__all__ = [
    "Exponential",
    "FromTfmot",
    "Incremental",
    "OneShot",
    "Polynomial",
    "Ratios",
    "Schedule",
    "fitted_every",
    "get",
    "is_in_steps",
    "spacing",
]

_TOLERANCE = 1e-9  # of a step: 0.3 / 0.1 is a little less than 3


class Schedule:
    """Base of all schedules: override `__call__`, set `target`, and `end` if there is one.

    Attributes:
        target: the final share; None where it is unknown.
        end: an epoch from which `target` holds for certain, or None.

    Example:

    >>> class Linear(Schedule):
    ...     def __init__(self, target, end):
    ...         self.target, self.end = target, end
    ...     def __call__(self, epoch, step=None):
    ...         return self.target * min(1.0, epoch / self.end)
    >>> schedule = Linear(0.5, end=10)
    >>> schedule, schedule(5), schedule.last_epoch
    (Linear(target=0.5, end=10), 0.25, 10)
    """

    target: Any
    end: int | None = None

    def __call__(self, epoch, step=None):
        """The share of the original model that is gone at the start of an epoch.

        Args:
            epoch: the epoch, from 0.
            step: the number of batches trained so far; only schedules in steps look at it.

        Returns:
            A float in [0, 1), never less than for an earlier epoch.
        """
        raise NotImplementedError(f"{type(self).__name__} must override __call__(epoch, step)")

    @property
    def last_epoch(self):
        """The first epoch from which `target` holds, or None if that is unknown."""
        if self.end is None:
            return None
        return bisect.bisect_left(range(self.end), self.target, key=self)

    def get_config(self):
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @classmethod
    def from_config(cls, config):
        """The schedule with these arguments."""
        return cls(**config)

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash(repr(self))

    def __repr__(self):
        settings = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({settings})"


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

    def __init__(self, target, step=0.1, every=5):
        self.target = _share("target", target)
        self.step = _step(step)
        self.every = _count("every", every)
        self.end = _steps(self.target, self.step) * self.every

    def __call__(self, epoch, step=None):
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

    def __init__(self, ratios, every=1):
        self.every = _count("every", every)
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

    def __call__(self, epoch, step=None):
        place = bisect.bisect_right(self._epochs, epoch)
        return self._shares[place - 1] if place else 0.0

    @classmethod
    def from_config(cls, config):
        ratios = config["ratios"]
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

    def __init__(self, target, epoch):
        self.target = _share("target", target)
        self.epoch = self.end = _epoch("epoch", epoch)

    def __call__(self, epoch, step=None):
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

    def __init__(self, target, begin, end, initial=0.0, power=3, every=1):
        self.target, self.initial = _share("target", target), _share("initial", initial)
        if self.initial > self.target:
            raise OptionError(
                f"initial: expected at most target={self.target}, received: {initial!r}"
            )
        if not _is_real(power) or not 0 < power < math.inf:
            raise OptionError(f"power: expected a positive number, received: {power!r}")
        self.begin, self.end = _span(begin, end)
        self.power, self.every = power, _count("every", every)

    def __call__(self, epoch, step=None):
        if epoch < self.begin:
            return 0.0
        left = (1 - _progress(self, epoch)) ** self.power
        return min(self.target, self.target + (self.initial - self.target) * left)


@keras.saving.register_keras_serializable("keras_iplt")
class Exponential(Schedule):
    """The same share of what is left, every time: what is left decays geometrically, from 1 at
    `begin` to `1 - target` at `end`.

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

    def __init__(self, target, begin, end, every=1):
        self.target = _share("target", target)
        self.begin, self.end = _span(begin, end)
        self.every = _count("every", every)

    def __call__(self, epoch, step=None):
        if epoch >= self.end:
            return self.target
        return min(self.target, 1 - (1 - self.target) ** _progress(self, epoch))


@keras.saving.register_keras_serializable("keras_iplt")
class FromTfmot(Schedule):
    """A schedule of tensorflow-model-optimization. It counts in steps, so it must be told `step`.

    The share is that of the latest step, from 1 (tfmot's first) to `step`, at which the schedule
    says that it prunes; 0 before the first. Should the schedule go down, the largest share stays.

    Args:
        schedule: a tfmot `PruningSchedule`.
    """

    def __init__(self, schedule):
        if not is_in_steps(schedule):
            raise OptionError(f"schedule: expected a tfmot PruningSchedule, received: {schedule!r}")
        self.schedule = schedule
        self._seen, self._share = 0, 0.0  # the last step looked at, and the share at that
        last = getattr(schedule, "end_step", -1)  # -1: for ever
        constant = getattr(schedule, "target_sparsity", None)
        self.target = constant if last < 0 else _latest(schedule, int(last), 0)

    def __call__(self, epoch, step=None):
        if not isinstance(step, numbers.Integral):
            raise OptionError(
                f"step: expected the number of batches trained so far, which a tfmot schedule "
                f"counts in, received: {step!r}"
            )
        if step < self._seen:  # another training
            self._seen, self._share = 0, 0.0
        self._share = max(self._share, _latest(self.schedule, int(step), self._seen))
        self._seen = int(step)
        return self._share

    def get_config(self):
        """What makes the tfmot schedule again: its module, class name and config."""
        kind = type(self.schedule)
        return {"schedule": {"module": kind.__module__, **self.schedule.get_config()}}

    @classmethod
    def from_config(cls, config):
        described = config["schedule"]
        module, name = described["module"], described["class_name"]
        kind: Any = keras.saving.get_registered_object(name)
        kind = kind or getattr(sys.modules.get(module), name, None)
        if not _is_kind_in_steps(kind):
            raise OptionError(
                f"schedule: expected a tfmot PruningSchedule that has been imported, received: "
                f"{name!r} of {module!r}. Import keras_iplt.tfmot_bridge, and what defines the "
                "class, first"
            )
        return cls(kind.from_config(described["config"]))

    def __repr__(self):
        return f"{type(self).__name__}({self.schedule.get_config()})"


def get(schedule, step=0.1, every=5):
    """The schedule that something stands for.

    Args:
        schedule: a target (then `Incremental`), a list of shares or a mapping `{epoch: share}`
            (`Ratios`), a tfmot `PruningSchedule` (`FromTfmot`), or a `Schedule` as it is.
        step: for a target, how much goes at a time.
        every: for a target or a list, how many epochs each share holds.

    Returns:
        A `Schedule`.

    Example:

    >>> get(0.7)
    Incremental(target=0.7, step=0.1, every=5)
    >>> get([0.2, 0.5], every=3)
    Ratios(ratios=[0.2, 0.5], every=3)
    >>> get({2: 0.2, 8: 0.5})
    Ratios(ratios={2: 0.2, 8: 0.5}, every=1)
    """
    if isinstance(schedule, Schedule):
        return schedule
    if _is_real(schedule):
        return Incremental(schedule, step, every)
    if isinstance(schedule, collections.abc.Mapping):
        return Ratios(schedule)
    if isinstance(schedule, (list, tuple, np.ndarray)):
        return Ratios(schedule, every)
    if is_in_steps(schedule):
        return FromTfmot(schedule)
    raise OptionError(
        "target: expected a share in [0, 1), a list of shares, a mapping {epoch: share}, a "
        f"keras_iplt.schedules object or a tfmot PruningSchedule, received: {schedule!r}"
    )


def fitted_every(target, step, epochs, most=5):
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
    return spacing(_steps(_share("target", target), _step(step)), epochs, most)


def spacing(steps, epochs, most=5):
    """The same for a number of steps."""
    half = _count("epochs", epochs) // 2
    return max(1, min(_count("most", most), half // max(1, steps)))


# -- arithmetic --


def _steps(target, step):
    """How many steps reach the target."""
    return math.ceil(target / step - _TOLERANCE)


def _progress(schedule, epoch):
    """How far between begin and end, in [0, 1], as of the last update."""
    if epoch >= schedule.end:
        return 1.0
    since = max(0, epoch - schedule.begin) // schedule.every * schedule.every
    return since / (schedule.end - schedule.begin)


# -- tfmot, without importing it --


def _latest(schedule, step, before):
    """The share at the latest step at which a schedule prunes, up to `step` and after `before`."""
    for at in range(step, before, -1):
        prunes, share = schedule(at)
        if prunes:
            return float(share)
    return 0.0


_IN_STEPS = ("tensorflow_model_optimization", "keras_iplt.sparsity")


def is_in_steps(x):
    """Whether this is a `PruningSchedule`, tfmot's or that of `keras_iplt.sparsity`."""
    return _is_kind_in_steps(type(x))


def _is_kind_in_steps(kind):
    return isinstance(kind, type) and any(
        base.__name__ == "PruningSchedule" and base.__module__.startswith(_IN_STEPS)
        for base in kind.__mro__
    )


# -- checks --


def _is_real(x):
    return isinstance(x, numbers.Real) and not isinstance(x, bool)


def _share(name, value):
    """`value` if it is a number in [0, 1)."""
    if not _is_real(value) or not 0 <= value < 1:
        raise OptionError(f"{name}: expected a number in [0, 1), received: {value!r}")
    return float(value)


def _step(value):
    """`value` if it is a number in (0, 1)."""
    if not _is_real(value) or not 0 < value < 1:
        raise OptionError(f"step: expected a number in (0, 1), received: {value!r}")
    return float(value)


def _count(name, value):
    """`value` if it is a positive integer."""
    if not _is_integer(value) or value < 1:
        raise OptionError(f"{name}: expected a positive integer, received: {value!r}")
    return int(value)


def _epoch(name, value):
    """`value` if it is an integer from 0."""
    if not _is_integer(value) or value < 0:
        raise OptionError(f"{name}: expected an epoch (an integer from 0), received: {value!r}")
    return int(value)


def _span(begin, end):
    """`begin` and `end` if they are epochs in that order."""
    begin, end = _epoch("begin", begin), _epoch("end", end)
    if end <= begin:
        raise OptionError(f"end: expected an epoch after begin={begin}, received: {end}")
    return begin, end


def _ratios(ratios):
    """A list of shares, or a dict of shares by epoch in order, that do not decrease."""
    checked: Any = None
    shares: list[float] = []
    if isinstance(ratios, collections.abc.Mapping):
        for epoch in ratios:
            _epoch("ratios", epoch)
        checked = {int(e): _share(f"ratios at epoch {e}", ratios[e]) for e in sorted(ratios)}
        shares = list(checked.values())
    elif isinstance(ratios, (list, tuple, np.ndarray)):
        checked = shares = [_share(f"ratios[{i}]", ratio) for i, ratio in enumerate(ratios)]
    if not shares or any(a > b for a, b in itertools.pairwise(shares)):
        raise OptionError(
            "ratios: expected a list of shares, or a mapping {epoch: share}, that is not empty and "
            f"does not decrease, received: {ratios!r}"
        )
    return checked


def _is_integer(x):
    return isinstance(x, numbers.Integral) and not isinstance(x, bool)
