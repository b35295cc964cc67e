"""How far something has come that takes long: a bar for who is looking, nothing for pipes.

What takes `verbose` works inside `silent(when=not verbose)`; what is gone through inside, however
deep, is `told`, and what has no parts is done while `doing` says what.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

import keras

from keras_iplt.errors import printable

__all__ = ["doing", "silent", "told"]

_PATIENCE = 2.0  # seconds that pass without a word
_SILENT = contextvars.ContextVar("silent", default=False)

_Item = TypeVar("_Item")


@contextlib.contextmanager
def silent(when: bool = True) -> Iterator[None]:
    """Within it, nothing is shown (or, if not `when`, as before)."""
    token = _SILENT.set(when or _SILENT.get())
    try:
        yield
    finally:
        _SILENT.reset(token)


def told(items: Iterable[_Item], unit: str) -> Iterator[_Item]:
    """The same items; once they take more than two seconds, a terminal or a notebook shows a bar.

    Args:
        items: whatever is gone through.
        unit: what one of them is called.
    """
    total = len(items) if isinstance(items, Sized) else None
    bar, began = None, time.perf_counter()
    for count, item in enumerate(items, 1):
        yield item
        if bar is None and time.perf_counter() - began > _PATIENCE and _is_watched():
            bar = keras.utils.Progbar(total, verbose=1, unit_name=unit)
        if bar is not None:
            bar.update(count, finalize=False if total is None else None)
    if bar is not None and total is None:
        bar.update(count, finalize=True)


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Within it, something takes its time that has no parts to count: a line says so.

    After the same two seconds.

    Args:
        what: is done.
    """
    if not _is_watched():
        yield
        return
    text, stream = f"{printable(what)} …", sys.stdout  # as it is redirected now
    line = threading.Timer(_PATIENCE, lambda: print(text, file=stream, flush=True))
    line.daemon = True
    line.start()
    try:
        yield
    finally:
        line.cancel()


def _is_watched() -> bool:
    """Whether anybody looks at what is printed as it is printed, and wants to.

    `keras.config.disable_interactive_logging` says no, as for Keras's own bars.
    """
    there = sys.stdout.isatty() or "ipykernel" in sys.modules
    return there and not _SILENT.get() and keras.config.is_interactive_logging_enabled()
