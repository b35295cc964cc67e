"""The papers' baselines: what each removes, when; and residual branches at full width."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from sklearn.datasets import load_digits
from support.law import check_law, difference, random_inputs, random_plan, randomize

import keras_iplt as iplt
from keras_iplt import baselines
from keras_iplt.graph.costs import macs, share_removed
from keras_iplt.layers import Scatter
from keras_iplt.surgery.live import plain_differences
from keras_iplt.surgery.shrinking import shrunk

BACKEND = keras.backend.backend()
X, Y = load_digits(return_X_y=True)
X = X[:480].reshape(-1, 8, 8, 1).astype("float32") / 16
Y = Y[:480]


# -- networks --------------------------------------------------------------------------------------


def conv(x, filters, strides=1, **options):
    x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False, **options)(x)
    return layers.BatchNormalization()(x)


def padded(x, filters):
    """Option A of the ResNet paper: every other position, and zeros for new channels."""
    return ops.pad(x[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [0, filters - x.shape[-1]]])


def block(x, filters):
    """A basic block; its first convolution halves the image where channels are added."""
    strides = 1 if filters == x.shape[-1] else 2
    y = conv(layers.ReLU()(conv(x, filters, strides)), filters)
    shortcut = x if strides == 1 else padded(x, filters)
    return layers.ReLU()(layers.Add()([shortcut, y]))


def cifar_resnet(depth, size=32, widths=(16, 32, 64), channels=3):
    """The ResNets of the CIFAR experiments: 20, 56, 110 …"""
    image = keras.Input((size, size, channels))
    x = layers.ReLU()(conv(image, widths[0], name="stem"))
    for filters in widths:
        for _ in range((depth - 2) // 6):
            x = block(x, filters)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, name="head")(x))


def small_resnet():
    """Two blocks, for digits."""
    return cifar_resnet(8, size=8, widths=(8, 16), channels=1)


def projected():
    """The shortcut is a convolution, and comes second; then a nested block, called with `+`."""
    i = keras.Input((6, 6, 4))
    x = layers.Conv2D(6, 1, name="shortcut")(i)
    y = layers.Conv2D(6, 3, padding="same")(layers.ReLU()(conv(i, 5)))
    x = layers.ReLU()(layers.Add()([y, x]))
    j = keras.Input((6, 6, 6))
    inner = keras.Model(j, layers.ReLU()(j + layers.Conv2D(6, 3, padding="same", name="in")(j)))
    return keras.Model(i, layers.Dense(3)(layers.Flatten()(inner(x))))


def pre_activation():
    """Three operands, one of them a branch of another length."""
    i = keras.Input((6, 6, 4))
    x = layers.Conv2D(5, 3, padding="same")(i)
    y = layers.Conv2D(5, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(x)))
    z = layers.Conv2D(5, 1)(layers.ReLU()(layers.Conv2D(7, 1)(x)))
    x = layers.Add()([x, y, z])
    return keras.Model(i, layers.Dense(3)(layers.GlobalMaxPooling2D()(x)))


@keras.saving.register_keras_serializable("test_baselines")
class Block(keras.layers.Layer):
    """A custom layer that is read operation by operation."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.first = layers.Conv2D(filters, 3, padding="same", activation="relu")
        self.last = layers.Conv2D(filters, 3, padding="same")

    def call(self, x):
        return ops.relu(x + self.last(self.first(x)))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


def custom():
    i = keras.Input((6, 6, 2))
    x = Block(5)(Block(5)(layers.Conv2D(5, 1)(i)))
    return keras.Model(i, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def perceptron():
    """The channels of a Dense branch stand in the last axis of three."""
    i = keras.Input((4, 6))
    x = layers.Dense(6)(i)
    for _ in range(2):
        x = x + layers.Dense(6)(layers.Dense(9, activation="relu")(x))
    return keras.Model(i, layers.Dense(3)(x))


RESIDUAL = [small_resnet, projected, pre_activation, custom, perceptron]


def scatters(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, Scatter)]


