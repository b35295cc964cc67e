"""`plan`: which channels go, how many, and that a plan says what a rewritten model shows."""

import functools
import itertools
import json
import math
import time

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from support import graphs
from support.law import difference, random_inputs, randomize

import keras_iplt as iplt
from keras_iplt.graph.costs import flops, parameters
from keras_iplt.graph.trace import trace
from keras_iplt.planning.decide import Past, decide
from keras_iplt.planning.options import PlanOptions

pytestmark = pytest.mark.quick

layers = keras.layers

# Coupled, grouped, depthwise, shared, nested, sliced, attending and custom: all with fixed sizes.
NAMES = (
    "plain residual sequential_flatten several_inputs_and_outputs transfer_in_sequential "
    "depthwise_multiplier grouped dense_to_image uneven_splits_and_slices squeeze_excite_reshape "
    "multi_head_attention custom_blocks u_net shuffle_net_split"
).split()
RATIOS = st.floats(0, 0.6)
SCOPES = st.sampled_from(["global", "layer"])

settings.register_profile(
    "plan", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
examples = functools.partial(settings, settings.get_profile("plan"))


@functools.cache
def graph_of(name):
    """One of the graphs of tests/graphs.py, with random weights, read once."""
    model = graphs.build(name)
    randomize(model)
    return trace(model)


def values(model):
    return [keras.ops.convert_to_numpy(w) for w in model.weights]


def same(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def convolutions(*widths, seed=0, size=3, flat=True):
    """A plain chain of convolutions `c0`, `c1` … with a head, and random weights."""
    x = image = keras.Input((8, 8, 3))
    for i, width in enumerate(widths):
        x = layers.Conv2D(width, size, padding="same", activation="relu", name=f"c{i}")(x)
    x = layers.GlobalAveragePooling2D()(x) if flat else layers.Flatten()(x)
    model = keras.Model(image, layers.Dense(3, name="head")(x))
    randomize(model, seed)
    return model


def norms(layer):
    """The norm of every filter of a convolution or a dense layer."""
    kernel = keras.ops.convert_to_numpy(layer.kernel).astype("float64")
    return np.sqrt((kernel.reshape(-1, kernel.shape[-1]) ** 2).sum(axis=0))


def kernel_of(model, name):
    return keras.ops.convert_to_numpy(model.get_layer(name).kernel).astype("float64")


def costs(kernel, axis):
    """What a kernel loses with each position along an axis, as `Energy` measures it."""
    sums = np.moveaxis(kernel**2, axis, 0).reshape(kernel.shape[axis], -1).sum(axis=1)
    lost = np.array([sums[sums <= each].sum() for each in sums])
    return -np.log(np.maximum(1 - lost / sums.sum(), 1e-9))


def kept_filters(plan, layer):
    """The filters of a convolution or a dense layer that stay."""
    kept = plan.kept(layer.kernel)[-1]
    return list(range(layer.kernel.shape[-1])) if kept is None else kept.tolist()


def left(plan):
    """How many channels stay, by the first producer of each group."""
    groups = zip(plan.graph.groups, plan.removed, strict=True)
    return {group.producers[0].path: group.size - len(gone) for group, gone in groups}


def filters_lost(plan):
    pairs = zip(plan.graph.groups, plan.removed, strict=True)
    return sum(int(group.filters[list(gone)].sum()) for group, gone in pairs)


def all_filters(graph):
    return sum(int(group.filters.sum()) for group in graph.groups)


def heaviest_channel(graph, measure):
    """The most of a measure that goes with one channel."""
    whole = measure(graph)
    return max(whole - measure(graph, graph.gone([g.classes[:1]])) for g in graph.groups)


# -- the share reached -----------------------------------------------------------------------------


@examples(max_examples=150)
@given(st.sampled_from(NAMES), RATIOS, SCOPES)
@example("plain", 0.5, "global")
def test_share_of_filters_is_reached_within_half_a_channel(name, ratio, scope):
    graph = graph_of(name)
    plan = iplt.plan(graph, ratio, scope=scope)
    total = all_filters(graph)
    heaviest = max(int(group.filters.max()) for group in graph.groups)
    assert abs(filters_lost(plan) - ratio * total) <= heaviest / 2 + 1e-6
    assert plan.fpr == filters_lost(plan) / total


@examples(max_examples=80)
@given(st.sampled_from(NAMES), st.floats(0, 0.4), SCOPES, st.sampled_from(["params", "flops"]))
def test_share_of_parameters_or_flops_is_reached_within_one_channel(name, ratio, scope, of):
    graph = graph_of(name)
    measure = {"params": parameters, "flops": flops}[of]
    plan = iplt.plan(graph, ratio, of=of, scope=scope)
    whole = measure(graph)
    lost = whole - measure(graph, plan.gone)
    assert abs(lost - ratio * whole) <= heaviest_channel(graph, measure)


@pytest.mark.parametrize("ratio", [0.1, 0.25, 1 / 3, 0.5, 0.57, 0.9])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_count_is_exact_where_every_channel_is_one_filter(ratio, scope):
    model = convolutions(16, 21, 32)
    plan = iplt.plan(model, ratio, scope=scope)
    assert filters_lost(plan) == math.floor(ratio * 69 + 0.5)


@examples(max_examples=60)
@given(st.sampled_from(NAMES), st.floats(0, 0.5))
def test_layer_scope_takes_the_same_share_of_every_group(name, ratio):
    graph = graph_of(name)
    plan = iplt.plan(graph, ratio, scope="layer", criterion="l1")
    for group, gone in zip(graph.groups, plan.removed, strict=True):
        assert abs(len(gone) - ratio * group.size) <= 1.0


def test_parameters_and_flops_shares_show_in_the_rewritten_model():
    model = convolutions(16, 24, 12)
    for of, measure in (("params", "params"), ("flops", "flops")):
        small = iplt.prune(model, 0.4, of=of)
        before, after = getattr(iplt.profile(model), measure), getattr(iplt.profile(small), measure)
        assert 1 - after / before == pytest.approx(0.4, abs=0.03)


def test_a_share_out_of_reach_is_refused_with_the_share_in_reach():
    model = convolutions(8, 8)
    with pytest.raises(
        iplt.errors.OptionError, match=r"90\.0% cannot be removed, at most 50\.0% can"
    ):
        iplt.plan(model, 0.9, min_channels=4)
    assert filters_lost(iplt.plan(model, 0.5, min_channels=4)) == 8


def test_the_last_channel_of_a_group_never_goes():
    """0.99 asks for 7.92 of 8 filters: seven are within one channel of that."""
    assert left(iplt.plan(convolutions(8), 0.99)) == {"c0": 1}


# -- the ranking -----------------------------------------------------------------------------------


@examples(max_examples=12)
@given(
    st.lists(st.integers(2, 12), min_size=1, max_size=4), st.floats(0.05, 0.6), st.integers(0, 99)
)
def test_global_ranking_removes_the_filters_of_smallest_raw_norm(widths, ratio, seed):
    """A reference with loops: all filters of a chain in one list, sorted by norm, cut by count."""
    model = convolutions(*widths, seed=seed)
    ranked = sorted(
        (float(norm), i, f)
        for i in range(len(widths))
        for f, norm in enumerate(norms(model.get_layer(f"c{i}")))
    )
    removed = {i: set() for i in range(len(widths))}
    to_go = math.floor(ratio * len(ranked) + 0.5)
    for _, i, f in ranked:
        if to_go and len(removed[i]) < widths[i] - 1:
            removed[i].add(f)
            to_go -= 1
    assume(not to_go)
    plan = iplt.plan(model, ratio, criterion="l2")
    for i, width in enumerate(widths):
        expected = [f for f in range(width) if f not in removed[i]]
        assert kept_filters(plan, model.get_layer(f"c{i}")) == expected


def test_global_ranking_is_not_normalised_by_filter_size():
    """Equal weights: filters over more inputs have the larger norm, so the first layer goes."""
    model = convolutions(8, 8)
    for layer in model.layers:
        for weight in layer.weights:
            weight.assign(np.full(weight.shape, 0.1, "float32"))
    assert left(iplt.plan(model, 0.4, criterion="l2")) == {"c0": 2, "c1": 8}
    assert left(iplt.plan(model, 0.4, criterion="l2_mean", scope="layer")) == {"c0": 5, "c1": 5}


def test_ties_go_to_the_first_layer_and_the_first_filter():
    model = convolutions(6, 6, 6, size=1)
    for i in range(3):
        kernel = model.get_layer(f"c{i}").kernel
        value = np.zeros(kernel.shape, "float32")
        value[..., 0, :] = 1
        kernel.assign(value)
    plans = [iplt.plan(model, 0.5, criterion="l2").removed for _ in range(3)]
    assert plans[0] == plans[1] == plans[2] == (tuple(range(5)), (0, 1, 2, 3), ())
    assert iplt.plan(model, 0.5, criterion="l2", scope="layer").removed == ((0, 1, 2),) * 3


def test_by_energy_those_go_that_cost_least_of_squares_at_both_ends():
    """By default. However large the weights of one layer are."""
    model = convolutions(24, 40, 16)
    small = iplt.plan(model, 0.4)
    kernel = model.get_layer("c1").kernel
    kernel.assign(keras.ops.convert_to_numpy(kernel) * 128)
    plan = iplt.plan(model, 0.4)
    assert plan.removed == small.removed
    ranked = sorted(
        (cost, name, channel)
        for name, reader in itertools.pairwise(["c0", "c1", "c2", "head"])
        for channel, cost in enumerate(
            costs(kernel_of(model, name), -1) + costs(kernel_of(model, reader), -2)
        )
    )
    gone = {(name, channel) for _, name, channel in ranked[:32]}
    stays = {(f"c{i}", f) for i in range(3) for f in kept_filters(plan, model.get_layer(f"c{i}"))}
    assert len(stays) == 48 and not gone & stays


def test_by_energy_equal_layers_lose_equally_and_none_is_emptied():
    model = convolutions(8, 8)
    for layer in model.layers:
        for weight in layer.weights:
            weight.assign(np.full(weight.shape, 0.1, "float32"))
    assert iplt.plan(model, 0.5).removed == ((0, 1, 2, 3),) * 2
    assert left(iplt.plan(model, 0.875)) == {"c0": 1, "c1": 1}


def test_by_energy_what_earlier_steps_took_counts_by_channels():
    """Layers that were equal are so again, whatever share of their weights was in what went."""
    model = convolutions(8, 8)
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 0.1, "float32"))
    graph = trace(iplt.prune(model, per_layer={"c0": 0.5}))
    past = Past(sizes=[8, 8], filters=[8.0, 8.0], whole=16.0)
    assert left(decide(graph, 0.5, PlanOptions(), past=past)) == {"c0": 4, "c1": 4}
    assert left(iplt.plan(graph, 1 / 3)) == {"c0": 3, "c1": 5}


