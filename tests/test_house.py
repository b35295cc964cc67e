"""How the house is built: layers, public names, imports, and what it takes from Keras."""

import ast
import doctest
import importlib
import importlib.util
import inspect
import os
import pathlib
import pkgutil
import subprocess
import sys

import keras
import pytest

import keras_iplt as iplt

HOUSE = pathlib.Path(iplt.__file__).parent

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
    ["baselines", "sparsity", "tfmot_bridge"],
    ["plots"],
    ["reporting"],
    ["cli"],
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


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(HOUSE)))
def test_imports_go_down_only(path):
    """No module imports from its own level's siblings or from above."""
    part = path.relative_to(HOUSE).parts[0].removesuffix(".py")
    for name in imported(path):
        if name.startswith("keras_iplt."):
            other = name.split(".")[1]
            if part == "cli" and other not in LEVEL:
                continue  # what stands above all takes public names
            assert other == part or LEVEL[other] < LEVEL[part], f"{part} imports {other}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(HOUSE)))
def test_the_core_imports_no_backend_and_no_private_keras(path):
    """TensorFlow, JAX and PyTorch are imported inside functions; Keras's insides in one module."""
    body = ast.parse(path.read_text()).body
    top = [n for n in body if isinstance(n, (ast.Import, ast.ImportFrom))]
    names = {a.name.split(".")[0] for n in top if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module.split(".")[0] for n in top if isinstance(n, ast.ImportFrom) and n.module}
    assert not names & {"tensorflow", "jax", "torch", "tensorflow_model_optimization"}
    if "_keras" not in path.parts:
        assert not any(m.startswith("keras.src") for m in imported(path))


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
        "BackupError", "Comparison", "CriterionError", "DataError", "Export", "ExportError",
        "Frozen", "Graph", "Group", "Guard", "Guided", "IPLTCallback", "LatencyTable",
        "MissingExtraError", "ModelError", "NothingToPruneError", "OptionError", "Plan",
        "PlanMismatchError", "Profile", "PruningError", "Sensitivity", "SparsityCallback",
        "WeightsError", "baselines", "compare", "criteria", "export", "latency_table",
        "mask", "plan", "plan_channels", "plots", "profile", "prune", "prune_guided",
        "register_rule",
        "report", "rewrite", "schedules", "sensitivity", "shrink", "sparsity", "trace",
    ])  # fmt: skip
    assert all(hasattr(iplt, name) for name in iplt.__all__)
    assert list(inspect.signature(iplt.plan).parameters) == [
        "model", "ratio", "of", "criterion", "scope", "per_layer", "data", "more",
    ]  # fmt: skip
    assert (HOUSE / "py.typed").exists()


def test_every_error_is_a_pruning_error():
    """One root catches them all."""
    kinds = [getattr(iplt, n) for n in iplt.__all__ if n.endswith("Error")]
    assert all(issubclass(kind, iplt.PruningError) for kind in kinds)


def test_every_public_thing_is_documented():
    """Public functions and classes have docstrings, functions with an example."""
    for name in iplt.__all__:
        thing = getattr(iplt, name)
        assert inspect.getdoc(thing), name
        if inspect.isfunction(thing):
            assert ">>>" in inspect.getdoc(thing), f"{name} has no example"


@pytest.mark.parametrize(
    "name", [m.name for m in pkgutil.walk_packages([str(HOUSE)], "keras_iplt.")] + ["keras_iplt"]
)
def test_docstring_examples_run(name):
    """Every example prints what it says."""
    keras.utils.set_random_seed(0)
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not result.failed
