"""Files that a command writes: looked after before the work begins."""

import os
import tempfile

from keras_iplt.errors import OptionError

__all__ = ["check_outputs", "read_text"]


def check_outputs(outputs, inputs, force):
    """Refuses, before minutes of work, what could not be written after them.

    Args:
        outputs: paths, or None.
        inputs: paths of what is read, or None; never overwritten.
        force: whether other files may be.
    """
    read, written = ([path for path in paths if path is not None] for paths in (inputs, outputs))
    for index, path in enumerate(written):
        if any(_same(path, other) for other in read):
            raise OptionError(f"{path}: this very file is read; results need one of their own")
        if any(_same(path, other) for other in written[:index]):
            raise OptionError(f"{path}: two results cannot go to the same file")
        if os.path.lexists(path) and not force:
            raise OptionError(f"{path}: it exists; --force overwrites it")
        _try(path)


def _same(path, other):
    try:
        return os.path.samefile(path, other)
    except OSError:  # one of them is not there
        return os.path.realpath(path) == os.path.realpath(other)


def _try(path):
    """Puts a file where this one is to be, and takes it away: permissions do not tell all."""
    if not path.parent.is_dir():
        raise OptionError(f"{path}: {str(path.parent)!r} is not a directory that exists")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OptionError(f"{path}: cannot be written: {error.strerror}") from error


def read_text(path):
    """The text of a file that the user named."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise OptionError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise OptionError(f"{path}: expected text, received: something else") from error