def test_by_energy_channels_of_zeros_cost_nothing():
    """Whichever end is zero: half of these filters are, or what is read of them."""
    model = convolutions(8, 8)
    for name, place in [("c0", np.s_[..., ::2]), ("head", np.s_[1::2])]:
        value = kernel_of(model, name)
        value[place] = 0
        model.get_layer(name).kernel.assign(value)
    assert iplt.plan(model, 0.5).removed == ((0, 2, 4, 6), (1, 3, 5, 7))


def test_by_energy_a_stream_costs_what_all_its_layers_lose():
    """The channels that layers add up to stay, where inner ones can go instead."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", name="stem")(image)
    for i in range(3):
        y = keras.layers.Conv2D(8, 3, padding="same", name=f"inner{i}")(x)
        y = keras.layers.Conv2D(8, 3, padding="same", name=f"outer{i}")(y)
        x = keras.layers.Add()([x, y])
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    image = keras.layers.Dense(3, name="head")
    model = keras.Model(model.input, image(model.output))
    widths = left(iplt.plan(model, 0.3))
    assert widths["stem"] == 8 and max(widths[f"inner{i}"] for i in range(3)) < 8


def test_filters_of_one_channel_count_as_one_by_energy():
    """A dense layer that is reshaped to maps has a filter per position of each."""
    image = keras.Input((5,))
    x = keras.layers.Dense(9 * 4, name="maps")(image)
    x = keras.layers.Reshape((3, 3, 4))(x)
    x = keras.layers.Conv2D(4, 3, name="conv")(x)
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    graph = iplt.trace(model)
    (maps,) = (g for g in graph.groups if g.producers[0].path == "maps")
    maps_made = costs(kernel_of(model, "maps").reshape(5, 9, 4), 2)
    found = iplt.criteria.scores(graph, "energy")[maps.classes]
    np.testing.assert_allclose(found, maps_made + costs(kernel_of(model, "conv"), 2), rtol=1e-5)


@pytest.mark.any_backend
def test_energy_counts_what_makes_a_channel_and_what_reads_it():
    """A layer that is called twice reads, and loses, once."""
    image = keras.Input((6, 6, 2))
    shared, norm = layers.Conv2D(4, 3, padding="same", name="shared"), layers.BatchNormalization()
    x = norm(layers.Conv2D(4, 3, padding="same", name="first")(image))
    x = layers.Flatten()(layers.Conv2D(3, 3, name="last")(layers.Add()([shared(shared(x)), x])))
    model = keras.Model(image, layers.Dense(2, name="head")(x))
    randomize(model, 0)
    graph = iplt.trace(model)
    first, shared, last, head = (kernel_of(model, n) for n in ("first", "shared", "last", "head"))
    stream = costs(first, 3) + costs(shared, 3) + costs(shared, 2) + costs(last, 2)
    expected = {"first": stream, "last": costs(last, 3) + costs(head.reshape(16, 3, 2), 1)}
    values = iplt.criteria.scores(graph, "energy")
    for group in graph.groups:
        cost = expected.pop(group.producers[0].path)
        np.testing.assert_allclose(values[group.classes], cost, rtol=1e-4)
    assert not expected


def test_layers_with_shares_of_their_own_are_all_that_is_pruned():
    """Unless a ratio for the others is given too."""
    model = convolutions(8, 8, 8)
    assert left(iplt.plan(model, per_layer={"c1": 0.5})) == {"c0": 8, "c1": 4, "c2": 8}
    assert iplt.prune(model, per_layer={"c1": 0.5}).get_layer("c0").filters == 8
    assert sum(left(iplt.plan(model, 0.25, per_layer={"c1": 0.5})).values()) == 16


def test_the_same_weights_give_the_same_plan_on_every_backend():
    """Kept indices of fixed weights, as numpy alone computes them."""
    model = convolutions(7, 9, seed=3)
    random = np.random.default_rng(11)
    for i, (width, inputs) in enumerate([(7, 3), (9, 7)]):
        kernel = random.normal(size=(3, 3, inputs, width)).astype("float32")
        model.get_layer(f"c{i}").kernel.assign(kernel)
    text = iplt.plan(model, 0.4, criterion="l2").to_json()
    random = np.random.default_rng(11)
    kernels = [random.normal(size=(3, 3, a, b)).astype("float32") for b, a in [(7, 3), (9, 7)]]
    scores = [np.linalg.norm(k.reshape(-1, k.shape[-1]), axis=0) for k in kernels]
    limit = np.sort(np.concatenate(scores))[6]  # 0.4 × 16 filters: six go
    kept = [np.flatnonzero(s >= limit).tolist() for s in scores]
    if len(kept[0]) == 0:
        raise AssertionError("these weights would empty a layer")
    found = {e["path"]: e["kept"] for e in json.loads(text)["variables"]}
    whole = [list(range(7)), list(range(9))]
    assert [found[f"c{i}/kernel"][3] or whole[i] for i in range(2)] == kept
    assert [found["c1/kernel"][2], found["head/kernel"][0]] == [
        k if k != w else None for k, w in zip(kept, whole, strict=True)
    ]


# -- what a filter is ------------------------------------------------------------------------------


def test_every_producer_of_a_coupled_channel_counts():
    """A stream that two convolutions write to loses two filters with each channel."""
    image = keras.Input((8, 8, 3))
    a = layers.Conv2D(4, 3, padding="same", name="a")(image)
    b = layers.Conv2D(4, 3, padding="same", name="b")(a)
    x = layers.GlobalAveragePooling2D()(layers.Add()([a, b]))
    model = keras.Model(image, layers.Dense(2)(layers.Dense(8, name="hidden")(x)))
    randomize(model)
    plan = iplt.plan(model, 0.5, per_layer={"hidden": 0})
    assert left(plan) == {"a": 2, "hidden": 8}
    assert plan.fpr == 4 / 16
    assert kept_filters(plan, model.get_layer("a")) == kept_filters(plan, model.get_layer("b"))


def test_depthwise_channels_follow_their_producer_and_count_once():
    image = keras.Input((8, 8, 3))
    x = layers.DepthwiseConv2D(3, name="depthwise")(layers.Conv2D(6, 3, name="conv")(image))
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(layers.BatchNormalization()(x))))
    randomize(model)
    plan = iplt.plan(model, 0.5)
    assert plan.fpr == 0.5 and left(plan) == {"conv": 3}
    kept = kept_filters(plan, model.get_layer("conv"))
    assert plan.kept(model.get_layer("depthwise").kernel)[2].tolist() == kept


def test_a_layer_that_is_called_twice_has_its_filters_once():
    """A shared layer has one set of filters, however often it is called."""
    a, b = keras.Input((6,)), keras.Input((6,))
    shared = layers.Dense(4, activation="relu", name="shared")
    x = layers.Dense(12, name="after")(layers.Concatenate()([shared(a), shared(b)]))
    model = keras.Model([a, b], layers.Dense(2)(x))
    randomize(model)
    plan = iplt.plan(model, 0.5, per_layer={"shared": 0.5, "after": 0})
    assert plan.fpr == 2 / 16


def test_frozen_channels_count_neither_in_the_ratio_nor_in_fpr():
    """The ten filters of the output cannot go: half of the rest is four."""
    model = keras.Sequential([keras.Input((5,)), layers.Dense(8, name="hidden"), layers.Dense(10)])
    randomize(model)
    plan = iplt.plan(model, 0.5)
    assert left(plan) == {"hidden": 4} and plan.fpr == 0.5


def test_convolutions_only_prunes_and_counts_convolutions_only():
    x = image = keras.Input((8, 8, 3))
    x = layers.Conv2D(10, 3, name="conv")(x)
    x = layers.Dense(30, name="dense")(layers.Flatten()(x))
    model = keras.Model(image, layers.Dense(2, name="head")(x))
    randomize(model)
    plan = iplt.plan(model, 0.4, convolutions_only=True)
    assert left(plan) == {"conv": 6, "dense": 30} and plan.fpr == 0.4
    assert iplt.plan(model, 0.4, scope="layer").fpr == 0.4
    assert left(iplt.plan(model, 0.4, scope="layer")) == {"conv": 6, "dense": 18}


def test_convolutions_only_counts_the_convolutions_of_a_mixed_group():
    """A dense gate that scales a convolution goes with its channels without being counted."""
    graph = graph_of("squeeze_excite_reshape")
    plan = iplt.plan(graph, 0.25, convolutions_only=True)
    first = graph.groups[0]
    assert [p.convolution for p in first.producers] == [True, False]
    assert plan.fpr == 0.25 and len(plan.removed[0]) == 2
    assert all(not gone for gone in plan.removed[1:])


# -- options ---------------------------------------------------------------------------------------


@examples(max_examples=50)
@given(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0, 0.5))
def test_per_layer_shares_hold_and_ratio_is_the_share_of_the_others(first, second, rest):
    graph = chain_graph()
    plan = iplt.plan(graph, rest, per_layer={"c0": first, graph.model.get_layer("c2"): second})
    found = left(plan)
    assert found["c0"] == 16 - math.floor(first * 16 + 0.5)
    assert found["c2"] == 12 - math.floor(second * 12 + 0.5)
    assert found["c1"] + found["c3"] == 44 - math.floor(rest * 44 + 0.5)
    assert json.loads(plan.to_json())["options"]["per_layer"] == {"c0": first, "c2": second}


@functools.cache
def chain_graph():
    return trace(convolutions(16, 24, 12, 20))


def test_per_layer_does_not_let_a_layer_lose_everything():
    assert left(iplt.plan(chain_graph(), 0, per_layer={"c0": 0.99}))["c0"] == 1


def test_layers_pruned_together_cannot_have_two_shares():
    graph = graph_of("residual")
    first, second = (p.path for p in graph.groups[0].producers[:2])
    assert iplt.plan(graph, 0, per_layer={first: 0.5, second: 0.5}).fpr > 0
    with pytest.raises(iplt.errors.OptionError, match=r"pruned together.*0\.5 and 0\.25"):
        iplt.plan(graph, 0, per_layer={first: 0.5, second: 0.25})


def test_a_share_for_what_cannot_be_pruned_is_refused():
    with pytest.raises(
        iplt.errors.OptionError, match=r"'head' has no channel.*output of the model"
    ):
        iplt.plan(chain_graph(), 0.5, per_layer={"head": 0.5})
    with pytest.raises(iplt.errors.OptionError, match="'c1' has no channel"):
        iplt.plan(chain_graph(), 0.5, ignore="c1", per_layer={"c1": 0.5})


def test_ignored_layers_keep_their_filters_and_do_not_count():
    graph = chain_graph()
    for ignore in ("c1", graph.model.get_layer("c1"), ["c1"], (graph.model.get_layer("c1"),)):
        plan = iplt.plan(graph, 0.5, ignore=ignore)
        assert left(plan)["c1"] == 24 and plan.fpr == 0.5
        assert plan.options["ignore"] == ["c1"]
    assert left(iplt.plan(graph, 0.5, ignore=["c0", "c2"])) | {"c1": 0, "c3": 0} == {
        "c0": 16, "c1": 0, "c2": 12, "c3": 0,
    }  # fmt: skip


def test_ignoring_a_layer_keeps_what_must_be_pruned_together_with_it():
    graph = graph_of("residual")
    stream, inner = graph.groups[0], graph.groups[1]
    for producer in stream.producers:
        plan = iplt.plan(graph, 0.5, ignore=producer.layer)
        assert plan.removed[0] == () and len(plan.removed[1]) == inner.size // 2


def test_ignoring_a_batch_norm_keeps_the_channels_it_scales():
    graph = graph_of("plain")
    norm = next(x for x in graph.model.layers if isinstance(x, layers.BatchNormalization))
    assert iplt.plan(graph, 0.5, ignore=norm).removed[0] == ()


def test_a_nested_model_stands_for_all_its_layers():
    graph = graph_of("transfer_in_sequential")
    backbone = graph.model.get_layer("backbone")
    inside = [i for i, g in enumerate(graph.groups) if g.producers[0].path.startswith("backbone/")]
    assert inside == [0, 1]
    for key in ("backbone", backbone):
        with pytest.raises(iplt.errors.NothingToPruneError, match="left out by ignore"):
            iplt.plan(graph, 0.5, ignore=key)
        plan = iplt.plan(graph, 0, per_layer={key: 0.5})
        assert [len(gone) for gone in plan.removed] == [4, 3]
    path = graph.groups[1].producers[0].path
    assert [len(gone) for gone in iplt.plan(graph, 0.5, ignore=path).removed] == [4, 0]


def test_an_ignored_layer_need_not_have_a_score():
    """Batch-norm scores exist for the first convolution only; the other is left out."""
    image = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(6, 3, name="a")(image))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, name="b")(x))
    model = keras.Model(image, layers.Dense(2)(x))
    randomize(model)
    with pytest.raises(iplt.errors.CriterionError, match="'b'"):
        iplt.plan(model, 0.5, criterion="bn_scale")
    assert left(iplt.plan(model, 0.5, criterion="bn_scale", ignore="b")) == {"a": 3, "b": 6}


@examples(max_examples=40)
@given(RATIOS, SCOPES, st.integers(1, 6), st.sampled_from(NAMES))
def test_every_group_keeps_min_channels(ratio, scope, least, name):
    graph = graph_of(name)
    try:
        plan = iplt.plan(graph, ratio, scope=scope, min_channels=least)
    except iplt.errors.OptionError as error:
        most = sum(int(np.sort(g.filters)[::-1][: max(0, g.size - least)].sum())
                   for g in graph.groups)  # fmt: skip
        assert "cannot be removed" in str(error) and most < ratio * all_filters(graph)
        return
    for group, gone in zip(graph.groups, plan.removed, strict=True):
        assert not gone or group.size - len(gone) >= least


def quiet_layer():
    """Three layers, the first of which has the smallest norms by far."""
    model = convolutions(10, 20, 20)
    model.get_layer("c0").kernel.assign(model.get_layer("c0").kernel * 0.01)
    return model


def test_whoever_empties_a_layer_is_told():
    model = convolutions(20, 20, 20)
    model.get_layer("c1").kernel.assign(model.get_layer("c1").kernel * 0.01)
    with pytest.warns(UserWarning, match="'l2' takes nearly all .* c1: 1 of 20 channels are left"):
        iplt.plan(model, 0.5, criterion="l2")
    iplt.plan(model, 0.95, scope="layer")  # nearly all is what was asked for
    iplt.plan(model, 0, per_layer={"c1": 0.95})


def test_max_ratio_caps_what_a_global_ranking_takes_from_a_layer():
    model = quiet_layer()
    assert left(iplt.plan(model, 0.5, criterion="l2"))["c0"] == 1
    plan = iplt.plan(model, 0.5, criterion="l2", max_ratio=0.7)
    assert left(plan)["c0"] == 3 and plan.fpr == 0.5
    assert all(len(gone) <= 14 for gone in plan.removed)


@examples(max_examples=60)
@given(st.floats(0, 0.6), st.floats(0.6, 0.95), SCOPES, st.sampled_from(NAMES))
def test_no_group_loses_more_than_max_ratio(ratio, most, scope, name):
    graph = graph_of(name)
    try:
        plan = iplt.plan(graph, ratio, scope=scope, max_ratio=most)
    except iplt.errors.OptionError:
        assert ratio > 0.4  # small groups round the cap down
        return
    for group, gone in zip(graph.groups, plan.removed, strict=True):
        assert len(gone) <= most * group.size + 1e-6


@examples(max_examples=100)
@given(st.sampled_from([1, 4, 7, 8, 12, 15, 24, 33, 40]), st.floats(0, 0.99), st.integers(2, 16))
def test_round_to_leaves_the_nearest_multiple(size, ratio, multiple):
    """For a layer's own share. Where the nearest multiple is its size or more, it stays whole."""
    plan = iplt.plan(dense_graph(size), 0, per_layer={"hidden": ratio}, round_to=multiple)
    stays, asked = left(plan)["hidden"], math.floor(ratio * size + 0.5)
    multiples = range(multiple, size + 2 * multiple, multiple)
    distance = {n: abs(n - (size - asked)) for n in multiples}
    nearest = [n for n in multiples if distance[n] == min(distance.values())]
    if asked and size > multiple and max(nearest) < size:
        assert stays in nearest and size - stays - asked <= multiple / 2
    else:
        assert stays == size


