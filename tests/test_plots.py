"""Plots draw what they were given, and refuse what they cannot draw."""

import dataclasses
import io
import sys

import keras
import numpy as np
import pytest
from keras import layers
from support.law import randomize

import keras_iplt as iplt
from keras_iplt import criteria, plots, sparsity
from keras_iplt.graph.slices import numbers_of
from keras_iplt.plots import canvas


def net(name="conv"):
    model = keras.Sequential(
        [keras.Input((8, 8, 3), name="image"), layers.Conv2D(8, 3, name=name),
         layers.ReLU(name="relu"), layers.Conv2D(6, 3, name="second"), layers.Flatten(name="flat"),
         layers.Dense(4, name="head")]
    )  # fmt: skip
    randomize(model)
    return model


def residual():
    image = keras.Input((8, 8, 3))
    stem = layers.Conv2D(4, 3, padding="same", name="stem")(image)
    x = layers.Conv2D(6, 3, padding="same", name="inner")(stem)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Conv2D(4, 3, padding="same", name="outer")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Add(name="add")([stem, x]))
    model = keras.Model(image, layers.Dense(3, name="head")(x))
    randomize(model)
    return model


def measured(count=3, ratios=(0.25, 0.5, 0.75)):
    """What `keras_iplt.sensitivity` returns, for so many layers."""
    random = np.random.default_rng(0)
    accuracy = 0.9 - random.random((count, len(ratios))) * np.asarray(ratios)
    return iplt.Sensitivity(
        "net", "accuracy", tuple(f"layer_{i}" for i in range(count)), (8,) * count, ratios,
        np.zeros(accuracy.shape, int), {"accuracy": 0.9, "loss": 0.5},
        {"accuracy": accuracy, "loss": 1 - accuracy},
    )  # fmt: skip


def drawn(figure):
    """A figure that has been drawn: constrained layout and text can fail only then."""
    figure.savefig(io.BytesIO(), format="svg")
    return figure


def curves(figure):
    """label -> line, without those that only lead to a label."""
    return {x.get_label(): x for x in figure.axes[0].lines if x.get_gid() != "leader"}


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


# -- curves ----------------------------------------------------------------------------------------


def test_sensitivity():
    """A labelled curve per layer, and the baseline."""
    result = measured()
    figure = drawn(plots.sensitivity(result))
    lines = curves(figure)
    assert list(lines) == [*result.layers, "baseline"] and texts(figure) == list(result.layers)
    for name, values in zip(result.layers, result.values["accuracy"], strict=True):
        assert lines[name].get_xdata().tolist() == list(result.ratios)
        assert lines[name].get_ydata().tolist() == values.tolist()
    assert set(lines["baseline"].get_ydata()) == {0.9}
    loss = curves(plots.sensitivity(result, "loss", layers=["layer_2", "layer_0"]))
    assert list(loss) == ["layer_2", "layer_0", "baseline"]
    assert loss["layer_0"].get_ydata().tolist() == result.values["loss"][0].tolist()
    assert set(loss["baseline"].get_ydata()) == {0.5}


def test_sensitivity_as_it_is_measured():
    """What `keras_iplt.sensitivity` returns fits."""
    model = net()
    model.compile(loss="mse")
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3))
    found = iplt.sensitivity(model, (x, np.zeros((8, 4))), ratios=(0.25, 0.5), verbose=0)
    lines = curves(drawn(plots.sensitivity(found)))
    assert list(lines) == ["conv", "second", "baseline"]
    assert lines["second"].get_ydata().tolist() == found.values["loss"][1].tolist()


