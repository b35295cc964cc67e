"""keras_iplt.sparsity in the place of tfmot.sparsity.keras: scripts run with the import changed."""

import itertools
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_iplt.errors import ModelError, OptionError, WeightsError
from keras_iplt.sparsity.tfmot_api.prunable_layer import PrunableLayer
from keras_iplt.sparsity.tfmot_api.prune import prune_low_magnitude, prune_scope, strip_pruning
from keras_iplt.sparsity.tfmot_api.prune_registry import PruneRegistry, prunable_weights
from keras_iplt.sparsity.tfmot_api.pruning_callbacks import PruningSummaries, UpdatePruningStep
from keras_iplt.sparsity.tfmot_api.pruning_impl import Pruning
from keras_iplt.sparsity.tfmot_api.pruning_policy import PruneForLatencyOnXNNPack, PruningPolicy
from keras_iplt.sparsity.tfmot_api.pruning_schedule import (
    ConstantSparsity,
    PolynomialDecay,
    PruningSchedule,
)
from keras_iplt.sparsity.tfmot_api.pruning_wrapper import PruneLowMagnitude, collect_prunable_layers

pytestmark = pytest.mark.slow

BACKEND = keras.backend.backend()
any_backend = pytest.mark.any_backend
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="for the TensorFlow backend")
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 8)).astype("float32")
Y = RANDOM.normal(size=(24, 2)).astype("float32")
EVERY = ConstantSparsity(0.5, 1, frequency=1)
TESTS = pathlib.Path(__file__).parent


def numbers(variable):
    return np.asarray(keras.ops.convert_to_numpy(variable))


def zeros(model):
    """How many weights of each masked variable are zero; the masks must have as many."""
    counts = []
    for layer in collect_prunable_layers(model):
        for weight, mask, _ in layer.pruning_vars:
            counts.append(int((numbers(weight) == 0).sum()))
            assert set(np.unique(numbers(mask))) <= {0, 1}
            assert not numbers(weight)[numbers(mask) == 0].any()
    return counts


def steps(model):
    """What the wrappers have written down; all the same."""
    (step,) = {int(numbers(layer.pruning_step)) for layer in collect_prunable_layers(model)}
    return step


def dense(seed=1):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(10, "relu"), layers.Dropout(0.1, seed=1), layers.Dense(2)]
    )


def functional():
    """A layer used twice, operations, models in the model, a residual connection."""
    shared, inside, i = (
        layers.Dense(8, name="shared"),
        keras.Input((8,)),
        keras.Input((8,), name="numbers"),
    )
    nested = keras.Model(inside, layers.Dense(8, name="inner")(inside) * 2.0, name="nested")
    x = ops.relu(shared(shared(i))) + i
    x = keras.Sequential([layers.Dense(6, "relu", name="last")], name="sequential")(nested(x))
    return keras.Model({"numbers": i}, layers.Dense(2, name="head")(x))


def operations(model):
    return [one for one in model.operations if not isinstance(one, keras.Layer)]


class Look(keras.callbacks.Callback):
    """Zeros after every batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(zeros(self.model))


def compiled(model, optimizer=None, **options):
    jit = BACKEND == "jax" and not options.get("run_eagerly")  # XLA takes seconds to compile
    options = {"jit_compile": jit, **options}
    model.compile(optimizer or keras.optimizers.Adam(0.01), "mse", **options)
    return model


def fit(model, *callbacks, epochs=3, x=X, y=Y, **options):
    """Six batches an epoch."""
    options = {"batch_size": 4, "shuffle": False, **options}
    callbacks = [UpdatePruningStep(), *callbacks]
    model.fit(x, y, epochs=epochs, callbacks=callbacks, verbose=0, **options)
    return model


# Run by other interpreters, while the tests here go on.

TFMOT = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np, tensorflow as tf
import tensorflow_model_optimization as tfmot
keras, sparsity = tf.keras, tfmot.sparsity.keras
data = np.load(sys.argv[1])
start = [data[f"w{i}"] for i in range(4)]
for name, schedule, block in (
    ("once", sparsity.ConstantSparsity(0.6, 1, 1), (1, 1)),
    ("blocks", sparsity.ConstantSparsity(0.5, 1, 1), (2, 1)),
    ("decay", sparsity.PolynomialDecay(0.1, 0.83, 2, 14, frequency=4), (1, 1)),
    ("constant", sparsity.ConstantSparsity(0.37, 3, frequency=2), (1, 1)),
):
    model = keras.Sequential([keras.layers.Dense(10, "relu", input_shape=(8,)),
                              keras.layers.Dense(2)])
    model.set_weights(start)
    model = sparsity.prune_low_magnitude(model, schedule, block, "MAX")
    model.compile(keras.optimizers.SGD(0.1), "mse")
    for epoch in range(3):
        model.fit(data["x"], data["y"], batch_size=4, shuffle=False, verbose=0,
                  callbacks=[sparsity.UpdatePruningStep()])
        print(name, [int((l.layer.kernel.numpy() == 0).sum()) for l in model.layers])
    if name in ("once", "blocks"):
        np.savez(f"{name}.npz", *(l.layer.kernel.numpy() for l in model.layers))
    print(int(model.layers[0].pruning_step))
"""

MIRRORED = """
import sys
sys.path.insert(0, {tests!r})
import keras, numpy as np, tensorflow as tf
from test_sparsity_tfmot import *
[cpu] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
def train():
    schedule = PolynomialDecay(0.0, 0.75, 2, 14, frequency=4)
    model = prune_low_magnitude(dense(), schedule)
    model.layers[1].layer.rate = 0.0
    look = Look()
    fit(compiled(model, keras.optimizers.SGD(0.05, momentum=0.9)), look)
    return model, look.seen
alone, seen = train()
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model, several = train()
assert several == seen and seen[-1] == [60, 15], (several, seen)
for variable in model.weights:
    one, other = variable.value.values
    assert one.device != other.device
    np.testing.assert_array_equal(one.numpy(), other.numpy())
for a, b in zip(model.get_weights(), alone.get_weights(), strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
"""


