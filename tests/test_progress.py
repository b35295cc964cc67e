"""Bars: for who is looking, once it takes long, and never in pipes."""

import types

import keras
import pytest

from keras_iplt.support import progress
from keras_iplt.support.progress import silent, told

pytestmark = [pytest.mark.quick, pytest.mark.any_backend]


@pytest.fixture
def slow(monkeypatch):
    """Each item takes a second; standard output is a terminal."""
    now = iter(range(1000))
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(perf_counter=lambda: next(now)))
    watch(monkeypatch, terminal=True)


def watch(monkeypatch, terminal, modules=()):
    stdout = types.SimpleNamespace(isatty=lambda: terminal)
    system = types.SimpleNamespace(stdout=stdout, modules=dict.fromkeys(modules))
    monkeypatch.setattr(progress, "sys", system)


def test_a_terminal_gets_a_bar_after_two_seconds(slow, capsys):
    seen = []
    for item in told("abcd", "layer"):
        seen.append((item, "layer" in capsys.readouterr().out))
    assert seen == [("a", False), ("b", False), ("c", False), ("d", True)]
    assert "4/4" in capsys.readouterr().out


def test_what_has_no_known_end_has_a_bar_as_well(slow, capsys):
    assert [*told(iter("abcd"), "batch")] == [*"abcd"]
    assert "4/Unknown" in capsys.readouterr().out.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert [*told(iter(()), "batch")] == [] and not capsys.readouterr().out


@pytest.mark.parametrize("how", ["pipe", "verbose", "silent", "keras"])
def test_silence(how, slow, monkeypatch, capsys):
    if how == "pipe":
        watch(monkeypatch, terminal=False)
    if how == "keras":
        monkeypatch.setattr(keras.config, "is_interactive_logging_enabled", lambda: False)
    with silent(when=how == "silent"), silent(when=False):
        assert [*told("abcdef", "layer", verbose=how != "verbose")] == [*"abcdef"]
    assert not capsys.readouterr().out
    if how == "silent":  # and no longer
        assert [*told("abcdef", "layer")] and "6/6" in capsys.readouterr().out


def test_notebooks_are_looked_at(slow, monkeypatch, capsys):
    watch(monkeypatch, terminal=False, modules=["ipykernel"])
    assert [*told("abcd", "layer")] and "4/4" in capsys.readouterr().out