def test_sensitivity_of_many_layers():
    """Fifty layers are coloured by depth; labels go to those that react most, and do not touch."""
    result = measured(50)
    result.values["accuracy"][7] = 0.01
    result.values["accuracy"][9, 1:] = np.nan  # a ratio that cannot be reached
    figure = drawn(plots.sensitivity(result))
    assert len(curves(figure)) == 51 and len(figure.axes) == 2  # the second is the colour bar
    assert len(texts(figure)) == 6 and "layer_7" in texts(figure)
    boxes = sorted(t.get_window_extent().y0 for t in figure.axes[0].texts)
    assert min(np.diff(boxes)) > figure.axes[0].texts[0].get_window_extent().height * 0.9
    colours = {line.get_color() for line in curves(figure).values()}
    assert len(colours) == 51


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({}, {"metric": "f1"}, "expected one of 'accuracy', 'loss', received: 'f1'"),
        ({}, {"layers": ["layer_9"]}, "received: 'layer_9'. Close to it: 'layer_"),
        ({}, {"layers": []}, "expected at least one"),
        ({"ratios": (0.5,)}, {}, r"expected values of shape \(3, 1\)"),
    ],
)
def test_sensitivity_refuses(change, options, said):
    """Metrics and layers that were not measured, and results that do not fit together."""
    result = dataclasses.replace(measured(), **change)
    with pytest.raises(iplt.errors.OptionError, match=said):
        plots.sensitivity(result, **options)
    with pytest.raises(iplt.errors.OptionError, match=r"expected a keras_iplt.Sensitivity"):
        plots.sensitivity({"layers": ()})


def test_norms():
    """Scores of each group, ranked and divided by the largest, over all ranks."""
    model = residual()
    graph = iplt.trace(model)
    values = criteria.scores(graph, "l1")
    lines = curves(drawn(plots.norms(graph, "l1")))
    assert list(lines) == ["stem +1", "inner"]
    for line, group in zip(lines.values(), graph.groups, strict=True):
        expected = sorted(values[group.classes] / values[group.classes].max(), reverse=True)
        np.testing.assert_allclose(line.get_ydata(), expected)
        assert line.get_xdata()[[0, -1]].tolist() == [0, 1]
    assert list(curves(plots.norms(model, layers="inner"))) == ["inner"]
    data = np.ones((4, 8, 8, 3), "float32")
    assert len(curves(plots.norms(model, "activation", data))) == 2
    with pytest.raises(iplt.errors.OptionError, match="no layer 'inside'"):
        plots.norms(model, layers=["inside"])
    with pytest.raises(iplt.errors.OptionError, match="channels that may be pruned"):
        plots.norms(model, layers="head")


def test_norms_of_zeros():
    """A layer of zeros is drawn as zeros."""
    model = net()
    model.get_layer("second").kernel.assign(np.zeros((3, 3, 8, 6)))
    assert set(curves(plots.norms(model))["second"].get_ydata()) == {0}


# -- bars ------------------------------------------------------------------------------------------


def test_filters():
    """Two bars per layer, as long as it has filters; frozen layers are grey."""
    model = net()
    small = iplt.prune(model, per_layer={"conv": 0.5, "second": 0.5})
    for pair in ((model, small), (iplt.profile(model), iplt.profile(small))):
        axes = drawn(plots.filters(*pair)).axes[0]
        before, after = axes.containers
        assert [bar.get_width() for bar in before] == [8, 6, 4]
        assert [bar.get_width() for bar in after] == [4, 3, 4]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["conv", "second", "head"]
        assert texts(axes.figure) == ["8 → 4", "6 → 3", "4"]
        grey = [bar.get_facecolor()[:3] for bar in after]
        assert grey[0] == grey[1] != grey[2]
        assert "frozen" in [text.get_text() for text in axes.get_legend().get_texts()]
        assert axes.yaxis_inverted()  # the first layer on top
    with pytest.raises(iplt.errors.OptionError, match="other way round"):
        plots.filters(small, model)
    pool = keras.Sequential([keras.Input((4, 4, 1)), layers.DepthwiseConv2D(3)])
    with pytest.raises(iplt.errors.OptionError, match="layers that have filters"):
        plots.filters(pool, pool)


def test_sparsity():
    """The share of zeros of each layer: bars for one table, lines for several."""
    model = net()
    kernel = numbers_of(model.get_layer("second").kernel).copy()
    kernel[..., :3] = 0
    model.get_layer("second").kernel.assign(kernel)
    table = sparsity.measure(model)
    for given in (model, table):
        axes = drawn(plots.sparsity(given)).axes[0]
        assert [bar.get_height() for bar in axes.patches] == [0, 0.5, 0]
        assert axes.lines[0].get_ydata()[0] == table.sparsity
        assert [x.get_text() for x in axes.get_xticklabels()] == ["conv", "second", "head"]
    axes = drawn(plots.sparsity({"a": table, "b": sparsity.measure(net())})).axes[0]
    lines = [line for line in axes.lines if len(line.get_ydata()) == 3]
    assert [line.get_ydata().tolist() for line in lines] == [[0, 0.5, 0], [0, 0, 0]]
    assert axes.get_legend().get_texts()[0].get_text() == f"a ({table.sparsity:.1%} in all)"
    for wrong in (3, {}, {"a": 0.5}):
        with pytest.raises(iplt.errors.OptionError, match="tables: expected"):
            plots.sparsity(wrong)


