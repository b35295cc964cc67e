"""How the house is built: layers, public names, imports, and what it takes from Keras."""

import ast
import configparser
import doctest
import functools
import importlib
import importlib.util
import inspect
import os
import pathlib
import pkgutil
import re
import subprocess
import sys
from itertools import chain

import keras
import pytest

import keras_iplt as iplt

pytestmark = pytest.mark.quick

HOUSE = pathlib.Path(iplt.__file__).parent
COMMAND, RECIPES = HOUSE.parent / "keras_iplt_cli", HOUSE.parent / "recipes"

# Imports go down only: a module may import from lower levels, and inside its own package.
LEVELS = [
    ["errors", "_keras"],
    ["support"],
    ["layers"],
    ["graph"],
    ["running", "schedules"],
    ["criteria"],
    ["planning"],
    ["surgery", "exporting"],
    ["latency"],
    ["pruning", "callbacks", "analysis"],
    ["baselines", "quantization", "sparsity", "tfmot_bridge"],
    ["clustering"],
    ["plots"],
    ["reporting"],
    ["__main__"],
]
LEVEL = {name: i for i, names in enumerate(LEVELS) for name in names}


def modules():
    return sorted(p for p in HOUSE.rglob("*.py") if p != HOUSE / "__init__.py")


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ([node.module] if node.module != "keras_iplt"
                        else [f"keras_iplt.{a.name}" for a in node.names])  # fmt: skip
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_imports_go_down_only():
    """No module imports from its own level's siblings or from above."""
    wrong = []
    for path in modules():
        part = path.relative_to(HOUSE).parts[0].removesuffix(".py")
        for name in imported(path):
            if name.startswith("keras_iplt."):
                other = name.split(".")[1]
                if other != part and LEVEL[other] >= LEVEL[part]:
                    wrong.append(f"{path.relative_to(HOUSE)} imports {other}")
    assert not wrong


def test_the_command_line_stands_above_the_library():
    """The library does not know of it, but for the door `python -m keras_iplt`; it takes public
    names, errors and what is for all."""
    wrong = [
        str(path)
        for path in modules()
        if path.name != "__main__.py"
        and any(name.startswith("keras_iplt_cli") for name in imported(path))
    ]
    for path in COMMAND.rglob("*.py"):
        for name in imported(path):
            if name.startswith("keras_iplt."):
                other = name.split(".")[1]
                if other not in {"errors", "support", *iplt.__all__}:
                    wrong.append(f"{path} imports {other}")
    assert not wrong


def test_arguments_are_read_without_the_library():
    """What reads them, of recipes too, imports Python's own modules, and the work only in the
    function that does it."""
    light = {"keras_iplt_cli", "keras_iplt_recipes", *sys.stdlib_module_names}
    heavy = ("keras_iplt_cli.work", "keras_iplt_cli.loading")
    wrong = []
    recipes = [path.with_name("__init__.py") for path in RECIPES.glob("*/__main__.py")]
    for path in [*COMMAND.rglob("*.py"), *recipes, RECIPES / "common" / "command.py"]:
        if path.parent.name in ("work", "loading"):
            continue
        for node in ast.parse(path.read_text()).body:
            names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if name.split(".")[0] not in light or name.startswith(heavy):
                    wrong.append(f"{path} imports {name}")
    assert not wrong


def test_no_backend_is_imported_before_it_is_needed():
    """TensorFlow, JAX and PyTorch are imported inside functions; Keras's insides in one package."""
    backends = {"tensorflow", "jax", "torch", "tensorflow_model_optimization"}
    wrong = []
    for path in modules():
        body = ast.parse(path.read_text()).body
        top = [n for n in body if isinstance(n, (ast.Import, ast.ImportFrom))]
        names = {a.name.split(".")[0] for n in top if isinstance(n, ast.Import) for a in n.names}
        names |= {n.module.split(".")[0] for n in top if isinstance(n, ast.ImportFrom) and n.module}
        inside = "_keras" not in path.parts and any(
            module.startswith("keras.src") for module in imported(path)
        )
        if names & backends or inside:
            wrong.append(str(path.relative_to(HOUSE)))
    assert not wrong


WITHOUT_TENSORFLOW = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tf_keras", "tensorflow_model_optimization"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())

import keras
import numpy as np
import keras_iplt as iplt

def network():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(3)])
    model.compile("adam", "mse")
    return model

model = network()
plan = iplt.plan(model, ratio=0.5)
assert iplt.rewrite(model, plan).layers[0].units == 4
iplt.mask(model, plan)
iplt.shrink(model, plan)
other, x, y = network(), np.ones((16, 4)), np.ones((16, 3))
other.fit(x, y, epochs=4, verbose=0, callbacks=[iplt.IPLTCallback(0.5, 0.25, 1, verbose=0)])
assert other.layers[0].units == model.layers[0].units == 4
iplt.sparsity.prune_low_magnitude(network())
print("works")
"""


def test_without_tensorflow():
    """Where it cannot be imported at all, what needs it not works on JAX."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(HOUSE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW], capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == "works", done.stderr


