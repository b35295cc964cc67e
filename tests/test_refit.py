"""`compensate`: what stays of a pruned model is fitted anew to what the whole model computed."""

import itertools
import random

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
from support.random_graphs import build, sample

import keras_iplt as iplt
from keras_iplt.errors import DataError, ModelError, OptionError
from keras_iplt.graph.slices import numbers_of
from keras_iplt.graph.trace import trace
from keras_iplt.running.linear import linear
from keras_iplt.running.observe import batches
from keras_iplt.running.relay import Relay
from keras_iplt.running.steps import recorded
from keras_iplt.surgery import refitting, shrinking
from keras_iplt.surgery.refitting import Refit
from keras_iplt.surgery.refitting.behind import Behind
from keras_iplt.surgery.refitting.least_squares import Sums

pytestmark = pytest.mark.any_backend

HOW = ["by layer", "at once"]
FIRST = keras.backend.backend() != "tensorflow"  # convolutions of channels first run on the CPU
QUICK_TO_COMPILE = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="many small networks compile for minutes"
)
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
    layers.Dense(3, kernel_constraint="non_neg"),
    layers.Conv2DTranspose(3, 2, strides=2, output_padding=1),
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


def constant(layer):
    """The last half of its channels."""
    kernel, bias = layer.get_weights()
    kernel[..., 4:], bias[4:] = 0, 0.7
    layer.set_weights([kernel, bias])


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
            constant(layer)
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
    constant(model.get_layer("a"))
    plan, x = iplt.plan_channels(model, {"a": [4, 5, 6, 7]}), normal(80, 7, 7, 3)
    assert apart(model, iplt.rewrite(model, plan), x) > LARGE
    assert apart(model, iplt.rewrite(model, plan, compensate=Refit(x, how)), x) < EXACT


# -- what may be given, and in what networks -------------------------------------------------------


def compiled():
    keras.utils.set_random_seed(0)
    _, model = batch_norm("relu")
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    model.fit(normal(16, 7, 7, 3), normal(16, 3), batch_size=8, verbose=0)
    return model


def state(model):
    return [*held(model), *(np.array(keras.ops.convert_to_numpy(v)) for v in
                            model.optimizer.variables)]  # fmt: skip


@pytest.mark.parametrize("how", HOW)
def test_shrink_and_rewrite_agree(how):
    """The same outputs, with the optimizer's state kept; and training goes on."""
    model, x = compiled(), normal(60, 7, 7, 3)
    plan = iplt.plan(model, 0.4)
    small = iplt.rewrite(model, plan, compensate=Refit(x, how))
    plain = iplt.rewrite(model, plan)
    slots = [v.name for v in model.optimizer.variables]
    iplt.shrink(model, plan, compensate=Refit(x, how))
    assert apart(model, small, x) < 1e-5 and apart(model, plain, x) > LARGE
    assert [v.name for v in model.optimizer.variables] == slots
    assert int(model.optimizer.iterations) == 2
    assert any(np.any(keras.ops.convert_to_numpy(v)) for v in model.optimizer.variables[2:])
    history = model.fit(x, normal(60, 3), verbose=0).history
    assert np.isfinite(history["loss"]).all() and int(model.optimizer.iterations) == 4


@pytest.mark.parametrize("how", HOW)
def test_a_shrink_that_fails_leaves_the_model_as_it_was(monkeypatch, how):
    """To the bit, what was fitted included."""
    model = compiled()
    plan, before = iplt.plan(model, 0.4), state(model)

    def failing(live):
        assert not same(before[2:3], [numbers_of(model.variables[2])])  # it has begun
        raise RuntimeError("in the middle")

    monkeypatch.setattr(shrinking, "verify", failing)
    with pytest.raises(ModelError, match="as it was before"):
        iplt.shrink(model, plan, compensate=Refit(normal(60, 7, 7, 3), how))
    assert same(before, state(model))


@pytest.mark.parametrize("how", HOW)
def test_bad_data_and_options_change_nothing(how):
    """They are named by the errors, before anything is done."""
    model = compiled()
    plan, before = iplt.plan(model, 0.4), state(model)
    for data in (normal(8, 5, 5, 3), normal(8, 7, 7, 3) * np.nan, [], 3, iter([])):
        for act in (iplt.shrink, iplt.rewrite):
            with pytest.raises(DataError):
                act(model, plan, compensate=Refit(data, how))
    for options in ({"how": "backwards"}, {"memory": 0}, {"memory": -1}, {"memory": "much"},
                    {"memory": True}, {"memory": float("nan")}):  # fmt: skip
        with pytest.raises(OptionError, match=next(iter(options))):
            Refit(normal(8, 7, 7, 3), **{"how": how} | options)
    assert same(before, state(model))


