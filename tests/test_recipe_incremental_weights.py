"""The recipe of Sarkar et al.: what it trains, how, and what it makes of the results."""

import types

import keras
import numpy as np
import pytest

import keras_iplt as iplt
from keras_iplt.errors import OptionError

pytestmark = pytest.mark.slow

pytest.importorskip("sklearn")
incremental_weights = pytest.importorskip("keras_iplt_recipes.incremental_weights")
from keras_iplt_recipes.common.hardware import Hardware  # noqa: E402
from keras_iplt_recipes.common.study import Place  # noqa: E402
from keras_iplt_recipes.common.training import Workbench, percent  # noqa: E402
from keras_iplt_recipes.incremental_weights import runs, tables  # noqa: E402

SHAPE = {"batch_norm": True, "dropout": 0.2, "l2": 1e-4}


def options(**own):
    return types.SimpleNamespace(**vars(incremental_weights.parser().parsed([])) | own)


def run(test, train=99.0, seconds=10.0, sparsity=(0.0, 0.9), **own):
    history = {name: list(values) for name, values in {
        "loss": [2.0, 1.0], "accuracy": [0.5, 0.7], "val_loss": [3.0, 2.0],
        "val_accuracy": [0.4, 0.6], "sparsity": sparsity}.items()}  # fmt: skip
    return {
        "train": train, "test": test, "zeros": 100 * sparsity[-1], "history": history,
        "weights": 1000, "bytes": 4000, "csr": 600, "gzip": 900, "seconds": seconds,
        "cpu": 2 * seconds, **own,
    }  # fmt: skip


# -- what is trained --


def test_all_tables_train_every_network_in_three_ways():
    """LeNets on MNIST only, VGG-Lite on all; nothing twice."""
    found = runs.wanted([1, 2, 3, 4, 5])
    assert len(found) == len(set(found)) == 3 * (3 + 1 + 1)
    assert {data for data, network, _ in found if network == "LeNet-5"} == {"mnist"}
    assert runs.wanted([5]) == found


@pytest.mark.parametrize(
    ("tables", "data", "methods"),
    [
        ([1], {"mnist"}, {"unpruned"}),
        ([2], {"mnist"}, set(runs.METHODS)),
        ([1, 5], {"mnist"}, set(runs.METHODS)),
        ([3, 5], {"cifar10"}, set(runs.METHODS)),
        ([4], {"cifar100"}, set(runs.METHODS)),
    ],
)
def test_a_table_trains_what_it_shows(tables, data, methods):
    found = runs.wanted(tables)
    assert {one for one, *_ in found} == data
    assert {method for *_, method in found} == methods


def test_unpruned_is_enough_for_table_1_beside_another():
    found = runs.wanted([1, 3])
    assert {method for data, _, method in found if data == "mnist"} == {"unpruned"}
    assert {method for data, _, method in found if data == "cifar10"} == set(runs.METHODS)


def test_only_some_networks():
    assert {n for _, n, _ in runs.wanted([1, 2, 3, 4, 5], ["LeNet-5"])} == {"LeNet-5"}
    with pytest.raises(OptionError, match="--only LeNet-5"):
        runs.cases(options(only=["LeNet-5"], tables=[3]))


def test_networks_are_built_as_told():
    """Chosen rates, unless the command says otherwise, of that network only."""
    assert runs.built(options(), "LeNet-5") == ("lenet_5", SHAPE)
    assert runs.built(options(lenet_5="1998"), "LeNet-5") == ("lenet_5_1998", SHAPE)
    name, shape = runs.built(options(vgg_width=0.125, l2=0.0), "VGG-Lite")
    assert name == "vgg_lite"
    assert shape == {"dropout": 0.3, "l2": 0.0, "filters": [8, 8, 16, 16, 32, 32, 32, 32]}
    assert runs.built(options(), "LeNet-300-100") == ("lenet_300_100", SHAPE)


def test_the_page_says_what_was_chosen():
    """And of no network but those that were trained; that VGG-Lite is a reconstruction, always."""
    told = tables.setting(options(dropout=0.25), "mnist", "unpruned")
    assert told.count("dropout of 0.25") == 3 and told.count("reconstruction") == 1
    assert "weights went" not in told
    assert "another 10 % of the weights went, to 90 %" in tables.setting(
        options(), "mnist", "pruned"
    )
    told = tables.setting(options(only=["LeNet-5"], lenet_5="1998"), "mnist", "unpruned")
    assert "`lenet_5_1998`" in told and "VGG" not in told and "300" not in told


def test_unpruned_runs_do_not_depend_on_how_others_are_pruned():
    assert runs.pruning(options(), "unpruned") is None
    assert runs.pruning(options(), "filters")["ignore"] == ["head"]
    assert runs.pruning(options(), "weights_per_filter")["ignore"] == []


def test_the_paper_s_steps_fit_its_epochs():
    """10 to 90 % in nine steps of two epochs each: two epochs of twenty are left."""
    told = runs.pruning(options(), "weights_per_filter")
    schedule = iplt.schedules.get(told["target"], told["step"], told["every"])
    shares = [schedule(epoch) for epoch in range(options().epochs)]
    assert shares[::2] == pytest.approx([i / 10 for i in range(10)])
    assert tables.reached(shares) == 18


