"""Quantisation of what was pruned and clustered before: zeros and clusters stay in training."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.training import BACKEND

from keras_iplt import quantization
from keras_iplt.quantization import combine
from keras_iplt.quantization.fake import together

on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="slow to compile elsewhere")
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(64, 8, 8, 2)).astype("float32"), RANDOM.integers(0, 4, 64)


def kernels(model):
    return {w.path: ops.convert_to_numpy(w) for w in model.weights if w.name == "kernel"}


def sparse_and_clustered():
    """A model the kernels of which hold five values, zero among them."""
    image = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, use_bias=False, name="conv")(image)
    x = layers.Flatten()(layers.ReLU()(layers.BatchNormalization()(x)))
    model = keras.Model(image, layers.Dense(4, activation="softmax", name="head")(x))
    for weight in model.weights:
        if weight.name == "kernel":
            weight.assign(RANDOM.choice([-0.2, -0.1, 0, 0.1, 0.2], weight.shape))
    return model


def applied(model, scheme):
    return quantization.quantize_apply(quantization.quantize_annotate_model(model), scheme)


def trained(model, **options):
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.01)
    model.compile(optimizer, "sparse_categorical_crossentropy", **options)
    model.fit(X, Y, batch_size=64, epochs=2, verbose=0)
    return model


def held(before, model):
    """Whether zeros, and how many values there are, are as before, though other values are not."""
    before, after = kernels(before), kernels(quantization.strip_quantization(model))
    assert not any(map(np.array_equal, before.values(), after.values()))
    zeros = all(np.array_equal(before[k] == 0, after[k] == 0) for k in before)
    return zeros, all(len(np.unique(before[k])) == len(np.unique(after[k])) for k in before)


@pytest.mark.any_backend
def test_zeros_and_clusters_stay_in_training():
    """With an optimizer that has moments and lets weights decay."""
    model = sparse_and_clustered()
    quantized = trained(applied(model, combine.Default8BitClusterPreserveQuantizeScheme()))
    assert held(model, quantized) == (True, True)


@on_tensorflow
def test_what_is_kept_is_told_by_the_scheme_and_saved(tmp_path):
    """Zeros alone, neither, both in a loaded model, and neither once nothing keeps them."""
    model, options = sparse_and_clustered(), dict(run_eagerly=True)
    zeros, both = (
        combine.Default8BitPrunePreserveQuantizeScheme(),
        combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=True),
    )
    assert held(model, trained(applied(model, zeros), **options)) == (True, False)
    quantized = trained(applied(model, both), **options)
    quantized.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    outputs = quantized.predict(X, verbose=0)
    assert np.array_equal(again.predict(X, verbose=0), outputs)
    assert held(model, trained(again, **options)) == (True, True)
    stripped = combine.strip_clustering_cqat(quantized)
    assert np.array_equal(stripped.predict(X, verbose=0), outputs)
    assert len(quantized.variables) - len(stripped.variables) >= 4
    assert held(model, trained(stripped, **options)) == (False, False)


def test_weights_move_by_the_mean_of_their_gradients():
    """Those that are equal together, the others alone."""
    kernel = np.array([[1, 2], [1, 3], [2, 1]], "float32")
    firsts = np.array([[0, 1], [0, 3], [1, 0]])

    class Shared(layers.Dense):
        def call(self, x):
            return x @ together(ops.convert_to_tensor(self.kernel), firsts)

    model = keras.Sequential([keras.Input((3,)), Shared(2, use_bias=False)])
    model.set_weights([kernel])
    model.compile(keras.optimizers.SGD(1.0), lambda y, found: ops.sum(found * y))
    x, y = np.array([[1, 2, 3]], "float32"), np.array([[1, 10]], "float32")
    gradient = x.T @ y
    model.train_on_batch(x, y)
    means = np.array([gradient[firsts == place].mean() for place in (0, 1, 3)])
    wanted = means[np.searchsorted([0, 1, 3], firsts)]
    assert np.allclose(kernel - model.get_weights()[0], wanted)
