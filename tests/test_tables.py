"""Results in notebooks: the table that `print` shows, as HTML that is text whatever names are."""

import html.parser

import keras
import numpy as np
import pytest
from keras import layers

import keras_iplt as iplt
from keras_iplt.analysis.searching import Tried
from keras_iplt.support.tables import Table, Tables

pytestmark = [pytest.mark.quick, pytest.mark.any_backend]


class Cells(html.parser.HTMLParser):
    """What tables hold, row by row, and every tag there is."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.lines, self._inside = set(), [], [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "p":
            self.lines.append(data)
        elif self._inside:
            self.rows[-1][-1] += data


def results():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, name="hidden"), layers.Dense(2, name="head")]
    )
    model.compile(loss="mse")
    plan = iplt.plan(model, 0.5)
    data = np.zeros((4, 4)), np.zeros((4, 2))
    yield iplt.trace(model)
    yield plan
    yield iplt.profile(model)
    yield iplt.compare(model, iplt.rewrite(model, plan))
    yield iplt.sensitivity(model, data, (0.25, 0.5), verbose=0)
    yield iplt.sparsity.measure(model)
    yield iplt.sparsity.compressed_size(model)
    yield iplt.Plan.from_json(plan.to_json())
    yield iplt.Guided(model, "loss", 1.0, 1.0, 58, ())
    tried = (Tried(0.0, 58, 104, 1.0, True, 0.0), Tried(0.5, 30, 52, 3.0, False, 0.1))
    yield iplt.Smallest(model, None, "params", "loss", 0.01, tried, False)


def test_a_notebook_shows_what_is_printed():
    for result in results():
        found = Cells(result._repr_html_())
        words = " ".join([*found.lines, *(cell for row in found.rows for cell in row)]).split()
        printed = str(result).replace("->", " ").split()
        assert {w for w in printed if w.isalnum()} <= {*words}, type(result)
        assert found.tags <= {"table", "thead", "tbody", "tr", "th", "td", "p"}
        assert len({len(row) for row in found.rows if row}) <= 2  # of Comparison, two tables


class Hostile(Tables):
    def _blocks(self):
        rows = [("layer", "n"), ("<script>alert(1)</script>\x1b[2J", "1 & 2")]
        return ["a <b> line", Table(rows, left=1), "", "last"]


def test_names_are_text_wherever_they_are_shown():
    text = Hostile()._repr_html_()
    assert "<script" not in text and "\x1b" not in text
    found = Cells(text)
    assert found.rows[1] == ["<script>alert(1)</script>\\x1b[2J", "1 & 2"]
    assert found.lines == ["a <b> line", "last"]
    assert text.count("text-align: left") == text.count("text-align: right") == 2
    lines = str(Hostile()).splitlines()
    assert lines[0] == "a <b> line" and lines[2].endswith("\\x1b[2J  1 & 2") and lines[3] == ""
