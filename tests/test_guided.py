"""One layer at a time: what is good enough stays, and the step that was not is undone."""

import errno
import json
import os

import keras
import numpy as np
import pytest
from keras import layers

import keras_iplt as iplt
from keras_iplt._keras import build_optimizer
from keras_iplt.analysis import guided

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(64, 6)).astype("float32")
Y = (X[:, 0] > 0).astype("int64")


def network(dropout=0.0):
    keras.utils.set_random_seed(1)
    i = keras.Input((6,))
    x = layers.Dense(16, "relu", name="wide")(i)
    x = layers.Dense(8, "relu", name="narrow")(x)
    x = layers.Dropout(dropout, seed=1)(x) if dropout else x
    model = keras.Model(i, layers.Dense(2, name="head")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


def guided_by(values, monkeypatch, **options):
    """Pruned while the accuracies that evaluation finds are these, one after the other."""
    values, seen = iter(values), []

    def evaluated(model, data):
        seen.append({layer.name: layer.units for layer in model.layers[1:]})
        return {"loss": 1.0, "accuracy": next(values)}

    monkeypatch.setattr(guided, "_evaluated", evaluated)
    monkeypatch.setattr(guided, "_trained", lambda *arguments: None)
    found = iplt.prune_guided(network(), (X, Y), (X, Y), verbose=0, **options)
    return found, seen


def test_a_layer_gives_up_filters_until_that_is_too_much(monkeypatch):
    """Then it gets the last ones back, and the next layer's turn comes."""
    found, seen = guided_by(
        [0.9, 0.895, 0.89, 0.88, 0.9, 0.5], monkeypatch, layers=["wide", "narrow"], step=0.25
    )
    tried = [(step.layer, step.left, step.size, step.kept) for step in found.steps]
    assert tried == [
        ("wide", 12, 16, True), ("wide", 8, 16, True), ("wide", 4, 16, False),
        ("narrow", 6, 8, True), ("narrow", 4, 8, False),
    ]  # fmt: skip
    assert [(units["wide"], units["narrow"]) for units in seen] == [
        (16, 8), (12, 8), (8, 8), (4, 8), (8, 6), (8, 4)
    ]  # fmt: skip
    assert (found.baseline, found.value, found.metric) == (0.9, 0.9, "accuracy")
    assert found.model.get_layer("wide").units == 8 and found.model.get_layer("narrow").units == 6
    assert "taken back" in str(found).splitlines()[4] and "8 of 16" in str(found)


def test_a_layer_keeps_its_last_filters(monkeypatch):
    """It ends when a further step would take all."""
    found, _ = guided_by([0.9] * 9, monkeypatch, layers=["narrow"], step=0.5)
    assert [step.left for step in found.steps] == [4]
    found, _ = guided_by([0.9] * 9, monkeypatch, layers=["narrow"], step=0.3)
    assert [step.left for step in found.steps] == [6, 4, 2]


@pytest.mark.parametrize(("loss", "kept"), [(1.005, True), (1.02, False), (float("nan"), False)])
def test_less_loss_is_better(monkeypatch, loss, kept):
    """Where the loss is watched; and NaN is not good enough."""
    losses = iter([1.0, loss])
    monkeypatch.setattr(guided, "_evaluated", lambda *_: {"loss": next(losses)})
    monkeypatch.setattr(guided, "_trained", lambda *arguments: None)
    found = iplt.prune_guided(network(), (X, Y), (X, Y), 0.5, layers=["narrow"], verbose=0)
    assert [step.kept for step in found.steps] == [kept]


@pytest.mark.any_backend
@pytest.mark.parametrize("compensate", [None, X, iplt.Refit(X, how="at once")])
def test_what_stays_is_fitted_anew(monkeypatch, compensate):
    """Where half of a layer repeats the other half, with data next to nothing changes."""
    model = network()
    kernel, bias = model.layers[1].get_weights()
    kernel[:, 8:] = kernel[:, :8] / 2
    model.layers[1].set_weights([kernel, bias])
    monkeypatch.setattr(guided, "_trained", lambda *arguments: None)
    found = iplt.prune_guided(model, (X, Y), (X, Y), 0.5, 2e-3, layers=["wide"], metric="loss",
                              criterion="l1", compensate=compensate, verbose=0)  # fmt: skip
    (step,) = found.steps
    assert (abs(step.value - found.baseline) < 2e-3) == (compensate is not None)


@pytest.mark.any_backend
def test_a_real_model(tmp_path, capsys):
    """The least sensitive layer comes first, the model given stays as it is, and the best one so
    far is in a file."""
    model = network()
    model.fit(X, Y, epochs=30, verbose=0)
    before = model.get_weights()
    path = tmp_path / "best.keras"
    found = iplt.prune_guided(
        model, (X, Y), (X, Y), step=0.5, tolerance=0.03, epochs=10, path=path, batch_size=16
    )
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    order = iplt.sensitivity(model, (X, Y), criterion="l1", verbose=0).ranking()
    assert list(dict.fromkeys(step.layer for step in found.steps)) == list(order)
    assert found.model.count_params() < model.count_params()
    assert found.value >= found.baseline - 0.03
    there = found.model.evaluate(X, Y, verbose=0, return_dict=True)
    assert there["accuracy"] == pytest.approx(found.value)
    kept = keras.saving.load_model(path)
    np.testing.assert_allclose(
        kept.predict(X, verbose=0), found.model.predict(X, verbose=0), rtol=1e-5
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if " channels, " in line]
    assert len(lines) == len(found.steps) and "accuracy" in lines[0]


def test_data_sets_and_weights_are_taken():
    """Whatever `fit` takes."""

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return X[index::2], Y[index::2]

    weights = np.ones(64)
    for data in (Batches(), (X, Y, weights)):
        found = iplt.prune_guided(
            network(), data, data, 0.5, tolerance=1.0, epochs=1, layers=["narrow"], verbose=0
        )
        assert found.steps[0].kept


@pytest.mark.parametrize(("options", "error", "words"), [
    (dict(step=0), iplt.errors.OptionError, "step: expected a number in (0, 1), received: 0"),
    (dict(step=1), iplt.errors.OptionError, "step: expected"),
    (dict(tolerance=-1), iplt.errors.OptionError, "tolerance: expected"),
    (dict(epochs=0), iplt.errors.OptionError, "epochs: expected a positive integer, received: 0"),
    (dict(metric="auc"), iplt.errors.OptionError, "metric: expected one of 'accuracy', 'loss'"),
    (dict(layers=["head"]), iplt.errors.OptionError, "layers: expected some of 'wide', 'narrow'"),
    (dict(validation=iter([])), iplt.errors.DataError, "at least one batch, received: <list_iter"),
    (dict(train=(X,)), iplt.errors.DataError, "train: expected (x, y)"),
    (dict(validation=(X,)), iplt.errors.DataError, "validation: expected (x, y)"),
    (dict(path="no/such/place.keras"), iplt.errors.OptionError, "in a directory that exists"),
])  # fmt: skip
def test_what_is_wrong_is_said(options, error, words):
    """Before the first epoch where that can be known."""
    given = {"train": (X, Y), "validation": (X, Y), "epochs": 1, "tolerance": 1.0, "verbose": 0}
    with pytest.raises(error) as caught:
        iplt.prune_guided(network(), **{**given, **options})
    assert words in str(caught.value)


def test_a_model_that_is_not_compiled_is_refused():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Dense(2)])
    with pytest.raises(iplt.errors.DataError, match=r"is not compiled: call model.compile"):
        iplt.prune_guided(model, (X, Y), (X, Y))


