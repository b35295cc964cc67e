"""What the recipes share: runs that are remembered, training that resumes, sweeps, results; and
every recipe as a whole, on few examples."""

import ast
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
import types

import keras
import numpy as np
import pytest

import keras_iplt as iplt

pytest.importorskip("sklearn")
from keras_iplt_recipes import zoo
from keras_iplt_recipes.common import claims, command, page, training
from keras_iplt_recipes.common.grid import Case, Grid
from keras_iplt_recipes.common.hardware import Hardware
from keras_iplt_recipes.common.published import published
from keras_iplt_recipes.common.spread import Spread, paired, quotient, spread
from keras_iplt_recipes.common.study import Place, Run, Study

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
RECIPES = [
    *("iplt", "incremental_weights", "rethinking", "structure_aware", "pretraining"), "language",
]  # fmt: skip


# -- runs ------------------------------------------------------------------------------------------


def adds(place, a, b=1, calls=None):
    calls.append(place.name)
    return {"sum": a + b}


def runs(calls, count=3, **settings):
    return [Run(f"some/run{i}", adds, {"a": i, **settings}, {"calls": calls}) for i in range(count)]


def test_what_is_done_is_not_done_again(tmp_path):
    calls = []
    assert Study(tmp_path).do(runs(calls, 2)) == [{"sum": 1}, {"sum": 2}]
    again = Study(tmp_path)
    assert again.do(runs(calls)) == [{"sum": 1}, {"sum": 2}, {"sum": 3}]
    assert calls == ["some/run0", "some/run1", "some/run2"]
    assert again.results["some/run2"] == {"sum": 3}
    assert again.settings["some/run1"] == {"a": 1}


def test_what_is_done_is_kept_when_the_next_run_breaks(tmp_path):
    def breaks(place):
        raise KeyboardInterrupt

    calls = []
    with pytest.raises(KeyboardInterrupt):
        Study(tmp_path).do([*runs(calls, 2), Run("broken", breaks, {})])
    Study(tmp_path).do(runs(calls, 2))
    assert len(calls) == 2


def test_results_of_other_settings_are_refused(tmp_path):
    """And stay as they are."""
    Study(tmp_path).do(runs([], 2))
    before = {path: path.read_text() for path in tmp_path.rglob("*.json")}
    with pytest.raises(
        iplt.errors.OptionError, match=r"some/run0 was run with b=None, now it is b=5.*--out"
    ):
        Study(tmp_path).do(runs([], b=5))
    assert {path: path.read_text() for path in tmp_path.rglob("*.json")} == before


def test_damaged_results_are_named(tmp_path):
    Study(tmp_path).do(runs([], 1))
    path = tmp_path / "some" / "run0.json"
    for text in ("{", "[]", "{}"):
        path.write_text(text)
        with pytest.raises(iplt.errors.DataError, match=r"run0\.json is damaged"):
            Study(tmp_path).do(runs([], 1))


def test_a_model_that_is_gone_is_named(tmp_path):
    """With what brings it back."""
    (tmp_path / "there.keras").touch()
    assert Place(tmp_path, "next").model("there") == tmp_path / "there.keras"
    with pytest.raises(
        iplt.errors.DataError, match=r"base-0\.5\.keras is not .*remove .*base-0\.5\.json"
    ):
        Place(tmp_path, "next").model("base-0.5")


# -- training --------------------------------------------------------------------------------------


class Killed(Exception):
    """A training that ends in the middle of an epoch."""