def started(directory, code, *arguments, **environment):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    environment["PYTHONPATH"] = str(TESTS.parent)
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=directory, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tfmot(tmp_path_factory):
    """What tfmot does on Keras 2, once asked for: lines printed, and the directory with arrays."""
    directory = tmp_path_factory.mktemp("tfmot")
    start = {f"w{i}": w for i, w in enumerate(dense().get_weights())}
    np.savez(directory / "data.npz", x=X, y=Y, **start)
    process = started(directory, TFMOT, str(directory / "data.npz"), TF_USE_LEGACY_KERAS="1")

    def printed():
        out, problems = process.communicate()
        assert process.returncode == 0, problems
        return out.splitlines(), directory

    yield printed
    with process:
        process.kill()


@pytest.fixture(scope="module", autouse=True)
def early(request):
    """Other interpreters take seconds to start."""
    if BACKEND == "tensorflow" and any("tfmot" in one.fixturenames for one in request.session.items
                                       if one.module is request.module):  # fmt: skip
        request.getfixturevalue("tfmot")


# -- the registry --


def unit():
    class Cell(layers.Layer):
        state_size = 3

        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 3), name="kernel")
            super().build(shape)

        def call(self, x, states):
            return ops.matmul(x, self.kernel) + states[0], [states[0]]

    return Cell()


def prunable_unit():
    cell = unit()
    cell.get_prunable_weights = lambda: [cell.kernel]
    return cell


class Scaled(layers.Dense, PrunableLayer):
    """A layer that says itself what is pruned."""

    def get_prunable_weights(self):
        return [self.kernel, self.bias]


class Unknown(layers.Dense):
    """A layer that may do anything with its weights."""


BOTH = ["kernel", "recurrent_kernel"]


@any_backend
def test_what_is_pruned_of_a_layer():
    """Kernels, recurrent kernels and embeddings. Looking leaves the layer as it is."""
    cells = layers.LSTMCell(3), layers.GRUCell(2), layers.SimpleRNNCell(2)
    for layer, shape, expected in (
        (layers.Dense(3), (4,), ["kernel"]),
        (layers.Conv1D(3, 2), (4, 2), ["kernel"]),
        (layers.Conv2DTranspose(3, 2), (4, 4, 2), ["kernel"]),
        (layers.SeparableConv2D(3, 2), (4, 4, 2), ["pointwise_kernel"]),
        (layers.DepthwiseConv2D(3), (4, 4, 2), []),
        (layers.EinsumDense("abc,cd->abd", (None, 3)), (4, 2), ["kernel"]),
        (layers.Embedding(5, 2), (4,), ["embeddings"]),
        (layers.BatchNormalization(), (4,), []),
        (layers.Rescaling(2.0), (4,), []),
        (layers.LSTM(3), (4, 2), BOTH),
        (layers.GRU(3), (4, 2), BOTH),
        (layers.SimpleRNN(3), (4, 2), BOTH),
        (layers.RNN(list(cells)), (4, 2), BOTH * 3),
        (layers.RNN([layers.LSTMCell(3), prunable_unit()]), (4, 2), [*BOTH, "kernel"]),
        (layers.Bidirectional(layers.GRU(3)), (4, 2), BOTH * 2),
        (layers.TimeDistributed(layers.Dense(3)), (4, 2), ["kernel"]),
        (layers.TimeDistributed(Scaled(3)), (4, 2), ["kernel", "bias"]),
    ):
        layer(keras.Input(shape, dtype="int32" if isinstance(layer, layers.Embedding) else None))
        found = prunable_weights(layer)
        assert [w.name for w in found] == expected and "get_prunable_weights" not in vars(layer)
        assert PruneRegistry.supports(layer) and PruneRegistry.make_prunable(layer) is layer
        assert all(a is b for a, b in zip(layer.get_prunable_weights(), found, strict=True))


@any_backend
def test_what_is_pruned_of_newer_layers():
    """The gate of attention, and embeddings that are tied or not."""
    if not hasattr(layers, "ReversibleEmbedding"):
        pytest.skip("Keras is older")
    gated, x = layers.MultiHeadAttention(2, 3, use_gate=True), keras.Input((4, 6))
    gated(x, x)
    assert prunable_weights(gated)[4].path.endswith("gate/kernel")
    for tied, count in ((True, 1), (False, 2)):
        layer = layers.ReversibleEmbedding(5, 2, tie_weights=tied)
        layer.build((None, 4))
        assert len(prunable_weights(layer)) == count


@any_backend
def test_attention_is_pruned_in_all_its_projections():
    """Query, key, value and output."""
    for layer in (layers.MultiHeadAttention(2, 3), layers.GroupQueryAttention(3, 4, 2)):
        layer(*[keras.Input((4, 6))] * 2)
        names = [weight.path.split("/")[-2] for weight in prunable_weights(layer)]
        assert names == ["query", "key", "value", "attention_output"]


@any_backend
def test_what_is_not_supported():
    """Layers whose weights nobody knows, alone or inside others: refused, not left dense."""
    for layer in (
        layers.ConvLSTM2D(2, 3), Unknown(3), layers.RNN(unit()),
        layers.RNN([layers.LSTMCell(3), unit()]), layers.TimeDistributed(Unknown(2)),
    ):  # fmt: skip
        assert not PruneRegistry.supports(layer) and prunable_weights(layer) == []
        for refused in (PruneRegistry.make_prunable, prune_low_magnitude):
            with pytest.raises(OptionError, match="get_prunable_weights, received: <"):
                refused(layer)
        with pytest.raises(ValueError, match="not supported"):
            prune_low_magnitude(keras.Sequential([layers.ReLU(), layer]))


def test_every_layer_of_keras_is_known_or_left_out_on_purpose():
    """A layer that Keras adds has to be sorted in."""
    known = {*PruneRegistry._LAYERS_WEIGHTS_MAP, *PruneRegistry._RNN_LAYERS}
    others = {
        name
        for name, kind in vars(layers).items()
        if isinstance(kind, type) and issubclass(kind, layers.Layer) and kind not in known
    }
    assert others <= {
        "Layer", "Wrapper", "InputLayer", "Pipeline", "SpectralNormalization", "ConvLSTM1D",
        "ConvLSTM2D", "ConvLSTM3D", "FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper",
        "Bidirectional", "TimeDistributed", "MultiHeadAttention", "GroupQueryAttention",
        "StackedRNNCells", "GRUCell", "LSTMCell", "SimpleRNNCell",
    }  # fmt: skip


