"""Criteria: every score against a computation of its own, on models small enough to check."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.law import randomize

import keras_iplt as iplt
from keras_iplt import criteria
from keras_iplt.running.observe import batches, consumers, marked, observe

pytestmark = pytest.mark.quick

layers = keras.layers
UNLABELLED = ["apoz", "activation", "thinet", "lasso"]
KINDS = ["l1", "l2", "lp", "l1_mean", "l2_mean", "lp_mean", "fpgm", "lamp", "random"]


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


def images(count=40, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 8, 8, 3)).astype("float32")


def labels(count=40, width=2, seed=1):
    return np.random.default_rng(seed).normal(size=(count, width)).astype("float32")


def convolutional(activation="relu"):
    """conv → batch norm → activation → conv → dense → dense."""
    x = image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(6, 3, name="first")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Activation(activation, name="activation")(x)
    x = layers.Conv2D(5, 3, activation=activation, name="second")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(4, activation=activation, name="hidden")(x)
    model = keras.Model(image, layers.Dense(2, name="head")(x))
    randomize(model)
    return model


def residual():
    """A stream of four channels that two convolutions write to."""
    image = keras.Input((8, 8, 3))
    stem = layers.Conv2D(4, 3, padding="same", use_bias=False, name="stem")(image)
    stem = layers.BatchNormalization(name="stem_norm")(stem)
    body = layers.Conv2D(4, 5, padding="same", use_bias=False, name="body")(stem)
    body = layers.BatchNormalization(name="body_norm")(body)
    x = layers.ReLU(name="relu")(layers.Add()([stem, body]))
    x = layers.Flatten(name="flat")(x)
    model = keras.Model(image, layers.Dense(2, name="head")(x))
    randomize(model)
    return model


def of_layer(graph, values, name):
    """The scores of the channels that a layer creates, in the order of its filters."""
    (producer,) = (p for p in graph.producers if p.path == name)
    return values[graph.classes[producer.ids]]


# -- what a filter is ------------------------------------------------------------------------------


def last_axis(layer):
    kernel = numbers(layer.kernel)
    return kernel.reshape(-1, kernel.shape[-1]).T


def transposed(layer):
    return np.moveaxis(numbers(layer.kernel), -2, 0).reshape(layer.filters, -1)


def pointwise(layer):
    return numbers(layer.pointwise_kernel).reshape(-1, layer.filters).T


def gates(layer):
    cell, units = layer.cell, layer.units
    both = np.concatenate([numbers(cell.kernel), numbers(cell.recurrent_kernel)])
    return np.stack([both[:, i::units].ravel() for i in range(units)])


def table(layer):
    return numbers(layer.embeddings).T


FILTERS = {
    "dense": ((7,), layers.Dense(5), last_axis),
    "convolution": ((6, 6, 3), layers.Conv2D(4, 3), last_axis),
    "1-d convolution": ((9, 3), layers.Conv1D(4, 3), last_axis),
    "grouped convolution": ((6, 6, 4), layers.Conv2D(8, 3, groups=2), last_axis),
    "transposed convolution": ((6, 6, 3), layers.Conv2DTranspose(4, 3), transposed),
    "separable convolution": ((6, 6, 3), layers.SeparableConv2D(4, 3), pointwise),
    "LSTM": ((5, 3), layers.LSTM(4), gates),
    "GRU": ((5, 3), layers.GRU(4), gates),
    "simple RNN": ((5, 3), layers.SimpleRNN(4), gates),
    "embedding": ((5,), layers.Embedding(11, 4), table),
    "einsum": ((5, 3), layers.EinsumDense("abc,cd->abd", (5, 4)), last_axis),
}


@pytest.mark.parametrize("kind", FILTERS)
def test_a_filter_is_all_weights_that_make_one_channel(kind):
    """Whatever the layer: kernel and recurrent kernel, all gates, no bias."""
    shape, layer, weights_of = FILTERS[kind]
    layer = type(layer).from_config({**layer.get_config(), "name": "layer"})
    x = keras.Input(shape)
    y = layer(x)
    y = layers.Dense(2)(layers.Flatten()(y) if len(y.shape) > 2 else y)
    model = keras.Model(x, y)
    randomize(model)
    graph = iplt.trace(model)
    expected = weights_of(layer)
    seen = {}

    def record(weights):
        seen[weights.shape] = weights
        return np.linalg.norm(weights, axis=1)

    values = criteria.scores(graph, record)
    assert np.array_equal(np.sort(seen[expected.shape], 1), np.sort(expected, 1))
    norms = np.linalg.norm(expected.astype("float64"), axis=1)
    if kind == "grouped convolution":  # filters at the same place of each group go together
        norms = np.tile(norms.reshape(2, -1).mean(0), 2)
    for result in (values, criteria.scores(graph, "l2")):
        (producer,) = graph.groups[0].producers
        np.testing.assert_allclose(result[graph.classes[producer.ids]], norms, rtol=1e-6)


def test_scores_are_numbers_where_channels_can_go_and_nan_elsewhere():
    """One entry per id, filled at the classes of the groups."""
    graph = iplt.trace(convolutional())
    values = criteria.scores(graph)
    assert values.shape == graph.classes.shape and values.dtype == np.float64
    prunable = np.concatenate([group.classes for group in graph.groups])
    assert set(np.flatnonzero(np.isfinite(values))) == set(prunable)
    only = criteria.scores(graph, groups=graph.groups[1:2])
    assert set(np.flatnonzero(np.isfinite(only))) == set(graph.groups[1].classes)
    np.testing.assert_array_equal(only[graph.groups[1].classes], values[graph.groups[1].classes])


def test_a_shared_layer_is_scored_once():
    """Two calls of one layer make one set of filters."""
    a, b = keras.Input((3,)), keras.Input((3,))
    shared = layers.Dense(4)
    y = layers.Dense(2)(layers.Concatenate()([shared(a), shared(b)]))
    model = keras.Model([a, b], y)
    graph = iplt.trace(model)
    values = criteria.scores(graph, criteria.L2(reduce="sum"))
    expected = np.linalg.norm(numbers(shared.kernel), axis=0)
    np.testing.assert_allclose(values[graph.groups[0].classes], expected, rtol=1e-6)


def test_nested_models_are_scored_like_flat_ones():
    """Names of models around a layer change nothing."""
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(5)], name="inner")
    x = keras.Input((3,))
    graph = iplt.trace(keras.Model(x, layers.Dense(2)(inner(x))))
    values = criteria.scores(graph, "l1")
    expected = np.abs(numbers(inner.layers[1].kernel)).sum(0)
    np.testing.assert_allclose(of_layer(graph, values, inner.name + "/" + inner.layers[1].name),
                               expected, rtol=1e-6)  # fmt: skip


def test_float16_and_bfloat16_weights_do_not_overflow():
    """A float16 kernel of large numbers has a finite norm."""
    for kind in ("float16", "bfloat16"):
        policy = keras.DTypePolicy(kind)
        model = keras.Sequential(
            [keras.Input((4,), dtype=kind), layers.Dense(3, dtype=policy), layers.Dense(2)]
        )
        model.layers[0].kernel.assign(np.full((4, 3), 512.0))
        graph = iplt.trace(model)
        values = criteria.scores(graph, "l2")[graph.groups[0].classes]
        np.testing.assert_allclose(values, 1024.0)


@keras.saving.register_keras_serializable("test_criteria")
class Paired(layers.Layer):
    """A dense layer of which neighbouring units stand or fall together."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, x):
        return keras.ops.matmul(x, self.kernel)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@iplt.register_rule(Paired, resize=lambda layer, after: {"units": after.size(layer.kernel, 1)})
