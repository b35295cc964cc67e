"""Clustering weights: few different numbers in place of many, which makes compressed files small.

The names are those of tensorflow-model-optimization (`tfmot.clustering.keras`), for Keras 3.

>>> import keras
>>> import numpy as np
>>> from keras_iplt import clustering
>>> model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(10, name="hidden")])
>>> clustered = clustering.cluster_weights(model, number_of_clusters=4)
>>> clustered.compile("adam", "mse")
>>> _ = clustered.fit(np.ones((4, 20)), np.ones((4, 10)), verbose=0)
>>> kernel = clustering.strip_clustering(clustered).layers[0].kernel
>>> len(np.unique(keras.ops.convert_to_numpy(kernel)))
4
"""

from keras_iplt.clustering.centroids import CentroidInitialization
from keras_iplt.clustering.cluster import cluster_scope, cluster_weights, strip_clustering
from keras_iplt.clustering.clusterable_layer import ClusterableLayer
from keras_iplt.clustering.lookup import GradientAggregation
from keras_iplt.clustering.summaries import ClusteringSummaries
from keras_iplt.clustering.wrapper import ClusterWeights

__all__ = [
    "CentroidInitialization",
    "ClusterWeights",
    "ClusterableLayer",
    "ClusteringSummaries",
    "GradientAggregation",
    "cluster_scope",
    "cluster_weights",
    "strip_clustering",
]
