"""Bars: for who is looking, once it takes long, and never in pipes."""

import sys
import time
import types

import keras
import pytest
from support.training import BACKEND, X, Y, compiled, dense, residual

import keras_iplt as iplt
from keras_iplt.support import progress
from keras_iplt.support.progress import doing, silent, told

pytestmark = [pytest.mark.quick, pytest.mark.any_backend]


@pytest.fixture
def slow(monkeypatch):
    """Each item takes a second; standard output is a terminal."""
    now = iter(range(10**6))
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(perf_counter=lambda: next(now)))
    watch(monkeypatch, terminal=True)


@pytest.fixture
def impatient(monkeypatch):
    """Whatever takes time takes too much of it; standard output is a terminal."""
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    watch(monkeypatch, terminal=True)


def watch(monkeypatch, terminal, modules=()):
    def write(text):
        return sys.stdout.write(text)  # as it is then

    stdout = types.SimpleNamespace(isatty=lambda: terminal, write=write, flush=lambda: None)
    monkeypatch.setattr(progress, "sys", types.SimpleNamespace(stdout=stdout, modules=modules))


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


def test_what_has_no_parts_has_a_line(impatient, monkeypatch, capsys):
    """Names in it are text; what is over at once has none."""
    with doing("writing a\rb"):
        time.sleep(0.1)
    assert capsys.readouterr().out == "writing a\\rb …\n"
    monkeypatch.setattr(progress, "_PATIENCE", 60.0)
    with doing("nothing"):
        pass
    assert not capsys.readouterr().out


@pytest.mark.parametrize("how", ["pipe", "silent", "keras"])
def test_silence(how, slow, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    if how == "pipe":
        watch(monkeypatch, terminal=False)
    if how == "keras":
        monkeypatch.setattr(keras.config, "is_interactive_logging_enabled", lambda: False)
    with silent(when=how == "silent"), silent(when=False):
        assert [*told("abcdef", "layer")] == [*"abcdef"]
        with doing("something"):
            time.sleep(0.1)
    assert not capsys.readouterr().out
    if how == "silent":  # and no longer
        assert [*told("abcdef", "layer")] and "6/6" in capsys.readouterr().out


def test_notebooks_are_looked_at(slow, monkeypatch, capsys):
    watch(monkeypatch, terminal=False, modules=["ipykernel"])
    assert [*told("abcd", "layer")] and "4/4" in capsys.readouterr().out


def test_a_nested_model_counts_as_one(impatient, capsys):
    """One bar at a time, however deep."""
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(4)])
    x = keras.Input((4,))
    iplt.trace(keras.Model(x, keras.layers.Dense(2)(inner(x))))
    out = capsys.readouterr().out
    assert "2/2" in out.replace("\x1b[1m", "").replace("\x1b[0m", "") and "/3" not in out


SLOW = {
    "trace": lambda model, path, **how: iplt.trace(model, **how),
    "plan": lambda model, path, **how: iplt.plan(model, criterion="taylor", data=(X, Y), **how),
    "prune": lambda model, path, **how: iplt.prune(model, compensate=X, **how),
    "rewrite": lambda model, path, **how: iplt.rewrite(model, halved(model), X, **how),
    "shrink": lambda model, path, **how: iplt.shrink(model, halved(model), (), X, **how),
    "recalibrate": lambda model, path, **how: iplt.recalibrate(model, X, **how),
    "sensitivity": lambda model, path, **how: iplt.sensitivity(model, (X, Y), (0.5,), **how),
    "smallest": lambda model, path, **how: iplt.smallest(model, (X, Y), minutes=1e-6, **how),
    "prune_guided": lambda model, path, **how: iplt.prune_guided(
        model, (X, Y), (X, Y), 0.5, epochs=1, layers=["hidden"], **how
    ),
    "export": lambda model, path, **how: iplt.export(model, path / "model.keras", **how),
}


def halved(model):
    with silent():
        return iplt.plan(model, 0.5)


@pytest.mark.parametrize("name", SLOW)
def test_verbose_is_for_all_of_it(name, impatient, capsys, tmp_path):
    """What takes long has a bar, and none at all with `verbose=0`, whatever is called inside."""
    eager = BACKEND == "tensorflow"  # where tracing takes longest
    model = compiled(residual if name == "recalibrate" else dense, run_eagerly=eager)
    capsys.readouterr()
    SLOW[name](model, tmp_path, verbose=0)
    assert not capsys.readouterr().out
    SLOW[name](model, tmp_path)
    assert capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in SLOW if name != "export"])
def test_verbose_is_checked(name, tmp_path):
    with pytest.raises(iplt.errors.OptionError, match="verbose: expected one of 0, 1 or 2"):
        SLOW[name](dense(), tmp_path, verbose="yes")
