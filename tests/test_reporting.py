"""The report: everything in it, nothing from outside, safe against hostile names, whole or not."""

import html.parser
import os
import re
import stat
import sys

import keras
import numpy as np
import pytest
from keras import layers
from support.law import randomize

import keras_iplt as iplt
from keras_iplt.reporting import page, report
from keras_iplt.support.versions import versions

VOID = {"meta", "img", "br", "link", "input", "hr"}
HOSTILE = "<script>alert('&\"')</script>"


class Page(html.parser.HTMLParser):
    """A page, read as a browser would; unbalanced tags are an error."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.open, self.words, self.captions = [], [], [], {}
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style" and data.strip():
            self.words.append(data)

    @property
    def text(self):
        return "\n".join(self.words)

    def attributes(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def pictures(self):
        return [image["alt"].partition(":")[0] for image in self.attributes("img")]


def net(name="conv", model_name="net"):
    model = keras.Sequential(
        [keras.Input((8, 8, 3), name="image"), layers.Conv2D(8, 3, name=name),
         layers.ReLU(name="relu"), layers.Conv2D(6, 3, name="second"), layers.Flatten(name="flat"),
         layers.Dense(4, name="head")], name=model_name,
    )  # fmt: skip
    randomize(model)
    return model


def exported(path="small.tflite", precision="int8"):
    return iplt.Export(
        path, "tflite", precision, 123_456, 7_891, 0.0123, 0.2, 0.00456, "TFLite", {"x": (1, 4)},
        {"y": (1, 2)},
    )  # fmt: skip


def measured():
    return iplt.Sensitivity(
        "net", "accuracy", ("conv", "second"), (8, 6), (0.25, 0.5), np.array([[2, 4], [2, 3]]),
        {"accuracy": 0.9}, {"accuracy": np.array([[0.8, 0.6], [0.9, 0.7]])},
    )  # fmt: skip


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A report with all that it takes, and what went in."""
    model = net()
    plan = iplt.plan(model, 0.5, scope="layer")
    small = iplt.rewrite(model, plan)
    path = tmp_path_factory.mktemp("everything") / "run.html"
    written = report(
        path, model, small, plan, sensitivity=measured(),
        exports=[exported(), exported("whole.tflite", "float32")], history={"loss": [2, 1]},
        accuracy={"accuracy": (0.9876, 0.9765), "loss": (0.25, 0.5)},
        command=["python", "train.py", "--name", "a b"], title="A run", notes=["Seed 3."],
    )  # fmt: skip
    assert written == str(path)
    return Page(path), model, small, plan


def test_the_numbers_are_in_it(everything):
    """The paper's columns, the metrics, layers, the plan, exports, and how to repeat it."""
    read, model, small, plan = everything
    compared = iplt.compare(model, small)
    for said in (
        f"{compared.fpr:.1%}", f"{compared.ppr:.1%}", f"{compared.pruned_flops:.1%}",
        f"{model.count_params():,}", f"{small.count_params():,}", f"{compared.after.macs:,}",
        f"{compared.before.flops:,}", "98.76%", "97.65%", "0.25", "0.5",  # the whole
        "8 → 4", "6 → 3", f"{3 * 3 * 3 * 8 + 8} → {3 * 3 * 3 * 4 + 4}", "Conv2D",  # layers
        "scope", "layer", "criterion", "energy", plan.to_json(),  # the plan
        "it is an output of the model",  # what is frozen
        "small.tflite", "whole.tflite", "123,456", "7,891", "1.2e-02 of 2e-01", "4.56 ms",
        "tflite, int8",
        "python train.py --name 'a b'", keras.__version__, np.__version__, "Seed 3.", "A run",
    ):  # fmt: skip
        assert any(said in word for word in read.words), said
    assert any(word == f"{small.count_params():,} left (PPR)" for word in read.words)