@functools.cache
def dense_graph(size):
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(size, name="hidden"), layers.Dense(2)]
    )
    randomize(model)
    return trace(model)


@examples(max_examples=60)
@given(st.floats(0.05, 0.6), SCOPES, st.sampled_from([2, 4, 8]))
def test_round_to_holds_in_all_groups_at_once_and_the_share_stays_near(ratio, scope, multiple):
    graph = chain_graph()
    plan = iplt.plan(graph, ratio, scope=scope, round_to=multiple)
    sizes = left(plan)
    for group, gone in zip(graph.groups, plan.removed, strict=True):
        stays = group.size - len(gone)
        assert not gone or (stays % multiple == 0 and stays >= multiple)
    # One group moves by at most one multiple at a time, so half of that is the worst miss.
    assert abs(72 - sum(sizes.values()) - ratio * 72) <= multiple / 2 + 4, sizes


def test_round_to_that_leaves_too_much_is_refused():
    with pytest.raises(iplt.errors.OptionError, match=r"at most 50\.0%"):
        iplt.plan(convolutions(16, 16), 0.9, round_to=8)
    assert left(iplt.plan(convolutions(16, 16), 0.6, round_to=8)) == {"c0": 8, "c1": 8}


# -- nothing, and everything -----------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("of", ["filters", "params", "flops"])
def test_ratio_zero_removes_nothing(of, scope):
    """The plan is empty; masking changes no bit and rewriting gives an equal model."""
    model = graphs.build("plain")
    randomize(model)
    plan = iplt.plan(model, 0, of=of, scope=scope, round_to=4)
    assert (plan.fpr, plan.ppr) == (0, 0) and not any(plan.removed)
    assert all(axis is None for w in model.weights for axis in plan.kept(w))
    before = values(model)
    iplt.mask(model, plan)
    assert same(before, values(model))
    small = iplt.rewrite(model, plan)
    assert same(before, values(small))
    (x,) = random_inputs(model)
    assert difference(model(x), small(x)) == 0


