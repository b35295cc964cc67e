"""Which layers are meant: by name, pattern, class, or what a function says."""

import functools
import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_iplt as iplt
from keras_iplt.callbacks.progress import Progress
from keras_iplt.planning.options import PlanOptions
from keras_iplt.sparsity.pool import pool_of

pytestmark = [pytest.mark.quick, pytest.mark.any_backend]

SIZES = {"conv1": 8, "conv2_a": 12, "conv2_b": 10, "body/ffn/up": 16, "body/ffn/down": 6}


class Pair(layers.Layer):
    """Two dense layers in one."""

    def __init__(self, up, down, **kwargs):
        super().__init__(**kwargs)
        self.up, self.down = layers.Dense(up, name="up"), layers.Dense(down, name="down")

    def call(self, x):
        return self.down(self.up(x))


def network():
    inside = keras.Input((10,))
    body = keras.Model(inside, layers.ReLU()(Pair(16, 6, name="ffn")(inside)), name="body")
    x = image = keras.Input((8, 8, 3))
    for name in ("conv1", "conv2_a", "conv2_b"):
        x = layers.Conv2D(SIZES[name], 3, padding="same", name=name)(x)
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
    x = body(layers.GlobalAveragePooling2D(name="pool")(x))
    return keras.Model(image, layers.Dense(2, name="head")(x), name="net")


@functools.cache
def graph():
    return iplt.trace(network())


def is_wide(layer):
    return getattr(layer, "filters", getattr(layer, "units", 0)) >= 12


def pruned(plan):
    """The layers that lose channels, with the share that they lose."""
    return {
        group.producers[0].path: len(gone) / group.size
        for group, gone in zip(plan.graph.groups, plan.removed, strict=True)
        if gone
    }


BLOCK = ["body/ffn/up", "body/ffn/down"]
MEANT = [  # a selector, the layers that it means, and what a plan holds of it
    ("conv2*", ["conv2_a", "conv2_b"], ["conv2_a", "conv2_a_bn", "conv2_b", "conv2_b_bn"]),
    ("*/ffn/*", BLOCK, BLOCK),
    ("*_[ab]_bn", ["conv2_a", "conv2_b"], ["conv2_a_bn", "conv2_b_bn"]),
    ("?onv1", ["conv1"], ["conv1"]),
    (layers.Conv2D, ["conv1", "conv2_a", "conv2_b"], ["conv1", "conv2_a", "conv2_b"]),
    (layers.Dense, BLOCK, BLOCK),  # and the head, which is frozen
    (Pair, BLOCK, BLOCK),
    (keras.Model, BLOCK, BLOCK),
    (is_wide, ["conv2_a", "body/ffn/up"], ["conv2_a", "body/ffn/up"]),
    (["conv1", "*/up"], ["conv1", "body/ffn/up"], ["conv1", "body/ffn/up"]),
    ("body", BLOCK, ["body"]),
]


@pytest.mark.parametrize(("selector", "meant", "held"), MEANT, ids=lambda x: str(x)[:13])
def test_what_is_meant_loses_channels_alone_or_keeps_them(selector, meant, held):
    plan = iplt.plan(graph(), 0.5, scope="layer", only=selector)
    assert pruned(plan) == {name: 0.5 for name in SIZES if name in meant}
    assert plan.options["only"] == held
    plan = iplt.plan(graph(), 0.5, scope="layer", ignore=selector)
    assert pruned(plan) == {name: 0.5 for name in SIZES if name not in meant}
    assert plan.options["ignore"] == held and "only" not in plan.options
    assert json.loads(plan.to_json())["options"]["ignore"] == held
    if not isinstance(selector, list):
        plan = iplt.plan(graph(), per_layer={selector: 0.5})
        assert pruned(plan) == {name: 0.5 for name in SIZES if name in meant}
        assert plan.options["per_layer"] == dict.fromkeys(held, 0.5)


def test_an_object_is_written_down_by_its_path():
    inside = graph().model.get_layer("body").get_layer("ffn")
    assert iplt.plan(graph(), 0.5, only=inside).options["only"] == ["body/ffn"]


def test_what_a_plan_holds_asks_for_the_same_again():
    given = dict(per_layer={layers.Conv2D: 0.25, "conv2*": 0.25}, only=[is_wide, "*_b"])
    one = iplt.plan(graph(), 0.5, **given)
    held = {name: one.options[name] for name in given}
    assert iplt.plan(graph(), 0.5, **held).removed == one.removed


