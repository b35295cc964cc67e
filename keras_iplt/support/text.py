"""Names as they are shown: whoever made a model chose them."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    r"""A text in which what is not shown as itself is spelled out, so that it stays in its line.

    >>> printable("conv\n1"), printable("größe")
    ('conv\\n1', 'größe')
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
