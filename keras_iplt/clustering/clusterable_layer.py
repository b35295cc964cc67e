"""Which weights of a layer are clustered."""

import abc
from typing import Any

import keras

from keras_iplt.errors import OptionError
from keras_iplt.sparsity.tfmot_api.prune_registry import PruneRegistry, prunable_weights

__all__ = ["ClusterableLayer", "check_clusterable", "clusterable_weights"]


class ClusterableLayer(abc.ABC):
    """Base, beside `keras.layers.Layer`, of layers of your own that can be clustered.

    Example:

    >>> class Scaled(keras.layers.Dense, ClusterableLayer):
    ...     def get_clusterable_weights(self):
    ...         return [("kernel", self.kernel)]
    """

    @abc.abstractmethod
    def get_clusterable_weights(self) -> list[tuple[str, Any]]:
        """Pairs of a name and a variable of the layer, as a list; the layer is built."""
        raise NotImplementedError(f"{type(self).__name__} must override get_clusterable_weights()")


def check_clusterable(layer: keras.Layer) -> None:
    """Refuses layers the weights of which are not known."""
    if hasattr(layer, "get_clusterable_weights") or PruneRegistry.supports(layer):
        return
    if layer.built and not layer.trainable_weights:
        return
    raise OptionError(
        f"layer: expected one whose weights are known, or with a method get_clusterable_weights, "
        f"received: {layer!r}, which is not supported. Strip wrappers of other methods first: "
        "pruning comes before clustering, quantization after it"
    )


def clusterable_weights(layer: keras.Layer) -> list[keras.Variable]:
    """The variables of a built layer that are clustered: kernels and embeddings, of Keras's layers.

    Example:

    >>> dense = keras.layers.Dense(2)
    >>> dense.build((None, 3))
    >>> [weight.name for weight in clusterable_weights(dense)]
    ['kernel']
    """
    own = getattr(layer, "get_clusterable_weights", None)
    if own is None:
        return prunable_weights(layer)
    for _, weight in (pairs := own()):
        if not isinstance(weight, keras.Variable):
            raise OptionError(
                f"get_clusterable_weights: expected pairs of a name and a variable of layer "
                f"{layer.name!r}, received: {weight!r}"
            )
    return [weight for _, weight in pairs]
