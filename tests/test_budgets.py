"""Budgets: at most so much is left, and not much less."""

import functools
import itertools
import json
import re

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import graphs
from support.law import randomize

import keras_iplt as iplt
from keras_iplt.errors import OptionError
from keras_iplt.graph.costs import flops, macs, parameters
from keras_iplt.planning.budgets import amount_of, spelled_out
from keras_iplt_cli import main

layers = keras.layers
COUNTS = {"params": parameters, "macs": macs, "flops": flops}
NAMES = (
    "plain residual sequential_flatten depthwise_multiplier grouped uneven_splits_and_slices "
    "squeeze_excite_reshape multi_head_attention u_net"
).split()


@functools.cache
def graph_of(name):
    model = graphs.build(name)
    randomize(model)
    return iplt.trace(model)


def network():
    model = keras.Sequential([
        keras.Input((12, 12, 3), name="image"),
        layers.Conv2D(24, 3, padding="same", activation="relu", name="wide"),
        layers.Conv2D(40, 3, padding="same", use_bias=False, name="wider"),
        layers.BatchNormalization(), layers.ReLU(), layers.GlobalAveragePooling2D(),
        layers.Dense(64, "relu", name="hidden"), layers.Dense(5, name="head"),
    ])  # fmt: skip
    randomize(model)
    return model


def least(graph, **options):
    """The plan that takes all that may go."""
    sizes = {group.producers[0].path: 0.999 for group in graph.groups}
    return iplt.plan(graph, 0, per_layer=sizes, **options)


# -- at most, and nearly as much -------------------------------------------------------------------


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(
    st.sampled_from(NAMES), st.sampled_from([*COUNTS]), st.floats(0.3, 1.0),
    st.sampled_from(["global", "layer"]), st.sampled_from([None, 2, 8]),
)  # fmt: skip
def test_a_budget_is_kept_within_one_step_of_a_group(name, of, share, scope, round_to):
    """Never over; and with one channel (or multiple) more of some group it would be."""
    graph, measure = graph_of(name), COUNTS[of]
    whole, lowest = measure(graph), measure(graph, least(graph, round_to=round_to).gone)
    most = int(lowest + share * (whole - lowest))
    plan = iplt.plan(graph, scope=scope, round_to=round_to, **{of: most})
    left = measure(graph, plan.gone)
    assert left <= most
    steps = [whole - measure(graph, graph.gone([g.classes[: round_to or 1]])) for g in graph.groups]
    assert left >= most - max(steps)
    lost = [
        group.classes[list(gone)] for group, gone in zip(graph.groups, plan.removed, strict=True)
    ]
    for index, some in enumerate(lost if left < 0.98 * most and not round_to else ()):
        fewer = graph.gone([*lost[:index], some[1:], *lost[index + 1 :]])
        assert not len(some) or measure(graph, fewer) > most  # no other channel fits
    assert plan.options["of"] == of and plan.options["at_most"] == most


@pytest.mark.parametrize("of", [*COUNTS])
def test_the_smaller_model_is_what_was_promised(of):
    """As `profile` counts it."""
    model = network()
    before = getattr(iplt.profile(model), of)
    for share in (0.1, 0.25, 0.5, 0.9):
        small = iplt.prune(model, scope="layer", **{of: int(share * before)})
        assert 0.85 * share < getattr(iplt.profile(small), of) / before <= share


def test_what_fits_stays_whole():
    """Whether the budget is larger or just met."""
    model = network()
    for most in (model.count_params(), 10**9, "1G"):
        plan = iplt.plan(model, params=most)
        assert not any(plan.removed) and (plan.fpr, plan.options["ratio"]) == (0.0, 0.0)
    assert any(iplt.plan(model, params=model.count_params() - 1).removed)


def test_what_is_out_of_reach_is_said():
    """With the least that can be had, which can."""
    model = network()
    with pytest.raises(
        OptionError, match=r"params: expected at least ([\d,]+).*received: 10$"
    ) as e:
        iplt.plan(model, params=10)
    lowest = int(str(e.value).split()[4].strip(",").replace(",", ""))
    assert iplt.prune(model, params=lowest).count_params() == lowest
    with pytest.raises(OptionError, match="params: expected at least"):
        iplt.plan(model, params=lowest - 1)
    with pytest.raises(OptionError, match=f"flops: expected at least .* received: {100:,}"):
        iplt.plan(model, flops=100, per_layer={g: 0.1 for g in ("wide", "wider", "hidden")})


