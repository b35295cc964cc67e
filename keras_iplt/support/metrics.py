"""Metrics by name: which one is watched, and which way is better."""

from collections.abc import Iterable
from typing import Any

from keras_iplt.errors import OptionError

__all__ = ["less_is_better", "watched", "worsened"]

_ERRORS = ("loss", "error", "mse", "mae", "mape", "msle", "perplexity")


def less_is_better(name: str) -> bool:
    """Whether a metric of that name is the better the smaller it is.

    >>> less_is_better("val_loss"), less_is_better("accuracy")
    (True, False)
    """
    return name.endswith(_ERRORS)


def worsened(name: str, now: Any, then: Any) -> Any:
    """By how much a metric of that name is worse, or where negative, better; of arrays, too.

    >>> worsened("loss", 0.75, 0.5), worsened("accuracy", 0.75, 0.5)
    (0.25, -0.25)
    """
    return now - then if less_is_better(name) else then - now


def watched(names: Iterable[str], asked: str | None = None) -> str:
    """The metric asked for, or the first that is not the loss."""
    if asked is None:
        return next((name for name in names if name != "loss"), "loss")
    if asked not in names:
        raise OptionError(
            f"metric: expected one of {', '.join(map(repr, names))}, received: {asked!r}"
        )
    return asked