# -- masks --


def masked(value, sparsity, *options):
    """The mask for an array, and the threshold."""
    ((threshold, mask),) = Pruning([keras.Variable(value)], *options).masks(sparsity)
    return mask, threshold


@any_backend
def test_as_many_weights_are_masked_as_tfmot_masks():
    """All but round(n * (1 - sparsity)), at least one, in float32; what lies on the threshold
    stays."""
    random = np.random.default_rng(0)
    for n, sparsity in itertools.product((1, 7, 25, 1003), (0.0, 0.2, 1 / 3, 0.5, 0.75, 0.99)):
        value = random.permutation(np.arange(1, n + 1)).astype("float32") * random.choice(
            [-1, 1], n
        )
        mask, threshold = masked(value, sparsity)
        kept = max(int(np.rint(np.float32(n) * (1 - np.float32(sparsity)))), 1)
        assert mask.sum() == kept and threshold == n - kept + 1
    mask, _ = masked(np.array([2, -2, 2, 1], "float32"), 0.5)
    assert mask.tolist() == [True, True, True, False]


@any_backend
@pytest.mark.parametrize("pooling", ["AVG", "MAX"])
@pytest.mark.parametrize("block", [(2, 2), (4, 5)])
def test_blocks_go_together(block, pooling):
    """Those with the smallest mean or largest magnitude, the smaller ones at the edges too."""
    value = np.random.default_rng(0).normal(size=(7, 9)).astype("float32")
    mask, threshold = masked(value, 0.5, block, pooling)
    pooled = {
        (i, j): getattr(np, {"AVG": "mean", "MAX": "max"}[pooling])(
            np.abs(value[i : i + block[0], j : j + block[1]])
        )
        for i in range(0, 7, block[0])
        for j in range(0, 9, block[1])
    }
    kept = sorted(pooled, key=pooled.get)[-round(len(pooled) * 0.5) :]
    expected = np.zeros((7, 9))
    for i, j in kept:
        expected[i : i + block[0], j : j + block[1]] = 1
    assert (mask == expected).all()
    assert float(threshold) == pytest.approx(min(pooled[one] for one in kept), rel=1e-6)
    with pytest.raises(
        OptionError, match=r"block_size: expected \(1, 1\) for weights that are not"
    ):
        masked(value[None], 0.5, block, pooling)


@any_backend
def test_schedules_may_answer_with_tensors():
    """As tfmot's own do."""
    value = np.linspace(1.0, 100.0, 100, dtype="float32")
    for share in (0.0, 0.1, 0.3):
        mask, _ = masked(value, ops.convert_to_tensor(share))
        assert (~mask).sum() == round(100 * share)
    assert Pruning([]).due(7, (ops.convert_to_tensor(True), 0.5))


@any_backend
def test_weights_that_are_not_finite_are_refused():
    """Their magnitudes mean nothing."""
    with pytest.raises(WeightsError, match="holds 1 NaN"):
        masked(np.array([1, np.nan], "float32"), 0.5)


def has_zeros(kernel, m=2, n=4):
    """Whether every n consecutive weights along the input channels hold at least m zeros."""
    rows = np.moveaxis(numbers(kernel), -2, -1).reshape(-1, kernel.shape[-2])
    groups = (rows[:, i : i + n] for i in range(0, rows.shape[1], n))
    return all((np.count_nonzero(group, axis=1) <= n - m).all() for group in groups)


@any_backend
@pytest.mark.parametrize(
    ("shape", "pattern"), [((9, 5), (2, 4)), ((8, 3), (1, 3)), ((3, 2, 6, 4), (2, 4))]
)
def test_m_zeros_in_every_n(shape, pattern):
    """Along the input channels, the smallest of each group; at the first step, and at no other."""
    m, n = pattern
    value = np.random.default_rng(0).normal(size=shape).astype("float32")
    mask, threshold = masked(value, None, (1, 1), "AVG", pattern)
    for column, own in zip(
        *(np.moveaxis(x, -2, -1).reshape(-1, shape[-2]) for x in (np.abs(value), mask)), strict=True
    ):
        for start in range(0, len(column), n):
            group, stays = column[start : start + n], own[start : start + n]
            assert np.count_nonzero(stays) == min(n - m, len(group))
            assert group[stays].min() >= group[~stays].max(initial=0)
    assert has_zeros(value * mask, m, n) and not has_zeros(value, m, n) and threshold == 999
    pruning = Pruning([], (1, 1), "AVG", pattern)
    assert pruning.due(1, (False, 0)) and not pruning.due(2, (True, 0.5))


@any_backend
def test_numbers_that_are_refused():
    """What is no pair, and more zeros than places."""
    for value in (3, (1, 2, 3), (1, 2.0), "24"):
        with pytest.raises(ValueError, match="sparsity_m_by_n: expected two positive integers"):
            PruneLowMagnitude(layers.Dense(2), sparsity_m_by_n=value)
    with pytest.raises(ValueError, match=r"sparsity_m_by_n: expected .*m less than n"):
        PruneLowMagnitude(layers.Dense(2), sparsity_m_by_n=(4, 4)).build((None, 3))


# -- wrapped layers and models --


