"""Files that appear whole or not at all: written beside their place, then put into it."""

import contextlib
import os
import pathlib
import shutil
import socket
import tempfile
from collections.abc import Iterator

from keras_iplt.errors import OptionError

__all__ = ["beside", "file_at", "put_in_place", "read_text", "replacing"]

_TEXT = 1 << 28  # more than any result of ours


def file_at(path: str | os.PathLike[str]) -> pathlib.Path:
    """A path at which a file can be: to be asked before long work."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise OptionError(f"path: expected a file, received: the directory {str(path)!r}")
    if not path.parent.is_dir():
        raise OptionError(f"path: expected one in a directory that exists, received: {str(path)!r}")
    return path


def read_text(path: pathlib.Path, error: type[Exception] = OptionError) -> str:
    """The text of a file that may be anything, a pipe and a device without end among it.

    Args:
        path: of the file.
        error: what to raise where it is no text.
    """
    try:
        if path.exists() and not path.is_file():
            raise error(f"{path}: expected text, received: a directory, a device or a pipe")
        with path.open("rb") as file:
            content = file.read(_TEXT + 1)
        if len(content) > _TEXT:
            raise error(f"{path}: expected text, received: more than {_TEXT:,} bytes")
        return content.decode()
    except OSError as reason:
        raise error(f"{path}: cannot be read: {reason.strerror}") from reason
    except UnicodeDecodeError as reason:
        raise error(f"{path}: expected text, received: something else") from reason


@contextlib.contextmanager
def beside(path: pathlib.Path, error: type[Exception] = OptionError) -> Iterator[pathlib.Path]:
    """A place next to `path`, on the same disk, that is gone afterwards.

    Args:
        path: where something is to be written.
        error: what to raise where it cannot.
    """
    try:
        _clear(path.parent)
        # In a directory of its own, where a file gets the permissions that any new file has.
        with tempfile.TemporaryDirectory(
            prefix=f"{_MARK}{os.getpid()}-", dir=path.parent
        ) as directory:
            yield pathlib.Path(directory) / path.name
    except OSError as reason:
        raise error(f"{path}: cannot be written: {reason}") from reason


_MARK = f".partial-{socket.gethostname()}-"


def _clear(directory: pathlib.Path) -> None:
    """Removes what processes left there that were killed while they wrote."""
    for left in directory.glob(f"{_MARK}*"):
        process = left.name.removeprefix(_MARK).partition("-")[0]
        if process.isdecimal() and not _is_alive(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # where to ask is to end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def put_in_place(partial: pathlib.Path, path: pathlib.Path) -> None:
    """Replaces what is at `path`; a directory is first moved aside, and back if that fails."""
    if not path.is_dir():
        os.replace(partial, path)
        return
    old = partial.with_name(f"{path.name}.old")
    try:
        os.replace(path, old)
        os.replace(partial, path)
    except BaseException:  # an interruption as well
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """A path to write a file to, which takes the place of `path` when all is written.

    It is gone if anything goes wrong, an interruption included."""
    path = file_at(path)
    with beside(path) as partial:
        yield partial
        put_in_place(partial, path)
