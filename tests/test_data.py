"""Data sets: which examples, in what order, and what is said of those that cannot be used."""

import os
import pathlib
import re
import struct
import sys
import types
import zlib

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_iplt_recipes import data
from keras_iplt_recipes.data import images, named, splitting
from keras_iplt_recipes.data.batches import Batches

import keras_iplt as iplt

X = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), "uint8")
Y = np.arange(60) % 3


def message(kind, *arguments, **options):
    """What an error of some kind says, on one line, when data are loaded."""
    with pytest.raises(kind) as caught:
        data.load(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def npz(path, **arrays):
    np.savez(path / "set.npz", **arrays)
    return path / "set.npz"


def net(loaded):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(loaded.input_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(len(loaded.classes)),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


# -- which examples --------------------------------------------------------------------------------

labels_of = st.integers(1, 6).flatmap(
    lambda classes: st.lists(st.integers(0, classes - 1), min_size=1, max_size=80)
)


@settings(deadline=None)
@given(labels_of, st.data(), st.integers(0, 9))
def test_taking(labels, chosen, seed):
    """As many as asked for, each once, of every class; more of them include fewer."""
    labels = np.array(labels)
    least = len(np.unique(labels))
    count = chosen.draw(st.integers(least, len(labels)))
    own = splitting.picked(labels, count, seed)
    assert len(own) == count and (np.diff(own) > 0).all()
    assert set(labels[own]) == set(labels)
    assert own.tolist() == splitting.picked(labels, count, seed).tolist()
    assert set(splitting.picked(labels, least, seed)) <= set(own)


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(2, 20), st.data(), st.integers(0, 9))
def test_taking_keeps_shares(classes, each, chosen, seed):
    """Of classes of equal size the same number is taken, give or take one."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(classes), each))
    count = chosen.draw(st.integers(classes, len(labels)))
    taken = np.bincount(labels[splitting.picked(labels, count, seed)])
    assert (abs(taken - count / classes) < 2).all()


@settings(deadline=None)
@given(labels_of, st.floats(0, 0.99), st.integers(0, 9))
def test_splitting(labels, share, seed):
    """Two parts without overlap that make up the whole, of the sizes asked for; every class stays
    if there is room for it."""
    labels = np.array(labels)
    stays, goes = splitting.split_off(labels, share, seed)
    assert sorted([*stays, *goes]) == list(range(len(labels)))
    assert len(goes) == round(share * len(labels))
    if len(stays) >= len(set(labels)):
        assert set(labels[stays]) == set(labels)


@pytest.mark.any_backend
def test_digits():
    """The parts, and what is known of them."""
    digits = data.load("digits")
    assert digits.counts == {"train": 1294, "validation": 144, "test": 359}
    assert digits.classes == tuple("0123456789") and digits.input_shape == (8, 8, 1)
    assert digits.name in repr(digits) and "1,294 train" in repr(digits)
    parts = [digits.arrays(part) for part in digits.counts]
    whole = sorted(image.tobytes() for x, _ in parts for image in x)
    from sklearn.datasets import load_digits

    assert whole == sorted((i / 16).astype("float32").tobytes() for i in load_digits().images)
    for _, y in parts:
        assert np.bincount(y).min() >= 0.08 * len(y)
    assert len(digits.train) == 11 and len(digits.test) == 3


def test_seeds():
    """The test part is the same for all seeds, the others are not; the same seed repeats all."""
    one, again, other = (data.load("digits", seed=seed) for seed in (1, 1, 2))
    for part in one.counts:
        np.testing.assert_array_equal(one.arrays(part)[0], again.arrays(part)[0])
        same = np.array_equal(one.arrays(part)[0], other.arrays(part)[0])
        assert same == (part == "test")
    batches = [next(iter(d.train))[1].tolist() for d in (one, again, other)]
    assert batches[0] == batches[1] != batches[2]


def test_parts_that_are_taken():
    """A number is for training; of the others, as many as are named. The rest stays as it was."""
    whole = data.load("digits")
    some = data.load("digits", take=200)
    assert some.counts == {**whole.counts, "train": 200}
    some = data.load("digits", take={"train": 150, "test": 50, "validation": 20}, validation=0.2)
    assert some.counts == {"train": 150, "validation": 20, "test": 50}
    kept = {image.tobytes() for image in whole.arrays("test")[0]}
    assert {image.tobytes() for image in some.arrays("test")[0]} <= kept
    assert data.load("digits", validation=0).counts == {"train": 1438, "test": 359}
    x, y = whole.arrays("test", take=30)
    assert x.shape == (30, 8, 8, 1) and np.bincount(y).tolist() == pytest.approx([3] * 10, abs=1)


# -- batches ---------------------------------------------------------------------------------------


@pytest.mark.any_backend
def test_batches():
    """Every example once in an epoch, in another order in the next; the same on every backend."""
    digits = data.load("digits", take=100, batch_size=32, validation=0)
    first = list(digits.train)
    assert [len(y) for _, y in first] == [32, 32, 32, 4]
    assert first[0][0].dtype == "float32" and first[0][1].dtype == "int32"
    assert first[0][1][:12].tolist() == [9, 7, 0, 1, 6, 1, 0, 5, 4, 0, 0, 3]
    x, _ = digits.arrays()
    key = lambda images: sorted(image.tobytes() for image in images)  # noqa: E731
    assert key(np.concatenate([x for x, _ in first])) == key(x)
    second = list(digits.batches("train", epoch=1))
    assert key(np.concatenate([x for x, _ in second])) == key(x)
    assert first[0][1].tolist() != second[0][1].tolist()
    np.testing.assert_array_equal(digits.train[-1][0], first[-1][0])
    with pytest.raises(IndexError):
        digits.train[4]
    assert len(digits.batches("train", drop_remainder=True)) == 3
    np.testing.assert_array_equal(
        np.concatenate([x for x, _ in digits.batches("train", training=False)]), x
    )


@pytest.mark.any_backend
def test_fit_sees_these_batches():
    """One fit after another goes on with the epochs; evaluating in between changes nothing."""
    digits = data.load("digits", take=100, batch_size=32, augment="crop_flip")
    model, by_hand = net(digits), net(digits)
    for epochs in (2, 1):
        model.fit(
            digits.train, validation_data=digits.validation, epochs=epochs, shuffle=False, verbose=0
        )
        model.evaluate(digits.test, verbose=0)
    for epoch in range(3):
        for x, y in digits.batches("train", epoch=epoch):
            by_hand.train_on_batch(x, y)
    for one, other in zip(model.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert digits.train.epoch == 3 and model.predict(digits.test, verbose=0).shape == (359, 10)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([None, "crop", "crop_flip"]))
def test_the_size_of_a_batch_changes_nothing_else(one, other, augment):
    """Order and augmentation are those of the epoch."""
    scaling = images.scaled("scale", 3, 255)
    wholes = [
        [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]
        for batches in (
            Batches(X, Y, scaling, size, shuffle=True, augment=augment, seed=3, epoch=2)
            for size in (one, other)
        )
    ]
    for a, b in zip(*wholes, strict=True):
        np.testing.assert_array_equal(a, b)


def test_crops_and_flips():
    """A hand-made image, moved by one pixel down and to the right, then mirrored."""
    image = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], "uint8")[None, ..., None]
    still, moved = (images.cropped(image, np.array([c]), 1)[0, ..., 0] for c in ((1, 1), (0, 0)))
    np.testing.assert_array_equal(still, image[0, ..., 0])
    np.testing.assert_array_equal(moved, [[0, 0, 0], [0, 1, 2], [0, 4, 5]])
    both = images.flipped(np.concatenate([image, image]), np.array([True, False]))[..., 0]
    np.testing.assert_array_equal(both[0], [[3, 2, 1], [6, 5, 4], [9, 8, 7]])
    np.testing.assert_array_equal(both[1], image[0, ..., 0])


def test_augmentation_is_for_training(tmp_path):
    """Everything else sees the images as they are."""
    path = npz(tmp_path, x_train=X, y_train=Y, x_test=X[:9], y_test=Y[:9])
    loaded = data.load(path, batch_size=9, augment="crop_flip", validation=0)
    np.testing.assert_array_equal(loaded.test[0][0], X[:9].astype("float32") / 255)
    np.testing.assert_array_equal(loaded.arrays()[0], X.astype("float32") / 255)
    stored = {image.tobytes() for image in X}
    windows = {
        padded[row : row + 8, column : column + 8][:, ::step].tobytes()
        for padded in np.pad(X, ((0, 0), (1, 1), (1, 1), (0, 0)))
        for row in range(3)
        for column in range(3)
        for step in (1, -1)
    }
    trained = {
        image.tobytes() for x, _ in loaded.train for image in (x * 255).round().astype("uint8")
    }
    assert trained <= windows and not trained <= stored


@pytest.mark.parametrize("top", [1, 255])
def test_scaling(top):
    """As keras.applications does; by mean and deviation; or not at all."""
    from keras.applications import imagenet_utils

    x = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3)).astype("float32")
    stored = x if top == 255 else x / 255
    for mode in ("tf", "torch", "caffe"):
        expected = imagenet_utils.preprocess_input(x.copy(), mode=mode)
        got = images.scaled(mode, 3, top)(stored)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(images.scaled("scale", 3, top)(stored), x / 255, atol=1e-7)
    means = images.scaled(((0.1, 0.2, 0.3), 0.5), 3, top)(stored)
    np.testing.assert_allclose(means, (x / 255 - [0.1, 0.2, 0.3]) / 0.5, atol=1e-6)
    np.testing.assert_array_equal(images.scaled(None, 3, top)(stored), stored)


def test_resizing():
    """Every half of a pair becomes their mean; constants stay; as TensorFlow does it."""
    image = np.array([[0, 10, 20, 30]] * 2, "uint8").reshape(1, 2, 4, 1)
    np.testing.assert_array_equal(images.resized(np.full_like(image, 7), (5, 3)), 7)
    assert images.resized(image, (2, 4)) is image
    tf = pytest.importorskip("tensorflow")
    for size in ((4, 4), (16, 12), (5, 3), (1, 1)):
        expected = tf.image.resize(X[:3].astype("float32"), size, antialias=True)
        got = images.resized(X[:3].astype("float32"), size)
        np.testing.assert_allclose(got, expected, atol=1e-3)
        assert images.resized(X[:3], size).dtype == "uint8"


# -- .npz files ------------------------------------------------------------------------------------


def test_npz(tmp_path):
    """Parts that it has are taken as they are; grey images get a channel; what else is in the file
    is not read."""
    path = npz(
        tmp_path, x_train=X[..., 0], y_train=Y[:, None], x_val=X[:6, ..., 0], y_val=Y[:6] * 1.0,
        x_test=X[:9, ..., 0], y_test=Y[:9], names=np.array([{}], object),
    )  # fmt: skip
    loaded = data.load(str(path), batch_size=10)
    assert loaded.counts == {"train": 60, "validation": 6, "test": 9}
    assert loaded.input_shape == (8, 8, 1) and loaded.classes == ("0", "1", "2")
    assert loaded.name == "set"
    np.testing.assert_array_equal(loaded.arrays("validation")[1], Y[:6])
    pair = data.load(npz(tmp_path, x=X / 255, y=Y), batch_size=10)
    assert pair.counts == {"train": 43, "validation": 5, "test": 12}
    assert pair.arrays()[0].max() <= 1
    means = data.load(
        npz(tmp_path, x=X, y=Y), batch_size=10, scaling=([0.1, 0.2, 0.3], 0.5), seed=2
    )
    plain = data.load(npz(tmp_path, x=X, y=Y), batch_size=10, seed=2)
    expected = (plain.arrays()[0] - [0.1, 0.2, 0.3]) / 0.5
    np.testing.assert_allclose(means.arrays()[0], expected, atol=1e-6)
    raw = data.load(npz(tmp_path, x=X - 500.0, y=Y), batch_size=10, scaling=None)
    assert raw.arrays()[0].min() < 0


def nan():
    x = X / 255
    x[3, 2, 1, 0] = np.nan
    return x


UNUSABLE = [
    (dict(z=X), "expected arrays x_train and y_train, or x and y"),
    (dict(x_train=X), "expected x_train and y_train, received: x_train alone"),
    (dict(x=X, y=Y, y_test=Y), "expected x_test and y_test, received: y_test alone"),
    (dict(x=X, y=Y[:9]), "received: 9 labels, 60 images"),
    (dict(x=X, y=np.eye(3)[Y]), "expected one class per image"),
    (dict(x=X, y=np.array(list("abc"))[Y]), "expected one class per image"),
    (dict(x=X, y=Y - 1), "expected classes from 0, received: -1"),
    (dict(x=X, y=Y + 0.5), "expected classes from 0, received: 0.5"),
    (dict(x=X, y=Y + 1), "all 4 classes, received none of: 0"),
    (dict(x=X, y=Y * 0), "two classes or more"),
    (dict(x=X, y=Y, x_test=X, y_test=Y + 1), "expected classes from 0 to 2, received: 3"),
    (dict(x=X, y=Y, x_test=X[:, :4], y_test=Y), "received in test: (4, 8, 3)"),
    (dict(x=X, y=Y, x_test=X / 255, y_test=Y), "received in test: (8, 8, 3) up to 1"),
    (dict(x=X[:, 0, :, 0], y=Y), "received: shape (60, 8), uint8"),
    (dict(x=X[:0], y=Y[:0]), "received: none"),
    (dict(x=X[:, :0], y=Y), "shape (60, 0, 8, 3)"),
    (dict(x=nan(), y=Y), "NaN"),
    (dict(x=X.astype("float32"), y=Y), "scaling=None"),
    (dict(x=X.astype("int32") * 2, y=Y), "integers from 0 to 255"),
    (dict(x=X[:3], y=Y[:3]), "too few to split 20% off as the test part"),
    (dict(x=X.astype(object), y=Y), "cannot be read"),
    (dict(x=np.array(3), y=Y), "received: 60 labels, 0 images"),
]


def test_npz_that_cannot_be_used(tmp_path):
    """One clear error that names the file and what is wrong."""
    for arrays, says in UNUSABLE:
        text = message(iplt.errors.DataError, npz(tmp_path, **arrays), batch_size=4)
        assert says in text and "set" in text


def test_damaged_files(tmp_path):
    """Cut off, of another kind, or not there."""
    path = npz(tmp_path, x=X, y=Y)
    whole = path.read_bytes()
    for size in (len(whole) // 2, len(whole) - 30, 3, 0):
        path.write_bytes(whole[:size])
        assert "cannot be read" in message(iplt.errors.DataError, path)
    np.save(tmp_path / "one.npy", X)
    (tmp_path / "one.npy").rename(path)
    assert "a single array" in message(iplt.errors.DataError, path)
    assert "no such file" in message(iplt.errors.DataError, tmp_path / "none.npz")
    assert "no such file" in message(iplt.errors.DataError, "none.npz")
    assert "no such file" in message(iplt.errors.DataError, "./none")
    (tmp_path / "notes.txt").write_text("x")
    assert "expected an .npz file or a folder" in message(
        iplt.errors.DataError, tmp_path / "notes.txt"
    )


# -- folders ---------------------------------------------------------------------------------------


def png(path, image):
    """Writes a PNG file, without a library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns, _ = image.shape

    def chunk(kind, content):
        tail = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + tail

    lines = b"".join(b"\0" + row.tobytes() for row in image)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )
    return path


