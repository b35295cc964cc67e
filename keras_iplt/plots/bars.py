"""Layers side by side: their filters before and after, and their zeros."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_iplt.analysis.comparison import compare
from keras_iplt.analysis.profiles import Profile
from keras_iplt.errors import OptionError
from keras_iplt.graph.channels import Graph
from keras_iplt.plots import canvas
from keras_iplt.sparsity.table import Sparsity, measure
from keras_iplt.support.arguments import checked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["filters", "sparsity"]


@checked
def filters(before: keras.Model | Graph | Profile, after: keras.Model | Graph | Profile) -> Figure:
    """How many filters each layer had, and has.

    Args:
        before, after: models, their `Graph`s or their `Profile`s.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> import keras
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)), keras.layers.Conv2D(16, 3, name="conv"),
    ...     keras.layers.Flatten(), keras.layers.Dense(10, name="head")])
    >>> axes = iplt.plots.filters(model, iplt.prune(model, 0.5)).axes[0]
    >>> [int(bar.get_width()) for bar in axes.containers[1]]
    [8, 10]
    """
    pairs = [pair for pair in compare(before, after).layers if pair.before.filters]
    if not pairs:
        raise OptionError("expected models with layers that have filters, received: none in them")
    had = [pair.before.filters for pair in pairs]
    has = [0 if pair.after is None else pair.after.filters for pair in pairs]
    free = [bool(pair.before.prunable) for pair in pairs]
    count = len(pairs)
    whole, axes = canvas.figure_and_axes(8.5, 0.9 + 0.21 * count, grid="x")
    places = range(count)
    paint = [canvas.colour(0) if one else canvas.FROZEN for one in free]
    axes.barh(places, had, height=0.78, color=paint, alpha=0.28, label="before")
    axes.barh(places, has, height=0.78, color=paint, label="after")
    room = 0.01 * max(had)
    for place, (old, new) in enumerate(zip(had, has, strict=True)):
        change = f"{old}" if old == new else f"{old} → {new}"
        canvas.text(axes, old + room, place, change, va="center", fontsize=8)
    canvas.label_axis(axes.yaxis, list(places), [pair.before.name for pair in pairs], size=8)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_xlim(0, 1.14 * max(had))
    axes.set_xlabel("filters")
    patch = canvas.matplotlib("patches").Patch
    keys = {
        "before": patch(color=canvas.colour(0), alpha=0.28),
        "after": patch(color=canvas.colour(0)),
    }
    if not all(free):
        keys["frozen"] = patch(color=canvas.FROZEN)
    canvas.legend(
        axes, list(keys.values()), list(keys), loc="lower left", bbox_to_anchor=(0, 1),
        ncols=3, fontsize=9, borderpad=0, borderaxespad=0.3,
    )  # fmt: skip
    return whole


@checked
def sparsity(tables: Sparsity | keras.Model | Mapping[str, Sparsity | keras.Model]) -> Figure:
    """The share of zeros of each layer, in the order in which data flow.

    Args:
        tables: a `Sparsity` of `keras_iplt.sparsity.measure`, or a model to measure; or several by
            name, `{name: table}`.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> import keras
    >>> from keras_iplt import plots, sparsity
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="conv"),
    ...     keras.layers.Flatten(), keras.layers.Dense(2, name="head")])
    >>> _ = sparsity.prune_weights(model, 0.5)
    >>> [float(bar.get_height()) for bar in plots.sparsity(model).axes[0].patches]
    [0.5, 0.5]
    """
    several = isinstance(tables, Mapping)
    named: Mapping[str, Any] = tables if isinstance(tables, Mapping) else {"": tables}
    found = {str(k): _table(v) for k, v in named.items()}
    if not found:
        raise OptionError(f"tables: expected at least one, received: {tables!r}")
    names = list(dict.fromkeys(row.name for table in found.values() for row in table.layers))
    many = len(names) > 45
    whole, axes = canvas.figure_and_axes(max(6.0, min(11.0, 2.5 + 0.22 * len(names))), 4.6, "y")
    handles = []
    for index, table in enumerate(found.values()):
        paint = canvas.colour(index)
        shares = {row.name: row.sparsity for row in table.layers}
        heights = [shares.get(name, np.nan) for name in names]
        if several:
            handles += axes.plot(heights, color=paint, marker="o", markersize=4, linewidth=1.4)
        else:
            axes.bar(range(len(names)), heights, color=paint, width=0.8)
        axes.axhline(table.sparsity, color=paint, linestyle="--", linewidth=1, alpha=0.8)
    if several:
        keys = [f"{key} ({table.sparsity:.1%} in all)" for key, table in found.items()]
        canvas.legend(
            axes, handles, keys, loc="lower left", bbox_to_anchor=(0, 1), fontsize=9,
            ncols=min(3, len(keys)),
        )  # fmt: skip
    else:
        total = next(iter(found.values())).sparsity
        axes.set_title(f"zeros: {total:.1%} in all (dashed)", fontsize=10, loc="left")
    axes.set_ylim(0, 1.02)
    axes.set_xlim(-0.7, len(names) - 0.3)
    canvas.tick_in_percent(axes.yaxis, [0, 1])
    axes.set_ylabel("weights that are zero")
    if many:
        axes.set_xlabel(f"{len(names)} layers, the first on the left")
        axes.xaxis.set_major_locator(canvas.matplotlib("ticker").MaxNLocator(integer=True))
    else:
        # Slanted names of a few layers read better; many only fit upright.
        turn = 90 if len(names) > 8 else 30
        align = {"rotation": turn, "ha": "center" if turn == 90 else "right"}
        canvas.label_axis(
            axes.xaxis,
            range(len(names)),
            names,
            8,
            **align,
            rotation_mode="anchor" if turn != 90 else "default",
        )
    return whole


def _table(thing: Sparsity | keras.Model) -> Sparsity:
    """A table, or that of a model."""
    return measure(thing) if isinstance(thing, keras.Model) else thing
