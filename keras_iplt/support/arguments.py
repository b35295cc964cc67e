"""Numbers that people give, and what is expected of them."""

import numbers
from typing import Any

from keras_iplt.errors import OptionError

__all__ = ["check_count", "check_share", "is_integer", "is_real"]


def is_real(value: Any) -> bool:
    """Whether it is a number, and not a truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_integer(value: Any) -> bool:
    """Whether it is a whole number, and not a truth value."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_share(name: str, value: Any) -> float:
    """`value` if it is a number in [0, 1)."""
    if not is_real(value) or not 0 <= value < 1:
        raise OptionError(f"{name}: expected a number in [0, 1), received: {value!r}")
    return float(value)


def check_count(name: str, value: Any) -> int:
    """`value` if it is a positive integer."""
    if not is_integer(value) or value < 1:
        raise OptionError(f"{name}: expected a positive integer, received: {value!r}")
    return int(value)
