"""The command line: what it prints where, how it ends, and what it leaves behind."""

import functools
import importlib.util
import io
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
import types

import keras
import numpy as np
import pytest
from keras import layers
from support.training import BACKEND

import keras_iplt as iplt
from keras_iplt import criteria
from keras_iplt.exporting import formats
from keras_iplt.exporting.io_dtypes import IO_DTYPES
from keras_iplt.support.text import printable
from keras_iplt_cli import loading, main, options, talk
from keras_iplt_cli.commands import export
from keras_iplt_cli.commands.recipe import RECIPES
from keras_iplt_cli.lines import escaped
from keras_iplt_cli.work.models import compiled

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 8, 8, 3)).astype("float32")
Y = RANDOM.integers(0, 4, 40)
COMMANDS = ["inspect", "prune", "smallest", "sensitivity", "compare", "export", "report", "recipe"]


def net(activation=None, name="net"):
    return keras.Sequential(
        [keras.Input((8, 8, 3), name="image"), layers.Conv2D(8, 3, activation="relu", name="one"),
         layers.Conv2D(6, 3, activation="relu", name="two"), layers.Flatten(),
         layers.Dense(4, activation=activation, name="scores")], name=name
    )  # fmt: skip


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Files that tests copy from."""
    folder = tmp_path_factory.mktemp("stored")
    keras.utils.set_random_seed(0)
    net().save(folder / "model.keras")
    np.savez(folder / "data.npz", x=X, y=Y)
    return folder


@pytest.fixture
def here(stored, tmp_path, monkeypatch):
    """A directory to work in, with a model and data."""
    for file in stored.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(capsys):
    """Runs a command; returns its exit code, standard output and standard error."""

    def run(*arguments):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def succeed(result):
    """Its standard output."""
    code, out, err = result
    assert code == 0, err
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", err), "control characters"
    return out


def fail(result, *patterns):
    """One line about the error, after lines about the work."""
    code, out, err = result
    assert code == 1 and not out
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("keras-iplt: error: "), err
    for pattern in patterns:
        assert pattern in last
    return last


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# -- commands --------------------------------------------------------------------------------------


@pytest.mark.any_backend
def test_inspect(here, call):
    """Groups, what is frozen and why, and costs."""
    out = succeed(call("inspect", "model.keras"))
    for text in ("one", "frozen: it is an output of the model", "total", "FLOPs"):
        assert text in out
    found = json.loads(succeed(call("inspect", "model.keras", "--json")))
    assert [group["size"] for group in found["groups"]] == [8, 6]
    assert found["groups"][0]["producers"] == ["one"]
    assert found["frozen"] == [
        {"operation": "scores", "channels": 4, "reason": "it is an output of the model"}
    ]
    assert found["profile"]["params"] == net().count_params()


@pytest.mark.any_backend
def test_prune_and_compare(here, call):
    """The smaller model is there; both commands tell the same."""
    code, out, err = call("prune", "model.keras", "-o", "small.keras", "--ratio", "0.5")
    assert code == 0 and "written to small.keras" in out and "loading model.keras" in err
    small = keras.saving.load_model("small.keras")
    assert small.get_layer("one").filters + small.get_layer("two").filters == 7
    table = succeed(call("compare", "model.keras", "small.keras"))
    assert table.strip() in out and "50.0%" in table
    found = json.loads(succeed(call("compare", "model.keras", "small.keras", "--json")))
    assert found["fpr"] == 0.5 and found["after"]["params"] == small.count_params()


def test_options_of_planning(here, call):
    """They arrive at `keras_iplt.plan`, and its defaults are its own."""
    options = (
        "--scope layer --of params --ratio 0.3 --criterion l1 --per-layer one=0.25 --ignore two "
        "--min-channels 2 --round-to 2 --max-ratio 0.9 --convolutions-only --heads"
    )
    succeed(call("prune", "model.keras", "-o", "a.keras", "--plan-out", "p.json", *options.split()))
    assert dict(iplt.Plan.from_json(pathlib.Path("p.json").read_text()).options) == {
        "ratio": 0.3, "of": "params", "scope": "layer", "criterion": "l1", "ignore": ["two"],
        "per_layer": {"one": 0.25}, "min_channels": 2, "round_to": 2, "max_ratio": 0.9,
        "convolutions_only": True, "approximate": False, "heads": True,
    }  # fmt: skip
    succeed(call("prune", "model.keras", "-o", "b.keras", "--plan-out", "q.json"))
    ours = iplt.plan(keras.saving.load_model("model.keras"))
    assert iplt.Plan.from_json(pathlib.Path("q.json").read_text()).options == ours.options


@pytest.mark.any_backend
def test_a_plan_is_carried_out_again(here, call):
    """The same model comes out; on another, it is refused."""
    succeed(call("prune", "model.keras", "-o", "a.keras", "--plan-out", "p.json", "--ratio", ".4"))
    found = json.loads(
        succeed(call("prune", "model.keras", "-o", "b.keras", "--plan", "p.json", "--json"))
    )
    assert found["output"] == "b.keras"
    one, other = (keras.saving.load_model(f"{x}.keras").predict(X, verbose=0) for x in "ab")
    np.testing.assert_array_equal(one, other)
    fail(call("prune", "a.keras", "-o", "c.keras", "--plan", "p.json"), "another architecture")
    pathlib.Path("p.json").write_text("{}")
    fail(call("prune", "model.keras", "-o", "c.keras", "--plan", "p.json"), "JSON text of a")
    assert not pathlib.Path("c.keras").exists()


@pytest.mark.any_backend
def test_data_for_criteria(here, call):
    """Criteria that need a loss get one, and it is said which."""
    arguments = ("prune", "model.keras", "-o", "a.keras", "--criterion", "taylor")
    fail(call(*arguments), "data=")
    code, _, err = call(*arguments, "--data", "data.npz", "--take", 20)
    assert code == 0
    assert "data: x (20, 8, 8, 3), y (20,) of data.npz" in err
    assert "net is not compiled: taking SparseCategoricalCrossentropy of logits" in err


@pytest.mark.any_backend
def test_weights_that_stay_are_fitted_anew_on_request(here, call):
    prune = ("prune", "model.keras", "--ratio", 0.5)
    code, _, err = call(*prune, "-o", "a.keras", "--compensate")
    assert code == 2 and "--data" in err
    assert call(*prune, "-o", "a.keras")[0] == 0
    assert call(*prune, "-o", "b.keras", "--compensate", "--data", "data.npz")[0] == 0
    names = "model.keras", "a.keras", "b.keras"
    whole, cut, fitted = (keras.models.load_model(name, compile=False) for name in names)
    with np.load("data.npz") as data:
        before, a, b = (m.predict(data["x"], verbose=0) for m in (whole, cut, fitted))
    assert cut.count_params() == fitted.count_params() < whole.count_params()
    assert np.abs(b - before).mean() < np.abs(a - before).mean()


@pytest.mark.parametrize(
    ("activation", "units", "y", "loss", "logits"),
    [
        ("softmax", 4, Y, "SparseCategoricalCrossentropy", False),
        (None, 4, Y[:, None], "SparseCategoricalCrossentropy", True),
        ("softmax", 4, np.eye(4)[Y], "CategoricalCrossentropy", False),
        ("sigmoid", 4, np.eye(4)[Y], "BinaryCrossentropy", False),
        ("sigmoid", 1, Y % 2, "BinaryCrossentropy", False),
        ("linear", 1, Y[:, None] % 2, "BinaryCrossentropy", True),
    ],
)
def test_the_loss_is_guessed(activation, units, y, loss, logits):
    """From the labels and the last activation, a nested model's too; what is compiled stays."""
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(units, activation)])
    outer = keras.Sequential([keras.Input((6,)), layers.Dense(6), inner])
    found = types.SimpleNamespace(y=y)
    for model in (inner, outer):
        compiled(model, found)
        assert type(model.loss).__name__ == loss
        assert model.loss.get_config()["from_logits"] is logits
    model.compile(loss="mse")
    assert compiled(model, found).loss == "mse"