# -- runs ------------------------------------------------------------------------------------------


def test_tradeoff():
    """Points where they belong, deviations as bars; published ones hollow, in the same colour."""
    runs = {"ours": [(2e7, 0.91, 0.01), (4e7, 0.93, 0.02)], "dense": [(8e7, 0.94)]}
    figure = drawn(plots.tradeoff(runs, {"ours": [(3e7, 0.92)]}, "FLOPs", "top-1 accuracy"))
    axes = figure.axes[0]
    lines = {x.get_label(): x for x in axes.lines if not x.get_label().startswith("_")}
    assert list(lines) == ["ours", "dense", "ours (published)"]
    np.testing.assert_array_equal(lines["ours"].get_xydata(), [(2e7, 0.91), (4e7, 0.93)])
    bars = [c.lines[2][0] for c in axes.containers if c.has_yerr]
    np.testing.assert_allclose(bars[0].get_segments()[1], [(4e7, 0.91), (4e7, 0.95)])
    ours, theirs = lines["ours"], lines["ours (published)"]
    assert ours.get_color() == theirs.get_color() != lines["dense"].get_color()
    assert theirs.get_markerfacecolor() == "none" != ours.get_markerfacecolor()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("FLOPs", "top-1 accuracy")
    assert [t.get_text() for t in axes.get_legend().get_texts()] == list(lines)
    assert any("M" in label.get_text() for label in axes.get_xticklabels())


def test_loss():
    """Loss against sparsity, in the order given."""
    axes = drawn(plots.loss({"global": [(0.5, 0.3), (0, 0.2)]}, {"paper": [(0.5, 0.4)]})).axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[0.5, 0.3], [0, 0.2]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("sparsity", "loss")
    assert all(label.get_text().endswith("%") for label in axes.get_xticklabels())


@pytest.mark.parametrize(
    "runs", [None, [(1, 2)], {}, {"a": []}, {"a": [(1,)]}, {"a": [(1, "x")]}, {"a": [1, 2]},
             {"a": [(1, float("nan"))]}, {"a": [(1, 2, 3, 4)]}],
)  # fmt: skip
def test_runs_refused(runs):
    """What is not points by name."""
    with pytest.raises(iplt.errors.OptionError, match="runs: expected"):
        plots.tradeoff(runs)


def test_history():
    """A plot per metric, validation beside it, epochs counted from one."""
    model = net()
    model.compile("sgd", "mse")
    x, y = np.zeros((8, 8, 8, 3)), np.zeros((8, 4))
    ran = model.fit(x, y, validation_data=(x, y), epochs=4, initial_epoch=1, verbose=0)
    axes = drawn(plots.history(ran)).axes[0]
    assert axes.get_title() == "loss"
    ours, theirs = axes.lines
    assert ours.get_ydata().tolist() == ran.history["loss"]
    assert theirs.get_ydata().tolist() == ran.history["val_loss"]
    assert ours.get_xdata().tolist() == [2, 3, 4]
    figure = plots.history({"loss": [1, 2], "a": [1], "b": [3]})
    assert [len(axes.lines[0].get_xdata()) for axes in figure.axes] == [2, 1, 1]
    for wrong in (None, {}, {"loss": 1.0}, {"loss": ["x"]}, {"loss": []}):
        with pytest.raises(iplt.errors.OptionError, match="history: expected"):
            plots.history(wrong)


# -- images ----------------------------------------------------------------------------------------


def crossed(figure):
    """Which of the images are crossed out."""
    return [index for index, axes in enumerate(figure.axes) if axes.lines]


