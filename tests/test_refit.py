"""`compensate`: what stays of a pruned model is fitted anew to what the whole model computed."""

import itertools

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from keras import layers
from support.graphs import GRAPHS
from support.graphs import build as build_named
from support.law import difference, random_inputs, randomize

import keras_iplt as iplt
from keras_iplt.graph.slices import numbers_of
from keras_iplt.graph.trace import trace
from keras_iplt.running.observe import batches
from keras_iplt.running.relay import Relay
from keras_iplt.running.steps import recorded
from keras_iplt.surgery import refitting
from keras_iplt.surgery.refitting import Refit
from keras_iplt.surgery.refitting.least_squares import Sums
from keras_iplt.surgery.refitting.linear import linear

pytestmark = pytest.mark.any_backend

HOW = ["by layer", "at once"]
FIRST = keras.backend.backend() != "tensorflow"  # convolutions of channels first run on the CPU
EXACT, LARGE = 1e-4, 1e-2  # relative differences: of what is the same, and of what is not


def held(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.variables]


def same(before, after):
    return all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def outputs(model, x):
    found = keras.tree.flatten(model(x, training=False))
    return [np.asarray(keras.ops.convert_to_numpy(y), "float32") for y in found]


def apart(model, other, x):
    """The largest relative difference between the outputs of two models."""
    pairs = zip(outputs(model, x), outputs(other, x), strict=True)
    return max(difference(a, b) for a, b in pairs)


def distance(whole, other):
    """What a fit makes smaller: squares of differences over squares, summed over outputs."""
    pairs = [(a.astype("float64"), b) for a, b in zip(whole, other, strict=True)]
    return sum(((a - b) ** 2).sum() / max((a**2).sum(), 1e-30) for a, b in pairs)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


# -- layers as products ----------------------------------------------------------------------------


