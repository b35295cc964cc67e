"""Zip archives that may come from anyone, opened without believing what they say of themselves."""

import contextlib
import io
import pathlib
import zipfile
from collections.abc import Iterator

__all__ = ["METHODS", "opened_archive"]

METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # others unpack without a bound on memory
_LIST = 1 << 21  # bytes of the list of entries: about 20,000 of them, read before any is seen


@contextlib.contextmanager
def opened_archive(path: pathlib.Path, error: type[Exception]) -> Iterator[zipfile.ZipFile]:
    """A zip archive, refused where it lists more entries than anybody could mean.

    Args:
        path: of a regular file.
        error: what to raise then.
    """
    with _Reader(path, error) as file, zipfile.ZipFile(file) as archive:
        file.bounded = False
        yield archive


class _Reader(io.BufferedReader):
    """A file of which, while `bounded`, no more is read at once than a list of entries takes.

    However large the archive says that its list is, and wherever: this sees what is asked for.
    """

    def __init__(self, path: pathlib.Path, error: type[Exception]) -> None:
        super().__init__(io.FileIO(path))
        self.bounded, self._path, self._error = True, path, error

    def read(self, size: int | None = -1, /) -> bytes:
        asked = -1 if size is None else size
        if self.bounded and asked > _LIST:
            raise self._error(
                f"{self._path}: a zip archive that lists its entries in {asked:,} bytes, more than "
                f"the {_LIST:,} that are read: nobody writes so many"
            )
        return super().read(asked)
