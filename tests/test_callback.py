"""`IPLTCallback`: what goes, when, and that the three ways to carry it out compute the same."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.training import (
    BACKEND,
    QUIET,
    X,
    Y,
    callback,
    compiled,
    dropout,
    fit,
    residual,
    sigmoid,
    widths,
)

import keras_iplt as iplt
from keras_iplt import _keras as private
from keras_iplt import schedules

# -- modes -----------------------------------------------------------------------------------------


@pytest.mark.any_backend
@pytest.mark.parametrize("build", [residual, sigmoid, dropout])
def test_both_ways_to_carry_steps_out_compute_the_same(build):
    """Shrinking at every step, and zeros until the target: the same history and model."""
    models, histories = [], []
    for mode in ("shrink", "mask"):
        model = compiled(build)
        ours = callback(target=0.6, step=0.2, mode=mode, max_ratio=0.8)
        histories.append(fit(model, ours, epochs=5, validation_data=(X, Y)))
        models.append(model)
    for model, history in zip(models, histories, strict=True):
        assert widths(model) == widths(models[0]) != widths(build())
        assert history.keys() == histories[0].keys()
        for name, values in history.items():
            np.testing.assert_allclose(values, histories[0][name], rtol=1e-4, atol=1e-5)
        for a, b in zip(model.get_weights(), models[0].get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("verbose", [0, 2])
def test_what_logs_say_is_what_others_see(verbose, tmp_path):
    """In the logs, in the model at the end of the epoch, and in the file of a checkpoint."""
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            again = keras.models.load_model(tmp_path / "last.keras")
            seen.append((int(logs["params"]), self.model.count_params(), again.count_params()))

    model = compiled()
    several = [callback(), keras.callbacks.ModelCheckpoint(tmp_path / "last.keras"), Look()]
    model.fit(X, Y, epochs=4, callbacks=several, **QUIET | {"verbose": verbose})
    assert len({a for a, _, _ in seen}) == 3 and all(a == b == c for a, b, c in seen)


def masked_parts(ours):
    """The largest absolute number among those that should be zero."""
    progress = ours.progress
    if progress.masked is None:
        return None
    worst = 0.0
    for pieces in progress.graph.by_variable.values():
        variable = pieces[0].variable
        value = np.array(ops.convert_to_numpy(variable))
        kept = progress.masked.kept(variable)
        for axis, indices in enumerate(kept):
            if indices is not None:
                gone = np.delete(value, indices, axis)
                worst = max(worst, np.abs(gone).max(initial=0))
    return worst


class Zeros(keras.callbacks.Callback):
    """Looks at what is masked after every batch, before validation, and at the end of epochs."""

    def __init__(self, ours):
        super().__init__()
        self.ours, self.found, self.drifted = ours, [], False

    def look(self, *_, **__):
        private.synchronize(self.model)
        self.found.append(masked_parts(self.ours))
        self.drifted |= bool(self.ours._drifting)

    on_test_begin = on_epoch_end = look

    def on_train_batch_begin(self, batch, logs=None):
        if batch:
            self.look()


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "ftrl": lambda: keras.optimizers.Ftrl(0.05),
    "adagrad": lambda: keras.optimizers.Adagrad(0.05),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    "ema": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=4),
    "decay": lambda: keras.optimizers.AdamW(0.01, clipnorm=1.0, gradient_accumulation_steps=2),
    "lion": lambda: keras.optimizers.Lion(0.002),
}


@pytest.mark.parametrize("build", [pytest.param(residual, marks=pytest.mark.slow), sigmoid])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_masked_parts_stay_zero(name, build):
    """Whatever the optimizer remembers of them, and wherever gradients would move them: after
    every batch, before validation and at the end of epochs they are exactly zero. Only where
    gradients move them does that take work."""
    model = compiled(build, OPTIMIZERS[name]())
    ours = callback(mode="mask", target=0.5, step=0.25, every=2)
    zeros = Zeros(ours)
    history = fit(model, ours, 5, [zeros], validation_data=(X[:8], Y[:8]))
    found = [worst for worst in zeros.found if worst is not None]
    assert len(found) >= 2 * 6 and max(found) == 0
    assert zeros.drifted == (build is sigmoid)
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_the_masked_model_shrinks_once():
    """Mode "mask" keeps the size until the target is reached; the logs count what is left."""
    model = compiled()
    sizes = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 0:
                sizes.append(model.count_params())

    history = fit(model, callback(target=0.6, step=0.2, mode="mask"), 5, [Look()])
    whole, small = compiled().count_params(), model.count_params()
    assert sizes == [whole] * 3 + [small] * 2
    assert history["params"] == [whole, whole - 4 * 111, whole - 8 * 111, small, small]


@pytest.mark.any_backend
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_soft_filters_may_come_back(activation):
    """In mode "soft" filters are zeroed at the end of every epoch and go on learning, the choice is
    made anew every time, and the model is measured and ends up without them."""
    hidden = layers.Dense(16, activation, bias_initializer="ones", name="hidden")
    net = [keras.Input((6, 6, 3)), layers.Flatten(), hidden, layers.Dense(2)]
    model = compiled(lambda: keras.Sequential(net), keras.optimizers.SGD(0.01))
    zero, alive, rounds = [], [], iter(range(9))

    def all_zero():
        private.synchronize(model)
        return (ops.convert_to_numpy(hidden.kernel) == 0).all(axis=0)

    class Look(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            zero.append(all_zero())

        def on_train_batch_begin(self, batch, logs=None):
            if batch == 5:
                alive.append(16 - all_zero().sum())

    def turning(filters):
        return np.roll(np.arange(len(filters)), next(rounds))

    ours = callback([0.5, 0.5], mode="soft", criterion=turning)
    history = fit(model, ours, 5, [Look()], validation_data=(X, Y))
    assert history["ratio"] == [0.5] * 5
    assert [z.sum() for z in zero] == [8] * 5
    assert len({tuple(z) for z in zero}) > 1, "never chosen anew"
    assert alive == [16] * 5
    assert widths(model)["hidden"] == 8
    assert model.evaluate(X, Y, verbose=0)[0] == pytest.approx(history["val_loss"][-1], rel=1e-5)


# -- schedules -------------------------------------------------------------------------------------


def polynomial():
    return schedules.Polynomial(0.5, begin=1, end=3)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (dict(target=0.5, step=0.25, every=2), [0, 0, 0.25, 0.25, 0.5, 0.5]),
        (dict(target=0.5, step=0.2, every=1), [0, 0.2, 0.4, 0.5, 0.5, 0.5]),
        (dict(target=0.5, step=0.25, every=None), [0, 0.25, 0.5, 0.5, 0.5, 0.5]),  # k = 6 // 2 // 2
        (dict(target=0.5, step=0.5, every=None), [0, 0, 0, 0.5, 0.5, 0.5]),
        (dict(target=[0.1, 0.5], every=None), [0, 0.1, 0.5, 0.5, 0.5, 0.5]),
        (dict(target=[0.1, 0.5], every=2), [0, 0, 0.1, 0.1, 0.5, 0.5]),
        (dict(target={0: 0.1, 4: 0.5}, every=None), [0.1, 0.1, 0.1, 0.1, 0.5, 0.5]),
        (dict(target=schedules.OneShot(0.5, 2), every=None), [0, 0, 0.5, 0.5, 0.5, 0.5]),
        (dict(target=polynomial(), every=None), [0, 0, 0.45, 0.5, 0.5, 0.5]),  # 0.4375 of 20
    ],
)
def test_steps_fall_where_the_schedule_says(arguments, expected):
    """At the start of the epoch after every k, to the nearest filter."""
    model = compiled()
    history = fit(model, callback(**arguments), 6)
    assert history["ratio"] == pytest.approx(expected)
    assert widths(model)["hidden"] == 10


def test_a_default_k_is_at_most_that_of_the_paper():
    """Five epochs, however long the training."""
    ours = callback(target=0.2, step=0.1, every=None)
    fit(compiled(), ours, 22)
    assert ours.schedule.every == 5


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tfmot computes with TensorFlow")
def test_a_schedule_of_tfmot_counts_batches():
    """Any `PruningSchedule` drives the callback; its steps are batches."""
    pytest.importorskip("tensorflow_model_optimization")
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_schedule

    import keras_iplt.tfmot_bridge  # noqa: F401  (puts TF_USE_LEGACY_KERAS back)

    decay = pruning_schedule.PolynomialDecay(0.0, 0.5, begin_step=6, end_step=18, frequency=6)
    model = compiled()
    history = fit(model, callback(decay), 5)
    shares = [0, 0, 0.4375, 0.5, 0.5]
    assert history["ratio"] == pytest.approx(shares, abs=0.5 / 20 + 1e-6)
    assert widths(model)["hidden"] == 10


# -- options of plan -------------------------------------------------------------------------------


def two(first=20, second=16):
    return keras.Sequential([
        keras.Input((6, 6, 3)), layers.Conv2D(first, 3, activation="relu", name="conv"),
        layers.Flatten(), layers.Dense(second, "relu", name="hidden"),
        layers.Dense(2, name="head"),
    ])  # fmt: skip


def flops(model):
    return iplt.profile(model).flops


@pytest.mark.parametrize(
    ("options", "holds"),
    [
        ({}, lambda w, m: w["conv"] + w["hidden"] == 18),
        ({"ignore": "conv", "target": 0.25}, lambda w, m: w == {"conv": 20, "hidden": 12}),
        ({"min_channels": 7}, lambda w, m: min(w["conv"], w["hidden"]) >= 7),
        ({"round_to": 4}, lambda w, m: w["conv"] % 4 == w["hidden"] % 4 == 0),
        ({"max_ratio": 0.55}, lambda w, m: w["conv"] >= 9 and w["hidden"] >= 8),
        ({"convolutions_only": True}, lambda w, m: w == {"conv": 10, "hidden": 16}),
        ({"scope": "layer"}, lambda w, m: w == {"conv": 10, "hidden": 8}),
        ({"per_layer": {"conv": 0.2}}, lambda w, m: w == {"conv": 16, "hidden": 8}),
        ({"of": "flops"}, lambda w, m: abs(flops(m) / flops(two_built()) - 0.5) < 0.04),
        ({"of": "params"}, lambda w, m: abs(m.count_params() / 5742 - 0.5) < 0.04),
    ],
    ids=lambda x: next(iter(x), "none") if isinstance(x, dict) else "",
)
def test_every_option_of_plan_is_passed_on(options, holds):
    """And means what it means to `plan`, of the model as it was before the first step."""
    model = compiled(two)
    history = fit(model, callback(**{"step": 0.25, **options}), 3)
    found = {name: n for name, n in widths(model).items() if name in ("conv", "hidden")}
    assert holds(found, model), found
    target = options.get("target", 0.5)
    assert "per_layer" in options or history["ratio"][-1] == pytest.approx(target, abs=0.06)


def two_built():
    return two()


def test_a_share_of_its_own_grows_with_the_others():
    """A layer in `per_layer` comes to its share when the others come to the target, step by
    step."""
    model, seen = compiled(two), []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(widths(model)["conv"])

    fit(model, callback(per_layer={"conv": 0.8}, scope="layer"), 4, [Look()])
    assert seen == [20, 12, 4, 4]
    assert widths(model)["hidden"] == 8


@pytest.mark.parametrize("mode", ["shrink", "mask"])
def test_steps_by_layer_end_where_one_plan_would(mode):
    """After several steps every group has the size that one plan of the final ratio gives it."""
    model = compiled(lambda: two(13, 29))
    fit(model, callback(target=0.7, step=0.25, scope="layer", mode=mode), 4)
    fresh = compiled(lambda: two(13, 29))
    expected = widths(iplt.prune(fresh, 0.7, scope="layer"))
    assert widths(model) == expected


def test_the_same_as_shrinking_by_hand():
    """A callback of one's own that calls `shrink` at the same epochs gets the same model."""

    class ByHand(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch in (1, 2):
                left = 20 * (1 - 0.25 * (epoch - 1))
                plan = iplt.plan(self.model, ratio=5 / left)
                iplt.shrink(self.model, plan)

    one, other = compiled(), compiled()
    history = fit(one, callback(), 4)
    by_hand = other.fit(X, Y, epochs=4, callbacks=[ByHand()], **QUIET).history
    assert widths(one) == widths(other) and widths(one)["hidden"] == 10
    np.testing.assert_array_equal(history["loss"], by_hand["loss"])
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# -- criteria --------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["taylor", "fpgm"])
def test_criteria_choose_the_same_on_a_masked_model(criterion):
    """A criterion that compares filters with each other, or looks at data, does not see the zeros
    of the steps before."""
    found = []
    for mode in ("shrink", "mask"):
        model = compiled(residual)
        ours = callback(target=0.6, step=0.2, criterion=criterion, mode=mode, data=(X[:8], Y[:8]))
        history = fit(model, ours, 5)
        found.append((history["loss"], widths(model)))
    assert found[0][1] == found[1][1]
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-4)