def filters(model):
    """The number of filters of each convolution."""
    return [x.filters for x in model.layers if isinstance(x, layers.Conv2D)]


# -- baselines -------------------------------------------------------------------------------------


def plain(learning_rate=0.05):
    """Two convolutions of 8 filters, and a hidden layer that is none of the papers' business."""
    keras.utils.set_random_seed(1)
    i = keras.Input((8, 8, 1))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, name="one")(i)))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, name="two")(x)))
    x = layers.Dense(12, activation="relu", name="hidden")(layers.Flatten()(x))
    return compiled(keras.Model(i, layers.Dense(10, name="head")(x)), learning_rate)


def compiled(model, learning_rate=0.05):
    model.compile(
        keras.optimizers.SGD(learning_rate, momentum=0.9 if learning_rate else 0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"], jit_compile=BACKEND == "jax",
    )  # fmt: skip
    return model


def fit(model, ours, epochs=4, callbacks=()):
    every = [ours, *callbacks]
    return model.fit(X, Y, 48, epochs, callbacks=every, shuffle=False, verbose=0).history


class Watch(keras.callbacks.Callback):
    """Notes what the model is like at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.zero, self.outputs, self.widths = [], [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.widths.append(filters(self.model))

    def on_epoch_end(self, epoch, logs=None):
        kernel = self.model.get_layer("one").get_weights()[0]
        self.zero.append(set(np.flatnonzero(~kernel.any(axis=(0, 1, 2)))))
        self.outputs.append(self.model.predict_on_batch(X[:16]))


BASELINES = {
    "pmt": (lambda: baselines.pmt(0.5, after=2), [0, 0, 0.5, 0.5]),
    "one_shot": (lambda: baselines.one_shot(0.5, after=2), [0, 0, 0.5, 0.5]),
    "soft": (lambda: baselines.soft(0.5), [0.5, 0.5, 0.5, 0.5]),
    "iplt_soft": (lambda: baselines.iplt_soft([0.25, 0.5], every=1), [0.25, 0.5, 0.5, 0.5]),
}


@pytest.mark.parametrize("name", BASELINES)
def test_each_trains_a_residual_network_to_its_ratio(name):
    """The ratio is what was asked for, at the epochs at which the paper says so; the log says so at
    every epoch; and the model has learned something."""
    make, ratios = BASELINES[name]
    model = compiled(baselines.full_width(small_resnet()))
    history = fit(model, make())
    assert history["ratio"] == pytest.approx(ratios)
    assert {len(values) for values in history.values()} == {4}
    assert history["params"][-1] == iplt.profile(model).params
    assert history["flops"][-1] == iplt.profile(model).flops
    assert sum(filters(model)[1:]) == 24 and filters(model)[0] == 8  # the stem feeds the stream
    assert history["accuracy"][-1] > 0.3
    if name != "pmt":
        assert filters(model) == [8, 4, 4, 8, 8]


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_one_shot_takes_the_smallest_norm_of_each_layer(norm):
    """At a learning rate of zero, what is left are the largest filters of before, in order."""
    model = plain(learning_rate=0.0)
    before = {name: model.get_layer(name).get_weights()[0] for name in ("one", "two")}
    before["one"][..., 0] = 0.0
    before["one"][0, 0, 0, 0], before["one"][..., 1] = 1.0, 0.2  # l1: 1 < 1.8, l2: 1 > 0.6
    before["one"][..., 2:] = 5 * np.sign(before["one"][..., 2:])
    model.get_layer("one").kernel.assign(before["one"])
    fit(model, baselines.one_shot(1 / 8, after=1, norm=norm), epochs=2)
    norms = [np.linalg.norm(k.reshape(-1, 8), int(norm[1]), axis=0) for k in before.values()]
    one, two = (np.sort(np.argsort(n)[1:]) for n in norms)
    assert (1 in one) == (norm == "l1") and (0 in one) == (norm == "l2")
    np.testing.assert_array_equal(model.get_layer("one").get_weights()[0], before["one"][..., one])
    left = before["two"][:, :, one][..., two]
    np.testing.assert_array_equal(model.get_layer("two").get_weights()[0], left)


def test_pmt_ranks_all_layers_together():
    """By the paper's norm: with one layer's filters much smaller, they are the ones to go. Dense
    units do not count."""
    model = plain(learning_rate=0.0)
    one = model.get_layer("one")
    one.kernel.assign(one.kernel * 0.01)
    watch = Watch()
    fit(model, baselines.pmt(0.375, after=1, criterion="l2"), epochs=2, callbacks=[watch])
    assert watch.widths == [[8, 8], [2, 8]] and model.get_layer("hidden").units == 12


def test_softly_pruned_filters_come_back():
    """Filters that were zero after one epoch are there after another, and in the final model; what
    that computes is what was measured after the last epoch."""
    model, watch, ours = plain(0.3), Watch(), baselines.soft(0.5)
    fit(model, ours, epochs=6, callbacks=[watch])
    assert [len(zero) for zero in watch.zero] == [4] * 6
    (plan,) = ours.progress.plans
    gone = set(range(8)) - set(plan.kept(model.get_layer("one").kernel)[3].tolist())
    assert gone == watch.zero[-1]
    assert set.union(*watch.zero) - gone, "no filter came back"
    assert watch.widths == [[8, 8]] * 6 and filters(model) == [4, 4]
    assert difference(watch.outputs[-1], model.predict_on_batch(X[:16])) < 1e-5


def test_iplt_soft_becomes_smaller_and_trains_on():
    """Ratio by ratio at full size; then the model is smaller, computes the same, and learns."""
    model, watch = plain(), Watch()
    ours = baselines.iplt_soft([0.25, 0.5], every=2)
    history = fit(model, ours, epochs=8, callbacks=[watch])
    assert history["ratio"] == pytest.approx([0, 0.25, 0.25, *[0.5] * 5])
    assert [len(zero) for zero in watch.zero] == [0, 2, 2, 4, 4, 4, 0, 0]
    assert watch.widths == [[8, 8]] * 6 + [[4, 4]] * 2
    assert difference(watch.outputs[6], watch.outputs[7]) > 1e-3


def test_iplt_soft_by_epochs():
    """The last share of a mapping has a soft epoch, too."""
    ours = baselines.iplt_soft({2: 0.25, 5: 0.5}, every=1)
    assert ours.schedule.last_epoch == 5 and ours.soft_epochs == 6


def test_iplt_soft_may_stay_soft_for_longer():
    """`soft_epochs` puts off the end of the soft epochs; every other option is passed on, too."""
    model, watch = plain(), Watch()
    ours = baselines.iplt_soft([0.5], every=1, soft_epochs=3, ignore="two")
    fit(model, ours, epochs=4, callbacks=[watch])
    assert watch.widths == [[8, 8]] * 3 + [[4, 8]]


def test_unknown_norms_are_refused():
    """Li et al. try two."""
    with pytest.raises(
        iplt.errors.OptionError, match="norm: expected 'l1' or 'l2', received: 'l3'"
    ):
        baselines.one_shot(0.5, after=1, norm="l3")


# -- full width ------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", RESIDUAL)
def test_scattered_branches_compute_the_same(build):
    """As inserted, the layers pass on what they get."""
    model = build()
    randomize(model)
    wide = baselines.full_width(model)
    (x,) = random_inputs(model)
    assert len(scatters(wide)) == 2 and not scatters(model)
    assert difference(model(x), wide(x)) == 0
    assert [v.name for v in wide.weights] == [v.name for v in model.weights]


@pytest.mark.parametrize("build", RESIDUAL)
def test_scattered_branches_obey_the_law(build):
    """Masked equals rewritten, in every tensor; and every branch does lose channels."""
    wide = baselines.full_width(build())
    graph = iplt.trace(wide)
    _, _, small = check_law(wide, plan=iplt.plan(graph, 0.4, scope="layer"))
    assert all(len(layer.positions) < layer.width for layer in scatters(small))
    assert any("keeps its full width" in frozen.reason for frozen in graph.frozen)


@pytest.mark.parametrize("build", RESIDUAL)
def test_scattered_branches_shrink_in_place(build):
    """Twice, as the positions that are left count from the beginning: the same object computes what
    it did with zeros, and what a rewritten one does. Then all the way back."""
    wide = baselines.full_width(build())
    randomize(wide)
    (x,) = random_inputs(wide)
    steps = []
    for seed in (1, 2):
        plan = random_plan(iplt.trace(wide), seed)
        iplt.mask(wide, plan)
        masked, values = wide(x), wide.get_weights()
        small = iplt.rewrite(wide, plan)
        steps.append((shrunk(wide, plan), values))
        assert difference(masked, wide(x)) < 1e-5 and difference(small(x), wide(x)) < 1e-5
        for one, other in zip(scatters(wide), scatters(small), strict=True):
            assert one.kept is not None and not list(plain_differences(one, other))
    for undo, values in reversed(steps):
        undo()
        for one, other in zip(values, wide.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    assert all(layer.kept is None for layer in scatters(wide))


def sfp_macs(depth, gone, widths=(16, 32, 64), size=32):
    """Multiply-adds as He et al. count them: of two convolutions in a block, the first loses
    outputs, the second inputs and outputs. The stem and the classifier stay whole here."""
    macs = 9 * size**2 * 3 * widths[0] + widths[-1] * 10
    inputs = widths[0]
    for filters, lost in zip(widths, gone, strict=True):
        size //= filters // inputs
        for _ in range((depth - 2) // 6):
            macs += 9 * size**2 * (filters - lost) * (inputs + filters - lost)
            inputs = filters
    return macs


def test_multiply_adds_are_those_of_soft_filter_pruning():
    """A quarter of the filters of each layer: to the last multiply-add."""
    wide = baselines.full_width(cifar_resnet(20))
    assert iplt.profile(wide).macs == sfp_macs(20, (0, 0, 0))
    small = iplt.prune(wide, 0.25, scope="layer", convolutions_only=True)
    assert iplt.profile(small).macs == sfp_macs(20, (4, 8, 16))


def test_flops_of_resnet_110_are_those_published():
    """He et al. print 14.6, 28.2 and 40.8 %. That is with fractions of filters (1.6 of 16 …), and
    with the stem pruned too: with whole filters it is up to 0.7 points more or less."""
    graph = iplt.trace(baselines.full_width(cifar_resnet(110)))
    lost = share_removed(macs, graph)
    for ratio, published in [(0.1, 14.6), (0.2, 28.2), (0.3, 40.8)]:
        plan = iplt.plan(graph, ratio, scope="layer", convolutions_only=True)
        assert 100 * lost(plan.gone) == pytest.approx(published, abs=0.7)


def test_resnet50_of_keras():
    """The stem and all three convolutions of the 16 blocks may lose filters of their own; the four
    projections stay."""
    model = keras.applications.ResNet50(
        weights=None, include_top=False, pooling="avg", input_shape=(32, 32, 3)
    )
    graph = iplt.trace(baselines.full_width(model))
    assert len(graph.groups) == 1 + 3 * 16
    found = {frozen.operation: frozen.reason for frozen in graph.frozen}
    assert list(found) == [f"conv{i}_block1_0_conv" for i in range(2, 6)]
    assert found["conv2_block1_0_conv"] == (
        "it is part of a residual stream that keeps its full width (conv2_block1_add_scatter)"
    )


def test_a_model_without_branches_is_refused():
    """Nothing added, or nothing that can be told to be a branch."""
    i = keras.Input((6, 6, 3))
    same = layers.Add()([layers.Conv2D(4, 3)(i), layers.Conv2D(4, 3)(i)])
    for model in (plain(), keras.Model(i, layers.Dense(2)(layers.Flatten()(same)))):
        with pytest.raises(iplt.errors.ModelError, match="has no residual branch"):
            baselines.full_width(model)


def test_a_branch_that_is_not_zero_where_it_is_masked_stays():
    """Behind a sigmoid a pruned channel is one half, not the zero that would be scattered."""
    i = keras.Input((6,))
    x = Scatter(4, name="scatter")(layers.Dense(4, activation="sigmoid", name="half")(i))
    graph = iplt.trace(keras.Model(i, layers.Dense(2)(x)))
    assert not graph.groups
    reason = {frozen.operation: frozen.reason for frozen in graph.frozen}["half"]
    assert reason == "a masked one is not zero where it is scattered (scatter)"


def test_full_width_stays_compiled():
    """With an optimizer of its own."""
    model = compiled(small_resnet())
    wide = baselines.full_width(model)
    assert wide.compiled and wide.optimizer is not model.optimizer
    assert wide.optimizer.momentum == model.optimizer.momentum


# -- the layer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [1, 2, -1, 3])
@pytest.mark.parametrize("kept", [[0, 2, 3], [4], None])
def test_scatter_puts_channels_where_they_were(axis, kept):
    """Along any axis, for any data format; also in a model whose other lengths are unknown."""
    width = 5
    shape = [2, 3, 4, 6]
    shape[axis] = width if kept is None else len(kept)
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    y = ops.convert_to_numpy(Scatter(width, kept, axis)(x))
    positions = range(width) if kept is None else kept
    np.testing.assert_array_equal(y.take(positions, axis), x)
    assert np.count_nonzero(y) == x.size and y.shape[axis] == width
    known = [n if i == axis % 4 else None for i, n in enumerate(shape)]
    i = keras.Input(batch_shape=known)
    model = keras.Model(i, Scatter(width, kept, axis)(i))
    assert model.output.shape[axis] == width
    np.testing.assert_array_equal(model(x), y)


@pytest.mark.parametrize("kept", [[], [0, 4], [1, 0], [1, 1], [-1, 2], [[0, 1]]])
def test_scatter_refuses_positions_that_are_none(kept):
    """They ascend, below the width."""
    with pytest.raises(iplt.errors.OptionError, match=r"kept: expected (ascending|several)"):
        Scatter(4, kept)


def test_scatter_refuses_other_numbers_of_channels():
    """One position, one channel."""
    with pytest.raises(
        iplt.errors.OptionError, match=r"'put' expected 2 channels .* received: shape"
    ):
        Scatter(4, [0, 1], name="put")(np.ones((1, 3)))


# -- what comes after ------------------------------------------------------------------------------


@pytest.fixture
def small():
    wide = baselines.full_width(small_resnet())
    randomize(wide)
    return iplt.prune(wide, 0.4, scope="layer")


def test_saved_and_loaded(small, tmp_path):
    """A `.keras` file brings the positions back; a clone has them, too."""
    small.save(tmp_path / "small.keras")
    again = keras.models.load_model(tmp_path / "small.keras")
    assert difference(small(X[:4]), again(X[:4])) == 0
    clone = keras.models.clone_model(small)
    assert [s.kept for s in scatters(clone)] == [s.kept for s in scatters(small)]
    assert scatters(small)[0].kept is not None


@pytest.mark.skipif(BACKEND != "tensorflow", reason="exports with TensorFlow")
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize("int8", [False, True])
def test_exported_to_tflite(small, tmp_path, int8):
    """Float and int8 models compute the same: what is scattered in between is zero there, too."""
    import tensorflow as tf

    options = {}
    if int8:
        options = dict(
            optimizations=[tf.lite.Optimize.DEFAULT],
            representative_dataset=lambda: ([x[None]] for x in X[:32]),
            target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
        )
    path = tmp_path / "small.tflite"
    small.export(path, format="litert", verbose=False, **options)
    interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], X[:1])
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert difference(small(X[:1]), found) < (0.1 if int8 else 1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="exports with TensorFlow")
def test_exported_to_saved_model(small, tmp_path):
    """For any number of images."""
    import tensorflow as tf

    small.export(str(tmp_path / "saved"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved"))
    assert difference(small(X[:5]), served.serve(X[:5])) < 1e-5