def test_it_is_made_of_itself(everything):
    """No scripts, and nothing is loaded: pictures are inside."""
    read, *_ = everything
    assert read.source.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in read.tags}
    for tag, attributes in read.tags:
        for name, value in attributes.items():
            assert not re.match(r"on\w+$", name)
            if name in ("src", "href", "srcset", "action"):
                assert tag == "img" and value.startswith("data:image/svg+xml;base64,")
    assert "url(" not in page.CSS and "@import" not in page.CSS
    policy = [m["content"] for m in read.attributes("meta") if "http-equiv" in m]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_it_can_be_read_by_everybody(everything):
    """Pictures have texts, tables have captions and heads, and it fits narrow screens, the dark
    and paper."""
    read, *_ = everything
    assert read.pictures == ["Bars", "Curves", "Curves", "Curves", "Diagram"]
    assert len(read.attributes("table")) == len(read.attributes("caption")) == 7
    assert {head.get("scope") for head in read.attributes("th")} == {"col", "row"}
    assert "width=device-width" in str(read.attributes("meta"))
    for media in ("prefers-color-scheme: dark", "max-width", "print"):
        assert f"({media}" in page.CSS or f"@media {media}" in page.CSS
    assert len(read.attributes("h1")) == 1 and len(read.attributes("title")) == 1


def test_hostile_names(tmp_path):
    """Whatever things are called, it comes out as text."""
    plain = net(model_name="bad")
    names = {"name": HOSTILE}
    layer = plain.get_layer("conv")
    layer._name, plain._name = HOSTILE, f"{HOSTILE}net"
    path = tmp_path / "run.html"
    report(
        path, plain, plan=iplt.plan(plain, 0.5), exports=exported(HOSTILE, HOSTILE),
        history={HOSTILE: [1, 2]}, accuracy={HOSTILE: (1, 2)}, command=HOSTILE,
        title=f"{HOSTILE}\0\ud800", notes=HOSTILE,
    )  # fmt: skip
    read = Page(path)
    assert "script" not in {tag for tag, _ in read.tags} and "<script>" not in read.source
    assert sum(HOSTILE in word for word in read.words) >= 8
    assert f"{HOSTILE}\\x00\\ud800" in read.words
    assert names["name"] in read.text


# -- what may be left out --------------------------------------------------------------------------


def test_one_model(tmp_path):
    """Without an after there is nothing to compare, and no picture of it."""
    read = Page(tmp_path / report(tmp_path / "a.html", net()).rpartition("/")[2])
    assert read.pictures == ["Curves", "Diagram"]
    assert "Filters gone" not in read.words and "→" not in read.text
    assert "The plan" not in read.words and "Exported files" not in read.words
    assert "it is an output of the model" in read.words


def test_a_plan_without_an_after(tmp_path):
    """Shows what it leaves; one from JSON is bound to the model first."""
    model = net()
    plan = iplt.plan(model, 0.5, scope="layer")
    for number, given in enumerate((plan, iplt.Plan.from_json(plan.to_json()))):
        path = tmp_path / f"{number}.html"
        report(path, model, plan=given)
        read = Page(path)
        assert f"{iplt.rewrite(model, plan).count_params():,}" in read.words
        assert read.words.count("8 → 4") == 2 and "what the plan leaves" in read.text
    assert model.get_layer("conv").filters == 8


def test_profiles(tmp_path):
    """They have numbers; a sentence says what there cannot be."""
    model = net()
    plan = iplt.Plan.from_json(iplt.plan(model, 0.5, scope="layer").to_json())
    before = iplt.profile(model)
    iplt.shrink(model, plan)
    path = tmp_path / "run.html"
    report(path, before, iplt.profile(model), plan)
    read = Page(path)
    assert read.pictures == ["Bars"] and "8 → 4" in read.words
    assert "not as models" in read.text and "not bound to a model" in read.text
    report(path, before, model)
    read = Page(path)
    assert read.pictures == ["Bars", "Curves", "Diagram"] and "not as models" not in read.text
    assert "after pruning, as only its profile" in read.text


