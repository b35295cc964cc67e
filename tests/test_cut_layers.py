"""Custom layers whose config cannot say how many channels they have: they are cut as they are."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.law import check_law, difference, randomize
from support.random_graphs import RootMeanSquare

import keras_iplt as iplt
from keras_iplt import quantization
from keras_iplt.graph import learning, trials
from keras_iplt.graph.cut_layers import CutLayer

pytestmark = pytest.mark.any_backend


@keras.saving.register_keras_serializable("cut_layers")
class Decoder(layers.Layer):
    """A block of a language model: heads follow from the width, and the mask from the length."""

    def __init__(self, heads, inner, turned=False, **options):
        super().__init__(**options)
        self.heads, self.inner, self.turned = heads, inner, turned

    def build(self, shape):
        size = shape[-1] // self.heads
        self.norms = [RootMeanSquare(2, 0.01, name="norm_0"), layers.LayerNormalization()]
        self.query, self.key, self.value = (
            layers.EinsumDense("btd,dnh->btnh", (None, self.heads, size), name=name)
            for name in ("query", "key", "value")
        )
        self.merge = layers.EinsumDense("btnh,nhd->btd", (None, shape[-1]), name="merge")
        self.up = layers.Dense(self.inner, name="up")
        self.down = layers.Dense(shape[-1], name="down")
        for layer in (*self.norms, self.query, self.key, self.value, self.up):
            layer.build(shape)
        self.merge.build((None, None, self.heads, size))
        self.down.build((*shape[:-1], self.inner))
        self.factor = size**-0.5

    def call(self, x):
        place = ops.arange(ops.shape(x)[1])
        causal = ops.expand_dims(place, 1) >= ops.expand_dims(place, 0)
        y = self.norms[0](x)
        query, key = self.query(y), self.key(y)
        if self.turned:  # by angles that are computed from the width
            angles = ops.cast(ops.arange(key.shape[-1]), "float32") / key.shape[-1]
            query = query * ops.cos(ops.cast(place, "float32")[:, None, None] * angles)
        scores = ops.einsum("btnh,bsnh->bnts", query, key) * self.factor
        weights = ops.softmax(ops.where(causal, scores, -1e9))
        x = x + self.merge(ops.einsum("bnts,bsnh->btnh", weights, self.value(y)))
        return x + self.down(ops.silu(self.up(self.norms[1](x))))

    def get_config(self):  # asks for what is not there
        return {**super().get_config(), "heads": self.heads, "inner": self.number_of_inner_units}


def language_model(turned=False):
    ids = keras.Input((None,), dtype="int32")
    x = layers.Embedding(9, 12, name="tokens")(ids)
    x = Decoder(3, 10, turned, name="block")(x)
    return keras.Model(ids, layers.Dense(5, name="head")(RootMeanSquare(1, 0.01)(x)))


IDS = np.random.default_rng(0).integers(0, 9, (2, 7))


def prunable(model):
    return sum(int(group.filters.sum()) for group in iplt.trace(model).groups)


@keras.saving.register_keras_serializable("cut_layers")
class Gated(layers.Layer):
    """Half of what comes out of a layer, times the other half, as its code says how wide it is."""

    def build(self, shape):
        self.width = 5
        self.up, self.down = layers.Dense(2 * self.width), layers.Dense(shape[-1])
        self.up.build(shape)
        self.down.build((*shape[:-1], self.width))

    def call(self, x):
        y = self.up(x)
        return self.down(y[..., : self.width] * ops.tanh(y[..., self.width :]))


@keras.saving.register_keras_serializable("cut_layers")
class Several(layers.Layer):
    """Blocks inside a block, which is called with tensors and settings by name."""

    def __init__(self, count, **options):
        super().__init__(**options)
        self.blocks = [Gated(name=f"block_{i}") for i in range(count)]

    def build(self, shape):
        for block in self.blocks:
            block.build(shape)

    def call(self, x, also=None, times=1):
        place = ops.cast(ops.arange(ops.shape(x)[1]), x.dtype)  # so that its code has to stay
        for block in self.blocks:
            x = x + block(x) * times
        return x * place[:, None] + also


@pytest.mark.slow
def test_blocks_inside_blocks_are_tried_alone(monkeypatch):
    """There are more ways to combine what each of them may need than are tried."""
    monkeypatch.setattr(trials, "_MOST_TRIES", 2**2)
    x = keras.Input((None, 4))
    y = layers.Dense(6, name="stem")(x)
    y = Several(3, name="several")(y, also=y, times=2)
    model = keras.Model(x, layers.Dense(2, name="head")(y))
    assert prunable(model) == 6 + 3 * (10 + 6)  # all but the head
    worst, plan, _ = check_law(model)
    assert worst < 1e-5 and plan.gone.any()


@pytest.mark.slow
def test_a_block_is_cut_and_kept_in_files(tmp_path):
    """Everything but the outputs may go; what is left is saved, loaded and pruned again."""
    model = language_model()
    assert prunable(model) == 3 * 12 + 3 * 4 + 10
    worst, plan, small = check_law(model)
    assert worst < 1e-5 and plan.gone.any()
    small.save(tmp_path / "small.keras")
    again = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(small(IDS), again(IDS))
    assert check_law(again)[0] < 1e-5
    left = quantization.layout(again).left
    assert any(isinstance(place.operation, CutLayer) for place in left)  # and all else in integers
    assert quantization.quantize_model(again)(IDS).shape == again(IDS).shape


@pytest.mark.slow
def test_a_block_shrinks_in_place():
    """As it is rewritten."""
    model = language_model()
    randomize(model)
    plan = iplt.plan(model, ratio=0.5)
    small = iplt.rewrite(model, plan)
    iplt.shrink(model, plan)
    assert difference(model(IDS), small(IDS)) < 1e-5
    assert model.count_params() == small.count_params()


@pytest.mark.slow
def test_code_that_computes_with_the_width_is_found_out():
    """Angles from the width are others on fewer channels: queries and keys stay, all else goes."""
    model = language_model(turned=True)
    assert prunable(model) == 3 * 12 + 4 + 10
    assert check_law(model)[0] < 1e-5


class Sloped(layers.Layer):
    """A dense layer, and an activation with a slope that is no entry of its config."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units, self.slope = units, 0.2

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, x):
        return ops.leaky_relu(ops.matmul(x, self.kernel), self.slope)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def test_layers_that_are_alike_are_tried_once(monkeypatch):
    """Equal blocks are, where channels stand alike; not those of another config or attribute."""
    tried = []
    monkeypatch.setattr(
        learning, "_tried", lambda flow, call, to=learning._tried: tried.append(call.path)
        or to(flow, call),
    )  # fmt: skip
    x = y = keras.Input((4,))
    for name, units in zip("abcdef", (6, 6, 6, 5, 6, 6), strict=True):
        y = Sloped(units, name=name)(y)
    model = keras.Model(x, layers.Dense(2)(y))
    assert check_law(model)[1].gone.any()
    # The first sees the input; the fourth and fifth have five channels on one side.
    assert tried == ["a", "b", "d", "e"]
    model.get_layer("f").slope = 0.3
    iplt.trace(model)
    assert tried[4:] == ["a", "b", "d", "e", "f"]


