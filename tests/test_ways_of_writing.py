"""Ways in which people write layers and models: the law holds for them, in place as well.

Sizes by `ops.shape`, weights used beside their layer, layers called on numbers, tied weights,
regularisers of one size, dicts of inputs, outputs that nobody uses.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops
from support.law import check_law, difference, random_plan, randomize
from support.random_graphs import Backwards, RootMeanSquare

import keras_iplt as iplt
from keras_iplt.graph.costs import parameters
from keras_iplt.surgery import rewriter

pytestmark = pytest.mark.any_backend

WRITTEN = {}
# Those that run in every check; the others in the longer one.
SHORT = {
    "heads_by_shape", "embedding_of_a_range_of_unknown_length", "one_more_than_scale",
    "variables_before_tensors", "tied_weights", "kernel_regulariser_of_a_size",
    "an_output_that_nobody_uses", "layers_that_put_out_none",
}  # fmt: skip


def written(build):
    WRITTEN[build.__name__] = build
    return build


class Sized(layers.Layer):
    """A layer of two sizes, whose config tells both."""

    def __init__(self, inner, units, **options):
        super().__init__(**options)
        self.inner, self.units = inner, units

    def get_config(self):
        return {**super().get_config(), "inner": self.inner, "units": self.units}


def tokens(length=5, features=4):
    return keras.Input((length, features))


def after(x, layer, *more):
    """A model of a layer between others that can be pruned."""
    y = layer(layers.Dense(6, activation="relu")(x), *more)
    return keras.Model(x, layers.Dense(2)(layers.Dense(5, activation="tanh")(y)))


# -- lengths -------------------------------------------------------------------------------------


class Merged(Sized):
    """The batch, which is not known, in a shape; and the channels as what is left."""

    def build(self, shape):
        self.first, self.second = layers.Dense(self.inner), layers.Dense(self.units)
        self.first.build(shape)
        self.second.build((*shape[:-1], self.inner))

    def call(self, x):
        b, n, _ = ops.shape(x)
        return self.second(ops.reshape(self.first(x), (b, n, -1)))


@written
def batch_in_a_shape():
    return after(tokens(), Merged(7, 6))


@written
def batch_and_length_in_a_shape():
    return after(tokens(None), Merged(7, 6))


class Heads(Sized):
    """Attention, each head of as many channels as there are left for it."""

    def build(self, shape):
        self.three = [layers.Dense(self.inner) for _ in range(3)]
        self.out = layers.Dense(self.units)
        for layer in self.three:
            layer.build(shape)
        self.out.build((*shape[:-1], self.inner))

    def call(self, x):
        b, n, _ = ops.shape(x)
        q, k, v = (
            ops.transpose(ops.reshape(layer(x), (b, n, 2, -1)), (0, 2, 1, 3))
            for layer in self.three
        )
        weights = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))))
        y = ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3))
        return self.out(ops.reshape(y, (b, n, -1)))


@written
def heads_by_shape():
    return after(tokens(), Heads(8, 6))


class Positions(layers.Layer):
    """Token and position embeddings: the latter of a range, which has no tensor in it."""

    def __init__(self, length, channels, **options):
        super().__init__(**options)
        self.length, self.channels = length, channels

    def build(self, shape):
        self.token, self.place = (layers.Embedding(n, self.channels) for n in (9, self.length))
        self.token.build(shape)
        self.place.build(shape)

    def call(self, ids):
        return self.token(ids) + self.place(ops.arange(0, ops.shape(ids)[-1], 1))

    def get_config(self):
        return {**super().get_config(), "length": self.length, "channels": self.channels}


def embedded(length, most):
    ids = keras.Input((length,), dtype="int32")
    x = layers.Dense(5, activation="tanh")(Positions(most, 6)(ids))
    return keras.Model(ids, layers.Dense(2)(x))


@written
def embedding_of_a_range():
    return embedded(5, 5)


@written
def embedding_of_a_range_of_unknown_length():
    return embedded(None, 30)


# -- means over channels ---------------------------------------------------------------------------


def normalised(way, epsilon=0.01):
    """A residual stream of dense layers behind normalisation."""
    tokens = keras.Input((5, 4))
    x = layers.Dense(8)(tokens)
    for _ in range(2):
        inner = layers.Dense(6, activation="relu")(RootMeanSquare(way, epsilon)(x))
        x = x + layers.Dense(8)(inner)
    return keras.Model(tokens, layers.Dense(2)(RootMeanSquare(way, epsilon)(x)))


@written
def no_scale():
    return normalised(0)


@written
def scale_behind():
    return normalised(1)


@written
def one_more_than_scale():
    return normalised(2)


@written
def scale_of_the_reciprocal():
    return normalised(3)


@written
def less_than_scale_in_float32():
    return normalised(4)


@written
def scale_before():
    return normalised(5)


@pytest.mark.parametrize("way", range(6))
def test_streams_behind_means_are_pruned_whole(way):
    """Every filter of a residual stream with normalisation by hand may go."""
    graph = iplt.trace(normalised(way))
    assert sum(group.filters.sum() for group in graph.groups) == 3 * 8 + 2 * 6


def test_an_epsilon_that_does_not_change_is_found_out(monkeypatch):
    """The law does not hold if numbers stay that means are compared with."""
    tokens = keras.Input((5, 4))
    x = layers.Dense(8)(tokens)
    y = x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 0.5)
    model = keras.Model(tokens, layers.Dense(2)(y))
    assert check_law(model)[0] < 1e-5
    monkeypatch.setattr(rewriter, "multiplied", lambda call, args, kwargs, gone: (args, kwargs))
    with pytest.raises(AssertionError, match="differ by"):
        check_law(model)


class OnItsOwn(layers.Layer):
    """A mean of squares that is put out, which nothing makes good for."""

    def call(self, x):
        return ops.mean(ops.square(x), axis=-1, keepdims=True)


@pytest.mark.parametrize("way", ["put out", "a variable", "another mean"])
def test_means_that_nothing_makes_good_for(way):
    """They freeze their channels, and say so."""
    x = keras.Input((4,))
    y = layers.Dense(6, name="before")(x)
    mean = OnItsOwn()(y)
    if way == "a variable":  # that is used without the mean, too
        dense = layers.Dense(1)
        outputs = [dense(mean), dense(x[:, :1])]
    else:
        outputs = mean if way == "put out" else ops.exp(mean)
    frozen = iplt.trace(keras.Model(x, outputs)).frozen
    assert "average" in next(f.reason for f in frozen if f.operation == "before")


# -- weights ---------------------------------------------------------------------------------------


class WithClass(layers.Layer):
    """A token of its own for each example, and positions, from variables."""

    def build(self, shape):
        self.first = self.add_weight(shape=(1, 1, shape[-1]), name="first")
        self.place = self.add_weight(shape=(1, *shape[1:]), name="place")
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        first = ops.broadcast_to(self.first, (ops.shape(x)[0], 1, ops.shape(x)[-1]))
        return ops.concatenate([first, (x + self.place * 2.0) * (1.0 + self.scale)], axis=1)


@written
def variables_before_tensors():
    return after(tokens(), WithClass())


class Tied(layers.Layer):
    """The last layer of a language model, given its first one."""

    def __init__(self, embedding, **options):
        super().__init__(**options)
        self.embedding = embedding

    def build(self, shape):
        self.bias = self.add_weight(shape=(9,), name="bias")

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.embedding.embeddings)) + self.bias

    def get_config(self):
        embedding = keras.saving.serialize_keras_object(self.embedding)
        return {**super().get_config(), "embedding": embedding}

    @classmethod
    def from_config(cls, config):
        embedding = keras.saving.deserialize_keras_object(config.pop("embedding"))
        return cls(embedding=embedding, **config)


@written
def tied_weights():
    ids = keras.Input((5,), dtype="int32")
    embedding = layers.Embedding(9, 6)
    x = layers.Dense(6)(layers.Dense(8, activation="relu")(embedding(ids)))
    return keras.Model(ids, Tied(embedding)(x))


class Unread(Backwards):
    """Finds the kernel of another layer in a way that shows no symbol."""

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.other.weights[0]))


@written
def weights_in_code_that_is_not_understood():
    x, dense = keras.Input((6,)), layers.Dense(5)
    y = dense(layers.Dense(7, activation="relu")(layers.Dense(8)(x)))
    return keras.Model(x, layers.Dense(2)(Unread(dense)(y)))


@written
def a_kernel_of_another_layer():
    x = keras.Input((6,))
    dense = layers.Dense(6)
    y = layers.Dense(7, activation="relu")(dense(x))
    return keras.Model(x, layers.Dense(2)(ops.matmul(layers.Dense(6)(y), dense.kernel)))


class Square(keras.regularizers.Regularizer):
    """Wants a square of the channels."""

    def __init__(self, side):
        self.side = side

    def __call__(self, x):
        x = ops.reshape(x, (-1, self.side, self.side))
        return ops.sum(ops.square(x - ops.eye(self.side)))

    def get_config(self):
        return {"side": self.side}


@written
def activity_regulariser_of_a_size():
    x = keras.Input((7,))
    y = layers.Dense(9, activity_regularizer=Square(3))(layers.Dense(8, activation="relu")(x))
    return keras.Model(x, layers.Dense(2)(y))


@written
def kernel_regulariser_of_a_size():
    x = keras.Input((3,))
    y = layers.Dense(3, kernel_regularizer=Square(3))(x)
    return keras.Model(x, layers.Dense(2)(layers.Dense(8, activation="relu")(y)))


# -- calls -----------------------------------------------------------------------------------------


@written
def added_to_an_array():
    x = keras.Input((4,))
    y = layers.Add()([layers.Dense(8)(x), np.arange(8, dtype="float32")[None]])
    return keras.Model(x, layers.Dense(2)(layers.Dense(6, activation="relu")(y)))


class Block(layers.Layer):
    """Hands `training` to a layer that does not take it."""

    def build(self, shape):
        self.conv, self.norm = layers.Conv1D(6, 3, padding="same"), layers.BatchNormalization()
        self.conv.build(shape)
        self.norm.build((*shape[:-1], 6))

    def call(self, x, training=None):
        return self.norm(self.conv(x, training=training), training=training)


@written
def training_for_everyone():
    return after(tokens(), Block())


class Cut(layers.Layer):
    """Slices beside the channels, and halves of them."""

    def build(self, shape):
        self.first, self.second = layers.Dense(8), layers.Dense(5)
        self.first.build(shape)
        self.second.build((None, 4))

    def call(self, x):
        c = ops.shape(x)[-1]
        a, b = ops.split(self.first(x[:, :, 0:c])[:, -1, :], 2, axis=-1)
        return self.second(a * ops.sigmoid(b))


@written
def slices_and_halves():
    return after(tokens(), Cut())


class Promising(layers.Layer):
    """Computes its output shape from what it was made with."""

    def build(self, shape):
        self.dense = layers.Dense(8)
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)

    def compute_output_shape(self, shape):
        return (*shape[:-1], 8)


@written
def output_shape_of_the_config():
    return after(tokens(), Promising())


class Short(layers.Layer):
    """Tells what comes out of it, but takes no `training` then."""

    def build(self, shape):
        self.dense = layers.Dense(8)
        self.dense.build(shape)

    def call(self, x, training=None):
        return self.dense(x)

    def compute_output_spec(self, x):
        return keras.KerasTensor((*x.shape[:-1], 8), x.dtype)


class Scaled(layers.Layer):
    """Has a variable where its config has the number that it began with."""

    def __init__(self, factor=0.5, **options):
        super().__init__(**options)
        self.factor = factor

    def build(self, shape):
        start = keras.initializers.Constant(self.factor)
        self.factor = self.add_weight(shape=(1,), initializer=start)
        self.short = Short()
        self.short.build(shape)

    def call(self, x, training=None):
        return self.short(x, training=training) * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@written
def what_keras_cannot_call_on_symbols():
    return after(tokens(), Scaled())


class Two(layers.Layer):
    def build(self, shape):
        self.first, self.second = layers.Dense(4), layers.Dense(3)
        self.first.build(shape)
        self.second.build(shape)

    def call(self, x):
        return self.first(x), self.second(x)


class FirstOf(layers.Layer):
    def build(self, shape):
        self.two = Two()
        self.two.build(shape)

    def call(self, x):
        return self.two(x)[0]


@written
def an_output_that_nobody_uses():
    two, x = Two(), keras.Input((4,))
    y = two(layers.Dense(6, activation="relu")(x))[0]
    return keras.Model(x, layers.Dense(2)(layers.Dense(5, activation="tanh")(y)))


@written
def an_output_inside_that_nobody_uses():
    return after(keras.Input((4,)), FirstOf())


class AndNone(layers.Layer):
    """Puts out scores if it is asked for them, else None."""

    def build(self, shape):
        self.dense = layers.Dense(shape[-1], name="dense")
        self.dense.build(shape)
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x, scores=False):
        y = self.dense(x) * self.scale
        return y, (ops.softmax(y) if scores else None)

    def compute_output_shape(self, unlike_its_call):
        raise NotImplementedError


class TwoAndNone(layers.Layer):
    """Two of these, whose layers have the same names, and a constant beside what is put out."""

    def __init__(self, inner, **options):
        super().__init__(**options)
        self.inner = inner

    def build(self, shape):
        self.parts = [AndNone(name=f"part_{i}") for i in range(2)]
        self.up = layers.Dense(self.inner, activation="relu")
        self.up.build(shape)
        for part in self.parts:
            part.build((*shape[:-1], self.inner))

    def call(self, x):
        y = self.up(x)
        for part in self.parts:
            y = y + part(y)[0]
        return y, ops.zeros((0, 3))

    def get_config(self):  # without an argument that it holds
        return super().get_config()


@written
def layers_that_put_out_none():
    x = tokens()
    y = TwoAndNone(7)(layers.Dense(6, activation="relu")(x))[0]
    return keras.Model(x, layers.Dense(2)(layers.Dense(5, activation="tanh")(y)))


# -- what holds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in SHORT else [pytest.mark.slow]) for n in WRITTEN],
)
def test_the_law_holds(name):
    """Masked, rewritten and shrunk models compute the same, on any batch, and are of one size."""
    model = WRITTEN[name]()
    plan, small = check_law(model, seed=3)[1:]
    assert plan.graph.groups and plan.gone.any(), str(plan.graph)
    for length in (4, 5):
        (symbol,) = model.inputs
        shape = (3, *(length if n is None else n for n in symbol.shape[1:]))
        x = np.random.default_rng(1).integers(0, 4, shape).astype(symbol.dtype)
        assert difference(model(x), small(x)) < 1e-5
    iplt.shrink(model, plan)
    assert difference(model(x), small(x)) < 1e-5
    assert model.count_params() == small.count_params() == parameters(plan.graph, None)


def test_dicts_of_inputs_of_a_subclassed_model():
    """They are taken by the same names."""

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.head = (layers.Dense(n) for n in (8, 8, 2))

        def call(self, inputs):
            return self.head(ops.relu(self.left(inputs["left"]) + self.right(inputs["right"])))

    model = Net()
    x = {"left": np.ones((3, 4), "float32"), "right": np.ones((3, 5), "float32")}
    model(x)
    randomize(model)
    plan = random_plan(iplt.trace(model), seed=1)
    small = iplt.rewrite(model, plan)
    iplt.mask(model, plan)
    assert plan.gone.any()
    assert difference(model(x), small(x)) < 1e-5
    small.compile("sgd", "mse")
    small.fit(x, np.zeros((3, 2)), verbose=0)


def test_tied_weights_stay_tied():
    """One variable, which the plan counts once."""
    model = tied_weights()
    small = iplt.rewrite(model, random_plan(iplt.trace(model), seed=1))
    embedding, tied = (small.layers[i] for i in (1, -1))
    assert tied.embedding is embedding


def test_weights_are_read_when_the_model_is_rewritten():
    """Not when it was recorded: what the position embedding holds later on counts."""
    model = embedding_of_a_range()
    plan = random_plan(iplt.trace(model), seed=1)
    randomize(model, seed=2)
    small = iplt.rewrite(model, plan)
    iplt.mask(model, plan)
    x = np.array([[0, 1, 2, 3, 4]], "int32")
    assert difference(model(x), small(x)) < 1e-5


class Unwritten(layers.Layer):
    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function

    def build(self, shape):
        self.dense, self.scale = layers.Dense(6), self.add_weight(shape=(1,), name="scale")
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x) * self.scale


def test_a_layer_that_does_not_serialise():
    """It is frozen, with the reason, and not rewritten, but shrunk around."""
    model = after(tokens(), Unwritten(object()))
    graph = iplt.trace(model)
    assert any("has no config" in frozen.reason for frozen in graph.frozen)
    plan = random_plan(graph, seed=1)
    assert plan.gone.any()
    with pytest.raises(iplt.PruningError, match="get_config"):
        iplt.rewrite(model, plan)
    iplt.shrink(model, plan)


@pytest.mark.parametrize("kind", ["length", "variable", "numbers"])
def test_subclassed_models_that_cannot_be_read(kind):
    """Their operations cannot take the place of their code, and the model stays as it is."""

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding, self.dense = layers.Embedding(5, 4), layers.Dense(4)

        def call(self, x):
            y = self.dense(x) + ops.sum(self.embedding(ops.cast(x, "int32")), axis=1)
            if kind == "length":
                return y + ops.ones((ops.shape(x)[0], 1))
            if kind == "variable":
                return ops.matmul(y, ops.transpose(self.embedding.embeddings))
            return y + self.embedding(ops.arange(1))

    model = Net()
    model(np.ones((2, 4), "float32"))
    before = model.get_weights()
    words = {"length": "length of a batch", "variable": "outside of the layer", "numbers": "on num"}
    with pytest.raises(iplt.PruningError, match=words[kind]):
        iplt.trace(model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_batch_of_one_that_is_none():
    """Behind a sum with an array Keras says that there is one example, and code believes it."""
    x = tokens()
    y = layers.Add()([layers.Dense(6)(x), np.ones((1, 1, 6), "float32")])
    y = layers.Dense(5)(Heads(8, 6)(layers.Dense(6, activation="relu")(y)))
    model = keras.Model(x, layers.Dense(2)(y))
    plan = random_plan(iplt.trace(model), seed=3)
    with pytest.raises(iplt.PruningError, match="cannot be made again"):
        iplt.rewrite(model, plan)
    iplt.shrink(model, plan)


class Picky(layers.Layer):
    """Finds out when it runs, not before, that it does not like five channels."""

    def call(self, x):
        if ops.is_tensor(x) and x.shape[-1] < 6:
            raise RuntimeError("too few")
        return ops.relu(x)


def test_a_model_that_does_not_run_is_not_returned():
    """It is called once, and what it raises is said."""
    model = after(tokens(), Picky())
    plan = iplt.plan(model, ratio=0.5)
    with pytest.raises(iplt.PruningError, match="too few"):
        iplt.rewrite(model, plan)


class Mapped(layers.Layer):
    """A function of its own for each example, which an operation keeps."""

    def build(self, shape):
        self.dense = layers.Dense(6)
        self.dense.build(shape)

    def call(self, x):
        return ops.vectorized_map(lambda row: ops.relu(row) * 2.0 + self.scale(), self.dense(x))

    def scale(self):
        return 0.5


def test_functions_that_operations_keep():
    """They refer to the layer itself, not to what stood in for it while it was read."""
    model = after(tokens(), Mapped())
    small = iplt.rewrite(model, random_plan(iplt.trace(model), seed=1))
    assert small(np.ones((2, 5, 4), "float32")).shape == (2, 5, 2)
