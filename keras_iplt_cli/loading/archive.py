"""A .keras file as a zip archive, looked through entry by entry before Keras sees it.

What is read is copied, so that Keras later opens just what was checked: nothing that only another
reader of zip files would find, and nothing that has changed in between.
"""

import json
import os
import pathlib
import shlex
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable

from keras_iplt.errors import ModelError
from keras_iplt.support.archives import METHODS, opened_archive

__all__ = ["ASSETS", "CONFIG", "METADATA", "WEIGHTS", "Allowance", "unpack"]

CONFIG, METADATA, WEIGHTS, ASSETS = "config.json", "metadata.json", "model.weights.h5", "assets/"

# Keras stores its entries as they are; packed anew they become smaller, yet not by much.
_RATIO, _FLOOR, _CHUNK = 100, 1 << 24, 1 << 20
_ENTRIES = 10_000
_TEXT = 1 << 24  # of config.json, which is read as a whole
_ENCRYPTED = 0x1

_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError),
    *(RuntimeError, ValueError),
)

# What else a file may be: first bytes, and a name for it.
_HDF5 = b"\x89HDF\r\n\x1a\n"
_KINDS = [
    (0, _HDF5, "an HDF5 file, as Keras 2 wrote models (.h5)"),
    (4, b"TFL3", "a TFLite model"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x80", "a pickle"),
    (0, b"{", "JSON text"),
    (0, b"<", "a web page or XML"),
]


class Allowance:
    """How many bytes may come out of a file of some size, taken bit by bit."""

    def __init__(self, path: pathlib.Path, size: int) -> None:
        self.path, self._size, self.left = path, size, max(_FLOOR, _RATIO * size)

    def take(self, count: int, what: str) -> None:
        """Notes that so many bytes come out; refuses what is out of all proportion."""
        self.left -= count
        if self.left < 0:
            raise ModelError(
                f"{self.path}: {what} would unpack to more than {_RATIO} times the {self._size:,} "
                "bytes of the file, which no model does: it looks like a zip bomb"
            )


def unpack(path: str | os.PathLike[str], folder: pathlib.Path) -> Allowance:
    """Copies what a .keras file holds into a folder, if it is what Keras writes.

    Args:
        path: the file.
        folder: an empty folder of our own.

    Returns:
        An `Allowance`: what is left of the bytes that may come out of such a file.
    """
    path = pathlib.Path(path)
    size = _size(path)
    try:
        with opened_archive(path, ModelError) as archive:
            _check_entries(path, archive)
            # Twice: by the declared sizes, which costs nothing, and as it is read.
            declared, actual = Allowance(path, size), Allowance(path, size)
            for info in archive.infolist():
                declared.take(info.file_size, _shown(info))
            for info in archive.infolist():
                if not info.is_dir():
                    _copy(archive, info, pathlib.Path(folder), actual)
    except _DAMAGE as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"{path}: a damaged zip archive ({error or type(error).__name__}): it was cut off or "
            "changed on its way. Copy it, or save the model, again"
        ) from error
    return Allowance(path, size)


def _size(path: pathlib.Path) -> int:
    """The size of a file that begins like a zip archive."""
    expected = "expected a .keras file, as model.save('model.keras') writes it"
    try:
        if path.is_dir():
            saved = (path / "saved_model.pb").exists()
            what = "a SavedModel" if saved else "a directory"
            raise ModelError(f"{path}: {expected}; received: {what}")
        if not path.exists():
            raise ModelError(f"{path}: no such file")
        if not path.is_file():
            raise ModelError(f"{path}: {expected}; received: a device or a pipe")
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    if not head:
        raise ModelError(f"{path}: {expected}; received: an empty file")
    if not head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        kinds = [kind for at, mark, kind in _KINDS if head[at:].startswith(mark)]
        advice = _conversion(path) if head.startswith(_HDF5) else ""
        raise ModelError(f"{path}: {expected}; received: {[*kinds, 'something else'][0]}{advice}")
    return path.stat().st_size


def _conversion(path: pathlib.Path) -> str:
    """What makes a .keras file of an HDF5 file."""
    if path.name.endswith(".weights.h5"):
        return ". It holds weights alone: load them into their model, and save that as .keras"
    old, new = (json.dumps(str(p)) for p in (path, path.with_suffix(".keras")))
    line = f"import keras; keras.saving.load_model({old}, compile=False).save({new})"
    return f". If you trust where it comes from, convert it: python -c {shlex.quote(line)}"


def _check_entries(path: pathlib.Path, archive: zipfile.ZipFile) -> None:
    infos = archive.infolist()
    if len(infos) > _ENTRIES:
        raise ModelError(f"{path}: {len(infos):,} entries, which no model has")
    seen: set[str] = set()
    for info in infos:
        if problem := _problem(info, seen):
            raise ModelError(f"{path}: entry {_shown(info)} {problem}: Keras wrote no such file")
        seen.add(info.filename)
    missing = [name for name in (CONFIG, METADATA, WEIGHTS) if name not in seen]
    if missing:
        raise ModelError(
            f"{path}: {_other(seen)} without {', '.join(missing)}, which a .keras file has"
        )


def _problem(info: zipfile.ZipInfo, seen: set[str]) -> str | None:
    """What is wrong with an entry, or None."""
    name, kind = info.filename, stat.S_IFMT(info.external_attr >> 16)
    if name in seen:
        return "is there twice"
    if "\\" in name or "\0" in name or ":" in name or name.startswith("/"):
        return "has a name that leads elsewhere"
    if any(part in ("", ".", "..") for part in name.removesuffix("/").split("/")):
        return "has a name that leads elsewhere"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if info.compress_type not in METHODS:
        return "is packed by a method other than deflate"
    if name == CONFIG and info.file_size > _TEXT:
        return f"is larger than {_TEXT:,} bytes"
    return None


def _shown(info: zipfile.ZipInfo) -> str:
    """The name of an entry, which may be longer than any line."""
    return f"{info.filename!r:.120}"


def _other(names: Iterable[str]) -> str:
    """What an archive is that is no model, by the names in it."""
    if all(name.endswith(".npy") for name in names):
        return "an .npz file of arrays" if names else "an empty zip archive"
    if any(name.endswith("/data.pkl") for name in names):
        return "a PyTorch file"
    return "a zip archive"


def _copy(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: pathlib.Path, allowance: Allowance
) -> None:
    if info.filename not in (CONFIG, METADATA, WEIGHTS) and not info.filename.startswith(ASSETS):
        return
    target = folder / info.filename
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as source, target.open("xb") as copy:
            while chunk := source.read(_CHUNK):
                allowance.take(len(chunk), _shown(info))
                copy.write(chunk)
    except OSError as error:
        raise ModelError(
            f"{allowance.path}: {_shown(info)} cannot be unpacked: {error.strerror}"
        ) from error