def paired(flow, layer, x):
    ids = flow.create(layer, layer.units)
    flow.join(ids[::2], ids[1::2], "its neighbour stays")
    flow.consume(layer.kernel, 0, flow.vector(x, -1))
    flow.slice(layer.kernel, 1, flow.partition.find(ids), "output")
    return flow.place(ids, -1)


def test_a_rule_may_name_channels_by_their_class():
    """Each position of such a slice is a filter."""
    layer = Paired(6)
    graph = iplt.trace(keras.Sequential([keras.Input((4,)), layer, layers.Dense(2)]))
    values = criteria.scores(graph, "l2")[graph.groups[0].classes]
    norms = np.linalg.norm(numbers(layer.kernel), axis=0)
    np.testing.assert_allclose(values, norms.reshape(3, 2).mean(1), rtol=1e-6)


# -- criteria from weights -------------------------------------------------------------------------


def naive(kind, w):
    """Scores of the rows of `w`, one pair of loops at a time."""
    w = w.astype("float64")
    name, _, mean = kind.partition("_")
    if name in ("l1", "l2", "lp"):
        p = 1 if name == "l1" else 2
        return np.array([sum(abs(v) ** p / (len(row) if mean else 1) for v in row) ** (1 / p)
                         for row in w])  # fmt: skip
    if name == "fpgm":
        return np.array([sum(np.linalg.norm(a - b) for b in w) for a in w])
    squares = [sum(v**2 for v in row) for row in w]
    return np.array([s / (sum(t for t in squares if t >= s) or 1) for s in squares])  # lamp


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "random"])
@pytest.mark.parametrize("name", ["first", "second", "hidden"])
def test_scores_from_weights(kind, name):
    """Against loops over the filters."""
    model = convolutional()
    graph = iplt.trace(model)
    found = of_layer(graph, criteria.scores(graph, kind), name)
    np.testing.assert_allclose(found, naive(kind, last_axis(model.get_layer(name))), rtol=1e-6)


@pytest.mark.parametrize("p", [0.5, 1, 2, 3.5])
def test_lp(p):
    """Any positive exponent."""
    model = convolutional()
    graph = iplt.trace(model)
    w = np.abs(last_axis(model.get_layer("first")).astype("float64"))
    found = of_layer(graph, criteria.scores(graph, criteria.Lp(p=p)), "first")
    np.testing.assert_allclose(found, (w**p).sum(1) ** (1 / p), rtol=1e-6)


@pytest.mark.parametrize("reduce", ["mean", "sum", "max", "l2"])
def test_filters_of_one_channel_are_reduced(reduce):
    """Over the layers that write to a residual stream, and over the units of a map."""
    how = {"mean": np.mean, "sum": np.sum, "max": np.max, "l2": np.linalg.norm}[reduce]
    model = residual()
    graph = iplt.trace(model)
    values = of_layer(graph, criteria.scores(graph, criteria.L2(reduce=reduce)), "stem")
    norms = [np.linalg.norm(last_axis(model.get_layer(n)), axis=1) for n in ("stem", "body")]
    np.testing.assert_allclose(values, how(norms, axis=0), rtol=1e-6)

    model = keras.Sequential([keras.Input((5,)), layers.Dense(2 * 3 * 4, name="dense"),
                              layers.Reshape((2, 3, 4)), layers.Conv2D(2, 2)])  # fmt: skip
    graph = iplt.trace(model)
    values = criteria.scores(graph, criteria.L2(reduce=reduce))[graph.groups[0].classes]
    norms = np.linalg.norm(last_axis(model.get_layer("dense")), axis=1).reshape(6, 4)
    np.testing.assert_allclose(values, how(norms, axis=0), rtol=1e-6)


def test_batch_norm_scale():
    """|gamma|, of all batch norms that a channel meets."""
    model = residual()
    model.get_layer("stem_norm").gamma.assign([1.0, -2.0, 3.0, 0.0])
    model.get_layer("body_norm").gamma.assign([3.0, 0.0, -1.0, 0.5])
    graph = iplt.trace(model)
    found = of_layer(graph, criteria.scores(graph, "bn_scale"), "stem")
    np.testing.assert_allclose(found, [2.0, 1.0, 2.0, 0.25])
    found = of_layer(graph, criteria.scores(graph, criteria.BatchNormScale("max")), "body")
    np.testing.assert_allclose(found, [3.0, 2.0, 3.0, 0.5])