def test_a_loss_that_cannot_be_guessed(here, call):
    np.savez("odd.npz", x=X, y=RANDOM.normal(size=(40, 2)))
    fail(call("sensitivity", "model.keras", "--data", "odd.npz"), "cannot be guessed", "(40, 2)")
    np.savez("odd.npz", x=X, y=Y + 1)
    fail(call("sensitivity", "model.keras", "--data", "odd.npz"), "between 1 and 4")
    np.savez("odd.npz", x=X)
    fail(call("sensitivity", "model.keras", "--data", "odd.npz"), "expected labels as well as 'x'")


@pytest.mark.any_backend
def test_sensitivity(here, call):
    """A table, a file and a picture; the file is gone on with."""
    pytest.importorskip("matplotlib")
    command = ("sensitivity", "model.keras", "--data", "data.npz", "--ratios", "0.25,0.5")
    out = succeed(call(*command, "-o", "found.json", "--plot", "found.png"))
    assert "accuracy" in out and "50%" in out and "written to found.png" in out
    assert pathlib.Path("found.png").read_bytes().startswith(b"\x89PNG")
    result = iplt.Sensitivity.from_json(pathlib.Path("found.json").read_text())
    assert result.layers == ("one", "two") and result.ratios == (0.25, 0.5)
    code, again, err = call(*command, "-o", "found.json", "--json")
    assert code == 0 and "going on with found.json" in err
    assert json.loads(again)["values"] == result.to_plain()["values"]
    other = ("sensitivity", "model.keras", "--data", "data.npz", "--ratios", "0.75")
    fail(call(*other, "-o", "found.json"), "found.json")
    assert "75%" in succeed(call(*other, "-o", "found.json", "--force"))