@any_backend
def test_what_a_wrapper_is_made_of():
    """It is called after its layer, shares its weights, and has a mask and a threshold for each of
    those that are pruned; block pooling is checked, and so is the layer."""
    layer = layers.Dense(3, name="head", trainable=False)
    wrapper = prune_low_magnitude(layer, EVERY, (2, 2), "MAX")
    assert wrapper.name == "prune_low_magnitude_head" and wrapper.layer is layer
    assert wrapper.pruning_schedule is EVERY and wrapper.block_size == (2, 2)
    assert not wrapper.trainable
    for one in (layer, layers.Embedding(3, 2), Scaled(2), layers.UpSampling2D()):
        other = prune_low_magnitude(one)
        assert other.autocast == one.autocast and other.supports_masking == one.supports_masking
    assert wrapper.pruning_vars == []
    y = wrapper(X)
    [(weight, mask, threshold)] = wrapper.pruning_vars
    assert weight is layer.kernel and wrapper.prunable_weights == [weight]
    assert (numbers(mask) == 1).all() and tuple(mask.shape) == (8, 3)
    assert numbers(threshold) == 0 and numbers(wrapper.pruning_step) == -1
    assert wrapper.non_trainable_weights and not wrapper.trainable_weights
    assert (numbers(y) == numbers(layer(X))).all()
    assert len(wrapper.get_weights()) == 2
    wrapper.set_weights([np.ones((8, 3)), np.zeros(3)])
    assert numbers(layer.kernel).all()
    with pytest.raises(ValueError, match="block_pooling_type: expected 'AVG' or 'MAX'"):
        PruneLowMagnitude(layers.Dense(2), block_pooling_type="MIN")
    with pytest.raises(ValueError, match=r"layer: expected a keras.Layer"):
        PruneLowMagnitude("dense")
    with pytest.raises(ValueError, match="pruning_schedule: expected"):
        PruneLowMagnitude(layers.Dense(2), 0.5)
    with pytest.raises(ValueError, match="block_size"):
        PruneLowMagnitude(layers.Conv2D(2, 3), block_size=(2, 2)).build((None, 5, 5, 1))


@any_backend
def test_layers_that_say_themselves_what_is_pruned():
    """Built or not, with a method or an attribute; what they name has to be variables."""
    wrapper = prune_low_magnitude(Scaled(3))
    wrapper.build((None, 4))
    assert [tuple(mask.shape) for _, mask, _ in wrapper.pruning_vars] == [(4, 3), (3,)]
    names = [v.name for v in wrapper.non_trainable_weights]
    assert len(set(names)) == len(names)

    class Composed(layers.Layer):  # has no `build`: its layers are built when it is called
        def __init__(self):
            super().__init__()
            self.inside = layers.Dense(3)

        def call(self, x, scale=1.0):
            return self.inside(x) * scale

        def get_prunable_weights(self):
            return [self.inside.kernel]

    class Outer(layers.Layer):  # its layers are built while numbers are cast as it wants
        def __init__(self, **options):
            super().__init__(**options)
            self.inside = prune_low_magnitude(layers.Dense(3))
            self.calls = 0

        def call(self, x):
            self.calls += 1
            assert self.calls > 1  # the first is symbolic, for shapes: may fail
            return self.inside(x)

    outer = Outer(dtype="mixed_float16")
    outer(X)
    assert {v.dtype for v in outer.inside.pruning_vars[0]} == {"float32"}
    wrapper = prune_low_magnitude(Composed())
    assert wrapper(X, scale=2.0).shape == (24, 3) and len(wrapper.pruning_vars) == 1
    wrong = layers.Dense(3)
    wrong.get_prunable_weights = lambda: [wrong.bias_initializer]
    with pytest.raises(ValueError, match="get_prunable_weights: expected variables of layer"):
        prune_low_magnitude(wrong)(X)


@any_backend
def test_wrapping_a_model():
    """Every layer is wrapped once, in models inside too, operations stay; it computes the same with
    the same layers and is not compiled. What is wrapped is not wrapped again."""
    model = compiled(functional())
    nodes = [len(operation._outbound_nodes) for operation in operations(model)]
    wrapped = prune_low_magnitude(model, EVERY)
    assert nodes == [len(operation._outbound_nodes) for operation in operations(model)]
    names = ["shared", "inner", "last", "head"]
    found = {layer.name: layer for layer in collect_prunable_layers(wrapped)}
    assert set(found) == {f"prune_low_magnitude_{name}" for name in names}
    assert found["prune_low_magnitude_shared"].layer is model.get_layer("shared")
    assert not wrapped.compiled and model.compiled
    x = {"numbers": X}
    np.testing.assert_array_equal(model.predict(x, verbose=0), wrapped.predict(x, verbose=0))
    again = prune_low_magnitude(wrapped, ConstantSparsity(0.1, 0))
    assert {id(one) for one in collect_prunable_layers(again)} == {id(v) for v in found.values()}
    zeros(fit(compiled(wrapped), x=x))
    assert strip_pruning(wrapped).get_config() == model.get_config()


@any_backend
def test_sequential_models_and_lists():
    """Built models stay built and others do not; input layers of lists are made anew."""
    for inputs in ([], [keras.Input((8,))]):
        model = keras.Sequential([*inputs, layers.Dense(3, name="one"), layers.ReLU()])
        wrapped = prune_low_magnitude(model)
        assert wrapped.built == model.built == bool(inputs) and wrapped.name == model.name
        assert all(isinstance(layer, PruneLowMagnitude) for layer in wrapped.layers)
        again = keras.models.model_from_json(wrapped.to_json())
        assert again.built == model.built
        stripped = strip_pruning(wrapped)
        assert stripped.get_config() == model.get_config()
        assert stripped.layers[0] is model.layers[0]
        assert not hasattr(model.layers[0], "get_prunable_weights")
    wrapped = prune_low_magnitude(layers.Dense(2))
    listed = prune_low_magnitude([layers.InputLayer((3,)), layers.Dense(2), wrapped])
    assert isinstance(listed[0], layers.InputLayer) and listed[2] is wrapped
    assert isinstance(listed[1], PruneLowMagnitude)


@any_backend
def test_the_first_layer_may_know_the_shape_of_its_input():
    """The layer itself, or its wrapper, as scripts for tf.keras have it. Keras warns of it."""
    with pytest.warns(UserWarning, match="Do not pass an `input_shape`"):
        inner, outer = layers.Dense(2, input_shape=(3,)), layers.Dense(2)
        wrapped = [
            prune_low_magnitude(inner), prune_low_magnitude(outer, EVERY, input_shape=(3,)),
        ]  # fmt: skip
    for layer in wrapped:
        assert keras.Sequential([layer, layers.ReLU()]).built


@any_backend
def test_what_cannot_be_wrapped_or_stripped():
    """tfmot's own words where its tests compare them."""

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.inside = layers.Dense(2)

        def call(self, x):
            return self.inside(x)

    text = (
        "`prune_low_magnitude` can only prune an object of the following types: "
        "keras.models.Sequential, keras functional model, keras.layers.Layer, list of "
        "keras.layers.Layer. You passed an object of type: {}."
    )
    for thing, name in ((Subclassed(), "Subclassed"), (object(), "object")):
        with pytest.raises(ValueError) as error:
            prune_low_magnitude(thing)
        assert str(error.value) == text.format(name)
    with pytest.raises(ValueError, match="Subclassed models are not supported currently"):
        prune_low_magnitude(keras.Sequential([keras.Input((3,)), Subclassed()]))
    for thing in (Subclassed(), layers.Dense(2)):
        with pytest.raises(ValueError, match="model: expected"):
            strip_pruning(thing)


