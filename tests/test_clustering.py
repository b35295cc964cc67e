"""tfmot's clustering on Keras 3: few different weights, and what becomes of them in training."""

import gzip

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.training import BACKEND

import keras_iplt as iplt
from keras_iplt import clustering
from keras_iplt.clustering import CentroidInitialization, GradientAggregation

R = np.random.default_rng(0)
X, Y = R.normal(size=(32, 8, 8, 3)).astype("float32"), R.integers(0, 4, 32)
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="needs TensorFlow")


def net():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, use_bias=False, activity_regularizer=keras.regularizers.L2(0.1))(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    inner = keras.Sequential(
        [keras.Input((6, 6, 16)), layers.SeparableConv2D(16, 3), layers.GlobalAveragePooling2D(),
         layers.Reshape((4, 4)), layers.SimpleRNN(4, dropout=0.2)]
    )  # fmt: skip
    return keras.Model(image, layers.Dense(4, name="head")(ops.multiply(inner(x), 2.0)))


def trained(model, epochs=1, **options):
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", **options)
    return model.fit(X, Y, epochs=epochs, verbose=0).history["loss"]


def kernels(model):
    return [
        np.array(ops.convert_to_numpy(w))
        for w in model.weights
        if len(w.shape) > 1 and 1 not in w.shape
    ]


def differ(array):
    return len(np.unique(array))


@pytest.mark.any_backend
def test_what_is_trained_is_what_is_stripped(tmp_path):
    """Few values while it trains and after, zeros where there were, all else as in any training;
    saved and loaded, too."""
    model = net()
    iplt.sparsity.prune_weights(model, 0.5)
    before = kernels(model)
    options = dict(preserve_sparsity=True, cluster_per_channel=True)
    clustered = clustering.cluster_weights(model, 6, **options)
    (seed,) = [v for v in clustered.variables if "seed" in v.path]
    held = np.array(ops.convert_to_numpy(seed))
    losses = trained(clustered, 3)
    assert losses[-1] < losses[0]
    on_torch = keras.backend.backend() == "torch"
    if not on_torch:  # which draws without Keras's seeds
        assert not np.array_equal(held, seed)  # what a layer keeps goes out of its wrapper
    assert len(clustered(X[:2], training=True)) == 2 and clustered.losses[0] > 0

    stripped = clustering.strip_clustering(clustered)
    assert stripped.get_config() == model.get_config()
    outputs = clustered.predict(X, verbose=0)
    apart = np.abs(stripped.predict(X, verbose=0) - outputs).max()
    assert apart <= (1e-6 if on_torch else 0)  # which adds up in another order each time
    convolution, *_, head = kernels(stripped)
    channels = [convolution[..., i] for i in range(16)]
    assert all(differ(one) <= 6 for one in [*channels, head]) and differ(convolution) > 30
    moved = [not np.array_equal(a, b) for a, b in zip(before, kernels(model), strict=True)]
    assert all(moved)
    assert all((a[b == 0] == 0).all() for a, b in zip(kernels(stripped), before, strict=True))

    clustered.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert np.array_equal(again.predict(X, verbose=0), outputs)
    assert again.count_params() == clustered.count_params()


@pytest.mark.any_backend
@pytest.mark.parametrize("aggregation", GradientAggregation)
def test_where_gradients_go(aggregation):
    """To each weight its own, as if nothing was rounded; to centroids those of their weights."""
    dense = layers.Dense(3, use_bias=False)
    dense.build((None, 2))
    kernel = np.array([[0, 1, 0.1], [0.9, 0.2, 0.3]], "float32")
    dense.set_weights([kernel])
    wrapper = clustering.cluster_weights(dense, 2, cluster_gradient_aggregation=aggregation)
    model = keras.Sequential([keras.Input((2,)), wrapper])
    model.compile(keras.optimizers.SGD(1.0), lambda y, found: ops.sum(found * y))
    of_outputs, x = np.array([[1, 2, 3]], "float32"), np.array([[1, 10]], "float32")
    (centroids,) = [v for v in wrapper.trainable_variables if v is not dense.kernel]
    first = np.array(ops.convert_to_numpy(centroids))
    assert np.allclose(np.sort(first), [0.15, 0.95])
    model.train_on_batch(x, of_outputs)
    gradient = x.T @ of_outputs
    assert np.allclose(kernel - dense.get_weights()[0], gradient, atol=1e-5)
    large = kernel > 0.5
    mean = aggregation is GradientAggregation.AVG
    wanted = [gradient[m].mean() if mean else gradient[m].sum() for m in (~large, large)]
    assert np.allclose((first - ops.convert_to_numpy(centroids))[np.argsort(first)], wanted)


def test_first_centroids():
    """By each way, and around a zero."""
    weights, how = R.normal(size=(50, 20)), CentroidInitialization
    found = {way: clustering.centroids.first_centroids(weights, 8, way) for way in how}
    assert np.allclose(np.diff(found[how.LINEAR]), np.ptp(weights) / 7)
    assert found[how.RANDOM].min() > weights.min() and found[how.RANDOM].max() < weights.max()
    shares = [(weights < x).mean() for x in found[how.DENSITY_BASED]]
    assert np.allclose(np.diff(shares), 0.99 / 7, atol=0.01)

    def error(centroids):
        return np.square(np.abs(weights[..., None] - centroids).min(-1)).mean()

    assert min(found, key=lambda way: error(found[way])) is how.KMEANS_PLUS_PLUS
    assert error(found[how.KMEANS_PLUS_PLUS]) < 0.05  # Lloyd-Max for a normal distribution: 0.0345
    few = clustering.centroids.first_centroids(np.array([0.0, 1, 1]), 5, how.KMEANS_PLUS_PLUS)
    assert len(few) == 5 and set(few) == {0, 1}
    for way in how:
        signs = np.sign(clustering.centroids.first_centroids(weights, 8, way, with_zero=True))
        assert sorted({*signs}) == [-1, 0, 1] and (signs == 0).sum() == 1
        assert (clustering.centroids.first_centroids(np.zeros(9), 3, way, True) == 0).all()


@pytest.mark.slow
def test_layers_and_lists_as_tfmot_takes_them():
    """Recurrent and attention layers, own ones, unbuilt ones; wrapped ones stay."""

    class Own(layers.Layer, clustering.ClusterableLayer):
        def build(self, shape):
            self.table = self.add_weight((5, 4), "normal", name="table")

        def call(self, x):
            return x @ ops.transpose(self.table)

        def get_clusterable_weights(self):
            return [("table", self.table)]

    several = [layers.Bidirectional(layers.SimpleRNN(2)), Own()]
    several = clustering.cluster_weights(several, 3)
    assert clustering.cluster_weights(several, 3) == several
    model = keras.Sequential([keras.Input((3, 4)), *several])
    model.compile("adam", "mse")
    model.fit(X[:, 0, :3, :1] * np.ones(4), np.ones((32, 5)), verbose=0)
    assert [differ(w) for w in kernels(clustering.strip_clustering(model))] == [3] * 5
    image, few = keras.Input((8, 8, 1)), layers.Conv2D(1, 2, name="few")
    with pytest.warns(UserWarning, match="'few' stays as it is: it has no more weights than 4"):
        clustered = clustering.cluster_weights(keras.Model(image, few(image)), 4)
    assert clustered.layers[-1] is few


def test_what_cannot_be_clustered():
    """Says what was expected."""
    dense = layers.Dense(3)
    dense.build((None, 2))

    class Unknown(layers.Dense):
        pass

    class Sub(keras.Model):
        pass

    def refused(message, *arguments, **options):
        with pytest.raises((iplt.errors.OptionError, iplt.errors.WeightsError), match=message):
            clustering.cluster_weights(*arguments, **options)

    refused("number_of_clusters: expected an integer from 2, received: 1", dense, 1)
    refused("integer from 3 with preserve_sparsity", dense, 2, preserve_sparsity=True)
    refused("LINEAR | RANDOM", dense, 2, "linear")
    refused("no keywords but those", [dense], 2, name="x")
    refused("a Functional or Sequential model, a layer", Sub(), 2)
    unbuilt = clustering.cluster_weights(keras.Sequential([layers.Dense(3), layers.Dense(3)]), 2)
    unbuilt.compile("sgd", "mse")
    with pytest.raises(iplt.errors.OptionError, match=r"begin it with keras\.Input"):
        unbuilt.fit(X[:, 0, 0], X[:, 0, 0], verbose=0)
    refused("which is not supported", iplt.sparsity.prune_low_magnitude(layers.Dense(3)), 2)
    own = Unknown(3)
    own.build((None, 2))
    refused("get_clusterable_weights", own, 2)
    with pytest.raises(iplt.errors.OptionError, match="which is not supported"):
        clustering.ClusterWeights(clustering.ClusterWeights(dense, 2), 2)
    with pytest.raises(iplt.errors.OptionError, match=r"fewer than there are weights .*\(2, 3\)"):
        clustering.cluster_weights(dense, 6)(X[:, 0, 0, :2])
    dense.set_weights([np.full((2, 3), np.nan), np.zeros(3)])
    with pytest.raises(iplt.errors.WeightsError, match="NaN"):
        clustering.cluster_weights(dense, 2)(X[:, 0, 0, :2])


@on_tensorflow
def test_files_of_stripped_models_are_smaller_when_compressed(tmp_path):
    """As .tflite they are written and checked as any model is."""
    model = keras.Sequential([keras.Input((64,)), layers.Dense(200, "relu"), layers.Dense(100)])
    stripped = clustering.strip_clustering(clustering.cluster_weights(model, 16))
    whole, small = (
        iplt.export(one, tmp_path / f"{name}.tflite")
        for name, one in (("whole", model), ("small", stripped))
    )
    assert small.size == pytest.approx(whole.size, rel=0.001) and small.gzip < 0.25 * whole.gzip
    assert iplt.sparsity.compressed_size(tmp_path / "small.tflite").gzip == small.gzip
    assert len(gzip.compress((tmp_path / "small.tflite").read_bytes(), 6)) == small.gzip


@on_tensorflow
def test_summaries(tmp_path):
    """Histograms of weights and centroids."""
    import tensorflow as tf

    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="head")])
    callback = clustering.ClusteringSummaries(tmp_path)
    callback.set_model(clustering.cluster_weights(model, 3))
    callback.on_epoch_end(0)  # `fit` would want TensorBoard itself
    (path,) = (tmp_path / "metrics").iterdir()
    events = tf.compat.v1.train.summary_iterator(str(path))
    found = {x.tag: tf.make_ndarray(x.tensor) for event in events for x in event.summary.value}
    by_name = {tag.rpartition("/")[2]: values for tag, values in found.items()}
    assert sorted(by_name) == ["bias", "cluster_centroids", "kernel"]
    kernel = by_name["kernel"]
    assert kernel.shape == (30, 3) and kernel[:, 2].sum() == 12
