"""What all schedules share."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable
from typing import Any

from keras_iplt.support.arguments import Epoch, Share, blaming, expect, said
from keras_iplt.support.configurable import Configurable

__all__ = ["Schedule"]


class Schedule(Configurable):
    """Base of all schedules: override `__call__`, set `target`, and `end` if there is one.

    Attributes:
        target: the final share; None where it is unknown.
        end: an epoch from which `target` holds for certain, or None.

    Example:

    >>> class Linear(Schedule):
    ...     def __init__(self, target, end):
    ...         self.target, self.end = target, end
    ...     def __call__(self, epoch: int, step: int | None = None) -> float:
    ...         return self.target * min(1.0, epoch / self.end)
    >>> schedule = Linear(0.5, end=10)
    >>> schedule, schedule(5), schedule.last_epoch
    (Linear(target=0.5, end=10), 0.25, 10)
    """

    target: Any
    end: int | None = None

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__call__" in vars(cls):
            setattr(cls, "__call__", _careful(vars(cls)["__call__"]))  # noqa: B010

    def __call__(self, epoch: int, step: int | None = None) -> float:
        """The share of the original model that is gone at the start of an epoch.

        Args:
            epoch: the epoch, from 0.
            step: the number of batches trained so far; only schedules in steps look at it.

        Returns:
            A float in [0, 1), never less than for an earlier epoch.
        """
        raise NotImplementedError(f"{type(self).__name__} must override __call__(epoch, step)")

    @property
    def last_epoch(self) -> int | None:
        """The first epoch from which `target` holds, or None if that is unknown."""
        if self.end is None:
            return None
        return bisect.bisect_left(range(self.end), self.target, key=self)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash(repr(self))


def _careful(call: Callable[..., float]) -> Callable[..., float]:
    """What tells a share, of epochs only, and a share only."""

    @functools.wraps(call)
    def careful(self: Schedule, epoch: Any, step: Any = None) -> float:
        given = expect("epoch", Epoch, epoch), expect("step", Epoch | None, step)
        with blaming(f"{said(self)} at epoch {epoch}"):
            share = call(self, *given)
        return expect(f"{said(self)} at epoch {epoch}", Share, share)

    return careful
