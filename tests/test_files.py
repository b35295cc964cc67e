"""Files appear whole, and nothing stays beside them."""

import os
import socket
import subprocess
import sys

import pytest

from keras_iplt.support.files import replacing

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


def test_what_goes_wrong_leaves_the_old_file(tmp_path):
    path = tmp_path / "note.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["note.json"]
