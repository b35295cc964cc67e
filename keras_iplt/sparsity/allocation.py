"""How sparse each layer becomes, so that all together reach one sparsity.

    Uniform       every layer alike
    Fixed         the same, of convolutions only           (Zuo et al., Prune_fixed, Algorithm 1)
    Param         small layers are spared once it hurts    (Prune_param, Algorithm 2)
    Depth         one threshold for the whole network      (Prune_depth, Algorithm 3)
    ERK           by the sum over the product of a kernel's sides (Evci et al.)
    UniformPlus   alike, but the first layer stays dense, and a fifth of the last (Gale et al.)

An allocation turns a sparsity into numbers of zeros, one for each variable; which weights those
are is for a pattern to say. Fixed, Param and Depth are of convolutions only unless told otherwise,
as in the paper.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_iplt.errors import OptionError
from keras_iplt.sparsity.pool import Prunable
from keras_iplt.sparsity.select import bisected
from keras_iplt.support import records
from keras_iplt.support.arguments import NotNegative, Share, checked
from keras_iplt.support.configurable import Configurable
from keras_iplt.support.text import warn

__all__ = ["ERK", "Allocation", "Depth", "Fixed", "Param", "Uniform", "UniformPlus", "get"]


class Allocation(Configurable):
    """Base of all allocations: override `zeros`.

    Attributes:
        convolutions_only: whether only convolutions are pruned, unless the caller says otherwise.
    """

    convolutions_only = False

    def zeros(self, pool: list[Prunable], sparsity: float, gone: list[int]) -> list[int]:
        """How many weights of each variable are to be zero.

        Args:
            pool: a list of `Prunable`.
            sparsity: the share of all their weights.
            gone: how many of each are zero already; never fewer are asked for later.

        Returns:
            A list of integers, whose sum is `round(sparsity * number of weights)`: less where the
            rule allows no more.
        """
        raise NotImplementedError(f"{type(self).__name__} must override zeros()")

    def begin(self) -> None:
        """A training begins."""

    def look(self, loss: float, gone: list[int]) -> None:
        """A phase of training between two steps has ended with this mean loss."""

    def state(self) -> Any:
        """What `set_state` needs to go on, as JSON takes it."""
        return None

    def set_state(self, state: Any) -> None:
        """Goes on from there."""


class Uniform(Allocation):
    """Every layer at the overall sparsity."""

    def zeros(self, pool: list[Prunable], sparsity: float, gone: list[int]) -> list[int]:
        return _spread([sparsity] * len(pool), pool, _total(pool, sparsity))


class Fixed(Uniform):
    """Zuo et al.'s Prune_fixed: every convolution at the overall sparsity."""

    convolutions_only = True


class Depth(Allocation):
    """Zuo et al.'s Prune_depth: one threshold for the whole network, found by bisection.

    The sparsity of each layer follows from how large its weights are (as a rule, deeper layers have
    smaller ones).

    Args:
        normalize: whether the magnitudes of each layer are first stretched to [0, 1] (Eq. 2; the
            paper found it to harm).
        epsilon: how far the overall sparsity may be off: the bisection ends there.
    """

    convolutions_only = True

    @checked
    def __init__(self, normalize: bool = False, epsilon: Share = 1e-4) -> None:
        self.normalize, self.epsilon = normalize, epsilon
        self.threshold: float | None = None  # the last one that was found

    def zeros(self, pool: list[Prunable], sparsity: float, gone: list[int]) -> list[int]:
        arrays = [one.magnitudes() for one in pool]
        if self.normalize:
            arrays = [_stretched(array) for array in arrays]
        within = self.epsilon * sum(one.size for one in pool)
        counts = [one.size - 1 for one in pool]  # at least one weight of each variable stays
        still, left = list(range(len(pool))), _total(pool, sparsity)
        while still:
            self.threshold, found = bisected([arrays[i] for i in still], left, within)
            whole = [i for i, n in zip(still, found, strict=True) if n == pool[i].size]
            if not whole:
                for i, count in zip(still, found, strict=True):
                    counts[i] = count
                break
            left -= sum(counts[i] for i in whole)  # the others take over what is not taken there
            still = [i for i in still if i not in whole]
        return counts