# -- a pruning that is killed ----------------------------------------------------------------------


class Killed(BaseException):
    """As KeyboardInterrupt would."""


def killed_after(count, monkeypatch):
    """From now on training is interrupted when it has begun so often."""
    trained, calls = guided._trained, iter(range(10**6))

    def interrupted(*arguments):
        if next(calls) == count:
            raise Killed
        return trained(*arguments)

    monkeypatch.setattr(guided, "_trained", interrupted)


def pruned(dropout=0.0, **options):
    model = network(dropout)
    model.fit(X, Y, epochs=20, shuffle=False, verbose=0)
    fit = {"epochs": 1, "batch_size": 16, "shuffle": False, "verbose": 0}
    return iplt.prune_guided(model, (X, Y), (X, Y), step=0.3, tolerance=0.02, **fit, **options)


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_a_pruning_that_was_killed_goes_on(count, monkeypatch, tmp_path):
    """To the same steps and the same weights, none of them done twice; random numbers go on, too,
    which Keras keeps in no file."""
    how = {"dropout": 0.2, "layers": ["wide", "narrow"], "criterion": "l1"}  # in many steps
    whole = pruned(**how)
    assert [step.kept for step in whole.steps].count(False) and len(whole.steps) > 4
    with monkeypatch.context() as patch:
        killed_after(count, patch)
        with pytest.raises(Killed):
            pruned(**how, backup_dir=tmp_path)
    with monkeypatch.context() as patch:
        killed_after(len(whole.steps) - count, patch)  # one more would be one too many
        resumed = pruned(**how, backup_dir=tmp_path)
    assert resumed.steps == whole.steps and resumed.value == whole.value
    for one, other in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not list(tmp_path.iterdir())