def folder(path, count=10):
    for index in range(2 * count):
        png(path / ("cat", "dog")[index % 2] / f"{index:03}.png", X[index])
    return path


@pytest.mark.any_backend
def test_folders(tmp_path):
    """A folder for each class; those of parts where there are such."""
    loaded = data.load(folder(tmp_path / "pets"), batch_size=4, scaling=None)
    assert loaded.counts == {"train": 14, "validation": 2, "test": 4}
    assert loaded.classes == ("cat", "dog") and loaded.name == "pets"
    x, y = loaded.arrays()
    for image, label in zip(x, y, strict=True):
        assert (X[label:20:2] == image).all((1, 2, 3)).any()
    for part in ("train", "val", "test"):
        folder(tmp_path / "cut" / part, 6 if part == "train" else 2)
    (tmp_path / "cut" / "test" / "cat" / "notes.txt").write_text("not an image")
    loaded = data.load(str(tmp_path / "cut"), batch_size=4, size=(6, 5))
    assert loaded.counts == {"train": 12, "validation": 4, "test": 4}
    assert loaded.input_shape == (6, 5, 3)
    expected = images.resized(X[0:4:2], (6, 5))
    np.testing.assert_allclose(loaded.arrays("test")[0][:2] * 255, expected, atol=1.01)


