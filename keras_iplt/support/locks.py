"""One process at a time: a lock that the system takes back when its process ends, however it ends.

A file is locked for a process, not for a thread or an object: in the process that holds it, asking
again is no matter, so that work that was interrupted there can be begun again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import socket
import sys
import warnings
import weakref

__all__ = ["InUseError", "Lock"]

if sys.platform == "win32":
    import msvcrt

    def _claim(file: int) -> None:
        os.lseek(file, _FAR, os.SEEK_SET)  # what is locked there cannot be read
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(file, 0, os.SEEK_SET)
else:
    import fcntl

    def _claim(file: int) -> None:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


_FAR = 1 << 20
_AS_IT_IS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)  # no pipe, no link
_TAKEN = {errno.EACCES, errno.EAGAIN, errno.EDEADLK, getattr(errno, "EDEADLOCK", errno.EDEADLK)}
_held: weakref.WeakValueDictionary[tuple[int, str], Lock] = weakref.WeakValueDictionary()


class InUseError(Exception):
    """Another process holds the lock; the text says which."""


class Lock:
    """A file that is locked until `release`, or until nobody has this object any more.

    Made by `Lock.take`."""

    def __init__(self, path: pathlib.Path, file: int) -> None:
        self.path, self._process = path, os.getpid()
        self._close = weakref.finalize(self, os.close, file)

    @classmethod
    def take(cls, path: pathlib.Path) -> Lock:
        """Locks a file, which is made if it is not there.

        Raises an `InUseError` if another process has it. A disk that knows no locks is warned
        about."""
        key = os.getpid(), os.path.realpath(path)
        if key in _held:
            return _held[key]
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT | _AS_IT_IS, 0o666)
            lock = cls(path, file)
            try:
                _claim(file)
            except OSError as error:
                if error.errno in _TAKEN:
                    raise InUseError(os.read(file, 100).decode(errors="replace")) from error
                warnings.warn(
                    f"{path} cannot be locked ({error}): see to it that no other process uses the "
                    "directory", stacklevel=2,
                )  # fmt: skip
            with contextlib.suppress(FileNotFoundError):  # removed by who had it, just before
                if os.path.samestat(os.fstat(file), os.stat(path)):
                    break
            lock._close()
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
        _held[key] = lock
        return lock

    def release(self) -> None:
        """Removes the file. Not for a process that was forked from the one that locked it."""
        if not self._close.alive or self._process != os.getpid():
            return
        _held.pop((self._process, os.path.realpath(self.path)), None)
        if os.name == "nt":  # no file can be removed there while it is open
            self._close()
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._close()
