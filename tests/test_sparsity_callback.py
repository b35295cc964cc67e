"""Single weights go while a model trains, and stay gone."""

import json
import os
import random
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras import layers
from support.law import difference, random_inputs, random_plan, randomize
from support.random_graphs import build, sample
from support.training import BACKEND, QUIET, X, Y, compiled
from support.training import residual as with_batch_norms

import keras_iplt as iplt
from keras_iplt import _keras as private
from keras_iplt import sparsity
from keras_iplt.callbacks import backup
from keras_iplt.sparsity import allocation
from keras_iplt.sparsity.pool import pool_of

pytestmark = pytest.mark.slow


def net():
    """Two kernels, fast to trace."""
    i = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(i)
    return keras.Model(i, layers.Dense(2, name="head")(layers.Flatten()(x)))


def callback(target=0.75, step=0.25, every=1, **options):
    return iplt.SparsityCallback(target, step, every, **{"verbose": 0, **options})


def fit(model, *callbacks, epochs=5, **options):
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **QUIET | options).history


def numbers(variable):
    return np.asarray(keras.ops.convert_to_numpy(variable))


def weights(model):
    return [numbers(v) for v in model.weights]


def shares(model):
    return [round(row.sparsity, 2) for row in sparsity.measure(model).layers]


def assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


class EveryBatch(keras.callbacks.Callback):
    """What `look` sees of the model after every batch."""

    def __init__(self, look):
        super().__init__()
        self.look, self.seen = look, []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.look(self.model))


# -- what happens to the weights -------------------------------------------------------------------


@pytest.mark.any_backend
def test_nine_steps_to_ninety_percent():
    """A tenth of the original weights after every epoch, in every layer; the logs say so."""
    model = compiled(with_batch_norms)
    history = fit(model, callback(0.9, 0.1), epochs=11, validation_data=(X, Y))
    assert history["sparsity"] == pytest.approx([*np.arange(10) / 10, 0.9], abs=0.001)
    total = sum(one.size for one in pool_of(model))
    assert history["nonzeros"][-1] == total - round(0.9 * total)
    assert shares(model) == pytest.approx([0.9] * 4, abs=0.03)


@pytest.mark.any_backend
def test_weights_are_sparse_after_every_batch():
    """Not only at the end of an epoch; what is gone never comes back."""
    model = compiled(net, keras.optimizers.SGD(0.05, momentum=0.9))
    look = EveryBatch(lambda m: [numbers(one.variable) == 0 for one in pool_of(m)])
    fit(model, callback(0.75, 0.25), look)
    counts = [sum(int(z.sum()) for z in zeros) for zeros in look.seen]
    total = sum(one.size for one in pool_of(model))
    assert counts == sorted(counts) and len(counts) == 30
    assert [round(c / total, 2) for c in counts[::6]] == [0.0, 0.25, 0.5, 0.75, 0.75]
    for before, after in zip(look.seen, look.seen[1:], strict=False):
        assert all((a | ~b).all() for b, a in zip(before, after, strict=True))


@pytest.mark.any_backend
def test_the_bias_of_a_filter_goes_with_its_last_weight():
    """Adam would walk away with it: a batch norm behind lets through nothing but rounding. Where
    there is no one bias per filter, none is touched."""
    i = keras.Input((6, 6, 3))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, name="conv")(i))
    x = layers.Reshape((16, 8))(x)
    x = layers.LSTM(4, name="gates")(x)
    model = keras.Model(i, layers.Dense(2, name="head")(x))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    start = np.full(8, 0.5, "float32")
    model.get_layer("conv").bias.assign(start)
    look = EveryBatch(
        lambda m: (numbers(m.get_layer("conv").kernel), numbers(m.get_layer("conv").bias))
    )
    ours = callback({1: 0.5}, pattern="filters", layers=["conv", "gates"])
    fit(model, ours, look, epochs=3)
    for kernel, bias in look.seen[:6]:
        assert (kernel != 0).any((0, 1, 2)).all() and (bias != 0).all()
    for kernel, bias in look.seen[6:]:
        np.testing.assert_array_equal(bias != 0, (kernel != 0).any((0, 1, 2)))
    assert 0 < np.count_nonzero(look.seen[-1][1]) < 8
    assert (numbers(model.get_layer("gates").cell.bias) != 0).all()


