"""Metrics by name: which way is better."""

__all__ = ["less_is_better"]

_ERRORS = ("loss", "error", "mse", "mae", "mape", "msle", "perplexity")


def less_is_better(name):
    """Whether a metric of that name is the better the smaller it is.

    >>> less_is_better("val_loss"), less_is_better("accuracy")
    (True, False)
    """
    return name.endswith(_ERRORS)
