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

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_iplt.errors import OptionError
from keras_iplt.schedules.base import Schedule
from keras_iplt.schedules.epochs import (
    Exponential,
    Incremental,
    OneShot,
    Polynomial,
    Ratios,
    fitted_every,
    spacing,
)
from keras_iplt.schedules.tfmot import FromTfmot, is_in_steps
from keras_iplt.support.arguments import Count, Step, checked, is_real

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


@checked
def get(schedule: Any, step: Step = 0.1, every: Count = 5) -> Schedule:
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
    if is_real(schedule):
        return Incremental(schedule, step, every)
    if isinstance(schedule, Mapping):
        return Ratios(schedule)
    if isinstance(schedule, (list, tuple, np.ndarray)):
        return Ratios(schedule, every)
    if is_in_steps(schedule):
        return FromTfmot(schedule)
    raise OptionError(
        "target: expected a share in [0, 1), a list of shares, a mapping {epoch: share}, a "
        f"keras_iplt.schedules object or a tfmot PruningSchedule, received: {schedule!r}"
    )
