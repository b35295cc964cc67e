"""Models as files that run elsewhere, checked before they take their place."""

import errno
import itertools
import json
import os
import pathlib
import stat
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from support.law import randomize
from support.training import BACKEND

import keras_iplt as iplt
from keras_iplt.exporting import formats, runtimes

X = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype("float32")
FILES = ["m.tflite", "saved", "m.keras", "m.onnx"]
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow converts")


@pytest.fixture(autouse=True)
def little_time(monkeypatch):
    """For measuring latency: what is measured does not matter here."""
    monkeypatch.setattr(
        runtimes.Runtime, "latency", lambda self, x: runtimes.timed([self], x, seconds=0)[0]
    )


def able(path):
    """Skips where a path's format cannot be written here."""
    if BACKEND != "tensorflow" and not str(path).endswith(".keras"):
        pytest.skip("TensorFlow converts")
    if str(path).endswith(".onnx"):
        pytest.importorskip("tf2onnx")
        pytest.importorskip("onnxruntime")


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
    [
        ("float32", 1, 1e-5),
        ("float16", 0.75, 1e-2),
        ("dynamic", 0.6, 0.1),
        ("int8", 0.65, 0.2),
        ("int16x8", 0.65, 0.2),
    ],
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


@pytest.mark.parametrize("path", FILES)
def test_names_and_structures(path, tmp_path):
    """Dicts of inputs, lists of outputs, names that are no identifiers: nothing gets mixed up."""
    able(path)
    done = iplt.export(several(), tmp_path / path)
    assert set(done.inputs) == {"b_b", "x_2nd"}
    assert list(done.outputs) == ["sum", "sign"] and done.difference < 1e-5
    assert done.to_dict()["inputs"]["x_2nd"][-1] == 6
    assert json.loads(json.dumps(done.to_dict())) == done.to_dict()


@pytest.mark.parametrize("path", FILES)
def test_outputs_as_a_dict_keep_their_keys(path, tmp_path):
    """Also where one is returned twice, or is an input; an input and an output of one name are told
    apart."""
    able(path)
    i = keras.Input((4,), name="x")
    y = layers.Dense(3, name="y")(i)
    done = iplt.export(keras.Model(i, {"b": y, "a": y, "c": i}), tmp_path / path)
    size = done.inputs["x"][0]
    assert done.outputs == {"a": (size, 3), "b": (size, 3), "c": (size, 4)}
    assert done.difference < 1e-5
    done = iplt.export(keras.Model(i, [y, i]), tmp_path / path)
    assert [*done.inputs, *done.outputs] == ["x", "y", "x_1"]


@on_tensorflow
def test_batches(tmp_path):
    """One example unless asked otherwise; a SavedModel takes any number."""
    import tensorflow as tf

    assert iplt.export(net(), tmp_path / "a.tflite", batch_size=4).inputs["image"][0] == 4
    assert iplt.export(net(), tmp_path / "four", batch_size=4).inputs["image"][0] == 4
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


@on_tensorflow
def test_the_batch_size_that_a_model_was_built_with(tmp_path):
    """It is kept, and no other is written."""
    model = keras.Sequential([keras.Input((6,), batch_size=4), layers.Dense(3)])
    for path in ("m.tflite", "saved", "m.keras"):
        done = iplt.export(model, tmp_path / path)
        assert {shape[0] for shape in (*done.inputs.values(), *done.outputs.values())} == {4}
        with pytest.raises(
            iplt.errors.OptionError, match=r"that of the model's inputs, 4.*received: 2"
        ):
            iplt.export(model, tmp_path / path, batch_size=2)
    with pytest.raises(iplt.errors.OptionError, match=r"inputs, None, which a \.keras file keeps"):
        iplt.export(net(), tmp_path / "m.keras", batch_size=2)


# -- networks of many kinds ------------------------------------------------------------------------


def lstm():
    i = keras.Input((5,), dtype="int32", name="words")
    return keras.Model(i, layers.Dense(3)(layers.LSTM(6)(layers.Embedding(2, 4)(i))))


def unrolled():
    i = keras.Input((5,), dtype="int32", name="words")
    return keras.Model(i, layers.Dense(3)(layers.LSTM(6, unroll=True)(layers.Embedding(2, 4)(i))))


