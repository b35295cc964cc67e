"""What an operation makes of the number that a masked channel holds.

A masked channel is zero where it is created. Behind a sigmoid it is 0.5, behind a subtraction of
0.5 zero again, and where it meets a number that is not known beforehand (a gate, an input) it is
not known either. None of this is written down by operation: the operation is carried out, on the
numbers that are known and on many in place of those that are not. What comes out the same each
time is known.

The same trial tells where a masked channel would not be a number at all (0 / 0, the logarithm of
0) although a channel that stays is one: there a mask, which leaves such channels in place, cannot
give what the smaller model gives.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_iplt.graph.channels import Channels

__all__ = ["Operand", "Outcome", "constant_through", "trial"]

# In place of a number that is not known: signs, sizes, whole numbers and fractions.
_ANY = (-3e38, -41.5, -3.0, -2.0, -1.0, -0.3, 0.0, 0.3, 1.0, 2.0, 3.0, 41.5, 3e38)
# Channels that stay: what they hold is ordinary.
_ORDINARY = (0.37, 1.9, -0.6)
_MOST_ROWS = 4096


class Operand(NamedTuple):
    """What is known of one operand at the position of a masked channel.

    Attributes:
        own: whether the numbers belong to the channel (and are masked with it), or are there for
            channels that stay as well.
        numbers: those it may be: one, the entries of a constant, or None for any.
    """

    own: bool
    numbers: tuple[float, ...] | None

    @classmethod
    def of(cls, x: Channels) -> "Operand":
        """The channels of a tensor, where the operation takes them along."""
        return cls(True, None if x.masked is None else (x.masked,))


class Outcome(NamedTuple):
    """What came out: one number, or None where it is not known.

    And whether it is a number wherever it would be one for a channel that stays."""

    number: float | None
    finite: bool


def trial(function: Callable[..., Any], operands: Sequence[Operand]) -> Outcome:
    """Carries out `function`, which works position by position, at a masked channel.

    Args:
        function: takes as many tensors as there are operands.
        operands: an `Operand` each.

    Returns:
        An `Outcome`.
    """
    rows = _rows([_ANY if one.numbers is None else one.numbers for one in operands])
    results = _carried_out(function, rows)
    if results is None:  # not for plain numbers (bit operations, say): nothing is known
        return Outcome(None, True)
    finite = np.isfinite(results)
    ordinary = np.zeros(len(rows), bool)
    for i, number in enumerate(_ORDINARY):
        kept = rows.copy()
        for column, one in enumerate(operands):
            if one.own:
                kept[:, column] = number * (1 + 0.1 * ((column + i) % 3))
        tried = _carried_out(function, kept)
        if tried is not None:
            ordinary |= np.isfinite(tried)
    moderate = (abs(rows) < 1e38).all(axis=1)  # beyond, it is the float that ends, not the function
    found = np.unique(results[finite])
    return Outcome(
        float(found[0]) if len(found) == 1 else None,
        bool((finite | ~ordinary | ~moderate).all()),
    )


def _rows(candidates: Sequence[tuple[float, ...]]) -> np.ndarray:
    """Combinations of the candidates, one column per operand: all of them, or many."""
    known = {n for some in candidates for n in some} if len(candidates) > 1 else set()
    columns = [
        sorted({*some, *known}) if some is _ANY and len(known) < 64 else list(some)
        for some in candidates
    ]
    if np.prod([len(column) for column in columns], dtype=float) <= _MOST_ROWS:
        return np.array(list(itertools.product(*columns)), "float32")
    random = np.random.default_rng(0)
    return np.stack([random.choice(column, _MOST_ROWS) for column in columns], 1).astype("float32")


def _carried_out(function: Callable[..., Any], rows: np.ndarray) -> np.ndarray | None:
    """`function` of the columns, as numbers, or None if it takes no floating point numbers."""
    tensors = [keras.ops.convert_to_tensor(column[:, None]) for column in rows.T]
    with keras.StatelessScope():
        try:
            value = keras.ops.convert_to_numpy(function(*tensors))
        except Exception:  # whatever a backend says of numbers that are not meant
            return None
    return np.broadcast_to(np.asarray(value, "float32"), (len(rows), 1))[:, 0]


def constant_through(function: Callable[..., Any], rank: int, number: float | None) -> float | None:
    """What comes out of an operation over positions that all hold `number`.

    One number, however many positions there are, or None."""
    if number is None:
        return None
    found = set()
    for length in (2, 5):
        tensor = keras.ops.full((length,) * rank, number, "float32")
        try:
            value = np.asarray(keras.ops.convert_to_numpy(function(tensor)), "float32")
        except Exception:  # an operation on other shapes than those it was made for
            return None
        found.update(np.unique(value).tolist())
    return found.pop() if len(found) == 1 else None
