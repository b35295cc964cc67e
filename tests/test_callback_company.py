"""`IPLTCallback` among other callbacks, in every way to fit, guarded, and given nonsense."""

import csv
import itertools
import math
import re
import warnings

import keras
import numpy as np
import pytest
from keras import callbacks as kc
from keras import layers, ops
from support.training import BACKEND, QUIET, X, Y, callback, compiled, dense, fit, residual, widths

import keras_iplt as iplt
from keras_iplt.callbacks.backup import variables_of

pytestmark = pytest.mark.slow

STEPS = dict(target=0.5, step=0.25, every=1)  # 20, 15, 10 hidden units


def ours(**options):
    return callback(**STEPS | options)


class Scripted(kc.Callback):
    """Says what a metric was."""

    def __init__(self, name, values):
        super().__init__()
        self.name, self.values = name, values

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]


def arrays(model):
    return [np.array(ops.convert_to_numpy(v)) for v in variables_of(model)]


def equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# -- company ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_best_weights_are_restored_at_the_size_of_the_model(first):
    """EarlyStopping forgets the best epoch of the larger model, and restores the best one of the
    small model, wherever it stands in the list."""
    model = compiled()
    best = kc.EarlyStopping("score", mode="max", patience=9, restore_best_weights=True)
    script = Scripted("score", [9, 9, 1, 3, 2, 2])
    seen = {}
    watch = kc.LambdaCallback(on_epoch_end=lambda e, logs: seen.update({e: model.get_weights()}))
    several = [script, best, watch]
    model.fit(X, Y, epochs=6, callbacks=[ours(), *several] if first else [*several, ours()],
              **QUIET)  # fmt: skip
    assert best.best == 3 and widths(model)["hidden"] == 10
    assert equal(model.get_weights(), seen[3])


@pytest.mark.any_backend
@pytest.mark.parametrize("first", [True, False])
def test_best_weights_of_a_masked_model_follow_it(first):
    """What waits as zeros is carried out before best weights are restored, and these are cut."""
    model = compiled()
    best = kc.EarlyStopping("score", mode="max", patience=9, restore_best_weights=True)
    script = Scripted("score", [9, 1, 3, 2])
    seen = {}
    watch = kc.LambdaCallback(
        on_epoch_end=lambda e, logs: seen.update({e: model.predict(X, verbose=0)})
    )
    several = [script, best, watch]
    mask = ours(mode="mask", target=schedule_without_end())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.fit(X, Y, epochs=4, callbacks=[mask, *several] if first else [*several, mask],
                  **QUIET)  # fmt: skip
    assert widths(model)["hidden"] == 15
    np.testing.assert_allclose(model.predict(X, verbose=0), seen[2], rtol=1e-5, atol=1e-6)


def schedule_without_end():
    return iplt.schedules.Ratios({1: 0.25, 50: 0.5})


def test_checkpoints_hold_the_model_of_their_epoch(tmp_path):
    """Whole models reload at the size that they had, weights fit the model of that size, and the
    best one so far is that of the present size."""
    model = compiled()
    script = Scripted("score", [9, 8, 1, 3, 2])
    several = [
        kc.ModelCheckpoint(f"{tmp_path}/whole{{epoch}}.keras"),
        kc.ModelCheckpoint(f"{tmp_path}/best.weights.h5", "score", mode="max", save_best_only=True,
                           save_weights_only=True),
        kc.ModelCheckpoint(f"{tmp_path}/often.keras", save_freq=4),
    ]  # fmt: skip
    seen = {}
    watch = kc.LambdaCallback(on_epoch_end=lambda e, logs: seen.update({e: model.get_weights()}))
    model.fit(X, Y, epochs=5, callbacks=[script, *several, watch, ours()], **QUIET)
    for epoch, units in enumerate([20, 15, 10, 10, 10]):
        again = keras.models.load_model(tmp_path / f"whole{epoch + 1}.keras")
        assert widths(again)["hidden"] == units
        assert equal(again.get_weights(), seen[epoch])
    model.load_weights(tmp_path / "best.weights.h5")
    assert equal(model.get_weights(), seen[3])
    assert widths(keras.models.load_model(tmp_path / "often.keras"))["hidden"] == 10


@pytest.mark.parametrize("first", [True, False])
def test_backup_and_restore_is_refused(first, tmp_path):
    """It could not restore a smaller model: the error comes at once and says what to use."""
    model = compiled()
    several = [ours(), kc.BackupAndRestore(tmp_path)]
    with pytest.raises(iplt.PruningError, match="IPLTCallback\\(backup_dir"):
        model.fit(X, Y, callbacks=several if first else several[::-1], **QUIET)
    assert widths(model)["hidden"] == 20


