"""JSON that may come from anyone is what types say, or an error that names the place."""

import dataclasses
import json
import os
from typing import Annotated

import pytest

from keras_iplt.support.records import Count, Part, matching, parse, read, read_json

pytestmark = pytest.mark.quick

Name = Annotated[str, matching(r"step[0-9]+")]


@dataclasses.dataclass(frozen=True)
class Inner:
    share: Part
    loss: float

    def __post_init__(self):
        if self.loss == 13:
            raise ValueError("loss: expected another one")


@dataclasses.dataclass(frozen=True)
class Outer:
    count: Count
    inner: list[Inner]
    pair: tuple[float | None, bool] | None
    name: Name | None
    more: dict[str, int]


GOOD = {"count": 3, "inner": [{"share": 0.5, "loss": 1}], "pair": [None, True], "more": {"a": 1}}


def test_what_is_right_becomes_an_object():
    """Whole numbers are numbers, NaN is one where no range is asked for, and what may be None may
    be missing."""
    found = read(Outer, GOOD)
    assert found == Outer(3, [Inner(0.5, 1.0)], (None, True), None, {"a": 1})
    assert isinstance(found.inner[0].loss, float)
    assert parse(float, "NaN") != parse(float, "NaN") and parse(float, "1e999") > 1e308


@pytest.mark.parametrize(("change", "words"), [
    ({"count": "three"}, "count: expected a whole number in [0, 1e+15], received: 'three'"),
    ({"count": -1}, "count: expected a whole number in [0, 1e+15], received: -1"),
    ({"count": True}, "count: expected a whole number in [0, 1e+15], received: True"),
    ({"count": 1.5}, "count: expected a whole number"),
    ({"count": None}, "count: expected a whole number in [0, 1e+15], received: None"),
    ({"inner": {}}, "inner: expected a list"),
    ({"inner": [{"share": float("nan"), "loss": 0}]}, "inner[0].share: expected a number in"),
    ({"inner": [{"share": 1.1, "loss": 0}]}, "in [0, 1], received: 1.1"),
    ({"inner": [{"share": 1, "loss": 10**400}]}, "inner[0].loss: expected a number that a float"),
    ({"inner": [{"share": 1, "loss": 13}]}, "loss: expected another one"),
    ({"inner": [{"share": 1}]}, "inner[0].loss: expected a number, received: None"),
    ({"inner": ["x"]}, "inner[0]: expected names with values"),
    ({"pair": [1]}, "pair: expected 2 values, received: [1]"),
    ({"pair": [1, 1]}, "pair[1]: expected a bool"),
    ({"name": "../step1"}, "name: expected a text like step[0-9]+"),
    ({"more": {"a": []}}, "more['a']: expected an integer"),
    ({"evil": 1}, "expected nothing but count, inner, pair, name, more, received: 'evil'"),
])  # fmt: skip
def test_what_is_wrong_is_said(change, words):
    with pytest.raises(ValueError) as caught:
        read(Outer, {**GOOD, **change})
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["", "[", "[" * 10**5, "3"])
def test_text_that_is_nothing(text):
    with pytest.raises(ValueError):
        parse(Outer, text)


def test_a_pipe_is_not_waited_for(tmp_path):
    """Nor is a directory read."""
    path = tmp_path / "note.json"
    path.write_text(json.dumps(GOOD))
    assert read_json(Outer, path).count == 3
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="a directory, a device or a pipe"):
            read_json(Outer, tmp_path / "pipe")
    with pytest.raises(ValueError, match="a directory"):
        read_json(Outer, tmp_path)