def test_folders_that_cannot_be_used(tmp_path):
    """Without images, of one class, of images that differ or are damaged: named."""
    path = tmp_path / "pets"
    path.mkdir()
    assert "received: no folders" in message(iplt.errors.DataError, path)
    folder(path, 5)
    (path / "fish").mkdir()
    assert "fish: expected images" in message(iplt.errors.DataError, path)
    broken = path / "fish" / "a.png"
    png(broken, X[0]).write_bytes(broken.read_bytes()[:60])
    assert "a.png: expected an image; it cannot be read" in message(iplt.errors.DataError, path)
    png(broken, X[0][:5])
    text = message(iplt.errors.DataError, path)
    assert "size=(rows, columns); received: (5, 8) after (8, 8)" in text
    loaded = data.load(path, size=8, batch_size=2, take=None, validation=0)
    assert loaded.classes == ("cat", "dog", "fish")
    folder(tmp_path / "cut" / "train", 3)
    folder(tmp_path / "cut" / "test", 3)
    png(tmp_path / "cut" / "test" / "cow" / "0.png", X[0])
    assert "expected one of the classes to train on (cat, dog), received: 'cow'" in message(
        iplt.errors.DataError, tmp_path / "cut"
    )


# -- options ---------------------------------------------------------------------------------------