def attention():
    i = keras.Input((None, 8), name="tokens")  # as many as there are
    x = layers.LayerNormalization()(i + layers.MultiHeadAttention(2, 4)(i, i))
    return keras.Model(i, layers.GlobalAveragePooling1D()(layers.Dense(8, "gelu")(x)))


def grouped():
    i = keras.Input((None, None, 4), name="image")
    x = layers.Conv2D(8, 3, groups=2, activation="relu")(i)
    return keras.Model(i, layers.GlobalMaxPooling2D()(layers.SeparableConv2D(6, 3)(x)))


def half(policy):
    def build():
        keras.config.set_dtype_policy(policy)
        i = keras.Input((6, 4), name="steps")
        x = layers.BatchNormalization()(layers.Conv1D(8, 1, activation="relu")(i))
        x = layers.TimeDistributed(layers.Dense(6, activation="relu"))(x) + 1.0
        x = keras.Sequential([keras.Input((6, 6)), layers.Flatten(), layers.Dense(3)])(x)
        keras.config.set_dtype_policy("float32")
        return keras.Model(i, x)

    build.__name__ = policy
    return build


KINDS = [lstm, attention, grouped, half("mixed_float16"), half("bfloat16")]
OF_ALL_SIZES = {
    "attention": np.random.default_rng(0).normal(size=(9, 7, 8)).astype("float32"),
    "grouped": np.random.default_rng(0).normal(size=(9, 9, 8, 4)).astype("float32"),
}


@on_tensorflow
@pytest.mark.parametrize(
    "path", [FILES[0], *(pytest.param(f, marks=pytest.mark.slow) for f in FILES[2:])]
)
@pytest.mark.parametrize("build", KINDS, ids=lambda b: b.__name__)
def test_kinds_of_networks(build, path, tmp_path):
    """Whole and pruned: recurrent, attending, of any size, grouped, of mixed precision. These are
    written in float32, but for .keras."""
    able(path)
    model = build()
    randomize(model)
    within = {"mixed_float16": 1e-2, "bfloat16": 0.1}.get(build.__name__, 1e-4)
    whole = iplt.export(model, tmp_path / path, data=OF_ALL_SIZES.get(build.__name__))
    assert whole.difference <= whole.tolerance == within
    assert (whole.difference > 1e-5) == (within > 1e-4 and path != "m.keras")
    small = iplt.prune(model, ratio=0.5, scope="layer")
    done = iplt.export(small, tmp_path / path, data=OF_ALL_SIZES.get(build.__name__))
    assert done.size < whole.size and done.difference <= within
    assert {layer.compute_dtype for layer in model.layers} == {
        layer.compute_dtype for layer in build().layers
    }


@pytest.mark.slow
@on_tensorflow
def test_int8_of_recurrent_layers(tmp_path):
    """Unrolled they can be written. Loops are refused: TensorFlow's converter would end the process
    and whatever else runs in it."""
    words = np.random.default_rng(0).integers(0, 2, (20, 5))
    options = dict(precision="int8", data=words, tolerance=0.6)  # of random weights
    assert iplt.export(unrolled(), tmp_path / "m.tflite", **options).difference > 0
    with pytest.raises(iplt.errors.ExportError, match=r"it has a loop.*unroll=True"):
        iplt.export(lstm(), tmp_path / "loop.tflite", precision="int8", data=words)
    for precision in ("float16", "dynamic"):
        assert iplt.export(lstm(), tmp_path / "m.tflite", precision=precision).difference < 0.1
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"]


def test_onnx(tmp_path):
    """Any number of examples, named `batch`, unless one is asked for; float32 and nothing else."""
    able("m.onnx")
    import onnxruntime

    model, path = net(), tmp_path / "m.onnx"
    done = iplt.export(model, path)
    assert done.format == "onnx" and done.runtime.startswith("onnxruntime") and done.latency > 0
    assert done.inputs == {"image": (None, 8, 8, 3)} and done.size == os.path.getsize(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 8, 8, 3]
    scores = session.run(["scores"], {"image": X})[0]
    np.testing.assert_allclose(scores, model.predict(X, verbose=0), rtol=1e-4, atol=1e-5)
    assert iplt.export(model, path, batch_size=3).inputs == {"image": (3, 8, 8, 3)}
    for precision in ("float16", "dynamic", "int8"):
        with pytest.raises(
            iplt.errors.OptionError, match=r"'float32' for format 'onnx'.* only \.tflite"
        ):
            iplt.export(model, path, precision=precision, data=X)