@pytest.mark.slow
def test_smallest(here, call):
    """The smallest model that is good enough, written; what was tried, as a table and as JSON."""
    command = ("smallest", "model.keras", "--data", "data.npz", "--within", "1", "--step", "0.5")
    out = succeed(call(*command, "-o", "small.keras", "--compensate", "--only", "t*"))
    assert "params gone" in out and "taken" in out and "written to small.keras" in out
    small, whole = (keras.models.load_model(name) for name in ("small.keras", "model.keras"))
    assert small.count_params() < whole.count_params()
    assert small.get_layer("one").output.shape == whole.get_layer("one").output.shape
    code, out, err = call(*command, "-o", "other.keras", "--of", "filters", "--json")
    found = json.loads(out)
    assert code == 0 and "of the filters gone" in err
    assert found["best"] == max(found["tried"], key=lambda one: one["share"])
    assert (found["of"], found["within"], found["complete"]) == ("filters", 1.0, True)
    for wrong in (("--within", "-1"), ("--minutes", "0"), ("--step", "1"), ("--of", "layers")):
        code, out, err = call(*command, "-o", "third.keras", *wrong)
        assert code == 2 and not out and wrong[0] in err


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow converts")
def test_export(here, call):
    """As text and as JSON; an existing file is kept unless told otherwise."""
    assert "6,7" not in succeed(call("export", "model.keras", "-o", "m.tflite"))
    fail(call("export", "model.keras", "-o", "m.tflite"), "it exists; --force")
    found = json.loads(
        succeed(
            call("export", "model.keras", "-o", "m.tflite", "--precision", "int8",
                 "--data", "data.npz", "--json", "--force")
        )
    )  # fmt: skip
    assert found["precision"] == "int8" and found["size"] == os.path.getsize("m.tflite")
    fail(call("export", "model.keras", "-o", "m.onx"), "expected one that ends with .tflite")
    int8 = ("--precision", "int8")
    fail(call("export", "model.keras", "-o", "n.tflite", *int8), "examples", "--data")
    fail(call("export", "model.keras", "-o", "n.tflite", "--keep-float", "1"), "--precision int8")
    kept = (*int8, "--data", "data.npz", "--tolerance", "1", "--keep-float")
    asked = ("export", "model.keras", "-o", "n.tflite", "--io-dtype", "int8")
    assert "in float: " in succeed(call(*asked[:4], *kept, "1"))
    fail(call(*asked, "--force"), "io_dtype: expected 'float32' for 'tflite', float32")
    fail(call("export", "model.keras", "-o", "n.onnx", *int8), "only .tflite has")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow converts")
def test_how_far_off_an_export_may_be(here, call):
    """As the user says."""
    command = ("export", "model.keras", "-o", "n.tflite", "--precision", "float16", "--tolerance")
    fail(call(*command, "1e-9"), "expected outputs within 1e-09 of those")
    assert "up to 5e-01 is allowed" in succeed(call(*command, "0.5"))


def test_what_pruning_costs_is_told_where_labels_are_given(here, call):
    """By `prune`, `compare` and `report`, the same."""
    prune = ("prune", "model.keras", "-o", "small.keras", "--data", "data.npz", "--take", 20)
    text = succeed(call(*prune))
    line = next(x for x in text.splitlines() if x.startswith("on 20 examples: "))
    assert re.search(r"accuracy 0\.\d{4} -> 0\.\d{4}", line) and "loss " in line
    other = ("model.keras", "small.keras", "--data", "data.npz", "--take", 20)
    assert line in succeed(call("compare", *other))
    found = json.loads(succeed(call("compare", *other, "--json")))["figures"]["accuracy"]
    assert f"accuracy {found[0]:.4f} -> {found[1]:.4f}" in line
    if importlib.util.find_spec("matplotlib"):
        assert line in succeed(call("report", *other, "-o", "r.html"))
        assert f"{found[0]:.2%}" in pathlib.Path("r.html").read_text()


def test_examples_that_do_not_tell_are_no_reason_to_fail(here, call):
    """Without labels, or with labels that fit nothing."""
    np.savez("alone.npz", x=X)
    np.savez("odd.npz", x=X, y=np.full(40, 99))
    for name in ("alone", "odd"):
        code, out, err = call("compare", "model.keras", "model.keras", "--data", f"{name}.npz")
        assert code == 0 and "examples:" not in out
        assert ("not measured on the examples" in err) == (name == "odd")


def test_report(here, call, monkeypatch):
    """Everything that is named arrives, and the page says how it was made."""
    pytest.importorskip("matplotlib")
    succeed(call("prune", "model.keras", "-o", "a.keras", "--plan-out", "p.json"))
    command = ("report", "model.keras", "a.keras", "-o", "r.html", "--plan", "p.json")
    assert succeed(call(*command)) == "written to r.html\n"
    page = pathlib.Path("r.html").read_text()
    assert "<html" in page and " ".join(["keras-iplt", *command]) in page
    seen = {}
    monkeypatch.setattr(iplt, "report", lambda *paths, **options: seen.update(options))
    assert json.loads(succeed(call(*command, "--force", "--json"))) == {"output": "r.html"}
    assert isinstance(seen["plan"], iplt.Plan) and isinstance(seen["after"], keras.Model)
    succeed(call("report", "model.keras", "-o", "s.html"))
    assert seen["after"] is None and seen["plan"] is None


def test_recipes(call, monkeypatch):
    """They are listed with their first lines, and get all that follows their names."""
    assert re.search(r"^demo +Pruning in ", succeed(call("recipe")), re.MULTILINE)
    assert "demo" in json.loads(succeed(call("recipe", "--json")))
    fail(call("recipe", "nothing"), "no recipe 'nothing'", "demo")
    seen = []
    main = lambda *given: seen.append(given) or print("done")  # noqa: E731
    mine = types.SimpleNamespace(__doc__="A recipe.\n\nMore of it.", main=main)
    monkeypatch.setitem(RECIPES, "mine", mine)
    assert succeed(call("recipe", "mine", "a", "--json", "b", "--help")) == "done\n"
    assert seen == [(["a", "--json", "b", "--help"], "keras-iplt recipe mine")]


