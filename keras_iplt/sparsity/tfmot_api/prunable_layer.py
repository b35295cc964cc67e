"""Layers that say which of their weights are pruned."""

import abc
from typing import Any

__all__ = ["PrunableLayer"]


class PrunableLayer(abc.ABC):
    """Base, beside `keras.layers.Layer`, of layers of your own that can be pruned.

    Example:

    >>> import keras
    >>> class Scaled(keras.layers.Dense, PrunableLayer):
    ...     def get_prunable_weights(self):
    ...         return [self.kernel]
    """

    @abc.abstractmethod
    def get_prunable_weights(self) -> list[Any]:
        """The variables of the layer that are pruned, as a list; the layer is built."""
        raise NotImplementedError(f"{type(self).__name__} must override get_prunable_weights()")