@pytest.mark.any_backend
@pytest.mark.parametrize("optimizer", ["adam", "clipped"])
def test_training_is_that_of_a_masked_network(optimizer):
    """To the bit what one gets by multiplying with the mask after every batch by hand."""

    def optimizers():
        return {
            "adam": keras.optimizers.AdamW(0.01, weight_decay=0.01),
            "clipped": keras.optimizers.RMSprop(0.01, global_clipnorm=0.1),
        }[optimizer]

    class ByHand(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.masks = [np.ones(v.shape) for v in kernels(self.model)]

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                for i, v in enumerate(kernels(self.model)):
                    size = numbers(v).size
                    order = np.abs(numbers(v)).ravel().argsort(kind="stable")
                    self.masks[i].ravel()[order[: size // 2]] = 0
                self.hold()

        def on_train_batch_end(self, batch, logs=None):
            self.hold()

        def hold(self):
            for v, mask in zip(kernels(self.model), self.masks, strict=True):
                v.assign(numbers(v) * mask)

    def kernels(model):
        return [one.variable for one in pool_of(model)]

    ours, theirs = (
        compiled(with_batch_norms, optimizers()),
        compiled(with_batch_norms, optimizers()),
    )
    assert all(one.size % 2 == 0 for one in pool_of(ours))
    fit(ours, callback({1: 0.5}, every=None, step=0.5), epochs=3)
    fit(theirs, ByHand(), epochs=3)
    assert_equal(weights(ours), weights(theirs))


@pytest.mark.any_backend
def test_no_trace_is_left(tmp_path):
    """Same variables, same optimizer, same config, no constraint; a later training is plain."""
    plain, ours = compiled(net), compiled(net)
    fit(plain, epochs=5)
    fit(ours, callback())
    assert [v.path for v in plain.weights] == [v.path for v in ours.weights]
    assert len(plain.optimizer.variables) == len(ours.optimizer.variables)
    assert all(v.constraint is None for v in ours.weights)
    assert "save_own_variables" not in vars(ours.optimizer)
    again = iplt.sparsity.measure(ours).zeros
    ours.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert_equal(weights(ours), weights(loaded))
    assert_equal(map(numbers, ours.optimizer.variables), map(numbers, loaded.optimizer.variables))
    assert iplt.sparsity.measure(loaded).zeros == again
    fit(ours, epochs=1)
    assert iplt.sparsity.measure(ours).zeros < again / 10


@pytest.mark.any_backend
def test_checkpoints_in_mid_epoch_are_sparse_and_whole(tmp_path):
    """Weights are sparse as saved, and the optimizer's state loads."""
    model = compiled(net)
    path = str(tmp_path / "m{epoch}-{batch}.keras")
    fit(model, callback(), keras.callbacks.ModelCheckpoint(path, save_freq=4))
    saved = sorted(tmp_path.iterdir())
    assert len(saved) == 7
    loaded = keras.models.load_model(saved[-2])
    assert iplt.sparsity.measure(loaded).sparsity == pytest.approx(0.75, abs=0.01)
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables)
    assert int(loaded.optimizer.iterations) > 20


def test_constraints_of_the_model_stay():
    """They are applied first, and are there when the training is over."""
    model = compiled(net)
    kernel = model.get_layer("conv").kernel
    kernel.constraint = constraint = keras.constraints.MaxNorm(0.05)
    fit(model, callback(0.5, 0.5), epochs=3)
    assert kernel.constraint is constraint
    assert np.linalg.norm(numbers(kernel), axis=0).max() <= 0.0501
    assert shares(model) == pytest.approx([0.5, 0.5], abs=0.01)


def test_frozen_layers_are_pruned_and_stay_frozen():
    """Their zeros are set, their other weights stay."""
    model = compiled(net)
    frozen = model.get_layer("conv")
    frozen.trainable = False
    model.compile("adam", "mse")
    before = numbers(frozen.kernel)
    fit(model, callback(0.5, 0.5), epochs=3)
    after = numbers(frozen.kernel)
    assert (after == 0).mean() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_array_equal(after[after != 0], before[after != 0])


def test_averaged_weights_are_sparse_too():
    """Keras puts them in place when training ends, and they remember what was pruned late."""
    model = compiled(net, keras.optimizers.SGD(0.1, use_ema=True))
    fit(model, callback(0.5, 0.25), epochs=4)
    assert shares(model) == pytest.approx([0.5] * 2, abs=0.02)


@pytest.mark.any_backend
def test_mixed_precision():
    """Float16 activations, a scaled loss, float32 weights that are sparse."""
    keras.config.set_dtype_policy("mixed_float16")
    model = compiled(net)
    assert type(model.optimizer).__name__ == "LossScaleOptimizer"
    look = EveryBatch(lambda m: iplt.sparsity.measure(m).sparsity)
    fit(model, callback(0.5, 0.25), look, epochs=4)
    assert look.seen[-1] == pytest.approx(0.5, abs=0.01) and look.seen[-12] > 0.49
    assert all(v.constraint is None for v in model.weights)


@pytest.mark.any_backend
@pytest.mark.skipif(BACKEND == "torch", reason="Keras has none on PyTorch")
def test_several_batches_in_one_execution():
    """Zeros hold between them, and a schedule in batches is kept up with."""
    model = compiled(net, steps_per_execution=3)
    twin = compiled(net)
    fit(model, callback({1: 0.5}, every=None, step=0.5), epochs=3)
    fit(twin, callback({1: 0.5}, every=None, step=0.5), epochs=3)
    for a, b in zip(weights(model), weights(twin), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert shares(model) == pytest.approx([0.5] * 2, abs=0.02)


# -- when ------------------------------------------------------------------------------------------


@pytest.mark.any_backend
def test_steps_between_batches():
    """`per="batch"`: another step after every so many batches, in mid-epoch."""
    model = compiled(net)
    look = EveryBatch(lambda m: round(iplt.sparsity.measure(m).sparsity, 2))
    history = fit(model, callback(0.75, 0.25, every=4, per="batch"), look, epochs=3)
    assert look.seen == [0] * 4 + [0.25] * 4 + [0.5] * 4 + [0.75] * 6
    assert [round(s, 2) for s in history["sparsity"]] == [0.25, 0.5, 0.75]


def test_batches_between_steps_are_fitted_to_the_training():
    """Without `every`: the last step in the middle; where batches cannot be counted, an error."""
    model = compiled(net)
    ours = callback(0.75, 0.25, every=None, per="batch")
    fit(model, ours, epochs=4)
    assert ours.schedule.every == 4 and ours.schedule.last_epoch == 12
    endless = (item for item in [(X[:4], Y[:4])] * 100)
    with pytest.raises(iplt.errors.OptionError, match="every: expected the number of batches"):
        model.fit(endless, shuffle=False, callbacks=[callback(0.75, per="batch", every=None)])


def test_schedules_of_tfmot_count_batches():
    """From 1; masks are made where they say so."""
    model = compiled(net)
    look = EveryBatch(lambda m: round(iplt.sparsity.measure(m).sparsity, 2))
    fit(model, callback(sparsity.PolynomialDecay(0.0, 0.5, 2, 10, power=1, frequency=4)), look,
        epochs=2)  # fmt: skip
    assert look.seen == [0.0] * 5 + [0.25] * 4 + [0.5] * 3
    model = compiled(net)
    look = EveryBatch(lambda m: round(iplt.sparsity.measure(m).sparsity, 2))
    fit(model, callback(sparsity.ConstantSparsity(0.5, 1)), look, epochs=1)
    assert look.seen == [0.5] * 6


@pytest.mark.filterwarnings("ignore:target:UserWarning")
def test_a_second_fit_goes_on():
    """Zeros hold from its first batch, and the schedule goes on where it was."""
    model, ours = compiled(net), callback()
    assert [round(s, 2) for s in fit(model, ours, epochs=2)["sparsity"]] == [0.0, 0.25]
    fit(model, epochs=1)  # without it weights come back
    look = EveryBatch(lambda m: round(iplt.sparsity.measure(m).sparsity, 2))
    fit(model, ours, look, epochs=2)
    assert look.seen == [0.5] * 6 + [0.75] * 6


def test_a_model_that_was_pruned_before_stays_so():
    """With `keep_zeros`, from the first batch; training goes on from there."""
    model = compiled(net)
    sparsity.prune_weights(model, 0.5)
    look = EveryBatch(lambda m: round(iplt.sparsity.measure(m).sparsity, 2))
    fit(model, callback(0.75, 0.75, every=1, keep_zeros=True), look, epochs=2)
    assert look.seen == [0.5] * 6 + [0.75] * 6
    fit(model, callback(0.0, keep_zeros=True), look, epochs=1)
    assert look.seen[-1] == 0.75


# -- losses and guards -----------------------------------------------------------------------------


class Recorded(allocation.Param):
    def __init__(self):
        super().__init__(zeta=100)
        self.losses = []

    def look(self, loss, gone):
        self.losses.append(loss)
        super().look(loss, gone)


@pytest.mark.any_backend
@pytest.mark.parametrize("validated", [False, True])
def test_the_loss_of_a_phase_is_the_mean_over_its_batches(validated):
    """Across the ends of epochs, whether or not validation counts with the same metric."""

    class Losses(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.means = []

        def on_train_batch_end(self, batch, logs=None):
            self.means.append(logs["loss"])  # of the batches of this epoch so far

    one, losses = Recorded(), Losses()
    data = dict(validation_data=(X[:8] + 9, Y[:8])) if validated else {}
    fit(compiled(net), callback(0.75, 0.25, every=4, per="batch", allocation=one), losses,
        epochs=3, **data)  # fmt: skip
    batches = [
        mean * (i % 6 + 1) - (losses.means[i - 1] * (i % 6) if i % 6 else 0)
        for i, mean in enumerate(losses.means)
    ]
    expected = [np.mean(batches[start : start + 4]) for start in (0, 4, 8)]
    assert one.losses == pytest.approx(expected, rel=1e-3)


def test_a_guard_takes_a_step_back():
    """Weights, masks and momentum; no other step follows."""

    class Falling(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["quality"] = 1.0 if epoch < 2 else 0.0

    class Quality(keras.metrics.Metric):
        def __init__(self):
            super().__init__(name="quality")
            self.calls = self.add_weight(name="calls", initializer="zeros")

        def update_state(self, *args, **kwargs):
            self.calls.assign_add(1.0)

        def reset_state(self):
            pass

        def result(self):
            return keras.ops.cast(self.calls <= 12, "float32")  # two epochs

    keras.utils.set_random_seed(3)
    model = net()
    model.compile("adam", "mse", metrics=[Quality()])
    ours = callback(guard=iplt.Guard("quality", drop=0.1, action="back"))
    history = fit(model, ours, epochs=6)
    assert [round(s, 2) for s in history["sparsity"]] == [0.0, 0.25, 0.5, 0.25, 0.25, 0.25]
    assert iplt.sparsity.measure(model).sparsity == pytest.approx(0.25, abs=0.01)


@pytest.mark.filterwarnings("ignore:target:UserWarning")
def test_a_loss_that_is_not_a_number_holds_steps():
    """Nothing is decided by weights that are not finite."""
    model = compiled(net, keras.optimizers.SGD(1e30))
    with pytest.warns(UserWarning, match=r"the loss is (nan|inf)"):
        history = fit(model, callback(), epochs=3)
    assert history["sparsity"] == [0, 0, 0]


# -- a training that was killed --------------------------------------------------------------------


@pytest.mark.any_backend
@pytest.mark.parametrize("kind", ["uniform", "param"])
def test_a_killed_training_goes_on(kind, tmp_path):
    """To the bit as if it had never been killed."""

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

    def ours(**options):
        one = allocation.Param(zeta=0, eta=0) if kind == "param" else kind  # freezes at once
        return callback([0, 0, 0.1, 0.2], allocation=one, convolutions_only=False, **options)

    whole, uninterrupted = compiled(net), ours()
    expected = fit(whole, uninterrupted, epochs=6)
    with pytest.raises(KeyboardInterrupt):
        fit(compiled(net), ours(backup_dir=tmp_path), Kill(), epochs=6)
    model, resumed = compiled(net), ours(backup_dir=tmp_path)
    history = fit(model, resumed, epochs=6)
    assert len(history["loss"]) == 3
    for name in ("sparsity", "loss"):
        assert history[name] == expected[name][3:]
    assert_equal(weights(whole), weights(model))
    assert resumed.allocation.state() == uninterrupted.allocation.state()
    assert not list(tmp_path.iterdir())


@pytest.mark.any_backend
def test_an_interrupted_training_leaves_a_sparse_model():
    """`finish`, or the next training, removes what holds the zeros."""

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations) == 15:
                raise KeyboardInterrupt

    for ends_with in ("finish", "another"):
        model, ours = compiled(net), callback()
        with pytest.raises(KeyboardInterrupt):
            fit(model, ours, Interrupt())
        private.synchronize(model)
        assert iplt.sparsity.measure(model).sparsity == pytest.approx(0.5, abs=0.01)
        if ends_with == "finish":
            ours.finish()
            assert iplt.sparsity.measure(model).sparsity == pytest.approx(0.5, abs=0.01)
        else:
            fit(model, callback(0.25, 0.25), epochs=2)
            assert iplt.sparsity.measure(model).sparsity == pytest.approx(0.25, abs=0.01)
        assert all(v.constraint is None for v in model.weights)
        assert len(model.optimizer.variables) == 2 + 2 * len(model.trainable_variables)


@pytest.mark.filterwarnings("ignore:target:UserWarning")
def test_backups_of_others_are_refused(tmp_path):
    """Other options, or another model."""
    fit(compiled(net), callback(backup_dir=tmp_path), epochs=1)
    model = compiled(net)
    ours = callback(backup_dir=tmp_path)
    ours.backup.delete = lambda: None
    fit(model, ours, epochs=2)
    with pytest.raises(iplt.errors.BackupError, match="expected options"):
        fit(compiled(net), callback(backup_dir=tmp_path, pattern="filters"), epochs=2)
    with pytest.raises(iplt.errors.BackupError, match="expected weights"):
        fit(compiled(), callback(backup_dir=tmp_path), epochs=2)


def test_forged_backups_are_refused(tmp_path):
    """Masks, an allocation or a loss that cannot be: the model and the callback are as they were,
    weights that a mask had zeroed included."""

    def ours():
        return callback(allocation="param", convolutions_only=False, backup_dir=tmp_path)

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

    path = tmp_path / "training.npz"
    with pytest.raises(KeyboardInterrupt):
        fit(compiled(net), ours(), Kill())
    with np.load(path) as content:
        arrays = dict(content)
    note = json.loads(str(arrays["note"]))
    masks, others = note["progress"]["masks"], note["progress"]["allocation"][1:]

    def refused(words, **changes):
        forged = {**note, **changes}
        np.savez(path, **{**arrays, "note": np.array(json.dumps(forged))})
        model, one = compiled(net), ours()
        before, state = weights(model), one.allocation.state()
        one.set_params({"epochs": 5, "steps": 6})
        one.set_model(model)
        with pytest.raises(iplt.errors.BackupError, match=words):
            one.on_train_begin()
        assert_equal(weights(model), before)
        assert one.progress is None and one.allocation.state() == state
        assert not model.optimizer.built

    def progress(masks=masks, allocation=note["progress"]["allocation"]):
        return {"masks": masks, "allocation": allocation}

    refused("masks: expected 216 bits, received: 8", progress=progress(["AA==", masks[1]]))
    refused("damaged", progress=progress(["?", masks[1]]))
    refused("damaged", progress=progress(masks[:1]))
    refused("progress.masks: expected a list", progress=progress(3))
    refused("allocation: expected 4 values", progress=progress(allocation=[]))
    refused("list index out of range", progress=progress(allocation=[[7], *others]))
    refused("meter: expected the loss so far", meter=None)
    refused(r"meter\[1\]: expected a number that is not negative", meter=[0.5, -1])
    arrays["v2"] = np.zeros(3)
    refused("of other shapes")


@pytest.mark.any_backend
def test_evaluation_and_prediction_do_nothing():
    """Before a training, after one, and after one that was interrupted in an epoch."""
    model, ours = compiled(net), callback(allocation="param", convolutions_only=False)

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations) == 15:
                raise KeyboardInterrupt

    def look():
        before, meter = weights(model), ours._meter and vars(ours._meter).copy()
        model.evaluate(X, Y, batch_size=8, verbose=0, callbacks=[ours])
        model.predict(X, batch_size=8, verbose=0, callbacks=[ours])
        assert_equal(weights(model), before)
        assert repr(meter) == repr(ours._meter and vars(ours._meter))

    look()
    with pytest.raises(KeyboardInterrupt):
        fit(model, ours, Interrupt())
    private.synchronize(model)
    look()
    fit(model, ours)
    look()


# -- company, devices, bad input -------------------------------------------------------------------


def test_one_pruning_callback_in_a_fit():
    """Two would get in each other's way; in two trainings they do not."""
    model = compiled(net)
    with pytest.raises(
        iplt.errors.OptionError, match="expected one SparsityCallback in a fit, received"
    ):
        fit(model, callback(), iplt.IPLTCallback(verbose=0))
    with pytest.raises(
        iplt.errors.OptionError, match="expected one IPLTCallback in a fit, received"
    ):
        fit(model, iplt.IPLTCallback(verbose=0), callback())
    with pytest.raises(iplt.errors.OptionError, match="expected no UpdatePruningStep beside"):
        fit(model, callback(), sparsity.UpdatePruningStep())
    with pytest.raises(iplt.errors.OptionError, match="BackupAndRestore"):
        fit(model, callback(), keras.callbacks.BackupAndRestore("x"))
    fit(model, callback(0.5, 0.5), epochs=2)
    fit(model, iplt.IPLTCallback(0.5, 0.5, every=1, verbose=0), epochs=2)
    assert model.get_layer("conv").filters < 8
    with pytest.raises(iplt.errors.OptionError, match="use a new callback"):
        ours = callback(0.5, 0.5)
        fit(model, ours, epochs=2)
        iplt.shrink(model, iplt.plan(model, 0.3))
        fit(model, ours, epochs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(target=1.0), r"target: expected a number in \[0, 1\)"),
        (dict(step=0), "step: expected"),
        (dict(per="step"), "per: expected 'epoch' or 'batch', received: 'step'"),
        (dict(allocation="deep"), "allocation: expected"),
        (dict(pattern=3), "pattern: expected"),
        (dict(guard="loss"), r"guard: expected a keras_iplt\.Guard"),
    ],
)
def test_bad_options(options, message):
    """They are found when the callback is made."""
    with pytest.raises(iplt.errors.OptionError, match=message):
        callback(**options)


def test_bad_options_for_a_model():
    """They are found before the first batch, and nothing has changed."""
    model = compiled(net)
    before = weights(model)
    for options in (dict(layers="tow"), dict(target=0.5, pattern=sparsity.patterns.MbyN(1, 4)),
                    dict(pattern=sparsity.patterns.Blocks((2, 2)))):  # fmt: skip
        with pytest.raises(iplt.errors.OptionError):
            fit(model, callback(**options))
    with pytest.raises(iplt.errors.NothingToPruneError, match="expected a convolution"):
        fit(compiled(), callback(allocation="depth"))
    assert_equal(before, weights(model))
    with pytest.warns(UserWarning, match="75% is reached at epoch 3, but training ends after 2"):
        fit(model, callback(), epochs=2)


def test_what_it_says(capsys):
    """A line at each step."""
    fit(compiled(net), callback(0.5, 0.25, verbose=1), epochs=3, verbose=2)
    lines = [line for line in capsys.readouterr().out.splitlines() if "Sparsity" in line]
    assert lines == [
        "SparsityCallback: 25.0% of 472 weights are zero",
        "SparsityCallback: 50.0% of 472 weights are zero",
    ]


DEVICES = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
import contextlib, os
import keras, numpy as np
import keras_iplt as iplt
from support.training import X, Y, compiled
two = sys.argv[1] == "two"
scope = contextlib.nullcontext()
if keras.backend.backend() == "jax":
    if two:
        devices = keras.distribution.list_devices()
        assert len(devices) == 2
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
else:
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    if two:
        scope = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()
with scope:
    from support.training import dense
    model = compiled(lambda: dense(16), keras.optimizers.SGD(0.05, momentum=0.9))
ours = iplt.SparsityCallback(0.75, 0.25, every=3, per="batch", allocation="param",
                             convolutions_only=False, verbose=0)
history = model.fit(X, Y, epochs=6, batch_size=12, shuffle=False, verbose=0, callbacks=[ours],
                    validation_data=(X[:12], Y[:12])).history
assert all(v.constraint is None for v in model.weights)
np.savez(sys.argv[2], *[np.asarray(keras.ops.convert_to_numpy(v)) for v in model.weights],
         loss=history["loss"], sparsity=history["sparsity"], record=ours.allocation.record)
"""


@pytest.mark.any_backend
def test_two_devices_prune_like_one(tmp_path):
    """MirroredStrategy on TensorFlow, data parallel on JAX: same zeros, same weights."""
    if BACKEND == "torch":
        pytest.skip("Keras does not distribute on PyTorch")
    tests = os.path.dirname(__file__)
    code = textwrap.dedent(DEVICES).format(tests=tests, root=os.path.dirname(tests))
    environment = {**os.environ, "KERAS_BACKEND": BACKEND, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    for count in ("one", "two"):
        done = subprocess.run(
            [sys.executable, "-c", code, count, str(tmp_path / f"{count}.npz")],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    one, two = (dict(np.load(tmp_path / f"{count}.npz")) for count in ("one", "two"))
    assert one["sparsity"][-1] == pytest.approx(0.75, abs=0.01)
    for name, value in one.items():
        np.testing.assert_allclose(value, two[name], rtol=1e-4, atol=1e-5, err_msg=name)
        assert ((value == 0) == (two[name] == 0)).all()


# -- from zeros to a smaller model -----------------------------------------------------------------


@pytest.mark.any_backend
def test_dead_channels_go_physically():
    """What nothing reads goes, then what only fed that; outputs stay the same."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(8, 3, name="one"), layers.BatchNormalization(),
         layers.ReLU(), layers.Conv2D(8, 3, padding="same", name="two"), layers.ReLU(),
         layers.Flatten(), layers.Dense(6, "sigmoid", name="three"), layers.Dense(2)]
    )  # fmt: skip
    numbers_of = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(numbers_of.uniform(0.1, 1, size=variable.shape))
    head = numbers(model.layers[-1].kernel).copy()
    head[[0, 5]] = 0
    model.layers[-1].kernel.assign(head)
    kernel = numbers(model.get_layer("three").kernel).reshape(36, 8, 6).copy()
    kernel[:, [2, 3], 1:5] = 0  # only read by what is not read itself
    model.get_layer("three").kernel.assign(kernel.reshape(-1, 6))
    small = sparsity.remove_dead(model)
    assert small.get_layer("three").units == 4
    assert small.get_layer("two").filters == 6
    assert small.get_layer("one").filters == 8
    x = numbers_of.normal(size=(3, 8, 8, 3))
    np.testing.assert_allclose(model.predict(x, verbose=0), small.predict(x, verbose=0), rtol=1e-5)


