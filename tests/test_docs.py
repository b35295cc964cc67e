"""What the documentation shows is what happens."""

import contextlib
import doctest
import importlib.util
import io
import pathlib
import re
import shlex

import keras
import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path):
    """`(language, first line, text)` of every fenced block of a page."""
    text = path.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield match[1], text.count("\n", 0, match.start(2)), match[2]


def run(path, line, text, namespace):
    """Runs a block, as a doctest where it has prompts, and returns what else it prints."""
    printed = io.StringIO()
    if not text.startswith(">>>"):
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * line + text, str(path), "exec"), namespace)
        return printed.getvalue()
    test = doctest.DocTestParser().get_doctest(text, namespace, path.name, str(path), line)
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test, out=printed.write, clear_globs=False)
    assert not runner.failures, printed.getvalue()
    namespace.update(test.globs)
    return ""


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_every_python_block_runs(path, tmp_path, monkeypatch):
    """The blocks of a page run one after the other and warn of nothing (as pytest is told to turn
    warnings into errors). What they print is in the `text` block behind them."""
    monkeypatch.chdir(tmp_path)
    namespace, printed = {"__name__": "__main__"}, ""
    if keras.backend.backend() != "tensorflow" and "import tensorflow" in path.read_text("utf-8"):
        pytest.skip("the page computes with TensorFlow")
    if "from keras.distillation" in path.read_text("utf-8"):
        pytest.importorskip("keras.distillation", reason="the page computes with Keras 3.12")
    for language, line, text in blocks(path):
        assert language == "text" or not printed, f"{path.name}:{line}: not shown: {printed}"
        if language == "text":
            assert text == printed, f"{path.name}:{line}: printed\n{printed}"
        printed = run(path, line, text, namespace) if language == "python" else ""
    assert not printed


def test_the_readme_starts_with_two_commands():
    """One a line, with nothing to be continued: the main job, and the tests."""
    language, _, text = next(blocks(ROOT / "README.md"))
    lines = text.splitlines()
    assert language == "bash" and len(lines) == 2
    for line in lines:
        assert shlex.split(line)[:2] == ["pip", "install"] and not line.endswith(("\\", "&&"))


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    """Files that a page links to are there."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert target.startswith("http") or (path.parent / target).exists(), target


def test_the_supported_layers_are_listed():
    """docs/supported-layers.md names every layer and operation with a rule, and no others; an older
    Keras may lack some of the layers."""
    spec = importlib.util.spec_from_file_location("lists", ROOT / "tools" / "supported_layers.py")
    lists = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lists)
    layers, operations = lists.listed(lists.PAGE.read_text(encoding="utf-8"))
    found = [[name for name in layers if hasattr(keras.layers, name)], operations]
    assert found == lists.with_rules(), "run python tools/supported_layers.py"


def test_the_picture_is_small():
    """The README is read over slow lines, too."""
    pictures = list((ROOT / "docs" / "pictures").iterdir())
    assert pictures and all(picture.stat().st_size < 60_000 for picture in pictures)
