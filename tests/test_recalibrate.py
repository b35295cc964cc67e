"""`recalibrate`: batch norms remember the mean and the variance of what goes into them."""

import keras
import numpy as np
import pytest
from keras import layers
from support.law import randomize

import keras_iplt as iplt
from keras_iplt.errors import DataError, ModelError

pytestmark = pytest.mark.any_backend


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def held(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]


def same(before, after):
    return all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def after(layers, x):
    """What comes out of layers, as numbers."""
    for layer in layers:
        x = layer(x, training=False) if isinstance(layer, BN) else layer(x)
    return np.asarray(keras.ops.convert_to_numpy(x), "float64")


def check(norm, inputs, axis=-1):
    """A batch norm remembers the moments of these inputs."""
    rows = np.moveaxis(np.asarray(inputs, "float64"), axis, -1).reshape(-1, norm.gamma.shape[0])
    mean, variance = map(keras.ops.convert_to_numpy, (norm.moving_mean, norm.moving_variance))
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, rows.var(0), rtol=1e-4, atol=1e-5)


BN = layers.BatchNormalization
X = 2 + 3 * normal(70, 6, 6, 3)


def chain(**options):
    model = keras.Sequential([
        keras.Input((6, 6, 3)), layers.Conv2D(8, 3, activation="relu", name="a"), BN(**options),
        layers.Conv2D(4, 3), BN(), layers.ReLU(), layers.Flatten(), layers.Dense(2),
    ])  # fmt: skip
    randomize(model)
    return model


@pytest.mark.parametrize("memory", [1, 3e4, 2e9])
def test_each_sees_those_before_it_as_they_are_afterwards(memory):
    """Exact means and variances over all data, whatever memory there is; nothing else changes."""
    model = chain()
    others = [v for v in model.variables if "moving" not in v.path]
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in others]
    iplt.recalibrate(model, X, memory=memory)
    check(model.layers[1], after(model.layers[:1], X))
    check(model.layers[3], after(model.layers[:3], X))
    assert same(before, [keras.ops.convert_to_numpy(v) for v in others])


def test_the_check_can_fail():
    """Without it, or with other data, the check finds other moments."""
    model = chain()
    with pytest.raises(AssertionError):
        check(model.layers[1], after(model.layers[:1], X))
    iplt.recalibrate(model, X[:40])
    with pytest.raises(AssertionError):
        check(model.layers[1], after(model.layers[:1], X))
    norm = model.layers[1]
    iplt.recalibrate(model, X)
    norm.gamma.assign(2 * norm.gamma)  # what the second one saw is no longer so
    with pytest.raises(AssertionError):
        check(model.layers[3], after(model.layers[:3], X))


def test_what_is_not_trainable_is_left_alone():
    """As in training; the others see it as it is."""
    model = chain()
    first, second = model.layers[1], model.layers[3]
    first.trainable = False
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in first.variables]
    iplt.recalibrate(model, X)
    assert same(before, [keras.ops.convert_to_numpy(v) for v in first.variables])
    check(second, after(model.layers[:3], X))
    model.trainable = False
    before = held(model)
    iplt.recalibrate(model, X + 1)
    assert same(before, held(model))


@pytest.mark.parametrize("form", ["generator", "list", "PyDataset", "with labels"])
def test_forms_of_data(form):
    """Whatever `plan` takes; generators too, also where they are needed twice."""

    class Parts(keras.utils.PyDataset):
        def __len__(self):
            return 7

        def __getitem__(self, index):
            return X[10 * index : 10 * index + 10], np.zeros(10)

    parts = [X[i : i + 10] for i in range(0, 70, 10)]
    data = {"generator": iter(parts), "list": parts, "PyDataset": Parts(),
            "with labels": (X, np.zeros(70))}[form]  # fmt: skip
    model = chain()
    iplt.recalibrate(model, data, memory=1)
    check(model.layers[3], after(model.layers[:3], X))


