"""Files of arrays that may come from anyone."""

import contextlib
import math
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import IO

import numpy as np

from keras_iplt.errors import DataError
from keras_iplt.support.archives import METHODS, opened_archive

__all__ = ["Arrays", "opened_npz"]

# Pictures shrink a little and labels a lot: only what is both large and nearly nothing is a bomb.
_RATIO, _FLOOR = 200, 1 << 28
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Arrays:
    """The arrays of an .npz file, each read when it is asked for.

    Attributes:
        files: their names.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        self.files = [*self._entries]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.read(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """That of an array, which is not read."""
        with self._archive.open(self._entries[name]) as file:
            return _header(file)[0]

    def read(self, name: str, rows: int | None = None) -> np.ndarray:
        """An array, or no more of the file than its first rows.

        Args:
            name: of the array.
            rows: how many; None for all.
        """
        info = self._entries[name]
        with self._archive.open(info) as file:
            shape, by_columns, dtype = _header(file)
            size = math.prod(shape) * dtype.itemsize
            if size > info.file_size:
                raise ValueError(f"array {name!r} says that it has {size:,} bytes, and has not")
            if shape and not by_columns and rows is not None and rows < shape[0]:
                shape = (rows, *shape[1:])
                content = bytearray(file.read(math.prod(shape) * dtype.itemsize))
                return np.frombuffer(content, dtype).reshape(shape)
        with self._archive.open(info) as file:
            whole = np.lib.format.read_array(file, allow_pickle=False)
        return whole[:rows] if shape else whole


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of an array: what is going to be asked for."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"an array in version {version} of the format")
    shape, by_columns, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError("an array of Python objects, which are pickled")
    return shape, by_columns, dtype


@contextlib.contextmanager
def opened_npz(path: pathlib.Path, expected: str) -> Iterator[Arrays]:
    """The arrays of an .npz file by name.

    Nothing pickled is read, and what is wrong is a `DataError`.

    Args:
        path: a `pathlib.Path`.
        expected: what to say that was expected.
    """
    try:
        _check_kind(path, expected)
        with opened_archive(path, DataError) as archive:
            _check(path, archive)
            yield Arrays(archive)
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path}: larger than the memory") from error
    except Exception as error:  # there is nothing that bytes at random do not raise
        reason = str(error).partition(".")[0] or type(error).__name__
        raise DataError(f"{path}: {expected}; it cannot be read: {reason}") from error


def _check_kind(path: pathlib.Path, expected: str) -> None:
    """Refuses what cannot be opened without waiting, and what is no archive."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: {expected}; received: a directory, a device or a pipe")
    with path.open("rb") as file:
        if file.read(6) == np.lib.format.MAGIC_PREFIX:
            raise DataError(f"{path}: {expected}; received: a single array")


def _check(path: pathlib.Path, archive: zipfile.ZipFile) -> None:
    """Refuses what nobody writes: other compressions, and gigabytes out of next to nothing."""
    infos, size = archive.infolist(), os.path.getsize(path)
    if odd := [info.filename for info in infos if info.compress_type not in METHODS]:
        raise DataError(f"{path}: array {odd[0]!r} is packed by a method other than deflate")
    unpacked = sum(info.file_size for info in infos)
    if unpacked > max(_FLOOR, _RATIO * size):
        raise DataError(
            f"{path}: its arrays would unpack to {unpacked:,} bytes, more than {_RATIO} times the "
            f"{size:,} of the file: it looks like a zip bomb. If it is none, write it with np.savez"
        )
