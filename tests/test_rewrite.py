"""The rewritten model is a whole Keras model: it saves, loads, clones and trains."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.graphs import GRAPHS, build
from support.law import check_law, random_inputs, randomize

import keras_iplt as iplt

pytestmark = pytest.mark.quick

SAVED = [n for n in GRAPHS if n not in {
    "multi_head_attention_of_two_widths",  # Keras on JAX cannot run it
    "uneven_splits_and_slices",  # reversed slices do not run on PyTorch
    "mixed_precision", "activations", "lambdas", "padded_shortcut_lambda",  # lambdas: see below
}]  # fmt: skip


def predict(model, inputs):
    # Models that Keras 3.10 has loaded want a list, of one input too.
    alone = len(inputs) == 1 and not isinstance(getattr(model, "_inputs_struct", None), list)
    outputs = model(inputs[0] if alone else inputs, training=False)
    return [ops.convert_to_numpy(y) for y in keras.tree.flatten(outputs)]


def as_given(model, inputs):
    """Inputs in the structure the model wants."""
    structure = getattr(model, "_inputs_struct", None)
    if isinstance(structure, dict):
        return [dict(zip(structure, inputs, strict=True))]
    return inputs


@pytest.mark.parametrize("name", SAVED)
def test_it_saves_and_loads(name, tmp_path):
    """A rewritten model survives `.keras` with the same outputs."""
    model = build(name)
    randomize(model)
    small = iplt.prune(model, 0.3, criterion="random")
    inputs = as_given(small, random_inputs(small))
    expected = predict(small, inputs)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    for a, b in zip(expected, predict(loaded, inputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_lambdas_save_and_load_when_the_user_allows_it(tmp_path):
    """Lambda layers keep their function; loading asks for safe_mode=False as Keras does."""
    model = build("padded_shortcut_lambda")
    small = iplt.prune(model, 0.5)
    (x,) = random_inputs(model)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras", safe_mode=False)
    np.testing.assert_allclose(predict(small, [x])[0], predict(loaded, [x])[0], 1e-5, 1e-6)


def compiled(name="plain"):
    model = build(name)
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def test_it_fits_evaluates_and_clones():
    """It comes back compiled with the same settings and a fresh optimizer, and trains."""
    model = compiled()
    x, y = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype("float32"), np.arange(32) % 3
    model.fit(x, y, verbose=0)
    small = iplt.prune(model, 0.5)
    assert isinstance(small.optimizer, keras.optimizers.SGD)
    assert float(small.optimizer.momentum) == 0.9 and int(small.optimizer.iterations) == 0
    first = small.evaluate(x, y, verbose=0, return_dict=True)
    assert "accuracy" in first
    small.fit(x, y, epochs=15, verbose=0)
    assert small.evaluate(x, y, verbose=0, return_dict=True)["loss"] < first["loss"]
    assert keras.models.clone_model(small).count_params() == small.count_params()


def test_the_old_model_stays_bit_identical():
    """Weights, outputs and symbolic tensors of the model do not change."""
    model = build("nested_called_twice")
    randomize(model)
    (x,) = random_inputs(model)
    weights, outputs = [ops.convert_to_numpy(w) for w in model.weights], predict(model, [x])
    iplt.prune(model, 0.5)
    for a, w in zip(weights, model.weights, strict=True):
        assert np.array_equal(a, ops.convert_to_numpy(w))
    assert all(np.array_equal(a, b) for a, b in zip(outputs, predict(model, [x]), strict=True))


def test_names_structure_and_settings_are_kept():
    """Names, trainable flags, regularisers, constraints, dtype policies and nesting carry over."""
    i = keras.Input((8, 8, 3), name="image")
    backbone = keras.Model(i, layers.Conv2D(
        8, 3, name="stem", kernel_regularizer=keras.regularizers.L2(1e-3),
        kernel_constraint="max_norm", bias_initializer="ones", dtype="mixed_bfloat16",
    )(i), name="backbone")  # fmt: skip
    backbone.trainable = False
    j = keras.Input((8, 8, 3), name="photo")
    x = layers.BatchNormalization(name="norm", momentum=0.8)(backbone(j))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(j, layers.Dense(2, name="head")(x), name="whole")
    small = iplt.prune(model, 0.5)
    assert small.name == "whole" and [x.name for x in small.layers] == [
        x.name for x in model.layers
    ]
    assert [x.name for x in small.inputs] == ["photo"]
    stem = small.get_layer("backbone").get_layer("stem")
    assert stem.filters == 4 and not stem.trainable and not small.get_layer("backbone").trainable
    assert isinstance(stem.kernel_regularizer, keras.regularizers.L2)
    assert isinstance(stem.kernel_constraint, keras.constraints.MaxNorm)
    assert isinstance(stem.bias_initializer, keras.initializers.Ones)
    assert stem.dtype_policy.name == "mixed_bfloat16"
    assert small.get_layer("norm").momentum == 0.8 and small.get_layer("norm").trainable
    assert len(small.trainable_weights) == len(model.trainable_weights)
    small.get_layer("backbone").trainable = True
    assert len(small.trainable_weights) == len(model.trainable_weights) + 2


def test_dicts_of_inputs_and_outputs_stay_dicts():
    """The structure the user gave is the structure that comes back."""
    model = build("several_inputs_and_outputs")
    small = iplt.prune(model, 0.5)
    x = {"a": np.ones((2, 8, 8, 3), "float32"), "b": np.ones((2, 4), "float32")}
    assert set(small(x)) == {"one", "two"}


def test_sequential_stays_sequential_and_a_subclass_of_model_stays_its_class():
    """Whatever was made from inputs and outputs keeps its class, with its own methods."""

    class Mine(keras.Model):
        def shout(self):
            return self.name.upper()

    i = keras.Input((4,))
    mine = Mine(i, layers.Dense(2)(layers.Dense(8)(i)), name="mine")
    assert iplt.prune(mine, 0.5).shout() == "MINE"
    assert isinstance(iplt.prune(build("sequential_flatten"), 0.5), keras.Sequential)


def test_array_initialisers_are_cut():
    """`Constant(array)` fits the smaller variable."""
    start = np.arange(8.0)
    model = keras.Sequential([
        keras.Input((4,)), layers.Dense(8, bias_initializer=keras.initializers.Constant(start)),
        layers.Dense(2)])  # fmt: skip
    plan = iplt.plan(model, 0.5)
    small = iplt.rewrite(model, plan)
    kept = plan.kept(model.layers[0].bias)[0]
    assert np.array_equal(ops.convert_to_numpy(small.layers[0].bias), start[kept])
    assert keras.models.clone_model(small).count_params() == small.count_params()


def test_plain_functions_as_losses_and_metrics_go_along():
    """Functions need not be registered; metrics and the optimizer are objects of their own."""

    def loss(y, p):
        return ops.mean(ops.square(p))

    model = build("plain")
    model.compile("sgd", loss=loss, metrics=[loss, keras.metrics.MeanSquaredError()])
    small = iplt.prune(model, 0.5)
    x = np.ones((4, 8, 8, 3), "float32")
    small.fit(x, np.ones((4, 3)), verbose=0)
    assert int(small.optimizer.iterations) == 1 and int(model.optimizer.iterations) == 0
    assert "mean_squared_error" in small.evaluate(x, np.ones((4, 3)), verbose=0, return_dict=True)


def test_what_cannot_be_carried_over_is_said():
    """A loss that its config does not make again leaves the new model uncompiled."""

    class Strange(keras.losses.Loss):
        def __init__(self, needed):
            super().__init__()

        def call(self, y, p):
            return ops.mean(p)

        def get_config(self):
            return {}

    model = build("plain")
    model.compile("sgd", loss=Strange(1))
    with pytest.warns(UserWarning, match="not compiled"):
        small = iplt.prune(model, 0.5)
    assert not small.compiled


def test_compensation_is_exact_for_constant_channels():
    """Channels that are constant leave no trace when they go: their effect moves to the bias."""
    i = keras.Input((6, 6, 3))
    first = layers.Conv2D(8, 3, activation="relu", name="first")
    x = layers.Conv2D(5, 3, name="second")(first(i))
    y = layers.Conv2D(6, 3, use_bias=False, name="third")(first(i))
    y = layers.BatchNormalization()(y)
    model = keras.Model(i, [layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(y)])
    randomize(model)
    kernel, bias = (ops.convert_to_numpy(v).copy() for v in first.weights)
    kernel[..., [1, 4]], bias[[1, 4]] = 0, 0.7
    first.set_weights([kernel, bias])
    plan = iplt.plan(model, 2 / 8)
    assert plan.kept(first.bias)[0].tolist() == [0, 2, 3, 5, 6, 7]
    (x,) = random_inputs(model, batch=4)
    expected = predict(model, [x])
    plain, folded = iplt.rewrite(model, plan), iplt.rewrite(model, plan, compensate=x)
    for a, b, c in zip(expected, predict(plain, [x]), predict(folded, [x]), strict=True):
        assert np.abs(a - b).max() > 1e-2
        np.testing.assert_allclose(a, c, rtol=1e-4, atol=1e-5)


def test_a_pruned_model_can_be_pruned_again():
    """Pruning twice works like pruning any model."""
    once = iplt.prune(build("residual"), 0.5)
    twice = iplt.prune(once, 0.5)
    assert twice.count_params() < once.count_params()


def test_random_seeds_go_along():
    """Dropout goes on from the same random state."""
    model = build("sequential_flatten")
    small = iplt.prune(model, 0.5)
    old, new = (next(x for x in m.layers if isinstance(x, layers.Dropout)) for m in (model, small))
    assert np.array_equal(*(ops.convert_to_numpy(x.seed_generator.state) for x in (old, new)))


def test_what_scales_the_loss_goes_along():
    """It was put around the optimizer by a policy that may be set no longer."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
        model.compile("adam", "mse")
    finally:
        keras.config.set_dtype_policy("float32")
    small = iplt.prune(model, ratio=0.5)
    assert type(small.optimizer).__name__ == "LossScaleOptimizer"
    assert type(small.optimizer.inner_optimizer).__name__ == "Adam"
    assert small.optimizer is not model.optimizer


