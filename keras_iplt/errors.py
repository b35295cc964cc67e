"""What can go wrong, as one tree: catch `PruningError` to catch it all."""

__all__ = [
    "BackupError",
    "CriterionError",
    "DataError",
    "ExportError",
    "MissingExtraError",
    "ModelError",
    "NothingToPruneError",
    "OptionError",
    "PlanMismatchError",
    "PruningError",
    "WeightsError",
]


def printable(text: str, keep: str = "") -> str:
    r"""A text in which what is not shown as itself is spelled out, so that it stays in its line.

    Terminals obey control characters, and some characters turn the direction of writing.

    Args:
        text: what is to be shown.
        keep: characters that stay as they are.

    >>> printable("conv\n1"), printable("größe"), printable("a\u202eb")
    ('conv\\n1', 'größe', 'a\\u202eb')
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


class PruningError(Exception):
    """Root of every error that keras_iplt raises on purpose.

    What it says is text in one line, whatever the names in it are."""

    def __str__(self) -> str:
        return printable(super().__str__())


class ModelError(PruningError, ValueError):
    """The model cannot be read: not built, not a graph, or a layer that cannot be recreated."""


class NothingToPruneError(ModelError):
    """The model was read, and every channel of it is frozen or ignored."""


class WeightsError(PruningError, ValueError):
    """Weights that are not finite numbers, are not to be had, or do not fit.

    No score computed from them would mean anything."""


class OptionError(PruningError, ValueError):
    """An argument is out of range, of the wrong type, or names a layer that is not there."""


class CriterionError(PruningError, ValueError):
    """A criterion is unknown, or did not return one finite score per channel."""


class DataError(PruningError, ValueError):
    """The data given do not fit the model or the criterion."""


class PlanMismatchError(PruningError, ValueError):
    """The plan was made for a model of another architecture."""


class BackupError(PruningError, ValueError):
    """A backup of a training is damaged, of another training, or cannot be written."""


class ExportError(PruningError, ValueError):
    """A model cannot be converted, or what was written does not compute the same."""


class MissingExtraError(PruningError, ImportError):
    """An optional package is needed and not installed."""