def test_options_hold_within_a_budget():
    """What is ignored stays, and shares of single layers are taken first."""
    model = network()
    plan = iplt.plan(model, params=8_000, ignore="wide", min_channels=6, max_ratio=0.9)
    groups = dict(zip(("wide", "wider", "hidden"), plan.removed, strict=True))
    assert not groups["wide"] and max(map(len, groups.values())) > 0
    assert iplt.rewrite(model, plan).count_params() <= 8_000
    own = iplt.plan(model, params=8_000, per_layer={"wider": 0.5})
    assert len(own.removed[1]) == 20 and iplt.rewrite(model, own).count_params() <= 8_000
    alone = iplt.plan(model, params=model.count_params() - 1, per_layer={"wider": 0.5})
    assert [len(gone) for gone in alone.removed] == [0, 20, 0]


class Width:
    """What stays of a model: its channels."""

    name = "width"

    def cost(self, graph, gone=None):
        gone = np.zeros(len(graph.classes), bool) if gone is None else gone
        return int((~gone).sum())


def test_any_measure_has_budgets():
    """By `at_most`: filters, and what one measures oneself."""
    graph = graph_of("plain")
    filters = sum(int(group.filters.sum()) for group in graph.groups)
    plan = iplt.plan(graph, at_most=filters - 7)
    assert sum(map(len, plan.removed)) == 7
    whole = Width().cost(graph)
    plan = iplt.plan(graph, of=Width(), at_most=whole - 3)
    assert Width().cost(graph, plan.gone) <= whole - 3
    with pytest.raises(OptionError, match=r"width: expected how much .* such as a number, .*'3k'"):
        iplt.plan(graph, of=Width(), at_most="3k")


def test_seconds_are_taken_from_a_table():
    """One that was made before, or any object that measures latency."""
    graph = graph_of("plain")

    class Table:
        name = "latency"

        def cost(self, graph, gone=None):
            return 1e-9 * flops(graph, gone)

    whole = Table().cost(graph)
    for options in ({"latency": f"{1e6 * whole / 2}us"}, {"at_most": whole / 2}):
        plan = iplt.plan(graph, of=Table(), **options)
        assert 0.3 * whole < Table().cost(graph, plan.gone) <= whole / 2


# -- files -----------------------------------------------------------------------------------------

tflite = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TFLite is written with TensorFlow"
)


def without_biases():
    """Whose biases are nowhere but in the file, one array of zeros for all layers of one width."""
    x = image = keras.Input((12, 12, 3))
    for _ in range(4):
        x = layers.Conv2D(24, 3, padding="same", use_bias=False, activation="relu")(x)
    y = layers.SeparableConv2D(24, 3, padding="same")(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, y]))
    return keras.Model(image, layers.Dense(5)(x))


@tflite
@pytest.mark.parametrize(("precision", "build"), [
    ("float32", network),
    *[pytest.param(precision, build, marks=pytest.mark.slow)
      for precision in ("float32", "float16", "dynamic", "int8")
      for build in (without_biases, *[network] * (precision != "float32"))],
])  # fmt: skip
def test_a_file_is_within_its_budget(precision, build, tmp_path):
    """As it is exported, even after training has moved what was equal apart."""
    model, x = build(), np.random.default_rng(0).normal(size=(8, 12, 12, 3))
    export = functools.partial(
        iplt.export, path=tmp_path / "m.tflite", precision=precision, data=x, tolerance=1e9
    )
    whole = export(model).size
    for share, scope in ((0.8, "global"), (0.5, "layer")):
        most = int(share * whole)
        plan = iplt.plan(model, size=f"{most} B {precision}", scope=scope, criterion="random")
        small = iplt.rewrite(model, plan)
        near = 0.75 if precision == "dynamic" else 0.88  # which keeps small kernels in float32
        assert near * most < export(small).size <= most
        for variable in small.weights:
            if len(variable.shape) == 1:
                variable.assign_add(np.random.default_rng(0).uniform(0, 1, variable.shape))
        assert export(small).size <= most
        assert plan.options["of"] == f"size:{precision}"


@tflite
def test_files_too_small_are_out_of_reach():
    """And those that are small enough stay as they are, within what names take."""
    model = network()
    with pytest.raises(OptionError, match=r"size: expected at least [\d,]+ bytes, .*: 1,000 bytes"):
        iplt.plan(model, size="1KB")
    assert not any(iplt.plan(model, size="1MB").removed)
    assert 0.3 < iplt.plan(model, 0.3, of="size:int8").ppr < 0.6


