"""tfmot beside Keras 3: schedules both ways, and layers whose filters are zeroed by schedule."""

import itertools
import json
import os
import subprocess
import sys
import types
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from support.law import difference, randomize

if keras.backend.backend() != "tensorflow":
    pytest.skip("tfmot is for the TensorFlow backend", allow_module_level=True)

import tensorflow as tf

import keras_iplt as iplt
from keras_iplt import schedules
from keras_iplt import tfmot_bridge as tfmot
from keras_iplt.errors import ModelError, OptionError
from keras_iplt.tfmot_bridge import door
from keras_iplt.tfmot_bridge.wrapper import wrappers_in

# Run by other interpreters, while the tests here go on.

DOOR = """
import os
from keras_iplt import tfmot_bridge as tfmot
import tensorflow as tf
print(os.environ.get("TF_USE_LEGACY_KERAS"), tf.keras.__version__[0])
import tensorflow_model_optimization as original
keras = original.sparsity.keras
print(tfmot.PruningSchedule is keras.PruningSchedule, tfmot.PrunableLayer is keras.PrunableLayer)
"""

KERAS_2 = """
import os
import numpy as np, tensorflow as tf
from keras_iplt import schedules, tfmot_bridge as tfmot
print(os.environ["TF_USE_LEGACY_KERAS"], tf.keras.__name__.partition(".")[0])
import tensorflow_model_optimization as original
keras, sparsity = tf.keras, original.sparsity.keras
schedule = tfmot.EpochSchedule(schedules.Ratios({1: 0.25, 2: 0.75}), 4)
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16)])
model = sparsity.prune_low_magnitude(model, schedule)
model.compile("adam", "mse")
x, y = np.random.normal(size=(16, 8)), np.random.normal(size=(16, 16))
look = keras.callbacks.LambdaCallback(
    on_epoch_end=lambda *_: print((model.layers[0].layer.kernel.numpy() == 0).mean()))
calls = [sparsity.UpdatePruningStep(), look]
model.fit(x, y, batch_size=4, epochs=4, callbacks=calls, verbose=0)
scope = keras.utils.custom_object_scope({"EpochSchedule": tfmot.EpochSchedule})
with sparsity.prune_scope(), scope:
    again = keras.models.model_from_json(model.to_json())
print(again.layers[0].pruning_schedule.schedule)
"""


@pytest.fixture(scope="module", autouse=True)
def others():
    """What they print, once asked for; tfmot's warnings are errors there."""
    strict = "error::DeprecationWarning:tensorflow_model_optimization"
    unset = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    started = {
        code: subprocess.Popen(
            [sys.executable, "-W", strict, "-c", code],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for code, environment in ((DOOR, unset), (KERAS_2, unset | {"TF_USE_LEGACY_KERAS": "1"}))
    }  # fmt: skip

    def printed(code):
        out, problems = started[code].communicate()
        assert started[code].returncode == 0, problems
        return out.splitlines()

    yield printed
    for process in started.values():
        with process:
            process.kill()


# -- the door --


def test_what_tfmot_overwrites_is_put_back(monkeypatch):
    """A preset 0 stays 0, and tfmot's warnings are not the user's."""

    class Overwriting(types.ModuleType):
        PrunableLayer = tfmot.PrunableLayer

        @property
        def PruningSchedule(self):
            os.environ["TF_USE_LEGACY_KERAS"] = "1"
            warnings.warn("distutils is deprecated", DeprecationWarning, stacklevel=1)
            return tfmot.PruningSchedule

    name = "tensorflow_model_optimization.sparsity.keras"
    monkeypatch.setitem(sys.modules, name, Overwriting(name))
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "0")
    assert door._classes_of_tfmot() == (tfmot.PruningSchedule, tfmot.PrunableLayer)
    assert os.environ["TF_USE_LEGACY_KERAS"] == "0"


def test_without_tfmot_the_error_says_what_to_install(monkeypatch):
    """And the environment is put back all the same."""
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "maybe")
    monkeypatch.setitem(sys.modules, "tensorflow_model_optimization.sparsity.keras", None)
    with pytest.raises(ImportError, match=r"pip install .*tensorflow-model-optimization"):
        door._classes_of_tfmot()
    assert os.environ["TF_USE_LEGACY_KERAS"] == "maybe"


# -- schedules --


def original():
    """tfmot's own schedules: the module that keras_iplt.tfmot_bridge imported."""
    return sys.modules["tensorflow_model_optimization"].sparsity.keras


