"""The recipe of Zuo et al.: phases of data, layers that are probed, Eq. 1, claims and options."""

import argparse
import inspect
import math
import re

import keras
import numpy as np
import pytest
from keras_iplt_recipes import data, zoo
from keras_iplt_recipes.common.phases import Phases
from keras_iplt_recipes.common.spread import Spread
from keras_iplt_recipes.data.images import scaled
from keras_iplt_recipes.structure_aware import detectors, figures, runs, tables
from support.training import BACKEND

import keras_iplt as iplt
from keras_iplt import sparsity

pytestmark = pytest.mark.slow

needs_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data")


@pytest.fixture
def numbered(tmp_path):
    """Ten training images, each all of one number; batches of four."""
    x = np.arange(10, dtype="uint8")[:, None, None, None] * np.ones((1, 4, 4, 1), "uint8")
    y = np.arange(10) % 2
    np.savez(tmp_path / "ten.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return data.load(
        str(tmp_path / "ten.npz"), batch_size=4, validation=0, scaling=None, augment=None
    )


class Streamed:
    """The same as a stream of TensorFlow."""

    def __init__(self, source):
        self.source, self.made = source, 0

    def batches(self, part, epoch=0, drop_remainder=False):
        import tensorflow as tf

        self.made += 1
        whole = list(self.source.batches(part, epoch=epoch, drop_remainder=drop_remainder))
        return tf.data.Dataset.from_generator(
            lambda: iter(whole), output_signature=(tf.TensorSpec((None, 4, 4, 1)),
                                                   tf.TensorSpec((None,), tf.int64)),
        ).apply(tf.data.experimental.assert_cardinality(len(whole)))  # fmt: skip


def seen(phases, epoch):
    phases.epoch = epoch
    return [phases[i][0][:, 0, 0, 0].tolist() for i in range(len(phases))]


def real(source, epochs):
    """The batches of real epochs, one after another."""
    return [
        images[:, 0, 0, 0].tolist()
        for epoch in range(epochs)
        for images, _ in source.batches("train", epoch=epoch)
    ]


def test_phases_are_real_epochs_cut_anew(numbered):
    """Three batches an epoch, of which one is smaller, in phases of two."""
    phases = Phases(numbered, 2)
    wanted = real(numbered, 2)
    assert len(phases) == 2 and wanted[:3] != wanted[3:]
    assert [seen(phases, epoch) for epoch in range(3)] == [wanted[:2], wanted[2:4], wanted[4:]]
    assert seen(phases, 1) == wanted[2:4]  # a training that goes on there


def test_phases_leave_out_what_does_not_fill_a_batch(numbered):
    phases = Phases(numbered, 3, drop_remainder=True)
    assert [len(batch) for batch in seen(phases, 0) + seen(phases, 1)] == [4] * 6


@needs_tensorflow
def test_phases_of_streams(numbered):
    """The same batches; a stream is opened once an epoch, and skipped into when going on."""
    source = Streamed(numbered)
    phases, wanted = Phases(source, 2), real(numbered, 3)
    assert [seen(phases, epoch) for epoch in range(4)] == [wanted[i : i + 2] for i in (0, 2, 4, 6)]
    assert source.made == 4  # one to count them
    again = Phases(source, 2)
    assert seen(again, 2) == wanted[4:6]


