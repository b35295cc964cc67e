"""Metrics by name: which one is watched, and which way is better."""

from collections.abc import Iterable

from keras_iplt.errors import OptionError

__all__ = ["less_is_better", "watched"]

_ERRORS = ("loss", "error", "mse", "mae", "mape", "msle", "perplexity")


def less_is_better(name: str) -> bool:
    """Whether a metric of that name is the better the smaller it is.

    >>> less_is_better("val_loss"), less_is_better("accuracy")
    (True, False)
    """
    return name.endswith(_ERRORS)


def watched(names: Iterable[str], asked: str | None = None) -> str:
    """The metric asked for, or the first that is not the loss."""
    if asked is None:
        return next((name for name in names if name != "loss"), "loss")
    if asked not in names:
        raise OptionError(
            f"metric: expected one of {', '.join(map(repr, names))}, received: {asked!r}"
        )
    return asked