def test_batch_norm_scale_names_the_layer_without_one():
    """Unless the groups in question all have one."""
    graph = iplt.trace(convolutional())
    with pytest.raises(
        iplt.errors.CriterionError, match=r"'bn_scale'.*'second'.*no BatchNormalization"
    ):
        criteria.scores(graph, "bn_scale")
    values = criteria.scores(graph, "bn_scale", groups=graph.groups[:1])
    gamma = numbers(graph.model.get_layer("norm").gamma)
    np.testing.assert_allclose(of_layer(graph, values, "first"), np.abs(gamma))
    unscaled = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="plain"),
                                 layers.BatchNormalization(scale=False), layers.Flatten(),
                                 layers.Dense(2)])  # fmt: skip
    with pytest.raises(iplt.errors.CriterionError, match="'plain'"):
        criteria.scores(iplt.trace(unscaled), "bn_scale")


def test_random_scores_depend_on_the_seed_alone():
    """Not on the weights, nor on what else is scored."""
    graph = iplt.trace(convolutional())
    first = criteria.scores(graph, "random")
    randomize(graph.model, seed=3)
    np.testing.assert_array_equal(first, criteria.scores(graph, "random"))
    other = criteria.scores(graph, criteria.Random(seed=1))
    classes = graph.groups[1].classes
    assert not np.array_equal(first[classes], other[classes])
    alone = criteria.scores(graph, "random", groups=graph.groups[1:2])
    np.testing.assert_array_equal(first[classes], alone[classes])


# -- properties ------------------------------------------------------------------------------------

SMALL = st.floats(-4, 4, width=32)
KERNELS = arrays(np.float32, (5, 4), elements=SMALL)


def score_kernel(kernel, criterion):
    graph = dense_graph()
    graph.model.layers[0].kernel.assign(kernel)
    return criteria.scores(graph, criterion)[graph.groups[0].classes]


def dense_graph(cache=[]):  # noqa: B006 - one model for all examples
    if not cache:
        model = keras.Sequential([keras.Input((5,)), layers.Dense(4), layers.Dense(2)])
        cache.append(iplt.trace(model))
    return cache[0]


@settings(deadline=None, max_examples=50)
@given(KERNELS, st.integers(0, 3), st.floats(1, 8, width=32))
def test_scaling_a_filter_up_never_lowers_its_norm(kernel, place, factor):
    """Nor changes that of another filter."""
    larger = kernel.copy()
    larger[:, place] *= np.float32(factor)
    for kind in ("l1", "l2", "lp", "l2_mean", "lamp"):
        before, after = score_kernel(kernel, kind), score_kernel(larger, kind)
        assert after[place] >= before[place] * (1 - 1e-6)
        if kind != "lamp":
            assert np.array_equal(np.delete(before, place), np.delete(after, place))


@settings(deadline=None, max_examples=50)
@given(KERNELS, st.permutations(range(4)))
def test_the_order_of_filters_does_not_matter(kernel, order):
    """A permuted layer has permuted scores."""
    for kind in ("l1", "l2_mean", "fpgm", "lamp"):
        a, b = score_kernel(kernel, kind)[order], score_kernel(kernel[:, order], kind)
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=50)
@given(KERNELS)
def test_criteria_against_loops_on_any_weights(kernel):
    """Zeros, duplicates and ties included."""
    for kind in KINDS:
        if kind != "random":
            # A distance of nothing is only nothing up to rounding.
            np.testing.assert_allclose(
                score_kernel(kernel, kind), naive(kind, kernel.T), rtol=1e-5, atol=1e-5
            )


@settings(deadline=None, max_examples=50)
@given(KERNELS, arrays(np.float32, (5, 1), elements=SMALL))
def test_distances_do_not_depend_on_the_origin(kernel, shift):
    """FPGM sees filters relative to each other."""
    np.testing.assert_allclose(
        score_kernel(kernel, "fpgm"), score_kernel(kernel + shift, "fpgm"), rtol=1e-4, atol=1e-4
    )


@settings(deadline=None, max_examples=50)
@given(KERNELS)
def test_lamp_is_a_share(kernel):
    """Between 0 and 1, with 1 for a largest filter that has no equal."""
    values, norms = score_kernel(kernel, "lamp"), np.square(kernel.astype("float64")).sum(0)
    assert (values >= 0).all() and (values <= 1).all()
    if (norms == norms.max()).sum() == 1:
        assert values[norms.argmax()] == 1


# -- criteria from gradients -----------------------------------------------------------------------


def loss_of(model, x, y):
    return float(np.mean((numbers(model(x, training=False)).astype("float64") - y) ** 2))


@pytest.mark.parametrize("name", ["first", "second", "hidden"])
def test_taylor_is_the_slope_of_the_loss_along_a_gate(name):
    """A gate that scales a filter's kernel and bias: |∂loss / ∂gate|, per batch, averaged."""
    model = convolutional("tanh")
    model.compile(loss="mse")
    graph = iplt.trace(model)
    x, y = images(), labels()
    found = of_layer(graph, criteria.scores(graph, "taylor", (x, y)), name)
    layer, step = model.get_layer(name), 1e-2
    kernel, bias = numbers(layer.kernel), numbers(layer.bias)
    expected = np.zeros(len(found))
    for i in range(len(found)):
        for part in (slice(0, 32), slice(32, 40)):
            losses = []
            for gate in (1 + step, 1 - step):
                factor = np.ones(len(found))
                factor[i] = gate
                layer.kernel.assign(kernel * factor)
                layer.bias.assign(bias * factor)
                losses.append(loss_of(model, x[part], y[part]))
            expected[i] += abs(losses[0] - losses[1]) / (2 * step) / 2
        layer.kernel.assign(kernel)
        layer.bias.assign(bias)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-5)


