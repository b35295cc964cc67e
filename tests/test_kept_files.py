"""A file that long work goes on from: one process has it, and a full disk does not end the work."""

import errno
import os
import pathlib
import subprocess
import sys

import pytest

from keras_iplt.errors import BackupError
from keras_iplt.support import locks
from keras_iplt.support.backups import KeptFile

pytestmark = pytest.mark.quick

# Nothing but the lock: the rest of the library takes seconds to import.
OTHER = """
import pathlib, runpy, sys
names = runpy.run_path(sys.argv[1])
try:
    lock = names["Lock"].take(pathlib.Path(sys.argv[2]))
except names["InUseError"] as error:
    sys.exit(f"in use by {error}")
print("taken", flush=True)
sys.stdin.read()
"""


def other(path):
    return subprocess.Popen(
        [sys.executable, "-c", OTHER, locks.__file__, str(path)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_second_process_is_refused(tmp_path):
    """By name, until the first has ended: killed, it leaves nothing that is in the way."""
    kept = KeptFile(tmp_path / "training.npz", "training")
    first = other(tmp_path / ".training.lock")
    assert first.stdout.readline() == "taken\n"
    with pytest.raises(BackupError, match=f"in use by another training .process {first.pid} on"):
        kept.begin()
    first.kill()
    first.communicate()
    kept.begin()
    KeptFile(kept.path, "training").begin()  # in this process: of one that was interrupted
    second = other(tmp_path / ".training.lock")
    assert f"in use by process {os.getpid()}" in second.communicate()[1]
    kept.release()
    third = other(tmp_path / ".training.lock")
    assert third.stdout.readline() == "taken\n"
    third.communicate("")
    assert third.returncode == 0


def test_nothing_is_left_when_it_is_over(tmp_path):
    """Nor when nobody has the object any more, but for a file that is in nobody's way."""
    kept = KeptFile(tmp_path / "training.npz", "training")
    kept.begin()
    assert [path.name for path in tmp_path.iterdir()] == [".training.lock"]
    kept.delete()
    assert not list(tmp_path.iterdir())
    kept.begin()
    del kept
    assert not locks._held


@pytest.mark.skipif(os.name == "nt", reason="no links there, as a rule")
def test_a_lock_that_is_no_file_is_refused(tmp_path):
    """What a link leads to is not touched."""
    dear = tmp_path / "dear"
    dear.write_text("dear")
    (tmp_path / ".training.lock").symlink_to(dear)
    with pytest.raises(BackupError, match="a directory that can be written to"):
        KeptFile(tmp_path / "training.npz", "training").begin()
    assert dear.read_text() == "dear"


def test_a_disk_without_locks_is_warned_about(tmp_path, monkeypatch):
    def unknown(file):
        raise OSError(errno.ENOTSUP, "no locks")

    monkeypatch.setattr(locks, "_claim", unknown)
    kept = KeptFile(tmp_path / "training.npz", "training")
    with pytest.warns(UserWarning, match="see to it that no other process uses"):
        kept.begin()
    kept.release()


def test_a_full_disk(tmp_path):
    """What was there before stays, nothing stays beside it, and there is one warning."""
    kept = KeptFile(tmp_path / "note.json", "training")

    def write(text, full=False):
        with kept.writing(), kept.put() as partial:
            partial.write_text(text)
            if full:
                raise OSError(errno.ENOSPC, "No space left on device")

    write("old")
    with pytest.warns(UserWarning, match=r"the training goes on: .*No space left") as caught:
        write("half", full=True)
        write("half", full=True)
    assert len(caught) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["note.json"]
    assert kept.path.read_text() == "old"
    write("new")
    assert kept.path.read_text() == "new"


@pytest.mark.skipif(os.name == "nt", reason="no such limit there")
def test_a_disk_that_is_full_from_the_start(tmp_path):
    """Is found out by writing as much as will be written. A real limit, not a patched one."""
    import resource

    kept = KeptFile(tmp_path / "training.npz", "training")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(
            BackupError, match=r"expected a directory that can be written to.*large"
        ):
            kept.begin(200_000)
        kept.begin(50_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept.release()
    assert not list(tmp_path.iterdir())


def test_another_backup_names_what_differs(tmp_path):
    kept = KeptFile(pathlib.Path(tmp_path / "a.json"), "pruning")
    kept.check_made_for({"step": [1, 2]}, {"step": (1, 2)})
    with pytest.raises(BackupError, match="of another pruning: expected step 1, received: None"):
        kept.check_made_for({}, {"step": 1})
