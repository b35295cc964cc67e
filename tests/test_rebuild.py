"""`rebuild`: a model of a class of its own stays one, if its config can say the widths."""

import keras
import numpy as np
import pytest
from keras import layers
from support.law import difference, randomize

import keras_iplt as iplt
from keras_iplt.errors import ModelError
from keras_iplt.surgery import trial_run

pytestmark = [pytest.mark.any_backend, pytest.mark.quick]

X = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")


class Block(layers.Layer):
    """A residual block, whose width inside is a number of its own."""

    def __init__(self, width, **options):
        super().__init__(**options)
        self.width, self.up = width, layers.Dense(width, activation="relu", name="up")

    def build(self, shape):
        self.up.build(shape)
        self.down = layers.Dense(shape[-1])
        self.down.build((*shape[:-1], self.width))

    def call(self, x):
        return x + self.down(self.up(x))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


class Network(keras.Model):
    """Two widths from one list, one that several blocks share, and something without weights.

    `extra` is of the same size as what is pruned, and must not be mistaken for it.
    """

    def __init__(self, widths=(8, 8), inside=12, extra=8, depth=2, words=None, **options):
        super().__init__(**options)
        self.widths, self.inside, self.extra = list(widths), inside, extra
        self.depth = depth
        self.words = words or layers.Activation("linear")
        self.hidden = [layers.Dense(n, activation="relu") for n in self.widths]
        self.blocks = [Block(inside) for _ in range(depth)]
        self.side, self.out = layers.Dense(extra), layers.Dense(3)

    def call(self, x):
        x = self.words(x)
        y = self.side(x)
        for layer in (*self.hidden, *self.blocks):
            x = layer(x)
        return {"out": self.out(x), "side": y}

    def get_config(self):
        words = keras.saving.serialize_keras_object(self.words)
        numbers = {"widths": self.widths, "inside": self.inside, "extra": self.extra}
        numbers["depth"] = self.depth
        return {"name": self.name, "words": words, **numbers}

    def answer(self):
        return sum(self.widths)


def network(kind=Network, **options):
    model = kind(**options)
    model(X)
    randomize(model)
    return model


def outputs(model):
    return keras.tree.flatten(model(X, training=False))


def check(model, plan, small):
    """As the rewritten model, and as the masked one."""
    for a, b in zip(outputs(iplt.rewrite(model, plan)), outputs(small), strict=True):
        assert difference(a, b) < 1e-6
    iplt.mask(model, plan)
    assert max(map(difference, outputs(model), outputs(small))) < 1e-5


def test_the_class_stays():
    model = network()
    plan = iplt.plan(model, per_layer={model.hidden[0]: 0.5, "*/up": 0.25})
    again = iplt.Plan.from_json(plan.to_json())
    small = iplt.rebuild(model, again)
    assert type(small) is Network and small.answer() == 12
    assert (small.widths, small.inside, small.extra) == ([4, 8], 9, 8)
    assert small.words is model.words and small.name == model.name
    check(model, plan, small)


def test_blocks_go():
    model = network(depth=3)
    model.blocks[2].trainable = False
    graph = iplt.trace(model)
    assert len(graph.branches) == 3
    plan = iplt.plan(graph, per_layer={model.hidden[0]: 0.5}, branches=[1])
    small = iplt.rebuild(model, plan)
    assert (small.depth, small.widths, small.blocks[1].trainable) == (2, [4, 8], False)
    check(model, plan, small)


def test_settings_go_along():
    model = network()
    model.side.trainable = False
    model.blocks[0].up.bias.trainable = False
    model.compile(keras.optimizers.SGD(0.125), {"out": "mse", "side": "mae"})
    small = iplt.rebuild(model, iplt.plan(model, 0.5, scope="layer"))
    assert [v.trainable for v in small.variables] == [v.trainable for v in model.variables]
    assert not small.side.trainable and float(small.optimizer.learning_rate) == 0.125
    small.fit(X, {"out": np.zeros((5, 3)), "side": np.zeros((5, 8))}, verbose=0)


def test_what_stays_is_fitted_anew():
    model = network()
    plan = iplt.plan(model, 0.5, scope="layer")
    small = iplt.rebuild(model, plan, compensate=X)
    for a, b in zip(outputs(iplt.rewrite(model, plan, compensate=X)), outputs(small), strict=True):
        assert difference(a, b) < 1e-6
    assert max(map(difference, outputs(iplt.rebuild(model, plan)), outputs(small))) > 1e-2


def test_models_without_a_class_of_their_own_are_rewritten():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8), layers.Dense(2)])
    small = iplt.rebuild(model, iplt.plan(model, 0.5))
    assert type(small) is keras.Sequential and small.count_params() == 38


def test_what_cannot_be_compared_is_refused(monkeypatch):
    """No lengths that the models take are found: nothing is known to be the same."""
    monkeypatch.setattr(trial_run, "TRIALS", ())
    model = network()
    with pytest.raises(ModelError, match="does not compute"):
        iplt.rebuild(model, iplt.plan(model, 0.5, scope="layer"))


class WithoutConfig(Network):
    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(widths=(8, 4))


class Scaled(Network):
    """Computes with a width."""

    def call(self, x):
        out = super().call(x)
        return {**out, "out": out["out"] * keras.ops.sqrt(float(self.widths[1]))}


@pytest.mark.parametrize(("kind", "uneven", "message"), [
    (Network, True, r"cannot say what the plan leaves.*up/kernel.*per_layer"),
    (WithoutConfig, False, "makes it again from its config"),
    (Scaled, False, "computes with a width"),
])  # fmt: skip
def test_what_cannot_be_is_refused(kind, uneven, message):
    model = network(kind)
    before, expected = [np.array(w) for w in model.get_weights()], outputs(model)
    share = {model.blocks[0].up: 0.5} if uneven else {model.hidden[1]: 0.5}
    with pytest.raises(ModelError, match=f"(?s){message}"):
        iplt.rebuild(model, iplt.plan(model, per_layer=share))
    assert all(map(np.array_equal, before, model.get_weights()))
    assert max(map(difference, expected, outputs(model))) == 0
