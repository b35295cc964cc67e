"""Models as files that run elsewhere, checked before they take their place."""

import os
import stat

import keras
import numpy as np
import pytest
from keras import layers
from law import randomize
from training import BACKEND

import keras_iplt as iplt
from keras_iplt.shipping import formats, runtimes

X = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype("float32")
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow converts")


def net(**of_input):
    model = keras.Sequential(
        [keras.Input((8, 8, 3), name="image", **of_input), layers.Conv2D(8, 3, activation="relu"),
         layers.BatchNormalization(), layers.DepthwiseConv2D(3), layers.Flatten(),
         layers.Dense(4, name="scores")]
    )  # fmt: skip
    randomize(model)
    return model


def several():
    inputs = {name: keras.Input((size,), name=name) for name, size in (("b-b", 4), ("2nd", 6))}
    inner = keras.Sequential([keras.Input((10,)), layers.Dense(5, "relu")])
    x = inner(layers.Concatenate()([inputs["b-b"], inputs["2nd"]]))
    model = keras.Model(
        inputs, [layers.Dense(2, name="sum")(x), layers.Dense(1, name="sign", activation="tanh")(x)]
    )
    randomize(model)
    return model


@pytest.mark.any_backend
@pytest.mark.parametrize("build", [net, several])
def test_keras_files(build, tmp_path):
    """Loaded again they compute the same, on every backend."""
    model = build()
    done = iplt.export(model, tmp_path / "m.keras")
    assert done.difference < 1e-6 and done.format == "keras" and done.latency > 0
    assert done.size == os.path.getsize(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.count_params() == model.count_params()
    assert [p.name for p in tmp_path.iterdir()] == ["m.keras"]


@on_tensorflow
@pytest.mark.parametrize(
    ("precision", "smaller", "within"),
    [("float32", 1, 1e-5), ("float16", 0.75, 1e-2), ("dynamic", 0.6, 0.1), ("int8", 0.65, 0.2)],
)
def test_tflite(precision, smaller, within, tmp_path):
    """In every precision: named, as small as promised, close to the Keras model on real data."""
    front = net()
    back = keras.Sequential([layers.Dense(64, "relu"), layers.Dense(64), layers.Dense(3)])
    model = keras.Model(front.inputs, back(front.outputs[0]))
    randomize(model)
    path = tmp_path / "m.tflite"
    plain = iplt.export(model, path, data=X)
    done = iplt.export(model, path, precision=precision, data=(X, np.zeros(40)))
    assert done.difference < within and (precision == "float32" or done.difference > 0)
    assert done.size == os.path.getsize(path) <= smaller * plain.size
    assert done.gzip < done.size
    assert done.inputs == {"image": (1, 8, 8, 3)}
    ours = runtimes.load(model, path, "tflite")
    expected = model.predict(X[:1], verbose=0)
    assert np.abs(ours([X[:1]])[0] - expected).max() <= within * np.abs(expected).max() * 2
    for text in ("tflite", precision, "image (1, 8, 8, 3)", "bytes", "ms for one example"):
        assert text in str(done)


@on_tensorflow
def test_names_and_structures(tmp_path):
    """Dicts of inputs, lists of outputs, names that are no identifiers: nothing gets mixed up."""
    for path in ("m.tflite", "saved"):
        done = iplt.export(several(), tmp_path / path)
        assert set(done.inputs) == {"b_b", "x_2nd"}
        assert list(done.outputs) == ["sum", "sign"] and done.difference < 1e-5
        assert done.to_dict()["inputs"]["x_2nd"][-1] == 6


@on_tensorflow
def test_batches(tmp_path):
    """One example unless asked otherwise; a SavedModel takes any number."""
    import tensorflow as tf

    assert iplt.export(net(), tmp_path / "a.tflite", batch_size=4).inputs["image"][0] == 4
    iplt.export(net(), tmp_path / "b.tflite", batch_size=None)
    loaded = runtimes.load(net(), tmp_path / "b.tflite", "tflite")
    assert loaded([X[:1]])[0].shape == (1, 4)
    model = net()
    iplt.export(model, tmp_path / "saved")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    scores = loaded.signatures["serving_default"](image=tf.constant(X[:5]))["scores"]
    np.testing.assert_allclose(scores, model.predict(X[:5], verbose=0), rtol=1e-4, atol=1e-5)


@on_tensorflow
def test_a_saved_model_holds_its_weights_once(tmp_path):
    """Unlike that of `model.export`."""
    model = keras.Sequential([keras.Input((200,)), layers.Dense(300)])
    iplt.export(model, tmp_path / "ours")
    weights = os.path.getsize(tmp_path / "ours/variables/variables.data-00000-of-00001")
    assert 1 < weights / (4 * model.count_params()) < 1.1


@on_tensorflow
def test_a_model_that_was_pruned_in_training(tmp_path):
    """What comes out of `fit` goes to the phone."""
    model = net()
    model.compile("adam", "mse")
    ours = iplt.IPLTCallback(0.5, 0.5, every=1, verbose=0)
    model.fit(X, np.zeros((40, 4)), epochs=2, callbacks=[ours], verbose=0)
    assert iplt.export(model, tmp_path / "m.tflite").difference < 1e-4


# -- what goes wrong -------------------------------------------------------------------------------


@pytest.fixture(params=["m.tflite", "saved", "m.keras"])
def before(request, tmp_path):
    """A place where something was exported before."""
    if BACKEND != "tensorflow" and request.param != "m.keras":
        pytest.skip("TensorFlow converts")
    path = tmp_path / request.param
    iplt.export(net(), path)
    return path


def content(path):
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [file.read_bytes() for file in files]


def test_a_difference_is_an_error(before, monkeypatch):
    """And what was there stays there, whole."""
    was = content(before)
    original = formats.write

    def wrong(model, *arguments):
        model.layers[-1].bias.assign_add(np.ones(4))
        original(model, *arguments)
        model.layers[-1].bias.assign_sub(np.ones(4))

    monkeypatch.setattr("keras_iplt.shipping.exporter.write", wrong)
    with pytest.raises(iplt.ExportError, match=r"expected outputs within 0\.0001 .* received: "):
        iplt.export(net(), before)
    assert content(before) == was and [p.name for p in before.parent.iterdir()] == [before.name]
    monkeypatch.setattr("keras_iplt.shipping.exporter.write", original)
    assert iplt.export(net(), before).difference < 1e-4


def test_interruptions_leave_what_was_there(before, monkeypatch):
    """While writing, and while the new takes the place of the old."""
    was = content(before)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    for name in ("write", "_sizes"):
        with monkeypatch.context() as patch:
            patch.setattr(f"keras_iplt.shipping.exporter.{name}", interrupted)
            with pytest.raises(KeyboardInterrupt):
                iplt.export(net(), before)
        assert content(before) == was
        assert [p.name for p in before.parent.iterdir()] == [before.name]


def test_a_directory_that_cannot_be_written_to(tmp_path):
    """One clear line."""
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(locked, os.W_OK):
        pytest.skip("root may write anywhere")
    with pytest.raises(iplt.ExportError, match="cannot be written"):
        iplt.export(net(), locked / "m.keras")


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("m.h5", {}, "path: expected one that ends with .tflite or .keras"),
        ("m.keras", dict(format="pickle"), r"format='pickle'"),
        ("m.keras", dict(precision="int8"), "precision: expected 'float32' for format 'keras'"),
        ("m.tflite", dict(precision="int4"), "precision: expected one of"),
        ("m.tflite", dict(precision="int8"), "data: expected examples to measure ranges on"),
        ("m.tflite", dict(batch_size=0), "batch_size: expected a positive integer"),
        ("m.keras", dict(tolerance=-1), "tolerance: expected a number that is not negative"),
        ("none/m.keras", {}, "expected one in a directory that exists"),
        ("m.tflite", dict(data=[]), "data: expected at least one batch"),
        ("m.tflite", dict(data=np.zeros((3, 5))), "data: "),
    ],
)
def test_bad_input(path, options, message, tmp_path):
    """Errors say what was expected and what was received; nothing is written."""
    with pytest.raises(iplt.PruningError, match=message):
        iplt.export(net(), tmp_path / path, **options)
    assert not list(tmp_path.iterdir())