def test_the_list_of_recipes_is_complete(call):
    """With the first line of each."""
    folder = pathlib.Path(importlib.util.find_spec("keras_iplt_recipes").origin).parent
    assert set(RECIPES) == {path.parent.name for path in folder.glob("*/__main__.py")}
    for name, recipe in RECIPES.items():
        first = recipe.__doc__.partition("\n")[0]
        assert recipe.__name__ == f"keras_iplt_recipes.{name}" and first.endswith(".")
        assert first in succeed(call("recipe"))


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_called_what_one_types(call, name):
    """In their own help."""
    assert succeed(call("recipe", name, "--help")).startswith(f"usage: keras-iplt recipe {name} ")


def test_what_a_recipe_returns_is_its_json(call, monkeypatch):
    """What it prints goes elsewhere then; how it ends is how the command ends."""

    def run(given, prog):
        print("talk")
        if given == ["--fail"]:
            raise SystemExit("error: no luck")
        if given:
            raise SystemExit(2)
        return {"nan": float("nan"), "array": np.arange(2)}

    monkeypatch.setattr("keras_iplt_recipes.iplt.main", run)
    code, out, err = call("recipe", "--json", "iplt")
    assert code == 0 and json.loads(out) == {"nan": None, "array": [0, 1]} and "talk" in err
    assert succeed(call("recipe", "iplt")) == "talk\n"
    code, out, err = call("recipe", "iplt", "--fail")
    assert code == 1 and err == "keras-iplt: error: no luck\n"
    assert call("recipe", "iplt", "--other")[0] == 2


def test_the_demo(call, monkeypatch):
    """It is a recipe; its options are read before it is imported."""
    monkeypatch.setattr(
        "keras_iplt_recipes.demo.training.compared", lambda *given: print("talk") or given[:3]
    )
    assert succeed(call("demo")) == "talk\n"
    answer = json.loads(succeed(call("demo", "--json", "--epochs", "3", "--ratio", "0.5")))
    assert answer == [0.5, 3, 0]
    assert "usage: keras-iplt demo " in succeed(call("demo", "--help"))


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(call, command):
    out = succeed(call(command, "--help"))
    assert f"examples:\n  keras-iplt {command}" in out and "--json" in out


def test_help_and_version(call):
    out = succeed(call("--help"))
    assert all(f"\n    {command}" in out for command in [*COMMANDS, "demo"])
    assert succeed(call("--version")) == f"keras-iplt {iplt.__version__}\n"
    assert "--epochs" in succeed(call("demo", "--help"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "COMMAND"),
        ("prnue", "invalid choice: 'prnue'"),
        ("prune model.keras", "-o"),
        ("prune -o a.keras", "MODEL"),
        (
            "prune model.keras -o a.keras --ratio half",
            "--ratio: expected a number, received: 'h",
        ),
        ("prune model.keras -o a.keras --of weights", "--of: invalid choice: 'weights'"),
        ("prune model.keras -o a.keras --ratio 1.5", "ratio: expected a number in [0, 1)"),
        ("prune model.keras -o a.keras --max-ratio 1", "ratio: expected a number in [0, 1)"),
        ("prune model.keras -o a.keras --criterion best", "--criterion: invalid choice: 'best'"),
        ("prune model.keras -o a.keras --min-channels 0", "expected a positive number"),
        ("prune model.keras -o a.keras --round-to x", "expected a positive number or 'auto'"),
        ("prune model.keras -o a.keras --per-layer one=2", "expected a number in [0, 1)"),
        ("prune model.keras -o a.keras --per-layer one", "expected NAME=RATIO, received: 'one'"),
        ("prune model.keras -o a.keras --per-layer one=x", "expected a number, received: 'x'"),
        ("prune model.keras -o a.keras --take 0", "expected a positive number, received: '0'"),
        ("prune model.keras -o a.keras --plan p.json --ratio 0.5", "--plan takes no options"),
        ("prune model.keras -o a.keras --rat 0.5", "unrecognized arguments: --rat"),
        ("inspect model.keras more.keras", "unrecognized arguments: more.keras"),
        ("sensitivity model.keras", "--data"),
        ("sensitivity model.keras --data data.npz --ratios 1,x", "received: 'x'"),
        ("sensitivity model.keras --data data.npz --ratios 0.5,0.2", "that rise"),
        ("export model.keras -o a.tflite --precision int3", "invalid choice: 'int3'"),
        ("export model.keras -o a.tflite --format tf", "invalid choice: 'tf'"),
        ("export model.keras -o a.tflite --tolerance nan", "that is not negative"),
        ("recipe --bogus", "unrecognized arguments: --bogus"),
        ("demo --epochs 0", "--epochs: expected a positive number"),
        ("demo --bogus", "unrecognized arguments: --bogus"),
    ],
)
def test_wrong_options(here, call, arguments, message):
    """Exit code 2, the usage and what is wrong."""
    code, out, err = call(*arguments.split())
    assert code == 2 and not out and message in err and "usage: keras-iplt" in err