@any_backend
def test_wrappers_inside_a_subclassed_model():
    """They are found wherever they are, and driven."""

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            block = [prune_low_magnitude(layers.Dense(6, "relu"), EVERY), layers.ReLU()]
            self.block = layers.TimeDistributed(keras.Sequential(block))
            self.head = prune_low_magnitude(layers.Dense(2), EVERY)

        def call(self, x):
            return self.head(self.block(x[:, None])[:, 0])

    assert sorted(zeros(fit(compiled(Subclassed()), epochs=1))) == [6, 24]


@any_backend
def test_attention_embeddings_and_recurrent_layers_train():
    """Several inputs, masks and modes reach the layer as they do without a wrapper."""
    tokens = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 4, mask_zero=True)(tokens)
    x = layers.LSTM(4, return_sequences=True, dropout=0.1, seed=1)(x)
    x = layers.MultiHeadAttention(2, 3)(query=x, value=x, use_causal_mask=True)
    x = layers.Bidirectional(layers.GRU(3))(x, mask=ops.not_equal(tokens, 0))
    model = keras.Model(tokens, layers.Dense(2)(x))
    wrapped = prune_low_magnitude(model, EVERY)
    x = RANDOM.integers(0, 3, (24, 5))
    np.testing.assert_array_equal(model.predict(x, verbose=0), wrapped.predict(x, verbose=0))
    fit(compiled(wrapped), x=x, epochs=1)
    sizes = [28, 64, 64, 24, 24, 24, 24, 36, 27, 36, 27, 12]
    assert sorted(zeros(wrapped)) == sorted(n - int(np.rint(n / 2)) for n in sizes)
    stripped = strip_pruning(wrapped)
    np.testing.assert_array_equal(stripped.predict(x, verbose=0), wrapped.predict(x, verbose=0))


@any_backend
def test_a_wrapper_called_by_itself():
    """With keywords, with several tensors and settings at once, and on states."""
    attention = prune_low_magnitude(layers.MultiHeadAttention(2, 3))
    x = RANDOM.normal(size=(2, 4, 6)).astype("float32")
    _, scores = attention(value=x, query=x, use_causal_mask=True, return_attention_scores=True,
                          attention_mask=np.ones((2, 4, 4), bool))  # fmt: skip
    assert scores.shape == (2, 2, 4, 4) and len(attention.pruning_vars) == 4
    lstm = prune_low_magnitude(layers.LSTM(3, return_state=True))
    states = [np.ones((2, 3), "float32")] * 2
    ours = lstm(x, initial_state=states)
    for one, other in zip(ours, lstm.layer(x, initial_state=states), strict=True):
        np.testing.assert_array_equal(numbers(one), numbers(other))
    twice = layers.TimeDistributed(prune_low_magnitude(layers.Dense(3)))
    assert twice(x).shape == (2, 4, 3) and len(twice.layer.pruning_vars) == 1


@any_backend
def test_m_by_n_on_dense_and_convolutions():
    """Two of four everywhere after training, and other kernels are left alone."""
    model = keras.Sequential(
        [keras.Input((6, 6, 5)), layers.Conv2D(4, 3), layers.Reshape((4, 4, 4, 1)),
         layers.Conv3D(2, 2), layers.Flatten(), layers.Dense(2)]
    )  # fmt: skip
    wrapped = prune_low_magnitude(model, sparsity_m_by_n=[2, 4])
    x = RANDOM.normal(size=(24, 6, 6, 5)).astype("float32")
    fit(compiled(wrapped), x=x, epochs=1)
    masked = [len(layer.pruning_vars) for layer in wrapped.layers]
    assert masked == [1, 0, 0, 0, 1]
    stripped = strip_pruning(wrapped)
    for layer in (stripped.layers[0], stripped.layers[-1]):
        assert has_zeros(layer.kernel)
    assert numbers(stripped.layers[2].kernel).all()
    assert PruneLowMagnitude.from_config(wrapped.layers[0].get_config()).sparsity_m_by_n == (2, 4)
    assert numbers(wrapped.layers[0].pruning_vars[0][2]) == 999


# -- training --


DECAY = PolynomialDecay(0.0, 0.75, begin_step=2, end_step=14, frequency=4)
COUNTS = [[0, 0]] * 5 + [[42, 11]] * 4 + [[58, 14]] * 4 + [[60, 15]] * 5


@any_backend
@pytest.mark.parametrize(
    "options",
    [
        {}, {"run_eagerly": True}, {"jit_compile": True}, {"steps_per_execution": 4},
        {"optimizer": lambda: keras.optimizers.Adam(use_ema=True, ema_momentum=0.5)},
        {"optimizer": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)},
        {"optimizer": lambda: keras.optimizers.AdamW(gradient_accumulation_steps=2)},
        {"optimizer": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())},
        {"policy": "mixed_float16"},
    ],
    ids=lambda options: "-".join(options) or "plain",
)  # fmt: skip
def test_weights_are_sparse_after_every_batch(options):
    """As sparse as the schedule says, from the very batch on that it says so, whatever trains
    them; the masks and the number of the step are written down."""
    if BACKEND == "torch" and {"jit_compile", "steps_per_execution"} & set(options):
        pytest.skip("Keras does without on PyTorch")
    options = dict(options)
    keras.config.set_dtype_policy(options.pop("policy", "float32"))
    optimizer = options.pop("optimizer", lambda: None)()
    model, look = prune_low_magnitude(dense(), DECAY), Look()
    fit(compiled(model, optimizer, **options), look, validation_data=(X, Y))
    every = options.get("steps_per_execution", 1)
    ends = [epoch * 6 + step for epoch in range(3) for step in ([3, 5] if every == 4 else range(6))]
    expected = [COUNTS[i] for i in ends]
    assert look.seen == expected and steps(model) == 18
    assert zeros(model) == [60, 15]
    assert all(layer.kernel.constraint is None for layer in strip_pruning(model).layers[::2])
    kernel, mask, threshold = model.layers[0].pruning_vars[0]
    assert {v.dtype for v in (kernel, mask, threshold)} == {"float32"}
    assert 0 < float(numbers(threshold)) <= np.abs(numbers(kernel)).max()


