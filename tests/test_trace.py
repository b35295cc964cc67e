"""What `trace` finds: which channels hang together, what is frozen, and why."""

import concurrent.futures

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.graphs import build

import keras_iplt as iplt
from keras_iplt.graph.partition import Partition

pytestmark = pytest.mark.quick


def sizes(graph):
    return [group.size for group in graph.groups]


def reasons(graph):
    return {f.operation: f.reason for f in graph.frozen}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", [8, 12]),
        ("residual", [8, 6]),
        ("sequential_flatten", [6, 10]),
        ("dense_to_image", [6, 5]),
        ("pixel_shuffle", [3]),
        ("channel_shuffle", [3, 1, 2]),
        ("grouped", [6, 4, 3, 2]),
        ("depthwise_multiplier", [5, 6]),
        ("multi_head_attention", [8, 4, 8]),
        ("attention_by_hand", [4, 4, 5]),
        ("group_norm", [4, 6]),
        ("padded_shortcut", [6, 4]),
        ("nested_called_twice", [4, 6]),
        ("subclassed", [8, 8]),
        ("custom_low_rank", [8, 6, 9, 4, 4]),
    ],
)
def test_groups_are_as_fine_as_exactness_allows(name, expected):
    """Group sizes of known graphs."""
    assert sizes(iplt.trace(build(name))) == expected


def test_a_residual_stream_is_one_group_of_all_its_producers():
    """Coupled layers are named, and each channel counts one filter per producer."""
    graph = iplt.trace(build("residual"))
    stream = graph.groups[0]
    assert len(stream.producers) == 3 and (stream.filters == 3).all()
    assert {"conv2d", "conv2d_2", "conv2d_3"} == {p.path for p in stream.producers}


@pytest.mark.parametrize(
    ("name", "operation", "words"),
    [
        ("plain", "head", "output of the model"),
        ("one_channel_gate", "conv2d_2", "broadcast"),
        ("spatial_attention", "conv2d", "max compares"),
        ("attention_on_sigmoid", "dense", "masked channel is not zero"),
        ("layer_norms_of_a_stream", "half", "masked ones not being zero"),
        ("mixer", "dense", "along another axis"),
        ("custom_probed", "conv2d_1", "register_rule"),
        ("activations", "conv2d_4", "softmax"),
    ],
)
def test_what_cannot_go_is_frozen_with_a_reason(name, operation, words):
    """Frozen layers say why, in the object and in the printed table."""
    graph = iplt.trace(build(name))
    found = [f for f in graph.frozen if words in f.reason]
    assert found, graph.frozen
    assert operation in {f.operation for f in graph.frozen} or name == "one_channel_gate"
    assert words in str(graph)


def test_tracing_leaves_the_model_untouched():
    """Weights, symbolic outputs and the layers' own inputs and outputs stay as they were."""
    model = build("custom_blocks")
    before = [ops.convert_to_numpy(w) for w in model.weights]
    outputs = [layer.output for layer in model.layers]
    nodes = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    iplt.trace(model)
    assert all(
        np.array_equal(a, ops.convert_to_numpy(w))
        for a, w in zip(before, model.weights, strict=True)
    )
    assert [layer.output for layer in model.layers] == outputs
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == nodes


def test_tracing_costs_the_same_at_any_image_size():
    """Ids stay collapsed along image axes: no array grows with the image."""

    def largest(size):
        i = keras.Input((size, size, 3))
        x = layers.ZeroPadding2D(2)(layers.Conv2D(8, 3, padding="same")(i))
        x = layers.Concatenate()([x[:, 1:-1], layers.Conv2D(4, 3, padding="same")(x)[:, 1:-1]])
        x = layers.Reshape((-1, 12))(ops.transpose(x, (0, 2, 1, 3)))
        graph = iplt.trace(keras.Model(i, layers.Dense(2)(ops.mean(x, axis=1))))
        values = keras.tree.flatten([c.outputs for c in graph.calls.values()])
        return sizes(graph), max(v.ids.size for v in values)

    assert largest(16) == largest(1024)


def test_a_base_class_rule_is_not_used_for_a_layer_that_computes_otherwise():
    """A subclass of Dense with its own `call` is read by what it does."""

    class Doubled(layers.Dense):
        def call(self, x, training=None):
            return ops.concatenate([ops.matmul(x, self.kernel)] * 2, axis=-1)

        def compute_output_shape(self, shape):
            return (*shape[:-1], 2 * self.units)

    i = keras.Input((5,))
    x = Doubled(6, use_bias=False)(i)
    assert x.shape[-1] == 12
    model = keras.Model(i, layers.Dense(2)(x))
    assert sizes(iplt.trace(model)) == [6]
    assert iplt.prune(model, 0.5).layers[1].units == 3


def test_a_layer_that_trains_differently_is_not_flattened():
    """Stochastic depth stays a layer of the rewritten model and goes on dropping in training."""
    model = build("custom_blocks")
    small = iplt.prune(model, 0.5)
    kinds = [type(layer).__name__ for layer in small.layers]
    assert "DropPath" in kinds and "Block" not in kinds


def test_only_the_nodes_of_this_model_count():
    """Layers used in another model too are read as this model uses them."""
    i = keras.Input((5,))
    hidden = layers.Dense(6, name="hidden")
    x = hidden(i)
    keras.Model(i, x)  # here `hidden` is an output and would be frozen
    model = keras.Model(i, layers.Dense(2)(x))
    keras.Model(i, layers.Softmax()(x))
    assert sizes(iplt.trace(model)) == [6]