def test_what_is_known_without_the_library():
    """Is what the library knows."""
    assert sorted(options.CRITERIA) == sorted(criteria._NAMED)
    assert (export.FORMATS, export.PRECISIONS) == (formats.FORMATS, formats.TFLITE_PRECISIONS)
    assert export.IO_DTYPES == IO_DTYPES
    for name in (HOSTILE, "größe", "a b", "\ud800"):
        assert escaped(name, keep="") == printable(name)


def test_an_old_file_is_converted_by_the_line_that_the_error_gives(here, call):
    """As Keras 2 wrote it; what is only weights, no line converts."""
    keras.saving.load_model("model.keras").save("it's old.h5")
    error = fail(call("inspect", "it's old.h5"), "HDF5", "If you trust where it comes from")
    line = shlex.split(error.partition("convert it: ")[2])
    assert line[:2] == ["python", "-c"]
    subprocess.run([sys.executable, *line[1:]], check=True, capture_output=True)
    assert "FLOPs" in succeed(call("inspect", "it's old.keras"))
    keras.saving.load_model("model.keras").save_weights("its.weights.h5")
    assert "python" not in fail(call("inspect", "its.weights.h5"), "weights alone")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("inspect none.keras", "none.keras: no such file"),
        ("inspect data.npz", "data.npz: an .npz file of arrays"),
        ("compare model.keras data.npz", "data.npz"),
        ("prune model.keras -o a.keras --ignore oen", "no layer 'oen'. Close to it: 'one'"),
        ("prune model.keras -o a.keras --branches oen", "no residual branch 'oen'. It has none"),
        ("prune model.keras -o a.h5", "a.h5: expected a path that ends with .keras"),
        ("prune model.keras -o a.keras --data none.npz", "none.npz: no such file"),
        ("prune model.keras -o a.keras --plan none.json", "none.json: cannot be read"),
        ("prune model.keras -o a.keras --plan data.npz", "data.npz: expected text"),
        ("report model.keras -o a.html --sensitivity none.json", "none.json: cannot be read"),
        ("inspect model.keras --import no_such_module", "--import no_such_module"),
        ("inspect model.keras --import ./mine/layers.py", "such as mine.layers"),
    ],
)
def test_what_cannot_be_done(here, call, arguments, message):
    """Exit code 1 and one line; nothing is written."""
    before = files(here)
    fail(call(*arguments.split()), message)
    assert files(here) == before


def test_debugging(here, call):
    """The same, after a traceback."""
    code, out, err = call("inspect", "none.keras", "--debug")
    assert code == 1 and not out and "Traceback" in err
    assert err.strip().splitlines()[-1] == "keras-iplt: error: none.keras: no such file"


def test_a_layer_of_ones_own(here, call, monkeypatch):
    """Without its module an error tells of `--import`; with it, it is found where one works."""
    (here / "my_layers.py").write_text(
        "import keras\n\n\n"
        "@keras.saving.register_keras_serializable('mine')\n"
        "class Twice(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return 2 * x\n"
    )
    monkeypatch.setattr(sys, "path", [str(here), *sys.path])
    twice = __import__("my_layers").Twice()
    keras.Sequential([keras.Input((4,)), layers.Dense(3), twice, layers.Dense(2)]).save("m.keras")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(here)])
    keras.saving.get_custom_objects().pop("mine>Twice")
    monkeypatch.delitem(sys.modules, "my_layers")
    fail(
        call("inspect", "m.keras"), "the class 'Twice' of module 'my_layers'", "--import my_layers"
    )
    assert "dense" in succeed(call("inspect", "m.keras", "--import", "my_layers"))
    keras.saving.get_custom_objects().pop("mine>Twice")


def test_code_in_a_model(here, call, monkeypatch):
    """Runs if the user says so, and only then."""
    monkeypatch.setenv("MARKER", str(here / "marker"))
    touch = layers.Lambda(lambda x: (open(__import__("os").environ["MARKER"], "a").close(), x)[1])
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), touch, layers.Dense(2)])
    model.save("m.keras")
    (here / "marker").unlink()
    for command in (["inspect"], ["prune", "-o", "a.keras"], ["export", "-o", "b.keras"]):
        fail(call(*command, "m.keras"), "Lambda", "--unsafe", "can do anything")
    assert not (here / "marker").exists() and not (here / "a.keras").exists()
    succeed(call("inspect", "m.keras", "--unsafe"))
    assert (here / "marker").exists()


# -- names -----------------------------------------------------------------------------------------

# Clears the screen, titles the window, goes back in the line, begins a new one, turns the writing.
HOSTILE = "one\x1b[2J\x1b]0;t\x07\rkeras-iplt: fine\nwritten to a\u202egpj.exe\x9b1m\u2028"
SPELLED = HOSTILE.encode("unicode_escape").decode()


def is_text(out):
    return all(line.isprintable() for line in out.split("\n"))


@pytest.fixture
def hostile(here):
    """A model whose names are chosen to fool who reads them."""
    model = keras.Sequential(
        [keras.Input((8, 8, 3), name="im\nage"), layers.Conv2D(8, 3, name=HOSTILE),
         layers.Conv2D(6, 3, name="two\r\n"), layers.Flatten(),
         layers.Dense(4, name="scores\x1b[31m")], name="net\n\x1b[1m"
    )  # fmt: skip
    model.save("hostile.keras")