def test_kernels():
    """Filters of the first convolution, zero in the middle, in colour for three inputs."""
    model = net()
    figure = drawn(plots.kernels(model))
    kernel = numbers_of(model.get_layer("conv").kernel)
    images = [axes.images[0].get_array() for axes in figure.axes]
    assert len(images) == 8 and not crossed(figure)
    expected = 0.5 + kernel[..., 5] / (2 * np.abs(kernel[..., 5]).max())
    np.testing.assert_allclose(images[5], expected, atol=1e-6)
    grey = plots.kernels(model, "second").axes[0].images[0]
    assert grey.get_array().shape == (3, 3) and grey.get_clim() == (0, 1)
    assert "mean over 8 inputs" in plots.kernels(model, model.get_layer("second")).get_suptitle()
    nested = keras.Sequential([keras.Input((8, 8, 3)), net(), layers.Activation("tanh")])
    assert "conv: 8 filters" in plots.kernels(nested).get_suptitle()


def test_kernels_that_went():
    """By a plan, in a rewritten model, in one that was trained on, and in a mask."""
    model = net()
    plan = iplt.plan(model, 0.4, ignore="second")
    (gone, _) = plan.removed
    assert crossed(drawn(plots.kernels(model, after=plan))) == list(gone)
    again = iplt.Plan.from_json(plan.to_json())
    assert crossed(plots.kernels(model, after=again)) == list(gone)
    small = iplt.rewrite(model, plan)
    assert crossed(plots.kernels(model, after=small)) == list(gone)
    assert f"{8 - len(gone)} of 8" in plots.kernels(model, after=small).get_suptitle()
    kernel = small.get_layer("conv").kernel
    noise = np.random.default_rng(0).normal(size=kernel.shape)
    kernel.assign(3 * numbers_of(kernel) + 0.05 * noise)
    assert crossed(plots.kernels(model, after=small)) == list(gone)
    masked = net()
    masked.set_weights(model.get_weights())
    iplt.mask(masked, plan)
    assert crossed(plots.kernels(model, after=masked)) == list(gone)


def test_kernels_refused():
    """Layers that are no convolutions, and models that are not pruned versions."""
    for layer in ("head", "nothing", 3):
        with pytest.raises(iplt.errors.OptionError, match="layer: expected a "):
            plots.kernels(net(), layer)
    with pytest.raises(iplt.errors.ModelError, match=r"expected a keras.Model"):
        plots.kernels("net")
    small = iplt.prune(net(), 0.5, scope="layer")
    with pytest.raises(iplt.errors.OptionError, match=r"else a Plan.*shape \(3, 3, 4, 3\)"):
        plots.kernels(net(), "second", after=small)


# -- groups ----------------------------------------------------------------------------------------


def nodes(figure):
    """`(lane, row)` -> colours of the slices of that node."""
    found = {}
    for patch in figure.axes[0].patches:
        if type(patch).__name__ == "Wedge":
            found.setdefault(tuple(patch.center), []).append(patch.get_facecolor())
    return found


def told(figure, kind):
    return [t.get_text() for t in figure.axes[0].texts if t.get_gid() == kind]


def test_groups():
    """What is added up has one colour and one lane, frozen layers are grey, and what passes
    channels on is in the row of what it follows."""
    figure = drawn(plots.groups(residual()))
    assert told(figure, "name") == ["stem", "inner", "outer", "add", "head"]
    assert told(figure, "group") == ["0", "1", "0", "0", "–"]
    assert told(figure, "channels") == ["4", "6", "4", "4", "3"]
    assert told(figure, "what")[1] == "Conv2D · BatchNormalization"
    assert told(figure, "what")[3] == "Add · GlobalAveragePooling2D"
    found = {row: (lane, colours) for (lane, row), colours in nodes(figure).items()}
    assert found[0] == found[2] == found[3] and found[1] != found[0]
    assert found[1][0] != found[0][0]  # another lane
    grey = canvas.matplotlib("colors").to_rgba(canvas.FROZEN)
    assert found[4][1] == [grey] and all(grey not in found[row][1] for row in range(4))
    edges = [p for p in figure.axes[0].patches if p.get_gid() == "edge"]
    ends = {(p.get_path().vertices[0][1], p.get_path().vertices[-1][1]) for p in edges}
    assert ends == {(0, 1), (1, 2), (2, 3), (0, 3), (3, 4)}