def test_ten_percent_of_what_is_left():
    """Eq. 1 read literally: less at each step, and far from 90 % within the paper's epochs."""
    told = runs.pruning(options(share_of="left"), "weights_per_filter")
    schedule = iplt.schedules.get(told["target"], told["step"], told["every"])
    shares = [schedule(epoch) for epoch in range(options().epochs + 1)]
    assert shares[::2][:4] == pytest.approx([0, 0.1, 0.19, 0.271])
    assert shares[-1] == pytest.approx(1 - 0.9**10)
    assert "10 % of the weights that were left" in tables.setting(
        options(share_of="left"), "mnist", "pruned"
    )


# -- one run --


def test_a_run(tmp_path):
    """The model that is kept has the zeros and the accuracy that are told."""
    place, data = Place(tmp_path, "some/run"), {"source": "digits", "take": 32, "take_test": 64}
    found = runs.train(
        place, network="lenet_300_100", shape=SHAPE, seed=0, batch=32, epochs=2, pruning={
            "target": 0.8, "step": 0.8, "every": 1, "pattern": "filters", "ignore": ["head"]},
        hardware={"eager": keras.backend.backend() == "tensorflow"}, **data,
    )  # fmt: skip
    model = keras.models.load_model(place.file(".keras"))
    kernels = {layer.name: np.asarray(keras.ops.convert_to_numpy(layer.kernel))
               for layer in model.layers if hasattr(layer, "kernel")}  # fmt: skip
    gone = (kernels["hidden1"] == 0).sum(axis=0)
    assert sorted(set(gone)) == [0, 64] and (gone == 64).sum() == 0.8 * 300
    assert np.count_nonzero(kernels["head"]) == 100 * 10
    assert found["layers"]["head"] == 0
    assert found["weights"] == sum(kernel.size for kernel in kernels.values())
    zeros = sum((kernel == 0).sum() for kernel in kernels.values())
    assert found["zeros"] == pytest.approx(100 * zeros / found["weights"])
    assert found["history"]["sparsity"] == pytest.approx([0, 0.8], abs=0.01)
    test = Workbench(place, Hardware(), 0, 32, data).data.test
    assert found["test"] == pytest.approx(percent(model, test))
    assert found["gzip"] < found["bytes"] == 4 * model.count_params()


# -- what is made of them --


def test_rows_of_others_are_as_published():
    """And each row of this paper's pruned networks stands twice, once for each reading."""
    found = {
        ("mnist", "LeNet-5", "weights_per_filter"): [run(98.0), run(99.0)],
        ("mnist", "LeNet-5", "filters"): [run(90.0), run(90.0)],
    }
    rows = tables.rows(found, 2)
    assert len(rows) == len(tables.PUBLISHED["table 2"].rows) + 3
    assert all(list(row) == list(rows[0]) for row in rows)
    others = [row for row in rows if row["of"] != tables.OURS]
    assert all(row["test accuracy, % (obtained)"] is None for row in others)
    ours = [row for row in rows if row["of"] == tables.OURS and row["network"] == "LeNet-5"]
    assert [row["what goes"] for row in ours] == list(runs.READINGS)
    assert [row["test accuracy, % (obtained)"].mean for row in ours] == [98.5, 90.0]
    assert [row["accuracy, % (published)"] for row in ours] == [99.45, 99.45]
    assert [row["epochs (obtained)"] for row in ours] == [2, 2]


def test_table_1_has_no_columns_about_pruning():
    rows = tables.rows({("mnist", "LeNet-5", "unpruned"): [run(99.0)]}, 1)
    assert "zeros, %" not in rows[0] and len(rows) == len(tables.PUBLISHED["table 1"].rows)
    assert rows[3]["training accuracy, % (obtained)"].mean == 99.0


def test_distances_from_published_figures():
    said = tables.distances(99.94, [run(98.0, 99.5), run(98.4, 99.7)])
    assert said == "99.94 is training accuracy +0.34, test accuracy +1.74."


def test_both_accuracies_have_to_be_above_99():
    assert tables.above_99([run(99.1, 99.2)]).endswith("99.10 %: holds.")
    assert tables.above_99([run(98.9, 99.2)]).endswith("does not hold.")


def test_time_is_that_of_the_same_seed():
    """Of two seeds each twice as long as its own baseline, not as the mean of both."""
    found = {
        ("mnist", "LeNet-5", "unpruned"): [run(99.0, seconds=10), run(99.0, seconds=40)],
        ("mnist", "LeNet-5", "filters"): [run(99.0, seconds=20), run(99.0, seconds=80)],
    }
    whole, pruned = tables.savings(found)
    assert list(whole) == list(pruned)
    assert whole["time, wall"] is None and whole["s an epoch"].mean == 12.5
    assert pruned["time, wall"].values == pruned["time, CPU"].values == (2.0, 2.0)
    assert pruned["CSR, kB"].mean == 0.6


def test_table_5_has_what_the_paper_left_out():
    found = {("mnist", "VGG-Lite", "weights_per_filter"): [run(99.0, sparsity=(0, 0.1, 0.9))]}
    rows = tables.epoch_rows(found)
    assert len(rows) == len(tables.PUBLISHED["table 5"].rows) + 1
    last = rows[-1]
    assert (last["network"], last["this method (published)"]) == ("VGG-Lite", None)
    assert (last["epochs (obtained)"], last["of them before the last weights go"]) == (2, 2)
    assert all(row["epochs (obtained)"] is None for row in rows[:-1])


def test_curves_are_means_of_the_seeds():
    other = run(99.0)
    other["history"]["val_loss"] = [5.0, 1.0]
    drawn = tables.curves({"unpruned": [run(99.0), other], "filters": [run(99.0)]})
    assert drawn["val_loss, unpruned"] == [4.0, 1.5]
    assert drawn["loss, filters"] == [2.0, 1.0]
    assert len(drawn) == 8
