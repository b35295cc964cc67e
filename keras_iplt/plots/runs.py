"""Measurements of whole models: accuracy against cost, loss against sparsity, epochs."""

from __future__ import annotations

import collections.abc
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_iplt.errors import OptionError
from keras_iplt.plots import canvas
from keras_iplt.support.arguments import checked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["history", "loss", "tradeoff"]

Runs = Mapping[str, Iterable[Sequence[float]]]  # name -> points (x, y) or (x, y, deviation)


@checked
def tradeoff(
    runs: Runs, published: Runs | None = None, xlabel: str = "FLOPs", ylabel: str = "accuracy"
) -> Figure:
    """What accuracy costs.

    Args:
        runs: `{name: [(x, accuracy), …]}`, or `(x, accuracy, deviation)` for error bars. Points
            are joined in the order given.
        published: others' results in the same form, drawn hollow and dashed; those under a name of
            `runs` get its colour.
        xlabel, ylabel: what the axes show.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> from keras_iplt import plots
    >>> runs = {"l1": [(2e7, 0.91, 0.002), (4e7, 0.93, 0.001)], "dense": [(8e7, 0.935)]}
    >>> figure = plots.tradeoff(runs, published={"l1": [(3e7, 0.92)]})
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['l1', 'dense', 'l1 (published)']
    """
    return _scatter(runs, published, xlabel, ylabel)


@checked
def loss(
    runs: Runs, published: Runs | None = None, xlabel: str = "sparsity", ylabel: str = "loss"
) -> Figure:
    """How the loss grows with the share that is gone.

    Args:
        runs: `{name: [(sparsity, loss), …]}`, or with a deviation as a third number.
        published: others' results in the same form, drawn hollow and dashed.
        xlabel, ylabel: what the axes show.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> from keras_iplt import plots
    >>> figure = plots.loss({"global": [(0, 0.2), (0.5, 0.25), (0.9, 1.1)]})
    >>> figure.axes[0].lines[0].get_xdata().tolist()
    [0.0, 0.5, 0.9]
    """
    return _scatter(runs, published, xlabel, ylabel)


@checked
def history(history: Any) -> Figure:
    """How a training went: a plot per metric, its validation dashed.

    Args:
        history: what `model.fit` returned, or its `.history`, `{metric: [one per epoch]}`.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> from keras_iplt import plots
    >>> figure = plots.history({"loss": [2.0, 1.0], "val_loss": [2.1, 1.4], "accuracy": [0.3, 0.6]})
    >>> [axes.get_title() for axes in figure.axes]
    ['loss', 'accuracy']
    """
    values, epochs = _epochs(history)
    metrics = list(dict.fromkeys(key.removeprefix("val_") for key in values))
    columns = min(2, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    whole = canvas.figure(8.5 if columns > 1 else 6, 0.4 + 2.5 * rows)
    for index, metric in enumerate(metrics):
        axes = whole.add_subplot(rows, columns, index + 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, **canvas.GRID)
        drawn, names = [], []
        for key, style, paint in ((metric, "-", 0), (f"val_{metric}", "--", 1)):
            if key in values:
                count = len(values[key])
                x = epochs[:count] if len(epochs) >= count else range(1, count + 1)
                marker = "o" if count <= 30 else ""
                drawn += axes.plot(
                    x, values[key], style, color=canvas.colour(paint), marker=marker,
                    markersize=3, linewidth=1.5, label=key,
                )  # fmt: skip
                names.append("validation" if key.startswith("val_") else "training")
        axes.set_title(canvas.shorten(metric), fontsize=10, parse_math=False)
        axes.xaxis.set_major_locator(canvas.matplotlib("ticker").MaxNLocator(6, integer=True))
        axes.tick_params(labelsize=8)
        if index >= len(metrics) - columns:
            axes.set_xlabel("epoch", fontsize=9)
        if len(names) > 1:
            canvas.legend(axes, drawn, names, fontsize=8)
    return whole


# -- drawing ---------------------------------------------------------------------------------------


def _scatter(runs: Runs, published: Runs | None, xlabel: str, ylabel: str) -> Figure:
    ours, theirs = _points("runs", runs), _points("published", published or {})
    if not ours and not theirs:
        raise OptionError(f"runs: expected at least one, received: {runs!r}")
    whole, axes = canvas.figure_and_axes(7.5, 4.6)
    paints = {name: canvas.colour(i) for i, name in enumerate(dict.fromkeys([*ours, *theirs]))}
    handles, names = [], []
    solid: dict[str, Any] = {"linestyle": "-", "markersize": 5.5}
    hollow: dict[str, Any] = {"linestyle": "--", "markersize": 6.5, "markerfacecolor": "none"}
    for some, suffix, style in ((ours, "", solid), (theirs, " (published)", hollow)):
        for name, points in some.items():
            x, y, deviation = points.T
            bars: dict[str, Any] = (
                {"yerr": deviation, "capsize": 3} if np.isfinite(deviation).any() else {}
            )
            made = axes.errorbar(
                x, y, **bars, color=paints[name], marker="o", linewidth=1.5, elinewidth=1,
                alpha=0.9, **style,
            )  # fmt: skip
            made.lines[0].set_label(name + suffix)
            handles.append(made.lines[0])
            names.append(name + suffix)
    everything = np.concatenate([*ours.values(), *theirs.values()])
    if everything[:, 0].max() >= 10_000:
        axes.xaxis.set_major_formatter(canvas.matplotlib("ticker").EngFormatter(sep=" "))
    elif xlabel == "sparsity":
        canvas.tick_in_percent(axes.xaxis, everything[:, 0])
    if "acc" in ylabel:
        canvas.tick_in_percent(axes.yaxis, everything[:, 1])
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if len(names) > 1:
        outside = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if len(names) > 5 else {}
        canvas.legend(axes, handles, names, fontsize=9, **outside)
    return whole


# -- what is drawn ---------------------------------------------------------------------------------


def _points(argument: str, runs: Runs) -> dict[str, np.ndarray]:
    """name -> array of (x, y, deviation), NaN where there is no deviation."""
    if not isinstance(runs, collections.abc.Mapping):
        raise OptionError(f"{argument}: expected {{name: [(x, y), …]}}, received: {runs!r}")
    found = {}
    for name, points in runs.items():
        try:
            rows = [(*map(float, point), math.nan)[:3] for point in points]
            good = bool(rows) and all(len(point) in (2, 3) for point in points)
        except (TypeError, ValueError):
            good = False
        if not good or not np.isfinite([row[:2] for row in rows]).all():
            raise OptionError(
                f"{argument}: expected [(x, y), …] or [(x, y, deviation), …] of finite numbers for "
                f"{name!r}, received: {points!r}"
            )
        found[str(name)] = np.array(rows)
    return found


def _epochs(history: Any) -> tuple[dict[str, np.ndarray], list[int]]:
    """The metrics of a training, and its epochs."""
    values = getattr(history, "history", history)
    epochs = [epoch + 1 for epoch in getattr(history, "epoch", ())]
    try:
        found = {str(key): np.asarray(row, float) for key, row in dict(values).items()}
        good = bool(found) and all(row.ndim == 1 and len(row) for row in found.values())
    except (TypeError, ValueError):
        good = False
    if not good:
        raise OptionError(
            "history: expected what model.fit returns, or {metric: [one number per epoch]}, "
            f"received: {history!r}"
        )
    return found, epochs
