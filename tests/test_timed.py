"""What pruning cost a training, and what it saved: by a clock that is told what time it is."""

import types

import pytest

from keras_iplt.callbacks import timed

pytestmark = pytest.mark.quick


@pytest.fixture
def clock(monkeypatch):
    clock, now = timed.Clock(), [0.0]
    monkeypatch.setattr(timed.time, "perf_counter", lambda: now[0])

    def loop(what, *seconds, rest=0.0):
        """Batches that take so many seconds each, and what comes behind them."""
        clock.begin(what)
        for one in seconds:
            now[0] += one
            clock.batch()
        now[0] += rest
        clock.end()

    def prune(seconds, changes=1):
        with clock.pruning():
            now[0] += seconds
        clock.changes += changes

    return types.SimpleNamespace(clock=clock, loop=loop, prune=prune)


def test_seconds_are_told_apart(clock):
    """Two epochs of the whole model and two of a smaller one, which is compiled once for training
    and once for validation."""
    for first in (5, 1):
        clock.loop("train", first, 1, 1, 1)
        clock.loop("test", 0.5)
    clock.prune(3)
    clock.loop("train", 6, 0.5, 0.5, 0.5)
    clock.loop("test", 2.25)
    clock.loop("train", 0.5, 0.5, 0.5, 0.5)
    clock.loop("test", 0.25)
    account = clock.clock.account()
    assert account == timed.Account(pruning=3, compiling=5.5 + 2.0, saved=2 * 2 + 2 * 0.25)


def test_a_step_that_changes_nothing_compiles_nothing(clock):
    clock.loop("train", 5, 1, 1)
    clock.prune(2, changes=0)
    clock.loop("train", 3, 1, 1)
    assert clock.clock.account() == timed.Account(pruning=2, compiling=0, saved=0)


def test_without_an_epoch_of_the_whole_model_nothing_is_said_of_savings(clock):
    clock.prune(1)
    clock.loop("train", 4, 0.5, 0.5)
    assert clock.clock.account() == timed.Account(pruning=1, compiling=3.5, saved=None)


def test_validation_after_some_epochs_and_loops_without_batches(clock):
    clock.loop("train", 2, 1)
    clock.loop("test")
    clock.loop("test", 1.5, 0.5)
    clock.prune(0)
    clock.loop("train", 2, 0.5)
    clock.loop("train", 0.5, 0.5)
    clock.loop("test", 1.25, 0.25)
    assert clock.clock.account() == timed.Account(pruning=0, compiling=1.5 + 1.0, saved=2.5)


def test_what_comes_behind_the_batches_counts(clock):
    """Where batches are only sent off, their time shows at the end of the epoch."""
    clock.loop("train", 2, 0, 0, rest=2)
    clock.prune(0)
    clock.loop("train", 2, 0, 0, rest=1)
    assert clock.clock.account() == timed.Account(pruning=0, compiling=1.5, saved=1.5)
