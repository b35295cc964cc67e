"""Files that a command reads and writes: looked after before the work begins."""

import os
import pathlib
import tempfile
from collections.abc import Iterable

from keras_iplt_cli.errors import CommandError

__all__ = ["check_inputs", "check_outputs"]


def check_inputs(*paths: pathlib.Path | None) -> None:
    """Refuses files that are not there."""
    for path in paths:
        if path is not None and not path.exists():
            raise CommandError(f"{path}: no such file")


def check_outputs(
    outputs: Iterable[pathlib.Path | None], inputs: Iterable[pathlib.Path | None], force: bool
) -> None:
    """Refuses, before minutes of work, what could not be written after them.

    Args:
        outputs: paths, or None.
        inputs: paths of what is read, or None; never overwritten.
        force: whether other files may be.
    """
    read, written = ([path for path in paths if path is not None] for paths in (inputs, outputs))
    for index, path in enumerate(written):
        if any(_same(path, other) for other in read):
            raise CommandError(f"{path}: this very file is read; results need one of their own")
        if any(_same(path, other) for other in written[:index]):
            raise CommandError(f"{path}: two results cannot go to the same file")
        if os.path.lexists(path) and not force:
            raise CommandError(f"{path}: it exists; --force overwrites it")
        _try(path)


def _same(path: pathlib.Path, other: pathlib.Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:  # one of them is not there
        return os.path.realpath(path) == os.path.realpath(other)


def _try(path: pathlib.Path) -> None:
    """Puts a file where this one is to be, and takes it away: permissions do not tell all."""
    if not path.parent.is_dir():
        raise CommandError(f"{path}: {str(path.parent)!r} is not a directory that exists")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise CommandError(f"{path}: cannot be written: {error.strerror}") from error
