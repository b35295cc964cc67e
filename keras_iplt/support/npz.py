"""Files of arrays that may come from anyone."""

import contextlib
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_iplt.errors import DataError

__all__ = ["opened_npz"]

_DAMAGE = (
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)


@contextlib.contextmanager
def opened_npz(path: pathlib.Path, expected: str) -> Iterator[Any]:
    """The arrays of an .npz file by name; nothing pickled is read, and what is wrong is a
    `DataError`.

    Args:
        path: a `pathlib.Path`.
        expected: what to say that was expected.
    """
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: {expected}; received: a directory, a device or a pipe")
        with path.open("rb") as opened:  # ourselves, as NumPy leaves it open if it is damaged
            file = np.load(opened, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise DataError(f"{path}: {expected}; received: a single array")
            yield file
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path}: larger than the memory") from error
    except _DAMAGE as error:
        reason = str(error).partition(".")[0]
        raise DataError(f"{path}: {expected}; it cannot be read: {reason}") from error
