"""Names chosen to fool who reads them: whatever prints or draws them shows them as text."""

import io
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from support.law import randomize

import keras_iplt as iplt
from keras_iplt import plots, sparsity
from keras_iplt.analysis.guided import Guided, GuidedStep
from keras_iplt.analysis.searching import Smallest, Tried
from keras_iplt.support import text
from keras_iplt_cli.lines import escaped

pytestmark = pytest.mark.any_backend

# Clears the screen, goes back in the line, begins a new one, turns the writing, is no mathematics.
HOSTILE = "a\x1b[2J\r\nfine\u202egpj.exe\x9b1m\u2028$x^{<b>"
SPELLED = HOSTILE.encode("unicode_escape").decode()


def is_text(words):
    return all(line.isprintable() for line in words.split("\n")) and "fine" not in words.split("\n")


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, name=HOSTILE)(inputs)
    x = layers.Flatten()(layers.Conv2D(6, 3, name=f"{HOSTILE}2")(x))
    model = keras.Model(inputs, layers.Dense(4, name=f"{HOSTILE}head")(x), name=f"{HOSTILE}net")
    randomize(model)
    return model


def measured():
    values = {HOSTILE: np.full((1, 2), 0.5)}
    return iplt.Sensitivity(
        HOSTILE, HOSTILE, (HOSTILE,), (8,), (0.25, 0.5), np.zeros((1, 2), int), {HOSTILE: 0.9},
        values,
    )  # fmt: skip


def tables(model):
    """Everything that prints names of layers, metrics or machines."""
    plan = iplt.plan(model, 0.5)
    step = GuidedStep(HOSTILE, 4, 8, 0.5, 100, True)
    graph = iplt.trace(model)
    yield graph
    yield from (graph.groups[0], graph.frozen[0], graph.slices[0], graph.groups[0].producers[0])
    yield from graph.calls.values()
    yield plan
    yield iplt.IPLTCallback(0.5, ignore=model.layers).options
    names = {HOSTILE: (None, 3)}
    yield iplt.Export(HOSTILE, "tflite", "int8", 9, 9, 0.1, 0.1, 0.1, HOSTILE, names, names)
    yield iplt.profile(model)
    yield iplt.compare(model, iplt.rewrite(model, plan))
    yield sparsity.measure(model)
    yield sparsity.compressed_size(model)
    yield measured()
    yield Guided(model, HOSTILE, 0.9, 0.5, 100, (step,))
    yield Smallest(model, plan, HOSTILE, HOSTILE, 0.01, (Tried(0.0, 9, 9, 0.5, True, 1.0),), True)
    yield iplt.LatencyTable(HOSTILE, HOSTILE, 1, 1.0, (), {}, 0)


def test_tables_show_names_as_text(model):
    """One line stays one line, of every kind."""
    for table in tables(model):
        assert is_text(str(table)) and is_text(repr(table)), type(table)
        page = table._repr_html_() if hasattr(table, "_repr_html_") else ""
        assert is_text(page) and "<b>" not in page, type(table)
    assert f"\n{SPELLED} " in str(iplt.profile(model))


def test_errors_and_warnings_show_names_as_text(model):
    """Also where a name stands in them as it is."""
    for kind in map(iplt.errors.__dict__.get, iplt.errors.__all__):
        assert str(kind(f"layer {HOSTILE}: no")) == f"layer {SPELLED}: no"
    with pytest.raises(iplt.PruningError) as caught:
        iplt.plan(model, ignore="cnov")
    assert is_text(str(caught.value))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        text.warn(f"layer {HOSTILE}")
    assert str(found[0].message) == f"layer {SPELLED}" and found[0].filename == __file__


def test_what_training_prints_shows_names_as_text(model, capsys):
    small = keras.models.clone_model(model)
    small.compile("sgd", "mse")
    callback = iplt.IPLTCallback(0.5, step=0.5, every=1)
    callback.set_model(small)
    callback.set_params({"verbose": 1})
    callback._say(HOSTILE)
    out, _ = capsys.readouterr()
    assert out == f"IPLTCallback: {SPELLED}\n"


def test_plots_draw_names_as_text(model):
    """Mathematics that is none would be an error when the picture is written."""
    pytest.importorskip("matplotlib")
    graph, sensitivity = iplt.trace(model), measured()
    figures = [
        plots.sensitivity(sensitivity), plots.norms(graph), plots.groups(graph),
        plots.filters(model, iplt.rewrite(model, iplt.plan(model, 0.5))),
        plots.history({HOSTILE: [1, 2]}), plots.sparsity(model),
    ]  # fmt: skip
    for figure in figures:
        figure.savefig(io.BytesIO(), format="png")
        words = [found.get_text() for found in figure.findobj(lambda x: hasattr(x, "get_text"))]
        assert any(words) and all(map(is_text, words))


def test_both_halves_of_the_project_spell_names_in_the_same_way():
    """The command line has its own, since it must not import the library."""
    for code in range(sys.maxunicode + 1):
        assert text.printable(chr(code)) == escaped(chr(code), keep="")
    assert text.printable("a\nb\r", keep="\n") == escaped("a\nb\r") == "a\nb\\r"
