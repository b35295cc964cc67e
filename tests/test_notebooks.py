"""The notebooks run from top to bottom, and are kept without what they printed."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted(pathlib.Path(__file__).resolve().parents[1].glob("notebooks/*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_all_notebooks_are_found():
    assert [path.stem for path in NOTEBOOKS] == [
        "first_prune",
        "pruning_while_training",
        "small_and_integer",
        "to_a_phone",
    ]


@each_notebook
def test_no_output_is_kept(path):
    """Nor how often a cell was run: a diff shows what somebody wrote."""
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code_cells(path))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one of them writes .tflite")
@each_notebook
def test_it_runs_from_top_to_bottom(path, tmp_path):
    """In a process of its own, cell after cell."""
    script = tmp_path / f"{path.stem}.py"
    script.write_text(
        "\n\n".join("".join(cell["source"]) for cell in code_cells(path)), encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
