"""The filters of a convolution as images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import OptionError
from keras_iplt.graph.slices import numbers_of
from keras_iplt.planning.plan import Plan, bound
from keras_iplt.plots import canvas
from keras_iplt.support.arguments import checked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["kernels"]

_GONE = "#d62728"


@checked
def kernels(
    model: keras.Model,
    layer: keras.Layer | str | None = None,
    after: keras.Model | Plan | None = None,
) -> Figure:
    """What the filters of a convolution look like, and which of them went.

    Filters of three input channels are drawn in colour, others as the mean over their inputs. Grey
    is zero; each filter has a contrast of its own.

    Args:
        model: a Keras model.
        layer: a `Conv2D` or its name; by default, the first one of the model.
        after: the pruned model, or the `Plan` that it was pruned by: filters that went are crossed
            out. In a model that was trained after pruning, filters are recognised by what they
            look like, which is a guess.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> import keras
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)), keras.layers.Conv2D(16, 3, name="conv"),
    ...     keras.layers.Flatten(), keras.layers.Dense(10, name="head")])
    >>> figure = iplt.plots.kernels(model, after=iplt.plan(model, 0.25))
    >>> len(figure.axes), figure.get_suptitle()
    (16, 'conv: 12 of 16 filters stay')
    """
    path, convolution = _convolution(model, layer)
    kernel = np.asarray(numbers_of(convolution.kernel), np.float32)
    stay = _staying(model, path, convolution, kernel, after)
    count = kernel.shape[-1]
    columns = min(count, 16 if count > 32 else 8)
    rows = -(-count // columns)
    cell = 0.55 if columns == 16 else 0.85
    whole = canvas.figure(max(4.0, cell * columns), cell * rows + 0.55)
    for index in range(count):
        axes = whole.add_subplot(rows, columns, index + 1)
        axes.set_axis_off()
        gone = not stay[index]
        axes.imshow(
            _image(kernel[..., index]), cmap="gray", vmin=0, vmax=1, alpha=0.35 if gone else 1
        )
        if gone:
            ends = ([0, 1], [0, 1]), ([0, 1], [1, 0])
            for x, y in ends:
                axes.plot(x, y, color=_GONE, linewidth=1.5, transform=axes.transAxes)
    engine: Any = whole.get_layout_engine()  # that of constrained layouts
    engine.set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    said = f"{stay.sum()} of {count} filters stay" if after is not None else f"{count} filters"
    how = "" if kernel.shape[2] in (1, 3) else f", mean over {kernel.shape[2]} inputs"
    whole.suptitle(f"{canvas.shorten(path)}: {said}{how}", fontsize=10, parse_math=False)
    return whole


def _image(weights: np.ndarray) -> np.ndarray:
    """One filter between 0 and 1, with zero in the middle."""
    if weights.shape[2] != 3:
        weights = weights.mean(axis=2, keepdims=True)
    image = 0.5 + weights / (2 * (np.abs(weights).max() or 1))
    return image if image.shape[2] == 3 else image[..., 0]


# -- which convolution -----------------------------------------------------------------------------


def _convolutions(model: keras.Model, around: str = "") -> Iterator[tuple[str, keras.Layer]]:
    """`(path, layer)` of every Conv2D, in the order of the graph where there is one."""
    function = private.function_of(model)
    inside = private.sublayers(model) if function is None else [
        node.operation for node in private.nodes(function)
    ]  # fmt: skip
    for one in inside:
        if isinstance(one, keras.Model):
            yield from _convolutions(one, f"{around}{one.name}/")
        elif isinstance(one, keras.layers.Conv2D) and one.built:
            yield f"{around}{one.name}", one


def _convolution(model: keras.Model, layer: keras.Layer | str | None) -> tuple[str, keras.Layer]:
    """The convolution that was asked for, and its path."""
    found = list(_convolutions(model))
    for path, one in found:
        if layer is None or layer is one or layer in (path, one.name):
            return path, one
    known = ", ".join(repr(path) for path, _ in found[:3]) or "none"
    raise OptionError(
        f"layer: expected a Conv2D of model {model.name!r} ({known}{' …' * (len(found) > 3)}), "
        f"received: {layer if isinstance(layer, str) else getattr(layer, 'name', layer)!r}"
    )


# -- which of its filters stayed -------------------------------------------------------------------


def _staying(
    model: keras.Model,
    path: str,
    convolution: keras.Layer,
    kernel: np.ndarray,
    after: keras.Model | Plan | None,
) -> np.ndarray:
    """A mask over the filters: those that stay."""
    count = kernel.shape[-1]
    if after is None:
        return np.ones(count, bool)
    if isinstance(after, Plan):
        kept = bound(after, model).kept(convolution.kernel)[-1]
        return np.ones(count, bool) if kept is None else np.isin(np.arange(count), kept)
    _, other = _convolution(after, path if "/" in path else convolution.name)
    new = np.asarray(numbers_of(other.kernel), np.float32)
    if new.shape == kernel.shape:  # a mask, or nothing went
        alive, was = np.any(new, axis=(0, 1, 2)), np.any(kernel, axis=(0, 1, 2))
        return np.logical_or(alive, np.logical_not(was))
    if new.shape[:-1] != kernel.shape[:-1] or new.shape[-1] > count:
        raise OptionError(
            f"after: expected a pruned version of layer {path!r} that has all of its inputs "
            f"(else a Plan), received: a kernel of shape {new.shape}, which was {kernel.shape}"
        )
    return _matched(kernel.reshape(-1, count), new.reshape(-1, new.shape[-1]))


def _matched(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Which columns of `old` became those of `new`.
    As pruning keeps their order: the choice in this order whose directions agree best."""
    old, new = (x / np.maximum(np.linalg.norm(x, axis=0), 1e-12) for x in (old, new))
    alike = old.T @ new
    n, m = alike.shape
    best = np.full((n + 1, m + 1), -np.inf)
    best[:, 0] = 0
    for i in range(n):
        best[i + 1, 1:] = np.maximum(best[i, 1:], best[i, :-1] + alike[i])
    stay = np.zeros(n, bool)
    while m:
        n -= 1
        if best[n + 1, m] != best[n, m]:
            stay[n] = True
            m -= 1
    return stay