def test_sizes_that_are_not_known(tmp_path):
    """Where FLOPs depend on the input, the page says so."""
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 3, name="a"),
                              layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()])  # fmt: skip
    report(tmp_path / "run.html", model, iplt.prune(model, 0.5))
    assert "unknown" in Page(tmp_path / "run.html").words


# -- what goes wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [("accuracy", 0.9), ("accuracy", {}), ("accuracy", {"f1": 0.9}), ("accuracy", {"after": 0.9}),
     ("accuracy", {"before": "0.9"}), ("command", 3), ("command", [3]), ("notes", [3]),
     ("notes", None), ("exports", ["a.tflite"]), ("exports", None), ("plan", "half"),
     ("history", {"loss": 3}), ("sensitivity", "conv")],
)  # fmt: skip
def test_wrong_options(option, value, tmp_path):
    """Are refused by name, and leave nothing behind."""
    with pytest.raises(iplt.errors.OptionError, match=f"{option}: expected .*received: "):
        report(tmp_path / "run.html", net(), **{option: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["nowhere/run.html", "", None])
def test_wrong_places(place, tmp_path):
    """A directory that does not exist, one that does, and no path at all."""
    where = None if place is None else tmp_path / place
    with pytest.raises(iplt.errors.OptionError, match="path: expected "):
        report(where, net())
    assert not list(tmp_path.iterdir())


def test_it_goes_on_from_a_plan_for_this_model_only(tmp_path):
    """Other plans and models are refused as everywhere."""
    other = keras.Sequential([keras.Input((4,)), layers.Dense(8), layers.Dense(2)])
    with pytest.raises(iplt.errors.PlanMismatchError):
        report(tmp_path / "run.html", net(), plan=iplt.plan(other, 0.5))
    with pytest.raises(iplt.errors.OptionError, match="same input shapes"):
        report(tmp_path / "run.html", net(), other)
    with pytest.raises(iplt.errors.ModelError):
        report(tmp_path / "run.html", "net.keras")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
def test_whole_or_not_at_all(error, tmp_path, monkeypatch):
    """What goes wrong on the way leaves the earlier page as it was, and nothing else."""
    path = tmp_path / "run.html"
    report(path, net())
    before = path.read_bytes()

    def fail(*_):
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(
        KeyboardInterrupt if error is KeyboardInterrupt else iplt.errors.OptionError
    ):
        report(path, net(), title="another")
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]
    monkeypatch.undo()
    report(path, net(), title="another")
    assert path.read_bytes() != before and [*tmp_path.iterdir()] == [path]


def test_permissions(tmp_path):
    """Those of any new file."""
    report(tmp_path / "run.html", net())
    (tmp_path / "other").write_text("")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_settings_of_matplotlib_do_not_show(tmp_path):
    """Pictures are the same on a dark style, and the style stays."""
    matplotlib = pytest.importorskip("matplotlib")
    report(tmp_path / "a.html", net())
    with matplotlib.rc_context({"figure.facecolor": "black", "text.color": "white"}):
        report(tmp_path / "b.html", net())
        assert matplotlib.rcParams["figure.facecolor"] == "black"
    a, b = (Page(tmp_path / name).attributes("img") for name in ("a.html", "b.html"))
    assert a == b


def test_without_matplotlib(tmp_path, monkeypatch):
    """An error that says how to get it, before anything is written."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(iplt.errors.MissingExtraError, match=r"keras-iplt\[plots\]"):
        report(tmp_path / "run.html", net())
    assert not list(tmp_path.iterdir())


def test_versions():
    """What is loaded says itself which version it is."""
    found = versions()
    assert found["keras_iplt"] == iplt.__version__ and found["Keras"] == keras.__version__
    assert found["backend"] == keras.backend.backend() and found["NumPy"] == np.__version__