FORMS = ["list", "generator", "with labels", "PyDataset", "bare"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("form", [*FORMS, "tf.data"])
def test_forms_of_data(form, how):
    """The same batches, however they are given, tell the same."""
    _, model = dense("relu")
    randomize(model)
    x, plan = normal(64, 10), iplt.plan(model, 0.4)
    parts = [x[:32], x[32:]]

    class Parts(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return parts[index], np.zeros(32)

    if form == "tf.data":
        tf = pytest.importorskip("tensorflow")
        data = tf.data.Dataset.from_tensor_slices(x).batch(32)
    else:
        data = {"list": parts, "generator": iter(parts), "with labels": (x, np.zeros(64)),
                "PyDataset": Parts(), "bare": x}[form]  # fmt: skip
    expected = iplt.rewrite(model, plan, compensate=Refit(x, how))
    given = data if form == "bare" and how == "by layer" else Refit(data, how)
    assert same(held(expected), held(iplt.rewrite(model, plan, compensate=given)))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("size", [1, 3, 64])
def test_the_size_of_batches_does_not_matter(size, how):
    """Down to single examples."""
    _, model = dense("relu")
    randomize(model)
    x, plan = normal(64, 10), iplt.plan(model, 0.4)
    parts = [x[i : i + size] for i in range(0, 64, size)]
    small, expected = (
        iplt.rewrite(model, plan, compensate=Refit(data, how)) for data in (parts, x))  # fmt: skip
    assert apart(expected, small, x) < EXACT


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("count", [1, 2])
def test_hardly_any_examples(count, how):
    """It is not worse on them than a plain cut."""
    _, model = convolutions("relu")
    randomize(model)
    x, plan = normal(count, 7, 7, 3), iplt.plan(model, 0.4)
    never_further(model, plan, x, Refit(x, how))


def never_further(model, plan, x, refit):
    """What must hold for every fit; returns how far the plain cut is, and how far it is."""
    before = held(model)
    plain, small = iplt.rewrite(model, plan), iplt.rewrite(model, plan, compensate=refit)
    assert same(before, held(model))
    assert [v.shape for v in plain.weights] == [v.shape for v in small.weights]
    assert all(np.isfinite(v).all() for v in held(small) if v.dtype.kind == "f")
    whole, cut, fitted = (outputs(one, x) for one in (model, plain, small))
    far, near = distance(whole, cut), distance(whole, fitted)
    assert near <= far * (1 + 1e-3) + 1e-9
    return far, near


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("memory", [1, 20_000, 100_000, 1e9])
def test_little_memory(monkeypatch, memory, how):
    """With too little for a fit, nothing is fitted; with little more, on one batch."""
    _, model = convolutions("relu")
    randomize(model)
    x, plan = normal(96, 7, 7, 3), iplt.plan(model, 0.4)
    counts = []
    advance = Relay.advance
    monkeypatch.setattr(
        Relay, "advance", lambda self, stop: (counts.append(len(self)), advance(self, stop))
    )
    far, near = never_further(model, plan, x, Refit(x, how, memory=memory))
    assert counts[0] == (3 if memory == 1e9 else 1)
    if memory >= 100_000:
        assert near < far / 2
    if memory == 1:
        assert near == far


@pytest.mark.parametrize("how", HOW)
def test_several_inputs(how):
    """As lists, as the model takes them."""
    i, j = keras.Input((6,)), keras.Input((5,))
    parts = [layers.Dense(8, "relu")(i), layers.Dense(8, "tanh")(j)]
    x = layers.Dense(9, "relu")(layers.Concatenate()(parts))
    model = keras.Model([i, j], [layers.Dense(2)(x), layers.Dense(3)(parts[0])])
    randomize(model)
    x = [normal(96, 6), normal(96, 5, seed=1)]
    far, near = never_further(model, iplt.plan(model, 0.4), x, Refit(x, how))
    assert near < 0.7 * far


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy, how):
    """Numbers of half precision, separable convolutions among them."""
    keras.config.set_dtype_policy(policy)
    _, model = image_net(
        "relu", layers.SeparableConv2D(6, 3), layers.ReLU(), layers.Conv2D(5, 3),
        layers.GlobalAveragePooling2D())  # fmt: skip
    keras.config.set_dtype_policy("float32")
    randomize(model)
    constant(model.get_layer("a"))
    x, plan = normal(96, 7, 7, 3), iplt.plan_channels(model, {"a": [4, 5, 6, 7]})
    far, near = never_further(model, plan, x, Refit(x, how))
    assert near < far / 20


@pytest.mark.parametrize("how", HOW)
def test_images_of_several_sizes(how):
    """Each batch may be of a size of its own."""
    i = keras.Input((None, None, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="a")(i)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3)(x))
    model = keras.Model(i, layers.Dense(3)(x))
    randomize(model)
    first = model.get_layer("a")
    first.set_weights([spread(w, "duplicate") for w in first.get_weights()])
    data = [normal(32, 9, 9, 3), normal(32, 6, 7, 3), normal(32, 7, 5, 3)]
    plan = iplt.plan_channels(model, {"a": [4, 5, 6, 7]})
    small = iplt.rewrite(model, plan, compensate=Refit(data, how))
    assert all(apart(model, small, x) < EXACT for x in data)


