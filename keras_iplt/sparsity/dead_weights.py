"""From zeros to a smaller model: what single weights left behind goes physically."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_iplt.graph.channels import Graph
from keras_iplt.graph.trace import trace
from keras_iplt.support.arguments import Data, checked
from keras_iplt.surgery.dead_channels import (
    plan_without,
    silent_channels,
    unused_channels,
    zero_channels,
)
from keras_iplt.surgery.rewriting import rewrite

__all__ = ["remove_dead"]


@checked
def remove_dead(model: keras.Model, data: Data | None = None) -> keras.Model:
    """A smaller model without the channels that died when single weights were pruned.

    A channel that nothing multiplies with anything but zero is not needed, and goes; what only fed
    such channels goes next, until nothing is left to remove. The outputs stay the same.

    A filter whose weights are all zero creates a constant, which its bias and the normalisation
    behind it need not make zero. With `data` such filters go too, and the constant, as measured,
    is added to the biases of later layers: exact before dense layers and convolutions without
    padding, an approximation at the borders of images with it.

    Args:
        model: any model that `keras_iplt.trace` can read, wrappers of `prune_low_magnitude`
            stripped; it stays as it is.
        data: images or batches of them, as for `keras_iplt.rewrite(compensate=)`, or None.

    Returns:
        A new model.

    Example:

    >>> import keras
    >>> from keras_iplt import sparsity
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(2)])
    >>> kernel = keras.ops.convert_to_numpy(model.layers[1].kernel).copy()
    >>> kernel[[0, 3]] = 0  # nothing reads two of the six
    >>> _ = model.layers[1].kernel.assign(kernel)
    >>> sparsity.remove_dead(model).layers[0].units
    4
    """
    small = _without(model, lambda graph: unused_channels(graph) | zero_channels(graph))
    if data is not None:
        small = _without(small, silent_channels, data, made=True)
        small = _without(
            small, lambda graph: unused_channels(graph) | zero_channels(graph), made=True
        )
    return small


def _without(
    model: keras.Model, find: Callable[[Graph], np.ndarray], data: Any = None, made: bool = False
) -> keras.Model:
    """Removes what is found until nothing more is.

    Of a model that was `made` here there may be nothing left that may go."""
    while True:
        graph = trace(model)
        if made and not any(group.filters.any() for group in graph.groups):
            return model
        plan = plan_without(graph, find(graph))
        small = rewrite(model, plan, compensate=data)
        if not any(plan.removed):
            return small
        model, made = small, True