def linear():
    """Two dense layers, for which gradients are quickly written down."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="hidden"), layers.Dense(2)])
    randomize(model)
    model.compile(loss="mse")
    return model


def gradients_by_hand(model, x, y):
    """∂loss/∂kernel, ∂loss/∂bias and ∂loss/∂output of the first layer."""
    first, second = model.layers
    hidden = x @ numbers(first.kernel) + numbers(first.bias)
    error = hidden @ numbers(second.kernel) + numbers(second.bias) - y
    slope = (2 * error / error.size) @ numbers(second.kernel).T
    return x.T @ slope, slope.sum(0), (hidden * slope).sum(0)


def test_taylor_is_activation_times_gradient():
    """Because a filter's output is linear in its weights and bias."""
    model = linear()
    graph = iplt.trace(model)
    x, y = labels(40, 3), labels(40, 2, seed=5)
    found = of_layer(graph, criteria.scores(graph, "taylor", (x, y)), "hidden")
    parts = [gradients_by_hand(model, x[s], y[s])[2] for s in (slice(0, 32), slice(32, 40))]
    np.testing.assert_allclose(found, np.abs(parts).mean(0), rtol=1e-4)


def test_gradient_is_the_norm_of_the_kernels_gradient():
    """Per batch, averaged."""
    model = linear()
    graph = iplt.trace(model)
    x, y = labels(40, 3), labels(40, 2, seed=5)
    found = of_layer(graph, criteria.scores(graph, "gradient", (x, y)), "hidden")
    parts = [
        np.linalg.norm(gradients_by_hand(model, x[s], y[s])[0], axis=0)
        for s in (slice(0, 32), slice(32, 40))
    ]
    np.testing.assert_allclose(found, np.mean(parts, 0), rtol=1e-4)


def test_taylor_leaves_weight_regularisation_out():
    """And puts it back, also when something fails."""
    plain, decayed = linear(), linear()
    for model in (plain, decayed):
        model.set_weights(plain.get_weights())
    regularizer = keras.regularizers.L2(0.5)
    decayed.layers[0].kernel.regularizer = regularizer
    data = labels(40, 3), labels(40, 2, seed=5)
    found = [criteria.scores(iplt.trace(m), "taylor", data) for m in (plain, decayed)]
    np.testing.assert_allclose(*found, rtol=1e-5)
    with pytest.raises(iplt.errors.DataError):
        criteria.scores(iplt.trace(decayed), "taylor", labels(40, 3))
    assert decayed.layers[0].kernel.regularizer is regularizer


def test_taylor_of_layers_that_do_not_train():
    """A frozen backbone can be pruned too."""
    model = linear()
    data = labels(40, 3), labels(40, 2, seed=5)
    before = criteria.scores(iplt.trace(model), "taylor", data)
    model.layers[0].trainable = False
    np.testing.assert_allclose(before, criteria.scores(iplt.trace(model), "taylor", data))


@pytest.mark.parametrize("kind", ["taylor", "gradient"])
def test_gradients_reach_every_kind_of_layer(kind):
    """Embedding, recurrent layer, attention; losses that layers add; several outputs."""
    token = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 4, name="embedding")(token)
    x = layers.LSTM(3, return_sequences=True, name="lstm")(x)
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = layers.Dense(4, activity_regularizer="l2", name="dense")(x)
    x = layers.Flatten()(x)
    model = keras.Model(token, [layers.Dense(2, name="a")(x), layers.Dense(1, name="b")(x)])
    randomize(model)
    model.compile(loss={"a": "mse", "b": "mae"}, loss_weights={"a": 1.0, "b": 0.5})
    data = np.arange(30).reshape(6, 5) % 7, {"a": labels(6, 2), "b": labels(6, 1)}
    graph = iplt.trace(model)
    values = criteria.scores(graph, kind, data)
    for group in graph.groups:
        assert (values[group.classes] > 0).all(), group


def test_a_loss_of_the_layers_own_needs_no_labels():
    """An autoencoder that says with `add_loss` what it minimises."""

    class Reconstruction(layers.Layer):
        def call(self, x, y):
            self.add_loss(keras.ops.mean(keras.ops.square(x - y)))
            return y

    x = keras.Input((3,))
    y = layers.Dense(3)(layers.Dense(2, name="code")(x))
    model = keras.Model(x, Reconstruction()(x, y))
    randomize(model)
    given = labels(10, 3)
    plain = keras.Model(x, y)
    plain.compile(loss="mse")
    expected = criteria.scores(iplt.trace(plain), "taylor", (given, given))
    model.compile()
    graph = iplt.trace(model)
    found = of_layer(graph, criteria.scores(graph, "taylor", given), "code")
    np.testing.assert_allclose(found, expected[np.isfinite(expected)], rtol=1e-4)


# -- criteria from activations ---------------------------------------------------------------------


def test_activations_are_those_that_the_next_layer_sees():
    """After batch norm, activation and pooling."""
    model = convolutional()
    graph = iplt.trace(model)
    x = images()
    found = {kind: criteria.scores(graph, kind, x) for kind in ("apoz", "activation")}
    for name, seen in (("first", "activation"), ("second", "pool"), ("hidden", "hidden")):
        tensor = model.get_layer(seen).output
        numbers_seen = numbers(keras.Model(model.input, tensor)(x, training=False))
        axes = tuple(range(numbers_seen.ndim - 1))
        np.testing.assert_allclose(
            of_layer(graph, found["apoz"], name), (numbers_seen != 0).mean(axes), rtol=1e-6
        )
        np.testing.assert_allclose(
            of_layer(graph, found["activation"], name), np.abs(numbers_seen).mean(axes), rtol=1e-4
        )


def test_every_layer_that_sees_a_channel_counts_once():
    """In a residual stream: the next convolution before, a flattened map after the addition."""
    model = residual()
    graph = iplt.trace(model)
    x = images()
    views = [model.get_layer(n).output for n in ("stem_norm", "relu")]
    stem, relu = (numbers(v) for v in keras.Model(model.input, views)(x, training=False))
    stem, relu = np.abs(stem).mean((0, 1, 2)), np.abs(relu).mean(0)
    found = of_layer(graph, criteria.scores(graph, "activation", x), "body")
    # One number from the convolution, and one per position from the dense layer.
    expected = (stem + relu.sum((0, 1))) / (1 + relu.shape[0] * relu.shape[1])
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    found = criteria.scores(graph, criteria.Activation(reduce="max"), x)
    expected = np.maximum(stem, relu.max((0, 1)))
    np.testing.assert_allclose(of_layer(graph, found, "body"), expected, rtol=1e-4)


