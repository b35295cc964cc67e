"""Costs: the papers' figures to the printed digit, and each kind of layer against a formula."""

import json
import math

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops
from support.graphs import GRAPHS, build

import keras_iplt as iplt
from keras_iplt.analysis import Comparison, compare, profile

pytestmark = pytest.mark.quick


def model_of(shape, *of, **options):
    """The layers (or functions) in a row."""
    inputs = x = keras.Input(shape, **options)
    for layer in of:
        x = layer(x)
    return keras.Model(inputs, x)


# -- the networks of the papers --------------------------------------------------------------------

VGG = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
VGG_A = [64, 64, 128, 128, 256, 256, 256, 192, 192, 192, 128, 128, 128]
VGG_B = [64, 64, 128, 112, 160, 160, 160, 384, 384, 384, 384, 384, 384]
MOBILE = [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
MOBILE_A = [64, 128, 128, 256, 256, 384, 384, 384, 384, 256, 256, 256, 128]
MOBILE_B = [64, 128, 128, 224, 224, 288, 288, 288, 288, 288, 272, 304, 320]


def vgg16(filters=VGG, size=32, classes=10, batch_norm=False, hidden=(512,)):
    """Hubens's form by default; IPLT's has batch norm and one dense layer."""
    image = x = keras.Input((size, size, 3))
    for i, count in enumerate(filters):
        x = L.Conv2D(count, 3, padding="same")(x)
        x = L.ReLU()(L.BatchNormalization()(x) if batch_norm else x)
        if i in (1, 3, 6, 9, 12):
            x = L.MaxPooling2D()(x)
    x = L.GlobalAveragePooling2D()(x)
    for units in hidden:
        x = L.Dense(units, activation="relu")(x)
    return keras.Model(image, L.Dense(classes, activation="softmax")(x))


def mobilenet(first=32, filters=MOBILE, size=32, classes=10):
    """MobileNet with Hubens's head."""

    def activated(x):
        return L.ReLU(6.0)(L.BatchNormalization()(x))

    image = keras.Input((size, size, 3))
    x = activated(L.Conv2D(first, 3, strides=2, padding="same", use_bias=False)(image))
    for i, count in enumerate(filters):
        strides = 2 if i in (1, 3, 5, 11) else 1
        x = L.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
        x = activated(L.Conv2D(count, 1, use_bias=False)(activated(x)))
    x = L.Dense(512, activation="relu")(L.GlobalAveragePooling2D()(x))
    return keras.Model(image, L.Dense(classes, activation="softmax")(x))


def cifar_resnet(depth):
    """ResNet for CIFAR-10 with shortcuts that pad channels with zeros."""

    def conv(x, filters, strides=1):
        x = L.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
        return L.BatchNormalization()(x)

    image = keras.Input((32, 32, 3))
    x = L.ReLU()(conv(image, 16))
    for filters in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            strides = filters // x.shape[-1]
            y = conv(L.ReLU()(conv(x, filters, strides)), filters)
            if strides > 1:
                x = ops.pad(x[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [0, filters // 2]])
            x = L.ReLU()(L.Add()([x, y]))
    return keras.Model(image, L.Dense(10)(L.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize(
    ("build_network", "options", "params", "mega_flops"),
    [
        (vgg16, {}, 14_982_474, "627.4816"),
        (vgg16, {"filters": VGG_A}, 3_429_642, None),
        (vgg16, {"filters": VGG_B}, 8_257_306, None),
        (vgg16, {"size": 224, "classes": 101}, None, "30720.985"),
        (mobilenet, {}, 3_758_794, "24.2320"),
        (mobilenet, {"first": 21, "filters": MOBILE_A}, 1_052_966, "13.8302"),
        (mobilenet, {"first": 32, "filters": MOBILE_B}, 979_562, "12.2559"),
        (mobilenet, {"size": 224, "classes": 101}, None, "1136.586"),
    ],
)
def test_figures_of_hubens_to_the_printed_digit(build_network, options, params, mega_flops):
    model = build_network(**options)
    found = profile(model)
    assert found.params == model.count_params()
    assert params in (None, found.params)
    if mega_flops:
        digits = len(mega_flops.partition(".")[2])
        assert f"{found.flops / 1e6:.{digits}f}" == mega_flops


def test_macs_that_the_iplt_paper_calls_flops():
    vgg = profile(vgg16(batch_norm=True, hidden=()))
    assert vgg.params == 14_736_714
    assert f"{vgg.macs:.2e}" == "3.13e+08"
    assert f"{profile(cifar_resnet(110)).macs:.2e}" == "2.53e+08"


def test_size_is_that_of_the_weights_in_their_own_dtypes():
    small = model_of((4,), L.Dense(3))
    assert profile(small).size_bytes == 15 * 4
    half = model_of((4,), L.Dense(3, dtype="float16"), L.Dense(2, dtype="bfloat16"))
    assert profile(half).size_bytes == (15 + 8) * 2
    mixed = model_of((4,), L.Dense(3, dtype="mixed_float16"))
    assert profile(mixed).size_bytes == 15 * 4


def test_frozen_layers_have_no_trainable_parameters():
    model = model_of((4,), L.Dense(3, trainable=False), L.BatchNormalization(), L.Dense(2))
    found = profile(model)
    assert (found.params, found.trainable_params) == (15 + 12 + 8, 6 + 8)


# -- one layer, one formula ------------------------------------------------------------------------

IMAGE, STEPS = (8, 9, 4), (5, 8)

LAYERS = {
    # name: (input shape, layer, multiply-adds, bias additions)
    "conv": (IMAGE, L.Conv2D(6, 3), 6 * 7 * 9 * 4 * 6, 6 * 7 * 6),
    "conv_same_in_full": (IMAGE, L.Conv2D(6, 3, padding="same"), 72 * 9 * 4 * 6, 72 * 6),
    "conv_strided": (IMAGE, L.Conv2D(6, 3, 2, padding="same"), 4 * 5 * 9 * 4 * 6, 20 * 6),
    "conv_dilated": (IMAGE, L.Conv2D(6, 3, dilation_rate=2), 4 * 5 * 9 * 4 * 6, 20 * 6),
    "conv_groups": (IMAGE, L.Conv2D(6, 3, groups=2), 42 * 9 * 2 * 6, 42 * 6),
    "conv_as_depthwise": (IMAGE, L.Conv2D(8, 3, groups=4), 42 * 9 * 8, 42 * 8),
    "conv_of_one_channel": ((8, 9, 1), L.Conv2D(6, 3), 42 * 9 * 6, 42 * 6),
    "conv_1d": ((9, 4), L.Conv1D(6, 3, padding="causal"), 9 * 3 * 4 * 6, 9 * 6),
    "conv_3d": ((5, 6, 7, 4), L.Conv3D(6, 3), 3 * 4 * 5 * 27 * 4 * 6, 60 * 6),
    "conv_first": ((4, 8, 9), L.Conv2D(6, 3, data_format="channels_first"), 42 * 216, 42 * 6),
    "transposed": ((5, 6, 4), L.Conv2DTranspose(7, 3, 2), 30 * 9 * 4 * 7, 11 * 13 * 7),
    "transposed_1d": ((5, 4), L.Conv1DTranspose(7, 4, 2), 5 * 4 * 4 * 7, 12 * 7),
    "depthwise": (IMAGE, L.DepthwiseConv2D(3, depth_multiplier=3), 42 * 9 * 12, 42 * 12),
    "depthwise_1d": ((9, 4), L.DepthwiseConv1D(3, use_bias=False), 7 * 3 * 4, 0),
    "separable": (
        IMAGE,
        L.SeparableConv2D(6, 3, depth_multiplier=2),
        42 * 9 * 8 + 42 * 8 * 6,
        42 * 6,
    ),
    "separable_strided": (
        IMAGE,
        L.SeparableConv2D(6, 3, strides=2, padding="same"),
        20 * 9 * 4 + 20 * 4 * 6,
        20 * 6,
    ),
    "dense": ((8,), L.Dense(5), 40, 5),
    "dense_without_bias": ((8,), L.Dense(5, use_bias=False), 40, 0),
    "dense_everywhere": (IMAGE, L.Dense(5), 72 * 4 * 5, 72 * 5),
    "simple_rnn": (STEPS, L.SimpleRNN(3), 5 * (8 * 3 + 3 * 3), 5 * 3),
    "lstm": (STEPS, L.LSTM(3), 5 * 4 * (8 * 3 + 3 * 3), 5 * 4 * 3),
    "lstm_sequences": (STEPS, L.LSTM(3, return_sequences=True), 5 * 4 * 33, 5 * 4 * 3),
    "gru_two_biases": (STEPS, L.GRU(3), 5 * 3 * 33, 5 * 3 * 3 * 2),
    "gru_one_bias": (STEPS, L.GRU(3, reset_after=False), 5 * 3 * 33, 5 * 3 * 3),
    "bidirectional": (STEPS, L.Bidirectional(L.LSTM(3)), 2 * 5 * 4 * 33, 2 * 5 * 4 * 3),
    "conv_lstm": (
        (3, 8, 9, 4),
        L.ConvLSTM2D(5, 3, use_bias=False),
        3 * 42 * 9 * 4 * 5 * (4 + 5),
        0,
    ),
    "einsum": (
        STEPS,
        L.EinsumDense("...x,xy->...y", output_shape=6, bias_axes="y"),
        5 * 8 * 6,
        5 * 6,
    ),
    "einsum_over_steps": (
        STEPS,
        L.EinsumDense("abc,bd->adc", output_shape=(7, 8), bias_axes="d"),
        5 * 7 * 8,
        7 * 8,
    ),
    "time_distributed": (
        (5, 8, 9, 4),
        L.TimeDistributed(L.Conv2D(6, 3)),
        5 * 42 * 9 * 4 * 6,
        5 * 42 * 6,
    ),
    "embedding": ((5,), L.Embedding(10, 4), 0, 0),
    "batch_norm": (IMAGE, L.BatchNormalization(), 0, 0),
    "pooling": (IMAGE, L.AveragePooling2D(2), 0, 0),
    "softmax": ((8,), L.Softmax(), 0, 0),
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_kind_of_layer_against_its_formula(name):
    shape, layer, macs, additions = LAYERS[name]
    model = model_of(shape, type(layer).from_config(layer.get_config()))
    found = profile(model)
    assert (found.macs, found.flops) == (macs, 2 * (macs + additions))
    assert sum(row.params for row in found.layers) == found.params == model.count_params()


@pytest.mark.parametrize(
    ("layer", "additions"),
    [
        (L.MultiHeadAttention(2, 3, value_dim=4, use_bias=False), 0),
        (L.MultiHeadAttention(2, 3, value_dim=4), 2 * (5 * 3 + 7 * 3 + 7 * 4) + 5 * 8),
    ],
)
def test_attention_counts_projections_scores_and_values(layer, additions):
    asked, given = keras.Input((5, 8)), keras.Input((7, 6))
    model = keras.Model([asked, given], layer(asked, given))
    projections = 2 * (5 * 8 * 3 + 7 * 6 * 3 + 7 * 6 * 4 + 5 * 4 * 8)
    macs = projections + 2 * 5 * 7 * (3 + 4)
    assert (profile(model).macs, profile(model).flops) == (macs, 2 * (macs + additions))


@pytest.mark.parametrize(
    ("shape", "function", "macs"),
    [
        ((5, 8), lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))), 5 * 5 * 8),
        ((5, 8), lambda x: L.Dot((2, 2))([x, x]), 5 * 5 * 8),
        ((5, 8), lambda x: ops.einsum("abc,adc->abd", x, x), 5 * 5 * 8),
        pytest.param((5, 8), lambda x: L.Attention()([x, x]), 2 * 5 * 5 * 8),
        pytest.param((5, 8), lambda x: ops.matmul(x, np.ones((8, 3))), 5 * 8 * 3),
        pytest.param((8, 9, 4), lambda x: ops.conv(x, np.ones((3, 3, 4, 6))), 42 * 216),
    ],
)
def test_products_outside_of_layers_count(shape, function, macs):
    found = profile(model_of(shape, function))
    assert (found.macs, found.flops) == (macs, 2 * macs)
    assert any(row.macs == macs for row in found.layers)


@pytest.mark.parametrize(
    "layer",
    [
        L.Dense(3),
        L.LSTM(3),
        L.MultiHeadAttention(2, 3, use_bias=False),
        pytest.param(L.EinsumDense("abc,cd->abd", output_shape=(5, 6))),
    ],
)
def test_costs_are_per_example_also_where_the_batch_is_fixed(layer):
    def costs(**options):
        fresh = type(layer).from_config(layer.get_config())
        call = (lambda x: fresh(x, x)) if isinstance(fresh, L.MultiHeadAttention) else fresh
        found = profile(model_of(None, call, **options))
        return found.macs, found.flops

    assert costs(batch_shape=(4, 5, 8)) == costs(batch_shape=(None, 5, 8))


def test_a_batch_of_one_can_be_read():
    model = model_of(None, lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))),
                     batch_shape=(1, 5, 8))  # fmt: skip
    assert profile(model).macs == 5 * 5 * 8


def test_a_shared_layer_works_twice_and_is_stored_once():
    a, b = keras.Input((8, 9, 4)), keras.Input((8, 9, 4))
    conv = L.Conv2D(6, 3, name="conv")
    model = keras.Model([a, b], L.Add()([conv(a), conv(b)]))
    (row,) = [row for row in profile(model).layers if row.name == "conv"]
    assert (row.macs, row.params, row.filters) == (2 * 42 * 216, 9 * 4 * 6 + 6, 6)
    assert profile(model).params == row.params


def test_a_nested_model_called_twice_works_twice_at_both_sizes():
    image = keras.Input((None, None, 4))
    inner = keras.Model(image, L.Conv2D(6, 3, name="conv")(image), name="inner")
    a, b = keras.Input((8, 9, 4)), keras.Input((5, 5, 4))
    pool = L.GlobalAveragePooling2D()
    model = keras.Model([a, b], L.Add()([pool(inner(a)), pool(inner(b))]))
    found = profile(model)
    (row,) = [row for row in found.layers if row.name == "inner/conv"]
    assert row.macs == found.macs == (42 + 9) * 216
    assert row.params == found.params == model.count_params()


def test_custom_layers_stand_for_the_operations_in_their_call():
    class Mixed(L.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(4, 6), name="kernel")
            self.dense = L.Dense(4, name="dense")
            self.dense.build(shape)

        def call(self, x):
            return ops.matmul(self.dense(x), self.kernel)

    found = profile(model_of((3,), Mixed(name="mixed"), L.Dense(2, name="head")))
    costs = {row.name: (row.params, row.macs) for row in found.layers}
    assert costs == {"mixed/dense": (16, 12), "mixed": (24, 24), "head": (14, 12)}


def test_what_nobody_can_count_is_not_zero():
    class NumbersOnly(L.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 6), name="kernel")

        def call(self, x):
            if isinstance(x, keras.KerasTensor):
                raise TypeError("numbers only")
            return ops.matmul(x, self.kernel)

        def compute_output_shape(self, shape):
            return (*shape[:-1], 6)

    found = profile(model_of((4,), NumbersOnly(name="odd"), L.Dense(3)))
    assert found.macs is None and found.flops is None
    assert [row.macs for row in found.layers] == [None, 18]
    assert found.params == 24 + 21
    assert str(found).splitlines()[-1] == (
        "FLOPs unknown: odd (NumbersOnly) cannot be counted; all other layers take 42"
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_rows_add_up_to_the_whole(name):
    model = build(name)
    found = profile(model)
    assert sum(row.params for row in found.layers) == found.params == model.count_params()
    assert len({row.name for row in found.layers}) == len(found.layers)
    if found.flops is not None:
        assert sum(row.macs for row in found.layers) == found.macs
        assert sum(row.flops for row in found.layers) == found.flops >= 2 * found.macs


# -- sizes that are not known ----------------------------------------------------------------------


def sizeless():
    image = keras.Input((None, None, 3), name="image")
    x = L.SeparableConv2D(6, 3, padding="same", name="conv")(image)
    x = L.UpSampling2D()(L.Conv2DTranspose(6, 2, 2)(x))
    return keras.Model(image, L.Dense(10, name="head")(L.GlobalMaxPooling2D()(x)))


def test_unknown_sizes_give_no_number_and_say_what_to_do():
    found = profile(sizeless())
    assert found.macs is None and found.flops is None
    assert found.params == sizeless().count_params()
    assert found.layers[-1].macs == 60
    assert "unknown: give input_shape" in str(found)
    assert "unknown" in str(compare(sizeless(), sizeless()))
    assert compare(sizeless(), sizeless()).pruned_flops is None


@pytest.mark.parametrize(
    "shape", [(8, 9, 3), [8, 9, 3], (None, 8, 9, 3), (4, 8, 9, 3), [(8, 9, 3)],
              {"image": (8, 9, 3)}, tuple(np.array([8, 9, 3]))]
)  # fmt: skip
def test_input_shape_is_what_is_counted_at(shape):
    found = profile(sizeless(), input_shape=shape)
    assert found.macs == 72 * 9 * 3 + 72 * 3 * 6 + 72 * 4 * 6 * 6 + 60
    assert found.input_shape == ((None, 8, 9, 3),)
    assert found.layers[0].output_shape == (None, 8, 9, 6)
    assert "unknown" not in str(found)


def test_models_of_known_size_can_be_counted_at_another():
    small, large = mobilenet(size=32, classes=101), mobilenet(size=224, classes=101)
    assert profile(small, (224, 224, 3)).flops == profile(large).flops
    assert profile(small, (32, 32, 3)) == profile(small)


def test_nested_models_of_known_size_can_be_counted_at_another():
    nested = model_of((32, 32, 3), keras.Sequential([L.Rescaling(1.0), vgg16(), L.Dense(3)]))
    assert profile(nested, (64, 64, 3)).macs == profile(vgg16(size=64)).macs + 30


def test_wrapped_layers_are_part_of_their_wrapper():
    model = model_of((5, 8), L.TimeDistributed(L.Dense(4), name="each"), L.LSTM(3, name="rnn"))
    rows = {row.name: (row.type, row.output_shape, row.macs) for row in profile(model).layers}
    assert rows["each"] == ("TimeDistributed", (None, 5, 4), 5 * 8 * 4)
    assert set(rows) == {"each", "rnn"}


def test_several_inputs_take_a_list_or_a_dict():
    def two(structure=list):
        inputs = {name: keras.Input((None, 4), name=name) for name in ("right", "left")}
        summed = [L.GlobalMaxPooling1D()(L.Conv1D(6, 3)(x)) for x in inputs.values()]
        inputs = inputs if structure is dict else list(inputs.values())
        return keras.Model(inputs, L.Add()(summed))

    macs = (7 + 3) * 3 * 4 * 6
    assert profile(two(), [(9, 4), (5, 4)]).macs == macs
    assert profile(two(), [(None, 9, 4), [5, 4]]).macs == macs
    for structure in (list, dict):
        found = profile(two(structure), {"right": (9, 4), "left": (5, 4)})
        assert found.macs == macs
        assert {x.output_shape for x in found.layers if x.filters} == {(None, 7, 6), (None, 3, 6)}
    for wrong in ([(9, 4)], (9, 4), {"right": (9, 4)}, {"b": (9, 4), "left": (5, 4)}):
        with pytest.raises(
            iplt.errors.OptionError, match=r"expected positive whole numbers.*left.*right"
        ):
            profile(two(dict), wrong)


@pytest.mark.parametrize(
    "wrong", [224, "224", (224, 224), (0, 8, 3), (8, -8, 3), (8, None, 3), (8.0, 8, 3),
              (True, 8, 3), (1, 2, 8, 8, 3), {"picture": (8, 8, 3)}, [(8, 8, 3), (8, 8, 3)], (), []]
)  # fmt: skip
def test_wrong_shapes_are_refused_with_what_was_received(wrong):
    with pytest.raises(iplt.errors.OptionError, match=r"input_shape: expected .* received: "):
        profile(sizeless(), input_shape=wrong)


def test_a_size_that_the_model_cannot_take_is_refused():
    with pytest.raises(
        iplt.errors.OptionError, match=r"does not take input_shape=\(None, 9, 9, 3\)"
    ):
        profile(model_of((8, 8, 3), L.Flatten(), L.Dense(3)), (9, 9, 3))
    with pytest.raises(iplt.errors.OptionError, match="does not take"):
        profile(model_of((8, 8, 3), L.Reshape((64, 3)), L.Dense(3)), (9, 9, 3))
    with pytest.raises(iplt.errors.OptionError, match="does not take"):
        profile(sizeless(), (8, 8, 4))


# -- what profiles are, and what they refuse -------------------------------------------------------


def test_a_profile_of_a_graph_is_that_of_its_model():
    model = vgg16()
    assert profile(iplt.trace(model)) == profile(model)


def test_profiles_print_as_a_table_and_go_through_json():
    model = model_of((8, 8, 3), L.Conv2D(16, 3, name="conv"), L.Flatten(), L.Dense(2, name="out"))
    found = profile(model)
    first, row, *_, total, note = str(found).splitlines()
    assert first.split() == ["layer", "type", "output", "shape", "params", "MACs", "FLOPs"]
    assert row.split()[-3:] == ["448", "15,552", "32,256"]
    assert total.split()[0] == "total" and len(total) == len(row) == len(first)
    assert "1,602 trainable parameters" in note
    content = found.to_dict()
    assert json.loads(json.dumps(content)) == content
    assert content["layers"][0]["output_shape"] == [None, 6, 6, 16]
    assert (content["layers"][0]["filters"], content["layers"][0]["prunable"]) == (16, 16)
    assert (content["layers"][2]["filters"], content["layers"][2]["prunable"]) == (2, 0)


def test_models_that_cannot_be_read_are_refused():
    class Opaque(keras.Model):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(3, 3))

        def call(self, x):
            return ops.matmul(x, self.kernel)

    opaque = Opaque()
    opaque.build((None, 3))
    with pytest.raises(iplt.errors.ModelError, match="cannot be read"):
        profile(opaque)
    with pytest.raises(iplt.errors.ModelError, match="received: 'model'"):
        profile("model")


