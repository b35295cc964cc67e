"""The channels that may go, in the order in which they go, and where that order is cut.

Both scopes are one mechanism. `scope="global"` orders channels by their score; `scope="layer"`
orders them by their rank within their group divided by the group's size, so that any cut takes
the same share of every group. Groups give up channels in order of score until a constraint
holds them; the cut is moved to where the amount that goes is nearest to the amount asked for.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Callable

import numpy as np

from keras_iplt.errors import OptionError

__all__ = ["Candidate", "Queue"]

# Where costs are estimated: how often to find out, and what is near enough to a budget.
_LOOKS, _NEAR = 8, 0.02


@dataclasses.dataclass
class Candidate:
    """A group that may lose channels.

    Attributes:
        index: the group's place in the graph.
        classes, filters: its channels, and how many filters go with each.
        order: the places of its channels, the least important first.
        most: how many may go.
        multiple: what is left is rounded to a multiple of this.
        before, filters_before: how many channels and filters of it have gone before.
        taken: how many do go.
    """

    index: int
    classes: np.ndarray
    filters: np.ndarray
    order: np.ndarray
    most: int
    multiple: int
    before: int = 0
    filters_before: float = 0
    taken: int = 0

    @property
    def size(self) -> int:
        return len(self.classes)

    @property
    def whole(self) -> int:
        """How many channels it had at first."""
        return self.size + self.before

    @property
    def chosen(self) -> np.ndarray:
        """The channels that go."""
        return self.order[: self.taken]

    def take_share(self, share: float) -> None:
        """That share of the channels it had at first goes, as far as it is allowed."""
        wanted = share * self.whole - self.before
        self.taken = self.rounded(max(0, math.floor(wanted + 0.5)))

    def rounded(self, taken: int) -> int:
        """The number of channels to take that is nearest to `taken` and allowed."""
        taken = min(taken, self.most)
        if self.multiple == 1 or not taken:
            return taken
        left = self.multiple * max(1, math.floor((self.size - taken) / self.multiple + 0.5))
        if self.size - left > self.most:
            left += self.multiple
        return max(0, self.size - left)


class Queue:
    """The channels of some candidates in the order in which they go.

    Args:
        candidates: they give up their first `most` channels at most.
        values: the importance of every channel of the graph.
        scope: "global" or "layer".
    """

    def __init__(self, candidates: list[Candidate], values: np.ndarray, scope: str) -> None:
        self.candidates, self.values = candidates, values
        owner, rank = [np.zeros(0, np.int64)], [np.zeros(0)]
        for place, candidate in enumerate(candidates):
            ranked = candidate.order[: candidate.most]
            owner.append(np.full(len(ranked), place))
            if scope == "global":
                rank.append(values[candidate.classes[ranked]])
            else:
                places = candidate.before + np.arange(len(ranked)) + 0.5
                rank.append(places / candidate.whole)
        self.owner = np.concatenate(owner)[np.argsort(np.concatenate(rank), kind="stable")]

    def take(self, count: int, rounded: bool = True) -> None:
        """The first `count` channels go, as far as rounding lets them."""
        taken = np.bincount(self.owner[:count], minlength=len(self.candidates)).tolist()
        for candidate, number in zip(self.candidates, taken, strict=True):
            candidate.taken = candidate.rounded(number) if rounded else number

    def cut(self, share: float, whole: float, left: Callable[[], float]) -> None:
        """Takes as many channels as bring what goes nearest to what is asked for.

        Args:
            share: the share of `whole` that is asked for.
            whole: the amount that there is, in filters, parameters or FLOPs.
            left: a function that tells how much of it is left of the channels not taken.
        """

        def after(count: int, rounded: bool = True) -> float:
            self.take(count, rounded)
            return whole - left()

        every = len(self.owner)
        most = after(every)
        if most < share * whole:
            # One channel more than there are, or half a multiple of every group, is near enough.
            halves = sum(c.multiple // 2 for c in self.candidates)
            leeway = most - after(max(0, every - max(1, halves)), rounded=False)
            if most + leeway < share * whole:
                raise OptionError(
                    f"ratio: {share:.1%} cannot be removed, at most {most / whole:.1%} can. Lower "
                    "the ratio, or relax ignore, min_channels, round_to or max_ratio"
                )
        enough = bisect.bisect_left(range(every), share * whole, key=after)
        nearest = min(enough, max(0, enough - 1), key=lambda n: abs(after(n) - share * whole))
        self.take(nearest)

    def cut_within(
        self, at_most: float, left: Callable[[], float], exact: Callable[[], float]
    ) -> float:
        """Takes no more channels than it needs for what is left to be within a budget.

        Args:
            at_most: the budget.
            left: a function that tells how much is left of the channels not taken.
            exact: the same, where the former only estimates.

        Returns:
            What is left: more than `at_most` if that cannot be reached.
        """
        over, within = -1, len(self.owner) + 1  # how many are too few, and enough
        found: dict[int, float] = {}
        off, looked = 0.0, -1  # what the estimate is short of, where it was last looked at

        def enough(count: int) -> bool:
            self.take(count)
            return left() + off <= at_most

        while within - over > 1 and len(found) < _LOOKS:
            count = bisect.bisect_left(range(len(self.owner)), True, key=enough)
            if count == looked:
                break
            if not over < count < within:
                count = (over + within) // 2
            looked = count
            self.take(count)
            found[count] = exact()
            off = found[count] - left()
            if found[count] > at_most:
                over = count
            else:
                within = count
                if not off or found[count] >= (1 - _NEAR) * at_most:
                    break
        best = min(within, len(self.owner))
        self.take(best)
        if best in found and found[best] < (1 - _NEAR) * at_most:
            self._give_back(best, lambda: left() + off <= at_most)
            fuller = exact()
            if fuller <= at_most:
                return fuller
            self.take(best)
        return found[best] if best in found else exact()

    def _give_back(self, count: int, fits: Callable[[], bool]) -> None:
        """What the last channel took too much is given back in smaller steps.
        One to each group, the last that lost one first, as long as one fits."""
        order = dict.fromkeys(self.owner[:count][::-1].tolist())
        while any([self._gave(self.candidates[place], fits) for place in order]):
            pass

    def _gave(self, candidate: Candidate, fits: Callable[[], bool]) -> bool:
        """Whether a group got a step back."""
        taken = candidate.taken
        candidate.taken = candidate.rounded(max(0, taken - candidate.multiple))
        back = candidate.classes[candidate.order[candidate.taken : taken]]
        if len(back) and np.isfinite(self.values[back]).all() and fits():  # none is zero already
            return True
        candidate.taken = taken
        return False
