"""Plots inside the page."""

import base64
import io
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

from keras_iplt import plots
from keras_iplt.reporting.page import add
from keras_iplt.support.extras import required

__all__ = ["picture"]


def picture(
    parent: Element,
    alt: str,
    caption: str,
    draw: str,
    *args: Any,
    tall: bool = False,
    **options: Any,
) -> None:
    """Draws a plot and puts it into the page as a picture of its own.

    Args:
        parent: where to put it.
        alt: what one would see.
        caption: what it means.
        draw: the name of one of `keras_iplt.plots`, with its arguments.
        tall: whether its height is of a list, so that it had better keep its size.
    """
    source = _drawn(getattr(plots, draw), args, options)
    figure = add(parent, "figure", class_="tall" if tall else "wide")
    add(add(figure, "div", role="region", tabindex="0", aria_label=alt), "img", src=source, alt=alt)
    add(figure, "figcaption", caption)


def _drawn(draw: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> str:
    """The plot as a `data:` address.
    It looks the same whatever matplotlib's settings are, and the same run gives the same bytes."""
    matplotlib = required("matplotlib", "plots", "reports need")
    buffer = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams["svg.hashsalt"] = "keras_iplt"
        # Letters that the font lacks become boxes; the tables have them in full.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        draw(*args, **options).savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