REFUSED = [
    (dict(size=0), "size: expected a positive integer, received: 0"),
    (dict(size=2.5), "size: expected a positive integer, received: 2.5"),
    (dict(size=(1, 2, 3)), "size: expected an integer or (rows, columns)"),
    (dict(size="big"), "size: expected an integer or (rows, columns)"),
    (dict(scaling="vgg"), "scaling: expected 'scale', 'tf', 'torch', 'caffe', None"),
    (dict(scaling=(0.5, 0)), "scaling: expected"),
    (dict(scaling=((1, 2), 1)), "scaling: expected"),
    (dict(scaling=3), "scaling: expected"),
    (dict(scaling=((1, 2, 3), (1, 2))), "scaling: expected"),
    (dict(scaling="torch"), "'torch' expects images of 3 channels, received: 1"),
    (dict(augment="rotate"), "augment: expected 'usual', 'crop'"),
    (dict(augment="zoom_flip"), "for data in memory, such as digits; received: 'zoom_flip'"),
    (dict(batch_size=0), "batch_size: expected a positive integer"),
    (dict(validation=1), "validation: expected a number in [0, 1), received: 1"),
    (dict(take=0.5), "take: train: expected a positive integer, received: 0.5"),
    (dict(take=10**6), "take: train: expected from 10 (one of each class) to 1294 examples"),
    (dict(take=9), "received: 9"),
    (dict(take={"dev": 9}), "take: expected the parts train, validation, test"),
    (dict(take={"validation": 9}, validation=0), "take: expected the parts train, test"),
    (dict(seed=-1), "seed: expected an integer from 0"),
    (dict(seed=1.5), "seed: expected an integer from 0"),
]


