"""Heads of attention go as a whole."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.law import check_law, difference, random_inputs, random_plan, randomize

import keras_iplt as iplt

pytestmark = pytest.mark.any_backend


def transformer(attention):
    """A residual block of attention; the output is of a class token."""
    x = keras.Input((5, 6))
    y = layers.Dense(8, activation="tanh", name="stem")(x)
    y = layers.RMSNormalization()(y)
    y = layers.Add()([y, attention(y, y)])
    return keras.Model(x, layers.Dense(2, name="head")(y))


def several():
    return transformer(layers.MultiHeadAttention(4, 6, name="attention"))


def grouped():
    return transformer(layers.GroupQueryAttention(6, 6, 3, name="attention"))


@pytest.mark.parametrize("build", [several, grouped])
def test_masked_equals_rewritten(build):
    """With heads gone and the others narrower; in place, too, and from JSON."""
    model = build()
    plan = random_plan(iplt.trace(model, heads=True), seed=2)
    randomize(model)
    again = build()
    again.set_weights(model.get_weights())
    plan = iplt.Plan.from_json(plan.to_json())
    assert check_law(model, plan=plan)[0] < 1e-5
    small = iplt.rewrite(again, plan)
    config = small.get_layer("attention").get_config()
    heads = {config.get("num_heads"), config.get("num_query_heads")} - {None}
    assert heads < {1, 2, 3, 4}
    x = random_inputs(again)[0]
    iplt.shrink(again, plan)
    assert difference(small(x), again(x)) < 1e-5
    assert again.count_params() == small.count_params()


def test_the_head_that_does_least_goes():
    """By the weights of its queries, keys and values; nothing else does where only heads may."""
    model = several()
    attention = model.get_layer("attention")
    for dense in (attention.query_dense, attention.key_dense, attention.value_dense):
        kernel = keras.ops.convert_to_numpy(dense.kernel)
        dense.kernel.assign(np.where(np.arange(4)[None, :, None] == 2, 0.01 * kernel, kernel))
    plan = iplt.plan(model, ratio=0.25, criterion="l2", heads=True, only="*/heads")
    kept = plan.kept(attention.query_dense.kernel)
    assert kept[1].tolist() == [0, 1, 3] and kept[2] is None
    graph = iplt.trace(model, heads=True)
    assert plan.removed == iplt.plan_channels(graph, {"attention/heads": [2]}).removed
    small = iplt.rewrite(model, plan)
    assert small.get_layer("attention").num_heads == 3


def test_heads_stay_unless_asked_for():
    """And the graph of a model that was read without them says so."""
    graph = iplt.trace(several())
    assert not any(p.path.endswith("/heads") for g in graph.groups for p in g.producers)
    with pytest.raises(iplt.PruningError, match="heads: expected a model"):
        iplt.plan(graph, ratio=0.5, heads=True)


@pytest.mark.parametrize("scale", [0.3, None])
def test_attention_as_an_operation(scale):
    """Heads of queries, keys and values get narrower, unless what divides them is not known."""
    x = keras.Input((5, 6))
    y = layers.Dense(8, activation="tanh")(x)
    three = (layers.EinsumDense("btd,dnh->btnh", (None, 2, 6))(y) for _ in range(3))
    z = ops.dot_product_attention(*three, scale=scale)
    z = layers.EinsumDense("btnh,nhd->btd", (None, 7))(z)
    worst, plan, _ = check_law(keras.Model(x, layers.Dense(2)(z)))
    assert worst < 1e-5
    assert sum(int(group.filters.sum()) for group in plan.graph.groups) == 15 + 18 * bool(scale)
