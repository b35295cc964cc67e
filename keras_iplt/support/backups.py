"""A file from which long work goes on after it was killed, whatever it holds."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from keras_iplt.errors import BackupError
from keras_iplt.support.files import beside, put_in_place
from keras_iplt.support.locks import InUseError, Lock
from keras_iplt.support.text import reason_of, warn

__all__ = ["KeptFile"]


class KeptFile:
    """A file that is replaced whole, time and again, by one process at a time.

    Args:
        path: where.
        of: what it is a backup of, as errors say it: `"training"`.
    """

    def __init__(self, path: pathlib.Path, of: str) -> None:
        self.path, self._of = path, of
        self._lock: Lock | None = None
        self._warned = False

    def begin(self, size: int = 0, lock: bool = True) -> None:
        """Finds out before long work what cannot work.

        Makes the directory, locks the file, and writes something beside it.

        Args:
            size: how many bytes to try to write.
            lock: whether this is the process that is going to write it.
        """
        self._warned = False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if lock:
                self._lock = Lock.take(self.path.with_name(f".{self.path.stem}.lock"))
            with beside(self.path, OSError) as partial, open(partial, "wb") as file:
                for written in range(0, size, _BLOCK):
                    file.write(bytes(min(_BLOCK, size - written)))
                os.fsync(file.fileno())
        except InUseError as error:
            raise BackupError(
                f"{self.path} is in use by another {self._of} ({error}). Wait for its end, or use "
                "another backup_dir"
            ) from error
        except OSError as error:
            self.release()
            raise BackupError(
                f"backup_dir: expected a directory that can be written to, received: "
                f"{str(self.path.parent)!r} ({error})"
            ) from error

    def release(self) -> None:
        """Other processes may have the file."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """What is written inside (by `put`) may fail, as it does on a full disk.

        What was there before stays, one warning says so, and the work goes on."""
        try:
            yield
        except OSError as error:
            if not self._warned:
                self._warned = True
                warn(
                    f"no backup is written, and the {self._of} goes on: {error}. Until there is "
                    "room, what was kept before stays",
                    stacklevel=4,
                )

    @contextlib.contextmanager
    def put(self, path: pathlib.Path | None = None) -> Iterator[pathlib.Path]:
        """A place to write to, which takes that of the file (or of another beside it) in the end.

        Args:
            path: the other, or None.
        """
        path = path or self.path
        with beside(path, OSError) as partial:
            yield partial
            with open(partial, "rb+") as file:  # on the disk, before it is trusted
                os.fsync(file.fileno())
            put_in_place(partial, path)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Whatever goes wrong inside is the file's fault."""
        try:
            yield
        except BackupError:
            raise
        except Exception as error:  # there is nothing that bytes at random do not raise
            raise BackupError(
                f"{self.path} is damaged, or no backup of this {self._of} ({type(error).__name__}: "
                f"{reason_of(error)}). Remove it to start anew"
            ) from error

    def check_made_for(self, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        """Refuses a backup of something else: both tell what it was made for, by name."""
        for what, made in json.loads(json.dumps(dict(expected))).items():
            if found.get(what) != made:
                raise BackupError(
                    f"{self.path} is a backup of another {self._of}: expected {what} {made}, "
                    f"received: {found.get(what)}. Use another backup_dir, or remove it"
                )

    def delete(self) -> None:
        """The work is over."""
        self.path.unlink(missing_ok=True)
        self.release()


_BLOCK = 1 << 20