@pytest.mark.parametrize("streamed", [False, pytest.param(True, marks=needs_tensorflow)])
def test_fit_trains_on_phases(numbered, streamed):
    """Each epoch of Keras is a phase: what its metric has seen is what lies in the phase."""
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(),
         keras.layers.Dense(1, kernel_initializer="ones")]
    )  # fmt: skip
    model.compile(keras.optimizers.SGD(0.0), loss=lambda y, out: out[:, 0] / 16)
    phases = Phases(Streamed(numbered) if streamed else numbered, 2)

    class Epochs(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            phases.epoch = epoch

    history = model.fit(phases, epochs=3, shuffle=False, verbose=0, callbacks=[Epochs()])
    wanted = real(numbered, 2)
    parts = [wanted[0] + wanted[1], wanted[2] + wanted[3], wanted[4] + wanted[5]]
    assert history.history["loss"] == pytest.approx([np.mean(part) for part in parts], rel=1e-5)


def probed(network):
    """What differs -> the layers of Tables I and II."""
    return tables.by_difference([of for of in tables.LAYERS.rows if of[0] == network])


def rows_of(model):
    return [
        [row.name, row.weights] for row in sparsity.measure(model, convolutions_only=True).layers
    ]


def test_the_rule_finds_what_the_paper_probes_in_vgg16():
    rows = rows_of(zoo.build("vgg16_imagenet", (32, 32, 3), hidden=()))
    published = probed("vgg16_imagenet")
    assert tables.chosen(rows) == published
    names = [name for name, _ in rows]
    assert [names.index(n) + 1 for n in published["depth"]] == [9, 13]


def test_the_rule():
    """Not the first one; the largest of equals; nothing where there is nothing."""
    rows = [["a", 1], ["b", 10], ["c", 20], ["d", 40], ["e", 40], ["f", 30], ["g", 20]]
    assert tables.chosen(rows) == {"size": ("c", "d"), "depth": ("c", "g")}
    assert tables.chosen([["a", 1], ["b", 9], ["c", 9]]) == {"depth": ("b", "c")}
    assert tables.chosen([["a", 1], ["b", 9]]) == {"size": ("a", "b")}
    assert tables.chosen([["a", 1]]) == {}


def test_inception_is_numbered_as_in_the_paper():
    """The layers of Table I, where and as large as it says."""
    rows = runs.in_order("inception_v3", [[n, 0, 0] for n in reversed(slim())])
    assert [name for name, *_ in rows] == slim()
    places = {name: i for i, (name, *_) in enumerate(rows, 1)}
    table = probed("inception_v3")
    assert [places[n] for n in table["size"]] == [5, 6]
    assert [places[n] for n in table["depth"]] == [31, 61]
    assert runs.in_order("resnet50", [["b", 1], ["a", 2]]) == [["b", 1], ["a", 2]]


def slim():
    from keras_iplt_recipes.zoo.applications import slim_names

    return list(slim_names())


def test_looking_sees_all_and_prunes_nothing():
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3, name="conv"), keras.layers.Flatten(),
         keras.layers.Dense(3, name="head")]
    )  # fmt: skip
    model.get_layer("conv").kernel.assign(-0.5 * np.ones((3, 3, 1, 2)))
    looking = runs.Looking()
    assert sparsity.prune_weights(model, 0, looking).zeros == 0
    assert looking.layers == [["conv", 18, 0.5]]


def run(accuracy, **more):
    return {"accuracy": accuracy, **more}


def test_what_is_lost():
    control = [run(93.0, before=[92.0, 0.3]), run(95.0, before=[94.0, 0.3])]
    runs = [run(90.0), run(93.5)]
    assert tables.worse(runs, control).values == (2.0, 0.5)
    assert tables.worse(runs, control, "accuracy").values == (3.0, 1.5)
    assert tables.worse(control, control).mean == -1.0
    assert tables.likely(0) == 100 and tables.likely(math.log(2)) == pytest.approx(50)


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ((91.0,), (90.0,), r"\+1.00 points; one seed does not tell"),
        ((91.0, 91.2), (90.0, 90.2), r"\+1.00 points, noise 0.28: holds"),
        ((90.0, 90.2), (91.0, 91.2), "-1.00 points, noise 0.28: does not hold"),
        ((90.0, 92.0), (90.5, 92.5), "not told apart"),
    ],
)
def test_claims_are_judged_beyond_noise(ours, theirs, said):
    runs, others = ([run(a) for a in some] for some in (ours, theirs))
    assert re.search(said, tables.judged(runs, others))


def test_curves_take_the_first_phase_of_each_sparsity():
    paced = [{"shares": [0.0, 0.5, 0.5, 0.75]}]
    runs = [{"losses": [1.0, 2.0, 9.0, 3.0]}, {"losses": [1.0, 4.0, 9.0, 3.0]}]
    points = figures.curve(runs, paced)
    assert points == [(0.0, 1.0, 0.0), (0.5, 3.0, pytest.approx(math.sqrt(2))), (0.75, 3.0, 0.0)]