@pytest.mark.parametrize("name", [*NAMES, "subclassed", "shared_conv_on_two_tensors"])
def test_what_a_plan_says_is_what_the_rewritten_model_shows(name):
    """Shapes of every variable, share of parameters and share of filters."""
    model = graph_of(name).model
    for options in ({"scope": "layer"}, {"of": "params"}):
        plan = iplt.plan(graph_of(name), 0.4, **options)
        small = iplt.rewrite(model, plan)
        shapes = [
            tuple(n if k is None else len(k) for n, k in zip(w.shape, plan.kept(w), strict=True))
            for w in model.weights
        ]
        assert sorted(shapes) == sorted(tuple(w.shape) for w in small.weights)
        assert any(plan.removed)
        compared = iplt.compare(model, small)
        assert compared.fpr == pytest.approx(plan.fpr)
        assert compared.ppr == pytest.approx(plan.ppr)
        assert plan.ppr == pytest.approx(1 - small.count_params() / model.count_params())


def test_kept_knows_variables_of_equal_path_apart():
    """Two nested models whose layers have the same names: each variable has its own answer."""
    models = []
    for _ in range(2):
        i = keras.Input((8,))
        models.append(keras.Model(i, layers.Dense(8, name="same")(i)))
    j = keras.Input((8,))
    model = keras.Model(j, layers.Dense(2)(models[1](models[0](j))))
    randomize(model)
    plan = iplt.plan(model, 0, per_layer={models[0]: 0.5, models[1]: 0.25})
    one, two = (m.get_layer("same").kernel for m in models)
    assert one.path == two.path
    assert [len(plan.kept(v)[1]) for v in (one, two)] == [4, 6]
    with pytest.raises(iplt.errors.OptionError, match="2 variables of the model are called"):
        iplt.Plan.from_json(plan.to_json()).kept(one)