def test_quantised_and_lora_layers_are_frozen():
    """Layers with weights beyond what their rule knows are left alone, visibly."""
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8), layers.Dense(8, name="adapted"), layers.Dense(2)]
    )
    model.get_layer("adapted").enable_lora(2)
    assert "LoRA" in reasons(iplt.trace(model))["dense"]


def test_shared_reshape_and_repeated_relu():
    """One layer object used on tensors of different width is made once and fits all."""
    i = keras.Input((4,))
    reshape = layers.Reshape((2, 3))
    a, b = reshape(layers.Dense(6)(i)), reshape(layers.Dense(6)(i))
    model = keras.Model(i, layers.Dense(2)(layers.Flatten()(layers.Concatenate()([a, b]))))
    graph = iplt.trace(model)
    assert sizes(graph) == [3]


def test_a_shared_layer_counts_once():
    """A layer that is called twice creates its filters once."""
    i = keras.Input((4,))
    shared = layers.Dense(6, name="shared")
    x = layers.Add()([shared(layers.Dense(5)(i)), shared(layers.Dense(5)(i))])
    graph = iplt.trace(keras.Model(i, layers.Dense(2)(x)))
    own = next(g for g in graph.groups if g.size == 6)
    assert len(own.producers) == 1 and (own.filters == 1).all()


def test_union_find_joins_whole_arrays():
    """The vectorised union agrees with joining one pair after the other."""
    random = np.random.default_rng(0)
    pairs = random.integers(0, 60, (40, 2))
    partition = Partition()
    partition.fresh(60)
    partition.union(pairs[:, 0], pairs[:, 1])
    naive = list(range(60))
    for a, b in pairs:
        naive = [min(naive[a], naive[b]) if n in (naive[a], naive[b]) else n for n in naive]
    assert partition.find(np.arange(60)).tolist() == naive


class Counting(keras.layers.Layer):
    def build(self, shape):
        self.n = self.add_weight(shape=(), name="n", initializer="zeros", trainable=False)

    def call(self, x, training=False):
        self.n.assign_add(1.0)
        return x


@pytest.mark.any_backend
@pytest.mark.parametrize("inner", [
    lambda: keras.layers.SpectralNormalization(keras.layers.Dense(8)), Counting])  # fmt: skip
def test_reading_carries_out_no_assignment(inner):
    """Layers that assign to their variables when they are called, in training or always."""
    model = keras.Sequential([keras.Input((4,)), inner(), keras.layers.Dense(6), Counting(),
                              keras.layers.Dense(2)])  # fmt: skip
    before = model.get_weights()
    small = iplt.rewrite(model, iplt.plan(model, ratio=0.5))
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert small.count_params() < model.count_params()


def test_threads_may_read_one_model():
    """Nothing that one of them records is lost to another."""
    model = build("custom_low_rank")
    shown = str(iplt.trace(model))
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: str(iplt.trace(model)), range(48)))
    assert found == [shown] * 48


def test_biases_beside_an_axis_of_unknown_length():
    """Where it may turn out as long as that of the bias, Keras might add the bias along it."""
    x = keras.Input((None, 5, 4))
    y = keras.layers.EinsumDense("abcd,ce->abed", (None, 6, 4), bias_axes="e", name="first")(x)
    y = keras.layers.EinsumDense("abed,ef->abfd", (None, 2, 4), name="last")(y)
    reasons = {frozen.operation: frozen.reason for frozen in iplt.trace(keras.Model(x, y)).frozen}
    assert "along another axis" in reasons["first"]


class Holder(keras.Model):
    """Calls the first of some models; what it does with the others nobody can see."""

    def __init__(self, *held):
        super().__init__()
        self.held = list(held)

    def call(self, x):
        return self.held[0](x)


def holding(*kinds):
    """One that was never called, with some models around the layers `a` and `b` of the first."""
    i = keras.Input((4,))
    a = keras.layers.Dense(6, "relu", name="a")(i)
    b = keras.layers.Dense(8, "relu", name="b")
    called = keras.Model(i, keras.layers.Dense(2)(b(a)), name="called")
    x = keras.Input((6,))
    others = {
        "extractor": lambda: keras.Model(i, a, name="other"),
        "head": lambda: keras.Model(i, keras.layers.Dense(3)(a), name="other"),
        "shared": lambda: keras.Model(x, keras.layers.Dense(2)(b(x)), name="other"),
        "apart": lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(6)]),
    }
    return Holder(called, *(others[kind]() for kind in kinds))


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("kind", "frozen"), [("extractor", "a"), ("head", "a"), ("shared", "ab"), ("apart", "")]
)
def test_what_a_held_model_sees_stays(kind, frozen):
    """Whether it puts the channels out, goes on from them, or calls the same layer elsewhere."""
    model = holding(kind)
    if kind == "shared":  # takes something else: nothing tells what the whole model takes
        with pytest.raises(iplt.errors.ModelError, match="not built"):
            iplt.trace(model)
        model(np.zeros((1, 4)))
    found = reasons(iplt.trace(model))
    assert set(found) == {f"called/{name}" for name in frozen} | {found_head(found)}
    assert all("model 'other'" in found[f"called/{name}"] for name in frozen)


def found_head(found):
    return next(name for name, reason in found.items() if "output" in reason)