def given(**own):
    settings = {
        "batches": 40_000, "every": 2000, "targets": [0.5, 0.75], "step": 0.05, "figures": [7],
        "probes": True, "probe_sparsity": 0.95, "probe_step": 0.1, "model": None,
        "weights": ["imagenet"], "prune_epochs": 20,
    }  # fmt: skip
    return argparse.Namespace(**settings | own)


def test_phases_are_enough_for_what_is_asked():
    runs.check_phases(given())
    assert runs.phases(given()) == 20 and runs.phases(given(batches=40_001)) == 21
    runs.check_phases(given(batches=32_000))  # 16: a phase at 75 % after 15 steps
    for own, option in (
        ({"batches": 30_000}, "--targets"),
        ({"batches": 30_000, "targets": [0.5], "probe_step": 0.05}, "--probe-sparsity"),
        ({"batches": 20_000, "targets": [0.4], "probes": False}, "--figures 7"),
        ({"figures": [8], "prune_epochs": 10}, "--figures 8"),
    ):
        with pytest.raises(iplt.errors.OptionError, match=option):
            runs.check_phases(given(**own))
    runs.check_phases(given(figures=[8], prune_epochs=10, model="a.keras", probes=False))


def test_weights_of_networks():
    options = given(weights=["imagenet", "googlenet=a/b=c.keras", "vgg19=none"])
    found = [runs.weights_of(options, name) for name in ("resnet50", "googlenet", "vgg19")]
    assert found == ["imagenet", "a/b=c.keras", None]
    assert runs.weights_of(given(weights=["odd=name.keras"]), "vgg16") == "odd=name.keras"
    assert runs.weights_of(given(model="x.keras"), "vgg16") is None


@pytest.mark.parametrize(
    ("name", "module"),
    [("inception_v3", "inception_v3"), ("resnet50", "resnet"), ("vgg16_imagenet", "vgg16"),
     ("vgg16_hubens", "vgg16"), ("mobilenet", "mobilenet"), ("densenet121", "densenet")],
)  # fmt: skip
def test_images_are_as_imagenets_weights_expect(name, module):
    """As large as the network was made for, and scaled as keras.applications does."""
    images = np.random.default_rng(0).integers(256, size=(2, 3, 3, 3)).astype("float32")
    wanted = getattr(keras.applications, module).preprocess_input(images.copy())
    np.testing.assert_allclose(
        scaled(runs.SCALING[name], 3, 255)(images), wanted, rtol=1e-4, atol=1e-4
    )
    if name != "vgg16_hubens":  # made for CIFAR
        shape = inspect.signature(getattr(zoo, name)).parameters["input_shape"].default
        assert shape[:2] == (runs.SIZES[name],) * 2


def test_a_table_row():
    layers = [["a", 10, 0.6], ["b", 30, 0.8]]
    runs = [run(90.0, loss=0.0, frozen=["a"], layers=layers)]
    row = tables.row_of("resnet50", "param", 0.75, runs, [run(93.0, before=[92.0, 0.1])])
    assert row["error more than before, % (published)"] == 1.4
    assert row["error more than before, % (obtained)"] == Spread((2.0,))
    assert row["layers, %"] == "60–80" and row["frozen layers"] == "1 of 2"
    assert row["e^-loss, %"].mean == 100


def test_what_a_detector_loses_beside_a_classifier():
    """In percent of what it was without pruning, whatever the scores are of."""

    def scores(*values):
        return [{"score": value, "macs": 0.3} for value in values]

    after = {
        ("classifier", "none"): scores(90.0, 90.0), ("classifier", "weights"): scores(81.0, 81.0),
        ("ssd", "none"): scores(50.0, 40.0), ("ssd", "weights"): scores(25.0, 20.0),
        ("ssd", "filters"): scores(25.0, 30.0), ("classifier", "filters"): scores(45.0, 90.0),
    }  # fmt: skip
    own = {method: after["ssd", method] for method in detectors.METHODS}
    row = detectors.row_of("ssd", scores(44.0, 46.0), own)
    assert row["trained, %"].mean == 45 and row["weights: lost of it, %"].values == (50.0, 50.0)
    assert row["multiply-adds left without these filters, %"].mean == pytest.approx(30)
    assert detectors.more_lost(after, "ssd", "weights").endswith(
        "+40.00 points, noise 0.00: holds."
    )
    assert "not told apart" in detectors.more_lost(after, "ssd", "filters")