class Param(Allocation):
    """Zuo et al.'s Prune_param: all layers alike, until the loss says that it hurts.

    Then the smallest layer that is still being pruned stays as sparse as it is, and the others take
    over what it no longer reaches. Where none can, pruning ends at the sparsity that it has come
    to, with a warning.

    After every step and the training that follows, the mean loss of that training is compared: a
    layer is frozen if it exceeds `eta`, or if it rose by more than `zeta` since the phase before.
    The record begins with the loss of the unpruned network (at 0, as in the paper's listing, the
    first phase would always freeze a layer). The paper writes the rise with the opposite sign of
    its text; the text is what is done here.

    Args:
        zeta: how much the mean loss may rise from one phase to the next.
        eta: how high it may be; None for twice that of the unpruned network plus `zeta`.

    Attributes:
        frozen: places in the pool of the layers that are no longer pruned, in order.
        record: the mean loss of the last phase.
    """

    convolutions_only = True

    @checked
    def __init__(self, zeta: NotNegative = 0.02, eta: NotNegative | None = None) -> None:
        self.zeta, self.eta = zeta, eta
        self.begin()

    def begin(self) -> None:
        self.frozen: list[int] = []
        self.record: float | None = None
        self._unpruned = 0.0
        self._hurt = False
        self._ended = False  # and it was said

    def look(self, loss: float, gone: list[int]) -> None:
        before, self.record = self.record, loss
        if before is None or not any(gone):
            self._unpruned = loss
            return
        limit = 2 * self._unpruned + self.zeta if self.eta is None else self.eta
        self._hurt = loss > limit or loss - before > self.zeta

    def zeros(self, pool: list[Prunable], sparsity: float, gone: list[int]) -> list[int]:
        if self._hurt:
            self._freeze_smallest(pool)
        total, kept = _total(pool, sparsity), sum(gone[i] for i in self.frozen)
        still = [i for i in range(len(pool)) if i not in self.frozen]
        counts = list(gone)
        if total - kept > sum(pool[i].size - 1 for i in still):
            self._tell_of_the_end(pool, sparsity, gone)
        elif still:
            share = (total - kept) / sum(pool[i].size for i in still)
            own = [pool[i] for i in still]
            for i, count in zip(still, _spread([share] * len(own), own, total - kept), strict=True):
                counts[i] = count
        return counts

    def _tell_of_the_end(self, pool: list[Prunable], sparsity: float, gone: list[int]) -> None:
        if self._ended:
            return
        self._ended = True
        warn(
            f"Prune_param ends at a sparsity of {sum(gone) / sum(one.size for one in pool):.1%} "
            f"where {sparsity:.1%} are due: {len(self.frozen)} of {len(pool)} layers are frozen, "
            f"and the others cannot take over. To go further, raise zeta={self.zeta} or "
            f"eta={self.eta}, or train longer between steps",
            stacklevel=5,
        )

    def _freeze_smallest(self, pool: list[Prunable]) -> None:
        self._hurt = False
        still = [i for i in range(len(pool)) if i not in self.frozen]
        if still:
            self.frozen.append(min(still, key=lambda i: pool[i].size))

    def state(self) -> Any:
        return [self.frozen, self.record, self._unpruned, self._hurt]

    def set_state(self, state: Any) -> None:
        kind = tuple[list[records.Count], float | None, float, bool]
        self.frozen, self.record, self._unpruned, self._hurt = records.read(
            kind, state, "allocation"
        )