# -- comparisons -----------------------------------------------------------------------------------


def test_the_columns_of_the_paper_follow_from_filter_counts():
    found = compare(vgg16(), vgg16(VGG_A), names=("VGG16", "Network-A"))
    filters = sum(VGG) + 512
    assert isinstance(found, Comparison)
    assert found.fpr == pytest.approx(1 - (sum(VGG_A) + 512) / filters)
    assert found.ppr == pytest.approx(1 - 3_429_642 / 14_982_474)
    assert found.pruned_flops == 1 - found.after.flops / found.before.flops
    text = str(found)
    assert all(word in text for word in ("FPR", "PPR", "VGG16", "Network-A", "3,429,642"))
    assert f"{found.before.size_bytes / 2**20:.2f}" in text
    assert "512 -> 192" in text


def test_depthwise_filters_and_outputs_do_not_count_in_fpr():
    found = compare(mobilenet(), mobilenet(21, MOBILE_A))
    lost = 32 - 21 + sum(MOBILE) - sum(MOBILE_A)
    assert found.fpr == pytest.approx(lost / (32 + sum(MOBILE) + 512))


@pytest.mark.parametrize("name", GRAPHS)
def test_a_rewritten_graph_is_recognised_and_agrees_with_the_plan(name):
    model = build(name)
    try:
        plan = iplt.plan(model, ratio=0.3)
    except iplt.errors.NothingToPruneError:
        pytest.skip("nothing to prune")
    small = iplt.rewrite(model, plan)
    found = compare(model, small)
    assert all(pair.after is not None for pair in found.layers)
    assert found.fpr == pytest.approx(plan.fpr)
    assert found.ppr == 1 - small.count_params() / model.count_params()