def test_the_printed_plan_names_layers_and_sizes():
    text = str(iplt.plan(chain_graph(), 0.5, scope="layer"))
    assert text.startswith("removes 50.0% of the filters")
    assert "16 -> 8      c0" in text


# -- JSON ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_survives_json_and_fits_a_fresh_twin(name, tmp_path):
    """Equal text again, also through a file; on a twin with other names the same indices stay."""
    plan = iplt.plan(graph_of(name), 0.4, of="params")
    text = plan.to_json()
    path = tmp_path / "plan.json"
    path.write_text(text)
    again = iplt.Plan.from_json(path.read_text())
    assert again.to_json() == text
    assert (again.removed, again.fpr, again.ppr) == (plan.removed, plan.fpr, plan.ppr)
    model, twin = graph_of(name).model, graphs.build(name)
    for old, new in zip(model.weights, twin.weights, strict=True):
        new.assign(old.value)
    small, other = iplt.rewrite(model, plan), iplt.rewrite(twin, again)
    assert same(values(small), values(other))
    for variable in model.weights:
        for a, b in zip(plan.kept(variable), again.kept(variable), strict=True):
            assert (a is None and b is None) or a.tolist() == b.tolist()


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.float64])
def test_options_that_are_numpy_numbers_can_be_written_down(kind):
    options = {"ratio": kind(0), "round_to": np.int64(4), "min_channels": np.int32(2)}
    plan = iplt.plan(chain_graph(), max_ratio=np.float32(0.75), **options)
    found = json.loads(plan.to_json())["options"]
    expected = {
        "ratio": 0.0, "of": "filters", "scope": "global", "min_channels": 2, "round_to": 4,
        "max_ratio": 0.75, "convolutions_only": False, "criterion": "energy", "per_layer": {},
        "ignore": [],
    }  # fmt: skip
    assert found | expected == found


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"format": "keras_iplt.plan/0"}', 5, None, "{'a': 1}", "[" * 100_000],
)
def test_text_that_is_no_plan_is_refused(text):
    with pytest.raises(iplt.errors.OptionError, match="JSON text of a keras_iplt plan"):
        iplt.Plan.from_json(text)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("fpr", x) for x in (math.nan, math.inf, -0.1, 1.5, 10**400, "1", None, True)),
        *(("removed", x) for x in (3, "12", [3], ["1"], [[1.5]], [[True]], [["1"]], [[math.inf]])),
        *(("variables", x) for x in (3, "abc", [3], [None], [{}], [[["path", 1]]])),
        ("ppr", -math.inf), ("options", [3]), ("options", {"a": math.nan}), ("architecture", 3),
    ],
    ids=lambda x: str(x)[:20],
)  # fmt: skip
def test_a_plan_with_something_else_in_it_is_refused(key, value):
    """Numbers that are none, too large ones, texts, other structures."""
    content = json.loads(iplt.plan(convolutions(8), 0.5).to_json())
    with pytest.raises(iplt.errors.OptionError, match="JSON text of a keras_iplt plan"):
        iplt.Plan.from_json(json.dumps({**content, key: value}))