def test_models_that_cannot_be_exported(tmp_path):
    """Layers, unbuilt models, inputs of unknown size without data, directories in the way."""
    for model in (layers.Dense(3), keras.Sequential([layers.Dense(3)])):
        with pytest.raises(iplt.ModelError, match="expected a built Functional or Sequential"):
            iplt.export(model, tmp_path / "m.keras")
    open_size = keras.Sequential([keras.Input((None, 3)), layers.Conv1D(2, 3)])
    with pytest.raises(iplt.DataError, match="has no fixed size"):
        iplt.export(open_size, tmp_path / "m.keras")
    iplt.export(open_size, tmp_path / "m.keras", data=np.ones((2, 9, 3)))
    (tmp_path / "notes").mkdir()
    with pytest.raises(iplt.OptionError, match="expected a new directory or an earlier SavedModel"):
        iplt.export(net(), tmp_path / "notes")
    with pytest.raises(iplt.OptionError, match="expected a file, received: the directory"):
        iplt.export(net(), tmp_path / "notes", format="keras")


@on_tensorflow
def test_what_the_converter_says(tmp_path):
    """It reaches the user as one error."""
    i = keras.Input((4,))
    strings = keras.Model(i, layers.Lambda(lambda x: __import__("tensorflow").strings.as_string(x),
                                           output_shape=(4,))(i))  # fmt: skip
    with pytest.raises(iplt.ExportError, match="cannot be converted to 'tflite', float32"):
        iplt.export(strings, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.any_backend
@pytest.mark.skipif(BACKEND == "tensorflow", reason="it can")
def test_other_backends_say_what_to_do(tmp_path):
    """A .keras file is the way over."""
    with pytest.raises(iplt.OptionError, match="expected the TensorFlow backend"):
        iplt.export(net(), tmp_path / "m.tflite")
