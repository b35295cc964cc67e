"""Small models to train, for the tests of callbacks."""

import keras
import numpy as np
from keras import layers

import keras_iplt as iplt

BACKEND = keras.backend.backend()
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 6, 6, 3)).astype("float32")
Y = RANDOM.normal(size=(24, 2)).astype("float32")
QUIET = dict(batch_size=4, shuffle=False, verbose=0)  # six batches an epoch


def residual():
    """Batch norms around an addition. A bias before a batch norm has no gradient but noise, which
    Adam makes large."""

    def conv(x, name):
        x = layers.Conv2D(8, 3, padding="same", use_bias=False, name=name)(x)
        return layers.BatchNormalization()(x)

    i = keras.Input((6, 6, 3))
    x = layers.ReLU()(conv(i, "one"))
    y = conv(x, "two")
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Add()([x, y])))
    x = layers.Dense(12, activation="relu", name="hidden")(x)
    return keras.Model(i, layers.Dense(2, name="head")(x))


def sigmoid():
    """f(0) is not 0: gradients move what is masked."""
    i = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, activation="sigmoid", name="conv")(i)
    x = layers.Dense(12, activation="sigmoid", name="hidden")(layers.GlobalMaxPooling2D()(x))
    return keras.Model(i, layers.Dense(2, name="head")(x))


def dropout():
    """Random numbers beside the channels that go."""
    i = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(layers.Dropout(0.3, seed=1)(i))
    x = layers.Dense(12, activation="relu", name="hidden")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(i, layers.Dense(2, name="head")(x))


def dense(units=20):
    """The fastest to train."""
    return keras.Sequential(
        [keras.Input((6, 6, 3)), layers.Flatten(), layers.Dense(units, "relu", name="hidden"),
         layers.Dense(2, name="head")])  # fmt: skip


def compiled(build=dense, optimizer=None, **options):
    keras.utils.set_random_seed(3)
    model = build()
    options = {"jit_compile": BACKEND == "jax", **options}  # XLA takes seconds to compile
    model.compile(optimizer or keras.optimizers.Adam(0.01), "mse", metrics=["mae"], **options)
    return model


def callback(target=0.5, step=0.25, every=1, verbose=0, **options):
    return iplt.IPLTCallback(target, step, every, verbose=verbose, **options)


def fit(model, ours, epochs=4, callbacks=(), **options):
    return model.fit(X, Y, epochs=epochs, callbacks=[ours, *callbacks], **QUIET | options).history


def widths(model):
    """Output channels by layer."""
    return {
        layer.name: layer.units if hasattr(layer, "units") else layer.filters
        for layer in model._flatten_layers()
        if hasattr(layer, "units") or hasattr(layer, "filters")
    }