class KilledIn(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1 and self.now == self.epoch:
            raise Killed


def small_training(place, kind, killed_in=None):
    """Trains a network in 5 epochs of shuffled, augmented batches."""
    bench = training.Workbench(
        place, Hardware(), 3, 32, {"source": "digits", "take": 100, "augment": "crop"}
    )
    with bench.hardware.ready(seed=3):
        model = bench.build("mnist_cnn", {"filters": [8, 8, 8], "units": 16})
        bench.compile(model, keras.optimizers.SGD(0.05, momentum=0.9))
        callbacks = [KilledIn(killed_in)]
        if kind == "iplt":
            callbacks.insert(0, iplt.IPLTCallback(
                0.4, step=0.2, every=1, backup_dir=place.backup, verbose=0))  # fmt: skip
        trained = bench.fit(model, 5, callbacks)
    return model, trained


@pytest.mark.any_backend
@pytest.mark.parametrize("kind", ["plain", "iplt"])
@pytest.mark.parametrize("epoch", [0, 3])
def test_a_training_that_was_killed_goes_on(kind, epoch, tmp_path, capsys):
    """To the same weights as without, over the same batches, and with the whole history."""
    whole, told = small_training(Place(tmp_path / "whole", "run"), kind)
    place = Place(tmp_path / "parts", "run")
    with pytest.raises(Killed):
        small_training(place, kind, killed_in=epoch)
    lines = capsys.readouterr().err.count("epoch")
    resumed, told_again = small_training(place, kind)
    assert capsys.readouterr().err.count("epoch") == 5 - epoch and lines == 5 + epoch
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert told_again.history == told.history and len(told.history["loss"]) == 5
    assert told_again.seconds > 0 and told_again.cpu > 0
    again = keras.saving.load_model(place.file(".keras"))
    assert again.count_params() == whole.count_params()


def test_precision_is_put_back():
    before = keras.config.dtype_policy()
    with pytest.raises(Killed), Hardware("mixed_bfloat16").ready(0):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        raise Killed
    assert keras.config.dtype_policy() == before


def test_more_devices_than_there_are():
    keras.ops.ones(1)  # from now on TensorFlow's devices are what they are
    with (
        pytest.raises(iplt.errors.OptionError, match="--devices 64"),
        Hardware(devices=64).ready(0),
    ):
        pass


# -- many at a time, many devices ------------------------------------------------------------------


def alone(script, *arguments, **environment):
    """A process of its own, with warnings as they are."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, *script, *map(str, arguments)], env=environment, capture_output=True,
        text=True, timeout=500,
    )  # fmt: skip


SWEEP = """
import sys, time
import keras_iplt as iplt
from keras_iplt_recipes.common.study import Run, Study

def meets(place, number, of):
    place.file(".here").touch()
    for _ in range(900):
        if len(list(place.folder.glob("*.here"))) >= of:
            return {"number": number}
        time.sleep(0.1)
    raise RuntimeError("alone")

def breaks(place):
    raise iplt.errors.OptionError("no such thing")

study = Study(sys.argv[1], workers=2)
print(study.do([Run(f"run{i}", meets, {"number": i, "of": 2}) for i in range(2)]))
try:
    study.do([Run("run2", meets, {"number": 2, "of": 3}), Run("broken", breaks, {})])
except iplt.errors.OptionError as error:
    print("refused:", error)
"""


def test_two_workers(tmp_path):
    """Runs that wait for each other, and one that breaks: the others' results are kept."""
    pytest.importorskip("ray")
    done = alone(["-c", SWEEP], tmp_path)
    assert done.stdout.splitlines()[-2:] == [
        "[{'number': 0}, {'number': 1}]", "refused: no such thing"
    ], done.stderr  # fmt: skip
    assert "2 runs, 2 at a time" in done.stderr
    assert {path.name for path in tmp_path.glob("*.json")} >= {"run0.json", "run1.json"}
    assert not (tmp_path / "broken.json").exists()


ONE_TABLE = ["--quick", "--tables", "1", "--ratios-1", "0.7"]


def test_a_recipe_with_two_workers_finds_the_same(tmp_path, capsys):
    """As one after another."""
    pytest.importorskip("ray")
    recipe = importlib.import_module("keras_iplt_recipes.iplt")
    recipe.main([*ONE_TABLE, "--seeds", "2", "--out", str(tmp_path / "one")])
    words = [*ONE_TABLE, "--seeds", "2", "--workers", "2", "--out", tmp_path / "two"]
    done = alone(["-m", "keras_iplt_recipes.iplt"], *words)
    assert done.returncode == 0 and "2 at a time" in done.stderr, done.stderr
    one, two = (
        json.loads((tmp_path / name / "results.json").read_text())["runs"]
        for name in ("one", "two")
    )
    assert len(one) == 6 and list(one) == list(two)
    for name, run in one.items():
        assert two[name]["settings"] == run["settings"]
        for figure in ("accuracy", "fpr", "params", "filters"):
            assert two[name]["result"][figure] == run["result"][figure]


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices(backend, tmp_path):
    """Each batch spread over two logical CPUs, the network shrinking meanwhile."""
    words = [*ONE_TABLE, "--devices", "2", "--out", tmp_path]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = alone(["-m", "keras_iplt_recipes.iplt"], *words, KERAS_BACKEND=backend, **flags)
    assert done.returncode == 0, done.stderr
    runs = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert runs["table1/iplt-0.7-seed0"]["settings"]["hardware"]["devices"] == 2
    assert runs["table1/iplt-0.7-seed0"]["result"]["fpr"] > 69


def test_other_dtypes_and_xla(tmp_path, capsys):
    """The models that are left compute as they were trained."""
    recipe = importlib.import_module("keras_iplt_recipes.iplt")
    words = ["--precision", "mixed_bfloat16", "--xla", "--out", str(tmp_path)]
    recipe.main([*ONE_TABLE, *words])
    assert keras.config.dtype_policy().name == "float32"
    small = keras.saving.load_model(tmp_path / "table1" / "iplt-0.7-seed0.keras")
    assert small.get_layer("conv1").dtype_policy.name == "mixed_bfloat16"
    assert small.jit_compile and not small.run_eagerly
    assert small.get_layer("conv3").filters < 16


# -- grids -----------------------------------------------------------------------------------------


def noted(place, seed, batch, hardware, data_dir, download, **own):
    return {"name": place.name, "seed": seed, **own}


def a_grid(tmp_path, seeds=2):
    options = {"seeds": seeds, "batch": 8, "out": tmp_path, "workers": 1, "recipe": "some",
               "precision": "float32", "xla": False, "devices": 1, "eager": False,
               "data_dir": None, "download": False}  # fmt: skip
    return Grid(types.SimpleNamespace(**options))


def test_a_grid_runs_each_case_from_each_seed(tmp_path):
    """Under keys of one's own, seed by seed; the study has the same results by their names."""
    grid = a_grid(tmp_path)
    found = grid.run({("a", 1): Case("t/a", noted, {"k": 1}), "b": Case("t/b", noted, {"k": 2})})
    assert list(found) == [("a", 1), "b"]
    assert [run["name"] for run in found["a", 1]] == ["t/a-seed0", "t/a-seed1"]
    assert [(run["seed"], run["k"]) for run in found["b"]] == [(0, 2), (1, 2)]
    assert grid.study.results["t/b-seed1"] == found["b"][1]
    assert grid.study.settings["t/b-seed1"] == {
        "batch": 8, "hardware": {"precision": "float32", "xla": False, "devices": 1,
                                 "eager": False}, "seed": 1, "k": 2}  # fmt: skip


def test_a_case_begins_with_another_of_its_seed(tmp_path):
    """With settings of its own seed; or it is run but once."""
    found = a_grid(tmp_path).run({
        "next": Case("t/next", noted, {}, after="t/a", by_seed={"k": [5, 6]}, end="-pruned"),
        "once": Case("t/once", noted, {}, once=True),
    })  # fmt: skip
    assert [run["name"] for run in found["next"]] == ["t/next-seed0-pruned", "t/next-seed1-pruned"]
    assert [(run["start"], run["k"]) for run in found["next"]] == [("t/a-seed0", 5),
                                                                   ("t/a-seed1", 6)]  # fmt: skip
    assert found["once"] == [{"name": "t/once", "seed": 0}]


def test_more_seeds_do_only_what_is_new(tmp_path):
    case = {"a": Case("t/a", noted, {})}
    a_grid(tmp_path).run(case)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert len(a_grid(tmp_path, 3).run(case)["a"]) == 3
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert len(after) == 3 and before.items() <= after.items()


# -- what the papers print -------------------------------------------------------------------------

PUBLISHED = sorted((ROOT / "recipes" / "published").glob("*.json"))


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.stem)
def test_published_tables_say_where_they_are_printed(file):
    """A file for each recipe, and nothing of a row is missing or stands twice."""
    raw = json.loads(file.read_text(encoding="utf-8"))
    for name, table in published(file.stem).items():
        assert re.match(r"(Tables?|Fig\.|Claims) .*\(.* et al\., .*\)$", table.source)
        assert len(table.rows) == len(raw["tables"][name]["rows"])
        assert set(raw["tables"][name]) - {"remarks"} == {"printed", "of", "figures", "rows"}