def test_options():
    """What cannot be is refused, with what was expected and received."""
    for options, says in REFUSED:
        text = message(iplt.errors.OptionError, "digits", **options)
        assert says in text and "received" in text


def test_too_little_data():
    """Fewer examples than a batch, or than one for each class to split off."""
    assert "one batch of 128 to train on, received: 100" in message(
        iplt.errors.DataError, "digits", take=100
    )
    assert "too few to split" in message(iplt.errors.DataError, "digits", validation=0.999)
    assert "0 as" not in message(iplt.errors.DataError, "digits", validation=1e-6)


def test_parts_that_are_not_there():
    """What there is, is said."""
    digits = data.load("digits", validation=0)
    expected = "expected one of the parts train, test, received: 'validation'"
    with pytest.raises(iplt.errors.OptionError, match=expected):
        digits.validation  # noqa: B018
    with pytest.raises(iplt.errors.OptionError, match="received: 'dev'"):
        digits.batches("dev")
    with pytest.raises(iplt.errors.OptionError, match=r"from 10 .* to 359 examples, received: 400"):
        digits.arrays("test", take=400)
    with pytest.raises(iplt.errors.OptionError, match="epoch: expected an integer from 0"):
        digits.batches("train", epoch=-1)


# -- by name: TensorFlow Datasets ------------------------------------------------------------------


class Image:
    np_dtype = np.uint8

    def __init__(self, shape):
        self.shape = shape

    def decode_example(self, encoded):
        import tensorflow as tf

        return tf.io.decode_png(encoded, channels=3)


class Builder:
    """What is used of a tensorflow_datasets.core.DatasetBuilder."""

    def __init__(self, place, splits, names, shape=(8, 8, 3), urls=()):
        self.data_dir = place / "set" / "1.0.0"
        self.data_path = pathlib.Path(self.data_dir)
        self.url_infos = dict.fromkeys(urls)
        self.splits = splits
        self.fails = None
        features = {"image": Image(shape), "label": types.SimpleNamespace(names=list(names))}
        counts = {
            name: types.SimpleNamespace(num_examples=len(y)) for name, (_, y) in splits.items()
        }
        self.info = types.SimpleNamespace(features=features, splits=counts, name="set")

    def download_and_prepare(self):
        if self.fails:
            raise self.fails
        self.data_path.mkdir(parents=True)
        (self.data_path / "dataset_info.json").write_text("{}")

    def as_dataset(self, split, shuffle_files, decoders=None, read_config=None):
        import tensorflow as tf

        name, start, stop = re.fullmatch(r"(\w+)(?:\[(\d+):(\d+)\])?", split).groups()
        x, y = (array[slice(*map(int, (start, stop)) if start else [None])]
                for array in self.splits[name])  # fmt: skip
        examples = tf.data.Dataset.from_tensor_slices({"image": x, "label": y})
        encode = lambda e: {**e, "image": tf.io.encode_png(e["image"])}  # noqa: E731
        return examples if decoders is None else examples.map(encode)


