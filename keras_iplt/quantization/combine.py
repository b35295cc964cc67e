"""Quantisation of what was pruned or clustered before: the names of `tfmot.experimental.combine`.

Schemes for `quantize_apply` and `quantize_model`.
"""

from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.slices import numbers_of
from keras_iplt.quantization.quantize import strip_clustering_cqat
from keras_iplt.quantization.quantize_config import QuantizeConfig
from keras_iplt.quantization.schemes import Default8BitQuantizeScheme
from keras_iplt.support.arguments import checked

__all__ = [
    "Default8BitClusterPreserveQuantizeScheme",
    "Default8BitPrunePreserveQuantizeScheme",
    "strip_clustering_cqat",
]


class _Keeping(Default8BitQuantizeScheme):
    """Base: the default, and something of the weights is kept where it is there to begin with."""

    keep_zeros = keep_clusters = False

    def config(
        self,
        operation: keras.Operation | None = None,
        weights: dict[str, tuple[int, ...]] | None = None,
        **how: Any,
    ) -> QuantizeConfig:
        held = [numbers_of(private.weight_called(operation, name)) for name in weights or ()]
        return super().config(
            operation,
            weights,
            keep_zeros=self.keep_zeros and any((one == 0).any() for one in held),
            keep_clusters=self.keep_clusters and any(map(_has_clusters, held)),
            **how,
        )


class Default8BitPrunePreserveQuantizeScheme(_Keeping):
    """The default, and weights that are zero stay zero in training: pruned before, as a rule.

    Example:

    >>> import keras_iplt as iplt
    >>> from keras_iplt import quantization
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="head")])
    >>> _ = iplt.sparsity.prune_weights(model, 0.5)
    >>> annotated = quantization.quantize_annotate_model(model)
    >>> quantized = quantization.quantize_apply(annotated, Default8BitPrunePreserveQuantizeScheme())
    >>> quantized.compile("adam", "mse")
    >>> _ = quantized.fit(np.ones((4, 8)), np.ones((4, 4)), verbose=0)
    >>> iplt.sparsity.measure(quantization.strip_quantization(quantized)).sparsity
    0.5
    """

    keep_zeros = True


class Default8BitClusterPreserveQuantizeScheme(_Keeping):
    """The default, and weights that are equal stay equal in training: clustered before.

    Each kernel half of the weights of which, at least, repeat others counts as clustered.

    Args:
        preserve_sparsity: whether weights that are zero stay zero, too.

    Example:

    >>> from keras_iplt import clustering, quantization
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="head")])
    >>> model = clustering.strip_clustering(clustering.cluster_weights(model, 3))
    >>> scheme = Default8BitClusterPreserveQuantizeScheme()
    >>> quantized = quantization.quantize_model(model, scheme=scheme)
    >>> quantized.compile("adam", "mse")
    >>> _ = quantized.fit(np.ones((4, 8)), np.ones((4, 4)), verbose=0)
    >>> stripped = quantization.strip_quantization(quantized)
    >>> len(np.unique(stripped.get_layer("head").get_weights()[0]))
    3
    """

    keep_clusters = True

    @checked
    def __init__(self, preserve_sparsity: bool = True) -> None:
        super().__init__()
        object.__setattr__(self, "keep_zeros", preserve_sparsity)


def _has_clusters(weights: np.ndarray) -> bool:
    return 2 * len(np.unique(weights)) <= weights.size