class Block(layers.Layer):
    """A custom layer with layers inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(4, activation="relu", name="inner")
        self.outer = layers.Dense(3, activation="relu", name="outer")

    def call(self, x):
        return self.outer(self.inner(x))

    def compute_output_shape(self, shape):
        return (*shape[:-1], 3)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(4, activation="relu", name="inner")
        self.outer = layers.Dense(3, activation="relu", name="outer")
        self.head = layers.Dense(2, name="head")

    def call(self, x):
        return self.head(keras.ops.tanh(self.outer(self.inner(x))))


def inside(kind):
    """A model in whose part two dense layers follow each other, these, and inputs."""
    if kind == "subclassed":
        model = Subclassed()
        model(labels(2, 3))
        return model, model.inner, model.outer, labels(10, 3)
    if kind == "custom layer":
        block = Block(name="block")
        model = keras.Sequential([keras.Input((3,)), block, layers.Dense(2)])
        return model, block.inner, block.outer, labels(10, 3)
    inner = layers.Dense(4, activation="relu", name="inner")
    outer = layers.Dense(3, activation="relu", name="outer")
    part = keras.Sequential([keras.Input((3,)), inner, layers.Dropout(0.5), outer], name="part")
    if kind == "nested":
        x = keras.Input((3,))
        return keras.Model(x, layers.Dense(2)(part(x))), inner, outer, labels(10, 3)
    x = keras.Input((4, 3))
    y = layers.LSTM(2)(layers.TimeDistributed(part)(x))
    return keras.Model(x, y), inner, outer, labels(10, 12).reshape(10, 4, 3)


@pytest.mark.parametrize("kind", ["nested", "subclassed", "custom layer", "time distributed"])
def test_activations_inside_models_and_custom_layers(kind):
    """What is inside is entered, not looked at from outside."""
    model, inner, outer, x = inside(kind)
    randomize(model)
    graph = iplt.trace(model)
    values = criteria.scores(graph, "activation", x)
    hidden = np.maximum(x @ numbers(inner.kernel) + numbers(inner.bias), 0)
    last = np.maximum(hidden @ numbers(outer.kernel) + numbers(outer.bias), 0)
    last = np.tanh(last) if kind == "subclassed" else last
    axes = tuple(range(x.ndim - 1))
    found = [values[group.classes] for group in graph.groups]
    np.testing.assert_allclose(found[0], np.abs(hidden).mean(axes), rtol=1e-4)
    np.testing.assert_allclose(found[1], np.abs(last).mean(axes), rtol=1e-4)


def test_channels_that_no_weights_take_in_are_seen_where_they_end():
    """Queries and keys meet in a product, and go no further."""
    x = keras.Input((5, 3))
    query, key = layers.Dense(4, name="query")(x), layers.Dense(4, name="key")(x)
    attention = keras.ops.softmax(keras.ops.einsum("bqc,bkc->bqk", query, key))
    y = keras.ops.einsum("bqk,bkc->bqc", attention, layers.Dense(3, name="value")(x))
    model = keras.Model(x, layers.Dense(2)(y))
    randomize(model)
    graph = iplt.trace(model)
    given = labels(10, 15).reshape(10, 5, 3)
    values = criteria.scores(graph, "activation", given)
    seen = [numbers(model.get_layer(n)(given)) for n in ("query", "key")]
    expected = np.abs(seen).mean((0, 1, 2))
    np.testing.assert_allclose(of_layer(graph, values, "query"), expected, rtol=1e-4)


def test_channels_that_stay_inside_a_layer_cannot_be_observed():
    """The error names the layer; without it the others have their scores."""
    x = keras.Input((5, 3))
    y = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    graph = iplt.trace(keras.Model(x, layers.Dense(2)(y)))
    given = labels(10, 15).reshape(10, 5, 3)
    with pytest.raises(
        iplt.errors.CriterionError, match=r"'apoz'.*'attention'.*do not leave their layer"
    ):
        criteria.scores(graph, "apoz", given)


# -- what the next layers put out without a channel ------------------------------------------------


def contributions(model, x, name, layer):
    """(channels, numbers): what each input channel alone brings to what a layer puts out."""
    given = numbers(keras.Model(model.input, model.get_layer(name).output)(x))
    bias = numbers(layer(np.zeros_like(given)))
    alone = [given * (np.arange(given.shape[-1]) == c) for c in range(given.shape[-1])]
    return np.stack([(numbers(layer(one)) - bias).ravel() for one in alone]).astype("float64")


def greedily(brought):
    """The order in which they go: always the one that leaves the others' sum nearest to all."""
    gone = []
    while len(gone) < len(brought):
        left = [c for c in range(len(brought)) if c not in gone]
        gone.append(min(left, key=lambda c: np.square(brought[[*gone, c]].sum(0)).sum()))
    return gone


TAKERS = {
    "convolution": lambda: layers.Conv2D(5, 3, padding="same", strides=2),
    "dense": lambda: layers.Dense(5),
    "depthwise and pointwise": lambda: layers.SeparableConv2D(5, 3),
    "transposed": lambda: layers.Conv2DTranspose(4, 3, strides=2),
}


def taken(kind):
    """A model of a layer and one that takes its channels in; what each brings; its scores."""
    x = image = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="first")(x)
    taker = TAKERS[kind]()
    graph = iplt.trace(keras.Model(image, taker(x)))
    randomize(graph.model)
    brought = contributions(graph.model, images(1), "first", taker)
    return brought, lambda name: of_layer(graph, criteria.scores(graph, name, images(1)), "first")


@pytest.mark.parametrize("kind", TAKERS)
def test_thinet_goes_step_by_step(kind):
    """As a search that adds up the layer's output anew for each channel that may go next."""
    brought, scores = taken(kind)
    assert np.argsort(scores("thinet")).tolist() == greedily(brought)
    np.testing.assert_allclose(np.sort(scores("thinet")), np.arange(6) / 6)