def apart(model, other):
    inputs = random_inputs(model)
    inputs = inputs if len(inputs) > 1 else inputs[0]
    pairs = zip(*(keras.tree.flatten(m(inputs)) for m in (model, other)), strict=True)
    return max(difference(a, b) for a, b in pairs)


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
def test_what_nothing_reads_goes_from_any_graph():
    """Random graphs in which random channels are multiplied with zeros only: outputs stay."""
    removed = 0
    for seed in range(40):
        model = build(sample(random.Random(f"dead {seed}")))
        randomize(model, seed)
        graph = iplt.trace(model)
        if not graph.groups:
            continue
        plan = random_plan(graph, seed)
        for piece in graph.slices:
            if piece.role == "input":
                value = numbers(piece.variable).copy()
                value[(slice(None),) * piece.axis + (plan.gone[piece.ids],)] = 0
                piece.variable.assign(value)
        small = sparsity.remove_dead(model)
        removed += model.count_params() > small.count_params()
        assert apart(model, small) < 1e-4, seed
    assert removed > 10


def test_channels_that_count_without_being_read_stay():
    """Those that a norm is taken over, and those that are multiplied with each other."""
    i = keras.Input((5, 6))
    x = layers.RMSNormalization()(layers.Dense(8, name="normed")(i))
    x = layers.Dense(6, name="reader")(x)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    model = keras.Model(i, layers.Dense(3)(x))
    randomize(model)
    kernel = numbers(model.get_layer("reader").kernel).copy()
    kernel[2:5] = 0
    model.get_layer("reader").kernel.assign(kernel)
    small = sparsity.remove_dead(model)
    assert apart(model, small) < 1e-5
    assert small.count_params() == model.count_params()


