"""docs/api.md is what tools/reference.py makes of the docstrings, and has every public name."""

import importlib.util
import pathlib
import re

import keras
import pytest

import keras_iplt as iplt

TOOLS = pathlib.Path(__file__).resolve().parents[1] / "tools"

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="it tells about tfmot_bridge, too",
)


@pytest.fixture(scope="module")
def reference():
    """tools/reference.py as a module, wherever pytest was started."""
    spec = importlib.util.spec_from_file_location("reference", TOOLS / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_docstrings_say(reference):
    """If this fails, run `python tools/reference.py`."""
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page()


def test_every_public_name_is_there_once(reference):
    """With an anchor of its own, and described; all links within the page lead to one."""
    page = reference.PAGE.read_text(encoding="utf-8")
    anchors = re.findall(r'<a id="(.+)"></a>', page)
    assert len(anchors) == len(set(anchors))
    assert set(reference.public()) <= set(anchors)
    assert {f"keras_iplt.{name}" for name in iplt.__all__} <= set(anchors)
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= set(anchors)
    assert not [name for name, thing in reference.public().items() if not thing.__doc__]


def test_nothing_of_this_machine_is_in_it(reference):
    """No addresses of objects, and no paths."""
    assert not re.search(r"0x[0-9a-f]{6}|<class|<function|/home/|/root/", reference.page())
