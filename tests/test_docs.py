"""What the documentation shows is what happens.

`python tests/test_docs.py` writes the lists of docs/supported-layers.md anew.
"""

import contextlib
import doctest
import io
import pathlib
import re
import shlex
import textwrap

import keras
import pytest

from keras_iplt.graph.rules import supported

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SUPPORTED = ROOT / "docs" / "supported-layers.md"


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


# -- docs/supported-layers.md ----------------------------------------------------------------------


def listed(page):
    """The names in the two generated lists of the page."""
    return [
        re.findall(r"`(\w+)`", re.search(pattern(part), page, re.DOTALL)[2])
        for part in ("layers", "operations")
    ]


def pattern(part):
    return rf"(<!-- {part}: generated -->\n)(.*?)(<!-- end -->)"


def with_rules():
    """The public names of the layers, and the operations, that have a rule: without those that
    tests and examples registered."""
    layers, operations = supported()
    public = {
        getattr(getattr(keras.layers, name), "__name__", ""): name for name in dir(keras.layers)
    }
    names = {kind if hasattr(keras.layers, kind) else public.get(kind) for kind in layers}
    return [sorted(names - {None}), operations]


def test_the_supported_layers_are_listed():
    """The page names every layer and operation with a rule, and no others; an older Keras may lack
    some of the layers."""
    layers, operations = listed(SUPPORTED.read_text(encoding="utf-8"))
    assert [[name for name in layers if hasattr(keras.layers, name)], operations] == with_rules()


def write_supported():
    """Brings the lists of the page up to date."""
    page = SUPPORTED.read_text(encoding="utf-8")
    for part, names in zip(("layers", "operations"), with_rules(), strict=True):
        text = textwrap.fill(", ".join(f"`{name}`" for name in names), 100)
        page = re.sub(pattern(part), lambda m, t=text: f"{m[1]}{t}\n{m[3]}", page, flags=re.DOTALL)
    SUPPORTED.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    write_supported()