def test_filters_that_were_emptied_go_with_data():
    """They create constants, which later layers take up: exactly, before dense layers."""
    model = compiled(with_batch_norms)
    fit(model, callback(0.5, 0.25, pattern="filters", ignore="head"), epochs=4)
    assert sparsity.remove_dead(model).get_layer("hidden").units == 12
    small = sparsity.remove_dead(model, X)
    assert small.get_layer("hidden").units == 6
    np.testing.assert_allclose(
        model.predict(X, verbose=0), small.predict(X, verbose=0), rtol=1e-4, atol=1e-4
    )


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TFLite is TensorFlow's")
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
def test_zeros_survive_quantization(tmp_path):
    """Int8 weights of a pruned model are zero where they were."""
    import tensorflow as tf

    i = keras.Input((6, 6, 3), batch_size=1, name="image")
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(i)
    model = keras.Model(i, layers.Dense(4, name="head")(layers.Flatten()(x)))
    sparsity.prune_weights(model, 0.8)
    iplt.export(model, tmp_path / "m.tflite", precision="int8", data=X)
    interpreter = tf.lite.Interpreter(str(tmp_path / "m.tflite"))
    interpreter.allocate_tensors()
    kernels = {
        tuple(detail["shape"]): interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_tensor_details()
        if detail["dtype"] is np.int8 and tuple(detail["shape"]) in ((8, 3, 3, 3), (4, 128))
    }
    conv, head = (numbers(layer.kernel) for layer in (model.layers[1], model.layers[3]))
    expected = {(8, 3, 3, 3): conv.transpose(3, 0, 1, 2), (4, 128): head.T}
    assert kernels.keys() == expected.keys()
    for shape, value in kernels.items():
        assert not value[expected[shape] == 0].any()
        assert np.count_nonzero(value) > 0.9 * np.count_nonzero(expected[shape])


def test_variables_of_a_backup_know_nothing_of_masks():
    """What the optimizer carries for us is taken back."""
    model = compiled(net)
    fit(model, epochs=1)
    before = len(backup.variables_of(model))
    fit(model, callback())
    assert len(backup.variables_of(model)) == before