@any_backend
def test_a_sparsity_of_zero_changes_nothing():
    """The same losses and weights to the bit as without wrappers."""
    schedule = ConstantSparsity(0.0, 1, frequency=1)
    plain, wrapped = dense(), prune_low_magnitude(dense(), schedule)
    fit(compiled(plain)), fit(compiled(wrapped))
    assert plain.history.history == wrapped.history.history
    for a, b in zip(plain.get_weights(), strip_pruning(wrapped).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@any_backend
def test_one_weight_stays_at_least():
    """Of twenty weights at a sparsity of 0.99."""
    model = prune_low_magnitude(dense(), ConstantSparsity(0.99, 1, frequency=1))
    assert zeros(fit(compiled(model), epochs=1)) == [79, 19]


class Asked(PruningSchedule):
    """Notes down what it is asked."""

    def __init__(self, share=0.5):
        self.share, self.steps = share, []

    def __call__(self, step):
        self.steps.append(step)
        return self._should_prune_in_step(step, 4, 10, 3), self.share

    def get_config(self):
        return {"class_name": "Asked", "config": {"share": self.share}}


@any_backend
def test_schedules_are_asked_once_a_step():
    """However many layers share one, with Python's integers, the first being 1; masks change where
    it says so, from begin to end."""
    schedule, masks = Asked(), []

    class Masks(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            masks.append(numbers(self.model.layers[0].pruning_vars[0][1]).copy())

    model = prune_low_magnitude(dense(), schedule)
    before = numbers(model.layers[0].layer.kernel).copy()
    # A large step: other weights are the smallest after it.
    fit(compiled(model, keras.optimizers.Adam(0.3)), Masks(), epochs=2)
    assert schedule.steps == list(range(1, 13)) and {*map(type, schedule.steps)} == {int}
    assert all(mask.all() for mask in masks[:3]) and not masks[3].all() and before.all()
    changes = [i + 2 for i in range(11) if (masks[i] != masks[i + 1]).any()]
    assert 4 in changes and set(changes) <= {4, 7, 10}


@on_tensorflow
def test_schedules_that_compute_with_tensorflow():
    """They are called with integers and may answer with tensors."""
    import tensorflow as tf

    class Tensors(PruningSchedule):
        def __call__(self, step):
            share = tf.minimum(0.5, tf.cast(step, tf.float32) / 10)
            return tf.equal(tf.math.floormod(step, 2), 0), share

        def get_config(self):
            return {"class_name": "Tensors", "config": {}}

    look = Look()
    fit(compiled(prune_low_magnitude(dense(), Tensors())), look, epochs=1)
    assert [seen[0] for seen in look.seen] == [0, 16, 16, 32, 32, 40]


@any_backend
def test_fit_without_the_callback_is_refused():
    """Before and after a training with it, and the weights are not lost; other uses need none."""
    model = compiled(prune_low_magnitude(dense(), EVERY))
    before = model.get_weights()
    for _ in range(2):
        with pytest.raises(ValueError, match="UpdatePruningStep callback to be provided during"):
            model.fit(X, Y, batch_size=4, verbose=0)
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        model.evaluate(X, Y, verbose=0)
        zeros(fit(model, epochs=1))
        before = model.get_weights()
    with pytest.raises(OptionError, match=r"keras_iplt\.sparsity\.UpdatePruningStep\(\)"):
        model(X, training=True)
    model(X, training=False)
    plain = [keras.Input((8,)), layers.Dense(8), prune_low_magnitude(layers.ReLU())]
    nothing = compiled(keras.Sequential(plain))
    fit(nothing, y=X, epochs=1)
    with pytest.raises(ValueError, match="wrapper of 're_lu' requires"):
        nothing.fit(X, X, batch_size=4, verbose=0)


@any_backend
@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
def test_evaluation_and_prediction_do_nothing():
    """Before a training, after one, and after one that was interrupted in an epoch."""
    model, callback = compiled(prune_low_magnitude(dense(), EVERY)), UpdatePruningStep()

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                raise KeyboardInterrupt

    def look():
        before, step = model.get_weights(), callback.step
        model.evaluate((b for b in [(X, Y)]), verbose=0, callbacks=[callback])  # of unknown length
        model.predict(X, verbose=0, callbacks=[callback])
        assert callback.step == step
        for one, other in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)

    look()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, batch_size=4, verbose=0, callbacks=[callback, Interrupt()])
    look()
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[callback])
    look()


@any_backend
def test_a_model_without_wrappers_is_left_alone():
    """The callback does nothing to it."""
    assert zeros(fit(compiled(dense()))) == []


@any_backend
def test_several_trainings_of_one_model():
    """Steps go on, after another `compile` too, with the same callback or a new one."""
    model = compiled(prune_low_magnitude(dense(), DECAY))
    fit(model, epochs=1)
    fit(compiled(model, "sgd"), epochs=1)
    callback = UpdatePruningStep()
    for _ in range(2):
        model.fit(X, Y, batch_size=4, verbose=0, callbacks=[callback])
    assert zeros(model) == [60, 15] and steps(model) == 24


@any_backend
@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
@pytest.mark.parametrize("at_once", [1, 4])
def test_data_of_unknown_length(at_once):
    """No step is counted that was not taken."""
    if BACKEND == "torch" and at_once > 1:
        pytest.skip("Keras takes one step at a time on PyTorch")
    model = compiled(prune_low_magnitude(dense(), DECAY), steps_per_execution=at_once)
    for epoch in (1, 2):
        batches = zip(X.reshape(6, 4, 8), Y.reshape(6, 4, 2), strict=True)
        data = (batch for batch in batches)
        model.fit(data, shuffle=False, verbose=0, callbacks=[UpdatePruningStep()])
        assert steps(model) == 6 * epoch


class Interrupted(Exception):
    pass


