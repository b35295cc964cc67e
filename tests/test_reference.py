"""The reference, which tools/reference.py makes while the site is built, has every public name."""

import importlib
import importlib.util
import pathlib
import re
import sys

import keras
import pytest

pytestmark = pytest.mark.quick

TOOLS = pathlib.Path(__file__).resolve().parents[1] / "tools"

# Public modules; `keras_iplt.tfmot_bridge` wants TensorFlow as the backend.
MODULES = [
    "keras_iplt",
    "keras_iplt.baselines",
    "keras_iplt.clustering",
    "keras_iplt.criteria",
    "keras_iplt.errors",
    "keras_iplt.exporting",
    "keras_iplt.layers",
    "keras_iplt.plots",
    "keras_iplt.quantization",
    "keras_iplt.quantization.combine",
    "keras_iplt.quantization.default_8bit",
    "keras_iplt.quantization.default_n_bit",
    "keras_iplt.quantization.quantizers",
    "keras_iplt.schedules",
    "keras_iplt.sparsity",
    "keras_iplt.sparsity.allocation",
    "keras_iplt.sparsity.patterns",
    "keras_iplt_recipes.data",
    "keras_iplt_recipes.zoo",
    *["keras_iplt.tfmot_bridge"] * (keras.backend.backend() == "tensorflow"),
]


@pytest.fixture(scope="module")
def reference():
    """tools/reference.py as a module, wherever pytest was started."""
    spec = importlib.util.spec_from_file_location("reference", TOOLS / "reference.py")
    module = sys.modules["reference"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["reference"]


@pytest.fixture(scope="module")
def told(reference):
    """The full names that the pages tell about."""
    pages = "\n".join(map(reference.page, reference.parts()))
    return re.findall(r"^(?:::: |## \w+ \{ #)([\w.]+)", pages, re.MULTILINE)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_told_of(told, module):
    """Under the module that it is public in, or by itself if it is a module."""
    public = importlib.import_module(module).__all__
    assert public
    assert not {f"{module}.{name}" for name in public} - set(told)


def test_nothing_is_told_of_twice(told):
    """Nor is there anything that is not public."""
    assert len(told) == len(set(told))
    for path in told:
        module, _, name = path.rpartition(".")
        if path not in MODULES and module in MODULES:
            assert name in importlib.import_module(module).__all__, path


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_described(module):
    """Its docstring is its entry."""
    found = importlib.import_module(module)
    assert not [name for name in found.__all__ if not getattr(found, name).__doc__]


def test_the_contents_lead_to_every_name(reference, told):
    """Each of them a link."""
    links = re.findall(r"\[\w+\]\[([\w.]+)\]", reference.contents())
    assert set(links) == set(told) - set(MODULES) - {"keras_iplt.tfmot_bridge"}


def test_subjects_are_those_of_the_package(reference):
    """What `keras_iplt.__all__` groups by comments has a page for each."""
    first = reference.parts()[0]
    assert (first.title, first.page, "trace" in first.names) == ("Read", "reference/read.md", True)