def test_names_in_tables(hostile, call):
    """A row for each layer, however it is called."""
    table = succeed(call("prune", "hostile.keras", "-o", "small.keras", "--scope", "layer"))
    rows = [line for line in table.splitlines() if line.startswith(SPELLED + " ")]
    assert len(rows) == 1 and rows[0].endswith("16,128 -> 8,064")
    table = succeed(call("inspect", "hostile.keras"))
    assert is_text(table) and table.count("keras-iplt: fine") == 2
    assert not any(line.startswith("written to") for line in table.splitlines())
    found = json.loads(succeed(call("inspect", "hostile.keras", "--json")))
    assert found["groups"][0]["producers"] == [HOSTILE]


def test_names_in_messages(hostile, call):
    """In lines about the work, errors, tracebacks and what libraries print."""
    for command in (
        ("sensitivity", "hostile.keras", "--data", "data.npz"),
        ("prune", "hostile.keras", "-o", "small.keras", "--ignore", "on"),
        ("prune", "hostile.keras", "-o", "small.keras", "--ignore", "on", "--debug"),
        ("export", "hostile.keras", "-o", "small.tflite"),
        ("inspect", HOSTILE),
        ("inspect", "hostile.keras", HOSTILE),
        ("prune", "hostile.keras", "-o", "small.keras", "--of", HOSTILE),
        (HOSTILE,),
    ):
        code, out, err = call(*command)
        # TensorFlow takes such a name for a scope, or refuses it, as it happens to compile or not.
        expected = (0, 1) if command[0] == "sensitivity" else (1, 2)
        assert code in expected and is_text(out + err)
        lines = err.splitlines()
        assert "keras-iplt: fine" not in lines and not any(x.startswith("written") for x in lines)