def test_polynomial_is_polynomial_decay():
    """Ours in epochs gives what tfmot's gives in steps, at every update and between them."""
    for begin, end, every, power in ((0, 10, 1, 3), (2, 12, 5, 2), (3, 7, 2, 1)):
        theirs = schedules.get(original().PolynomialDecay(0.125, 0.75, begin, end, power, every))
        ours = schedules.Polynomial(0.75, begin, end, 0.125, power, every)
        for epoch in range(1, end + 3):  # a step for each epoch
            assert theirs(0, step=epoch) == pytest.approx(ours(epoch), abs=1e-6)
        assert theirs.target == pytest.approx(ours.target)


def test_tfmot_schedules_prune_every_so_many_steps():
    """Between two pruning steps the share holds; a constant one starts at its first own step."""
    decay = schedules.get(original().PolynomialDecay(0.0, 0.5, 10, 50, frequency=20))
    assert [round(decay(0, step=s), 4) for s in (9, 29, 30, 49, 50, 99)] == [
        0, 0, 0.4375, 0.4375, 0.5, 0.5,
    ]  # fmt: skip
    constant = schedules.get(original().ConstantSparsity(0.5, begin_step=2, frequency=100))
    assert [constant(0, step=s) for s in (1, 2, 3, 500)] == [0, 0.5, 0.5, 0.5]
    assert constant.target == 0.5
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(decay))
    assert again == decay and again(0, step=30) == pytest.approx(0.4375)


