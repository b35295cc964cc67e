"""What the recipe for the IPLT paper counts."""

import pytest

import keras_iplt as iplt
from keras_iplt import zoo

pytest.importorskip("sklearn")
from recipes import iplt as recipe


@pytest.mark.parametrize("gone", [10, 20, 30])
def test_the_formula_gives_what_is_published(gone):
    """Table 3, of ResNet-110 by soft filter pruning; coupled streams would lose more."""
    published, _ = recipe.TABLE_3["SFP", gone]
    assert (
        round(100 * recipe.sfp_share(gone / 100), 1) == published == recipe.TABLE_3["IPLT", gone][0]
    )
    assert recipe.sfp_share(gone / 100) < 1 - (1 - gone / 100) ** 2


def test_the_formula_counts_the_whole_network():
    """With all filters gone nothing is left, and with none gone all."""
    assert recipe.sfp_share(1.0) == 1 and recipe.sfp_share(0.0) == 0


def test_half_of_these_layers_is_what_pruning_filters_takes():
    """34.2 % of VGG-16's multiply-adds, as "Pruning filters for efficient ConvNets" prints."""
    model = zoo.vgg16()
    kept = [name for name in recipe.LAYERS if name not in recipe.HALVED]
    assert [layer.name for layer in model.layers if "_conv" in layer.name[-6:]] == recipe.LAYERS
    small = iplt.prune(model, 0.5, scope="layer", ignore=kept, convolutions_only=True)
    macs = [iplt.profile(one).macs for one in (model, small)]
    share = 100 * (1 - macs[1] / macs[0])
    assert share == pytest.approx(recipe.TABLE_2["norms", None][2], abs=0.05)


def test_times_are_those_of_the_same_seed():
    """And of tuning, what has been trained before as well."""
    found = {("baseline", 0): [{"seconds": 10.0, "cpu": 20.0}, {"seconds": 40.0, "cpu": 80.0}]}
    runs = [{"seconds": 5.0, "cpu": 5.0}, {"seconds": 20.0, "cpu": 20.0}]
    said = {method: recipe.times(found, runs, method) for method in ("IPLT", "PMT")}
    assert said["IPLT"]["time, wall"].values == (0.5, 0.5)
    assert said["PMT"]["time, CPU"].values == (1.25, 1.25)
