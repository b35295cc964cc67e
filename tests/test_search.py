"""As small as it goes: the largest share that is good enough is found, in time, and again."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_iplt as iplt
from keras_iplt.analysis import searching
from keras_iplt.errors import BackupError, DataError, OptionError

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(128, 6)).astype("float32")
Y = (X[:, 0] > 0).astype("int64")


def network(width=64):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.Input((6,)), layers.Dense(width, "relu", name="wide"),
        layers.Dense(width // 2, "relu", name="narrow"), layers.Dense(2, name="head"),
    ])  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


def judged_by(function, monkeypatch):
    """The metrics of a model are a function of the share of parameters that are left."""
    whole = network().count_params()

    def evaluated(model, data, name):
        return function(model.count_params() / whole)

    monkeypatch.setattr(searching, "evaluated", evaluated)


def search(model=None, **options):
    options = {"criterion": "l1", "scope": "layer", "verbose": 0, **options}
    return iplt.smallest(model or network(), (X, Y), **options)


# -- the search ------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0.07, 0.3, 0.5, 0.72, 0.9])
def test_the_largest_share_that_is_good_enough_is_found(monkeypatch, most):
    """Within a step, with as few models as bisection takes."""
    judged_by(lambda left: {"loss": 1.0, "accuracy": 0.9 if 1 - left <= most else 0.8}, monkeypatch)
    found = search(step=0.1)
    assert most - 0.11 * (1 - most) - 0.02 <= found.best.share <= most + 0.02 and found.complete
    assert found.model.count_params() == found.best.params < network().count_params()
    assert 5 <= len(found.tried) <= 9 and [one.share for one in found.tried[:2]] == [0.0, 0.5]
    assert (found.metric, found.of, found.least) == ("accuracy", "params", pytest.approx(0.89))
    assert iplt.rewrite(network(), found.plan).count_params() == found.best.params


def test_a_model_that_can_lose_nothing_is_given_back(monkeypatch):
    """As it is; and one that can lose all there is loses that."""
    judged_by(lambda left: {"loss": 2.0 if left < 1 else 1.0}, monkeypatch)
    model = network()
    found = search(model, step=0.1)
    assert found.model is model and found.plan is None and found.best.share == 0
    judged_by(lambda left: {"loss": 1.0}, monkeypatch)
    found = search(step=0.01, min_channels=8)
    assert found.model.get_layer("wide").units == 8 and found.complete
    assert all(one.good for one in found.tried)


@pytest.mark.parametrize(("value", "good"), [(1.009, True), (1.02, False), (float("nan"), False)])
def test_less_loss_is_better(monkeypatch, value, good):
    """Where the loss is watched; and no number is not good enough."""
    judged_by(lambda left: {"loss": 1.0 if left == 1 else value, "accuracy": 0.5}, monkeypatch)
    found = search(metric="loss", step=0.4)
    assert [one.good for one in found.tried[1:]] == [good] * len(found.tried[1:])
    assert found.least == pytest.approx(1.01)


def test_what_is_to_be_small_is_said(monkeypatch):
    """FLOPs, filters, or whatever measures; limits of plans hold."""
    judged_by(lambda left: {"loss": 1.0 if left > 0.4 else 2.0}, monkeypatch)
    for of in ("flops", "filters"):
        found = search(of=of, step=0.1, ignore="wide")
        assert found.of == of and found.model.get_layer("wide").units == 64
    table = searching.resolved(iplt.trace(network()), "macs", None)[0]
    assert search(of=table, step=0.1).of == "macs"


@pytest.mark.slow
@pytest.mark.any_backend
def test_a_real_model(capsys):
    """It is pruned, fitted anew, trained and judged; the one given stays as it is."""
    model = network()
    model.fit(X, Y, epochs=20, verbose=0)
    before = model.get_weights()
    found = iplt.smallest(
        model, (X, Y), within=0.02, train=(X, Y), epochs=3, compensate=X, step=0.1
    )
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.model.count_params() < 0.5 * model.count_params()
    there = found.model.evaluate(X, Y, verbose=0, return_dict=True)["accuracy"]
    assert there == pytest.approx(found.best.value) and there >= found.least
    assert int(found.model.optimizer.iterations) == 3 * 4
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "parameters left: accuracy" in line]) == len(found.tried)
    rows = str(found).splitlines()
    assert len(rows) == 1 + len(found.tried) and sum("taken" in row for row in rows) == 1


def test_training_is_what_the_user_says():
    """A function, given each model; or nothing."""
    seen = []
    found = search(train=seen.append, step=0.2, within=1.0)
    assert [model.count_params() for model in seen] == [one.params for one in found.tried[1:]]
    assert found.model is seen[-1]
    found = search(step=0.2, within=1.0)
    assert int(found.model.optimizer.iterations) == 0


@pytest.mark.slow
def test_criteria_look_at_data():
    """At what is trained on, if that is data."""
    looked = []

    class Looks(iplt.criteria.Criterion):
        needs_data = True

        def score(self, filters):
            return np.arange(len(filters.weights))

    for train, expected in (((X[:32], Y[:32]), 32), (None, 128), (lambda model: None, 128)):
        original = searching.decide

        def decide(graph, share, options, data, original=original):
            looked.append(len(data[0]))
            return original(graph, share, options, data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(searching, "decide", decide)
            search(train=train, step=0.4, within=1.0, criterion="taylor")
        assert {*looked} == {expected}
        looked.clear()


@pytest.mark.parametrize("cost", ["params", "flops"])
def test_what_was_tried_is_drawn(cost):
    """With a legend, the line that was not to be crossed, and the one taken in a ring."""
    pytest.importorskip("matplotlib")
    found = search(step=0.2, within=0.05)
    axes = iplt.plots.smallest(found, cost).axes[0]
    drawn = axes.lines[0].get_xdata().tolist()
    assert drawn == sorted(getattr(one, cost) for one in found.tried)
    rings = axes.collections[-1].get_offsets().tolist()
    assert rings == [[getattr(found.best, cost), pytest.approx(found.best.value)]]
    assert axes.lines[1].get_ydata()[0] == pytest.approx(found.least)
    with pytest.raises(OptionError, match="cost: expected 'params' or 'flops', received: 'size'"):
        iplt.plots.smallest(found, "size")


def test_no_model_is_made_twice(monkeypatch):
    """Where several shares take the same channels, nor where they take none."""
    judged_by(lambda left: {"loss": 1.0 if left > 0.7 else 2.0}, monkeypatch)
    found = search(network(width=16), step=0.001, round_to=4)
    sizes = [one.params for one in found.tried]
    assert len(sizes) == len({*sizes}) > 2 and found.complete


# -- time ------------------------------------------------------------------------------------------


def test_the_search_ends_in_time(monkeypatch):
    """Before a model that would take longer than there is time; one is tried in any case."""
    judged_by(lambda left: {"loss": 1.0}, monkeypatch)
    ticks = iter(range(0, 10**6, 30))  # half a minute for each model
    monkeypatch.setattr(searching.time, "perf_counter", lambda: float(next(ticks)))
    found = search(minutes=1.7, step=0.01)
    assert len(found.tried) == 1 + 3 and not found.complete and "more minutes" in str(found)
    found = search(minutes=0.01, step=0.01)
    assert len(found.tried) == 1 + 1 and found.best.share == 0.5


# -- a search that is killed -----------------------------------------------------------------------


class Killed(BaseException):
    """As KeyboardInterrupt would."""


def killed_after(count, patch):
    original, calls = searching.rewrite, iter(range(10**6))

    def rewrite(*arguments):
        if next(calls) == count:
            raise Killed
        return original(*arguments)

    patch.setattr(searching, "rewrite", rewrite)


def trained_search(**options):
    model = network()
    model.fit(X, Y, epochs=10, shuffle=False, verbose=0)
    return search(model, within=0.03, step=0.1, **options)


@pytest.mark.slow
@pytest.mark.any_backend
@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_a_search_that_was_killed_goes_on(count, tmp_path):
    """To the same end; no model is made twice."""
    whole = trained_search()
    assert len(whole.tried) > 5 and {one.good for one in whole.tried} == {True, False}
    with pytest.MonkeyPatch.context() as patch:
        killed_after(count, patch)
        with pytest.raises(Killed):
            trained_search(backup_dir=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        killed_after(len(whole.tried) - 1 - count, patch)  # one more would be one too many
        resumed = trained_search(backup_dir=tmp_path)
    told = [[(one.share, one.value, one.good) for one in found.tried] for found in (whole, resumed)]
    assert told[0] == told[1] and resumed.complete and not list(tmp_path.iterdir())
    assert resumed.plan.removed == whole.plan.removed
    for one, other in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_more_minutes_lead_further(tmp_path):
    """A search whose time was up is kept."""
    first = trained_search(minutes=1e-6, backup_dir=tmp_path)
    assert len(first.tried) == 2 and not first.complete and list(tmp_path.iterdir())
    second = trained_search(backup_dir=tmp_path)
    assert second.complete and second.tried[:2] == first.tried and not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("options", [
    {"criterion": "l2"}, {"of": "flops"}, {"metric": "loss"}, {"compensate": X}, {"epochs": 2},
    {"train": (X, Y)}, {"train": lambda model: None},
])  # fmt: skip
def test_a_backup_of_another_search_is_refused(options, tmp_path):
    trained_search(minutes=1e-6, backup_dir=tmp_path)
    with pytest.raises(BackupError, match="is a backup of another"):
        trained_search(backup_dir=tmp_path, **options)


@pytest.mark.slow
def test_a_backup_under_its_old_name(monkeypatch, tmp_path):
    """Is gone on with; a guided pruning's, which is called so, is left alone."""
    judged_by(lambda left: {"loss": 1.0, "accuracy": 0.9 if left > 0.5 else 0.8}, monkeypatch)
    first = search(step=0.1, minutes=1e-6, backup_dir=tmp_path)
    (tmp_path / "smallest.json").rename(tmp_path / "guided.json")
    found = search(step=0.1, backup_dir=tmp_path)
    assert found.tried[:2] == first.tried and not list(tmp_path.iterdir())
    (tmp_path / "guided.json").write_text('{"made for": {"tolerance": 1}}')
    search(step=0.1, backup_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["guided.json"]


FORGED = [
    ("state", 3), ("state.metric", "loss"), ("state.steps", []), ("state.steps.0.share", 0.1),
    ("state.steps.0.params", 5), ("state.steps.0.value", 0.7), ("state.steps.1.share", 1.5),
    ("state.steps.1.share", 0), ("state.steps.1.good", True), ("state.steps.1.seconds", "long"),
    ("state.steps.1.value", 0.9), ("state.plan", "{}"), ("state.plan", None), ("model", None),
    ("state.steps.3.params", 3), ("model", "smallest9.keras"), ("model", 7),
]  # fmt: skip


@pytest.mark.slow
def test_forged_backups_are_refused(monkeypatch, tmp_path):
    """Before anything is made, and none is touched."""
    judged_by(lambda left: {"loss": 1.0, "accuracy": 0.9 if left > 0.6 else 0.8}, monkeypatch)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(3, patch)
        search(step=0.1, backup_dir=tmp_path)
    path = tmp_path / "smallest.json"
    whole = path.read_text()
    assert [one["good"] for one in json.loads(whole)["state"]["steps"]] == [True, False, True, True]
    for place, value in FORGED:
        note = json.loads(whole)
        *keys, last = (int(key) if key.isdecimal() else key for key in place.split("."))
        inside = note
        for key in keys:
            inside = inside[key]
        inside[last] = value
        path.write_text(json.dumps(note))
        before = {one: one.read_bytes() for one in tmp_path.iterdir()}
        with pytest.raises(BackupError, match="no backup of this pruning"):
            search(step=0.1, backup_dir=tmp_path)
        assert {one: one.read_bytes() for one in tmp_path.iterdir()} == before
    path.write_text(whole)
    assert search(step=0.1, backup_dir=tmp_path).complete


# -- what is wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"within": -0.1}, OptionError, "within: expected a number that is not negative"),
    ({"within": "1%"}, OptionError, "within: expected"),
    ({"minutes": 0}, OptionError, "minutes: expected a positive number or None, received: 0"),
    ({"step": 0}, OptionError, "step: expected a number in (0, 1)"),
    ({"step": 2}, OptionError, "step: expected"),
    ({"epochs": 0}, OptionError, "epochs: expected a positive integer"),
    ({"metric": "auc"}, OptionError, "metric: expected one of 'accuracy', 'loss'"),
    ({"params": 3}, OptionError, "expected no budget"),
    ({"ratio": 0.5}, OptionError, "expected options of keras_iplt.plan"),
    ({"ignore": "nothing"}, OptionError, "has no layer 'nothing'"),
    ({"train": (X,)}, DataError, "train: expected (x, y)"),
])  # fmt: skip
def test_what_is_wrong_is_said(options, error, words):
    with pytest.raises(error) as caught:
        search(**options)
    assert words in str(caught.value)


def test_data_can_be_gone_through_again():
    with pytest.raises(DataError, match=r"data: expected .* gone through several times"):
        iplt.smallest(network(), iter([(X, Y)]))
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Dense(2)])
    with pytest.raises(DataError, match=r"is not compiled: call model.compile"):
        iplt.smallest(model, (X, Y))