def test_state_is_born_in_constructors():
    """Whoever reads `__init__` knows all that an object has; but for what a layer builds."""

    @functools.cache
    def parts(kind):
        return next(n.body for n in parsed(kind.__module__) if n.name == kind.__name__)

    @functools.cache
    def parsed(name):
        tree = ast.parse(pathlib.Path(sys.modules[name].__file__).read_text())
        return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]

    def set_by(method):
        places = [n for n in ast.walk(method) if isinstance(n, ast.Attribute)]
        places = [n for n in places if isinstance(n.ctx, ast.Store)]
        return {n.attr for n in places if ast.unparse(n.value) == "self"}

    def born(kind):
        first = [part for part in parts(kind) if getattr(part, "name", "") == "__init__"]
        called = re.findall(r"self\.(\w+)\(", "".join(map(ast.unparse, first)))
        first += [part for part in parts(kind) if getattr(part, "name", "") in called]
        return {*vars(kind), *getattr(kind, "__annotations__", ()), *chain(*map(set_by, first))}

    late = []
    for found in pkgutil.walk_packages([str(HOUSE)], "keras_iplt."):
        for kind in vars(importlib.import_module(found.name)).values():
            if inspect.isclass(kind) and kind.__module__ == found.name:
                ours = [one for one in kind.__mro__ if one.__module__.startswith("keras_iplt")]
                known = set(chain(*map(born, ours)))
                late += [
                    f"{kind}.{part.name}: {name}"
                    for part in parts(kind)
                    if isinstance(part, ast.FunctionDef) and part.name not in ("build", "__init__")
                    for name in set_by(part) - known
                ]
    assert not late


def test_all_packages_are_installed():
    """Those that setup.cfg names are those that there are."""
    config = configparser.ConfigParser()
    config.read(HOUSE.parent / "setup.cfg")
    named = set(config["options"]["packages"].split())
    folders = {name: HOUSE.parent / name for name in named if "." not in name}
    folders["keras_iplt_recipes"] = RECIPES
    found = {
        ".".join([name, *path.parent.relative_to(folder).parts])
        for name, folder in folders.items()
        for path in folder.rglob("__init__.py")
    }
    assert found == named


def test_importing_is_cheap():
    """On the JAX backend neither TensorFlow nor tfmot is loaded, nor is TF_USE_LEGACY_KERAS set."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    code = (
        "import os, sys, keras_iplt; "
        "print([m for m in ('tensorflow', 'tensorflow_model_optimization') if m in sys.modules], "
        "os.environ.get('TF_USE_LEGACY_KERAS'))"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(HOUSE.parent)}
    environment.pop("TF_USE_LEGACY_KERAS", None)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "[] None"


def test_the_public_names_are_pinned():
    """Adding or removing a public name is a decision, written down here."""
    assert sorted(iplt.__all__) == sorted([
        "Branch", "Comparison", "Export", "Frozen", "Graph", "Group", "Guard", "Guided",
        "IPLTCallback", "LatencyTable", "Plan", "Profile", "PruningError", "QuantizationErrors",
        "Refit", "Sensitivity",
        "Smallest", "SparsityCallback", "baselines", "branch_scores", "clustering", "compare",
        "criteria",
        "errors", "export",
        "latency_table", "mask", "plan", "plan_channels", "plots", "profile", "prune",
        "prune_guided", "quantization", "quantization_errors", "rebuild", "recalibrate",
        "register_rule", "report", "rewrite", "schedules",
        "sensitivity", "shrink", "smallest", "sparsity", "trace",
    ])  # fmt: skip
    assert all(hasattr(iplt, name) for name in iplt.__all__)
    assert list(inspect.signature(iplt.plan).parameters) == [
        "model", "ratio", "of", "criterion", "scope", "per_layer", "data", "more",
    ]  # fmt: skip
    assert (HOUSE / "py.typed").exists()


def test_every_error_is_a_pruning_error():
    """One root catches them all."""
    kinds = [getattr(iplt.errors, name) for name in iplt.errors.__all__]
    assert len(kinds) > 8 and all(issubclass(kind, iplt.PruningError) for kind in kinds)


def test_every_public_thing_is_documented():
    """Public functions and classes have docstrings, functions with an example."""
    for name in iplt.__all__:
        thing = getattr(iplt, name)
        assert inspect.getdoc(thing), name
        if inspect.isfunction(thing):
            assert ">>>" in inspect.getdoc(thing), f"{name} has no example"


def test_first_lines_of_docstrings_stand_alone():
    """Each is a sentence, so that who reads no more than it has read something whole."""
    broken = [
        f"{path.name}: {first}"
        for path in [*modules(), *COMMAND.rglob("*.py"), *RECIPES.rglob("*.py")]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and (first := (ast.get_docstring(node) or ".").partition("\n")[0])
        and not first.endswith((".", ":", "?", "!", "…"))
    ]
    assert not broken


def test_docstring_examples_run(tmp_path, monkeypatch):
    """Every example prints what it says, and leaves nothing where it is run."""
    monkeypatch.chdir(tmp_path)
    names = [m.name for m in pkgutil.walk_packages([str(HOUSE)], "keras_iplt.")]
    names += [m.name for m in pkgutil.walk_packages([str(COMMAND)], "keras_iplt_cli.")]
    failed, tried = [], 0
    for name in ["keras_iplt", *names]:
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(0)
        module = importlib.import_module(name)
        result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
        tried += result.attempted
        if result.failed:
            failed.append(name)
    assert not failed and tried > 200


def test_the_version_is_that_of_the_newest_entry_in_the_changelog():
    """And of the tag, where the commit at hand has one."""
    text = (HOUSE.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    assert newest is not None and newest[1] == iplt.__version__
    git = ["git", "-C", str(HOUSE.parent), "tag", "--points-at", "HEAD"]
    tags = subprocess.run(git, capture_output=True, text=True, check=False).stdout.split()
    assert not tags or f"v{iplt.__version__}" in tags
