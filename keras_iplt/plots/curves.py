"""A curve per layer: how much each one matters, and how much its filters do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_iplt.analysis.sensitivities import Sensitivity
from keras_iplt.criteria import get as get_criterion
from keras_iplt.criteria import scores
from keras_iplt.criteria.base import AnyCriterion
from keras_iplt.errors import OptionError
from keras_iplt.graph.channels import Graph, Group
from keras_iplt.graph.names import groups_of
from keras_iplt.graph.selectors import Layers, as_list
from keras_iplt.graph.trace import graph_for
from keras_iplt.plots import canvas
from keras_iplt.support.arguments import Data, checked
from keras_iplt.support.metrics import watched

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["norms", "sensitivity"]

_FEW = 12  # layers that get a label each; more are told apart by their depth


@checked
def sensitivity(
    result: Sensitivity, metric: str | None = None, layers: str | Iterable[str] | None = None
) -> Figure:
    """How a metric changes as filters of one layer go, for every layer.

    Up to twelve layers are labelled; of more, those that react most strongly, and the others are
    coloured by their depth.

    Args:
        result: a `Sensitivity`.
        metric: which of its metrics; by default the one that it ranks layers by.
        layers: names of the layers to draw, all of them by default.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> import numpy as np
    >>> import keras_iplt as iplt
    >>> result = iplt.Sensitivity(
    ...     "net", "accuracy", layers=("conv1", "conv2"), sizes=(8, 8), ratios=(0.25, 0.5),
    ...     removed=np.array([[2, 4], [2, 4]]), baseline={"accuracy": 0.9},
    ...     values={"accuracy": np.array([[0.9, 0.5], [0.9, 0.8]])})
    >>> [text.get_text() for text in iplt.plots.sensitivity(result).axes[0].texts]
    ['conv1', 'conv2']
    """
    metric, names, values = _checked(result, metric, layers)
    baseline = float(result.baseline[metric])
    ratios = np.asarray(result.ratios, float)
    whole, axes = canvas.figure_and_axes(8.5, 4.8)
    strengths = [_largest(np.abs(row - baseline)) for row in values]
    _draw(whole, axes, names, [ratios] * len(names), values, strengths)
    axes.axhline(baseline, color="0.4", linestyle="--", linewidth=1, label="baseline", zorder=1)
    canvas.tick_in_percent(axes.xaxis, ratios)
    if "acc" in metric.lower():
        canvas.tick_in_percent(axes.yaxis, [*values.ravel(), baseline])
    axes.set_xlabel("filters removed from the layer")
    axes.set_ylabel(canvas.shorten(metric), parse_math=False)
    axes.set_title(f"one layer pruned at a time (dashed: none, {baseline:.4g})", fontsize=10)
    return whole


@checked
def norms(
    model: keras.Model | Graph,
    criterion: AnyCriterion = "l2",
    data: Data | None = None,
    layers: Layers | None = None,
) -> Figure:
    """The filters of each layer, ranked by how important they are.

    Flat curves are layers whose filters matter alike, steep ones those with filters to spare.

    Channels that must go together have one curve, under the name of the first layer that creates
    them. Scores are divided by the largest of their curve.

    Args:
        model: a Keras model or its `Graph`.
        criterion: how important a filter is, as for `keras_iplt.plan`.
        data: what data-driven criteria look at.
        layers: layers or their names, all that can be pruned by default.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> import keras
    >>> from keras_iplt import plots
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)), keras.layers.Conv2D(16, 3, name="conv"),
    ...     keras.layers.Flatten(), keras.layers.Dense(10, name="head")])
    >>> line = plots.norms(model).axes[0].lines[0]
    >>> line.get_label(), len(line.get_ydata()), float(max(line.get_ydata()))
    ('conv', 16, 1.0)
    """
    graph, criterion = graph_for(model), get_criterion(criterion)
    chosen = _groups(graph, layers)
    found = scores(graph, criterion, data, chosen)
    ranked = [np.sort(found[group.classes])[::-1] for group in chosen]
    ranked = [values / (np.abs(values).max() or 1) for values in ranked]
    shares = [np.arange(len(values)) / max(1, len(values) - 1) for values in ranked]
    names = [_name(group) for group in chosen]
    whole, axes = canvas.figure_and_axes(8.5, 4.8)
    # What stands out are the layers that have the least important filters.
    _draw(whole, axes, names, shares, ranked, [-values.mean() for values in ranked], marker="")
    canvas.tick_in_percent(axes.xaxis, [0, 1])
    axes.set_xlabel("filters, the most important first")
    axes.set_ylabel(f"{canvas.shorten(criterion.name)}, relative to the largest", parse_math=False)
    return whole


# -- drawing ---------------------------------------------------------------------------------------


def _draw(
    whole: Figure,
    axes: Axes,
    names: list[str],
    xs: Sequence[np.ndarray],
    ys: Sequence[np.ndarray] | np.ndarray,
    strengths: Sequence[float],
    marker: str = "o",
) -> None:
    """A line per layer, labelled at its right end; of many, those that stand out."""
    many = len(names) > _FEW
    few = canvas.colour if not many and len(names) <= 6 else None
    lines = []
    for i, (name, x, y) in enumerate(zip(names, xs, ys, strict=True)):
        paint = few(i) if few else canvas.shade(i / max(1, len(names) - 1))
        lines += axes.plot(
            x, y, color=paint, label=name, linewidth=1.1 if many else 1.7,
            marker="" if many else marker, markersize=3.5, alpha=0.85,
        )  # fmt: skip
    labelled = list(range(len(names)))
    if many:
        labelled = sorted(np.argsort(strengths, kind="stable")[-6:].tolist())
        _depth_bar(whole, axes, len(names))
    _label_ends(axes, [lines[i] for i in labelled])


def _label_ends(axes: Axes, lines: Sequence[Any]) -> None:
    """Names beside the last point of each line, moved apart where they would overlap."""
    ends = []
    for line in lines:
        x, y = line.get_data()
        known = np.flatnonzero(np.isfinite(y))
        if len(known):
            ends.append((line, float(x[known[-1]]), float(y[known[-1]])))
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    heights = canvas.dodge([y for *_, y in ends], (high - low) * 0.052, low, high)
    right = max((x for _, x, _ in ends), default=1.0)
    span = right - axes.get_xlim()[0]
    for (line, x, y), height in zip(ends, heights, strict=True):
        paint = line.get_color()
        axes.plot(
            [x, right + 0.02 * span, right + 0.04 * span], [y, height, height], color=paint,
            linewidth=0.7, alpha=0.7, clip_on=False, scalex=False, scaley=False, gid="leader",
        )  # fmt: skip
        name = canvas.shorten(line.get_label(), 30)
        canvas.text(axes, right + 0.05 * span, height, name, color=paint, fontsize=9, va="center")


def _depth_bar(whole: Figure, axes: Axes, count: int) -> None:
    """What the colours mean: the first layers dark, the last ones bright."""
    colours = canvas.matplotlib("colors").ListedColormap(
        [canvas.shade(i / (count - 1)) for i in range(count)]
    )
    norm = canvas.matplotlib("colors").Normalize(1, count)
    mapped = canvas.matplotlib("cm").ScalarMappable(norm, colours)
    bar = whole.colorbar(mapped, ax=axes, location="top", shrink=0.4, aspect=35, anchor=(1, 0))
    bar.set_ticks([1, count], labels=["first layer", f"last ({count})"], fontsize=8)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)


def _largest(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return known.max() if len(known) else 0.0


# -- what is drawn ---------------------------------------------------------------------------------


def _checked(
    result: Sensitivity, metric: str | None, layers: str | Iterable[str] | None
) -> tuple[str, list[str], np.ndarray]:
    """The metric, and names and values of the layers that were asked for."""
    metric = watched(result.values, result.metric if metric is None else metric)
    values = np.asarray(result.values[metric], float)
    names = list(result.layers)
    if values.shape != (len(names), len(result.ratios)):
        raise OptionError(
            f"result: expected values of shape {(len(names), len(result.ratios))}, one row per "
            f"layer and one column per ratio, received: {values.shape}"
        )
    if layers is not None:
        chosen = [_place(names, name) for name in as_names(layers)]
        names, values = [names[i] for i in chosen], values[chosen]
    if not names:
        raise OptionError("layers: expected at least one, received: none")
    return metric, names, values


def as_names(layers: str | Iterable[str]) -> list[str]:
    """One name or several, as a list."""
    return [layers] if isinstance(layers, str) else list(layers)


def _place(names: list[str], name: str) -> int:
    if name not in names:
        close = difflib.get_close_matches(str(name), names, 3) or names[:3]
        raise OptionError(
            f"layers: expected layers that were measured, received: {name!r}. Close to it: "
            + ", ".join(map(repr, close))
        )
    return names.index(name)


def _groups(graph: Graph, layers: Layers | None) -> list[Group]:
    """The groups of these layers, each once, in the order of the graph."""
    if layers is None:
        found = set(range(len(graph.groups)))
    else:
        found = {index for key in as_list(layers) for index in groups_of(graph, key)}
    if not found:
        raise OptionError(
            "layers: expected some with channels that may be pruned, received: "
            + (f"none in model {graph.model.name!r}" if layers is None else repr(layers))
        )
    return [graph.groups[index] for index in sorted(found)]


def _name(group: Group) -> str:
    """The first layer that creates the channels, and how many more do."""
    paths = list(dict.fromkeys(p.path for p in group.producers))
    return paths[0] + (f" +{len(paths) - 1}" if len(paths) > 1 else "")
