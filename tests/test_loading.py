"""Models and data from hostile files: one clear error, no code run, nothing left behind."""

import contextlib
import json
import os
import pathlib
import pickle
import resource
import stat
import tempfile
import time
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers

import keras_iplt as iplt
from keras_iplt_cli.loading import archive, load_examples, load_model
from keras_iplt_cli.loading.config import check_config

pytestmark = pytest.mark.any_backend

X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
CONFIG, METADATA, WEIGHTS = archive.CONFIG, archive.METADATA, archive.WEIGHTS


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A sound file; tests only read it."""
    path = tmp_path_factory.mktemp("good") / "good.keras"
    small().save(path)
    return path


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory, monkeypatch):
    """Where files are unpacked: empty again after each test."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


def small():
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, "relu", name="hidden"), layers.Dense(3, name="head")],
        name="victim",
    )


def parts(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def repacked(good, path, method=zipfile.ZIP_STORED, **changed):
    """A copy in which entries are other ones, or missing where None; names without dots."""
    names = {"config": CONFIG, "metadata": METADATA, "weights": WEIGHTS}
    content = parts(good) | {names[key]: value for key, value in changed.items()}
    with zipfile.ZipFile(path, "w", method) as file:
        for name, value in content.items():
            if value is not None:
                file.writestr(name, value)
    return path


def with_config(good, path, change):
    config = json.loads(parts(good)[CONFIG])
    change(config)
    return repacked(good, path, config=json.dumps(config).encode())


def with_weights(good, path, change):
    file = path.with_suffix(".h5")
    file.write_bytes(parts(good)[WEIGHTS])
    with h5py.File(file, "a") as content:
        change(content)
    return repacked(good, path, weights=file.read_bytes())


def refused(path, *patterns, **options):
    """`load_model` raises one `ModelError` with these words, and leaves the file as it is."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(iplt.errors.ModelError) as caught:
        load_model(path, **options)
    message = str(caught.value)
    assert message.startswith(str(path))
    for pattern in patterns:
        assert pattern in message, message
    assert before is None or path.read_bytes() == before


# -- what is fine ----------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("test_loading")
class Twice(layers.Layer):
    def call(self, x):
        return 2 * x


def varied():
    """Nested, recurrent and custom layers, operations, policies, objects shared and by name."""
    image = keras.Input((8, 8, 3), name="image")
    inner = keras.Sequential([keras.Input((6, 6, 4)), layers.SeparableConv2D(4, 3)], name="inner")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(4, 3, kernel_regularizer="l2", dtype="mixed_float16")(x)
    x = inner(keras.activations.silu(x) * 2)
    x = keras.ops.reshape(x, (-1, 16, 4))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x)
    x = layers.MultiHeadAttention(2, 3)(x, x)
    x = layers.Lambda(keras.activations.relu)(Twice()(layers.GlobalAveragePooling1D()(x)))
    model = keras.Model(image, layers.Dense(2, activation="softmax")(x))
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9),
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        metrics=["accuracy", keras.metrics.TopKCategoricalAccuracy(2)],
    )
    return model


def test_what_models_are_made_of_loads(tmp_path):
    """And computes what it computed; compiled as it was."""
    model = varied()
    model.save(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    loaded = load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )
    assert loaded.compiled and loaded.loss.label_smoothing == 0.1
    assert not load_model(tmp_path / "m.keras", compile=False).compiled


def test_a_pruned_model_with_our_own_layer_loads(tmp_path):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, iplt_scatter(layers.Dense(3)(inputs)))
    model.save(tmp_path / "m.keras")
    assert load_model(tmp_path / "m.keras").output_shape == (None, 5)


def iplt_scatter(x):
    from keras_iplt.layers import Scatter

    return Scatter(5, kept=[0, 2, 4])(x)


def test_a_file_that_was_packed_anew_loads(good, tmp_path):
    """Smaller, and with a folder among its entries; the name does not matter."""
    path = repacked(good, tmp_path / "model.zip", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path, "a") as file:
        file.mkdir("assets") if hasattr(file, "mkdir") else file.writestr("assets/", b"")
        file.writestr("notes.txt", b"mine")
    expected = keras.saving.load_model(good).predict(X, verbose=0)
    np.testing.assert_array_equal(load_model(path).predict(X, verbose=0), expected)


def test_weights_that_are_not_numbers_load(good, tmp_path):
    """Whether NaN is a problem is for others to say: `inspect` works, `plan` refuses."""

    def change(file):
        file["layers/dense/vars/1"][0] = np.nan

    model = load_model(with_weights(good, tmp_path / "m.keras", change))
    with pytest.raises(iplt.errors.WeightsError):
        iplt.plan(model)


# -- what is no such file --------------------------------------------------------------------------


def test_what_is_not_there(tmp_path):
    refused(tmp_path / "none.keras", "no such file")
    refused(tmp_path / "none" / "none.keras", "no such file")


def saved_model(path):
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"x")


def h5(path):
    with h5py.File(path, "w") as file:
        file["x"] = X


OTHERS = {
    "a directory": pathlib.Path.mkdir,
    "a SavedModel": saved_model,
    "an empty file": pathlib.Path.touch,
    "an HDF5 file, as Keras 2 wrote models (.h5)": h5,
    "a TFLite model": lambda p: p.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100)),
    "a pickle": lambda p: p.write_bytes(pickle.dumps(print)),
    "JSON text": lambda p: p.write_text("{}"),
    "a web page or XML": lambda p: p.write_text("<html>404"),
    "a NumPy array": lambda p: np.save(p.open("wb"), X),
    "a gzip archive": lambda p: p.write_bytes(b"\x1f\x8b\x08" + bytes(30)),
    "something else": lambda p: p.write_bytes(b"MZ" + bytes(30)),
    "a device or a pipe": lambda p: p.symlink_to("/dev/null"),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_what_it_looks_like_is_said(kind, tmp_path):
    """With what is expected."""
    path = tmp_path / "m.keras"
    OTHERS[kind](path)
    refused(path, "expected a .keras file", f"received: {kind}")


def test_other_zip_archives(good, tmp_path):
    np.savez(tmp_path / "a.npz", x=X)
    refused(tmp_path / "a.npz", "an .npz file of arrays without config.json")
    with zipfile.ZipFile(tmp_path / "b.keras", "w"):
        pass
    refused(tmp_path / "b.keras", "an empty zip archive")
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(print))
    refused(tmp_path / "c.pt", "a PyTorch file")
    for part, name in (("config", CONFIG), ("metadata", METADATA), ("weights", WEIGHTS)):
        refused(repacked(good, tmp_path / "d.keras", **{part: None}), f"without {name}")


# -- archives --------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_off(good, tmp_path, share):
    content = good.read_bytes()
    path = tmp_path / "m.keras"
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, "damaged zip archive", "cut off")


def test_a_byte_that_has_changed(good, tmp_path):
    """The checksum tells."""
    content = bytearray(good.read_bytes())
    with zipfile.ZipFile(good) as file:
        content[file.getinfo(WEIGHTS).header_offset + 500] ^= 0xFF
    path = tmp_path / "m.keras"
    path.write_bytes(content)
    refused(path, "damaged zip archive", "CRC")


@pytest.mark.parametrize(
    "name",
    ["../evil", "/evil", "assets/../../evil", "a//b", "./a", "..\\evil", "C:evil", "assets/.."],
)
def test_names_that_lead_elsewhere(good, tmp_path, name):
    path = repacked(good, tmp_path / "m.keras")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(zipfile.ZipInfo(name), b"evil")
    refused(path, "leads elsewhere")
    assert not list(tmp_path.parent.glob("**/evil"))


def test_a_name_longer_than_any_line(good, tmp_path):
    """Is not repeated in whole."""
    path = repacked(good, tmp_path / "m.keras")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("assets/" + "a" * 60_000, b"evil")
    with pytest.raises(iplt.errors.ModelError, match="cannot be unpacked") as caught:
        load_model(path)
    assert len(str(caught.value)) < 500


def test_links(good, tmp_path):
    """An entry that is a symbolic link, through which a later one would be written."""
    path = repacked(good, tmp_path / "m.keras")
    with zipfile.ZipFile(path, "a") as file:
        link = zipfile.ZipInfo("assets/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, str(tmp_path))
    refused(path, "'assets/link' is a link")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_twice(good, tmp_path):
    """Readers would not agree on which one counts."""
    path = repacked(good, tmp_path / "m.keras")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(CONFIG, b"{}")
    refused(path, "'config.json' is there twice")


def test_encrypted_entries(good, tmp_path):
    path = repacked(good, tmp_path / "m.keras")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refused(path, "is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_to_pack(good, tmp_path, method):
    """They unpack a few bytes to any number at once."""
    refused(repacked(good, tmp_path / "m.keras", method), "other than deflate")


def test_a_zip_bomb(good, tmp_path):
    """Zeros without end."""
    for part in ("weights", "config", "metadata"):
        path = repacked(good, tmp_path / "m.keras", zipfile.ZIP_DEFLATED, **{part: bytes(70 << 20)})
        assert path.stat().st_size < 200_000
        refused(path, "zip bomb" if part != "config" else "larger than")


def test_a_zip_bomb_that_lies(good, tmp_path, monkeypatch):
    """The sizes that it declares are in proportion."""
    monkeypatch.setattr(archive, "_FLOOR", 100)
    monkeypatch.setattr(archive, "_RATIO", 1)
    path = repacked(good, tmp_path / "m.keras", zipfile.ZIP_DEFLATED, weights=bytes(1 << 22))
    content = bytearray(path.read_bytes())
    at = content.rindex(WEIGHTS.encode()) - 46
    assert content[at : at + 4] == b"PK\x01\x02"
    content[at + 24 : at + 28] = (1000).to_bytes(4, "little")
    path.write_bytes(content)
    refused(path)


def test_what_is_read_is_counted(good, tmp_path, monkeypatch):
    """Whatever was declared."""
    monkeypatch.setattr(archive, "_FLOOR", 100)
    monkeypatch.setattr(archive, "_RATIO", 1)
    path = repacked(good, tmp_path / "m.keras", zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(zipfile.ZipFile, "infolist", undeclared(zipfile.ZipFile.infolist))
    refused(path, "zip bomb")


def undeclared(infolist):
    """Every second time, as if nothing had been declared."""

    class Small(zipfile.ZipInfo):
        __slots__ = ()

    def changed(self):
        infos = infolist(self)
        changed.calls += 1
        if changed.calls != 2:
            return infos
        clones = []
        for info in infos:
            clone = zipfile.ZipInfo(info.filename)
            clone.file_size = 0
            clones.append(clone)
        return clones

    changed.calls = 0
    return changed


def test_more_entries_than_any_model_has(good, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_ENTRIES", 2)
    refused(good, "3 entries")


@pytest.mark.parametrize("says", ["what it has", "less"])
def test_a_hundred_thousand_entries_are_not_read(tmp_path, says):
    """The list of them is as long as it is, whatever the archive says their number is."""
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", b"")
        file.filelist *= 100_000
        file._didModify = True
    if says == "less":
        content = bytearray(path.read_bytes())
        at = content.rindex(b"PK\x06\x06") + 24
        content[at : at + 16] = (3).to_bytes(8, "little") * 2
        path.write_bytes(content)
    begin = time.perf_counter()
    refused(path, "lists its entries in 4,700,000 bytes")
    with pytest.raises(iplt.errors.DataError, match="lists its entries in"):
        load_examples(path)
    assert time.perf_counter() - begin < 0.5


def test_a_full_disk(good, monkeypatch):
    """Of the temporary directory."""
    monkeypatch.setattr(pathlib.Path, "open", full(pathlib.Path.open))
    refused(good, "cannot be unpacked", "No space left")


def full(original):
    def opened(self, mode="r", *arguments, **options):
        if "x" in mode:
            raise OSError(28, "No space left on device")
        return original(self, mode, *arguments, **options)

    return opened


# -- configs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        (b"not json", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[]", "does not describe a model"),
        (b'{"class_name": "Dense"}', "does not describe a model"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"class_name": "Model", "config": ' + b"[" * 500 + b"]" * 500 + b"}", "too deeply"),
        (b'{"class_name": "Model", "config": [' + b"{}," * 600_000 + b"{}]}", "600,003 parts"),
        (b'{"class_name": ["Model"], "config": {}}', "a class called ['Model']"),
        (b'{"class_name": 3, "config": {}}', "a class called 3"),
    ],
)  # fmt: skip
def test_configs_that_are_none(good, tmp_path, text, pattern):
    refused(repacked(good, tmp_path / "m.keras", config=text), pattern)


def first_layer(module, class_name, config=None, registered=None):
    def change(model):
        layer = model["config"]["layers"][1]
        layer.update(module=module, class_name=class_name, registered_name=registered)
        if config is not None:
            layer["config"] = config

    return change


EVIL = [
    ("os", "system", {"command": "touch evil"}),
    ("subprocess", "Popen", {"args": "touch evil"}),
    ("builtins", "function", "eval"),
    ("builtins", "function", "exec"),
    ("keras.utils", "get_file", {"fname": "evil", "origin": "http://127.0.0.1:9/"}),
    ("keras.utils", "function", "get_file"),
    ("keras.src.utils.file_utils", "function", "get_file"),
    ("keras.src.backend.torch.core", "function", "to_torch_dtype"),
    ("keras.src.backend.torch.core", "DtypePolicy", {}),
    ("keras.saving", "load_model", {"filepath": "x"}),
    ("keras.models", "function", "load_model"),
    ("keras", "utils.get_file", {}),
    ("keras.config", "enable_unsafe_deserialization", {}),
    ("keras.layers.os", "function", "system"),
    ("kerasevil.layers", "Dense", {}),
    ("keras_evil", "Dense", {}),
    (None, "Evil", {}),
]


@pytest.mark.parametrize(("module", "name", "config"), EVIL, ids=lambda x: str(x)[:30])
def test_what_is_not_made_for_models_is_refused(good, tmp_path, monkeypatch, module, name, config):
    """Before Keras sees it, so whatever the version of Keras would do."""
    monkeypatch.setattr(keras.saving, "load_model", pytest.fail)
    monkeypatch.chdir(tmp_path)
    path = with_config(good, tmp_path / "m.keras", first_layer(module, name, config))
    refused(path, "which is not Keras's", "--import")


def test_optimizers_of_pytorch_are_keras_s_own():
    """They are called by another name on that backend, in files that any backend may be given."""
    adam = {"module": "keras.src.backend.torch.optimizers.torch_adam", "class_name": "Adam",
            "config": {"learning_rate": 0.1}, "registered_name": "Adam"}  # fmt: skip
    check_config("a.keras", {"compile_config": {"optimizer": adam}})
    for module in ("keras.src.backend.torch.trainer", "keras.src.backend.torch.optimizersx.adam"):
        with pytest.raises(iplt.errors.ModelError, match="not Keras's"):
            check_config("a.keras", {"compile_config": {**adam, "module": module}})


def test_more_layers_than_any_model_has(good, tmp_path):
    """Each of which would take a millisecond."""

    def change(model):
        model["config"]["layers"] *= 5_000

    refused(with_config(good, tmp_path / "m.keras", change), "more than 10,000 layers")


def test_a_name_that_would_fill_the_screen(good, tmp_path):
    def change(model):
        model["config"]["layers"][1]["config"]["name"] = "a" * 100_000

    refused(with_config(good, tmp_path / "m.keras", change), "a name of more than 1,000 characters")


def test_numbers_are_not_computed_with_while_a_model_is_read(tmp_path):
    """An operation that takes nothing from the model would be carried out, however large."""
    inputs = keras.Input((6,))
    keras.Model(inputs, keras.ops.one_hot(keras.ops.cast(inputs, "int32"), 3)).save(
        tmp_path / "good.keras"
    )

    def change(model):
        layer = next(x for x in model["config"]["layers"] if x["class_name"] == "OneHot")
        layer["config"]["num_classes"] = 10**11
        value = {"class_name": "__tensor__", "config": {"value": [1], "dtype": "int32"}}
        layer["inbound_nodes"][0]["args"] = [value]

    assert load_model(tmp_path / "good.keras").output_shape == (None, 6, 3)
    path = with_config(tmp_path / "good.keras", tmp_path / "m.keras", change)
    refused(path, "computes with numbers of the file alone")


def test_an_unregistered_class_is_named_with_its_module(good, tmp_path):
    change = first_layer("my.layers", "Mine", {}, registered="mine>Mine")
    path = with_config(good, tmp_path / "m.keras", change)
    refused(path, "the class 'Mine' of module 'my.layers'", "--import my.layers")


def test_a_custom_loss_is_no_matter_where_it_is_not_needed(good, tmp_path):
    loss = {"module": "mine", "class_name": "function", "config": "odd", "registered_name": "odd"}

    def change(config):
        config["compile_config"] = {"optimizer": "adam", "loss": loss, "metrics": None}

    path = with_config(good, tmp_path / "m.keras", change)
    refused(path, "the function 'odd' of module 'mine'")
    assert not load_model(path, compile=False).compiled


def test_lambda_code_does_not_run(tmp_path, monkeypatch):
    """Unless the user says so; then it does, which shows that this test could see it."""
    marker = tmp_path / "marker"
    monkeypatch.setenv("MARKER", str(marker))
    inputs = keras.Input((3,))
    touch = layers.Lambda(lambda x: (open(__import__("os").environ["MARKER"], "a").close(), x)[1])
    keras.Model(inputs, touch(inputs)).save(tmp_path / "m.keras")
    marker.unlink()
    refused(tmp_path / "m.keras", "Lambda", "--unsafe", "trust")
    assert not marker.exists()
    load_model(tmp_path / "m.keras", unsafe=True)
    assert marker.exists()


def test_lambda_code_in_an_older_form_does_not_run(good, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.saving, "load_model", pytest.fail)
    old = {"name": "x", "function": ["4wEAAAAA", None, None], "function_type": "lambda"}
    for config in (old, {"name": "x", "function": "4wEA"}, {"name": "x"}):
        change = first_layer("keras.layers", "Lambda", config)
        refused(with_config(good, tmp_path / "m.keras", change), "Lambda", "--unsafe")


@pytest.mark.parametrize("name", ["TorchModuleWrapper", "TFSMLayer"])
def test_layers_that_run_other_files_are_refused(good, tmp_path, name):
    change = first_layer("keras.layers", name, {"name": "odd", "module": "gAR9", "filepath": "/"})
    refused(with_config(good, tmp_path / "m.keras", change), name, "'odd'", "--unsafe")


def test_a_vocabulary_elsewhere_is_refused(good, tmp_path):
    """Its lines would come out as the words of a look-up."""
    config = {"name": "words", "vocabulary": "/etc/passwd"}
    change = first_layer("keras.layers", "StringLookup", config)
    refused(with_config(good, tmp_path / "m.keras", change), "'words'", "'/etc/passwd'")


def test_what_keras_says_comes_in_one_line(good, tmp_path):
    change = first_layer("keras.layers", "Dense", {"name": "hidden", "units": "many"})
    path = with_config(good, tmp_path / "m.keras", change)
    with pytest.raises(iplt.errors.ModelError, match="cannot build this model") as caught:
        load_model(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def test_a_layer_is_no_model(good, tmp_path):
    config = {"module": "keras.layers", "class_name": "Dense", "registered_name": None,
              "config": {"units": 2}, "build_config": {"input_shape": [None, 3]}}  # fmt: skip
    path = repacked(good, tmp_path / "m.keras", config=json.dumps(config).encode())
    refused(path)


# -- weights ---------------------------------------------------------------------------------------


KERNEL = "layers/dense/vars/0"


def replaced(create):
    def change(file):
        del file[KERNEL]
        create(file)

    return change


def virtual(file):
    layout = h5py.VirtualLayout((6, 8), "float32")
    layout[:] = h5py.VirtualSource("other.h5", "secret", (6, 8))
    file.create_virtual_dataset(KERNEL, layout)


def external(file):
    file.create_dataset(KERNEL, (6, 8), "float32", external=[("/etc/passwd", 0, 192)])


def link(target):
    return replaced(lambda file: file.__setitem__(KERNEL, target))


HOSTILE = {
    "external link": (link(h5py.ExternalLink("/other.h5", "/secret")), "a link to another file"),
    "soft link": (link(h5py.SoftLink("/layers/dense_1/vars/0")), "a link to another place"),
    "external storage": (replaced(external), "stored in another file"),
    "virtual": (replaced(virtual), "stored in another file"),
    "text": (replaced(lambda f: f.create_dataset(KERNEL, data=["a"])), "not numbers"),
    "complex": (
        replaced(lambda f: f.create_dataset(KERNEL, data=np.ones((6, 8), "c8"))),
        "not numbers",
    ),
    "structures": (
        replaced(lambda f: f.create_dataset(KERNEL, (6, 8), [("a", "f4"), ("b", "i4")])),
        "not numbers",
    ),
    "huge": (
        replaced(lambda f: f.create_dataset(KERNEL, (1 << 40,), "float32", chunks=(1 << 20,))),
        "zip bomb",
    ),
    "wrong shape": (
        replaced(lambda f: f.create_dataset(KERNEL, data=np.ones((6, 9), "float32"))),
        "the weights do not fit",
    ),
    "missing": (replaced(lambda f: None), "the weights do not fit"),
    "all missing": (lambda f: f.clear(), "the weights do not fit"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_weights_that_are_refused(good, tmp_path, case):
    change, pattern = HOSTILE[case]
    refused(with_weights(good, tmp_path / "m.keras", change), pattern)


def test_a_group_within_itself_ends(good, tmp_path):
    def change(file):
        file["layers/again"] = file["layers"]

    assert load_model(with_weights(good, tmp_path / "m.keras", change)).count_params() == 83


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n" + bytes(200)])
def test_damaged_weights(good, tmp_path, content):
    refused(repacked(good, tmp_path / "m.keras", weights=content), "damaged HDF5 file")


def test_weights_with_noise_in_them(good, tmp_path):
    """Whatever a bit does: an error of ours, or a model."""
    content = parts(good)[WEIGHTS]
    for seed in range(12):
        random = np.random.default_rng(seed)
        noisy = bytearray(content)
        for at in random.integers(0, len(content), 8):
            noisy[at] = random.integers(256)
        with contextlib.suppress(iplt.errors.ModelError):
            load_model(repacked(good, tmp_path / "m.keras", weights=bytes(noisy)))


# -- data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("x", "y"), ("x_test", "y_test"), ("images", "labels")])
def test_examples(tmp_path, names):
    """By any of these names; the first few if asked."""
    np.savez(tmp_path / "a.npz", other=X, **dict(zip(names, (X, np.arange(4)), strict=True)))
    found = load_examples(tmp_path / "a.npz", take=3)
    assert found.names == names and found.x.shape == (3, 6) and found.y.tolist() == [0, 1, 2]
    np.savez(tmp_path / "b.npz", **{names[0]: X})
    assert load_examples(tmp_path / "b.npz").data.shape == (4, 6)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_no_more_is_read_than_is_taken(tmp_path, write):
    """However large the file; its labels are counted all the same. What is stored by columns has
    to be read as a whole, and is the same then."""
    x = np.arange(1 << 22, dtype=np.float32).reshape(1 << 20, 4)
    write(tmp_path / "a.npz", x=x, y=np.arange(len(x)))
    tracemalloc.start()
    try:
        found = load_examples(tmp_path / "a.npz", take=3)
        assert tracemalloc.get_traced_memory()[1] < x.nbytes / 4
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found.x, x[:3])
    assert found.y.tolist() == [0, 1, 2] and found.x.flags.writeable
    assert load_examples(tmp_path / "a.npz", take=len(x) + 1).x.shape == x.shape
    write(tmp_path / "b.npz", x=np.asfortranarray(x[:9]))
    np.testing.assert_array_equal(load_examples(tmp_path / "b.npz", take=3).x, x[:3])
    write(tmp_path / "c.npz", x=x[:9], y=np.arange(8))
    with pytest.raises(iplt.errors.DataError, match="received: 9 in 'x', 8 in 'y'"):
        load_examples(tmp_path / "c.npz", take=3)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


BAD_DATA = {
    "other names": (dict(train=X, valid=X), "received: train, valid"),
    "nothing": ({}, "received: none"),
    "pickle": (dict(x=np.array([Evil()], object)), "cannot be read"),
    "text": (dict(x=np.array(["a"])), "expected an array of numbers"),
    "scalar": (dict(x=3), "one row per example"),
    "a number of labels": (dict(x=X, y=3), "received: 4 in 'x', 0 in 'y'"),
    "lengths": (dict(x=X, y=np.arange(3)), "received: 4 in 'x', 3 in 'y'"),
    "empty": (dict(x=X[:0]), "'x' is empty"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_data_that_are_refused(tmp_path, monkeypatch, case):
    arrays, pattern = BAD_DATA[case]
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(iplt.errors.DataError, match=pattern):
        load_examples(tmp_path / "a.npz")
    assert not (tmp_path / "evil").exists()


def npz(path, method=zipfile.ZIP_STORED, **content):
    """A file of arrays, given as bytes."""
    with zipfile.ZipFile(path, "w", method) as file:
        for name, value in content.items():
            file.writestr(f"{name}.npy", value)
    return path


def header(shape, descr="'<f4'"):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        header("(1000000000000, 6)"), header("(1000000000, 1)"), header(f"({10**30},)"),
        header("(-4, 6)"), header("(4,)", "'O'") + bytes(32), header("(", "'<f4'"),
        header("(4,)", "[('a', " * 300 + "'f4'" + ")]" * 300), b"\x93NUMPY\x09\0" + bytes(99),
        b"\x93NUMPY\x02\0\xff\xff\xff\xff" + bytes(99), b"no array", header("(" * 9000),
    ],
    ids=lambda x: str(x[:99])[-30:],
)  # fmt: skip
def test_arrays_that_say_more_than_they_hold(tmp_path, content):
    """Before memory is asked for, and whatever NumPy would raise."""
    with pytest.raises(iplt.errors.DataError, match=r"cannot be read"):
        load_examples(npz(tmp_path / "a.npz", x=content))


def test_data_that_unpack_to_gigabytes(tmp_path, monkeypatch):
    """Are not unpacked; other ways to pack, which have no bound, are not tried."""
    zeros = header("(16777216,)") + bytes(1 << 26)
    path = npz(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, x=zeros)
    assert load_examples(path, take=1).x.shape == (1,)
    monkeypatch.setattr("keras_iplt.support.npz._FLOOR", 1 << 25)
    with pytest.raises(iplt.errors.DataError, match="zip bomb"):
        load_examples(path)
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        with pytest.raises(iplt.errors.DataError, match="other than deflate"):
            load_examples(npz(tmp_path / "b.npz", method, x=zeros[:1000]))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off", pickle.dumps(Evil())])
def test_data_files_that_are_none(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(iplt.errors.DataError, match=r"expected an \.npz file"):
        load_examples(tmp_path / "a.npz")
    with pytest.raises(iplt.errors.DataError, match="no such file"):
        load_examples(tmp_path / "none.npz")
    np.save(tmp_path / "b.npy", X)
    with pytest.raises(iplt.errors.DataError, match="a single array"):
        load_examples(tmp_path / "b.npy")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("units", [10**8, 10**9, 5 * 10**7])
def test_a_config_that_asks_for_more_than_comes_with_it_is_refused(good, tmp_path, units):
    """Before any memory is asked for."""
    path = with_config(good, tmp_path / "m.keras", first_layer(
        "keras.layers", "Dense", {"name": "hidden", "units": units}))  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, "come with it", "made to fill the memory")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_sizes_of_layers_that_need_values_to_be_made(tmp_path):
    """A stateful layer cannot be made without values: it loads, and a size out of proportion is
    found in its config."""
    image = keras.Input((3, 4), batch_size=2)
    model = keras.Model(image, keras.layers.LSTM(3, stateful=True)(image))
    model.save(tmp_path / "good.keras")
    assert load_model(tmp_path / "good.keras").count_params() == model.count_params()
    config = {"name": "hidden", "units": 10**8, "stateful": True}
    change = first_layer("keras.layers", "LSTM", config)
    refused(with_config(tmp_path / "good.keras", tmp_path / "m.keras", change), "come with it")