@tflite
def test_the_last_step_of_a_training_writes_a_file(tmp_path):
    """Those before it estimate."""
    whole = iplt.export(network(), tmp_path / "m.tflite").size
    model, history = fitted(size=whole // 2, step=0.2, epochs=6)
    assert 0.45 * whole < iplt.export(model, tmp_path / "m.tflite").size <= whole // 2
    assert len({*history["params"]}) == 4


@pytest.mark.any_backend
def test_files_are_written_with_tensorflow():
    if keras.backend.backend() == "tensorflow":
        pytest.skip("they are")
    with pytest.raises(OptionError, match="size: expected the TensorFlow backend"):
        iplt.plan(network(), size="1KB")


@tflite
def test_seconds_are_measured_again_where_they_can_be(monkeypatch):
    """Of what a table of this machine, made just now, tells; one that was read is believed."""
    from keras_iplt.latency import probes, table

    def whole(model, threads):
        return "pretended", 1e-6 * model.count_params() ** 1.1

    monkeypatch.setattr(probes, "seconds", lambda *_: 1e-3)
    monkeypatch.setattr(table, "seconds", lambda *_: 1e-3)
    monkeypatch.setattr(table, "_whole", whole)
    probes.stairs.cache_clear()
    model = network()
    most = whole(model, 1)[1] / 2
    for of in ("latency", iplt.latency_table(model, verbose=0)):
        small = iplt.prune(model, of=of, latency=most)
        assert 0.9 * most < whole(small, 1)[1] <= most
    monkeypatch.setattr(table, "_whole", None)
    read = iplt.LatencyTable.from_json(of.to_json())
    plan = iplt.plan(model, of=read, at_most=f"{1e3 * most} ms")
    assert read.cost(plan.graph, plan.gone) <= most
    probes.stairs.cache_clear()


class Estimate:
    """An estimate that is off, and what it really is."""

    name = "estimate"
    looks = 0

    def __init__(self, error, slope=1.0):
        self.error, self.slope = error, slope

    def cost(self, graph, gone=None):
        return self.slope * parameters(graph, gone) + self.error

    def exact(self, graph, gone):
        self.looks += 1
        return parameters(graph, gone)


@pytest.mark.parametrize("error", [-3_000, -500, 0, 500, 3_000])
@pytest.mark.parametrize("slope", [0.5, 1.0, 2.0])
def test_what_is_estimated_is_found_out(error, slope):
    """Whether too much or too little, a few looks are enough."""
    graph, measure = iplt.trace(network()), Estimate(error, slope)
    for most in (5_000, 8_000, 12_000):
        measure.looks = 0
        plan = iplt.plan(graph, of=measure, at_most=most)
        assert 0.9 * most < parameters(graph, plan.gone) <= most and measure.looks <= 9
    with pytest.raises(OptionError, match=r"estimate: expected at least .* received: 3"):
        iplt.plan(graph, of=measure, at_most=3)


# -- amounts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("of", "text", "amount"), [
    ("params", "20k", 20_000), ("params", "1.5M", 1.5e6), ("params", "20_000", 20_000),
    ("flops", "1,000", 1_000), ("macs", "2e6", 2e6), ("params", 7, 7),
    ("size", "200KB", 200_000), ("size", "200 kb", 200_000), ("size", "2KiB", 2_048),
    ("size", "1.5 MB", 1.5e6), ("size", "512", 512), ("size:int8", "1MiB", 2**20),
    ("latency", "5ms", 0.005), ("latency", "800 us", 8e-4), ("latency", "3µs", 3e-6),
    ("latency", 0.1, 0.1), ("latency", "2s", 2.0),
])  # fmt: skip
def test_amounts_are_said_as_people_say_them(of, text, amount):
    assert amount_of(of, text) == pytest.approx(amount, rel=1e-12)


@pytest.mark.parametrize(("of", "amount"), [
    ("params", 0), ("params", -3), ("params", True), ("params", "many"), ("params", "20KB"),
    ("params", float("nan")), ("params", float("inf")), ("params", [3]), ("params", "1.2.3k"),
    ("size", "5ms"), ("size", "200KB int9"), ("size", "int8"),
    ("latency", "5"), ("latency", "5m"), ("flops", ""),
])  # fmt: skip
def test_other_amounts_are_refused(of, amount):
    """With what could have been said."""
    with pytest.raises(OptionError, match=rf"{of}: expected .* such as .*, received: ") as caught:
        iplt.plan(graph_of("plain"), **{of: amount})
    assert repr(amount) in str(caught.value)


