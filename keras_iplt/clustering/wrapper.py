"""A layer around a layer that computes with few different weights."""

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import keras
import numpy as np
from keras import ops

from keras_iplt import _keras as private
from keras_iplt.clustering.centroids import CentroidInitialization, first_centroids
from keras_iplt.clustering.clusterable_layer import check_clusterable, clusterable_weights
from keras_iplt.clustering.lookup import GradientAggregation, looked_up
from keras_iplt.criteria.filters import check_finite
from keras_iplt.errors import OptionError
from keras_iplt.graph.slices import numbers_of
from keras_iplt.support.arguments import Kind, checked
from keras_iplt.support.around import Around
from keras_iplt.support.other_values import other_values

__all__ = ["Clusters", "ClusterWeights", "as_enum"]

Clusters = Annotated[int, Kind("an integer from 2", lambda n: n >= 2)]


@keras.saving.register_keras_serializable("keras_iplt")
class ClusterWeights(Around):
    """A layer that computes with as many different weights as there are clusters.

    Each weight counts as the centroid that is closest to it when the layer is called. Training
    moves both: a centroid by the gradients of all its weights, each weight by its own, which may
    take it to another centroid.

    Args:
        layer: a layer of Keras, or one with a method `get_clusterable_weights`; built, with the
            weights that it was trained to, or not.
        number_of_clusters: how many values each weight tensor has; at least 2, or 3 with zero.
        cluster_centroids_init: a `CentroidInitialization`.
        preserve_sparsity: whether weights that are zero stay zero: one centroid is zero and stays.
        cluster_per_channel: whether each output channel of a Conv2D has centroids of its own.
        cluster_gradient_aggregation: a `GradientAggregation`.
        **kwargs: of the Keras layer. It is called "cluster_" and the name of the layer by default.

    Example:

    >>> dense = keras.layers.Dense(2, name="head")
    >>> dense.build((None, 2))
    >>> dense.set_weights([np.array([[1.0, 0.9], [0.1, 0.0]]), np.zeros(2)])
    >>> wrapper = ClusterWeights(dense, number_of_clusters=2)
    >>> wrapper.build((None, 2))
    >>> wrapper.name, ops.convert_to_numpy(wrapper(np.ones((1, 2)))).tolist()
    ('cluster_head', [[1.0, 1.0]])
    """

    comes_off = True

    @checked
    def __init__(
        self,
        layer: keras.Layer,
        number_of_clusters: Clusters,
        cluster_centroids_init: Any = CentroidInitialization.KMEANS_PLUS_PLUS,
        preserve_sparsity: bool = False,
        cluster_per_channel: bool = False,
        cluster_gradient_aggregation: Any = GradientAggregation.SUM,
        **kwargs: Any,
    ) -> None:
        check_clusterable(layer)
        kwargs.setdefault("name", f"cluster_{layer.name}")
        super().__init__(layer, **kwargs)
        if preserve_sparsity and number_of_clusters < 3:
            raise OptionError(
                "number_of_clusters: expected an integer from 3 with preserve_sparsity, since one "
                f"is zero, received: {number_of_clusters}"
            )
        self.number_of_clusters = number_of_clusters
        self.cluster_centroids_init = as_enum(
            "cluster_centroids_init", CentroidInitialization, cluster_centroids_init
        )
        self.cluster_gradient_aggregation = as_enum(
            "cluster_gradient_aggregation", GradientAggregation, cluster_gradient_aggregation
        )
        self.preserve_sparsity = preserve_sparsity
        self.cluster_per_channel = cluster_per_channel and isinstance(layer, keras.layers.Conv2D)
        # For each clustered weight; masks only where zeros are preserved.
        self._centroids: list[Any] = []
        self._centroid_masks: list[Any] = []
        self._weight_masks: list[Any] = []

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        for i, weight in enumerate(clusterable_weights(self.layer)):
            self._check_size(weight)
            number = f"_{i}" if i else ""
            add = functools.partial(self.add_weight, dtype=private.stored_dtype(weight))
            shape: tuple[int, ...] = (self.number_of_clusters,)
            if self.cluster_per_channel:
                shape = (weight.shape[-1], *shape)
            found = add(shape, self._first(weight), name=f"cluster_centroids{number}")
            self._centroids.append(found)
            if self.preserve_sparsity:
                add = functools.partial(add, dtype="bool", trainable=False)
                stays = _of(found, lambda x: x != 0)
                self._centroid_masks.append(add(shape, stays, name=f"centroid_mask{number}"))
                stays = _of(weight, lambda x: x != 0)
                self._weight_masks.append(add(weight.shape, stays, name=f"sparsity_mask{number}"))

    def _check_size(self, weight: keras.Variable) -> None:
        if not self.has_enough(weight):
            raise OptionError(
                f"number_of_clusters: expected fewer than there are weights in {weight.path!r} of "
                f"shape {tuple(weight.shape)}{' per channel' if self.cluster_per_channel else ''}, "
                f"received: {self.number_of_clusters}"
            )

    def has_enough(self, weight: keras.Variable) -> bool:
        """Whether a variable holds more weights than there are clusters."""
        size = int(np.prod(weight.shape[:-1] if self.cluster_per_channel else weight.shape))
        return size > self.number_of_clusters

    def _first(self, weight: keras.Variable) -> Callable[..., Any]:
        """An initializer: what the weight is may only be known when variables are made."""

        def centroids(shape: Any, dtype: Any = None) -> Any:
            value = self._numbers_of(weight)
            if not np.isfinite(value).all():
                check_finite(value, weight, weight.path)
            channels = np.moveaxis(value, -1, 0) if self.cluster_per_channel else value[None]
            found = [
                first_centroids(
                    channel,
                    self.number_of_clusters,
                    self.cluster_centroids_init,
                    self.preserve_sparsity,
                )
                for channel in channels
            ]
            return ops.convert_to_tensor(np.reshape(np.stack(found), shape), dtype)

        return centroids

    def _numbers_of(self, weight: keras.Variable) -> np.ndarray:
        try:
            return numbers_of(weight)
        except Exception as error:  # each backend has its own for a tensor without numbers
            raise OptionError(
                f"layer {self.layer.name!r}: expected weights, which centroids are found from, "
                "received: none yet, since the model is built while it is traced. Call it on a "
                "batch before you compile it, or begin it with keras.Input"
            ) from error

    def call(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        if not self._centroids:
            return super().call(*args, training=training, **kwargs)
        with other_values(self, self.clustered()):
            return super().call(*args, training=training, **kwargs)

    def clustered(self) -> list[tuple[keras.Variable, Any]]:
        """Each variable that is clustered, and the values that the layer computes with."""
        weights = clusterable_weights(self.layer) if self._centroids else []
        found = []
        with private.without_autocast():
            for i, (weight, centroids) in enumerate(zip(weights, self._centroids, strict=True)):
                values, of = weight.value, centroids.value
                if self.preserve_sparsity:
                    values = values * ops.cast(self._weight_masks[i], values.dtype)
                    of = of * ops.cast(self._centroid_masks[i], of.dtype)
                found.append((weight, looked_up(values, of, self.cluster_gradient_aggregation)))
        return found

    # -- saving --

    def get_weights(self) -> list[np.ndarray]:
        return self.layer.get_weights()

    def set_weights(self, weights: Sequence[Any]) -> None:
        self.layer.set_weights(weights)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "number_of_clusters": self.number_of_clusters,
            "cluster_centroids_init": self.cluster_centroids_init.value,
            "preserve_sparsity": self.preserve_sparsity,
            "cluster_per_channel": self.cluster_per_channel,
            "cluster_gradient_aggregation": self.cluster_gradient_aggregation.value,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "ClusterWeights":
        layer = keras.saving.deserialize_keras_object(config["layer"], custom_objects)
        return cls(**{**config, "layer": layer})


def as_enum(name: str, kind: Any, value: Any) -> Any:
    """A member of an enumeration, given as it is or as it is written in files."""
    try:
        return kind(value)
    except ValueError:
        raise OptionError(
            f"{name}: expected {' | '.join(map(str, kind.__members__))} of {kind.__name__}, "
            f"received: {value!r}"
        ) from None


def _of(variable: keras.Variable, function: Callable[[np.ndarray], np.ndarray]) -> Any:
    """An initializer: a function of what a variable made before holds."""

    def values(shape: Any, dtype: Any = None) -> Any:
        return ops.convert_to_tensor(function(numbers_of(variable)), dtype)

    return values
