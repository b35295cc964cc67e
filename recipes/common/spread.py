"""Figures of several seeds: mean ± standard deviation, and what two networks differ by."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .claims import Difference

__all__ = ["Runs", "Spread", "accuracy_at", "paired", "quotient", "spread"]


@dataclasses.dataclass(frozen=True)
class Spread:
    """The same figure of several seeds, written with so many decimals.

    >>> str(Spread.of([1.0, 2.0, 3.0], digits=1))
    '2.0 ± 1.0'
    """

    values: tuple[float, ...]
    digits: int = 2

    @classmethod
    def of(cls, values: Iterable[float], digits: int = 2) -> "Spread":
        """The spread of values that come one after another."""
        return cls(tuple(values), digits)

    @property
    def mean(self) -> float:
        """The mean of the seeds."""
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        """The standard deviation; 0 of one seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0

    @property
    def noise(self) -> float | None:
        """Twice the standard error of the mean; None where one seed does not tell."""
        if len(self.values) < 2:
            return None
        return 2 * self.deviation / math.sqrt(len(self.values))

    @property
    def difference(self) -> Difference:
        """The same as a difference, of values that are differences seed by seed."""
        return Difference(self.mean, self.noise)

    def minus(self, other: "Spread") -> Difference:
        """The difference of the means, as of seeds that have nothing in common."""
        both = self.noise, other.noise
        noise = None if None in both else math.hypot(*both)  # type: ignore[arg-type]
        return Difference(self.mean - other.mean, noise)

    def __str__(self) -> str:
        mean = f"{self.mean:.{self.digits}f}"
        return f"{mean} ± {self.deviation:.{self.digits}f}" if self.values[1:] else mean

    def plain(self) -> dict[str, Any]:
        """The same as JSON takes it."""
        return {"mean": self.mean, "deviation": self.deviation, "values": list(self.values)}


Result = dict[str, Any]  # what a run returned
Runs = list[Result]  # what runs returned that differ by their seeds


def spread(runs: Runs, key: str, digits: int = 2) -> Spread:
    """The spread of what runs returned under a key."""
    return Spread.of([run[key] for run in runs], digits)


def accuracy_at(place: float, runs: Runs) -> tuple[float, float, float]:
    """A point of a plot: where it is, the mean accuracy of runs and its deviation."""
    accuracy = spread(runs, "accuracy")
    return place, accuracy.mean, accuracy.deviation


def paired(
    runs: Runs, others: Runs, figure: Callable[[Result, Result], float], digits: int = 2
) -> Spread:
    """The spread of a figure of two runs, a run and the other one of its seed."""
    return Spread.of([figure(*both) for both in zip(runs, others, strict=True)], digits)


def quotient(runs: Runs, others: Runs, key: str) -> Spread:
    """The spread of what runs returned under a key over what others of the same seeds did."""
    return paired(runs, others, lambda run, other: run[key] / other[key])
