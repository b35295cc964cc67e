"""Wrapping layers and models, and taking the wrappers off."""

import contextlib
import warnings
from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.clustering.centroids import CentroidInitialization
from keras_iplt.clustering.clusterable_layer import clusterable_weights
from keras_iplt.clustering.wrapper import Clusters, ClusterWeights
from keras_iplt.graph.cloning import cloned, wrapped
from keras_iplt.graph.recreate import with_values
from keras_iplt.support.arguments import checked

__all__ = ["cluster_scope", "cluster_weights", "strip_clustering"]


@checked
def cluster_weights(
    to_cluster: Any,
    number_of_clusters: Clusters,
    cluster_centroids_init: Any = CentroidInitialization.KMEANS_PLUS_PLUS,
    preserve_sparsity: bool = False,
    cluster_per_channel: bool = False,
    **kwargs: Any,
) -> Any:
    """Wraps a layer, or those of a model: each weight tensor has so many different values.

    The model should be trained already: the first centroids are found from its weights. A few
    epochs at a low rate then give back most of what that cost.

    Args:
        to_cluster: a Functional or Sequential model, a layer, or a list of layers. It stays as it
            is; what is returned is made of the same layers, with the same weights.
        number_of_clusters: how many values each weight tensor has. Layers of a model that have no
            more weights than that stay as they are, with a warning.
        cluster_centroids_init: a `CentroidInitialization`: where centroids lie at first.
        preserve_sparsity: whether weights that are zero stay zero.
        cluster_per_channel: whether each output channel of a Conv2D has centroids of its own.
        **kwargs: of the wrapper, where `to_cluster` is a layer: `cluster_gradient_aggregation`, or
            what Keras takes.

    Returns:
        A model (uncompiled), a layer or a list. Layers that are wrapped already are left so.

    Raises:
        ValueError: a layer is not supported: neither one of Keras's that is known nor one with a
            method `get_clusterable_weights`.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
    >>> clustered = cluster_weights(model, 3, CentroidInitialization.LINEAR)
    >>> [layer.name for layer in clustered.layers]
    ['cluster_head']
    """
    options = {
        "number_of_clusters": number_of_clusters,
        "cluster_centroids_init": cluster_centroids_init,
        "preserve_sparsity": preserve_sparsity,
        "cluster_per_channel": cluster_per_channel,
    }

    def wrap(layer: keras.Layer, **more: Any) -> ClusterWeights:
        if isinstance(layer, ClusterWeights):
            return layer
        return ClusterWeights(layer, **options, **more)

    def wrap_if_enough(layer: keras.Layer) -> keras.Layer:
        wrapper = wrap(layer)
        if wrapper is layer or not layer.built:
            return wrapper
        if all(map(wrapper.has_enough, clusterable_weights(layer))):
            return wrapper
        warnings.warn(
            f"layer {layer.name!r} stays as it is: it has no more weights"
            f"{' per channel' if wrapper.cluster_per_channel else ''} than {number_of_clusters} "
            "clusters",
            stacklevel=2,
        )
        return layer

    return wrapped(
        to_cluster, wrap, wrap_if_enough, kwargs,
        "to_cluster: expected a Functional or Sequential model, a layer or a list of layers "
        "(subclassed models are not supported currently), received: an object of type ",
    )  # fmt: skip


@checked
def strip_clustering(model: keras.Model) -> keras.Model:
    """The model without its wrappers, and with the values that its weights were given by them.

    Args:
        model: a Functional or Sequential model with `ClusterWeights` layers. It stays as it is, and
            so do its layers: those that were wrapped are copied.

    Returns:
        A model, uncompiled, of the architecture that there was before wrapping.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
    >>> strip_clustering(cluster_weights(model, 3)).get_config() == model.get_config()
    True
    """
    return cloned(model, _bare)


def cluster_scope() -> contextlib.AbstractContextManager[Any]:
    """A scope in which models with wrapped layers are loaded, in whatever format they were saved.
    Importing `keras_iplt` is enough for what this version saves.

    Returns:
        A context manager.

    Example:

    >>> model = cluster_weights(keras.Sequential([keras.layers.Dense(2, name="head")]), 3)
    >>> with cluster_scope():
    ...     again = keras.models.model_from_json(model.to_json())
    >>> again.layers[0].name
    'cluster_head'
    """
    return keras.saving.custom_object_scope({"ClusterWeights": ClusterWeights})


def _bare(operation: keras.Operation) -> keras.Operation:
    """A layer without wrapper, with clustered weights."""
    if not isinstance(operation, keras.Layer):
        return private.copied(operation)
    if not isinstance(operation, ClusterWeights):
        return operation
    return with_values(operation.layer, operation.clustered())