@pytest.mark.parametrize("kind", TAKERS)
def test_lasso_holds_channels_for_as_long_as_the_exact_path_does(kind):
    """But where two go at nearly the same penalty."""
    path = pytest.importorskip("sklearn.linear_model").lars_path_gram
    brought, scores = taken(kind)
    products = brought @ brought.T
    penalties, _, betas = path(products.sum(0), products, n_samples=1, method="lasso")
    held = np.array([penalties[:-1][beta[1:] != 0].max(initial=0) for beta in betas])
    places = scores("lasso")
    pairs = [(a, b) for a in range(6) for b in range(6) if held[a] > 1.2 * held[b]]
    assert len(pairs) > 5 and all(places[a] > places[b] for a, b in pairs)


@pytest.mark.parametrize("seed", range(5))
def test_lasso_where_channels_are_much_alike(seed):
    """Then how large a share is in the end does not tell for how long it is held."""
    path = pytest.importorskip("sklearn.linear_model").lars_path_gram
    random = np.random.default_rng(seed)
    brought = random.normal(size=(12, 4)) @ random.normal(size=(4, 60))
    brought += 0.3 * random.normal(size=brought.shape)
    products = brought @ brought.T
    penalties, _, betas = path(products.sum(0), products, n_samples=1, method="lasso")
    held = np.array([penalties[:-1][beta[1:] != 0].max(initial=0) for beta in betas])
    places = criteria.Lasso().places(products)
    pairs = [(a, b) for a in range(12) for b in range(12) if held[a] > 1.3 * held[b]]
    assert len(pairs) > 30 and all(places[a] > places[b] for a, b in pairs)


def test_all_layers_that_take_a_channel_in_have_a_say():
    """Each relative to what it is given: a large one does not drown the others."""
    x = keras.Input((4,))
    first = layers.Dense(3, use_bias=False, name="first")
    takers = [layers.Dense(3, use_bias=False) for _ in range(2)]
    graph = iplt.trace(keras.Model(x, [taker(first(x)) for taker in takers]))
    first.kernel.assign(np.eye(4, 3))
    takers[0].kernel.assign(1000 * np.diag([1.0, 2, 2]))
    takers[1].kernel.assign(np.diag([4.0, 1, 2]))
    values = of_layer(graph, criteria.scores(graph, "thinet", np.eye(4)), "first")
    assert np.argsort(values).tolist() == [1, 2, 0]  # 4/9 + 1/21, 4/9 + 4/21, 1/9 + 16/21


@pytest.mark.parametrize("name", ["thinet", "lasso"])
def test_channels_of_which_nothing_arrives(name):
    """There is an order all the same, and no number that is none."""
    graph = iplt.trace(convolutional())
    for layer in graph.model.layers[1:]:
        layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    values = of_layer(graph, criteria.scores(graph, name, images(4)), "first")
    np.testing.assert_allclose(np.sort(values), np.arange(6) / 6)


def test_what_no_product_takes_in_has_no_place():
    """The layer is named, and what to do."""
    x = keras.Input((5, 4))
    y = layers.Dense(2)(layers.LSTM(3)(layers.Dense(6, name="behind")(x)))
    with pytest.raises(iplt.errors.CriterionError, match=r"'behind': no dense layer or convol"):
        iplt.plan(keras.Model(x, y), 0.5, criterion="thinet", data=np.zeros((4, 5, 4)))


# -- data ------------------------------------------------------------------------------------------


class Sequence(keras.utils.PyDataset):
    def __init__(self, x, y, count=2):
        super().__init__()
        self.x, self.y, self.count = x, y, count

    @property
    def num_batches(self):
        return self.count

    def __getitem__(self, i):
        return self.x[32 * i : 32 * i + 32], self.y[32 * i : 32 * i + 32]


def tensorflow_dataset(x, y):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(32)


DATA = {
    "arrays": lambda x, y: (x, y),
    "tensors": lambda x, y: (keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)),
    "weighted": lambda x, y: (x, y, np.ones(len(x), "float32")),
    "float64": lambda x, y: (x.astype("float64"), y.astype("float64")),
    "list of batches": lambda x, y: [(x[:32], y[:32]), (x[32:], y[32:])],
    "batches as lists": lambda x, y: [[x[:32], y[:32]], [x[32:], y[32:]]],
    "generator": lambda x, y: ((x[s], y[s]) for s in (slice(0, 32), slice(32, 40))),
    "PyDataset": Sequence,
    "tf.data": tensorflow_dataset,
    "named inputs": lambda x, y: ({"image": x}, y),
}


@pytest.mark.parametrize("form", DATA)
def test_all_forms_of_data_give_the_same_scores(form):
    """Arrays are cut in batches of 32; others bring their own batches."""
    model = convolutional()
    model.compile(loss="mse")
    graph = iplt.trace(model)
    for kind in ("taylor", "activation", "lasso"):
        expected = criteria.scores(graph, kind, (images(), labels()))
        found = criteria.scores(graph, kind, DATA[form](images(), labels()))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def two_inputs(structure):
    a, b = keras.Input((3,), name="a"), keras.Input((4,), name="b")
    x = layers.Concatenate()([layers.Dense(3, name="of_a")(a), layers.Dense(3, name="of_b")(b)])
    inputs = {"b": b, "a": a} if structure == "dict" else [a, b]
    model = keras.Model(inputs, layers.Dense(2)(x))
    randomize(model)
    model.compile(loss="mse")
    return model


@pytest.mark.parametrize("structure", ["dict", "list"])
def test_several_inputs(structure):
    """By name or in order, with and without labels."""
    graph = iplt.trace(two_inputs(structure))
    a, b, y = labels(10, 3), labels(10, 4, seed=2), labels(10, 2, seed=3)
    named = {"a": a, "b": b}
    given = named if structure == "dict" else [a, b]
    expected = np.abs(a @ numbers(graph.model.get_layer("of_a").kernel)
                      + numbers(graph.model.get_layer("of_a").bias)).mean(0)  # fmt: skip
    for data in (given, named, (given, y), (named, y), [(given, y)]):
        values = criteria.scores(graph, "activation", data)
        np.testing.assert_allclose(of_layer(graph, values, "of_a"), expected, rtol=1e-4)
    for data in ((given, y), (named, y)):
        assert (of_layer(graph, criteria.scores(graph, "taylor", data), "of_b") > 0).all()