def test_each_recipe_has_published_tables():
    """But for that which no paper is behind."""
    assert [file.stem for file in PUBLISHED] == sorted({*RECIPES} - {"language"})


def test_published_figures_by_what_they_are_of():
    """None where the paper has none."""
    table = published("incremental_weights")["table 5"]
    assert table.row("cifar10", "VGG-Lite") == {"this method": 20, "[3]": 200, "[9]": 40}
    assert table.row("mnist", "VGG-Lite") == {"this method": None, "[3]": None, "[9]": None}


# -- results ---------------------------------------------------------------------------------------


def test_figures_of_two_runs_are_compared_seed_by_seed():
    runs, others = [{"s": 1.0}, {"s": 9.0}], [{"s": 2.0}, {"s": 3.0}]
    assert quotient(runs, others, "s").values == (0.5, 3.0)
    assert paired(runs, others, lambda a, b: a["s"] - b["s"]).difference.points == 2.5
    assert spread(runs, "s", 1) == Spread((1.0, 9.0), 1)


@pytest.mark.parametrize(
    ("points", "noise", "said"),
    [
        (1.0, 0.5, ("holds", "holds", "better")),
        (0.5, 0.5, ("holds", "not told apart", "within the noise")),
        (-0.5, 0.5, ("holds", "not told apart", "within the noise")),
        (-1.0, 0.5, ("does not hold", "does not hold", "worse")),
        (1.0, None, ("not told by one seed",) * 3),
    ],
)
def test_verdicts(points, noise, said):
    """The same difference, by what a paper claims of it."""
    difference = claims.Difference(points, noise)
    every = (claims.NOT_WORSE, claims.BETTER, claims.COMPARED)
    assert tuple(difference.verdict(verdicts) for verdicts in every) == said


