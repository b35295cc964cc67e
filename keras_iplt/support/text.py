"""What others wrote, as it is shown: names, which who made a model chose, and Keras's errors."""

import re

__all__ = ["printable", "reason_of"]

_COLOURS = re.compile(r"\x1b\[\d+m")  # Keras writes the reason in bold


def printable(text: str) -> str:
    r"""A text in which what is not shown as itself is spelled out, so that it stays in its line.

    The command line has the same for all that it prints (`keras_iplt_cli.lines.escaped`), and has
    it without importing this library.

    >>> printable("conv\n1"), printable("größe")
    ('conv\\n1', 'größe')
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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
