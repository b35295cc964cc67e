"""What draws the picture of the README still does."""

import importlib.util
import pathlib

import keras
import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

TOOLS = pathlib.Path(__file__).resolve().parents[1] / "tools"


@pytest.mark.filterwarnings("ignore:.*epochs")  # of two epochs, which are too few for all steps
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the picture is of TensorFlow")
def test_the_picture_of_the_demo(tmp_path, monkeypatch):
    """A plot per metric, with both trainings in each; of two epochs instead of 24."""
    spec = importlib.util.spec_from_file_location("demo_picture", TOOLS / "demo_picture.py")
    picture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(picture)
    dense, pruned = picture.histories(epochs=2)
    assert list(dense) == list(pruned) and dense["parameters"][0] == pruned["parameters"][0]
    assert pruned["parameters"][-1] < dense["parameters"][-1]
    figure = picture.drawn(dense, pruned)
    assert [axes.get_title() for axes in figure.axes] == list(dense)
    assert all(len(axes.lines) == 2 for axes in figure.axes)
    monkeypatch.setattr(picture, "histories", lambda: (dense, pruned))
    picture.main(tmp_path / "demo.png")
    assert 0 < (tmp_path / "demo.png").stat().st_size < 60_000