def test_spreads():
    one, other = Spread.of([1.0, 2.0, 3.0]), Spread.of([4.0])
    assert str(one) == "2.00 ± 1.00" and str(other) == "4.00"
    assert one.plain() == {"mean": 2.0, "deviation": 1.0, "values": [1.0, 2.0, 3.0]}
    assert one.minus(other) == (-2.0, None)
    difference, noise = one.minus(Spread.of([0.0, 1.0, 2.0]))
    assert difference == 1.0 and noise == pytest.approx(2 * np.sqrt(2 / 3))


def test_within_the_noise_it_is_not_worse():
    """Twice the standard error of the difference."""
    whole, near, far = (Spread.of(v) for v in ([98.0, 98.2], [97.9, 98.1], [97.0, 97.2]))
    assert near.minus(whole).judged(claims.NOT_WORSE) == "-0.10 points, noise 0.28: holds."
    assert far.minus(whole).judged(claims.NOT_WORSE).endswith("noise 0.28: does not hold.")
    assert "one seed" in Spread.of([98.0]).minus(whole).judged(claims.NOT_WORSE)


def test_a_page(tmp_path, capsys):
    """As Markdown, and as JSON with the runs."""
    own = Study(tmp_path)
    own.do(runs([], 1))
    shown = page.Page("A title", own, "python -m recipes.some")
    shown.table("Table 9", [
        {"name": "a", "published": 1.5, "obtained": Spread.of([1, 2])},
        {"name": "b", "published": None, "obtained": 12345},
    ], "A note.")  # fmt: skip
    answer = shown.write()
    text = (tmp_path / "results.md").read_text()
    assert "| a | 1.50 | 1.50 ± 0.71 |\n| b | – | 12,345 |" in text and "A note." in text
    assert "    python -m recipes.some" in text and f"Keras {keras.__version__}" in text
    assert capsys.readouterr().out.strip() == text.strip()
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["runs"]["some/run0"] == {"settings": {"a": 0}, "result": {"sum": 1}}
    assert content["tables"] == answer["tables"]
    assert content["tables"]["Table 9"][1] == {"name": "b", "published": None, "obtained": 12345}


def test_options_come_from_presets():
    def options(*words):
        parser = command.RecipeParser("some", "What it does.", None, (3, 3), (1, 1))
        parser.option("--epochs", int, 9, 2, "how many")
        return parser.parsed(words)

    full, quick, own = options(), options("--quick"), options("--quick", "--epochs", "5")
    assert (full.epochs, quick.epochs, own.epochs) == (9, 2, 5)
    assert full.seeds == quick.seeds == 3
    assert str(full.out) == os.path.join("saved_models", "some") and str(quick.out).endswith(
        "-quick"
    )
    assert quick.command == "python -m recipes.some --quick"
    assert quick.eager and not full.eager


def test_networks_are_known_without_the_zoo():
    assert list(command.NETWORKS) == zoo.names()


@pytest.mark.parametrize(
    ("error", "folder_goes_on", "said"),
    [
        (iplt.errors.OptionError("no"), True, "error: no"),
        (OSError("full"), True, "error: there: full"),
        (KeyboardInterrupt(), True, "interrupted. What is done is kept in there: the same command"),
        (KeyboardInterrupt(), False, "interrupted\n"),
    ],
)
def test_what_goes_wrong_is_one_line(error, folder_goes_on, said, capsys):
    """Ctrl-C ends a recipe as it ends a command."""
    with pytest.raises(SystemExit) as stop, command.failing_in_a_line("there", folder_goes_on):
        raise error
    interrupted = isinstance(error, KeyboardInterrupt)
    assert (stop.value.code == 130) == interrupted
    assert (capsys.readouterr().err if interrupted else stop.value.code).startswith(said)