@pytest.mark.parametrize(("sections", "left"), [
    ([np.int64(2), np.int64(4)], True), (np.array([3]), True), (1, True)])  # fmt: skip
def test_operations_made_with_numpy_numbers(sections, left):
    """Keras cannot write them down, and they are made anew all the same."""
    i = keras.Input((4,))
    parts = keras.ops.split(keras.layers.Dense(6)(i), sections, axis=-1)
    model = keras.Model(i, keras.layers.Dense(2)(keras.ops.tanh(parts[-1])))
    assert (iplt.prune(model, ratio=0.5).count_params() < model.count_params()) is left


class Framed(layers.Layer):
    """A layer of one's own that needs no weights: it puts a number before others."""

    def __init__(self, number, kept=True, **options):
        super().__init__(**options)
        self.number, self.kept = number, kept

    def call(self, x):
        return ops.concatenate([ops.zeros_like(x[..., :1]) + self.number, x], axis=-1)

    def get_config(self):
        own = {"number": self.number} if self.kept else {}
        return {**super().get_config(), **own}


@pytest.mark.any_backend
@pytest.mark.parametrize("kept", [True, False])
def test_a_layer_of_ones_own_stays_where_nothing_of_it_goes(kept):
    """By its name and as what it is, such as one that the outputs come from; unless its config
    does not tell all: then its operations stand for it."""
    i = keras.Input((5,))
    x = layers.Dense(3, name="head")(layers.Dense(8, activation="relu")(i))
    model = keras.Model(i, Framed(7.0, kept, name="framed")(x))
    small = iplt.prune(model, ratio=0.5)
    found = [layer for layer in small.layers if layer.name == "framed"]
    assert bool(found) == kept
    assert not kept or (type(found[0]) is Framed and found[0].number == 7.0)
    assert ops.convert_to_numpy(small(np.ones((2, 5))))[:, 0].tolist() == [7.0, 7.0]
    check_law(model)