def test_backups_that_are_of_no_use(monkeypatch, tmp_path):
    """Those of another pruning, and damaged ones."""
    with monkeypatch.context() as patch:
        killed_after(2, patch)
        with pytest.raises(Killed):
            pruned(layers=["wide", "narrow"], backup_dir=tmp_path)
    with pytest.raises(iplt.errors.BackupError, match=r"expected epochs 2, received: 1"):
        iplt.prune_guided(network(), (X, Y), (X, Y), step=0.3, tolerance=0.02, epochs=2, verbose=0,
                          backup_dir=tmp_path)  # fmt: skip
    (tmp_path / "guided.json").write_text("{")
    with pytest.raises(iplt.errors.BackupError, match="damaged"):
        pruned(backup_dir=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(iplt.errors.BackupError, match="directory"):
        pruned(backup_dir=tmp_path / "file")


@pytest.fixture
def quick(monkeypatch):
    """Pruned by made-up accuracies, until the third step is killed, or to the end."""
    monkeypatch.setattr(guided, "_trained", lambda model, *_: build_optimizer(model))

    def go(directory, accuracies, **options):
        values = iter(accuracies)

        def evaluated(model, data):
            if (value := next(values)) is Killed:
                raise Killed
            return {"loss": 1.0, "accuracy": value}

        monkeypatch.setattr(guided, "_evaluated", evaluated)
        return iplt.prune_guided(
            network(), (X, Y), (X, Y), step=0.25, tolerance=0.1, epochs=1, verbose=0,
            layers=["wide", "narrow"], backup_dir=directory, **options,
        )  # fmt: skip

    def killed(directory):
        with pytest.raises(Killed):
            go(directory, [0.9, 0.89, 0.88, Killed])
        return json.loads((directory / "guided.json").read_text())

    go.killed = killed
    return go


FORGED = [
    ("state", 3), ("state", {}), ("model", "../dear.keras"), ("model", "step9.keras"),
    ("model", None), ("made for", []), ("state.metric", "loss"), ("state.baseline", 0.7),
    ("state.baseline", "high"), ("state.layers", ["narrow", "head"]), ("state.layers", "wide"),
    ("state.steps", []), ("state.steps.0.left", 0), ("state.steps.0.left", 99),
    ("state.steps.0.size", 17), ("state.steps.0.layer", "head"), ("state.steps.1.params", 7),
    ("state.steps.1.kept", False), ("state.steps.1.kept", 1), ("state.steps.0.value", []),
    ("random", 3), ("random", [[1, 2]]),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value"), FORGED, ids=str)
def test_forged_backups_are_refused(place, value, quick, tmp_path):
    """Before anything is trained; no file is touched, and none elsewhere."""
    note = quick.killed(tmp_path / "backup")
    *path, last = (int(key) if key.isdecimal() else key for key in place.split("."))
    inside = note
    for key in path:
        inside = inside[key]
    inside[last] = value
    (tmp_path / "backup" / "guided.json").write_text(json.dumps(note))
    (tmp_path / "dear.keras").write_text("dear")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with pytest.raises(iplt.errors.BackupError, match="no backup of this pruning"):
        quick(tmp_path / "backup", [0.9])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
@pytest.mark.parametrize("name", ["guided.json", "guided2.keras"])
def test_a_pipe_is_not_waited_for(name, quick, tmp_path):
    quick.killed(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(iplt.errors.BackupError, match="damaged"):
        quick(tmp_path, [0.9])


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_a_disk_that_is_full_for_a_while(quick, monkeypatch, tmp_path):
    """Backups and the file are written when there is room again: of the model that is best then.
    Nothing that counts no longer is left."""
    put, count = os.replace, iter(range(10**6))

    def full(source, target):
        if next(count) in (2, 3, 4):  # of the second step: the file, the model and its note
            raise OSError(errno.ENOSPC, "No space left on device")
        put(source, target)

    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="No space left"):
        patch.setattr(os, "replace", full)
        with pytest.raises(Killed):
            quick(tmp_path, [0.9, 0.89, 0.88, 0.5, Killed], path=tmp_path / "best.keras")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.keras", "guided.json", "guided3.keras"
    ]  # fmt: skip
    found = quick(tmp_path, [0.9, 0.5])
    assert [step.kept for step in found.steps] == [True, True, False, False]
    assert found.model.get_layer("wide").units == 8


@pytest.mark.parametrize(("other", "what"), [
    ({"seed": 2}, "weights of the model"), ({"criterion": "l2"}, "criterion"),
    ({"y": 1 - Y}, "data"), ({"layers": ["narrow"]}, "layers")])  # fmt: skip
def test_a_backup_of_another_model_is_refused(monkeypatch, tmp_path, other, what):
    """Of other weights, criterion, data or layers, although all sizes are the same."""

    def go(seed=1, criterion="l1", y=Y, layers=("wide", "narrow")):
        model = network()
        model.layers[1].kernel.assign(np.full((6, 16), seed, "float32"))
        return iplt.prune_guided(model, (X, y), (X, y), step=0.3, tolerance=9.0, epochs=1,
                                 criterion=criterion, layers=list(layers), verbose=0,
                                 backup_dir=tmp_path)  # fmt: skip

    with monkeypatch.context() as patch:
        killed_after(2, patch)
        with pytest.raises(Killed):
            go()
    with pytest.raises(iplt.errors.BackupError, match=what):
        go(**other)
    go()
