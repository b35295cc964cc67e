"""HTML as a tree: whatever text goes in, a layer called `<script>` included, comes out as text."""

import os
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from keras_iplt.reporting.style import CSS
from keras_iplt.support.files import replacing
from keras_iplt.support.text import printable

__all__ = ["add", "add_row", "gauge", "page", "plain", "table", "write"]

# What the page may load: nothing. It holds its pictures and its style.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def add(parent: Element, tag: str, text: object | None = None, **attributes: object) -> Element:
    """Appends an element and returns it; `class_` is the attribute `class`."""
    given = {k.rstrip("_").replace("_", "-"): plain(v) for k, v in attributes.items()}
    element = ElementTree.SubElement(parent, tag, given)
    if text is not None:
        element.text = plain(text)
    return element


def plain(text: object) -> str:
    """Text in which what HTML has no place for, or would not show as itself, is spelled out."""
    return printable(str(text), keep="\n\t")


def page(title: str, lead: str) -> tuple[Element, Element]:
    """`(document, main)`: a page with its head, and the place for what it says."""
    document = ElementTree.Element("html", {"lang": "en"})
    head = add(document, "head")
    add(head, "meta", charset="utf-8")
    add(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    add(head, "meta", http_equiv="Content-Security-Policy", content=_POLICY)
    add(head, "title", title)
    add(head, "style", CSS)
    body = add(document, "body")
    header = add(body, "header")
    add(header, "h1", title)
    add(header, "p", lead, class_="lead")
    return document, add(body, "main")


def table(parent: Element, caption: str, heads: Sequence[str], left: int = 1) -> Element:
    """The body of a table that scrolls by itself where it is too wide.

    Args:
        parent: where to put it.
        caption: what it shows.
        heads: names of the columns.
        left: how many of them are text.
    """
    frame = add(parent, "div", class_="scroll", role="region", tabindex="0", aria_label=caption)
    made = add(frame, "table")
    add(made, "caption", caption)
    row = add(add(made, "thead"), "tr")
    for place, head in enumerate(heads):
        add(row, "th", head, scope="col", class_="text" if place < left else "number")
    return add(made, "tbody")


def add_row(
    body: Element, head: str, cells: Iterable[object], left: int = 0, **attributes: object
) -> Element:
    """A row of a table with its head, and cells, the first `left` of which are text."""
    row = add(body, "tr", **attributes)
    add(row, "th", head, scope="row")
    for place, cell in enumerate(cells):
        add(row, "td", cell, class_="text" if place < left else "number")
    return row


def gauge(cell: Element, share: float) -> None:
    """A small bar under what a cell says."""
    bar = add(cell, "span", class_="bar", aria_hidden="true")
    add(bar, "span", "", style=f"width: {100 * min(1, max(0, share)):.1f}%")


def write(document: Element, path: str | os.PathLike[str]) -> str:
    """Writes a page, all of it or nothing."""
    text = "<!DOCTYPE html>\n" + ElementTree.tostring(document, "unicode", method="html") + "\n"
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
    return str(path)