class ERK(Allocation):
    """Erdős–Rényi kernels: small layers stay denser.

    The density of a layer is proportional to the sum of its kernel's sides over their product; no
    density exceeds 1."""

    def zeros(self, pool: list[Prunable], sparsity: float, gone: list[int]) -> list[int]:
        left = sum(one.size for one in pool) - _total(pool, sparsity)
        raw = [sum(one.variable.shape) / one.size for one in pool]
        dense = [False] * len(pool)
        while True:
            budget = left - sum(one.size for one, d in zip(pool, dense, strict=True) if d)
            weight = sum(r * one.size for one, r, d in zip(pool, raw, dense, strict=True) if not d)
            scale = budget / weight if weight else 0.0
            over = [not d and scale * r > 1 for r, d in zip(raw, dense, strict=True)]
            if not any(over):
                break
            dense = [d or o for d, o in zip(dense, over, strict=True)]
        shares = [0.0 if d else 1 - scale * r for r, d in zip(raw, dense, strict=True)]
        return _spread(shares, pool, _total(pool, sparsity))


class UniformPlus(Allocation):
    """Every layer alike, but the first stays dense, and the last keeps a fifth of its weights.

    Args:
        last: the most that goes of the last layer.
    """

    @checked
    def __init__(self, last: Share = 0.8) -> None:
        self.last = last

    def zeros(self, pool: list[Prunable], sparsity: float, gone: list[int]) -> list[int]:
        total, sizes = _total(pool, sparsity), [one.size for one in pool]
        most = [1.0] * len(pool)
        if len(pool) > 1:
            most[0], most[-1] = 0.0, self.last
        share = _share_under(most, sizes, total)
        if share is None:
            reach = sum(m * n for m, n in zip(most, sizes, strict=True)) / sum(sizes)
            raise OptionError(
                f"uniform_plus: expected a sparsity that is below {reach:.1%}, which leaves the "
                f"first layer dense and the last at {self.last:.0%}, received: {sparsity:.1%}"
            )
        return _spread([min(share, m) for m in most], pool, total)


_BY_NAME = {
    "uniform": Uniform, "fixed": Fixed, "param": Param, "depth": Depth, "erk": ERK,
    "uniform_plus": UniformPlus,
}  # fmt: skip


@checked
def get(allocation: str | Allocation) -> Allocation:
    """The allocation that a name stands for; an `Allocation` as it is.

    Names are "uniform", "fixed", "param", "depth", "erk" and "uniform_plus".

    >>> get("depth")
    Depth(normalize=False, epsilon=0.0001)
    """
    if isinstance(allocation, Allocation):
        return allocation
    if isinstance(allocation, str) and allocation in _BY_NAME:
        return _BY_NAME[allocation]()
    raise OptionError(
        f"allocation: expected {', '.join(map(repr, _BY_NAME))} or an Allocation, received: "
        f"{allocation!r}"
    )


# -- arithmetic --


def _total(pool: list[Prunable], sparsity: float) -> int:
    return round(sparsity * sum(one.size for one in pool))


def _spread(shares: Sequence[float], pool: list[Prunable], total: int) -> list[int]:
    """Whole numbers as close to shares of sizes as they can be, with this sum.
    One weight of each variable is left. Rounded down, and one more where most was cut off."""
    exact = [share * one.size for share, one in zip(shares, pool, strict=True)]
    counts = [min(one.size - 1, math.floor(x + 1e-9)) for x, one in zip(exact, pool, strict=True)]
    order = sorted(range(len(pool)), key=lambda i: counts[i] - exact[i])
    room = [i for i in order if shares[i] > 0]
    while (missing := total - sum(counts)) > 0:
        able = [i for i in room if counts[i] < pool[i].size - 1][:missing]
        if not able:
            break
        for i in able:
            counts[i] += 1
    return counts


def _share_under(most: Sequence[float], sizes: Sequence[int], total: int) -> float | None:
    """The share of all variables, none beyond its most, that makes up a total.
    None if there is none."""
    low, high = 0.0, 1.0
    if sum(m * n for m, n in zip(most, sizes, strict=True)) < total:
        return None
    for _ in range(60):
        share = (low + high) / 2
        reached = sum(min(share, m) * n for m, n in zip(most, sizes, strict=True))
        low, high = (share, high) if reached < total else (low, share)
    return high


def _stretched(array: np.ndarray) -> np.ndarray:
    """Eq. 2 of Zuo et al."""
    low, high = array.min(), array.max()
    return (array - low) / (high - low) if high > low else np.zeros_like(array)