def test_a_last_axis_of_one_may_be_missing():
    """As in Keras: grey images without a channel axis."""
    x = image = keras.Input((8, 8, 1))
    x = layers.Flatten()(layers.Conv2D(3, 3, activation="relu")(x))
    graph = iplt.trace(keras.Model(image, layers.Dense(2)(x)))
    grey = images()[..., 0]
    np.testing.assert_array_equal(
        criteria.scores(graph, "apoz", grey), criteria.scores(graph, "apoz", grey[..., None])
    )


def state(model):
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return [np.array(numbers(v)) for v in variables]


def test_scores_leave_the_model_as_it_is():
    """Weights, statistics, seeds, optimizer and metrics, also where layers add losses."""
    x = image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, kernel_regularizer="l2", activity_regularizer="l1")(x)
    x = layers.Dropout(0.5)(layers.BatchNormalization()(x))
    x = layers.Flatten()(layers.GaussianNoise(0.1)(x))
    model = keras.Model(image, layers.Dense(2)(x))
    model.compile(optimizer="adam", loss="mse", metrics=["mae"])
    model.fit(images(), labels(), verbose=0)
    before = state(model)
    for kind in ("taylor", "gradient", *UNLABELLED, "l2", "bn_scale"):
        criteria.scores(iplt.trace(model), kind, (images(), labels()))
        for a, b in zip(before, state(model), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=kind)
    model.fit(images(), labels(), verbose=0)


def test_states_of_recurrent_layers_stay():
    """A stateful layer keeps its state from call to call, but not from our calls."""
    x = keras.Input(batch_shape=(4, 5, 3))
    y = layers.LSTM(3, stateful=True, name="lstm")(x)
    model = keras.Model(x, layers.Dense(2)(y))
    graph = iplt.trace(model)
    given = labels(4, 15).reshape(4, 5, 3)
    first = criteria.scores(graph, "activation", given)
    for value in model.get_layer("lstm").states:
        assert not numbers(value).any()
    np.testing.assert_array_equal(first, criteria.scores(graph, "activation", given))


def test_the_model_runs_as_for_inference():
    """Also where a layer was called with `training=True`, as `predict` overrules it."""
    x = keras.Input((3,))
    y = layers.Dropout(0.5)(layers.Dense(4, name="hidden")(x), training=True)
    model = keras.Model(x, layers.Dense(2)(y))
    randomize(model)
    graph = iplt.trace(model)
    given = labels(10, 3)
    found = of_layer(graph, criteria.scores(graph, "activation", given), "hidden")
    expected = numbers(model.get_layer("hidden")(given))
    np.testing.assert_allclose(found, np.abs(expected).mean(0), rtol=1e-4)


def test_observe_shows_what_goes_into_each_call():
    """In order, and only what is wanted."""
    model = convolutional()
    graph = iplt.trace(model)
    seen = []
    observe(graph, batches(model, images(5)), lambda call, inputs: seen.append((call, inputs)))
    assert [call.path for call, _ in seen] == [layer.name for layer in model.layers[1:]]
    for _, inputs in seen:
        for x, values in inputs:
            assert all(n in (None, m) for n, m in zip(x.shape, values.shape, strict=True))
    whole = marked(graph, [group.classes for group in graph.groups])
    wanted = consumers(graph, whole)
    seen.clear()
    observe(graph, batches(model, images(5)), lambda call, inputs: seen.append((call, inputs)),
            lambda call: id(call) in wanted)  # fmt: skip
    assert [call.path for call, _ in seen] == ["second", "hidden", "head"]


# -- what goes wrong -------------------------------------------------------------------------------


def check_data(message, kind, data, model=None):
    graph = iplt.trace(model or compiled())
    with pytest.raises(iplt.errors.DataError, match=message):
        criteria.scores(graph, kind, data)


def compiled():
    model = convolutional()
    model.compile(loss="mse")
    return model


@pytest.mark.parametrize("kind", ["taylor", "gradient", "apoz", "activation"])
def test_criteria_that_need_data_say_so(kind):
    """No silent fallback."""
    check_data(rf"'{kind}' expected data=\(x, y\).*received: None", kind, None)


def test_data_of_a_wrong_shape():
    """Named with what was expected and what came."""
    wrong = r"input 'image' expected shape \(None, 8, 8, 3\), received: \(32, 8, 8, 4\)"
    for kind in ("taylor", "apoz"):
        check_data(wrong, kind, (np.ones((40, 8, 8, 4)), labels()))
    check_data(r"received: \(3, 3\)", "apoz", np.ones((3, 3)))
    check_data(r"expected 1 inputs \['image'\], received: 2 arrays", "apoz", ([images()] * 2, None))
    check_data("same number of examples, received lengths: 40, 39", "apoz", (images(), labels(39)))
    check_data("lacks \\['image'\\]", "apoz", {"picture": images()})
    check_data("finite numbers", "apoz", np.full((4, 8, 8, 3), np.nan))


def test_data_of_a_wrong_kind():
    """A name, a number, nothing, too much, no end."""
    check_data("received: 'mnist' of type str", "apoz", "mnist")
    check_data("received: 3 of type int", "apoz", 3)
    check_data("at least one batch", "apoz", [])
    check_data(r"expected x.*at least one batch.*received: \(\)", "apoz", ())
    check_data("same number of examples, received lengths: nothing", "apoz", (None,))
    check_data("received: a tuple of 4 entries", "apoz", [(images(), 1, 2, 3)])
    check_data("endless", "apoz", Sequence(images(), labels(), count=None))
    tf = pytest.importorskip("tensorflow")
    endless = tf.data.Dataset.from_tensors(images(2)).repeat()
    check_data(r"dataset.take", "apoz", endless)


def test_gradients_need_a_loss_and_labels():
    """Each its own message."""
    check_data("not compiled", "taylor", (images(), labels()), convolutional())
    check_data("expected data as", "taylor", images())


def test_data_that_lead_to_no_finite_score():
    """Labels are not looked at, but what comes of them is."""
    check_data("'taylor' is not finite for channels of 'first'.*in the data", "taylor",
               (images(), np.full((40, 2), np.nan)))  # fmt: skip