def test_ignore_goes_before_only_and_both_before_shares():
    plan = iplt.plan(graph(), 0.5, only="conv*", ignore="conv1", scope="layer")
    assert pruned(plan) == {"conv2_a": 0.5, "conv2_b": 0.5}
    plan = iplt.plan(graph(), per_layer={"conv*": 0.5}, ignore="conv1")
    assert pruned(plan) == {"conv2_a": 0.5, "conv2_b": 0.5}
    with pytest.raises(iplt.errors.NothingToPruneError, match="left out by ignore, only"):
        iplt.plan(graph(), only="conv1", ignore=layers.Conv2D)


def test_a_layers_own_share_goes_before_that_of_a_pattern():
    for key in ("conv1", network().get_layer("conv1")):
        model = graph() if isinstance(key, str) else iplt.trace(network())
        key = key if isinstance(key, str) else model.model.get_layer("conv1")
        plan = iplt.plan(model, per_layer={layers.Conv2D: 0.5, key: 0.25})
        assert pruned(plan) == {"conv1": 0.25, "conv2_a": 0.5, "conv2_b": 0.5}
    with pytest.raises(iplt.errors.OptionError, match=r"'conv2_a', received: 0\.5 and 0\.25"):
        iplt.plan(graph(), per_layer={"conv*": 0.5, "*_a": 0.25})


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("conw2*", "no layer that matches 'conw2*'. Close to it: 'conv2_b', 'conv2_a'"),
        ("*/fnn/*", "'*/fnn/*'. Close to it: 'ffn'"),
        (layers.Conv1D, "no layer of class 'Conv1D'. Close to it: 'Conv2D'"),
        (lambda layer: False, "no layer for which '<lambda>' is true"),
        (lambda layer: layer.filters > 8, "<lambda> raised AttributeError for 'conv1_bn'"),
    ],
)
def test_a_selector_that_means_nothing_is_refused_with_what_is_like_it(selector, said):
    for option in ({"ignore": selector}, {"only": [selector]}, {"per_layer": {selector: 0.5}}):
        with pytest.raises(iplt.errors.OptionError) as caught:
            iplt.plan(graph(), 0.5, **option)
        assert said in str(caught.value)


@pytest.mark.parametrize("wrong", [3, [None], [int], ["conv1", 5]])
def test_what_is_no_selector_is_refused_by_the_name_of_the_argument(wrong):
    model = graph().model
    model.compile(loss="mse")
    data = np.zeros((4, 8, 8, 3)), np.zeros((4, 2))
    for call in (iplt.plan, functools.partial(iplt.sensitivity, data=data)):
        with pytest.raises(iplt.errors.OptionError, match="only: expected layers, names or patt"):
            call(model, only=wrong)


def test_functions_are_asked_once_in_a_training():
    """Later they would see layers that have become smaller."""
    model = network()
    options = PlanOptions(scope="layer", only=is_wide, per_layer={"*/up": 0.75})
    progress = Progress(model, 0.5, options)
    for share in (0.25, 0.5):
        progress.carry_out(progress.plan(share))
    found = {g.producers[0].path: g.size for g in iplt.trace(model).groups}
    assert found == SIZES | {"conv2_a": 6, "body/ffn/up": 4}
    assert progress.options.plain()["only"] == ["conv2_a", "body/ffn/up"]


def test_sensitivity_and_single_weights_take_selectors():
    model = network()
    model.compile(loss="mse")
    data = np.zeros((4, 8, 8, 3)), np.zeros((4, 2))
    found = iplt.sensitivity(model, data, (0.5,), only="*/ffn/*", ignore="*/up", verbose=0)
    assert found.layers == ("body/ffn/down",)
    pool = pool_of(model, layers=layers.Conv2D, ignore=["*_a", is_wide])
    assert [one.path for one in pool] == ["conv1", "conv2_b"]
    with pytest.raises(iplt.errors.OptionError, match=r"^layers: .*'conw\*'. Close to it: 'conv1'"):
        pool_of(model, layers="conw*")


@pytest.mark.slow
def test_pruning_that_looks_takes_selectors():
    model = network()
    model.compile("sgd", "mse")
    data = np.random.default_rng(0).normal(size=(8, 8, 8, 3)), np.zeros((8, 2))
    found = iplt.prune_guided(
        model, data, data, step=0.5, tolerance=9, epochs=1, only="conv2*", ignore="*_b", verbose=0
    )
    assert {step.layer for step in found.steps} == {"conv2_a"}
    best = iplt.smallest(model, data, within=9, of="filters", step=0.5, only=Pair, verbose=0)
    assert best.plan.options["only"] == BLOCK and set(pruned(best.plan)) <= {*BLOCK}