def test_two_of_ours_are_refused():
    """Each would count what the other removes."""
    with pytest.raises(iplt.PruningError, match="expected one IPLTCallback"):
        compiled().fit(X, Y, callbacks=[ours(), ours()], **QUIET)


def test_learning_rates_go_on():
    """A schedule of the learning rate does, and a plateau is counted anew after a step."""
    model = compiled()
    halves = kc.LearningRateScheduler(lambda epoch, rate: 0.01 * 0.5**epoch)
    rates = fit(model, ours(), 4, [halves])["learning_rate"]
    assert rates == pytest.approx([0.01, 0.005, 0.0025, 0.00125])
    plateau = kc.ReduceLROnPlateau("score", mode="max", patience=2, factor=0.1)
    other = compiled()
    fit(other, ours(), 5, [Scripted("score", [9, 8, 7, 6, 5]), plateau])
    assert float(other.optimizer.learning_rate) == pytest.approx(0.001)  # reduced once: 7, 6, 5
    assert plateau.best == 7


@pytest.mark.parametrize("first", [True, False])
def test_the_rest_of_the_company(first, tmp_path, monkeypatch):
    """SwapEMAWeights, TensorBoard, CSVLogger, TerminateOnNaN and lambdas see the shrinking model,
    and the CSV file has a column for each of our figures from the first epoch."""
    model = compiled(optimizer=keras.optimizers.Adam(0.01, use_ema=True))
    several, tags = [kc.CSVLogger(tmp_path / "log.csv"), kc.TerminateOnNaN()], set()
    if BACKEND == "tensorflow":
        import tensorflow.summary as summary

        def scalar(tag, *args, **kwargs):  # the real one needs the package tensorboard
            tags.add(tag)

        monkeypatch.setattr(summary, "scalar", scalar)
        several += [kc.SwapEMAWeights(swap_on_epoch=True), kc.TensorBoard(tmp_path / "board")]
    several = [ours(), *several] if first else [*several, ours()]
    history = model.fit(X, Y, epochs=4, callbacks=several, validation_data=(X[:4], Y[:4]), **QUIET)
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["ratio"]) for row in rows] == [0, 0.25, 0.5, 0.5]
    assert [float(row["params"]) for row in rows] == history.history["params"]
    assert history.history["params"][-1] == model.count_params()
    assert math.isfinite(history.history["loss"][-1])
    if BACKEND == "tensorflow":
        assert {"epoch_ratio", "epoch_params", "epoch_flops"} <= tags


# -- logs ------------------------------------------------------------------------------------------


def test_the_logs_hold_the_figures_of_the_model():
    """From the first epoch: the share that is gone, the parameters, and the FLOPs."""
    model = compiled(residual)
    counted = []
    watch = kc.LambdaCallback(on_epoch_end=lambda e, logs: counted.append(
        (model.count_params(), iplt.profile(model).flops)))  # fmt: skip
    history = fit(model, ours(), 4, [watch])
    assert [*zip(history["params"], history["flops"], strict=True)] == counted
    assert all(isinstance(v, float) for name in ("ratio", "params") for v in history[name])


def test_unknown_sizes_have_no_flops():
    """Where FLOPs depend on the size of the image they are left out, and only asking for a share
    of them is an error."""

    def build():
        i = keras.Input((None, None, 3))
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, activation="relu")(i))
        return keras.Model(i, layers.Dense(2)(x))

    history = fit(compiled(build), ours(), 4)
    assert "flops" not in history and history["ratio"][-1] == 0.5
    with pytest.raises(iplt.PruningError, match=r"FLOPs|size"):
        fit(compiled(build), ours(of="flops"))


@pytest.mark.parametrize(("verbose", "of_fit"), [(0, 2), (1, 0), (1, 2)])
def test_a_line_at_each_step_unless_silent(verbose, of_fit, capsys):
    """`verbose=0`, here or in `fit`, is silence."""
    fit(compiled(), ours(verbose=verbose), 4, verbose=of_fit)
    lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith("IPLTCallback")]
    if not (verbose and of_fit):
        assert not lines
        return
    first, second, last = lines
    layers = r"; most from \w+ \(\d+ -> \d+\)(, \w+ \(\d+ -> \d+\))*"
    left = rf"of the filters gone, [\d,]+ parameters left, [\d.]+ MFLOPs{layers}"
    assert re.fullmatch(rf"IPLTCallback: epoch 2: 25\.0% {left}", first)
    assert re.fullmatch(rf"IPLTCallback: epoch 3: 50\.0% {left}", second)
    assert re.match(r"IPLTCallback: pruning took \d+\.\d s, compiling what was left another", last)