@pytest.mark.parametrize(
    "removed", [[[0, 1, 2, 3, 4, 5, 6, 7]], [[-1]], [[8]], [[0], [0]], []], ids=str
)
def test_a_plan_whose_indices_do_not_fit_is_refused(removed):
    """All channels of a group, indices outside of it, too many groups and too few."""
    content = json.loads(iplt.plan(convolutions(8), 0.5).to_json())
    plan = iplt.Plan.from_json(json.dumps({**content, "removed": removed}))
    with pytest.raises(iplt.errors.PlanMismatchError, match=r"sizes \[8\]"):
        iplt.mask(convolutions(8), plan)


# -- other architectures ---------------------------------------------------------------------------


def stack(*things):
    return keras.Sequential([keras.Input((8, 8, 3)), *things])


def original():
    return stack(
        layers.Conv2D(8, 3, padding="same"), layers.ReLU(), layers.Conv2D(8, 3, padding="same"),
        layers.Flatten(), layers.Dense(2),
    )  # fmt: skip


OTHERS = {
    "width": (
        lambda: stack(
            layers.Conv2D(8, 3, padding="same"), layers.ReLU(),
            layers.Conv2D(9, 3, padding="same"), layers.Flatten(), layers.Dense(2),
        ),
        r"operation 2: expected Conv2D\[.*8, 8\).*received Conv2D\[.*8, 9\)",
    ),
    "operation": (
        lambda: stack(
            layers.Conv2D(8, 3, padding="same"), layers.ELU(), layers.Conv2D(8, 3, padding="same"),
            layers.Flatten(), layers.Dense(2),
        ),
        r"operation 1: expected ReLU.*received ELU",
    ),
    "shorter": (lambda: stack(layers.Conv2D(8, 3, padding="same"), layers.ReLU()),
                "operation 2: expected Conv2D.*received nothing"),
    "longer": (lambda: stack(*original().layers, layers.Softmax()),
               "operation 5: expected nothing, received Softmax"),
    "size of the image": (
        lambda: keras.Sequential([keras.Input((9, 9, 3)), *original().layers[:3],
                                  layers.GlobalAveragePooling2D(), layers.Dense(2)]),
        r"operation 0: expected .*8, 8, 8\).*received .*9, 9, 8\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_a_plan_is_refused_on_another_architecture_with_the_first_difference(case):
    model = original()
    randomize(model)
    build, message = OTHERS[case]
    other = build()
    before = values(other)
    for plan in (p := iplt.plan(model, 0.5), iplt.Plan.from_json(p.to_json())):
        for carry_out in (iplt.mask, iplt.rewrite):
            with pytest.raises(iplt.errors.PlanMismatchError, match=message):
                carry_out(other, plan)
    assert same(before, values(other))


def wired(first, second):
    """Three convolutions in a row and a sum over two of them: weights are equal for all sums."""
    x = image = keras.Input((8, 8, 4))
    outputs = []
    for i in range(3):
        x = layers.Conv2D(4, 3, padding="same", name=f"conv{i}")(x)
        outputs.append(x)
    x = layers.Add()([outputs[first], outputs[second]])
    model = keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    randomize(model)
    return model


def test_a_plan_is_refused_where_equal_weights_are_wired_otherwise():
    plan = iplt.plan(wired(0, 2), 0.5)
    assert plan.removed[0] != plan.removed[1]
    other = wired(1, 2)
    assert [w.shape for w in other.weights] == [w.shape for w in wired(0, 2).weights]
    before = values(other)
    with pytest.raises(iplt.errors.PlanMismatchError, match="First difference at"):
        iplt.mask(other, iplt.Plan.from_json(plan.to_json()))
    assert same(before, values(other))


def test_names_do_not_make_another_architecture():
    model, twin = original(), original()
    assert [x.name for x in model.layers] != [x.name for x in twin.layers]
    randomize(model)
    assert iplt.rewrite(twin, iplt.plan(model, 0.5)).count_params() < twin.count_params()


# -- models that live on ---------------------------------------------------------------------------


def test_a_plan_stays_valid_while_weights_change():
    """Trained after it was planned: the same channels go, with the new weights."""
    model = graphs.build("plain")
    randomize(model)
    plan = iplt.plan(model, 0.5)
    before = values(model)
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 8, 8, 3)), np.ones((8, 3)), epochs=2, verbose=0)
    assert not same(before, values(model))
    small = iplt.rewrite(model, plan)
    iplt.mask(model, plan)
    (x,) = random_inputs(model)
    assert difference(model(x), small(x)) < 1e-5
    assert [w.shape[-1] for w in small.weights] == [
        w.shape[-1] if k[-1] is None else len(k[-1])
        for w, k in ((w, plan.kept(w)) for w in model.weights)
    ]