def check_product(layer, shape, spoil=lambda matrix: matrix):
    """features @ matrix + bias is what the layer puts out, at all positions and at some."""
    x = normal(2, *shape)
    layer(x)
    layer.set_weights([normal(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    y = keras.ops.convert_to_numpy(layer(x))
    if layer.bias is not None:
        channels_first = getattr(layer, "data_format", None) == "channels_first"
        bias = numbers_of(layer.bias)
        y = y - (bias.reshape(-1, *[1] * (y.ndim - 2)) if channels_first else bias)
    product = linear(layer)
    seen = product.prepared(x, lambda variable: variable.value)
    count = product.positions(seen.shape)
    kernel = numbers_of(product.kernel)
    matrix = spoil(product.matrix(kernel))
    np.testing.assert_array_equal(product.kernel_from(matrix), kernel)
    assert product.outputs == matrix.shape[0] * matrix.shape[2]
    if isinstance(layer, layers.EinsumDense):  # positions, groups, own labels
        labels = [*product.free, *product.groups, *product.own]
        y = np.einsum(f"{''.join(product.out)}->{''.join(labels)}", y)
    elif product.output_axis == 1:
        y = np.moveaxis(y, 1, -1)
    y = y.reshape(len(x), count, -1)
    for chosen in (np.arange(count), np.arange(0, count, 3)):
        rows = product.features(seen, chosen)
        found = np.einsum("sgf,gfo->sgo", rows, matrix).reshape(len(x), len(chosen), -1)
        np.testing.assert_allclose(found, y[:, chosen], rtol=1e-3, atol=1e-4)


@st.composite
def layers_and_shapes(draw):
    """A layer that is a product: its class, its options, and the shape of what goes in."""
    kind = draw(st.sampled_from(["Dense", "Conv", "DepthwiseConv", "SeparableConv", "Transpose"]))
    if kind == "Dense":
        positions = draw(st.lists(st.integers(1, 3), max_size=2))
        return "Dense", {"units": draw(st.integers(1, 4))}, (*positions, draw(st.integers(1, 4)))
    rank = draw(st.integers(1, 2 if kind in ("DepthwiseConv", "SeparableConv") else 3))
    numbers = st.integers(1, 3)
    window = [draw(numbers) for _ in range(rank)]
    step = draw(numbers)
    dilation = draw(numbers) if step == 1 and kind == "Conv" else 1
    padding = draw(st.sampled_from(["same", "valid"]))
    if kind == "Conv" and rank == 1:
        padding = draw(st.sampled_from(["same", "valid", "causal"]))
    options = dict(kernel_size=window, strides=step, padding=padding, use_bias=draw(st.booleans()))
    if FIRST and padding != "causal":
        options["data_format"] = draw(st.sampled_from(["channels_last", "channels_first"]))
    channels, filters = draw(numbers), draw(numbers)
    if kind == "Conv":
        groups = draw(st.sampled_from([1, 2])) if rank < 3 else 1
        options |= dict(dilation_rate=dilation, groups=groups)
        channels, filters = channels * groups, filters * groups
    if kind in ("DepthwiseConv", "SeparableConv"):
        options["depth_multiplier"] = draw(st.integers(1, 2))
    if kind != "DepthwiseConv":
        options["filters"] = filters
    name = f"Conv{rank}DTranspose" if kind == "Transpose" else f"{kind}{rank}D"
    lengths = [(n - 1) * dilation + 1 + draw(st.integers(0, 4)) for n in window]
    first = options.get("data_format") == "channels_first"
    return name, options, (channels, *lengths) if first else (*lengths, channels)


@settings(max_examples=80, deadline=None, derandomize=True, database=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@hypothesis.given(layers_and_shapes())
def test_layers_are_products(drawn):
    """Whatever the strides, padding, dilation, groups, multiplier, data format."""
    name, options, shape = drawn
    check_product(getattr(layers, name)(**options), shape)


@pytest.mark.parametrize(("equation", "options", "shape"), [
    ("ab,bc->ac", dict(output_shape=(4,), bias_axes="c"), (3,)),
    ("abc,cd->abd", dict(output_shape=(None, 4), bias_axes="d"), (6, 3)),
    ("abc,cde->abde", dict(output_shape=(None, 4, 2), bias_axes="de"), (6, 3)),
    ("abcd,cde->abe", dict(output_shape=(None, 5), bias_axes="e"), (6, 3, 2)),
    ("abc,bcd->abd", dict(output_shape=(6, 5)), (6, 3)),
    ("abc,cd->adb", dict(output_shape=(4, None)), (6, 3)),
])  # fmt: skip
def test_einsum_dense_is_a_product(equation, options, shape):
    """Labels that are shared by input, kernel and output are groups."""
    check_product(layers.EinsumDense(equation, **options), shape)


def test_the_check_of_products_can_fail():
    """A kernel whose window is off by one place is found out."""
    with pytest.raises(AssertionError):
        check_product(layers.Conv2D(3, 3), (6, 6, 2), lambda matrix: np.roll(matrix, 2, 1))


@pytest.mark.parametrize("layer", [
    layers.Dense(3, kernel_constraint="non_neg"), layers.Conv2DTranspose(3, 2, output_padding=0),
    layers.EinsumDense("...c,cd->...d", output_shape=(3,)), layers.LSTM(3),
])  # fmt: skip
def test_what_is_no_product(layer):
    """Layers that are none, or are not to be changed, are left to others."""
    shape = (4, 4, 2) if isinstance(layer, layers.Conv2DTranspose) else (4, 2)
    layer.build((None, *shape))
    assert linear(layer) is None


# -- sums over samples -----------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 3])
def test_a_linear_map_is_found(groups):
    """Weights come back from samples, group by group, however these come in batches."""
    true, features = normal(groups, 5, 2), normal(90, groups, 5)
    wanted = np.einsum("sgf,gfo->sgo", features, true)
    for size in (1, 7, 90):
        sums = Sums(groups, 5, 2)
        for start in range(0, 90, size):
            sums.add(features[start : start + size], wanted[start : start + size], 1)
        np.testing.assert_allclose(sums.fit(), true, rtol=1e-4, atol=1e-5)


def test_batches_do_not_matter():
    """Which examples are held out does not depend on how they come: with batches of one, too."""
    features = normal(60, 1, 12)
    wanted = features[:, :, :3] + normal(60, 1, 3, seed=1)
    found = []
    for size in (1, 3, 60):
        sums = Sums(1, 12, 3)
        for start in range(0, 60, size):
            sums.add(features[start : start + size], wanted[start : start + size], 1)
        found.append(sums.fit())
    np.testing.assert_allclose(found[0], found[2])
    np.testing.assert_allclose(found[1], found[2])


def test_noise_is_not_fitted():
    """Where nothing can be told from the features, nothing is what comes out."""
    sums = Sums(1, 30, 2)
    sums.add(normal(40, 1, 30), normal(40, 1, 2, seed=5), 1)
    assert sums.fit() is None
    empty = Sums(1, 30, 2)
    empty.add(np.zeros((40, 1, 30)), normal(40, 1, 2), 1)
    assert empty.fit() is None


# -- steps and batches on their way ----------------------------------------------------------------

OPENED = ["attention", "causal", "scores", "grouped_query"]


def attending(kind):
    i = keras.Input((6, 4))
    if kind == "grouped_query":
        return keras.Model(i, layers.GroupQueryAttention(4, 4, 2)(i, i))
    attention, options = layers.MultiHeadAttention(2, 4), {}
    if kind == "causal":
        options["use_causal_mask"] = True
    if kind == "scores":
        options["return_attention_scores"] = True
    return keras.Model(i, attention(i, layers.Dense(4)(i), **options))


def check_program(model, inputs):
    graph = trace(model)
    program = recorded(graph.function, graph.calls, refitting._opened)
    (batch,) = batches(graph.model, inputs[0] if len(inputs) == 1 else inputs)
    relay = Relay(program, [batch], [{}], 1e9)
    relay.advance(len(program.steps))
    ((values,),) = relay.batches()
    places = [slot.place for slot in keras.tree.flatten(program.outputs)]
    found = [np.asarray(keras.ops.convert_to_numpy(values[place])) for place in places]
    expected = keras.tree.flatten(model(batch.x, training=False))
    for a, b in zip(expected, found, strict=True):
        assert difference(a, b) < 1e-5
    return program


@pytest.mark.parametrize("kind", OPENED)
def test_attention_is_looked_into(kind):
    """Its projections are steps of their own, and the steps compute what the layer does."""
    model = attending(kind)
    randomize(model)
    program = check_program(model, random_inputs(model))
    assert sum(isinstance(s.operation, layers.EinsumDense) for s in program.steps) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    n for n in GRAPHS if n != "multi_head_attention_of_two_widths"])  # fmt: skip
def test_steps_compute_what_the_model_does(name):
    """A model run step by step puts out what it does as a whole."""
    model = build_named(name)
    randomize(model)
    if hasattr(model, "inputs"):
        check_program(model, random_inputs(model))


@pytest.mark.parametrize("all_along", [True, False])
def test_what_memory_does_not_hold(all_along):
    """Batches that are not held join later, or are seen at each stop all the same; and what is seen
    does not depend on it."""
    i = keras.Input((12,))
    model = keras.Model(i, layers.Dense(1)(layers.Dense(30)(layers.Dense(5)(i))))
    program, x = recorded(trace(model).function), normal(12, 12)
    given = [x[:4], x[4:8], x[8:]]
    seen = {}
    for memory in (1, 4 * 4 * 31 * 2, 1e9):  # one batch, two at the widest, all
        relay = Relay(program, batches(model, given), [{}], memory, all_along=all_along)
        seen[memory] = []
        for stop in range(len(program.steps) + 1):
            relay.advance(stop)
            several = [[numbers_of(v) for v in values.values()] for (values,) in relay.batches()]
            seen[memory].append(several)
    counts = {memory: [len(several) for several in stops] for memory, stops in seen.items()}
    assert counts[1] == [3 if all_along else 1] * 4
    assert counts[1e9] == [3] * 4
    if not all_along:
        assert counts[496 * 2][0] == 2 and counts[496 * 2][-1] == 3
    for stops in seen.values():
        for several, expected in zip(stops, seen[1e9], strict=True):
            for a, b in zip(several, expected, strict=False):
                assert same(a, b)


# -- the law: what the others can tell is not missed -----------------------------------------------


def dense(act):
    yield (10,)
    i = keras.Input((10,))
    x = layers.Dense(7, activation="relu")(layers.Dense(8, act, name="a")(i))
    yield keras.Model(i, layers.Dense(3)(x))


def image_net(act, *behind, **options):
    yield (7, 7, 3)
    i = keras.Input((7, 7, 3))
    x = layers.Conv2D(8, 3, activation=act, name="a", **options)(i)
    for layer in behind:
        x = layer(x)
    yield keras.Model(i, layers.Dense(3)(x))


def convolutions(act):
    return image_net(
        act, layers.Conv2D(6, 3), layers.BatchNormalization(), layers.ReLU(),
        layers.Conv2D(5, 3, use_bias=False), layers.Flatten())  # fmt: skip


def batch_norm(act):
    """The consumer has no bias, and the norm behind it takes up what is constant."""
    return image_net(
        None, layers.BatchNormalization(name="a_norm"), layers.Activation(act),
        layers.Conv2D(6, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU(),
        layers.GlobalAveragePooling2D())  # fmt: skip


def transposed(act):
    return image_net(
        act, layers.Conv2DTranspose(5, 3), layers.ReLU(), layers.GlobalAveragePooling2D()
    )


def strided_transposed(act):
    return image_net(
        act, layers.Conv2DTranspose(5, 3, strides=2), layers.ReLU(),
        layers.GlobalAveragePooling2D())  # fmt: skip


def flattened(act):
    return image_net(act, layers.Flatten())


def residual(act):
    yield (7, 7, 3)
    i = keras.Input((7, 7, 3))
    x = layers.Conv2D(8, 3, name="a")(i)
    y = layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same", use_bias=False)(x))
    y = layers.Conv2D(8, 1, name="a_second")(layers.ReLU()(y))
    x = layers.Activation(act)(layers.Add()([x, y]))
    x = layers.ReLU()(layers.Conv2D(5, 3)(x))
    yield keras.Model(i, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def concatenated(act):
    yield (10,)
    i = keras.Input((10,))
    parts = [layers.Dense(8, act, name="a")(i), layers.Dense(4, act)(i)]
    yield keras.Model(i, layers.Dense(3)(layers.Concatenate()(parts)))


def tokens(act, *behind):
    yield (7, 4)
    i = keras.Input((7, 4))
    x = layers.Conv1D(8, 3, activation=act, name="a")(i)
    for layer in behind:
        x = layer(x)
    yield keras.Model(i, layers.Dense(3)(x))


def lstm(act):
    return tokens(act, layers.LSTM(5))


def bidirectional(act):
    return tokens(act, layers.Bidirectional(layers.GRU(4)))


def time_distributed(act):
    return tokens(act, layers.TimeDistributed(layers.Dense(5)), layers.Flatten())


def einsum(act):
    return tokens(
        act, layers.EinsumDense("abc,cde->abde", (5, 4, 2), bias_axes="de"), layers.Flatten()
    )


def nested(act):
    inner = keras.Sequential([
        keras.Input((5, 8)), layers.Dense(6, "relu"), layers.BatchNormalization(),
        layers.Dense(4)])  # fmt: skip
    return tokens(act, inner, layers.GlobalAveragePooling1D())


def attention(act):
    yield (6, 10)
    i = keras.Input((6, 10))
    x = layers.Dense(8, act, name="a")(i)
    x = layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
    yield keras.Model(i, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def shared(act):
    yield (10,)
    i = keras.Input((10,))
    x, again = layers.Dense(8, act, name="a")(i), layers.Dense(6, "tanh")
    y = layers.Dense(8, act, name="a_second")(again(x))
    yield keras.Model(i, layers.Dense(3)(layers.Concatenate()([again(x), again(y)])))


def shared_by_ranks(act):
    """A layer that meets the channels on different axes."""
    yield (5, 10)
    i = keras.Input((5, 10))
    x, again = layers.Dense(8, act, name="a")(i), layers.Dense(6)
    yield keras.Model(i, [again(x), again(layers.GlobalAveragePooling1D()(x))])


def embedded(act):
    """Numbers that are integers."""
    yield None
    i = keras.Input((6,), dtype="int32")
    x = layers.Activation(act)(layers.Embedding(9, 8, name="a")(i))
    yield keras.Model(i, layers.Dense(3)(layers.Flatten()(layers.Conv1D(5, 2)(x))))


LAWS = {law.__name__: law for law in (
    dense, convolutions, batch_norm, transposed, strided_transposed, flattened, residual,
    concatenated, lstm, bidirectional, time_distributed, einsum, nested, attention, shared,
    shared_by_ranks, embedded)}  # fmt: skip

# Where what is constant is not taken up: by layers without a bias that is known, at the padded
# borders of an image, between the steps of a transposed convolution; or it is no constant.
NO_CONSTANT = {"lstm", "bidirectional", "time_distributed", "residual", "transposed",
               "strided_transposed", "embedded"}  # fmt: skip


def spread(kernel, kind):
    """The last half of the channels, made from the first."""
    half = kernel.shape[-1] // 2
    first = kernel[..., :half]
    if kind == "duplicate":
        return np.concatenate([first, first[..., ::-1]], -1)
    mixing = normal(half, half, seed=3) / 2
    return np.concatenate([first, first @ mixing], -1)


def redundant(name, kind):
    """A model in which the last half of the channels of "a" tells nothing new; data; unseen."""
    act = None if kind == "combination" else "tanh"
    shape, model = LAWS[name](act)
    randomize(model)
    for layer in model.layers:
        if not layer.name.startswith("a") or layer.name[1:2] not in ("", "_"):
            continue
        if kind != "constant":
            if isinstance(layer, layers.BatchNormalization) and kind == "combination":
                continue  # each channel scaled: still combinations, and constants
            layer.set_weights([spread(w, kind) for w in layer.get_weights()])
        elif not isinstance(layer, layers.BatchNormalization):
            kernel, bias = layer.get_weights()
            kernel[..., 4:], bias[4:] = 0, 0.7
            layer.set_weights([kernel, bias])
    if shape is None:
        rng = np.random.default_rng(1)
        return model, rng.integers(0, 9, (80, 6)), rng.integers(0, 9, (20, 6))
    return model, normal(80, *shape), normal(20, *shape, seed=1)


def check_law(name, kind, how):
    model, x, unseen = redundant(name, kind)
    before = held(model)
    plan = iplt.plan_channels(model, {"a": [4, 5, 6, 7]})
    assert apart(model, iplt.rewrite(model, plan), x) > LARGE  # or there would be nothing to do
    small = iplt.rewrite(model, plan, compensate=Refit(x, how))
    assert apart(model, small, x) < EXACT
    assert apart(model, small, unseen) < EXACT
    assert same(before, held(model))


CORE = {"dense", "convolutions", "batch_norm", "attention"}
CASES = [
    pytest.param(name, kind, marks=[pytest.mark.slow] * (name not in CORE and kind != "duplicate"))
    for name, kind in itertools.product(LAWS, ["duplicate", "combination", "constant"])
    if not (kind == "constant" and name in NO_CONSTANT)
]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_what_the_others_tell_is_not_missed(name, kind, how):
    """A channel that is a duplicate of others, a combination of them (as far as nothing stands
    between that is not linear) or a constant goes without a trace, on unseen data too."""
    check_law(name, kind, how)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    "name",
    [name if name == "dense" else pytest.param(name, marks=pytest.mark.slow) for name in LAWS],
)
@pytest.mark.parametrize("spoil", ["nothing is fitted", "off by one"])
def test_the_check_of_the_law_can_fail(monkeypatch, spoil, name, how):
    """Without a fit, or with one whose channels are one place off, it does."""
    if spoil == "nothing is fitted":
        monkeypatch.setattr(Sums, "fit", lambda self: None)
    else:
        fit = Sums.fit
        monkeypatch.setattr(Sums, "fit", lambda self: np.roll(fit(self), 1, axis=1))
    with pytest.raises(AssertionError):
        check_law(name, "duplicate", how)


@pytest.mark.parametrize("how", HOW)
def test_a_constant_before_a_separable_convolution(how):
    """What its depthwise half makes of channels is what its pointwise half is fitted to."""
    _, model = image_net("relu", layers.SeparableConv2D(6, 3), layers.GlobalAveragePooling2D())
    randomize(model)
    kernel, bias = model.get_layer("a").get_weights()
    kernel[..., 4:], bias[4:] = 0, 0.7
    model.get_layer("a").set_weights([kernel, bias])
    plan, x = iplt.plan_channels(model, {"a": [4, 5, 6, 7]}), normal(80, 7, 7, 3)
    assert apart(model, iplt.rewrite(model, plan), x) > LARGE
    assert apart(model, iplt.rewrite(model, plan, compensate=Refit(x, how)), x) < EXACT