def test_what_onnx_lacks(tmp_path, capfd):
    """It is named in one error, and not printed."""
    able("m.onnx")
    i = keras.Input((4,))
    model = keras.Model(i, keras.ops.fft((i, i))[0])
    with pytest.raises(
        iplt.errors.ExportError, match=r"converted to 'onnx'.*Complex.* is not supported"
    ):
        iplt.export(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir()) and "not supported" not in "".join(capfd.readouterr())


@on_tensorflow
@pytest.mark.parametrize("package", ["tf2onnx", "onnxruntime"])
def test_without_the_extra(package, tmp_path, monkeypatch):
    """The error says what to install."""
    for name in ("tf2onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None if name == package else json)
    with pytest.raises(iplt.errors.MissingExtraError, match=rf"{package}.*keras-iplt\[onnx\]"):
        iplt.export(net(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


# -- runtimes and time -----------------------------------------------------------------------------


@on_tensorflow
def test_tflite_from_a_file_or_from_its_content(tmp_path):
    """On as many threads as asked for; names are those of the file, in an order to be chosen."""
    model, path = several(), tmp_path / "m.tflite"
    iplt.export(model, path)
    inputs = {"x_2nd": np.ones((1, 6), "float32"), "b_b": np.zeros((1, 4), "float32")}
    expected = model.predict({"2nd": inputs["x_2nd"], "b-b": inputs["b_b"]}, verbose=0)
    for given in (path, str(path), path.read_bytes()):
        runtime = runtimes.tflite_runtime(given, threads=2)
        assert sorted(runtime.inputs) == ["b_b", "x_2nd"]
        found = runtime([inputs[name] for name in runtime.inputs])
        found = dict(zip(runtime.outputs, found, strict=True))
        np.testing.assert_allclose(found["sum"], expected[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found["sign"], expected[1], rtol=1e-4, atol=1e-5)
    chosen = runtimes.tflite_runtime(path, 1, ["b_b", "x_2nd"], ["sign"])
    found = chosen([inputs["b_b"], inputs["x_2nd"]])
    assert len(found) == 1
    np.testing.assert_allclose(found[0], expected[1], rtol=1e-4, atol=1e-5)


@on_tensorflow
def test_what_takes_longer_takes_longer():
    """Four times the channels, 16 times the work; the two take turns."""
    import tensorflow as tf

    def written(channels):
        i = keras.Input((32, 32, channels), batch_size=1)
        model = keras.Model(i, layers.Conv2D(channels, 3)(i))
        return tf.lite.TFLiteConverter.from_keras_model(model).convert()

    small, large = (runtimes.tflite_runtime(written(n)) for n in (16, 64))
    x = [[np.ones((1, 32, 32, n), "float32")] for n in (16, 64)]
    a, b = runtimes.timed([small, large], x, seconds=0.2)
    assert 0 < 2 * a < b
    assert len(runtimes.timed([small] * 3, x[0], seconds=0)) == 3
    with pytest.raises(iplt.errors.OptionError, match="expected a list for each of 1 runtimes"):
        runtimes.timed([small], x)


def test_turns_are_short_and_alternate():
    """A runtime that takes 1 ms and one that takes 2 see the same machine."""
    import time

    seen = []

    def runtime(name, seconds):
        def ready(inputs):
            return lambda: (seen.append(name), time.sleep(seconds)), lambda: []

        return runtimes.Runtime(name, ["x"], ["y"], ready)

    a, b = runtimes.timed([runtime("a", 0.001), runtime("b", 0.004)], [X], seconds=0.1)
    assert 0.001 <= a < b and b >= 0.004
    switches = sum(x != y for x, y in itertools.pairwise(seen))
    assert switches >= 5 and seen.count("a") >= 5 and seen.count("b") >= 5


# -- what goes wrong -------------------------------------------------------------------------------


@pytest.fixture(params=FILES)
def before(request, tmp_path):
    """A place where something was exported before."""
    able(request.param)
    path = tmp_path / request.param
    if path.suffix:
        path.write_bytes(b"before")
    else:
        (path / "variables").mkdir(parents=True)
        (path / "saved_model.pb").write_bytes(b"before")
        (path / "variables/variables.index").write_bytes(b"before, too")
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

    monkeypatch.setattr("keras_iplt.exporting.exporter.write", wrong)
    with pytest.raises(
        iplt.errors.ExportError, match=r"expected outputs within 0\.0001 .* received: "
    ):
        iplt.export(net(), before)
    assert content(before) == was and [p.name for p in before.parent.iterdir()] == [before.name]
    monkeypatch.setattr("keras_iplt.exporting.exporter.write", original)
    assert iplt.export(net(), before).difference < 1e-4


LABELS = {
    "numbers": lambda y: y.argmax(1),
    "a column": lambda y: y.argmax(1)[:, None].astype("float32"),
    "one each": lambda y: np.eye(4)[y.argmax(1)],
}


@on_tensorflow
@pytest.mark.parametrize("kind", LABELS)
def test_accuracy_is_told_where_labels_are_given(kind, tmp_path):
    """Of the model, and of what was written; in text and as numbers."""
    model = net()
    y = LABELS[kind](model.predict(X, verbose=0))
    y[:10] = np.roll(y[:10], 1, axis=-1) if kind == "one each" else (y[:10] + 1) % 4
    done = iplt.export(model, tmp_path / "m.tflite", data=(X, y))
    assert done.accuracy == (0.75, 0.75) and done.to_dict()["accuracy"] == (0.75, 0.75)
    assert "accuracy 0.7500 in Keras, 0.7500 as written" in str(done)


@on_tensorflow
def test_labels_that_tell_of_no_class_are_not_counted(tmp_path):
    for y in (None, np.full(40, 7), np.full(40, 0.5), np.zeros((40, 3))):
        data = X if y is None else (X, y)
        done = iplt.export(net(), tmp_path / "m.keras", data=data)
        assert done.accuracy is None and "accuracy" not in str(done)


@on_tensorflow
def test_one_output_is_on_one_side_or_the_other(tmp_path):
    for activation in ("sigmoid", None):
        model = keras.Sequential([keras.Input((3,)), layers.Dense(1, activation)])
        x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
        y = model.predict(x, verbose=0)[:, 0] > (0.5 if activation else 0)
        done = iplt.export(model, tmp_path / "m.tflite", data=(x, y), batch_size=16)
        assert done.accuracy == (1.0, 1.0)


@on_tensorflow
def test_whoever_is_refused_is_told_how_to_go_on(tmp_path):
    """Each way leads on, and the tolerance that is named suffices."""
    model, path = net(), tmp_path / "m.tflite"
    y = model.predict(X, verbose=0).argmax(1)
    with pytest.raises(iplt.errors.ExportError, match="Nothing was written") as caught:
        iplt.export(model, path, precision="int8", data=(X, y), tolerance=1e-9)
    message = str(caught.value)
    for words in (
        "Accuracy 1.0000 in Keras, ", ", on 40 examples. ", "40 were given, 100 are of use",
        "precision='dynamic'", "--tolerance 0.", "quantize_model", "calibrate",
        "keep_float=3 (--keep-float 3: ", "scores",
    ):  # fmt: skip
        assert words in message, message
    more = float(message.partition("tolerance=")[2].partition(" ")[0])
    assert iplt.export(model, path, precision="int8", data=(X, y), tolerance=more).accuracy[1] > 0.5
    with pytest.raises(iplt.errors.ExportError) as caught:
        iplt.export(model, path, precision="dynamic", tolerance=1e-9)
    assert "precision='float16'" in str(caught.value) and "data=(x, y)" in str(caught.value)
    with pytest.raises(iplt.errors.ExportError) as caught:
        iplt.export(model, path, tolerance=0)
    assert "precision=" not in str(caught.value) and "quantization" not in str(caught.value)


@on_tensorflow
def test_some_layers_stay_in_float(tmp_path):
    """Those that are named, or the worst, in nested models and at outputs too; what int8 costs in
    each is told."""
    image = keras.Input((8, 8, 3), name="image")
    conv = layers.Conv2D(3, 3, padding="same", name="conv_1")  # used twice: scopes of one name
    inner = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(8, 3, name="conv"), layers.BatchNormalization(),
         layers.ReLU(), layers.GlobalAveragePooling2D()], name="inner"
    )  # fmt: skip
    x = inner(conv(conv(image)))
    heads = [layers.Dense(3, "relu", name="a")(x), layers.Dense(2, name="conv_2")(x)]
    model = keras.Model(image, heads)
    randomize(model)
    kernel = model.layers[2].layers[0].kernel
    kernel.assign(kernel * np.where(np.arange(3) < 2, 1e-3, 1)[:, None])  # int8 cannot tell them

    found = iplt.quantization_errors(model, X)
    names = sorted(one.layer for one in found.operations)
    assert names == [
        "a",
        "conv_1",
        "conv_1",
        "conv_2",
        "inner/conv",
        "inner/global_average_pooling2d",
    ]
    errors = [one.error for one in found.operations]
    assert errors == sorted(errors, reverse=True) and errors[-1] < found.error < 1
    assert str(found).splitlines()[1].split()[0] == found.operations[0].layer

    options = dict(precision="int8", data=X, tolerance=1)
    path = tmp_path / "m.tflite"
    whole = iplt.export(model, path, **options)
    done = iplt.export(model, path, keep_float=["conv_2", conv, "inner/*"], **options)
    assert sorted(done.in_float) == names[1:] and computes_in_float(path) == 5
    done = iplt.export(model, path, keep_float="*", **options)
    assert computes_in_float(path) == 6 and done.difference < 1e-4 < whole.difference
    done = iplt.export(model, path, keep_float=1, **options)
    assert done.in_float == (found.operations[0].layer,) and str(done).endswith(done.in_float[0])
    with pytest.raises(iplt.errors.OptionError, match=r"made of a layer 'cnv_1'.*'conv_1'"):
        iplt.export(model, path, keep_float=["cnv_1"], **options)


@on_tensorflow
def test_integers_go_in_and_come_out(tmp_path):
    """Compared by the scales of the file; what is no float in the model stays as it is."""
    tokens = keras.Input((4,), dtype="int32", name="tokens")
    given = keras.Input((6,), name="given")
    x = layers.Flatten()(layers.Embedding(9, 2)(tokens))
    x = layers.Dense(5, name="head")(layers.concatenate([x, layers.Dense(3)(given)]))
    two = keras.Model([tokens, given], x)
    random = np.random.default_rng(0)
    both = [random.integers(0, 9, (50, 4)), random.normal(size=(50, 6)).astype("float32")]
    plain = keras.Model(given, layers.Dense(5, name="head")(layers.Dense(3, "relu")(given)))
    path = tmp_path / "m.tflite"
    for model, data, precision, dtype in [
        (two, (both,), "int8", "uint8"),
        (two, (both,), "int8", "int8"),
        (plain, both[1], "int16x8", "int16"),
    ]:
        of_floats = iplt.export(model, path, precision=precision, data=data)
        done = iplt.export(model, path, precision=precision, data=data, io_dtype=dtype)
        runner = runtimes.interpreter_of(path, 1)[0].get_signature_runner()
        ends = {**runner.get_input_details(), **runner.get_output_details()}
        found = {name: np.dtype(one["dtype"]).name for name, one in ends.items()}
        assert found.pop("tokens", "int32") == "int32" and found == {"given": dtype, "head": dtype}
        assert abs(done.difference - of_floats.difference) < 0.01 and f", {dtype}" in str(done)
    scale, zero = ends["given"]["quantization"]
    steps = np.round(data[:1] / scale + zero).clip(-32768, 32767).astype("int16")
    taken = runtimes.tflite_runtime(path)
    np.testing.assert_array_equal(taken([data[:1]])[0], taken([steps])[0])
    with pytest.raises(iplt.errors.ExportError, match="at an end of which layers stay in float"):
        iplt.export(plain, path, None, "int8", data, keep_float="head", io_dtype="int8")


def computes_in_float(path):
    """How many operations do."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    graph = model.subgraphs[0]
    kinds = [flatbuffer_utils.opcode_to_name(model, one.opcodeIndex) for one in graph.operators]
    outputs = [graph.tensors[one.outputs[0]].type for one in graph.operators]
    return sum(t == 0 and k != "DEQUANTIZE" for k, t in zip(kinds, outputs, strict=True))


def test_interruptions_leave_what_was_there(before, monkeypatch):
    """While writing, and while the new takes the place of the old."""
    was = content(before)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    for name in ("write", "_sizes"):
        with monkeypatch.context() as patch:
            patch.setattr(f"keras_iplt.exporting.exporter.{name}", interrupted)
            with pytest.raises(KeyboardInterrupt):
                iplt.export(net(), before)
        assert content(before) == was
        assert [p.name for p in before.parent.iterdir()] == [before.name]


def test_interrupted_between_the_old_and_the_new(before, monkeypatch):
    """A directory takes two steps; after the first, the old one comes back."""
    was, replace = content(before), os.replace
    for step in range(2 if before.is_dir() else 1):
        for error in (KeyboardInterrupt, OSError):
            steps = []

            def stopped(*paths, step=step, error=error, steps=steps):
                steps.append(paths)
                if len(steps) == step + 1:
                    raise error
                replace(*paths)

            monkeypatch.setattr(os, "replace", stopped)
            with pytest.raises(
                KeyboardInterrupt if error is KeyboardInterrupt else iplt.errors.ExportError
            ):
                iplt.export(net(), before)
            monkeypatch.undo()
            assert len(steps) > step and content(before) == was
            assert [p.name for p in before.parent.iterdir()] == [before.name]


def test_damage_is_seen(before, monkeypatch):
    """Some bytes of the weights that were written are others; or only half of the file is there."""
    was, original = content(before), formats.write

    def flipped(path):
        data = bytearray(path.read_bytes())
        kernel = np.asarray(net().layers[-1].kernel).T[0, :4].tobytes()
        at = max(data.find(kernel), data.find(np.asarray(net().layers[-1].kernel)[0].tobytes()))
        if at < 0:  # compressed, or in another order
            at = len(data) // 2
        data[at : at + 16] = np.full(4, 9, "float32").tobytes()
        path.write_bytes(data)

    def halved(path):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    for damage in (flipped, halved):
        if damage is halved and before.suffix == ".tflite":
            continue  # TFLite's interpreter reads past the end, and ends the process

        def damaged(model, path, *arguments, damage=damage):
            original(model, path, *arguments)
            file = next(path.rglob("variables.data*")) if path.is_dir() else path
            damage(file)

        monkeypatch.setattr("keras_iplt.exporting.exporter.write", damaged)
        with pytest.raises(
            iplt.errors.ExportError, match=r"received: |does not run|cannot be written"
        ):
            iplt.export(net(), before)
        assert content(before) == was
        assert [p.name for p in before.parent.iterdir()] == [before.name]


def test_a_full_disk(before, monkeypatch):
    """One clear line, and what was there is whole."""
    was, full = content(before), OSError(errno.ENOSPC, "No space left on device")

    def fails(*arguments, **options):
        raise full

    places = [
        "keras_iplt.exporting.formats._write_bytes" if before.suffix in (".tflite", ".onnx")
        else "tensorflow.saved_model.save" if before.is_dir() else "keras.Sequential.save",
        "tempfile.mkdtemp",
    ]  # fmt: skip
    for place in places:
        monkeypatch.setattr(place, fails)
        with pytest.raises(
            iplt.errors.ExportError, match=r"cannot be written: .*No space left"
        ) as caught:
            iplt.export(net(), before)
        assert "\n" not in str(caught.value)
        monkeypatch.undo()
        assert content(before) == was
        assert [p.name for p in before.parent.iterdir()] == [before.name]


@pytest.mark.parametrize("where", ["weights", "outputs"])
def test_what_is_not_a_number(where, before):
    """A model that computes NaN equals nothing, itself included."""
    was, model = content(before), net()
    if where == "weights":
        model.layers[0].kernel.assign(np.full((3, 3, 3, 8), np.nan))
        error, message = iplt.errors.WeightsError, "expected numbers, received NaN in .*kernel"
    else:
        model.layers[-1].bias.assign(np.full(4, np.inf))
        error, message = iplt.errors.ExportError, "expected outputs to compare, received only NaN"
    with pytest.raises(error, match=message):
        iplt.export(model, before)
    assert content(before) == was


def test_infinite_outputs_have_to_be_the_same(tmp_path, monkeypatch):
    """Where some are meant to be; and a small output is not lost beside a large one."""
    i = keras.Input((4,), name="x")
    first = layers.Dense(3, name="first", kernel_initializer="ones")
    model = keras.Model(i, [first(i), keras.layers.Dense(2, name="large")(i) * 1e6])
    first.bias.assign([-np.inf, 0, 0])
    assert iplt.export(model, tmp_path / "m.keras").difference == 0
    original = formats.write
    for wrong in ([0, 0, 0], [-np.inf, 0, np.nan], [np.inf, 0, 0], [-np.inf, 0, 0.1]):

        def damaged(model, *arguments, wrong=wrong):
            first.bias.assign(wrong)
            original(model, *arguments)
            first.bias.assign([-np.inf, 0, 0])

        monkeypatch.setattr("keras_iplt.exporting.exporter.write", damaged)
        with pytest.raises(iplt.errors.ExportError, match="expected outputs within"):
            iplt.export(model, tmp_path / "m.keras")


@pytest.mark.parametrize("path", FILES)
def test_models_that_remember(path, tmp_path):
    """They are refused, since no file remembers, not even Keras's own."""
    able(path)
    i = keras.Input((5, 3), batch_size=2)
    model = keras.Model(i, layers.LSTM(4, stateful=True)(i))
    with pytest.raises(iplt.errors.ModelError, match="expected stateful=False"):
        iplt.export(model, tmp_path / path)
    assert not list(tmp_path.iterdir())


def test_layers_of_ones_own(tmp_path):
    """They need not be registered to be checked."""

    class Twice(layers.Layer):
        def call(self, x):
            return 2 * x

    i = keras.Input((4,))
    assert iplt.export(keras.Model(i, Twice()(i)), tmp_path / "m.keras").difference == 0


@on_tensorflow
def test_a_process_that_is_killed_leaves_the_old_file(tmp_path):
    """And, beside it, no more than a hidden directory."""
    path = tmp_path / "m.keras"
    iplt.export(net(), path)
    was = content(path)
    code = (
        "import os, signal, keras, keras_iplt as iplt; "
        "import keras_iplt.exporting.exporter as e; "
        "e._sizes = lambda path: os.kill(os.getpid(), signal.SIGKILL); "
        "iplt.export(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), 'm.keras')"
    )
    root = str(pathlib.Path(iplt.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment).returncode < 0
    )
    assert content(path) == was
    assert all(p == path or p.name.startswith(".partial-") for p in tmp_path.iterdir())


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "Permission denied"),
                                   OSError(errno.EROFS, "Read-only file system")])  # fmt: skip
