"""Files appear whole, and nothing stays beside them."""

import os
import socket
import subprocess
import sys

import pytest

from keras_iplt.analysis.sensitivities import ResultFile
from keras_iplt.errors import OptionError
from keras_iplt.support.files import read_text, replacing

pytestmark = pytest.mark.quick

KILLED = """
import os, pathlib, sys
from keras_iplt.support.files import replacing
with replacing(pathlib.Path(sys.argv[1])) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_is_gone_after_the_next_write(tmp_path):
    """And what another process is writing just now is not touched."""
    path = tmp_path / "note.json"
    assert subprocess.run([sys.executable, "-c", KILLED, path], check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    other = tmp_path / f".partial-{socket.gethostname()}-{os.getppid()}-x"
    other.mkdir()
    elsewhere = tmp_path / ".partial-elsewhere-1-x"
    elsewhere.mkdir()
    with replacing(path) as partial:
        partial.write_text("whole")
    assert path.read_text() == "whole" and not left.exists()
    assert other.exists() and elsewhere.exists()


@pytest.mark.parametrize("kind", ["a pipe", "a device without end", "a directory", "no text"])
def test_what_is_no_text_is_not_waited_for(tmp_path, kind):
    path = tmp_path / "a.json"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device without end":
        path.symlink_to("/dev/zero")
    elif kind == "a directory":
        path.mkdir()
    else:
        path.write_bytes(b"\xff\xfe")
    with pytest.raises(OptionError, match="expected text, received"):
        read_text(path)
    with pytest.raises(OptionError, match="cannot be read"):
        read_text(tmp_path / "none.json")
    with pytest.raises(OptionError):  # of an analysis that is to go on
        ResultFile(path, "").load(None)


def test_a_text_without_end_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_iplt.support.files._TEXT", 10)
    (tmp_path / "a.json").write_text("größere")
    assert read_text(tmp_path / "a.json") == "größere"
    (tmp_path / "a.json").write_text("größere!!")
    with pytest.raises(OptionError, match="more than 10 bytes"):
        read_text(tmp_path / "a.json")


def test_what_goes_wrong_leaves_the_old_file(tmp_path):
    path = tmp_path / "note.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["note.json"]