class Interrupt(keras.callbacks.Callback):
    """In the middle of the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 2):
            raise Interrupted


@any_backend
@pytest.mark.filterwarnings("ignore:.*optimizer.*state:UserWarning")
def test_what_an_interrupted_training_leaves(tmp_path):
    """Nothing on a stripped model; the next training starts afresh, or where a backup was made."""
    model = compiled(prune_low_magnitude(dense(), DECAY))
    with pytest.raises(Interrupted):
        fit(model, Interrupt())
    assert strip_pruning(model).layers[0].kernel.constraint is None
    with pytest.raises(Interrupted):
        fit(model, Interrupt())
    fit(model, epochs=2)
    assert zeros(model) == [60, 15] and steps(model) == 9 + 9 + 12
    assert strip_pruning(model).layers[0].kernel.constraint is None

    whole, look = compiled(prune_low_magnitude(dense(), DECAY)), Look()
    with pytest.raises(Interrupted):
        fit(whole, Interrupt(), keras.callbacks.BackupAndRestore(tmp_path))
    whole = compiled(prune_low_magnitude(dense(), DECAY))
    fit(whole, keras.callbacks.BackupAndRestore(tmp_path), look)
    assert steps(whole) == 18 and look.seen == COUNTS[6:]


@any_backend
def test_stripping_in_the_middle_of_a_training():
    """A callback may export the bare model; the training goes on as before."""
    sizes = []

    class Strip(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kernel = strip_pruning(self.model).layers[0].kernel
            sizes.append(int((numbers(kernel) == 0).sum()))

    look = Look()
    fit(compiled(prune_low_magnitude(dense(), DECAY)), Strip(), look)
    assert look.seen == COUNTS and sizes == [42, 58, 60]


def written(directory):
    """Values by tag and step."""
    import tensorflow as tf

    found = {}
    for file in directory.iterdir():
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
                assert value.metadata.plugin_data.plugin_name == "scalars"
    return found


@on_tensorflow
def test_a_training_loop_of_ones_own(tmp_path):
    """As tfmot's guide has it: steps are counted, weights are sparse after each, and at the start
    of each epoch the share of zeros and the threshold of each mask are written down."""
    import tensorflow as tf

    model = prune_low_magnitude(dense(), DECAY)
    model.optimizer = optimizer = keras.optimizers.Adam()
    update, summaries, seen = UpdatePruningStep(), PruningSummaries(str(tmp_path)), []
    update.set_model(model), summaries.set_model(model)
    update.on_train_begin()
    for _ in range(3):
        summaries.on_epoch_begin(epoch=-1)
        for x, y in zip(X.reshape(6, 4, 8), Y.reshape(6, 4, 2), strict=True):
            update.on_train_batch_begin(batch=-1)
            with tf.GradientTape() as tape:
                loss = keras.losses.mean_squared_error(y, model(x, training=True))
            variables = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            seen.append(zeros(model))
        update.on_epoch_end(batch=-1)
    assert seen == COUNTS and steps(model) == 18
    assert strip_pruning(model).layers[0].kernel.constraint is None
    found, (_, mask, threshold) = written(tmp_path / "metrics"), model.layers[0].pruning_vars[0]
    shares = [found[f"{mask.path}/sparsity", step] for step in (0, 6, 12)]
    assert shares == pytest.approx([0, 42 / 80, 58 / 80])
    thresholds = [found[f"{threshold.path}/threshold", step] for step in (0, 6, 12)]
    assert thresholds[0] == 0 < min(thresholds[1:])


@on_tensorflow
def test_summaries_beside_those_of_keras(tmp_path):
    """In `fit`, in the same directory."""
    pytest.importorskip("tensorboard")
    model = compiled(prune_low_magnitude(dense(), DECAY))
    fit(model, PruningSummaries(tmp_path))
    assert {step for _, step in written(tmp_path / "metrics")} == {0, 6, 12}
    assert list((tmp_path / "train").iterdir())


def test_summaries_want_a_directory():
    """Before anything else."""
    for wrong in ("", None, 3):
        with pytest.raises(ValueError, match="log_dir: expected a path"):
            PruningSummaries(wrong)


# -- saving --


@any_backend
def test_a_saved_model_goes_on_where_it_was(tmp_path):
    """Trained, saved in the middle of an epoch, loaded and trained on: the same as in one go."""
    path = tmp_path / "model.keras"
    options = {"optimizer": keras.optimizers.SGD(0.1, momentum=0.9)}
    model = compiled(prune_low_magnitude(dense(), DECAY), **options)
    model.layers[1].layer.rate = 0.0
    checkpoint = keras.callbacks.ModelCheckpoint(path, save_freq=9)
    seen = []

    class Saved(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if path.exists() and not seen:
                seen.append(keras.models.load_model(path))

    fit(model, checkpoint, Saved(), epochs=2)
    [loaded] = seen
    assert zeros(loaded) == COUNTS[8] and steps(loaded) == 9
    model.optimizer.build(model.trainable_variables)
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables)
    fit(loaded, epochs=1, x=X[12:], y=Y[12:])
    assert steps(loaded) == 12
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@any_backend
@pytest.mark.parametrize("form", ["keras", "h5", "json", "weights"])
@pytest.mark.filterwarnings("ignore:.*HDF5:UserWarning")
def test_formats(form, tmp_path):
    """Wrapped models load from each, with schedule and masks; with and without a scope."""
    model = keras.Sequential(
        [keras.Input((2, 4)), layers.LSTM(3), layers.Dense(4), layers.Dense(2)]
    )
    model = prune_low_magnitude(model, DECAY)
    fit(compiled(model), x=X.reshape(24, 2, 4), epochs=2)
    path = tmp_path / f"model.{form}"
    if form in ("keras", "h5"):
        model.save(path)
    with prune_scope():
        loaded = (
            keras.models.load_model(path, compile=False)
            if form in ("keras", "h5")
            else keras.models.model_from_json(model.to_json())
        )
    if form == "json":
        loaded.set_weights(model.get_weights())
    elif form == "weights":
        model.save_weights(tmp_path / "some.weights.h5")
        loaded.load_weights(tmp_path / "some.weights.h5")
    assert zeros(loaded) == zeros(model) and steps(loaded) == 12
    schedule = loaded.layers[0].pruning_schedule
    assert type(schedule) is PolynomialDecay and vars(schedule) == vars(DECAY)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert json.loads(loaded.to_json())["config"] == json.loads(model.to_json())["config"]
    stripped = strip_pruning(loaded)
    stripped.save(tmp_path / "bare.keras")
    assert not collect_prunable_layers(keras.models.load_model(tmp_path / "bare.keras"))


@keras.saving.register_keras_serializable("tests")
class Registered(Asked):
    def get_config(self):
        return {"class_name": "Registered", "config": {"share": self.share}}


@any_backend
def test_schedules_of_ones_own_are_saved():
    """By name as tfmot does, found among custom objects; or registered."""
    config = prune_low_magnitude(layers.Dense(2), Asked(0.25)).get_config()
    assert config["pruning_schedule"] == {"class_name": "Asked", "config": {"share": 0.25}}
    with keras.saving.custom_object_scope({"Asked": Asked}):
        assert PruneLowMagnitude.from_config(config).pruning_schedule.share == 0.25
    found = PruneLowMagnitude.from_config(config, custom_objects={"Asked": Asked})
    assert type(found.pruning_schedule) is Asked
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    text = prune_low_magnitude(model, Registered(0.25)).to_json()
    assert keras.models.model_from_json(text).layers[0].pruning_schedule.share == 0.25


# -- policies --


def mobile(middle=lambda x: x, padding="valid", pool=layers.GlobalAveragePooling2D):
    i = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, strides=2, padding=padding)(layers.ZeroPadding2D(1)(i))
    x = layers.Conv2D(4, 1, name="narrow")(middle(x))
    return keras.Model(i, layers.Dense(2)(pool()(x)))


def wrapped_by_policy(model):
    policy = PruneForLatencyOnXNNPack()
    return [
        layer.layer.name
        for layer in collect_prunable_layers(prune_low_magnitude(model, pruning_policy=policy))
    ]


def residual(x):
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 1, name="other")(x)))
    x = ops.multiply(layers.Add()([x, y]) - y, y)
    inside = keras.Input((4, 4, 4))
    z = layers.Activation("relu6")(layers.DepthwiseConv2D(3, padding="same")(inside))
    z = layers.DepthwiseConv2D(5)(layers.ZeroPadding2D(2)(z))
    x = keras.Model(inside, layers.Conv2D(4, 1, name="inner")(z))(x)
    gate = layers.Conv2D(4, 1, name="gate")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Multiply()([x, layers.Activation("sigmoid")(gate)])


@any_backend
def test_one_by_one_convolutions_are_wrapped_for_xnnpack():
    """In models inside too, and only they; a second time nothing changes."""
    assert sorted(wrapped_by_policy(mobile(residual))) == ["gate", "inner", "narrow", "other"]
    model = prune_low_magnitude(mobile(), pruning_policy=PruneForLatencyOnXNNPack())
    assert wrapped_by_policy(model) == ["narrow"]
    assert len(collect_prunable_layers(prune_low_magnitude(mobile()))) == 5
    assert wrapped_by_policy(prune_low_magnitude(mobile()))


@any_backend
def test_models_that_are_not_for_xnnpack():
    """tfmot's words."""
    refused = "Layer {} is not supported for the PruneForLatencyOnXNNPack pruning policy"
    depthwise = layers.DepthwiseConv2D(3, strides=2, padding="same")
    for model, message in (
        (mobile(padding="same"),
         "Could not find `Conv2D 3x3` layer with stride 2x2, `input filters == 3` and `VALID` "
         "padding and preceding `ZeroPadding2D` with `padding == 1` in all input branches of the "
         "model"),
        (mobile(pool=layers.Flatten),
         "Could not find a `GlobalAveragePooling2D` layer in all output branches"),
        (mobile(layers.MaxPooling2D()), refused.format("MaxPooling2D")),
        (mobile(depthwise), refused.format("DepthwiseConv2D")),
        (mobile(lambda x: ops.exp(x)), refused.format("Exp")),
        (keras.Sequential([layers.Dense(2)]), "Unbuilt models are not supported currently."),
    ):  # fmt: skip
        with pytest.raises(ModelError) as error:
            wrapped_by_policy(model)
        assert str(error.value) == message