def test_our_schedules_in_tfmots_clothes():
    """True at the first step of every epoch until the end; the share is that of the epoch."""
    ours = schedules.Incremental(0.3, step=0.1, every=2)
    theirs = tfmot.EpochSchedule(ours, steps_per_epoch=4)
    assert isinstance(theirs, original().PruningSchedule)
    graph = tf.function(theirs, input_signature=[tf.TensorSpec((), tf.int64)])
    for step in range(1, 45):
        prunes, share = graph(step)
        assert bool(prunes) == ((step - 1) % 4 == 0 and (step - 1) // 4 <= 6)
        assert float(share) == pytest.approx(ours((step - 1) // 4))
    config = json.loads(json.dumps(theirs.get_config()))
    assert set(config) == {"class_name", "config"}
    again = tfmot.EpochSchedule.from_config(config["config"])
    assert again.schedule == ours and again.steps_per_epoch == 4
    assert schedules.get(theirs).target == pytest.approx(0.3)


def test_what_epoch_schedule_refuses():
    """Schedules that count in steps, and epochs without steps."""
    with pytest.raises(OptionError, match="steps_per_epoch: expected a positive integer"):
        tfmot.EpochSchedule(0.5, 0)
    with pytest.raises(OptionError, match="schedule: expected one in epochs"):
        tfmot.EpochSchedule(original().ConstantSparsity(0.5, 0), 10)


# -- whole filters --


def classifier(activation="relu"):
    """Batch norm, a residual addition, a depthwise convolution, a nested model, a head."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(image)
    x = layers.Activation(activation)(layers.BatchNormalization()(x))
    y = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(x)
    y = layers.Conv2D(8, 1, use_bias=False, name="narrow")(layers.Activation(activation)(y))
    x = x + layers.BatchNormalization()(y)
    inner = keras.Input((8, 8, 8))
    z = layers.Conv2D(10, 3, activation=activation, name="inner")(inner)
    x = keras.Model(inner, layers.BatchNormalization(name="norm")(z), name="nested")(x)
    x = layers.Dense(12, activation=activation, name="hidden")(layers.GlobalMaxPooling2D()(x))
    return keras.Model(image, layers.Dense(3, name="head")(x))


def gated():
    """A gate that ties pairs of filters; grouped, separable and transposed convolutions."""
    image = keras.Input((6, 6, 4))
    x = layers.Conv2D(12, 3, padding="same", name="both")(image)
    value, gate = keras.ops.split(x, 2, axis=-1)
    x = value * keras.ops.sigmoid(gate)
    x = layers.Conv2D(8, 3, groups=2, name="grouped")(x)
    x = layers.SeparableConv2D(8, 3, depth_multiplier=2, padding="same", name="separable")(x)
    x = layers.Conv2DTranspose(6, 2, activation="sigmoid", name="transposed")(x)
    return keras.Model(image, layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(x)))


def sequential():
    return keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(10, 3, name="conv"), layers.BatchNormalization(),
         layers.Activation("sigmoid"), layers.Flatten(), layers.Dense(4, name="head")]
    )  # fmt: skip


def trained(model, schedule, epochs=2, extra=(), **options):
    """A wrapped model after some training, and inputs for it."""
    randomize(model)
    wrapped = tfmot.prune_filters(model, schedule, **options)
    random = np.random.default_rng(0)
    x = random.normal(size=(16, *model.input_shape[1:])).astype("float32")
    y = random.normal(size=(16, *model.output_shape[1:]))
    wrapped.compile("adam", "mse", jit_compile=False)
    callbacks = [tfmot.UpdateFilters(), *extra]
    wrapped.fit(x, y, batch_size=4, epochs=epochs, callbacks=callbacks, verbose=0)
    return wrapped, x


def nodes_of(model):
    """How often each operation of a model was called: other models over it would show here."""
    return [
        len(operation._inbound_nodes) for operation in getattr(model, "operations", model.layers)
    ]


def zero_filters(wrapper):
    """A mask over the filters of a wrapped layer, counted along the last axis of the kernel."""
    kernel, *bias = map(keras.ops.convert_to_numpy, wrapper.get_prunable_weights())
    zero = (kernel == 0).reshape(-1, kernel.shape[-1]).all(axis=0)
    assert not any(b[zero].any() for b in bias)
    return zero


@pytest.mark.parametrize(
    ("build", "left"),
    [
        (lambda: classifier("sigmoid"), {"hidden": 6}),
        (gated, {"both": 8, "grouped": 4, "separable": 4, "transposed": 3}),
        (sequential, {"conv": 5}),
    ],
    ids=["residual", "gated", "sequential"],
)
def test_stripping_changes_no_output(build, left):
    """Trained to zeros, then without them: smaller, of the same kind, and it computes the same.
    Filters that can only go together (four of `both`, two of `grouped`) are ranked together."""
    model = build()
    wrapped, x = trained(model, {0: 0.25, 1: 0.5})
    small = tfmot.strip_filters(wrapped)
    sizes = {name: small.get_layer(name).get_config() for name in left}
    assert {name: c.get("filters", c.get("units")) for name, c in sizes.items()} == left
    assert difference(wrapped.predict(x, verbose=0), small.predict(x, verbose=0)) < 1e-5
    assert isinstance(small, keras.Sequential) == isinstance(model, keras.Sequential)
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]
    assert small.compiled and not wrappers_in(small)
    assert len(wrappers_in(wrapped)) == len(wrappers_in(tfmot.prune_filters(model, 0.5)))


def test_filters_follow_the_schedule():
    """At the end of every epoch each layer has lost its share, the least important first, and
    keeps it through the batches."""
    shares = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            shares.append(zero_filters(self.model.get_layer("prune_filters_conv")))

    model = sequential()
    randomize(model)
    norms = np.sqrt((keras.ops.convert_to_numpy(model.layers[0].kernel) ** 2).sum(axis=(0, 1, 2)))
    wrapped, _ = trained(model, {1: 0.2, 2: 0.55}, extra=[Look()], epochs=4)
    assert [int(zero.sum()) for zero in shares] == [0] * 4 + [2] * 4 + [6] * 8
    assert norms[shares[4]].max() < np.sort(norms)[5]
    assert all((later >= sooner).all() for sooner, later in itertools.pairwise(shares))
    assert not zero_filters(wrapped.get_layer("prune_filters_conv"))[np.argmax(norms)]


def test_a_channel_stays_while_one_of_its_filters_lives():
    """In a residual stream only what is zero in every layer goes; with one of them wrapped,
    nothing does, and the outputs are the same all the same."""
    wrapped, x = trained(classifier(), {0: 0.5}, 1, layers=["stem", "inner"])
    small = tfmot.strip_filters(wrapped)
    assert small.get_layer("stem").filters == 8
    assert small.get_layer("nested").get_layer("inner").filters == 5
    assert zero_filters(wrapped.get_layer("prune_filters_stem")).sum() == 4
    assert difference(wrapped.predict(x, verbose=0), small.predict(x, verbose=0)) < 1e-5
    both, _ = trained(classifier(), {0: 0.5}, 1, layers=["stem", "narrow"])
    zero = [zero_filters(both.get_layer(f"prune_filters_{n}")) for n in ("stem", "narrow")]
    left = 8 - np.count_nonzero(zero[0] & zero[1])
    assert tfmot.strip_filters(both).get_layer("stem").filters == left < 8


def test_a_depthwise_layer_can_be_wrapped():
    """Its filters are zeroed, and stay until those before them are zero too."""
    wrapped, x = trained(classifier(), {0: 0.5}, 1, layers="depthwise")
    weights = wrapped.get_layer("prune_filters_depthwise").get_prunable_weights()
    kernel, bias = map(keras.ops.convert_to_numpy, weights)
    zero = (kernel == 0).all(axis=(0, 1, 3))
    assert ((bias.reshape(8, 2) == 0).all(axis=1) == zero).all()  # two filters per channel
    small = tfmot.strip_filters(wrapped)
    assert zero.sum() == 4 and small.count_params() == classifier().count_params()
    assert difference(wrapped.predict(x, verbose=0), small.predict(x, verbose=0)) < 1e-5


def test_what_is_not_zero_throughout_stays():
    """A filter that someone else set to zero: what batch norm makes of it is still there."""
    model = sequential()
    randomize(model)
    wrapped = tfmot.prune_filters(model, 0.5)
    kernel, bias = wrapped.layers[0].get_prunable_weights()
    for variable in (kernel, bias):
        variable.assign(variable * np.array([0] * 3 + [1] * 7, "float32"))
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    small = tfmot.strip_filters(wrapped)
    assert small.layers[0].filters == 10
    assert difference(wrapped.predict(x, verbose=0), small.predict(x, verbose=0)) < 1e-5


def test_a_group_keeps_a_channel():
    """Where half of a layer's filters feed a branch of their own, the branch is not emptied."""
    inputs = keras.Input((5,))
    x = layers.Dense(8, name="both")(inputs)
    a, b = layers.Dense(2, name="a")(x[:, :4]), layers.Dense(2, name="b")(x[:, 4:])
    model = keras.Model(inputs, layers.Add()([a, b]))
    kernel = np.ones((5, 8), "float32")
    kernel[:, :4] = 1e-3
    wrapped = tfmot.prune_filters(model, {0: 0.5}, layers="both")
    wrapped.get_layer("prune_filters_both").layer.kernel.assign(kernel)
    wrapped.compile("sgd", "mse")
    x = np.ones((4, 5))
    wrapped.fit(x, np.ones((4, 2)), callbacks=[tfmot.UpdateFilters()], verbose=0)
    assert zero_filters(wrapped.get_layer("prune_filters_both"))[:4].all()
    small = tfmot.strip_filters(wrapped)
    assert small.get_layer("both").units == 5
    assert difference(wrapped.predict(x, verbose=0), small.predict(x, verbose=0)) < 1e-5


def test_a_wrapped_model_is_saved_with_its_zeros(tmp_path):
    """It loads with schedule and criterion, computes the same, trains on and can be stripped."""
    schedule = original().PolynomialDecay(0.0, 0.5, 0, 4, frequency=4)
    wrapped, x = trained(sequential(), schedule, criterion="l1")
    wrapped.save(tmp_path / "wrapped.keras")
    loaded = keras.models.load_model(tmp_path / "wrapped.keras")
    assert difference(wrapped.predict(x, verbose=0), loaded.predict(x, verbose=0)) == 0
    (one,) = wrappers_in(loaded)
    assert one.schedule == schedules.get(schedule) and one.criterion == "l1"
    assert isinstance(one, original().PrunableLayer) and zero_filters(one).sum() == 5
    update = tfmot.UpdateFilters()
    loaded.fit(x, np.zeros((16, 4)), initial_epoch=2, epochs=3, callbacks=[update], verbose=0)
    assert zero_filters(one).sum() == 5
    nodes = nodes_of(loaded)
    assert tfmot.strip_filters(loaded).layers[0].filters == 5
    assert nodes_of(loaded) == nodes


def test_fit_without_the_callback_is_refused():
    """Not done silently: neither in the first `fit` nor in a later one."""
    wrapped, x = trained(sequential(), 0.5)
    fresh = tfmot.prune_filters(sequential(), 0.5)
    fresh.compile("sgd", "mse")
    for model in (fresh, wrapped):
        with pytest.raises(OptionError, match=r"expected keras_iplt\.tfmot_bridge\.UpdateFilters"):
            model.fit(x, np.zeros((16, 4)), batch_size=4, verbose=0)  # as `trained` does
    fresh.predict(x, verbose=0)
    fresh.fit(x, np.zeros((16, 4)), callbacks=[tfmot.UpdateFilters()], verbose=0)


def test_the_callback_without_wrappers_is_refused():
    """There is nothing to drive."""
    model = sequential()
    model.compile("sgd", "mse")
    with pytest.raises(OptionError, match="no PruneFilters layer"):
        model.fit(np.zeros((4, 8, 8, 3)), np.zeros((4, 4)), callbacks=[tfmot.UpdateFilters()])


def test_wrapping_carries_weights_flags_and_settings():
    """The wrapped model computes the same, is compiled alike, and is a copy."""
    model = classifier()
    randomize(model)
    model.get_layer("nested").trainable = False
    model.compile("sgd", loss=lambda y, p: keras.ops.mean((y - p) ** 2))
    nodes = nodes_of(model)
    wrapped = tfmot.prune_filters(model, 0.5)
    assert nodes_of(model) == nodes
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    assert difference(model.predict(x, verbose=0), wrapped.predict(x, verbose=0)) == 0
    assert [w.layer.name for w in wrappers_in(wrapped)] == [
        "stem", "narrow", "inner", "hidden",
    ]  # fmt: skip
    assert wrapped.compiled and model.compiled
    assert len(wrapped.trainable_weights) == len(model.trainable_weights)
    wrapped.get_layer("prune_filters_stem").layer.kernel.assign(np.zeros((3, 3, 3, 8)))
    assert model.get_layer("stem").kernel.numpy().any()


def test_a_layer_shared_with_a_nested_model_stays_one_layer():
    """It is wrapped once, and its weights are shared as before."""
    shared = layers.Dense(4, name="shared")
    inner, outer = keras.Input((4,)), keras.Input((4,))
    nested = keras.Model(inner, shared(inner), name="nested")
    model = keras.Model(outer, layers.Dense(2)(shared(nested(outer))))
    wrapped = tfmot.prune_filters(model, 0.5, layers="shared")
    assert len(wrappers_in(wrapped)) == 1
    assert wrapped.count_params() == model.count_params()


def test_mixed_precision_and_masks():
    """A wrapper computes in the precision of its layer, and passes on masks as that does."""
    keras.config.set_dtype_policy("mixed_float16")
    inner = layers.Dense(4, dtype="float32")
    wrapper = tfmot.PruneFilters(inner, 0.5)
    assert wrapper.compute_dtype == "float32" and wrapper.supports_masking
    wrapped, x = trained(sequential(), {0: 0.5}, 1)
    assert wrapped.layers[0].compute_dtype == "float16"
    small = tfmot.strip_filters(wrapped)
    assert small.layers[0].filters == 5
    assert difference(wrapped.predict(x, verbose=0), small.predict(x, verbose=0)) < 1e-2


def test_what_cannot_be_wrapped():
    """Errors say what was expected."""
    model = sequential()
    with pytest.raises(OptionError, match=r"layer: expected one of Dense, .*received: <Flatten"):
        tfmot.PruneFilters(layers.Flatten(), 0.5)
    with pytest.raises(OptionError, match="criterion: expected one of 'l2'"):
        tfmot.PruneFilters(layers.Dense(3), 0.5, criterion="taylor")
    with pytest.raises(OptionError, match="has no layer 'cnov'"):
        tfmot.prune_filters(model, 0.5, layers="cnov")
    with pytest.raises(OptionError, match=r"layers: expected one of Dense, .*'flatten"):
        tfmot.prune_filters(model, 0.5, layers=model.layers[3])
    with pytest.raises(OptionError, match="layers: expected dense layers or convolutions of model"):
        tfmot.prune_filters(keras.Sequential([keras.Input((3,)), layers.Dense(2)]), 0.5)
    with pytest.raises(ModelError):
        tfmot.prune_filters(layers.Dense(3), 0.5)


def test_other_tools_see_through_the_wrappers():
    """A wrapped model is read, counted and pruned like the bare one."""
    model = classifier()
    wrapped = tfmot.prune_filters(model, 0.5)
    assert iplt.profile(wrapped).params == iplt.profile(model).params
    groups = [[group.size for group in iplt.trace(m).groups] for m in (model, wrapped)]
    assert groups[0] == groups[1]


# -- other interpreters --


def test_importing_leaves_keras_3_in_place(others):
    """The environment is as before, `tf.keras` is Keras 3, and tfmot's classes are tfmot's."""
    assert others(DOOR) == ["None 3", "True True"]


def test_tfmot_prunes_a_keras_2_model_by_our_schedule(others):
    """`prune_low_magnitude` on tf_keras, which whoever asked for it keeps: at the end of each
    epoch, the share of that epoch is zero; the wrapped model is made again from its config."""
    assert others(KERAS_2) == [
        "1 tf_keras", "0.0", "0.25", "0.75", "0.75", "Ratios(ratios={1: 0.25, 2: 0.75}, every=1)",
    ]  # fmt: skip