class Hollow(layers.Layer):
    """A dense layer that puts out an empty tensor beside, in place of nothing."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]), name="kernel")

    def call(self, x):
        return x + ops.matmul(x, self.kernel), ops.zeros((0, x.shape[-1]))


def test_an_empty_output_may_have_any_width():
    """Its channels stay, of which there is no number: the others go, in place too."""
    x = keras.Input((4,))
    y, _ = Hollow()(layers.Dense(6)(x))
    model = keras.Model(x, layers.Dense(2)(y))
    plan, numbers = iplt.plan(model, ratio=0.5), np.ones((2, 4), "float32")
    small = iplt.rewrite(model, plan)
    iplt.mask(model, plan)
    expected = model(numbers)
    assert small.layers[1].units == 3 and difference(expected, small(numbers)) < 1e-5
    iplt.shrink(model, plan)
    assert difference(expected, model(numbers)) < 1e-5


@pytest.mark.parametrize("wrong", ["larger", "dunder", "unknown"])
def test_no_file_makes_a_layer_larger_than_it_was(wrong):
    """Nor changes what is no number of the layer's."""
    small = iplt.prune(language_model(), 0.3)
    config = small.get_layer("block").get_config()
    assert config["shapes"] and type(small.get_layer("block")).from_config(config)
    if wrong == "larger":
        config["shapes"][-1] = [10**9]
        message = r"expected a shape within \(12,\), received: \(1000000000,\)"
    else:
        name = {"dunder": "__dict__", "unknown": "nothing"}[wrong]
        config["numbers"] = [[[0, name], 3]]
        message = "expected an attribute of one of"
    with pytest.raises(iplt.PruningError, match=message):
        type(small.get_layer("block")).from_config(config)