def test_mistakes_in_a_recipe_are_not_hidden():
    with pytest.raises(ZeroDivisionError), command.failing_in_a_line("there"):
        1 / 0  # noqa: B018


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5"])
def test_counts_are_positive(number, capsys):
    with pytest.raises(SystemExit):
        command.RecipeParser("some", "What.", None, (1, 1), (1, 1)).parsed(["--seeds", number])
    assert "--seeds" in capsys.readouterr().err


# -- recipes ---------------------------------------------------------------------------------------

PUBLIC = {"errors", "exporting"}  # packages beside those that `keras_iplt` names


def named(source):
    """What a module names of keras_iplt, as (module, name): imports, and `iplt.<name>.<name>`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras_iplt"):
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "*") for alias in node.names if "keras_iplt." in alias.name)
        elif isinstance(node, ast.Attribute):
            match ast.unparse(node).split("."):
                case ["iplt", name]:
                    yield "keras_iplt", name
                case ["iplt", module, name]:
                    yield f"keras_iplt.{module}", name


def is_public(module, name):
    """Whether a user may rely on it; recipes may use the tools in `support` as well."""
    _, *inside = module.split(".")
    if inside[:1] == ["support"] or name == "__version__":
        return True
    if not inside:
        return name in iplt.__all__
    one = getattr(iplt, inside[0], None)
    if len(inside) > 1 or inside[0] not in PUBLIC.union(iplt.__all__):
        return False
    return not isinstance(one, types.ModuleType) or name in one.__all__


def test_recipes_use_public_names_only():
    """They show what a user can do."""
    for path in (ROOT / "recipes").rglob("*.py"):
        private = [one for one in named(path.read_text(encoding="utf-8")) if not is_public(*one)]
        assert not private, path


def test_names_that_are_not_public_are_found_out():
    source = """
import keras_iplt.graph
import keras_iplt as iplt
from keras_iplt._keras import live
from keras_iplt.plots.canvas import figure
from keras_iplt.support.files import replacing
from keras_iplt import sparsity, reporting
iplt.prune, iplt.sparsity.measure, iplt.plots.canvas, iplt.surgery.rewriting, iplt.nothing
"""
    assert {one for one in named(source) if not is_public(*one)} == {
        ("keras_iplt.graph", "*"), ("keras_iplt._keras", "live"), ("keras_iplt", "reporting"),
        ("keras_iplt.plots.canvas", "figure"), ("keras_iplt.plots", "canvas"),
        ("keras_iplt.surgery", "rewriting"), ("keras_iplt", "surgery"), ("keras_iplt", "nothing"),
    }  # fmt: skip


def test_these_are_the_recipes():
    from keras_iplt_cli.commands import recipe

    assert set(recipe.RECIPES) == {"demo", *RECIPES}


@pytest.mark.parametrize("name", RECIPES)
def test_quick(name, tmp_path, capsys, monkeypatch):
    """All of a recipe; then again, when all is there."""
    pytest.importorskip("matplotlib")
    recipe = importlib.import_module(f"keras_iplt_recipes.{name}")
    arguments = ["--quick", "--out", str(tmp_path / "some" / "where")]
    answer = recipe.main(arguments)
    out, err = capsys.readouterr()
    folder = pathlib.Path(answer["folder"])
    text = (folder / "results.md").read_text()
    assert out.strip() == text.strip() and f"written to {folder}" in err
    assert "published" in text
    pictures = re.findall(r"!\[.*\]\((.*)\)", text)
    assert pictures and all((folder / picture).stat().st_size > 5000 for picture in pictures)
    assert list(folder.rglob("*.keras")) and not list(folder.rglob("*.partial*"))
    assert not [path for path in (folder / "backup").rglob("*") if path.is_file()]
    runs = json.loads((folder / "results.json").read_text())["runs"]
    assert len(list(folder.rglob("*.json"))) > len(runs) > 2
    assert all(f"{run}: done in" in err for run in runs)
    assert ("channels, accuracy" in err) == (name == "pretraining")
    assert not [cell for cell in re.findall(r"\| (\S+) ", text) if cell in ("nan", "inf")]

    monkeypatch.setattr(keras.Model, "fit", None)  # whatever is done again fails
    assert recipe.main(arguments)["tables"] == answer["tables"]


@pytest.mark.parametrize("name", RECIPES)
def test_another_settings_folder(name, tmp_path):
    """A results directory of something else is left alone."""
    recipe = importlib.import_module(f"keras_iplt_recipes.{name}")
    (tmp_path / "results.json").write_text("mine")
    with pytest.raises(SystemExit, match=r"error: .*results\.json"):
        recipe.main(["--quick", "--out", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