def test_layers_are_matched_by_name_else_by_position():
    def network(units, prefix="dense", extra=()):
        names = (f"{prefix}_{i}" for i in range(9))
        return model_of((4,), *(L.Dense(n, name=next(names)) for n in (*units, *extra, 2)))

    found = compare(network((8, 6)), network((4, 6), prefix="other"))
    assert [(x.before.filters, x.after.filters) for x in found.layers] == [(8, 4), (6, 6), (2, 2)]
    assert found.fpr == 4 / 14


def test_a_layer_that_is_missing_counts_as_gone():
    def network(*layers):
        return model_of((4,), *layers, L.Dense(2, name="head"))

    first, second = (lambda: L.Dense(8, name="a")), (lambda: L.Dense(6, name="b"))
    found = compare(network(first(), second()), network(first()))
    assert found.fpr == 6 / 14
    assert found.layers[1].after is None and "6 -> 0" in str(found)


def test_comparisons_go_through_json():
    content = compare(vgg16(), vgg16(VGG_B)).to_dict()
    assert json.loads(json.dumps(content)) == content
    assert {"fpr", "ppr", "pruned_flops", "before", "after", "layers", "names"} == set(content)
    assert content["after"]["params"] == 8_257_306


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(iplt.errors.OptionError, match=r"different architecture.*no counterpart"):
        compare(vgg16(), mobilenet())
    with pytest.raises(iplt.errors.OptionError, match="the other way round"):
        compare(vgg16(VGG_A), vgg16())
    with pytest.raises(iplt.errors.OptionError, match="same input shapes"):
        compare(profile(vgg16()), profile(vgg16(VGG_A), (64, 64, 3)))
    with pytest.raises(iplt.errors.OptionError, match="expected two strings, received: 'ab'"):
        compare(vgg16(), vgg16(), names="ab")
    with pytest.raises(iplt.errors.ModelError):
        compare(vgg16(), None)


def test_profiles_can_be_compared_at_a_size():
    found = compare(profile(sizeless(), (8, 9, 3)), profile(sizeless(), (8, 9, 3)))
    assert found.pruned_flops == 0 and math.isclose(found.ppr, 0)