@pytest.fixture
def tfds(monkeypatch, tmp_path):
    """A module that looks like tensorflow_datasets, with the sets that a test puts into `sets`."""
    module = types.ModuleType("tensorflow_datasets")
    module.sets, module.place = {}, tmp_path

    def builder(name, data_dir=None):
        if name not in module.sets:
            raise ValueError(f"Dataset {name} not found.\nAvailable datasets:\n- {[*module.sets]}")
        return module.sets[name]

    module.builder = builder
    module.list_builders = lambda with_community_datasets: [*module.sets]
    module.decode = types.SimpleNamespace(SkipDecoding=object)
    module.ReadConfig = lambda **options: None
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    return module


def prepared(builder):
    builder.download_and_prepare()
    return builder


@pytest.mark.any_backend
def test_named_sets(tfds):
    """Splits and augmentation are the usual ones, and images come as they are stored."""
    splits = {"train": (X, Y), "test": (X[:12], Y[:12])}
    tfds.sets["cifar10"] = prepared(Builder(tfds.place, splits, "abc"))
    cifar = data.load("cifar10", batch_size=10, validation=0.2)
    assert cifar.counts == {"train": 48, "validation": 12, "test": 12}
    assert cifar.classes == tuple("abc") and cifar.handling.augment == "crop_flip"
    np.testing.assert_array_equal(cifar.arrays("test")[0], X[:12].astype("float32") / 255)
    assert data.load("cifar10", batch_size=10, augment=None).handling.augment is None
    model = net(cifar)
    model.fit(cifar.train, validation_data=cifar.validation, verbose=0)


def test_caltech(tfds):
    """The class of what is no object is left out; all become 224 pixels wide and high."""
    names = ["accordion", "background_google", "crab"]
    tfds.sets["caltech101"] = prepared(
        Builder(tfds.place, {"train": (X, Y), "test": (X, Y)}, names, (None, None, 3))
    )
    caltech = data.load("caltech101", batch_size=8, validation=0)
    assert caltech.classes == ("accordion", "crab") and caltech.input_shape == (224, 224, 3)
    assert caltech.counts == {"train": 40, "test": 40}
    assert caltech.arrays("test")[1].tolist() == [0, 1] * 20
    small = data.load("caltech101", batch_size=8, size=8).arrays("test")
    np.testing.assert_allclose(small[0] * 255, X[Y != 1], atol=1e-3)


@pytest.mark.any_backend
def test_streams(tfds):
    """What does not fit into memory is streamed: parts without overlap, shuffled and augmented for
    training, in order otherwise; again the same for the same seed, and another in the next
    epoch."""
    wide = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), "uint8")
    wide[:, 0, 0, 0] = np.arange(60)
    splits = {"train": (wide, np.arange(60)), "validation": (wide[:9], np.arange(9))}
    tfds.sets["imagenet2012"] = prepared(
        Builder(tfds.place, splits, map(str, range(60)), (None, None, 3))
    )
    loaded = data.load("imagenet2012", size=16, batch_size=10, take={"test": 7})
    assert loaded.counts == {"train": 54, "validation": 6, "test": 7}
    assert loaded.input_shape == (16, 16, 3) and loaded.handling.augment == "zoom_flip"
    assert [len(y) for _, y in loaded.test] == [7]
    assert loaded.arrays("validation")[1].tolist() == [*range(54, 60)]
    x, y = loaded.arrays("test", take=3)
    middle = images.resized(wide[:3, 2:30, 2:30].astype("float32"), (16, 16))
    np.testing.assert_allclose(x, middle / 255, atol=1e-5)
    assert y.tolist() == [0, 1, 2]
    epochs = [np.concatenate([y for _, y in loaded.train]).tolist() for _ in range(2)]
    assert sorted(epochs[0]) == [*range(54)] and epochs[0] != epochs[1]
    again = data.load("imagenet2012", size=16, batch_size=10)
    for (a, b), (c, d) in zip(again.train, loaded.batches("train"), strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)
    other = data.load("imagenet2012", size=16, batch_size=10, augment="crop_flip", scaling="caffe")
    assert len(other.batches("train", drop_remainder=True)) == 5
    model = net(other)
    model.fit(other.train, validation_data=other.validation, shuffle=False, verbose=0)
    assert "from 1 (one of each class) to 54" in message(
        iplt.errors.OptionError, "imagenet2012", take=55, batch_size=10
    )