def test_what_else_is_printed(monkeypatch, capsys):
    """While a command works it is text, but for the bar of Keras, which a terminal gets whole."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with talk.talking(answers=False, bars=False):
        keras.utils.Progbar(2, unit_name="layer").update(2)
        print(HOSTILE)
        print(HOSTILE, file=sys.stderr)
    bar, text = capsys.readouterr().err.split("\n", 1)
    assert bar.startswith("\r\x1b[1m2/2\x1b[0m ") and is_text(text)
    monkeypatch.undo()
    with talk.talking(answers=False, bars=False):
        keras.utils.Progbar(2, unit_name="layer").update(2)
    assert re.fullmatch(r"\n2/2 ━+ 0s .*\n", capsys.readouterr().err)


def test_the_bars_of_recipes(monkeypatch, capsys):
    """They are theirs: as they are on a terminal, a line for each state elsewhere."""
    for terminal, shown in ((True, "\r1 of 2\r2 of 2\n"), (False, "\n1 of 2\n2 of 2\n")):
        monkeypatch.setattr(sys.stderr, "isatty", lambda answer=terminal: answer)
        with talk.talking(answers=True, bars=True):
            print("\r1 of 2\r2 of 2", file=sys.stderr)
            print("a\x1b[2Jb")
        out, err = capsys.readouterr()
        assert err == shown and out == "a\\x1b[2Jb\n"


# -- where results go ------------------------------------------------------------------------------


WRITERS = [
    ("prune", "model.keras", "-o"),
    ("prune", "model.keras", "-o", "new.keras", "--plan-out"),
    ("sensitivity", "model.keras", "--data", "data.npz", "-o"),
    ("smallest", "model.keras", "--data", "data.npz", "--within", "9", "-o"),
    ("sensitivity", "model.keras", "--data", "data.npz", "--plot"),
    ("export", "model.keras", "-o"),
    ("report", "model.keras", "-o"),
]


@pytest.mark.parametrize("command", WRITERS, ids=lambda c: " ".join(c))
def test_places_that_are_refused(here, call, monkeypatch, command):
    """Before anything is loaded: what is read, what is there, what cannot be written to."""
    monkeypatch.setattr(loading, "load_model", pytest.fail)
    (here / "folder").mkdir()
    (here / "there.keras").write_text("mine")
    (here / "link.keras").symlink_to("model.keras")
    os.link("model.keras", "hard.keras")
    before = files(here)
    for path, message in [
        ("model.keras", "this very file is read"),
        ("folder/../model.keras", "this very file is read"),
        ("link.keras", "this very file is read"),
        ("hard.keras", "this very file is read"),
        ("there.keras", "there.keras: it exists; --force overwrites it"),
        ("folder", "it exists"),
        ("none/a.keras", "is not a directory that exists"),
        ("model.keras/a.keras", "is not a directory that exists"),
        ("/proc/a.keras", "/proc/a.keras: cannot be written"),
    ]:
        fail(call(*command, path), message)
    for path in ("model.keras", "link.keras", "hard.keras"):
        fail(call(*command, path, "--force"), "this very file is read")
    assert files(here) == before


def test_two_results_in_one_place(here, call):
    fail(call("prune", "model.keras", "-o", "a.keras", "--plan-out", "./a.keras"), "two results")


def test_force(here, call):
    """Other files are overwritten, directories are not."""
    (here / "a.keras").write_text("mine")
    succeed(call("prune", "model.keras", "-o", "a.keras", "--force"))
    assert keras.saving.load_model("a.keras").count_params() < net().count_params()
    (here / "b.keras").mkdir()
    fail(call("prune", "model.keras", "-o", "b.keras", "--force"), "the directory")


def test_a_full_disk(here, call, monkeypatch):
    """What was there is still there, and nothing else."""
    (here / "a.keras").write_text("mine")
    before = files(here)

    def save(model, path):
        pathlib.Path(path).write_text("half a mod")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Sequential, "save", save)
    monkeypatch.setattr(keras.Model, "save", save)
    arguments = ("prune", "model.keras", "-o", "a.keras", "--plan-out", "p.json", "--force")
    fail(call(*arguments), "a.keras: cannot be written", "No space left")
    assert files(here) == before


def test_a_disk_that_is_full_for_the_second_file(here, call, monkeypatch):
    """The model is safe; the plan is not there."""

    def full(path, *arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_text", full)
    fail(call("prune", "model.keras", "-o", "a.keras", "--plan-out", "p.json"), "p.json: cannot")
    assert set(files(here)) == {"model.keras", "data.npz", "a.keras"}


# -- interruptions ---------------------------------------------------------------------------------


def interrupted(*arguments, **options):
    for path in arguments:
        if isinstance(path, pathlib.Path) and path.name != "model.keras":
            path.write_text("half of it")
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("step", "command"),
    [
        ("keras_iplt_cli.loading.load_model", ("inspect", "model.keras")),
        ("keras_iplt.rewrite", ("prune", "model.keras", "-o", "a.keras")),
        ("keras.Model.save", ("prune", "model.keras", "-o", "a.keras", "--plan-out", "p.json")),
        ("keras_iplt.Plan.to_json", ("prune", "model.keras", "-o", "b.keras", "--plan-out", "p")),
        ("keras_iplt.exporting.exporter.write", ("export", "model.keras", "-o", "a.keras")),
        ("keras_iplt.sensitivity", ("sensitivity", "model.keras", "--data", "data.npz")),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_ctrl_c(here, call, monkeypatch, step, command):
    """Exit code 130, one line, and no half-written file."""
    before = files(here)
    monkeypatch.setattr(step, interrupted)
    code, out, err = call(*command)
    assert code == 130 and not out and err.splitlines()[-1] == "keras-iplt: interrupted"
    assert "Traceback" not in err
    after = files(here)
    after.pop("b.keras", None)  # written before the plan, and whole
    assert after == before


def test_ctrl_c_keeps_what_was_measured(here, call, monkeypatch):
    """The same command goes on from there."""
    from keras_iplt.analysis import zeroing as module

    command = ("sensitivity", "model.keras", "--data", "data.npz", "-o", "s.json")
    original, calls = module.Replay, []

    def second(*arguments):
        calls.append(arguments)
        return interrupted() if len(calls) == 3 else original(*arguments)

    monkeypatch.setattr(module, "Replay", second)
    code, _, err = call(*command)
    assert code == 130 and "the same command goes on" in err
    assert json.loads(pathlib.Path("s.json").read_text())["done"] == 1
    monkeypatch.setattr(module, "Replay", original)
    assert "two" in succeed(call(*command))


def test_who_reads_stops_reading(here, call, monkeypatch, capsys):
    """As with `| head`: no complaint."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        code = main(["inspect", "model.keras"])
        monkeypatch.undo()
    assert code == 141
    assert "Broken" not in capsys.readouterr().err