@pytest.mark.parametrize("how", HOW)
def test_a_sum_that_repeats_one_of_its_parts(how):
    """What is added at every position cannot be made good position by position."""
    i = keras.Input((7, 7, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="a")(i)
    gate = layers.Dense(5, "tanh")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    y = layers.ReLU()(layers.Conv2D(6, 3, activation="relu")(x))
    y = layers.Conv2D(5, 1)(layers.ReLU()(y))
    model = keras.Model(i, layers.GlobalMaxPooling2D()(layers.Add()([gate, y])))
    randomize(model)
    x = normal(64, 7, 7, 3)
    far, near = never_further(model, iplt.plan(model, 0.3), x, Refit(x, how))
    assert near < 0.9 * far


@pytest.mark.parametrize("how", HOW)
def test_constraints_hold(how):
    """Weights that have to be of a kind are not fitted."""
    _, model = image_net("relu", layers.Conv2D(6, 3, kernel_constraint="non_neg", name="held"),
                         layers.GlobalAveragePooling2D())  # fmt: skip
    randomize(model)
    model.get_layer("held").kernel.assign(abs(normal(3, 3, 8, 6)))
    plan, x = iplt.plan_channels(model, {"a": [1, 5]}), normal(64, 7, 7, 3)
    small = iplt.rewrite(model, plan, compensate=Refit(x, how))
    assert (numbers_of(small.get_layer("held").kernel) >= 0).all()


def test_who_takes_up_a_constant():
    """A layer's own bias; else the batch norm behind it, if that is for the same channels, and for
    what this layer puts out there and nothing else."""

    def absorbers(*behind, use_bias=False, also=False):
        i = keras.Input((7, 7, 3))
        conv = layers.Conv2D(7, 1, use_bias=use_bias)
        y = conv(i)
        outputs = [norm(y) for norm in behind]
        outputs += [y] if also else []
        program = recorded(trace(keras.Model(i, outputs)).function)
        (step,) = [step for step in program.steps if step.operation is conv]
        return Behind(program).absorber(step, linear(conv)), conv

    (variable, sign), conv = absorbers(layers.BatchNormalization(), use_bias=True)
    assert variable is conv.bias and sign == 1
    norm = layers.BatchNormalization()
    (variable, sign), _ = absorbers(norm)
    assert variable is norm.moving_mean and sign == -1
    assert absorbers(layers.BatchNormalization(axis=3))[0] is not None
    assert absorbers(layers.BatchNormalization(axis=1))[0] is None
    assert absorbers(norm, also=True)[0] is None  # the outputs would lack it
    assert absorbers(norm, layers.ReLU())[0] is None
    assert absorbers(layers.ReLU())[0] is None


# -- random networks -------------------------------------------------------------------------------


def check_random(recipe, how):
    """What must hold for every fit; True if it had anything to do and did."""
    model = build(recipe)
    randomize(model, recipe.seed)
    plan = iplt.plan(model, 0.4)
    inputs = random_inputs(model, recipe.seed, batch=40)
    x = inputs[0] if len(inputs) == 1 else inputs
    if not all(np.isfinite(y).all() for y in outputs(model, x)):
        return False
    far, near = never_further(model, plan, x, Refit(x, how))
    return near < 0.9 * far


def can_lose(model, ratio):
    """Not where there are too few channels, or they are too large together."""
    try:
        return bool(iplt.plan(model, ratio).gone.any())
    except (iplt.errors.OptionError, iplt.errors.NothingToPruneError):
        return False


def recipes_to_prune():
    for seed in itertools.count():
        recipe = sample(random.Random(f"refit {seed}"), 6)
        if can_lose(build(recipe), 0.4):
            yield recipe


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("count", [4, pytest.param(24, marks=[pytest.mark.slow, QUICK_TO_COMPILE])])
def test_random_networks(count, how):
    """It is never further from the whole network than a plain cut, and mostly nearer."""
    several = itertools.islice(recipes_to_prune(), count)
    nearer = [check_random(recipe, how) for recipe in several]
    assert np.mean(nearer) >= 0.5


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
def test_the_check_of_random_networks_can_fail(monkeypatch):
    """Without the comparison at the end, wrong fits are found to be further away."""
    fit = Sums.fit
    wrong = lambda self: None if (found := fit(self)) is None else -3 * found  # noqa: E731
    monkeypatch.setattr(Sums, "fit", wrong)
    monkeypatch.setattr(refitting, "distances", lambda program, relay: (0.0, 1.0))
    with pytest.raises(AssertionError):
        for recipe in itertools.islice(recipes_to_prune(), 4):
            check_random(recipe, "at once")