def test_large_sets_are_streamed(tfds, monkeypatch):
    """Whatever they are called; what is beside the training data is for testing."""
    splits = {"train": (X, Y), "validation": (X[:12], Y[:12])}
    tfds.sets["pets"] = prepared(Builder(tfds.place, splits, "abc"))
    assert data.load("pets", batch_size=8, validation=0).counts == {"train": 60, "test": 12}
    assert isinstance(data.load("pets", batch_size=8).train, Batches)
    monkeypatch.setattr(named, "_LIMIT", 1000)
    streamed = data.load("pets", batch_size=8)
    assert not isinstance(streamed.train, Batches)
    assert streamed.counts == {"train": 54, "validation": 6, "test": 12}


def test_not_prepared(tfds, monkeypatch):
    """What to do is said at once; what fails leaves nothing behind."""
    builder = Builder(tfds.place, {"train": (X, Y), "test": (X, Y)}, "abc", urls=["https://a.b/c"])
    tfds.sets["mnist"] = builder
    text = message(iplt.errors.DataError, "mnist")
    assert "data_dir=" in text and "download=True" in text and str(builder.data_path) in text

    def offline(*_):
        raise OSError("no network")

    monkeypatch.setattr(named.urllib.request, "getproxies", dict)
    monkeypatch.setattr(named.socket, "getaddrinfo", offline)
    assert "a.b cannot be reached (no network)" in message(
        iplt.errors.DataError, "mnist", download=True
    )
    monkeypatch.setattr(named.socket, "getaddrinfo", lambda *_: [])
    builder.fails = RuntimeError("the archive is damaged")
    text = message(iplt.errors.DataError, "mnist", download=True)
    assert "downloading or preparing it failed: the archive is damaged" in text
    assert not builder.data_path.exists()
    builder.fails = None
    assert data.load("mnist", download=True, batch_size=8).counts["test"] == 60
    assert data.load("mnist", batch_size=8).counts["test"] == 60


def test_sets_of_another_kind(tfds):
    """No training split, no classes, labels that are not classes, images that differ in size."""
    tfds.sets["dev"] = prepared(Builder(tfds.place / "1", {"dev": (X, Y)}, "abc"))
    assert "expected a split 'train', received: dev" in message(iplt.errors.DataError, "dev")
    tfds.sets["text"] = prepared(Builder(tfds.place / "2", {"train": (X, Y)}, "abc"))
    tfds.sets["text"].info.features = {"text": None}
    assert "received: text" in message(iplt.errors.DataError, "text")
    tfds.sets["secret"] = prepared(Builder(tfds.place / "3", {"train": (X, Y - 1)}, "abc"))
    assert "expected classes from 0 to 2, received: -1" in message(iplt.errors.DataError, "secret")
    tfds.sets["any"] = prepared(
        Builder(tfds.place / "4", {"train": (X, Y)}, "abc", (None, None, 3))
    )
    assert "size: expected (rows, columns), as the images of 'any' differ" in message(
        iplt.errors.OptionError, "any"
    )
    loaded = data.load("any", size=8, batch_size=4)
    assert loaded.counts == {"train": 43, "validation": 5, "test": 12}


def test_unknown_names(tfds):
    """Names that look like it are shown."""
    tfds.sets["oxford_pets"] = None
    assert "did you mean 'oxford_pets'?" in message(iplt.errors.OptionError, "oxford_pet")
    assert "did you mean 'cifar10' or 'cifar100'?" in message(iplt.errors.OptionError, "cifar01")
    for source in ("", 7, None):
        assert "source: expected" in message(iplt.errors.OptionError, source)


def test_without_tensorflow_datasets(monkeypatch):
    """The extra is named; a name that nobody knows is told from one that only needs it."""
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert "pip install 'keras-iplt[data]'" in message(iplt.errors.MissingExtraError, "mnist")
    text = message(iplt.errors.OptionError, "minst")
    assert "did you mean 'mnist'?" in text and "pip install 'keras-iplt[data]'" in text