def test_results_that_cannot_be_printed(here, monkeypatch, capsys):
    """Standard output on a full disk: an error, not a truncated table and success."""

    class Full(io.StringIO):
        def flush(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert main(["inspect", "model.keras"]) == 1
    assert "keras-iplt: error: OSError: [Errno 28] No space" in capsys.readouterr().err


# -- as a program ----------------------------------------------------------------------------------


COMMAND = pathlib.Path(sysconfig.get_path("scripts"), "keras-iplt")


def started(*arguments, **options):
    """The installed command, in an environment that says nothing of what is to be said. It hears
    of Ctrl-C even where the tests run in the background and do not."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL", "PYTHONWARNINGS"}
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    return subprocess.Popen(
        [COMMAND, *map(str, arguments)], env=environment, text=True, stderr=subprocess.PIPE,
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        **{"stdout": subprocess.PIPE, **options},
    )  # fmt: skip


def done(*arguments):
    """Its exit code, standard output and standard error."""
    process = started(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_asking_for_help_loads_nothing():
    """What reads arguments needs neither Keras nor NumPy, nor the library."""
    code = """
import sys
from keras_iplt_cli import main
for words in ("--help", "prune --help", "prune", "recipe", "demo --help", "recipe iplt --help"):
    try:
        main(words.split())
    except SystemExit:
        pass
print([m for m in ("keras", "numpy", "tensorflow", "jax", "keras_iplt") if m in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


AT_ONCE = [
    *("--help", "--version", "recipe"),
    *(f"{command} --help" for command in [*COMMANDS, "demo"]),
    *(f"recipe {name} --help" for name in RECIPES),
]
MISTAKES = [
    *("", "--bogus", "prnue", "prune", "prune m.keras", "inspect", "inspect m.keras --bogus"),
    *("prune m.keras -o a.keras --ratio half", "prune m.keras -o a.keras --ratio 2"),
    *("prune m.keras -o a.keras --criterion best", "sensitivity m.keras", "compare m.keras"),
    *("export m.keras -o a.tflite --precision int3", "report", "recipe --bogus", "demo --rat 1"),
    *("recipe iplt --tables 4", "recipe incremental_weights --seeds 0", "recipe demo --out"),
    *("recipe rethinking --networks alexnet", "recipe rethinking --methods magic"),
    *("recipe structure_aware --typical alexnet", "recipe pretraining --share 2"),
]
REFUSALS = [
    *("inspect none.keras", "export m.keras -o a.tfl", "prune m.keras -o a.h5", "recipe nothing"),
    *("export m.keras -o a.tflite --precision int8", "prune m.keras -o none/a.keras"),
]


@pytest.mark.parametrize("arguments", AT_ONCE + MISTAKES + REFUSALS, ids=lambda x: x or "nothing")
def test_what_needs_no_model_is_answered_at_once(tmp_path, monkeypatch, arguments):
    """The installed command takes less than 0.3 seconds, and says nothing but what is asked for or
    wrong. The best of several tries counts: how busy the machine is does not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.keras").touch()
    for _ in range(10):
        begin = time.perf_counter()
        code, out, err = done(*arguments.split())
        seconds = time.perf_counter() - begin
        if seconds < 0.3:
            break
    assert seconds < 0.3
    if arguments in AT_ONCE:
        assert code == 0 and out and not err
    elif arguments in MISTAKES:
        assert code == 2 and not out
        assert err.startswith("usage: keras-iplt") and ": error: " in err.splitlines()[-1]
    else:
        assert code == 1 and not out
        assert err.startswith("keras-iplt: error: ") and err.count("\n") == 1


def test_the_module_is_the_command():
    """`python -m keras_iplt` is the same, though it imports the library."""
    found = subprocess.run(
        [sys.executable, "-m", "keras_iplt", "--version"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout == f"keras-iplt {iplt.__version__}\n"


def test_nothing_is_said_where_nothing_is_wrong(here):
    """No line of TensorFlow's on standard error; of ours, what takes long."""
    code, out, err = done("inspect", "model.keras")
    assert code == 0 and "FLOPs" in out and err == ""
    code, out, err = done("export", "model.keras", "-o", "small.keras")
    assert code == 0 and [line.partition(":")[0] for line in err.splitlines()] == ["keras-iplt"] * 2


# A module that a command imports; what it does is done in the middle of the work.
LAST_WORDS = """
import os, sys
os.write(2, b"I0000 00:00:1700000000.123456   42 port.cc:153] one DNN\\n")
os.write(2, b"2024-01-01 00:00:00.123456: W tensorflow/core/x.cc:9] mild\\n")
os.write(2, b"E0000 00:00:1700000000.123456   42 x.cc:1] serious \\x1b[2J\\n")
os.write(2, b"no line of a log\\n")
{then}
"""


@pytest.mark.parametrize(
    ("then", "end"),
    [("", 0), ("os.abort()", -signal.SIGABRT), ("raise OSError('odd')", 1)],
    ids=["all goes well", "a crash", "an error"],
)
def test_errors_of_libraries_get_through(here, then, end):
    """Whatever becomes of the process that they are loaded into."""
    (here / "words.py").write_text(LAST_WORDS.format(then=then))
    code, _, err = done("inspect", "model.keras", "--import", "words")
    serious = "E0000 00:00:1700000000.123456   42 x.cc:1] serious \\x1b[2J"
    assert code == end
    ours = ["keras-iplt: error: --import words: OSError: odd"] if end == 1 else []
    assert err.splitlines() == [serious, "no line of a log", *ours]
    everything = done("inspect", "model.keras", "--import", "words", "--debug")[2]
    assert "one DNN" in everything and "mild" in everything


def test_json_is_alone_on_standard_output(here):
    """Whatever else is said, by TensorFlow's libraries too."""
    process = started("prune", "model.keras", "-o", "a.keras", "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)["fpr"] == 0.5
    assert "loading model.keras" in err


def test_a_signal_in_the_middle_of_the_work(here):
    """Ctrl-C while layers are measured."""
    np.savez("much.npz", x=np.tile(X, (2000, 1, 1, 1)), y=np.tile(Y, 2000))
    command = ("sensitivity", "model.keras", "--data", "much.npz", "-o", "s.json")
    for _ in range(3):
        process = started(*command)
        seen = []
        for line in process.stderr:
            seen.append(line)
            if "is not compiled" in line:
                process.send_signal(signal.SIGINT)
                break
        err = "".join(seen) + process.stderr.read()
        process.stderr.close()
        process.stdout.close()
        # Python drops an interrupt that comes while another library looks after the collector.
        if "Exception ignored in" not in err:
            break
    assert process.wait(120) == 130, err
    assert "Traceback" not in err and err.splitlines()[-1].startswith("keras-iplt: interrupted")
    assert {p.name for p in here.iterdir()} <= {"model.keras", "data.npz", "much.npz", "s.json"}
