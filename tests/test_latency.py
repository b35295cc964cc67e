"""Latency tables: what is measured, and what plans make of it."""

import json
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from support import graphs, law

import keras_iplt as iplt
from keras_iplt.latency import probes, table
from keras_iplt.latency.probes import Stairs
from keras_iplt.planning import measures

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TFLite is written with TensorFlow"
)


def blocks(width, step):
    return math.ceil(width / step)


STEPS = {"pointwise": 16, "convolution": 32, "depthwise": 16, "dense": 8}


def pretended(shape, inputs, outputs, threads=1):
    """A processor that computes channels in blocks."""
    positions = math.prod(shape.size) * math.prod(shape.kernel)
    inputs = 1 if shape.kind == "depthwise" else inputs + 3
    return 1e-9 * positions * inputs * blocks(outputs, STEPS[shape.kind]) / threads


@pytest.fixture
def pretend(monkeypatch):
    """No seconds are taken from the real processor."""
    probes.stairs.cache_clear()
    monkeypatch.setattr(probes, "seconds", pretended)
    monkeypatch.setattr(table, "seconds", pretended)
    monkeypatch.setattr(table, "_whole", lambda model, threads: ("pretended", 1.0))
    yield
    probes.stairs.cache_clear()


def network(width=64):
    i = keras.Input((16, 16, 3))
    x = layers.Conv2D(width, 3, padding="same", name="first")(i)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Conv2D(2 * width, 1, name="point")(layers.ReLU()(x))
    x = layers.Dense(width, name="dense")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(i, layers.Dense(10, name="head")(x))


def measured(model, **options):
    return iplt.latency_table(model, verbose=0, **options)


# -- stairs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [8, 16, 32, 64])
def test_stairs_know_their_step(step):
    """Blocks that are not full cost what full ones do."""
    stairs = Stairs(tuple(float(blocks(n, step)) for n in range(8, 129, 8)))
    assert stairs.step == step
    for width in (1, 8, 9, 61, 64, 65, 128, 129, 200, 512, 513):
        assert stairs(width) == pytest.approx(blocks(width, step)), width


def test_a_special_case_for_narrow_layers_does_not_hide_the_step():
    """As on AVX-512: one half of the first block is cheaper."""
    times = [1.0, 1.0, *(2.0 * blocks(n, 32) for n in range(24, 129, 8))]
    assert Stairs(tuple(times)).step == 32


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=16, max_size=16), st.integers(1, 600))
def test_more_channels_never_take_less(increments, width):
    """Nor do none take anything."""
    stairs = Stairs(tuple(np.cumsum(increments).tolist()))
    assert stairs(0) == 0 < stairs(width) <= stairs(width + 1)


# -- tables ----------------------------------------------------------------------------------------


def test_the_cost_of_the_whole_model_is_what_was_measured(pretend):
    """And each layer's is that of its shape."""
    model = network()
    found = measured(model)
    graph = iplt.trace(model)
    assert found.cost(graph) == pytest.approx(found.seconds) == 1.0
    by_name = {entry.path: entry for entry in found.entries}
    assert {name: entry.kind for name, entry in by_name.items()} == {
        "first": "convolution", "depthwise": "depthwise", "point": "pointwise",
        "dense": "dense", "head": "dense",
    }  # fmt: skip
    assert by_name["point"].whole == pytest.approx(1e-9 * 256 * 67 * 8)
    assert by_name["point"].half == pytest.approx(1e-9 * 256 * 35 * 8)
    assert {kind: stairs.step for kind, stairs in found.stairs.items()} == STEPS


def test_what_is_left_costs_what_a_smaller_layer_does(pretend):
    """Inputs along a line, outputs in steps."""
    model = network()
    found = measured(model)
    plan = iplt.plan(model, 0, per_layer={"first": 0.25, "point": 0.3})  # 48 and 90 are left
    small = {entry.path: entry for entry in measured(iplt.rewrite(model, plan)).entries}
    for entry in found.entries:
        other = small[entry.path]
        stairs = found.stairs[entry.kind]
        here = entry.seconds(stairs, other.inputs, other.outputs)
        assert here == pytest.approx(other.whole), entry.path
        if entry.path == "point":
            assert (other.inputs, other.outputs) == (48, 90) and here < 0.8 * entry.whole


@pytest.mark.parametrize("name", [
    "plain", "residual", "nested_called_twice", "shared_conv_on_two_tensors", "separable",
    "grouped", "depthwise_multiplier", "squeeze_excite_convolutions", "multi_head_attention",
    "u_net", "recurrent_behind_convolutions", "several_inputs_and_outputs",
])  # fmt: skip
def test_a_plan_costs_what_the_rewritten_model_does(pretend, name):
    """Both by the table of the whole model, so that a plan's promise is the smaller model's."""
    model = graphs.build(name)
    found, graph = measured(model), iplt.trace(model)
    plan = law.random_plan(graph, seed=1)
    small = iplt.trace(iplt.rewrite(model, plan))
    before, after = found.cost(graph), found.cost(graph, plan.gone)
    assert after < before == pytest.approx(1.0)
    assert found.cost(small) == pytest.approx(after, rel=0.02)


