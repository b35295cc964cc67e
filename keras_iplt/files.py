"""Files that are whole or not there: written beside their place, then put into it."""

import contextlib
import os
import pathlib
import tempfile

from keras_iplt.errors import OptionError

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path):
    """A path to write to, which takes the place of `path` when all is written, and is gone if
    anything goes wrong, an interruption included.

    Args:
        path: where the file is to be, in a directory that exists.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise OptionError(f"path: expected a file, received: the directory {str(path)!r}")
    try:
        handle, partial = tempfile.mkstemp(path.suffix, f".{path.stem}-", path.parent)
        os.close(handle)
    except OSError as error:
        raise OptionError(f"{path}: cannot be written: {error}") from error
    try:
        yield pathlib.Path(partial)
        os.replace(partial, path)
    except OSError as error:
        raise OptionError(f"{path}: cannot be written: {error}") from error
    finally:
        pathlib.Path(partial).unlink(missing_ok=True)