def test_groups_of_nested_and_concatenated_models():
    """Nested models are gone into; a concatenation has a slice of each of its groups."""
    image = keras.Input((8, 8, 3))
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="a")], name="in")
    x = layers.Concatenate(name="both")([inner(image), layers.Conv2D(12, 3, name="b")(image)])
    model = keras.Model(image, layers.Conv2D(2, 1, name="head")(x))
    figure = drawn(plots.groups(iplt.trace(model)))
    names = told(figure, "name")
    assert sorted(names) == ["b", "both", "head", "in/a"] and names[2:] == ["both", "head"]
    assert set(told(figure, "group")[2].split("+")) == {"0", "1"}
    assert told(figure, "channels")[2] == "16"
    (both,) = [colours for (_, row), colours in nodes(figure).items() if row == 2]
    assert len(set(both)) == 2
    edges = [p for p in figure.axes[0].patches if p.get_gid() == "edge"]
    assert {p.get_path().vertices[0][1] for p in edges} == {0, 1, 2}


def test_many_groups_in_one_tensor():
    """Are named by the first and the last of them."""
    image = keras.Input((8, 8, 3))
    several = [layers.Conv2D(2 + i, 3, name=f"c{i}")(image) for i in range(12)]
    x = layers.Concatenate(name="all")(several)
    figure = drawn(plots.groups(keras.Model(image, layers.Conv2D(2, 1, name="head")(x))))
    assert told(figure, "group")[-2:] == ["0…11", "–"] and told(figure, "name")[-2] == "all"
    assert told(figure, "channels")[-2] == str(sum(range(2, 14)))
    starts = {t.get_gid(): t.get_position()[0] for t in figure.axes[0].texts if t.get_gid()}
    unit = figure.axes[0].transData.inverted()
    for text in figure.axes[0].texts:  # columns do not run into each other
        if text.get_gid() in ("group", "channels", "name"):
            after = {"group": "channels", "channels": "name", "name": "what"}[text.get_gid()]
            assert unit.transform(text.get_window_extent())[1][0] < starts[after]


def test_a_shared_model():
    """It stands there once, and the drawing ends."""
    x = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="d")], name="twice")
    model = keras.Model(x, layers.Dense(2, name="head")(inner(inner(x))))
    assert "twice/d" in told(drawn(plots.groups(model)), "name")


# -- all of them -----------------------------------------------------------------------------------

NAMES = ["$\\frac$", "_hidden", "a" * 80, "two\nlines", "<b>&"]


def test_names_are_drawn_as_they_are():
    """Dollars are no mathematics, underscores hide nothing, long names are cut in the middle."""
    runs = {name: [(i, i)] for i, name in enumerate(NAMES)}
    legend = drawn(plots.tradeoff(runs)).axes[0].get_legend()
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown == [canvas.shorten(name) for name in NAMES] and shown[:2] == NAMES[:2]
    assert len(shown[2]) == 34 and "\n" not in shown[3]
    result = dataclasses.replace(measured(len(NAMES)), layers=tuple(NAMES))
    assert texts(drawn(plots.sensitivity(result)))[:2] == NAMES[:2]
    drawn(plots.history({"$\\frac$": [1, 2]}))
    model = net("$\\frac$")
    for figure in (
        plots.filters(model, model), plots.sparsity(model), plots.norms(model),
        plots.kernels(model), plots.groups(model),
    ):  # fmt: skip
        drawn(figure)


def test_no_global_state(monkeypatch):
    """Nothing needs pyplot (which opens windows and keeps figures), and no setting changes."""
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    for name in ("matplotlib.pyplot", "pylab", "matplotlib.pylab"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it is an error
    model = net()
    for figure in (
        plots.groups(model), plots.norms(model), plots.kernels(model), plots.sparsity(model),
        plots.filters(model, model), plots.loss({"a": [(0, 1)]}), plots.history({"loss": [1]}),
        plots.sensitivity(measured(20)), plots.tradeoff({"a": [(0, 1, 2)]}),
    ):  # fmt: skip
        figure.savefig(io.BytesIO(), format="png")
        assert type(figure) is canvas.matplotlib("figure").Figure
    assert dict(matplotlib.rcParams) == before


def test_without_matplotlib(monkeypatch):
    """An error that says how to get it."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        iplt.errors.MissingExtraError, match=r"plots need matplotlib.*keras-iplt\[plots\]"
    ):
        plots.loss({"a": [(0, 1)]})
