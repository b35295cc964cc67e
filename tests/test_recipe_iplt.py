"""What the recipe for the IPLT paper runs, and what it counts."""

import collections
import math
import types

import keras
import pytest
from keras_iplt_recipes import zoo

import keras_iplt as iplt

pytest.importorskip("sklearn")
from keras_iplt_recipes.common.grid import Grid
from keras_iplt_recipes.common.study import Place
from keras_iplt_recipes.iplt import runs, soft_pruning, tables

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("gone", [10, 20, 30])
def test_the_formula_gives_what_is_published(gone):
    """Table 3, of ResNet-110 by soft filter pruning; coupled streams would lose more."""
    sfp, iplt_form = (
        tables.PUBLISHED["table 3"].row(method, gone)["multiply-adds gone, %"]
        for method in ("SFP", "IPLT")
    )
    assert round(100 * soft_pruning.sfp_share(gone / 100), 1) == sfp == iplt_form
    assert soft_pruning.sfp_share(gone / 100) < 1 - (1 - gone / 100) ** 2


def test_the_formula_counts_the_whole_network():
    """With all filters gone nothing is left, and with none gone all."""
    assert soft_pruning.sfp_share(1.0) == 1 and soft_pruning.sfp_share(0.0) == 0


def test_half_of_these_layers_is_what_pruning_filters_takes():
    """34.2 % of VGG-16's multiply-adds, as "Pruning filters for efficient ConvNets" prints."""
    model = zoo.vgg16()
    kept = [name for name in runs.LAYERS if name not in runs.HALVED]
    assert [layer.name for layer in model.layers if "_conv" in layer.name[-6:]] == runs.LAYERS
    small = iplt.prune(model, 0.5, scope="layer", ignore=kept, convolutions_only=True)
    macs = [iplt.profile(one).macs for one in (model, small)]
    share = 100 * (1 - macs[1] / macs[0])
    published = tables.PUBLISHED["table 2"].row("norms", None)["multiply-adds gone, %"]
    assert share == pytest.approx(published, abs=0.05)


def test_times_are_those_of_the_same_seed():
    """And of tuning, what has been trained before as well."""
    found = {("baseline", 0): [{"seconds": 10.0, "cpu": 20.0}, {"seconds": 40.0, "cpu": 80.0}]}
    own = [{"seconds": 5.0, "cpu": 5.0}, {"seconds": 20.0, "cpu": 20.0}]
    said = {method: tables.times(found, own, method) for method in ("IPLT", "PMT")}
    assert said["IPLT"]["time, wall"].values == (0.5, 0.5)
    assert said["PMT"]["time, CPU"].values == (1.25, 1.25)


SMALL_CNN = ("mnist_cnn", {"filters": [8, 8, 8], "units": 16})
SMALL_RESNET = ("cifar_resnet", {"depth": 8})


@pytest.mark.parametrize(
    ("method", "net", "pruning", "gone"),
    [
        ("baseline", SMALL_CNN, None, 0),
        ("PMT", SMALL_CNN, {"target": 0.5, "convolutions_only": False}, 50),
        ("norms", SMALL_CNN, {"target": 0.5, "ignore": ["conv1"]}, 100 * 8 / 40),
        ("IPLT", SMALL_CNN, {"target": 0.5, "step": 0.25, "every": 1}, 50),
        ("SFP", SMALL_RESNET, {"target": 0.25}, 25),
        ("IPLT, soft", SMALL_RESNET, {"ratios": [0.25], "every": 1}, 25),
    ],
)
def test_a_run_of_each_method(method, net, pruning, gone, tmp_path):
    """What is left is what the method was told to leave, and the model that is kept has it."""
    place, (network, shape) = Place(tmp_path, "run"), net
    found = runs.train(
        place, network=network, shape=shape, method=method, seed=0, batch=16,
        hardware={"eager": True}, epochs=3, rate=0.01, pruning=pruning, source="digits", take=32,
        take_test=16,
    )  # fmt: skip
    model = keras.models.load_model(place.file(".keras"))
    assert found["params"] == iplt.profile(model).params
    assert found["fpr"] == pytest.approx(gone)


def test_runs_of_a_table(tmp_path):
    """PMT tunes the baseline of its own seed; IPLT begins anew and has all the epochs."""
    asked = {}

    class Asked:
        results = collections.defaultdict(dict)

        def do(self, wanted):
            asked.update({run.name: run.settings for run in wanted})
            return []

    grid = Grid(
        types.SimpleNamespace(
            seeds=2, batch=1, data_dir=None, download=False, precision="float32", xla=False,
            devices=1, eager=False, out=tmp_path, workers=1, recipe="iplt",
        )
    )  # fmt: skip
    grid.study = Asked()
    runs.against_pmt(
        grid, "t", {"network": "x", "epochs": 10}, 4, [0.6], {"min_channels": 1},
        {"every": 2, "step": 0.1},
    )  # fmt: skip
    assert len(asked) == 6
    dense, tuned, pruned = (
        asked[f"t/{name}-seed1"] for name in ("baseline", "pmt-0.6", "iplt-0.6")
    )
    assert [run["epochs"] for run in (dense, tuned, pruned)] == [10, 4, 10]
    assert tuned["start"] == "t/baseline-seed1" and "start" not in dense and "start" not in pruned
    assert tuned["pruning"] == {"target": 0.6, "min_channels": 1}
    assert pruned["pruning"] == {"target": 0.6, "every": 2, "step": 0.1, "min_channels": 1}
    assert {run["seed"] for run in (dense, tuned, pruned)} == {1}
    assert {run["network"] for run in asked.values()} == {"x"}


@pytest.mark.parametrize("k", [1, 2])
def test_choices_end_at_about_the_same_epoch(k, tmp_path):
    """But for the k that is to be compared; what cannot be halved is not."""
    from keras_iplt_recipes.common.page import Page
    from keras_iplt_recipes.iplt import choices, parser

    options = parser().parsed(["--tables", "choices", "--mnist-k", k, "--out", tmp_path])
    asked = {}

    class Asked:
        study = types.SimpleNamespace(folder=tmp_path)

        def run(self, cases):
            asked.update(cases)
            result = {"accuracy": 90.0, "fpr": 70.0, "ppr": 80.0, "macs_gone": 50.0, "cpu": 1.0}
            return {name: [result, result] for name in cases}

    grid = Asked()
    page = Page("t", grid.study, "c")
    choices.choices(options, grid, page)
    pruning = {name: case.settings["pruning"] for name, case in asked.items()}
    last = {
        name: math.ceil(p["target"] / p["step"] - 1e-9) * p["every"] for name, p in pruning.items()
    }
    assert ("k halved" in last) == (k == 2)
    assert last.pop("k halved", 7) == 7
    assert all(abs(epochs - 7 * k) <= k for epochs in last.values()), last
    assert len(asked) == len({case.name for case in asked.values()})
    said = "\n".join(page._parts)
    assert said.count("holds.") == sum(
        one in asked and other in asked for one, other in choices.CLAIMS.values()
    )
