"""The demo, with fewer epochs: what it prints and writes."""

import json

import keras
import pytest
from support.training import BACKEND

import keras_iplt as iplt

pytestmark = pytest.mark.slow

pytest.importorskip("sklearn")
demo = pytest.importorskip("keras_iplt_recipes.demo.training")
from keras_iplt_recipes.demo import main  # noqa: E402

TABLE = [
    "accuracy on test digits",
    "parameters",
    "FLOPs per image",
    "seconds of training",
]
FILES = {"dense.keras", "iplt.keras", "training.csv", "result.json"}
if BACKEND == "tensorflow":
    TABLE += ["bytes as .tflite", "ms per image in TFLite"]
    FILES |= {"dense.tflite", "iplt.tflite"}


@pytest.fixture
def quick(monkeypatch):
    """A seventh of the data, and fewer rounds of the clock."""
    (x, y), test = demo.digits()
    monkeypatch.setattr(demo, "digits", lambda: ((x[:200], y[:200]), test))
    monkeypatch.setattr(demo.timed, "__defaults__", (0.1,))


@pytest.fixture
def pages(monkeypatch):
    """What reports are made of; the page itself is tested elsewhere."""
    seen = []

    def report(path, *models, **options):
        path.write_text("<html>")
        seen.append(options)

    monkeypatch.setattr(iplt, "report", report)
    return seen


def test_the_demo(quick, pages, tmp_path, capsys):
    """A table on standard output, progress beside it, and files."""
    pytest.importorskip("matplotlib")
    folder = tmp_path / "some" / "where"
    result = main(["--epochs", "10", "--ratio", "0.5", "--out", str(folder)])
    out, err = capsys.readouterr()
    assert {p.name for p in folder.iterdir()} == FILES | {"report.html"}
    assert json.loads((folder / "result.json").read_text()) == result
    assert "epoch 10 of 10" in err and "epoch" not in out.replace("epochs", "")
    rows = [line for line in out.splitlines() if line.startswith(tuple(TABLE))]
    assert [row.partition("  ")[0] for row in rows] == TABLE
    assert len({len(row) for row in rows}) == 1
    dense, small = (keras.saving.load_model(folder / f"{name}.keras") for name in demo.NAMES)
    assert dense.count_params() == result["parameters_dense"]
    assert small.count_params() == result["parameters_iplt"] < result["parameters_dense"]
    assert result["flops_iplt"] < result["flops_dense"] and result["fpr"] == 0.5
    if BACKEND == "tensorflow":
        assert result["tflite_bytes_iplt"] < result["tflite_bytes_dense"]
        assert result["latency_ms_iplt"] > 0
    (page,) = pages
    assert len(page["accuracy"]["test accuracy"]) == 2 and len(page["history"]["loss"]) == 10
    assert len(page["exports"]) == (2 if BACKEND == "tensorflow" else 0)


def test_without_matplotlib_and_without_tensorflow(monkeypatch, tmp_path, capsys):
    """One sentence each."""
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert demo.reported((), (), {}, [], tmp_path) == []
    assert demo.exported((), [], tmp_path) == []
    err = capsys.readouterr().err
    assert "no report: it needs matplotlib" in err and "no .tflite files" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--ratio", "1.5"], "target"), (["--out", "{file}/demo"], "Not a directory")],
)
def test_what_goes_wrong_is_one_line(arguments, message, tmp_path):
    (tmp_path / "file").touch()
    given = [a.format(file=tmp_path / "file") for a in arguments]
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        main(["--out", str(tmp_path), *given])


def test_options_that_are_wrong(capsys):
    for arguments in (["--epochs", "0"], ["--epochs", "few"], ["--speed", "9"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
    assert "--epochs: expected a positive number" in capsys.readouterr().err
