"""Plans for channels that the user names."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from support import graphs, law

import keras_iplt as iplt

pytestmark = pytest.mark.quick

GRAPHS = ["plain", "residual", "nested_in_nested", "u_net", "dense_to_image", "grouped"]


def network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(6, 3, name="one"),
            layers.BatchNormalization(name="norm"),
            layers.Conv2D(4, 3, name="two"),
            layers.Flatten(),
            layers.Dense(3, name="head"),
        ]
    )


def test_the_channels_named_go_and_no_others():
    """From the layer, and from those before and behind it."""
    model = network()
    law.randomize(model)
    small = iplt.rewrite(model, iplt.plan_channels(model, {"one": [0, 3, 5], "two": [1]}))
    assert small.get_layer("one").filters == 3 and small.get_layer("two").kernel.shape[-2:] == (
        3,
        3,
    )
    before, after = (keras.ops.convert_to_numpy(m.get_layer("one").kernel) for m in (model, small))
    np.testing.assert_array_equal(np.delete(before, [0, 3, 5], axis=-1), after)
    before, after = (keras.ops.convert_to_numpy(m.get_layer("norm").gamma) for m in (model, small))
    np.testing.assert_array_equal(np.delete(before, [0, 3, 5]), after)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(GRAPHS), st.integers(0, 1000))
def test_any_plan_can_be_said_in_channels(name, seed):
    """A random plan, named filter by filter through one of the layers of each group."""
    model = graphs.build(name)
    graph = iplt.trace(model)
    plan = law.random_plan(graph, seed)
    channels = {}
    for group, gone in zip(graph.groups, plan.removed, strict=True):
        producer = group.producers[seed % len(group.producers)]
        classes = graph.classes[producer.ids]
        own = np.flatnonzero(np.isin(classes, group.classes[list(gone)])).tolist()
        channels.setdefault(producer.path, []).extend(own)
    named = iplt.plan_channels(model, channels)
    assert named.removed == plan.removed
    assert (named.fpr, named.ppr) == (plan.fpr, plan.ppr)
    again = iplt.Plan.from_json(named.to_json())
    assert again.removed == named.removed


def test_layers_that_hang_together_add_up():
    """Either may be named, by its name or as an object."""
    model = graphs.build("residual")
    graph = iplt.trace(model)
    group = next(group for group in graph.groups if len(group.producers) > 1)
    one, other = group.producers[:2]
    plan = iplt.plan_channels(graph, {one.path: [0], other.layer: np.array([1, 0])})
    assert plan.removed[group.index] == (0, 1)


@pytest.mark.parametrize(("channels", "words"), [
    ({"one": [6]}, "expected indices from 0 to 5 for 'one', received: 6"),
    ({"one": [-1]}, "received: -1"),
    ({"one": [True]}, "received: True"),
    ({"one": ["first"]}, "received: 'first'"),
    ({"one": 3}, "channels: expected {layer or name: indices}, received: 3"),
    (["one"], "channels: expected {layer or name: indices}, received: ['one']"),
    ({"one": range(6)}, "6 of 6 cannot go from one: at least 1 must stay"),
    ({"head": [0]}, "those of 'head' cannot go: it is an output of the model"),
    ({"norm": [0]}, "expected layers that create one set of channels, received: 'norm'"),
    ({"tow": [0]}, "no layer 'tow'"),
])  # fmt: skip
def test_what_is_wrong_is_said(channels, words):
    with pytest.raises(iplt.errors.OptionError) as caught:
        iplt.plan_channels(network(), channels)
    assert words in str(caught.value)