def test_a_place_that_refuses(error, tmp_path, monkeypatch):
    """As root does not see it: the system says no."""

    def refuses(*arguments, **options):
        raise error

    monkeypatch.setattr("tempfile.mkdtemp", refuses)
    with pytest.raises(iplt.errors.ExportError, match=f"cannot be written: .*{error.strerror}"):
        iplt.export(net(), tmp_path / "m.keras")


def test_a_directory_that_cannot_be_written_to(tmp_path):
    """One clear line."""
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(locked, os.W_OK):
        pytest.skip("root may write anywhere")
    with pytest.raises(iplt.errors.ExportError, match="cannot be written"):
        iplt.export(net(), locked / "m.keras")


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("m.h5", {}, "path: expected one that ends with .tflite, .onnx or .keras"),
        ("file/m.keras", {}, "expected one in a directory that exists"),
        ("m.keras", dict(format=["keras"]), r"format: expected one of .* received: \['keras'\]"),
        ("m.keras", dict(batch_size=True), "batch_size: expected a positive integer"),
        ("m.keras", dict(tolerance=float("nan")), "tolerance: expected a number"),
        ("m.keras", dict(format="pickle"), "format: expected one of 'tflite'.* received: 'pickle'"),
        ("m.keras", dict(precision="int8"), "precision: expected 'float32' for format 'keras'"),
        ("m.tflite", dict(precision="int4"), "precision: expected one of"),
        ("m.tflite", dict(precision="int8"), "data: expected examples to measure ranges on"),
        ("m.tflite", dict(keep_float=2), "keep_float: expected none for precision 'float32'"),
        ("m.tflite", dict(io_dtype="int8"), "io_dtype: expected 'float32' for 'tflite', float32"),
        ("m.keras", dict(io_dtype="int8"), "io_dtype: expected 'float32' for 'keras'"),
        ("m.tflite", dict(batch_size=0), "batch_size: expected a positive integer"),
        ("m.keras", dict(tolerance=-1), "tolerance: expected a number that is not negative"),
        ("none/m.keras", {}, "expected one in a directory that exists"),
        ("m.tflite", dict(data=[]), "data: expected .*at least one batch"),
        (
            "m.tflite",
            dict(data=np.empty((0, 8, 8, 3)), precision="int8"),
            "data: expected .*at least one batch",
        ),
        ("m.tflite", dict(data=[np.empty((0, 8, 8, 3))]), "data: expected at least one example"),
        ("m.tflite", dict(data=np.full((3, 8, 8, 3), np.nan)), "expected finite numbers"),
        ("m.tflite", dict(data=np.zeros((3, 5))), "data: "),
    ],
)
def test_bad_input(path, options, message, tmp_path):
    """Errors say what was expected and what was received; nothing is written."""
    (tmp_path / "file").write_text("in the way")
    if BACKEND != "tensorflow" and path.endswith(".tflite"):
        pytest.skip("TensorFlow converts")
    with pytest.raises(iplt.PruningError, match=message) as caught:
        iplt.export(net(), tmp_path / path, **options)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_random_numbers_that_the_model_cannot_take(tmp_path):
    """Then examples are asked for."""
    i = keras.Input((3,), dtype="int32")

    class Strict(layers.Layer):
        def call(self, x):
            if not keras.ops.is_tensor(x) or not hasattr(x, "numpy"):
                return keras.ops.cast(x, "float32")
            raise ValueError("words start at 2")

    model = keras.Model(i, Strict()(i))
    with pytest.raises(
        iplt.errors.DataError, match=r"random numbers; give it examples .*start at 2"
    ):
        iplt.export(model, tmp_path / "m.keras")
    with pytest.raises(iplt.errors.OptionError, match="path: expected a path, received: None"):
        iplt.export(net(), None)