@any_backend
def test_policies_of_ones_own():
    """They choose among the layers of a model, models inside included."""

    class Inner(PruningPolicy):
        def allow_pruning(self, layer):
            return layer.name in ("inner", "head")

        def ensure_model_supports_pruning(self, model):
            assert isinstance(model, keras.Model)

    wrapped = prune_low_magnitude(functional(), pruning_policy=Inner())
    assert {layer.layer.name for layer in collect_prunable_layers(wrapped)} == {"inner", "head"}


# -- other interpreters --


@on_tensorflow
def test_tfmot_prunes_as_many_weights(tfmot, tmp_path):
    """The same training with tfmot on tf_keras: as many zeros in each layer after each epoch, as
    many steps, and the same weights where masks are found once."""
    printed, directory = tfmot()
    expected, schedules = [], {
        "once": (ConstantSparsity(0.6, 1, 1), (1, 1)),
        "blocks": (ConstantSparsity(0.5, 1, 1), (2, 1)),
        "decay": (PolynomialDecay(0.1, 0.83, 2, 14, frequency=4), (1, 1)),
        "constant": (ConstantSparsity(0.37, 3, frequency=2), (1, 1)),
    }  # fmt: skip
    for name, (schedule, block) in schedules.items():
        model = dense()
        model.layers[1].rate = 0.0
        model = prune_low_magnitude(model, schedule, block, "MAX")
        compiled(model, keras.optimizers.SGD(0.1))
        for _ in range(3):
            expected.append(f"{name} {zeros(fit(model, epochs=1))}")
        expected.append(str(steps(model)))
        if name in ("once", "blocks"):
            theirs = np.load(directory / f"{name}.npz").values()
            for layer, kernel in zip(model.layers[::2], theirs, strict=True):
                np.testing.assert_allclose(numbers(layer.layer.kernel), kernel, atol=1e-5)
    assert printed == expected


@on_tensorflow
def test_mirrored_strategy(tmp_path):
    """Replicas hold the same zeros, and train to what one device does."""
    process = started(tmp_path, MIRRORED.format(tests=str(TESTS)))
    out, problems = process.communicate()
    assert process.returncode == 0, out + problems