@pytest.mark.parametrize("of_fit", [1, 2])
def test_the_progress_bar_shows_nothing_of_ours(of_fit, capsys):
    """It would show the mean of parameters with four decimals. All others get them."""
    seen = Seen()
    bars = [keras.callbacks.ProgbarLogger()], []  # one of the user, first; the one that fit adds
    for bar in bars:
        history = fit(compiled(), ours(), 4, callbacks=[*bar, seen], verbose=of_fit)
        assert {"ratio", "params", "flops"} <= history.keys() and "params" in seen.logs
        out = capsys.readouterr().out
        assert "loss:" in out and not re.search("ratio:|params:|flops:", out)


class Seen(keras.callbacks.Callback):
    """The logs of the last epoch."""

    def on_epoch_end(self, epoch, logs=None):
        self.logs = dict(logs)


# -- guard -----------------------------------------------------------------------------------------


class Told(keras.metrics.Metric):
    """A metric that is what it is told to be."""

    def __init__(self):
        super().__init__(name="score")
        self.value = self.add_variable((), "zeros", name="value")

    def update_state(self, *args, **kwargs):
        pass

    def reset_state(self):
        pass

    def result(self):
        return ops.convert_to_tensor(self.value)


def guarded(values, action, better="max", **options):
    """Hidden units by epoch, what was there at the start and at the end of each, and the model."""
    model, score = compiled(), Told()
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=[score])
    sizes, begins, ends = [], [], []

    class Look(kc.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            score.value.assign(values[epoch])
            begins.append(arrays(model))

        def on_epoch_end(self, epoch, logs=None):
            sizes.append(round(20 * (1 - logs["ratio"])))
            ends.append(arrays(model))

    one = ours(guard=iplt.Guard("score", drop=1, action=action, mode=better), **options)
    model.fit(X, Y, epochs=len(values), callbacks=[one, Look()], **QUIET)
    return sizes, begins, ends, model


@pytest.mark.parametrize(
    ("values", "better"),
    [([9, 7, 9, 9, 9], "max"), ([1, 3, 1, 1, 1], "min"), ([9, math.nan, 9, 9, 9], "max")],
)
def test_steps_wait_while_the_metric_is_down(values, better):
    """The schedule goes on where it stood once the metric has recovered. NaN is down."""
    sizes, *_ = guarded(values, "hold", better)
    assert sizes == [20, 15, 15, 10, 10]


@pytest.mark.any_backend
@pytest.mark.parametrize("mode", ["shrink", "mask"])
def test_the_last_step_is_taken_back(mode):
    """With all weights and slots as they were before it, to the bit; then training goes on, and no
    other step follows."""
    sizes, begins, ends, model = guarded([9, 9, 5, 9, 9], "back", mode=mode)
    assert sizes == [20, 15, 10, 15, 15]
    now = [a for a in begins[3] if a.ndim]
    assert equal(now, [a for a in ends[1] if a.ndim])
    assert not equal(now, [a for a in ends[3] if a.ndim]), "training goes on"
    assert widths(model)["hidden"] == 15
    assert np.isfinite(model.predict(X, verbose=0)).all()


def test_training_stops():
    """Before the epoch in which a step is due."""
    sizes, *_ = guarded([9, 5, 9, 9], "stop")
    assert sizes == [20, 15]


def test_nothing_to_take_back(capsys):
    """Where no step has been made, one that would be taken back waits instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        sizes, *_ = guarded([math.nan, 9, 9], "back")
    assert sizes == [20, 20, 15]


def test_a_metric_that_is_not_there():
    """Is an error that names those that are; metrics of validation may come every other epoch."""
    with pytest.raises(iplt.PruningError, match=r"'acc' in the logs, received: .*'mae'"):
        fit(compiled(), ours(guard=iplt.Guard("acc")))
    with pytest.raises(iplt.PruningError, match="val_mae"):
        fit(compiled(), ours(guard=iplt.Guard("val_mae")))
    late = ours(target={3: 0.5}, guard=iplt.Guard("val_mae", drop=99, mode="min"), every=None)
    history = fit(compiled(), late, 5, validation_data=(X, Y), validation_freq=2)
    assert history["ratio"][-1] == 0.5


# -- bad input -------------------------------------------------------------------------------------


def lambda_with_sizes():
    i = keras.Input((6, 6, 3))
    x = layers.Flatten()(layers.Conv2D(8, 3)(i))
    x = layers.Lambda(lambda t: ops.reshape(t, (-1, 16, 8)))(x)
    return keras.Model(i, layers.Dense(2)(layers.Flatten()(x)))


def only_a_head():
    return keras.Sequential([keras.Input((6, 6, 3)), layers.Flatten(), layers.Dense(2)])


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (dense, dict(target=0.99, min_channels=5), "cannot be removed, at most"),
        (dense, dict(criterion="taylor"), "expected data="),
        (dense, dict(ignore="nonsense"), "no layer 'nonsense'"),
        (dense, dict(colour="red"), "received: 'colour'"),
        (dense, dict(of="bytes"), "of: expected"),
        (dense, dict(also=[3]), "also: expected a keras.Model or several"),
        (only_a_head, {}, "no channel that may be pruned"),
        (lambda_with_sizes, dict(target=0.5), "lambda"),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_epoch(build, options, message):
    """And the model is left alone."""
    model, epochs = compiled(build), []
    before = model.get_weights()
    watch = kc.LambdaCallback(on_epoch_begin=lambda *_: epochs.append(1))
    with pytest.raises(iplt.PruningError, match=message):
        fit(model, ours(**options), 4, [watch])
    assert not epochs and equal(before, model.get_weights())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(target=1.0), "target: expected a number in"),
        (dict(target=-0.1), "target: expected a number in"),
        (dict(target=[0.5, 0.2]), "does not decrease"),
        (dict(target=[]), "not empty"),
        (dict(target="half"), "target: expected a share"),
        (dict(step=0), "step: expected"),
        (dict(every=0), "every: expected"),
        (dict(mode="hard"), "mode: expected one of"),
        (dict(guard="val_loss"), "guard: expected a keras_iplt.Guard"),
        (dict(criterion="size"), "criterion: expected one of"),
        (dict(soft_epochs=3), "soft_epochs: expected None"),
    ],
)
def test_wrong_options_are_refused_at_once(options, message):
    """When the callback is made; the error names the option."""
    with pytest.raises(iplt.PruningError, match=message):
        iplt.IPLTCallback(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(monitor=3), "monitor: expected"),
        (dict(drop=-1), "drop: expected"),
        (dict(action="wait"), "action: expected one of"),
        (dict(mode="up"), "mode: expected"),
    ],
)
def test_wrong_guards_are_refused_at_once(options, message):
    """Likewise."""
    with pytest.raises(iplt.PruningError, match=message):
        iplt.Guard(**options)


def test_too_few_epochs_are_warned_about():
    """With the share that will be reached."""
    with pytest.warns(UserWarning, match="reached at epoch 6, .* after 4 epochs, at 25%"):
        history = fit(compiled(), ours(every=3), 4)
    assert history["ratio"][-1] == 0.25
    with pytest.warns(UserWarning, match="7 steps do not fit into the first half of 8 epochs"):
        fit(compiled(), callback(0.7, 0.1, every=None), 8)


@pytest.mark.parametrize("mode", ["shrink", "mask", "soft"])
def test_broken_weights_are_not_pruned(mode):
    """Once the loss is NaN nothing is removed, with a warning; training goes on to its end."""
    model = compiled()
    spoilt = Y.copy()
    spoilt[3] = math.nan
    with pytest.warns(UserWarning, match="(no filter|nothing) is removed"):
        model.fit(X, spoilt, epochs=4, callbacks=[ours(mode=mode)], **QUIET)
    assert widths(model)["hidden"] == 20


@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere, Keras builds it before training")
def test_an_unbuilt_model_is_refused():
    """There is nothing to read yet: the error says what to do."""
    net = [layers.Flatten(), layers.Dense(8), layers.Dense(2)]
    model = compiled(lambda: keras.Sequential(net))
    with pytest.raises(iplt.errors.ModelError, match="call it on a batch or give it"):
        fit(model, ours())


def test_an_uncompiled_model_gets_the_error_of_keras():
    """It is no business of ours."""
    with pytest.raises(ValueError, match="compile"):
        dense().fit(X, Y, callbacks=[ours()], **QUIET)


# -- ways to fit -----------------------------------------------------------------------------------


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.flat = layers.Flatten()
        self.hidden = layers.Dense(20, "relu", name="hidden")
        self.out = layers.Dense(2)

    def call(self, x):
        return self.out(self.hidden(self.flat(x)))


def subclassed():
    model = Net()
    model(X[:1])
    return model


def nested():
    i = keras.Input((6, 6, 3))
    inside = keras.Sequential([layers.Flatten(), layers.Dense(20, "relu", name="hidden")])
    return keras.Model(i, layers.Dense(2)(inside(i)))


def transfer():
    base = dense()
    base.trainable = False
    return keras.Model(base.inputs, layers.Dense(2)(base.get_layer("hidden").output))


@pytest.mark.parametrize("build", [subclassed, nested, transfer])
def test_kinds_of_models(build):
    """However the model was made, it ends at the same size, and goes on to work."""
    model = compiled(build)
    history = fit(model, ours(), 4)
    assert history["ratio"] == [0, 0.25, 0.5, 0.5]
    assert widths(model)["hidden"] == 10
    assert model.predict(X, verbose=0).shape == (24, 2)


class OwnStep(keras.Sequential):
    steps = 0  # traced

    def train_step(self, *args):
        OwnStep.steps += 1
        return super().train_step(*args)


def own_train_step():
    return OwnStep([keras.Input((6, 6, 3)), *dense().layers])


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 6

    def __getitem__(self, i):
        return X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4]


def generator():
    yield from itertools.cycle([Batches()[i] for i in range(6)])


def tf_data():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)


ALL = dict(x=X, y=Y, batch_size=4)
WAYS = {
    "jit": (dict(jit_compile=True), ALL),
    "no_jit": (dict(jit_compile=False), ALL),
    "several_steps": (dict(jit_compile=False, steps_per_execution=3), ALL),
    "eagerly": (dict(jit_compile=False, run_eagerly=True), ALL),
    "weights": ({}, dict(ALL, sample_weight=np.linspace(0, 1, 24))),
    "split": ({}, dict(ALL, validation_split=0.25)),
    "dataset": ({}, dict(x=Batches())),
    "tf_data": ({}, dict(x=tf_data)),
    "generator": ({}, dict(x=generator, steps_per_epoch=6)),
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_fit(way):
    """Whatever compiles and feeds the training."""
    options, given = WAYS[way]
    if way == "tf_data":
        pytest.importorskip("tensorflow")
    given = {k: v() if callable(v) and k == "x" else v for k, v in given.items()}
    model = compiled(own_train_step if way == "no_jit" else dense, **options)
    history = model.fit(epochs=4, verbose=0, shuffle=False, callbacks=[ours()], **given).history
    assert history["ratio"] == [0, 0.25, 0.5, 0.5]
    assert widths(model)["hidden"] == 10
    assert history["loss"][-1] < history["loss"][0]


def test_class_weights_and_half_precision():
    """A classifier in mixed precision, with classes weighted."""
    keras.config.set_dtype_policy("mixed_float16")
    model = dense()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  jit_compile=False)  # fmt: skip
    history = model.fit(X, np.arange(24) % 2, class_weight={0: 1.0, 1: 3.0}, epochs=4,
                        callbacks=[ours(mode="mask")], **QUIET).history  # fmt: skip
    assert history["ratio"] == [0, 0.25, 0.5, 0.5] and widths(model)["hidden"] == 10
    assert np.isfinite(history["loss"]).all()


def test_the_schedule_goes_on_from_fit_to_fit():
    """A second `fit` with the same callback takes the next step, whether it counts its epochs anew
    or from `initial_epoch`; with another model it begins anew."""
    model, one = compiled(), ours(step=0.1)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found += fit(model, one, 2)["ratio"]
        found += fit(model, one, 2)["ratio"]
        found += fit(model, one, 7, initial_epoch=4)["ratio"]
        assert found == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.5])
        assert fit(compiled(), one, 2)["ratio"] == pytest.approx([0, 0.1])


def test_finish_after_an_interruption():
    """What was at zero when `fit` broke off goes physically when one says so."""
    model, one = compiled(), ours(mode="mask")

    def interrupt(epoch, logs):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, one, 4, [kc.LambdaCallback(on_epoch_end=interrupt)])
    assert widths(model)["hidden"] == 20
    before = model.predict(X, verbose=0)
    one.finish()
    one.finish()
    assert widths(model)["hidden"] == 15
    np.testing.assert_allclose(model.predict(X, verbose=0), before, rtol=1e-5, atol=1e-6)