def test_models_that_cannot_be_exported(tmp_path):
    """Layers, unbuilt models, inputs of unknown size without data, directories in the way."""
    for model in (layers.Dense(3), keras.Sequential([layers.Dense(3)])):
        with pytest.raises(
            iplt.errors.ModelError, match="expected a built Functional or Sequential"
        ):
            iplt.export(model, tmp_path / "m.keras")
    open_size = keras.Sequential([keras.Input((None, 3)), layers.Conv1D(2, 3)])
    with pytest.raises(iplt.errors.DataError, match="has no fixed size"):
        iplt.export(open_size, tmp_path / "m.keras")
    iplt.export(open_size, tmp_path / "m.keras", data=np.ones((2, 9, 3)))
    (tmp_path / "notes").mkdir()
    with pytest.raises(
        iplt.errors.OptionError, match="expected a new directory or an earlier SavedModel"
    ):
        iplt.export(net(), tmp_path / "notes")
    with pytest.raises(iplt.errors.OptionError, match="expected a file, received: the directory"):
        iplt.export(net(), tmp_path / "notes", format="keras")


@on_tensorflow
def test_what_the_converter_says(tmp_path):
    """It reaches the user as one error."""
    i = keras.Input((4,))
    strings = keras.Model(i, layers.Lambda(lambda x: __import__("tensorflow").strings.as_string(x),
                                           output_shape=(4,))(i))  # fmt: skip
    with pytest.raises(iplt.errors.ExportError, match="cannot be converted to 'tflite', float32"):
        iplt.export(strings, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.any_backend
@pytest.mark.skipif(BACKEND == "tensorflow", reason="it can")
def test_other_backends_say_what_to_do(tmp_path):
    """A .keras file is the way over."""
    with pytest.raises(iplt.errors.OptionError, match="expected the TensorFlow backend"):
        iplt.export(net(), tmp_path / "m.tflite")