# -- one of them -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "words"), [
    ({"ratio": 0.5, "params": 9}, "ratio: expected none beside a budget"),
    ({"ratio": 0.2, "at_most": 9}, "ratio: expected none beside a budget"),
    ({"params": 9, "macs": 10}, "expected one budget, received: params=9, macs=10"),
    ({"params": 9, "at_most": 10}, "expected one budget, received: params=9, at_most=10"),
    ({"params": 9, "of": "flops"}, "of: expected none beside params=9"),
    ({"latency": "5ms", "of": Width()}, "of: expected none beside latency='5ms', or an object"),
])  # fmt: skip
def test_there_is_one_budget(options, words):
    """Or a share; whichever function is asked."""
    model = network()
    for function in (iplt.plan, iplt.prune):
        with pytest.raises(OptionError, match=words):
            function(model, **options)
    options = {"target" if name == "ratio" else name: value for name, value in options.items()}
    with pytest.raises(OptionError, match=words.replace("ratio", "target")):
        iplt.IPLTCallback(**options)


def test_a_budget_that_is_none_is_none():
    """As scripts pass on options that nobody set."""
    model = network()
    assert iplt.plan(model, 0.3, params=None).removed == iplt.plan(model, 0.3).removed
    assert spelled_out({"params": None, "scope": "layer"}) == {"scope": "layer"}
    assert len(iplt.plan(model).graph.groups) == 3 and iplt.plan(model).options["ratio"] == 0.5


def test_a_plan_knows_its_budget():
    """In its JSON text, too, and carried out elsewhere."""
    model = network()
    plan = iplt.plan(model, params="9k", round_to=4)
    again = iplt.Plan.from_json(plan.to_json())
    assert json.loads(plan.to_json())["options"]["at_most"] == again.options["at_most"] == 9_000
    assert iplt.rewrite(network(), again).count_params() <= 9_000


# -- while a model trains --------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(16, 12, 12, 3)).astype("float32")
Y = np.arange(16) % 5


def fitted(epochs=8, **options):
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss)
    callback = iplt.IPLTCallback(verbose=0, **options)
    history = model.fit(X, Y, epochs=epochs, verbose=0, callbacks=[callback]).history
    return model, history


@pytest.mark.any_backend
@pytest.mark.parametrize("mode", ["shrink", "mask", "soft"])
@pytest.mark.parametrize("of", ["params", "flops"])
def test_a_training_ends_within_its_budget(mode, of):
    """Step by step, the last of which reaches it."""
    before = getattr(iplt.profile(network()), of)
    model, history = fitted(mode=mode, step=0.2, round_to=2, **{of: before // 3})
    left = getattr(iplt.profile(model), of)
    assert 0.8 * before / 3 < left <= before // 3
    steps = [b - a for a, b in itertools.pairwise([0.0, *history["ratio"]]) if b > a]
    assert len(steps) == 4 and history["ratio"][-1] == pytest.approx(1 - left / before)


def test_a_training_within_its_budget_takes_nothing():
    model, history = fitted(params=10**6, epochs=2)
    assert model.count_params() == network().count_params() and history["ratio"] == [0.0, 0.0]


def test_a_training_cannot_reach_every_budget():
    """Which is said before it begins."""
    with pytest.raises(OptionError, match="params: expected at least"):
        fitted(params=3)


def test_a_callback_is_of_use_for_another_model():
    """Whose share is another."""
    callback = iplt.IPLTCallback(params=6_000, every=1, step=0.5, verbose=0)
    for width in (40, 80):
        model = keras.Sequential([
            keras.Input((30,)), layers.Dense(5 * width), layers.Dense(width), layers.Dense(2)
        ])  # fmt: skip
        model.compile("sgd", "mse")
        model.fit(np.ones((4, 30)), np.ones((4, 2)), epochs=4, verbose=0, callbacks=[callback])
        assert 5_000 < model.count_params() <= 6_000


# -- the command line ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.any_backend
def test_the_command_takes_budgets(tmp_path, capsys):
    """Whatever they are of; what makes no sense is found before anything is loaded."""
    path, small = tmp_path / "model.keras", tmp_path / "small.keras"
    network().save(path)

    def code(*arguments):
        try:
            return main(["prune", str(path), "-o", str(small), "--force", *arguments])
        except SystemExit as stop:
            return stop.code

    assert code("--params", "6k") == 0
    assert 5_000 < keras.saving.load_model(small).count_params() <= 6_000
    if keras.backend.backend() == "tensorflow":
        assert code("--size", "30 KB float16", "--scope", "layer") == 0
    assert code("--macs", "10") == 1
    capsys.readouterr()
    for wrong in (
        ("--params", "6KB"), ("--size", "5ms"), ("--size", "6KB int9"), ("--latency", "5"),
        ("--params", "6k", "--ratio", "0.5"), ("--params", "6k", "--flops", "3M"),
    ):  # fmt: skip
        assert code(*wrong) == 2, wrong
        assert re.search("such as|not allowed with", capsys.readouterr().err)