@pytest.mark.parametrize("mode", ["shrink", "mask"])
def test_a_function_of_ones_own_never_sees_zeros(mode):
    """Nobody knows what it makes of them: what is masked is carried out before it is asked."""
    seen = []

    def score(filters):
        seen.append((filters == 0).all(axis=1).any())
        return np.abs(filters).max(axis=1)

    fit(compiled(), callback(criterion=score, target=0.6, step=0.2, mode=mode), 5)
    assert len(seen) >= 3 and not any(seen)


# -- keeping the accuracy --------------------------------------------------------------------------


@pytest.mark.any_backend
@pytest.mark.parametrize("mode", ["shrink", "mask"])
def test_what_stays_is_fitted_anew_at_each_step(mode):
    """With nothing learned in between, the model computes what it did before, as far as the
    filters that are left can."""
    distances = []
    for compensate in (None, X):
        model = compiled(residual, keras.optimizers.SGD(0.0))
        before = model.predict(X, verbose=0)
        ours = callback(target=0.5, step=0.5, mode=mode, compensate=compensate)
        fit(model, ours, epochs=3)
        distances.append(np.abs(model.predict(X, verbose=0) - before).mean())
    assert distances[1] < 0.9 * distances[0]


@pytest.mark.any_backend
def test_batch_norms_are_measured_again_when_training_ends():
    """Exactly, whatever the moving averages had come to."""
    model = keras.Sequential([
        keras.Input((6,)), keras.layers.Dense(8, name="hidden"),
        keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(3),
    ])  # fmt: skip
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
    ours = callback(target=0.5, step=0.5, every=1, recalibrate=x)
    model.fit(x, np.ones((40, 3)), epochs=2, callbacks=[ours], verbose=0)
    hidden = model.get_layer("hidden")
    inputs = ops.convert_to_numpy(hidden(x))
    norm = model.get_layer("norm")
    np.testing.assert_allclose(
        ops.convert_to_numpy(norm.moving_mean), inputs.mean(axis=0), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(norm.moving_variance), inputs.var(axis=0), rtol=1e-4, atol=1e-5
    )
