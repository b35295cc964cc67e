"""Numbers that people give, and what is expected of them."""

import numbers

from keras_iplt.errors import OptionError

__all__ = ["check_count", "check_share"]


def check_share(name, value):
    """`value` if it is a number in [0, 1)."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        raise OptionError(f"{name}: expected a number in [0, 1), received: {value!r}")
    return float(value)


def check_count(name, value):
    """`value` if it is a positive integer."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise OptionError(f"{name}: expected a positive integer, received: {value!r}")
    return int(value)