def test_without_scikit_learn(monkeypatch):
    """The extra that brings the digits is named."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert "keras-iplt[demo]" in message(iplt.errors.MissingExtraError, "digits")


@pytest.mark.filterwarnings("ignore")  # not ours
class TestTensorFlowDatasets:
    """The real one, with made-up images."""

    @pytest.fixture(autouse=True)
    def module(self):
        self.tfds = pytest.importorskip("tensorflow_datasets")

    @pytest.mark.parametrize(
        ("name", "shape", "classes"),
        [
            ("mnist", (28, 28, 1), 10),
            ("cifar10", (32, 32, 3), 10),
            ("cifar100", (32, 32, 3), 100),
            ("svhn_cropped", (32, 32, 3), 10),
            ("caltech101", (224, 224, 3), 101),
        ],
    )
    def test_images(self, name, shape, classes, monkeypatch):
        """Shapes and classes are as they should be."""
        monkeypatch.setattr(named, "_hosts", lambda builder: [])
        with self.tfds.testing.mock_data(num_examples=110):
            loaded = data.load(name, download=True, batch_size=8, validation=0)
        assert loaded.input_shape == shape and len(loaded.classes) == classes
        x, y = loaded.train[0]
        assert x.shape == (8, *shape) and 0 <= x.min() < x.max() <= 1 and y.max() < classes

    def test_not_prepared(self, tmp_path):
        """Said at once, without asking the network."""
        text = message(iplt.errors.DataError, "cifar10", data_dir=tmp_path)
        assert "download=True" in text
        assert "did you mean 'cifar10'" in message(iplt.errors.OptionError, "cifar_10")
        assert "ILSVRC2012" in message(iplt.errors.DataError, "imagenet2012", data_dir=tmp_path)
        assert "9.9.9" in message(iplt.errors.OptionError, "cifar10:9.9.9", data_dir=tmp_path)

    @pytest.mark.any_backend
    def test_prepared(self, tmp_path, monkeypatch):
        """A set in a directory, which no code knows: from memory, and as a stream."""
        import tensorflow as tf

        features = self.tfds.features.FeaturesDict(
            {
                "image": self.tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                "label": self.tfds.features.ClassLabel(names=["a", "b", "c"]),
            }
        )
        examples = tf.data.Dataset.from_tensor_slices({"image": X, "label": Y})
        splits = {"train": examples.skip(0), "validation": examples.skip(48)}
        self.tfds.dataset_builders.store_as_tfds_dataset(
            "little", "1.0.0", features, splits, data_dir=tmp_path, disable_shuffling=True
        )
        options = dict(data_dir=tmp_path, size=8, batch_size=9, validation=0)
        loaded = data.load("little", **options)
        assert loaded.counts == {"train": 60, "test": 12} and loaded.classes == ("a", "b", "c")
        for part in loaded.counts:
            own = slice(-len(loaded.parts[part]), None)
            np.testing.assert_array_equal(loaded.arrays(part)[0], X[own].astype("float32") / 255)
            np.testing.assert_array_equal(loaded.arrays(part)[1], Y[own])
        monkeypatch.setattr(named, "_LIMIT", 1000)
        stream = data.load("little", take=50, augment="zoom_flip", **options)
        assert stream.counts == {"train": 50, "test": 12}
        seen = [np.concatenate([y for _, y in stream.train]) for _ in range(2)]
        assert seen[0].tolist() != seen[1].tolist()
        for y in seen:
            assert np.bincount(y).tolist() == np.bincount(Y[:50]).tolist()
        np.testing.assert_array_equal(stream.arrays("test")[1], Y[48:])
        model = net(stream)
        model.fit(stream.train, validation_data=stream.test, shuffle=False, epochs=2, verbose=0)


def test_labels_that_name_more_classes_than_there_are_images(tmp_path):
    """A list of their names would fill the memory."""
    x, y = np.zeros((20, 8, 8, 3), "uint8"), np.array([0, 2 * 10**7] * 10)
    np.savez(tmp_path / "set.npz", x=x, y=y)
    with pytest.raises(iplt.errors.DataError, match="an image for each, received: 20000000"):
        data.load(tmp_path / "set.npz")


def test_devices_and_pipes_are_no_images(tmp_path):
    """Neither read without end nor waited for."""
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
    (tmp_path / "set/a/1.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "set/b/1.png")
    with pytest.raises(iplt.errors.DataError, match="received: a device, a pipe"):
        data.load(tmp_path / "set")
    os.mkfifo(tmp_path / "set.npz")
    with pytest.raises(iplt.errors.DataError, match="a device or a pipe"):
        data.load(tmp_path / "set.npz")
