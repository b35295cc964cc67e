"""Sensitivity analysis: what it says is what masking each layer and evaluating says."""

import itertools
import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from support import graphs, law

import keras_iplt as iplt
from keras_iplt.analysis import measuring
from keras_iplt.analysis.replay import Replay
from keras_iplt.graph.trace import trace

RATIOS = (0.3, 0.6)
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 8, 8, 3)).astype("float32")  # two batches, the second one smaller
Y = RANDOM.integers(0, 3, 40)


def compiled(name="residual", **options):
    model = graphs.build(name)
    law.randomize(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy", "sparse_categorical_crossentropy"], **options)
    return model


def measured(model, data=(X, Y), ratios=RATIOS, **options):
    return iplt.sensitivity(model, data, ratios, verbose=0, **{"criterion": "l2", **options})


def evaluated(model, layer, ratio, data):
    """The slow way: a copy with zeros, evaluated by Keras."""
    plan = iplt.plan(model, 0, criterion="l2", per_layer={layer: ratio})
    weights = model.get_weights()
    iplt.mask(model, plan)
    x, y, *rest = data
    found = model.evaluate(x, y, 32, 0, *rest, return_dict=True)
    model.set_weights(weights)
    return found


@pytest.mark.any_backend
@pytest.mark.parametrize("name", [
    "plain", "residual", "nested_called_twice", "nested_in_nested", "transfer_in_sequential",
    "shared_conv_on_two_tensors", "squeeze_excite_ops", "multi_head_attention", "custom_blocks",
    "sequential_flatten", "subclassed", "mixed_precision",
])  # fmt: skip
def test_it_says_what_masking_and_evaluating_say(name):
    """Loss and metrics of each layer and ratio, and of the whole model."""
    model = compiled(name)
    shape = model.inputs[0].shape if name != "subclassed" else (None, 8, 8, 3)
    x = RANDOM.normal(size=(40, *shape[1:])).astype("float32")
    found = measured(model, (x, Y))
    whole = model.evaluate(x, Y, 32, 0, return_dict=True)
    close = dict(rtol=1e-4, atol=1e-5) if name != "mixed_precision" else dict(rtol=0.02, atol=0.02)
    assert set(found.values) == set(whole) and found.metric == "accuracy"
    for key, value in whole.items():
        np.testing.assert_allclose(found.baseline[key], value, **close)
    changed = False
    for (row, layer), (column, ratio) in itertools.product(
        enumerate(found.layers), enumerate(RATIOS)
    ):
        there = evaluated(model, layer, ratio, (x, Y))
        for key, value in there.items():
            np.testing.assert_allclose(found.values[key][row, column], value, **close)
        changed |= abs(there["loss"] - whole["loss"]) > 1e-3
    assert changed  # or anything would do


@pytest.mark.any_backend
def test_sample_weights_regularizers_and_outputs_by_name():
    """As `evaluate` counts them; but for the losses of single outputs, of which Keras takes the
    mean over batches, however large each is."""
    i = keras.Input((4,), name="i")
    x = layers.Dense(6, "relu", kernel_regularizer="l2", activity_regularizer="l1", name="a")(i)
    model = keras.Model(i, {"p": layers.Dense(2, name="p")(x), "q": layers.Dense(1, name="q")(x)})
    model.compile(loss={"p": "mse", "q": "mae"}, weighted_metrics={"p": ["mae"], "q": ["mse"]})
    x = RANDOM.normal(size=(40, 4)).astype("float32")
    y = {"p": RANDOM.normal(size=(40, 2)), "q": RANDOM.normal(size=(40, 1))}
    data = (x, y, {"p": RANDOM.uniform(size=40), "q": RANDOM.uniform(size=40)})
    found = measured(model, data)
    there = evaluated(model, "a", 0.6, data)
    assert set(found.values) == set(there)
    for key in ("loss", "p_mae", "q_mse"):
        np.testing.assert_allclose(found.values[key][0, 1], there[key], rtol=1e-5)


@pytest.mark.parametrize("name", ["residual", "nested_in_nested", "multi_head_attention"])
def test_compiled_it_says_the_same(name, monkeypatch):
    """What runs often is compiled; here everything is, or nothing."""
    model = compiled(name)
    # Far from sure, and wrong: a loss of probabilities alone would be cut off.
    model.get_layer("head").kernel.assign(100 * model.get_layer("head").kernel)
    model = keras.Model(model.input, layers.Softmax()(model.output))
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    x = RANDOM.normal(size=(40, *model.inputs[0].shape[1:])).astype("float32")
    monkeypatch.setattr(measuring, "_TRACING", float("inf"))
    plainly = measured(model, (x, Y))
    monkeypatch.setattr(measuring, "_TRACING", 0.0)
    asked, compile_ = [], Replay.compile
    monkeypatch.setattr(Replay, "compile", lambda *a: (asked.append(a[1:]), compile_(*a)))
    found = measured(model, (x, Y))
    assert (True, True) in asked and len(asked) == len(found.layers) + 1
    for key, values in plainly.values.items():
        np.testing.assert_allclose(found.values[key], values, rtol=1e-4, atol=1e-5)


@pytest.mark.any_backend
def test_the_model_is_left_as_it_is():
    """Weights, the state of its metrics, and what it can do afterwards."""
    model = compiled()
    model.evaluate(X, Y, verbose=0)
    before = model.get_weights(), [keras.ops.convert_to_numpy(v) for v in model.metrics_variables]
    measured(model)
    after = model.get_weights(), [keras.ops.convert_to_numpy(v) for v in model.metrics_variables]
    for one, other in zip(before, after, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    fresh = compiled()  # whose metrics are not built
    measured(fresh)
    assert fresh.evaluate(X, Y, verbose=0) == pytest.approx(model.evaluate(X, Y, verbose=0))


def test_only_what_a_layer_reaches_runs_again():
    """In a model with two branches, what is before a layer and beside it runs once."""
    ran = []

    class Counted(layers.Layer):
        def call(self, x):
            ran.append(self.name)
            return x

    def counted(x, name):
        x = layers.Dense(4, name=name)(x)
        return Counted(name=f"after_{name}")(x)

    i = keras.Input((4,))
    x = counted(i, "first")
    model = keras.Model(i, counted(layers.Add()([counted(x, "left"), counted(x, "right")]), "last"))
    ran.clear()
    replay = Replay(model, [model.get_layer("left").kernel])
    x = keras.ops.ones((2, 4))
    begun = replay.begin([x])
    assert sorted(ran) == ["after_first", "after_right"]
    ran.clear()
    for _ in range(2):
        outputs, _ = replay.finish(begun, [model.get_layer("left").kernel.value])
    assert ran == ["after_left", "after_last"] * 2
    np.testing.assert_allclose(outputs, model(x), rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(
        ["plain", "residual", "u_net", "nested_in_nested", "uneven_splits_and_slices",
         "embedding_masked", "recurrent_behind_convolutions"]
    ),
    st.integers(0, 100),
    st.booleans(),
)  # fmt: skip
def test_a_replay_computes_what_the_model_does(name, seed, compiled_):
    """Whichever variables change, compiled or not, and with masks between layers."""
    model = graphs.build(name)
    law.randomize(model, seed)
    random = np.random.default_rng(seed)
    some = [v for v in model.weights if random.uniform() < 0.3]
    (x,) = law.random_inputs(model, seed)
    replay = Replay(trace(model).function, some)
    if compiled_:
        replay.compile()
    begun = replay.begin([keras.ops.convert_to_tensor(x)])
    for variable in some:
        variable.assign(random.uniform(0.5, 1.5, variable.shape))
    outputs, _ = replay.finish(begun, [variable.value for variable in some])
    for ours, theirs in zip(keras.tree.flatten(outputs), keras.tree.flatten(model(x)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


# -- the result ------------------------------------------------------------------------------------


def result(drops, metric="accuracy", sign=1):
    drops = np.array(drops, float)
    return iplt.Sensitivity(
        "m", metric, tuple("abcdef"[: len(drops)]), (10,) * len(drops),
        tuple(0.1 * (n + 1) for n in range(drops.shape[1])), np.zeros(drops.shape, int),
        {metric: 0.9}, {metric: 0.9 - sign * drops},
    )  # fmt: skip


def test_shares_per_layer_are_those_up_to_which_the_metric_holds():
    """A layer that recovers at a larger ratio is not trusted there; nor is NaN."""
    found = result([[0, 0.01, 0.02], [0.02, 0, 0], [-0.1, 0, 0], [0, float("nan"), 0]])
    assert found.per_layer(0.01) == pytest.approx({"a": 0.2, "b": 0.0, "c": 0.3, "d": 0.1})
    assert found.ranking() == ("c", "b", "a", "d")
    losses = result([[0, 0.01, 0.02], [0.02, 0, 0]], "loss", -1)
    assert losses.per_layer(0.01) == pytest.approx({"a": 0.2, "b": 0.0})
    with pytest.raises(
        iplt.errors.OptionError, match=r"metric: expected one of 'loss', received: 'auc'"
    ):
        losses.per_layer(metric="auc")


def test_a_plan_takes_it():
    """What `per_layer` returns, `plan` removes."""
    model = compiled()
    found = measured(model)
    shares = found.per_layer(drop=0.05)
    plan = iplt.plan(model, per_layer=shares)
    counts = [
        found.removed[row, RATIOS.index(share)] if share else 0
        for row, share in enumerate(shares.values())
    ]
    assert [len(gone) for gone in plan.removed] == counts


def test_it_survives_json():
    """NaN included."""
    found = result([[0.5, float("nan")]])
    again = iplt.Sensitivity.from_json(found.to_json())
    assert str(again) == str(found) and again.baseline == found.baseline
    np.testing.assert_array_equal(again.values["accuracy"], found.values["accuracy"])
    assert "NaN" not in found.to_json()
    content = found.to_plain()
    bad = {
        "metric": "loss", "layers": "abc", "sizes": [1, 2], "ratios": ["x"], "removed": 3,
        "values": {"accuracy": [[0.5, 0.5, 0.5]]}, "baseline": {"accuracy": 10**400},
    }  # fmt: skip
    bad = [json.dumps({**content, key: value}) for key, value in bad.items()]
    for text in ("", "{}", "[]", '{"format": "keras_iplt.sensitivity/9"}', "[" * 100_000, *bad):
        with pytest.raises(iplt.errors.OptionError, match=r"sensitivity analysis"):
            iplt.Sensitivity.from_json(text)


def test_it_prints_a_table():
    assert str(result([[0.0, 0.25]])).splitlines() == [
        "accuracy 0.9000 before anything is removed",
        "layer  channels     10%     20%",
        "a            10  0.9000  0.6500",
    ]


# -- interrupted -----------------------------------------------------------------------------------


class Counting(keras.utils.PyDataset):
    """Batches that count how often they were asked for, and can break."""

    def __init__(self, most=None):
        super().__init__()
        self.asked, self.most = 0, most

    def __len__(self):
        return 2

    def __getitem__(self, index):
        self.asked += 1
        if self.most is not None and self.asked > self.most:
            raise KeyboardInterrupt
        return X[20 * index : 20 * index + 20], Y[20 * index : 20 * index + 20]


def test_it_goes_on_where_it_ended(tmp_path):
    """After an interruption only the rest is measured, and the result is the same."""
    path, model = tmp_path / "found.json", compiled("plain")
    whole = Counting()
    expected = measured(model, whole)
    layers_, batches = len(expected.layers), 2
    with pytest.raises(KeyboardInterrupt):
        measured(model, Counting(whole.asked - batches), path=path)
    assert [p.name for p in tmp_path.iterdir()] == ["found.json"]
    assert json.loads(path.read_text())["done"] == layers_ - 1
    rest = Counting()
    found = measured(model, rest, path=path)
    assert whole.asked - rest.asked == batches * layers_  # the baseline and all layers but one
    for key, values in expected.values.items():
        np.testing.assert_allclose(found.values[key], values, rtol=1e-6)
    assert found.baseline == expected.baseline
    again = Counting()
    assert str(measured(model, again, path=path)) == str(found) and again.asked < batches + 1
    assert str(iplt.Sensitivity.from_json(path.read_text())) == str(found)


@pytest.mark.parametrize("change", ["weights", "data", "ratios", "criterion"])
def test_the_file_of_another_analysis_is_refused(tmp_path, change):
    """And left as it is."""
    path, model = tmp_path / "found.json", compiled("plain")
    measured(model, path=path)
    before = path.read_bytes()
    arguments = {"data": (X, Y), "ratios": RATIOS, "criterion": "l2"}
    if change == "weights":
        law.randomize(model, 1)
    else:
        arguments[change] = {"data": (X + 1, Y), "ratios": (0.4,), "criterion": "l1"}[change]
    if change == "criterion":
        arguments["criterion"] = "random"
    with pytest.raises(iplt.errors.OptionError, match=r"analysis of another model, of other data"):
        measured(model, path=path, **arguments)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"fingerprint": 1}'])
def test_another_file_is_refused(tmp_path, text):
    """It might be dear to someone."""
    path = tmp_path / "found.json"
    path.write_text(text)
    with pytest.raises(
        iplt.errors.OptionError, match=r"path: expected a new file or one of an analysis"
    ):
        measured(compiled("plain"), path=path)
    assert path.read_text() == text


def test_forged_files_are_refused(tmp_path):
    """Before anything is measured."""
    path, model = tmp_path / "found.json", compiled("plain")
    measured(model, path=path)
    whole = json.loads(path.read_text())
    for key, value in [
        ("done", -1), ("done", "all"), ("done", 99), ("values", {}), ("values", {"loss": [[0]]}),
        ("values", {"loss": "low"}), ("baseline", {"loss": [1]}), ("metric", "auc"),
        ("removed", [1]), ("fingerprint", 3),
    ]:  # fmt: skip
        path.write_text(json.dumps({**whole, key: value}))
        before = path.read_text()
        with pytest.raises(iplt.errors.OptionError, match="or one of an analysis to go on with"):
            measured(model, path=path)
        assert path.read_text() == before


@pytest.mark.parametrize(("options", "error", "words"), [
    (dict(ratios=()), iplt.errors.OptionError, "ratios: expected numbers in (0, 1) that rise"),
    (dict(ratios=(0.5, 0.5)), iplt.errors.OptionError, "that rise, received: (0.5, 0.5)"),
    (dict(ratios=(0, 0.5)), iplt.errors.OptionError, "in (0, 1)"),
    (dict(ratios=(0.5, 1)), iplt.errors.OptionError, "received: 1"),
    (dict(ratios=0.5), iplt.errors.OptionError, "in (0, 1) that rise, received: 0.5"),
    (dict(metric="auc"), iplt.errors.OptionError, "metric: expected one of 'loss', 'accuracy'"),
    (dict(data=X), iplt.errors.DataError, "expected labels"),
    (dict(data=iter([(X, Y)])), iplt.errors.DataError, "several times, received: an iterator"),
    (dict(data=(X[:, :4], Y)), iplt.errors.DataError, "expected shape (None, 8, 8, 3)"),
    (dict(path="no/such/place.json"), iplt.errors.OptionError, "in a directory that exists"),
    (dict(path="."), iplt.errors.OptionError, "path: expected a file, received: the directory"),
    (dict(ignore=["nothing"]), iplt.errors.OptionError, "no layer 'nothing'"),
])  # fmt: skip
def test_what_is_wrong_is_said(options, error, words):
    """In terms of what was expected."""
    with pytest.raises(error) as caught:
        measured(compiled("plain"), **options)
    assert words in str(caught.value)


def test_a_model_that_is_not_compiled_is_refused():
    with pytest.raises(iplt.errors.DataError, match=r"is not compiled: call model.compile"):
        measured(graphs.build("plain"))


def test_what_a_metric_raises_keeps_its_cause():
    def broken(y, y_pred):
        raise KeyError("units")

    model = graphs.build("plain")
    model.compile(loss="mse", metrics=[broken])
    with pytest.raises(
        iplt.errors.ModelError, match=r"evaluating model .* raised KeyErr"
    ) as caught:
        measured(model, (X, np.zeros((40, 3), "float32")))
    assert isinstance(caught.value.__cause__, KeyError)
