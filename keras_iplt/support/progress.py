"""How far something has come that takes long: a bar for who is looking, nothing for pipes."""

from __future__ import annotations

import contextlib
import contextvars
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

import keras

__all__ = ["silent", "told"]

_PATIENCE = 2.0  # seconds that pass without a word
_SILENT = contextvars.ContextVar("silent", default=False)

_Item = TypeVar("_Item")


@contextlib.contextmanager
def silent(when: bool = True) -> Iterator[None]:
    """Within it, no bars are shown (or, if not `when`, as before)."""
    token = _SILENT.set(when or _SILENT.get())
    try:
        yield
    finally:
        _SILENT.reset(token)


def told(items: Iterable[_Item], unit: str, verbose: int = 1) -> Iterator[_Item]:
    """The same items; once they take more than two seconds, a terminal or a notebook shows a bar.

    Args:
        items: whatever is gone through.
        unit: what one of them is called.
        verbose: 0 for no bar. `keras.config.disable_interactive_logging` does as much.
    """
    total = len(items) if isinstance(items, Sized) else None
    bar = keras.utils.Progbar(total, verbose=1, unit_name=unit)
    shown, began = False, time.perf_counter()
    for count, item in enumerate(items, 1):
        yield item
        if shown or (verbose and time.perf_counter() - began > _PATIENCE and _is_watched()):
            shown = True
            bar.update(count, finalize=False if total is None else None)
    if shown and total is None:
        bar.update(count, finalize=True)


def _is_watched() -> bool:
    """Whether anybody looks at what is printed as it is printed."""
    there = sys.stdout.isatty() or "ipykernel" in sys.modules
    return there and not _SILENT.get() and keras.config.is_interactive_logging_enabled()