def test_it_survives_json(pretend):
    model = network()
    found = measured(model, threads=2)
    again = iplt.LatencyTable.from_json(found.to_json())
    plan = iplt.plan(model, 0.5)
    assert again.cost(plan.graph, plan.gone) == found.cost(plan.graph, plan.gone)
    assert str(again) == str(found) and "threads: 2" in str(found)
    content = json.loads(found.to_json())
    bad = {"seconds": "x", "elements": None, "threads": 1e999, "stairs": {}, "entries": [{"a": 1}]}
    bad = [json.dumps({**content, key: value}) for key, value in bad.items()]
    for text in ("", "{}", "[]", '{"format": "keras_iplt.latency/9"}', "[" * 100_000, *bad):
        with pytest.raises(iplt.errors.OptionError, match=r"JSON text of a latency table"):
            iplt.LatencyTable.from_json(text)


def test_a_real_processor():
    """Nothing pretended: twice the work takes longer, and the whole is not less than its parts."""
    i = keras.Input((24, 24, 64))
    x = layers.Conv2D(64, 3, padding="same", name="small")(i)
    x = layers.Conv2D(256, 3, padding="same", name="large")(x)
    model = keras.Model(i, layers.GlobalAveragePooling2D()(x))
    found = measured(model)
    small, large = found.entries
    assert 1.5 * small.whole < large.whole < 12 * small.whole
    assert large.half < large.whole
    assert found.layers <= found.seconds and found.seconds > 1e-5
    assert "TFLite" in found.runtime or "LiteRT" in found.runtime
    assert found.stairs["convolution"].step in (8, 16, 32, 64)


def test_measuring_says_nothing(caplog):
    """TensorFlow warns of conversions that it calls deprecated, at each of a hundred."""
    probes.seconds(probes.Shape("pointwise", (3, 3)), 4, 11)
    assert not caplog.records


# -- plans -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.7])
def test_a_plan_takes_a_share_of_the_latency(pretend, ratio, scope):
    """As near as a step of the stairs lets it."""
    model = network(256)
    found = measured(model)
    plan = iplt.plan(model, ratio, of=found, scope=scope)
    gone = 1 - found.cost(plan.graph, plan.gone) / found.seconds
    assert gone == pytest.approx(ratio, abs=0.04)
    assert plan.options["of"] == "latency"
    assert iplt.Plan.from_json(plan.to_json()).options == plan.options


def test_widths_are_rounded_to_what_the_processor_computes_at_once(pretend):
    """To the blocks of the layers that create them, as far as a group has several."""
    model = network(64)
    plan = iplt.plan(model, 0.4, round_to=measured(model))
    left = {
        group.producers[0].path: group.size - len(gone)
        for group, gone in zip(plan.graph.groups, plan.removed, strict=True)
    }
    assert left["first"] == 32 and left["point"] % 16 == 0 and left["dense"] % 8 == 0
    assert plan.options["round_to"] == "auto"
    narrow = network(20)  # a block of 32 would be more than there is
    plan = iplt.plan(narrow, 0.4, round_to=measured(narrow))
    assert (20 - len(plan.removed[0])) % 8 == 0


def test_words_stand_for_a_table_that_is_measured_once(pretend, monkeypatch):
    """One for both options."""
    model, made = network(128), []

    def counted(graph):
        made.append(graph)
        return measured(graph)

    monkeypatch.setitem(measures._MEASURES, "latency", counted)
    monkeypatch.setitem(measures._ROUNDINGS, "auto", counted)
    words = iplt.plan(model, 0.5, of="latency", round_to="auto")
    assert len(made) == 1
    given_ = iplt.plan(model, 0.5, of=measured(model), round_to=measured(model))
    assert words.removed == given_.removed and len(made) == 1
    assert iplt.plan(model, 0.5, of=measured(model), round_to="auto").removed == words.removed
    assert len(made) == 1


@pytest.mark.parametrize("mode", ["shrink", "mask"])
def test_a_training_reaches_a_share_of_the_latency(pretend, mode):
    """Measured once, at full size."""
    keras.utils.set_random_seed(0)
    model = network(128)
    found, whole = measured(model), iplt.trace(model)
    model.compile("sgd", "mse")
    x, y = np.random.default_rng(0).normal(size=(8, 16, 16, 3)), np.zeros((8, 10))
    callback = iplt.IPLTCallback(0.5, step=0.25, every=1, of=found, verbose=0, mode=mode)
    model.fit(x, y, epochs=4, verbose=0, callbacks=[callback])
    assert found.cost(iplt.trace(model)) / found.cost(whole) == pytest.approx(0.5, abs=0.05)


# -- bad input -------------------------------------------------------------------------------------


def test_what_is_wrong_is_said(pretend):
    found = measured(network())
    with pytest.raises(iplt.errors.OptionError, match=r"table of model 'other', received: one of"):
        i = keras.Input((8, 8, 3))
        other = keras.Model(i, layers.Dense(2)(layers.Dense(4)(i)), name="other")
        iplt.plan(other, 0.5, of=found)
    with pytest.raises(
        iplt.errors.OptionError, match=r"threads: expected a positive integer, received: 0"
    ):
        measured(network(), threads=0)
    with pytest.raises(iplt.errors.OptionError, match=r"inputs have no fixed size.*of='params'"):
        measured(graphs.build("unknown_sizes"))
    with pytest.raises(iplt.errors.OptionError, match=r"of: expected .*'latency' or an object"):
        iplt.plan(network(), 0.5, of="seconds")
    with pytest.raises(
        iplt.errors.OptionError, match=r"round_to: expected a positive integer, 'auto'"
    ):
        iplt.plan(network(), 0.5, round_to="automatic")
