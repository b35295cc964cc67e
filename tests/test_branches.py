"""Residual branches go whole: found, planned, masked, rewritten; refused where they cannot."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from pytest import approx
from support.graphs import Block
from support.law import difference, random_inputs, random_plan, randomize

import keras_iplt as iplt
from keras_iplt import _keras as private
from keras_iplt.graph.costs import flops, parameters
from keras_iplt.graph.walk import walk
from keras_iplt.planning.plan import bound


def conv(x, filters, size=3, strides=1, **options):
    x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False, **options)(x)
    return layers.BatchNormalization()(x)


def head(inputs, x):
    pool = layers.GlobalAveragePooling2D() if len(x.shape) > 3 else layers.GlobalMaxPooling1D()
    return keras.Model(inputs, layers.Dense(3)(pool(x)))


def resnet():
    """A block with the stream itself as its shortcut, and one with a projection of it."""
    image = keras.Input((8, 8, 3))
    x = layers.ReLU()(conv(image, 6))
    for strides, filters, name in ((1, 6, "first"), (2, 8, "second")):
        y = conv(layers.ReLU()(conv(x, filters, strides=strides)), filters)
        x = conv(x, filters, 1, strides) if strides > 1 else x
        x = layers.ReLU()(layers.Add(name=name)([x, y]))
    return head(image, x)


def pre_activation():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3)(image)
    for name in ("first", "second"):
        y = layers.Conv2D(4, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(x)))
        y = layers.Conv2D(6, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(y)))
        x = layers.Add(name=name)([y, x])
    return head(image, x)


def mobilenet_v2():
    image = keras.Input((8, 8, 3))
    x = conv(image, 4)
    for name in ("first", "second"):
        y = layers.ReLU(6.0)(conv(x, 8, 1))
        y = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(y))
        x = layers.Add(name=name)([x, conv(layers.ReLU(6.0)(y), 4, 1)])
    return head(image, x)


def transformer():
    tokens = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 8)(tokens)
    for _ in range(2):
        y = layers.RMSNormalization()(x)
        x = x + layers.MultiHeadAttention(2, 4)(y, y)
        y = layers.Dense(12, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.LayerNormalization()(layers.Dense(8)(y))
    return head(tokens, x)


def nested():
    """A model that is called twice, whose output is an addition, in a branch and beside it."""
    image = keras.Input((8, 8, 4))
    twice = keras.Model(image, layers.Add(name="inner")([image, conv(conv(image, 5), 4)]))
    x = keras.Input((8, 8, 4))
    y = twice(x)
    return head(x, layers.Add(name="outer")([y, conv(twice(y), 4)]))


def custom():
    image = keras.Input((8, 8, 3))
    return head(image, Block(4)(Block(4)(conv(image, 4))))


class Decoder(layers.Layer):
    """A block with a variable of its own: its code stays, whatever goes."""

    def __init__(self, width, **options):
        super().__init__(**options)
        self.width, self.up = width, layers.Dense(width, activation="gelu")

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], initializer="ones", name="scale")
        self.mix, self.down = layers.Dense(shape[-1]), layers.Dense(shape[-1])
        for layer, width in ((self.mix, shape[-1]), (self.up, shape[-1]), (self.down, self.width)):
            layer.build((*shape[:-1], width))

    def call(self, x, aside=None):
        x = x + ops.max(self.mix(x * self.scale), axis=1, keepdims=True)
        return x + self.down(self.up(x))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def decoders():
    tokens = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 8)(tokens)
    return head(tokens, Decoder(6, name="second")(Decoder(12, name="first")(x, None)))


MODELS = {
    f.__name__: f
    for f in (resnet, pre_activation, mobilenet_v2, transformer, nested, custom, decoders)
}


def packed(values):
    return values[0] if len(values) == 1 else values


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.any_backend] * (n == "nested")) for n in MODELS]
)
def test_masked_equals_rewritten(name):
    """For one branch and all of them, together with channels; the model is untouched."""
    model = MODELS[name]()
    randomize(model)
    graph, before = iplt.trace(model), model.get_weights()
    x = packed(random_inputs(model))
    whole = model(x, training=False)
    nodes = [len(layer._inbound_nodes) for layer in private.all_layers(model)]
    count = len(graph.branches)
    assert count > 1
    for seed, chosen in enumerate([[count - 1], range(count)]):
        plan = random_plan(iplt.trace(model, without=chosen), seed)
        plan = bound(iplt.Plan.from_json(plan.to_json()), model)
        small = iplt.rewrite(model, plan)
        assert [len(layer._inbound_nodes) for layer in private.all_layers(model)] == nodes
        assert difference(model(x, training=False), whole) == 0
        assert small.count_params() == parameters(plan.graph, plan.gone)
        assert plan.ppr == approx(1 - small.count_params() / model.count_params())
        iplt.mask(model, plan)
        y = model(x, training=False)
        assert difference(y, whole) > 1e-3
        assert difference(y, small(x, training=False)) < 1e-5
        model.set_weights(before)


def without(model, branch, x):
    """What a model puts out when what a branch adds is multiplied by zero."""

    def apply(node, args, kwargs):
        several = keras.tree.flatten((args, kwargs))
        if node.operation is branch.call.operation:
            (place,) = branch.places
            several[place] = 0 * several[place]
        args, kwargs = keras.tree.pack_sequence_as((args, kwargs), several)
        return node.operation(*args, **kwargs)

    return walk(private.function_of(model), [ops.convert_to_tensor(x)], apply)


@pytest.mark.parametrize("name", ["resnet", "transformer"])
def test_what_goes_is_what_it_added(name):
    """A model without a branch is one in which the addition gets zeros, and costs what it says."""
    model = MODELS[name]()
    randomize(model)
    (x,) = random_inputs(model)
    graph = iplt.trace(model)
    for branch in graph.branches:
        plan = iplt.plan(model, branches=branch)
        small = iplt.rewrite(model, plan)
        assert difference(without(model, branch, x), small(x, training=False)) < 1e-6
        assert small.count_params() == model.count_params() - branch.parameters
        assert flops(plan.graph) == flops(graph) - branch.flops > 0


def test_of_two_that_are_added_the_deeper_one_is_the_branch():
    """A projection is a shortcut; of two that are alike neither is; inner branches are found."""
    assert [branch.name for branch in iplt.trace(resnet()).branches] == ["first", "second"]
    second = iplt.trace(resnet()).branches[1]
    assert second.parameters == 9 * 8 * (6 + 8) + 2 * 4 * 8
    assert [name.rstrip("_0123456789") for name in second.layers] == [
        "conv2d", "batch_normalization", "re_lu", "conv2d", "batch_normalization"]  # fmt: skip
    image = keras.Input((8, 8, 3))
    alike = head(image, layers.Add()([conv(image, 4), conv(image, 4)]))
    assert not iplt.trace(alike).branches
    names = [branch.name.split("/")[-1] for branch in iplt.trace(nested()).branches]
    assert names == ["inner", "outer"]
    inner, outer = iplt.trace(nested()).branches
    assert inner.parameters > 0 and outer.parameters == 9 * 16 + 16  # it calls what is used before


def test_a_layer_whose_code_stays_goes_as_a_whole():
    """If its output is its input and what is added to it; by name, as any layer."""
    model = decoders()
    first, second = iplt.trace(model).branches
    assert [(one.name, len(one.inside)) for one in (first, second)] == [("first", 2), ("second", 2)]
    assert first.parameters == model.get_layer("first").count_params()
    small = iplt.prune(model, branches="first")
    assert [layer.name for layer in small.layers[2:3]] == ["second"]
    (x,) = random_inputs(model)
    scores, y = iplt.branch_scores(model, x), model(x)
    share = float(ops.sum((small(x) - y) ** 2) / ops.sum(y**2))
    assert {branch.name: score for branch, score in scores.items()}["first"] == approx(share, 1e-4)

    class Scaled(Decoder):
        def call(self, x):
            return 2 * x + self.down(self.up(x))

    tokens = keras.Input((5,), dtype="int32")
    scaled = head(tokens, Scaled(6)(layers.Embedding(9, 8)(tokens)))
    assert not iplt.trace(scaled).branches


def test_a_tensor_that_something_else_needs_is_no_branch():
    image = keras.Input((8, 8, 4))
    y = layers.Conv2D(4, 3, padding="same")(image)
    x = layers.Concatenate()([layers.Add()([image, y]), y])
    assert not iplt.trace(head(image, x)).branches


def test_a_plan_takes_branches_and_then_channels():
    """A ratio, or a budget, counts what went with the branches."""
    model = resnet()
    whole = iplt.profile(model).macs
    only = iplt.plan(model, branches="second")
    assert not only.gone.any() and only.branches == (1,) and "second" in str(only)
    plan = iplt.plan(model, 0.75, of="macs", branches=["first"])
    small = iplt.rewrite(model, plan)
    assert plan.gone.any() and iplt.profile(small).macs == approx(0.25 * whole, rel=0.2)
    within = iplt.prune(model, macs=0.3 * whole, branches=[0, 1])
    assert iplt.profile(within).macs <= 0.3 * whole
    gone = iplt.trace(model).branches[0].variables[0]
    assert [len(k) for k in plan.kept(gone)] == [0] * len(gone.shape)
    more = iplt.plan(model, 0.25, branches=["first", "second"])
    assert more.fpr == only.fpr + iplt.plan(model, branches=0).fpr > 0.25


def test_scores_are_what_leaving_out_costs():
    """With labels, the loss; without, the outputs; without data, the scales of the last norm."""
    model = resnet()
    randomize(model)
    x, y = random_inputs(model, batch=8)[0], np.ones((8, 3), "float32")
    model.compile("sgd", "mse")
    graph = iplt.trace(model)
    loss = keras.losses.MeanSquaredError()
    whole = model(x, training=False)
    costs = iplt.branch_scores(graph, (x, y), verbose=0)
    changes = iplt.branch_scores(graph, x, verbose=0)
    assert [*costs.values()] == sorted(costs.values())
    for branch in graph.branches:
        other = iplt.prune(model, branches=branch)(x, training=False)
        assert costs[branch] == approx(float(loss(y, other) - loss(y, whole)), abs=1e-5)
        share = float(ops.sum((other - whole) ** 2) / ops.sum(whole**2))
        assert changes[branch] == approx(share, rel=1e-4)
    (second,) = iplt.branch_scores(graph, x, without="first", verbose=0)
    assert second.name == "second"
    graph.branches[1].variables[-4].assign([1e-3] * 8)
    assert next(iter(iplt.branch_scores(graph))) is graph.branches[1]


def test_what_cannot_be_done_is_refused_and_nothing_has_changed():
    model = resnet()
    model.compile("sgd", "mse")
    plan, before = iplt.plan(model, branches=0), model.get_weights()
    with pytest.raises(iplt.PruningError, match=r"in place. Use keras_iplt.rewrite"):
        iplt.shrink(model, plan)
    with pytest.raises(iplt.PruningError, match=r"Whole branches go by keras_iplt.prune"):
        iplt.IPLTCallback(branches=0)
    with pytest.raises(iplt.PruningError, match=r"no residual branch 'frist'.*'first'"):
        iplt.plan(model, branches="frist")
    with pytest.raises(iplt.PruningError, match="Name all branches at once"):
        iplt.plan(iplt.trace(model, without=0), branches=1)
    with pytest.raises(iplt.PruningError, match="another architecture"):
        iplt.rewrite(pre_activation(), plan)
    image = keras.Input((4,))
    sigmoid = layers.Dense(4, activation="sigmoid")(image)
    gated = keras.Model(image, layers.Dense(2)(layers.Add()([image, sigmoid])))
    kernel = gated.layers[1].kernel
    value = ops.convert_to_numpy(kernel)
    with pytest.raises(iplt.PruningError, match="cannot be masked"):
        iplt.mask(gated, iplt.plan(gated, branches=0))
    assert (ops.convert_to_numpy(kernel) == value).all()
    assert iplt.prune(gated, branches=0).count_params() == 10
    assert all(map(np.array_equal, model.get_weights(), before))


@pytest.mark.slow
def test_a_model_without_branches_trains_and_comes_back_from_a_file(tmp_path):
    model = resnet()
    model.compile("adam", "mse")
    small = iplt.prune(model, 0.6, branches=[1])
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    small.fit(x, np.zeros((8, 3)), verbose=0)
    small.save(tmp_path / "small.keras")
    again = keras.models.load_model(tmp_path / "small.keras")
    assert difference(again(x), small(x)) == 0
    data = (x, np.zeros((8, 3), "float32"))
    assert iplt.plan(model, 0.6, criterion="taylor", data=data, branches=1).gone.any()
