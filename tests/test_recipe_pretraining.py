"""What the recipe on pre-training counts, and how it reads what came out."""

import pytest

pytest.importorskip("sklearn")
from keras_iplt_recipes.pretraining import arithmetic, tables
from keras_iplt_recipes.pretraining import runs as recipe

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("network", ["vgg16_hubens", "mobilenet"])
def test_printed_filters_amount_to_what_the_paper_prints(network):
    """Parameters and operations to the printed digit, files within 0.03 MiB."""
    for which in ("baseline", *recipe.WAYS):
        found = arithmetic.counted(arithmetic.published_network(network, which))
        params, flops, size = arithmetic.NETWORK_COSTS.row(network, "cifar10", which).values()
        assert round(found["params"], 2) == params
        assert round(found["flops"], 2) == flops
        assert found["size"] == pytest.approx(size, abs=0.03)


def test_printed_parameters_of_single_layers():
    """Table 3 prints 567 of the first convolution and 32,768 of the last, for Network-A."""
    model = arithmetic.published_network("mobilenet", "A")
    assert model.get_layer("conv1").count_params() == 567
    assert model.get_layer("conv_pw_13").count_params() == 32_768
    assert model.get_layer("hidden").count_params() == 66_048


def test_first_and_pointwise_convolutions_are_pruned():
    model = arithmetic.published_network("mobilenet")
    assert arithmetic.pruned_layers(model) == ["conv1", *(f"conv_pw_{i}" for i in range(1, 14))]


def runs(*shares):
    """A network per seed that has lost these shares of its parameters."""
    return [{"params": 2.0}] * len(shares), [{"params": 2.0 * (1 - share)} for share in shares]


def test_who_is_pruned_further():
    said = tables.pruned_further({"A": runs(0.7, 0.72), "B": runs(0.5, 0.52)})
    assert "Network-A 71.00 ± 1.41 % go, of Network-B's 51.00 ± 1.41 %: +20.00 points" in said
    assert "noise 2.83" in said
    assert "-20.00 points (one seed" in tables.pruned_further({"A": runs(0.5), "B": runs(0.7)})


@pytest.mark.parametrize("weights", [None, "imagenet", "file.weights.h5"])
def test_weights_that_are_given_take_the_place_of_other_data(weights):
    options = type("Options", (), {"pretrain_on": "digits", "weights": weights})
    assert recipe.pretrained_here(options) == (weights is None)
    assert recipe.scaling_of("mobilenet", options) == ("scale" if weights is None else "tf")


def test_training_with_steps_of_the_rate(tmp_path):
    """A tenth after every so many epochs; the lowest one is what retraining goes on with."""
    from keras_iplt_recipes.common.study import Place

    done = recipe.train(
        Place(tmp_path, "run"), network="vgg16_hubens", shape={"filters": [4] * 13, "units": 8},
        seed=0, batch=16, hardware={"eager": True}, epochs=5, rate=0.01, drop_every=2,
        source="digits", scaling="scale", size=32, take=32, take_test=16, validation=0.1,
    )  # fmt: skip
    assert done["lowest_rate"] == pytest.approx(1e-4)
    assert len(done["filters"]) == 13
