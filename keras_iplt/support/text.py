"""What others wrote, as it is shown: names, which who made a model chose, and Keras's errors.

Whatever the library prints, draws or raises goes through `printable`. The command line has the same
for all that it prints (`keras_iplt_cli.lines.escaped`), without importing this library.
"""

import re
import warnings
from collections.abc import Callable
from typing import TypeVar

from keras_iplt.errors import printable

__all__ = ["MALFORMED", "printable", "reason_of", "text_repr", "warn"]

_COLOURS = re.compile(r"\x1b\[\d+m")  # Keras writes the reason in bold

# What JSON raises, or is made of it, that is not what a result of ours is stored as.
MALFORMED = (
    *(ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError),
    RecursionError,
)


_Class = TypeVar("_Class", bound=type)


def text_repr(kind: _Class) -> _Class:
    """A class whose `repr` is one line of text.

    For those with fields of Keras, above `@dataclass`: the names in their reprs are as somebody
    chose them.
    """
    own: Callable[[object], str] = getattr(kind, "__repr__")  # noqa: B009

    def __repr__(self: object) -> str:
        return printable(own(self))

    setattr(kind, "__repr__", __repr__)  # noqa: B010
    return kind


def warn(message: str, stacklevel: int = 1) -> None:
    """A warning whose text is shown as text.

    Args:
        message: what to say.
        stacklevel: which of the callers it is about; 1 is the one that calls this function.
    """
    warnings.warn(printable(message), stacklevel=stacklevel + 1)


def reason_of(error: Exception) -> str:
    """Why Keras could not load something, without the listing of whole configs that it adds."""
    text = _COLOURS.sub("", str(error))
    if "objects could not be loaded" in text and "\n\n" in text:
        text = "the weights do not fit its layers: " + text.split("\n\n")[1]
    text = text.rpartition("Exception encountered: ")[2]
    for mark in ("Full object config", "\n\nconfig=", "Full config:"):
        text = text.partition(mark)[0]
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= 400 else f"{text[:400]} …"
