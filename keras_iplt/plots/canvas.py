"""Figures, colours and text that all plots share.

Names of layers come from users: they are drawn as they are, "$" and leading underscores included,
which matplotlib would take for mathematics and for something to be left out of legends.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keras_iplt.support.extras import required
from keras_iplt.support.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "FROZEN",
    "GRID",
    "Colour",
    "colour",
    "dodge",
    "figure",
    "figure_and_axes",
    "label_axis",
    "legend",
    "matplotlib",
    "tick_in_percent",
    "shade",
    "shorten",
    "text",
]

Colour = str | tuple[float, ...]

FROZEN = "#9aa0a6"
GRID: dict[str, Any] = {"color": "0.5", "alpha": 0.22, "linewidth": 0.7}

# Okabe and Ito's colours, which colour-blind people can tell apart, without black and yellow.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def matplotlib(module: str) -> Any:
    """A module of matplotlib, or an error that says how to get it."""
    return required(f"matplotlib.{module}", "plots", "plots need")


def figure(width: float, height: float, layout: str | None = "constrained") -> Figure:
    """An empty figure, in inches."""
    return matplotlib("figure").Figure(figsize=(width, height), layout=layout)


def figure_and_axes(
    width: float, height: float, grid: Literal["both", "x", "y"] = "both"
) -> tuple[Figure, Axes]:
    """A figure with one plot in it, without the lines that only frame it."""
    whole = figure(width, height)
    axes = whole.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis=grid, **GRID)
    return whole, axes


def colour(index: int) -> Colour:
    """A colour that stands apart from those before it: six by hand, then around the circle."""
    if index < len(_COLOURS):
        return _COLOURS[index]
    hue = 0.12 + 0.618034 * (index - len(_COLOURS))
    bright = (0.62, 0.86, 0.74)[index % 3]
    return colorsys.hsv_to_rgb(hue % 1, 0.55 + 0.3 * (index % 2), bright)


def shade(position: float) -> Colour:
    """A colour by depth: 0 for the first layer, 1 for the last."""
    # The last fifth of the map is too yellow to be read on white.
    return required("matplotlib", "plots", "plots need").colormaps["viridis"](0.8 * position)


def shorten(name: str, most: int = 34) -> str:
    """A name on one line, its middle left out where it is too long."""
    name = printable(str(name))
    head = (most - 1) * 2 // 5
    return name if len(name) <= most else f"{name[:head]}…{name[head + 1 - most :]}"


def text(axes: Axes, x: float, y: float, content: str, **how: Any) -> Any:
    """Text as it stands, wherever it is in the data."""
    return axes.text(x, y, content, parse_math=False, **how)


def label_axis(
    axis: Any, positions: Sequence[float], names: Iterable[str], size: int = 9, **how: Any
) -> None:
    """Names as ticks."""
    axis.set_ticks(positions, [shorten(name) for name in names], fontsize=size, **how)
    for label in axis.get_ticklabels():
        label.set_parse_math(False)
    axis.set_tick_params(length=0)


def legend(axes: Axes, handles: Sequence[Any], names: Sequence[str], **how: Any) -> Any:
    """A legend that leaves no name out."""
    made = axes.legend(handles, ["-"] * len(handles), frameon=False, **how)
    for entry, name in zip(made.get_texts(), names, strict=True):
        entry.set_parse_math(False)
        entry.set_text(shorten(name))
    return made


def dodge(wanted: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Positions for labels, as close as possible to where they are wanted, `gap` apart.

    Between `low` and `high` if there is room.

    >>> dodge([0.5, 0.5, 0.9], 0.1, 0, 1).round(2).tolist()
    [0.45, 0.55, 0.9]
    """
    order = np.argsort(wanted, kind="stable")
    clusters: list[list[float]] = []  # [centre, how many]: each spans (how many - 1) gaps
    for index in order:
        clusters.append([float(wanted[index]), 1])
        while len(clusters) > 1:
            (one, m), (two, n) = clusters[-2:]
            if two - one >= gap * (m + n) / 2 - 1e-12:
                break
            clusters[-2:] = [[(one * m + two * n) / (m + n), m + n]]
    placed = [
        centre + gap * (i - (count - 1) / 2)
        for centre, count in clusters
        for i in range(int(count))
    ]
    for i in range(len(placed)):  # what hangs over one end pushes the others back
        placed[i] = max(placed[i], low + gap * i)
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], high - gap * (len(placed) - 1 - i))
    result = np.empty(len(placed))
    result[order] = placed
    return result


def tick_in_percent(axis: Any, values: Any) -> None:
    """Ticks in percent where the values are shares."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if len(values) and np.abs(values).max() <= 1:
        axis.set_major_formatter(matplotlib("ticker").PercentFormatter(1))