@pytest.mark.parametrize("memory", [1, 2e9])
@pytest.mark.parametrize("form", [list, iter])
def test_shared_in_a_nested_model(memory, form):
    """A batch norm that is used twice remembers both uses, the one behind it as well."""
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5), BN(), layers.ReLU(), layers.Dense(4), BN()]
    )
    i, j = keras.Input((6,)), keras.Input((6,))
    model = keras.Model([i, j], [inner(i), inner(j)])
    randomize(model)
    x, y = normal(40, 6), 3 + 2 * normal(40, 6, seed=1)
    given = [(([x[k : k + 8], y[k : k + 8]]),) for k in range(0, 40, 8)]
    iplt.recalibrate(model, form(given), memory=memory)
    both = np.concatenate([x, y])
    check(inner.layers[1], after(inner.layers[:1], both))
    check(inner.layers[4], after(inner.layers[:4], both))


def test_along_another_axis():
    """The moments are those of the axis that a batch norm is for."""
    model = keras.Sequential([keras.Input((4, 5)), BN(axis=1)])
    x = 1 + normal(30, 4, 5)
    iplt.recalibrate(model, x)
    check(model.layers[0], x, axis=1)


def test_what_is_masked_does_not_count():
    """Padded steps are left out, as in training."""
    model = keras.Sequential([keras.Input((5, 3)), layers.Masking(), BN()])
    x = 1 + normal(20, 5, 3)
    x[::2, 3:] = 0
    iplt.recalibrate(model, x)
    check(model.layers[1], x[(x != 0).any(-1)])


class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.one, self.norm = layers.Dense(4), BN()

    def call(self, x, training=None):
        return self.norm(self.one(x), training=training)


def test_in_a_custom_layer():
    """A layer that is read by what it does is looked into."""
    i = keras.Input((3,))
    block = Block()
    model = keras.Model(i, layers.Dense(2)(block(i)))
    x = normal(50, 3)
    iplt.recalibrate(model, x)
    check(block.norm, after([block.one], x))


def test_one_that_cannot_be_seen_is_refused():
    """Nothing is changed then, and the error says which it is."""
    i = keras.Input((5, 3))
    x = layers.TimeDistributed(BN(name="hidden"))(BN(name="seen")(i))
    model = keras.Model(i, layers.Dense(2)(x))
    randomize(model)
    before = held(model)
    with pytest.raises(ModelError, match="hidden"):
        iplt.recalibrate(model, normal(20, 5, 3))
    assert same(before, held(model))


def test_bad_data_change_nothing():
    """Data of a wrong shape, none at all, and what breaks off in the middle."""

    def breaking():
        yield X[:10]
        yield X[:10] * np.nan

    model = chain()
    before = held(model)
    for data in (normal(10, 5, 5, 3), [], breaking()):
        with pytest.raises(DataError):
            iplt.recalibrate(model, data)
    assert same(before, held(model))


@pytest.mark.parametrize("memory", [1, 2e9])
def test_after_a_cut(memory):
    """The batch norms of a pruned model fit its own channels again."""
    small = iplt.prune(chain(), 0.5)
    with pytest.raises(AssertionError):
        check(small.layers[3], after(small.layers[:3], X))
    iplt.recalibrate(small, X, memory=memory)
    check(small.layers[3], after(small.layers[:3], X))
    outputs = after(small.layers[:4], X)
    gamma, beta = (keras.ops.convert_to_numpy(v) for v in small.layers[3].weights[:2])
    np.testing.assert_allclose(outputs.mean((0, 1, 2)), beta, atol=1e-3)
    np.testing.assert_allclose(outputs.std((0, 1, 2)), abs(gamma), rtol=1e-2)


def test_a_model_without_batch_norms():
    """There is nothing to do."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    before = held(model)
    iplt.recalibrate(model, normal(4, 3))
    assert same(before, held(model))


def test_mixed_precision():
    """Moments of half precision are exact all the same."""
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential([keras.Input((3,)), BN()])
    x = 100 + normal(2000, 3).astype("float16")
    iplt.recalibrate(model, x)
    check(model.layers[0], x)