def test_weights_that_are_not_finite():
    """Named, whatever the criterion."""
    model = compiled()
    kernel = numbers(model.get_layer("second").kernel).copy()
    kernel[0, 0, 0, :2] = np.nan, np.inf
    model.get_layer("second").kernel.assign(kernel)
    graph = iplt.trace(model)
    data = images(), labels()
    for kind in (*KINDS, "taylor", "gradient", "activation", lambda w: np.zeros(len(w))):
        if kind != "random":
            with pytest.raises(
                iplt.errors.WeightsError, match=r"'second'.*second/kernel.* 2 NaN or inf"
            ):
                criteria.scores(graph, kind, data)
    model = residual()
    model.get_layer("body_norm").gamma.assign([1.0, np.nan, 1.0, 1.0])
    with pytest.raises(iplt.errors.WeightsError, match=r"'body_norm'.*body_norm/gamma"):
        criteria.scores(iplt.trace(model), "bn_scale")


def test_weights_that_no_score_depends_on_may_be_anything():
    """The frozen head is nobody's filter; only `Energy` asks what it reads."""
    model = convolutional()
    model.get_layer("head").kernel.assign(np.full((4, 2), np.nan))
    graph = iplt.trace(model)
    assert np.isfinite(of_layer(graph, criteria.scores(graph, "l2"), "hidden")).all()
    with pytest.raises(iplt.errors.WeightsError, match=r"'head'.*head/kernel.* 8 NaN"):
        criteria.scores(graph)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda w: w, r"expected shape \(6,\), one number per filter, received: \(6, 27\)"),
        (lambda w: 1.0, r"received: \(\)"),
        (lambda w: w[1:, 0], r"received: \(5,\)"),
        (lambda w: np.full(len(w), np.nan), "'<lambda>'.*'first'.*finite numbers, received: nan"),
        (lambda w: [*w[1:, 0], np.inf], "received: inf for filter 5"),
    ],
)
def test_functions_of_users_are_checked(function, message):
    """Shape and numbers, with the layer named."""
    with pytest.raises(iplt.errors.CriterionError, match=message):
        criteria.scores(iplt.trace(convolutional()), function)


def test_functions_of_users_get_a_copy():
    """What they do to the weights is their own affair."""

    def spoil(weights):
        weights[:] = 0
        return weights[:, 0]

    model = convolutional()
    before = model.get_weights()
    values = criteria.scores(iplt.trace(model), spoil)
    assert (values[np.isfinite(values)] == 0).all()
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_functions_may_return_tensors():
    """Of the backend in use."""
    graph = iplt.trace(convolutional())
    found = criteria.scores(graph, lambda w: keras.ops.sum(keras.ops.abs(w), axis=1))
    np.testing.assert_allclose(found, criteria.scores(graph, "l1"), rtol=1e-5)


def test_a_criterion_of_ones_own():
    """Subclass and override `score`."""

    class Largest(criteria.Criterion):
        def score(self, filters):
            return np.abs(filters.weights).max(1) / filters.size

    graph = iplt.trace(residual())
    found = of_layer(graph, criteria.scores(graph, Largest), "stem")
    parts = [last_axis(graph.model.get_layer(n)) for n in ("stem", "body")]
    expected = np.mean([np.abs(w).max(1) / w.shape[1] for w in parts], 0)
    np.testing.assert_allclose(found, expected)
    with pytest.raises(NotImplementedError, match="Criterion must override score"):
        criteria.scores(graph, criteria.Criterion())


# -- names and settings ----------------------------------------------------------------------------


def test_get_knows_all_names():
    """And objects, classes and functions."""
    for name in [*KINDS, "bn_scale", "taylor", "gradient", *UNLABELLED]:
        assert criteria.get(name).name == name
    l2 = criteria.L2(reduce="max")
    assert criteria.get(l2) is l2
    assert isinstance(criteria.get(criteria.LAMP), criteria.LAMP)
    assert criteria.get(max).name == "max"


def test_get_lists_what_exists():
    """When it does not know a name."""
    with pytest.raises(iplt.errors.CriterionError, match=r"'apoz'.*'taylor'.*received: 'l3'"):
        criteria.get("l3")
    with pytest.raises(iplt.errors.CriterionError, match="received: None"):
        criteria.get(None)


@pytest.mark.parametrize(
    "criterion",
    [
        criteria.L1(mean=True),
        criteria.L2(reduce="max"),
        criteria.Lp(p=3, mean=True, reduce="sum"),
        criteria.GeometricMedian("l2"),
        criteria.LAMP(),
        criteria.BatchNormScale("max"),
        criteria.Random(seed=7),
        criteria.Taylor("sum"),
        criteria.Gradient(),
        criteria.APoZ(),
        criteria.Activation("max"),
        criteria.ThiNet(),
        criteria.Lasso(),
        criteria.Custom(np.ptp, "max"),
    ],
    ids=lambda criterion: criterion.name,
)
def test_criteria_come_back_from_their_config(criterion):
    """As Keras objects do."""
    again = type(criterion).from_config(criterion.get_config())
    assert type(again) is type(criterion) and vars(again) == vars(criterion)
    assert repr(again) == repr(criterion)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: criteria.L2(reduce="median"), "reduce: expected one of .* received: 'median'"),
        (lambda: criteria.Lp(p=0), "p: expected a positive number, received: 0"),
        (lambda: criteria.Lp(p="2"), "received: '2'"),
        (lambda: criteria.Lp(p=float("inf")), "received: inf"),
        (lambda: criteria.Random(seed=-1), "seed: expected an integer.*received: -1"),
        (lambda: criteria.Random(seed=0.5), "received: 0.5"),
        (lambda: criteria.Custom("l2"), "expected a function.*received: 'l2'"),
    ],
)
def test_settings_are_checked(make, message):
    """Expected this, received that."""
    with pytest.raises(iplt.errors.CriterionError, match=message):
        make()


def test_public_names():
    """Everything in `__all__` is there, and every name stands for something in it."""
    for name in criteria.__all__:
        assert hasattr(criteria, name)
    kinds = {type(criteria.get(n)).__name__ for n in KINDS}
    assert kinds <= set(criteria.__all__)