def test_a_plan_is_refused_once_a_layer_is_gone():
    model = original()
    randomize(model)
    plan = iplt.plan(model, 0.5)
    model.pop()
    with pytest.raises(iplt.errors.PlanMismatchError, match=r"expected Dense.*received nothing"):
        iplt.rewrite(model, plan)


def test_a_plan_is_refused_once_a_layer_without_weights_is_added():
    """The variables are the same, yet the channels of the output may no longer go."""
    model = stack(layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(4), layers.ReLU())
    randomize(model)
    plan = iplt.plan(model, 0.5)
    model.add(layers.Softmax())
    with pytest.raises(iplt.errors.PlanMismatchError, match="expected nothing, received Softmax"):
        iplt.mask(model, plan)


def test_a_plan_is_refused_once_a_nested_model_has_changed():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(8), layers.ReLU(), layers.Flatten()])
    model = keras.Sequential([keras.Input((6,)), inner, layers.Dense(2)])
    randomize(model)
    plan = iplt.plan(model, 0.5)
    inner.pop()
    with pytest.raises(iplt.errors.PlanMismatchError, match="First difference"):
        iplt.rewrite(model, plan)


def test_a_rewritten_model_needs_a_plan_of_its_own():
    model = convolutions(8, 8)
    plan = iplt.plan(model, 0.5, scope="layer")
    small = iplt.rewrite(model, plan)
    with pytest.raises(iplt.errors.PlanMismatchError, match=r"operation 0.*3, 8\).*3, 4\)"):
        iplt.rewrite(small, plan)
    assert left(iplt.plan(small, 0.5, scope="layer")) == {"c0": 2, "c1": 2}


def test_planning_changes_nothing():
    """Neither weights nor what the model was compiled with, called with or connected to."""
    model = graphs.build("custom_blocks")
    randomize(model)
    before, config = values(model), json.dumps(model.get_config(), default=str)
    nodes = [len(x._inbound_nodes) for x in model._flatten_layers()]
    iplt.plan(model, 0.5, criterion="lamp", scope="layer", of="flops")
    assert same(before, values(model)) and json.dumps(model.get_config(), default=str) == config
    assert nodes == [len(x._inbound_nodes) for x in model._flatten_layers()]


def test_planning_thousands_of_channels_takes_a_moment():
    """No loop runs over single channels: 9,216 of them, ten times over."""
    graph = trace(convolutions(*[1024] * 9, size=1))
    iplt.plan(graph, 0.5)
    start = time.process_time()
    for scope in ("global", "layer"):
        iplt.plan(graph, 0.5, scope=scope, criterion=lambda weights: weights[:, 0])
        iplt.plan(graph, 0.5, scope=scope, round_to=8, criterion=lambda weights: weights[:, 0])
        iplt.plan(graph, 0.5, scope=scope, of="flops", criterion=lambda weights: weights[:, 0])
    assert time.process_time() - start < 3
