"""What a search for the smallest model tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np

from keras_iplt.analysis.searching import Smallest
from keras_iplt.errors import OptionError
from keras_iplt.plots import canvas
from keras_iplt.support.arguments import checked, one_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["smallest"]

_COSTS = {"params": "parameters left", "flops": "FLOPs left"}


@checked
def smallest(result: Smallest, cost: Annotated[str, one_of(*_COSTS)] = "params") -> Figure:
    """What each size costs: the metric of every model that was tried, and of the one taken.

    Args:
        result: what `keras_iplt.smallest` returned.
        cost: `"params"` or `"flops"`.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> import keras_iplt as iplt
    >>> from keras_iplt.analysis.searching import Tried
    >>> tried = tuple(
    ...     Tried(share=1 - n / 400, params=n, flops=None, value=value, good=value > 0.9, seconds=1)
    ...     for n, value in ((400, 0.92), (200, 0.91), (100, 0.85)))
    >>> result = iplt.Smallest(None, None, "params", "accuracy", 0.01, tried, complete=True)
    >>> figure = iplt.plots.smallest(result)
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['good enough', 'too bad', 'taken']
    """
    tried = sorted(result.tried, key=lambda one: getattr(one, cost) or 0)
    costs = [getattr(one, cost) for one in tried]
    if None in costs:
        raise OptionError("cost: expected 'params', as FLOPs are not known, received: 'flops'")
    values = np.array([one.value for one in tried], float)
    good = np.array([one.good for one in tried])
    whole, axes = canvas.figure_and_axes(7.5, 4.6)
    axes.plot(costs, values, color=canvas.colour(0), linewidth=1.2, alpha=0.6)
    handles, names = [], []
    for name, where, paint in (("good enough", good, canvas.colour(0)), ("too bad", ~good, "none")):
        if where.any():
            handles.append(axes.scatter(
                np.array(costs)[where], values[where], facecolor=paint, edgecolor=canvas.colour(0),
                zorder=3,
            ))  # fmt: skip
            names.append(name)
    handles.append(axes.scatter(
        [getattr(result.best, cost)], [result.best.value], s=160, facecolor="none",
        edgecolor=canvas.colour(1), linewidth=1.8, zorder=4,
    ))  # fmt: skip
    names.append("taken")
    axes.axhline(result.least, color="0.4", linestyle="--", linewidth=1, zorder=1)
    if max(costs) >= 10_000:
        axes.xaxis.set_major_formatter(canvas.matplotlib("ticker").EngFormatter(sep=" "))
    if "acc" in result.metric.lower():
        canvas.tick_in_percent(axes.yaxis, values)
    axes.set_xlabel(_COSTS[cost])
    axes.set_ylabel(canvas.shorten(result.metric), parse_math=False)
    canvas.legend(axes, handles, names, fontsize=9)
    return whole
