"""Fine-tuned against from scratch: what is begun anew, what is counted, and what is concluded."""

import argparse
import dataclasses

import keras
import numpy as np
import pytest
from keras_iplt_recipes import zoo

import keras_iplt as iplt
from keras_iplt import sparsity

pytestmark = pytest.mark.slow

pytest.importorskip("sklearn")
rethinking = pytest.importorskip("keras_iplt_recipes.rethinking")

from keras_iplt_recipes.common.claims import COMPARED  # noqa: E402
from keras_iplt_recipes.common.hardware import Hardware  # noqa: E402
from keras_iplt_recipes.common.spread import Spread  # noqa: E402
from keras_iplt_recipes.common.study import Place  # noqa: E402
from keras_iplt_recipes.rethinking import names, networks, scales, tables  # noqa: E402
from keras_iplt_recipes.rethinking import runs as recipe  # noqa: E402

TRAINING = {
    "seed": 0, "batch": 16, "hardware": dataclasses.asdict(Hardware(eager=True)),
    "source": "digits", "take": 16, "take_test": 16, "epochs": 1, "rate": 0.1,
}  # fmt: skip


def network(name="resnet8", width=0.25):
    name, options = networks.shape(name, width)
    return zoo.build(name, (8, 8, 1), 10, **options)


def convolutions(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def kernels(model):
    return [keras.ops.convert_to_numpy(layer.kernel) for layer in convolutions(model)]


def randomised(model):
    """Scales of batch norm that differ, as after training."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(random.uniform(0.1, 1, layer.gamma.shape))
    return model


# -- networks --


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("vgg19", 0.125, ("vgg19", {"filters": [8] * 2 + [16] * 2 + [32] * 4 + [64] * 8})),
        ("resnet56", 0.5, ("cifar_resnet", {"depth": 56, "widths": [8, 16, 32]})),
        ("densenet40", 0.25, ("densenet40", {"depth": 40, "growth": 3, "first": 4})),
        ("resnet20", 0.001, ("cifar_resnet", {"depth": 20, "widths": [1, 1, 1]})),
    ],
)
def test_a_share_of_the_filters(name, width, expected):
    kind, options = expected
    assert networks.shape(name, width) == (kind, {**options, "l2": 5e-5})


def test_weight_decay_is_that_of_the_paper():
    """The gradient of the penalty is 1e-4 times the weight."""
    model = network()
    kernel = model.get_layer("stem").kernel
    assert float(kernel.regularizer.l2) * 2 == pytest.approx(1e-4)


def test_networks_that_are_not_there():
    with pytest.raises(
        argparse.ArgumentTypeError, match=r"expected resnet<depth>.*received: 'alexnet'"
    ):
        names.network("alexnet")
    assert [names.network(one) for one in ("resnet8", "vgg19")] == ["resnet8", "vgg19"]
    with pytest.raises(iplt.errors.OptionError, match="width: expected 1 for resnet50"):
        networks.shape("resnet50", 0.5)
    assert networks.shape("resnet50", 1.0) == ("resnet50", {})


def test_blocks_are_those_of_residual_networks(tmp_path):
    """The reason is told, before anything is trained."""
    arguments = ["--methods", "sss", "--networks", "densenet7", "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match=r"sss selects .* received: densenet7"):
        rethinking.main([*arguments, "--quick"])


def test_blocks_whose_scale_is_zero_go():
    """The others' scales go into batch norms: what is left computes the same."""
    model = scales.with_scales(network("resnet14"), 20.0)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    scales.follow(model)
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype("float32")
    model.fit(x, model.predict(x, verbose=0), epochs=2, verbose=0)
    blocks = [layer for layer in model.layers if isinstance(layer, scales.BlockScale)]
    zero = [float(block.factor) == 0 for block in blocks]
    assert len(zero) == 6 and all(zero), "no loss holds against 2 a step"
    for block, factor in zip(blocks, (0, 0.5, 2, 0, 1, 1.5), strict=True):
        block.factor.assign(factor)
    small = networks.pruned(model, "sss", 20.0, "depth")
    assert len(convolutions(model)) - len(convolutions(small)) == 4
    assert not any(isinstance(layer, scales.BlockScale) for layer in small.layers)
    np.testing.assert_allclose(
        small.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )


def test_methods_that_nobody_knows(capsys):
    with pytest.raises(SystemExit):
        rethinking.main(["--methods", "magic"])
    assert (
        "expected norms, sfp, slimming, thinet, channel, sss, weights, received: magic"
        in capsys.readouterr().err
    )


# -- from scratch --


@pytest.mark.parametrize("method", ["norms", "slimming"])
def test_the_pruned_architecture_anew(method):
    """Shapes are those of the pruned network, values are new, and of the layers' initializers."""
    whole = randomised(network(width=1))
    small = networks.pruned(whole, method, 0.4, "depth")
    new = networks.anew(small)
    assert [w.shape for w in new.weights] == [w.shape for w in small.weights]
    assert new.count_params() < whole.count_params()
    for old, fresh, layer in zip(kernels(small), kernels(new), convolutions(new), strict=True):
        assert not np.isclose(old, fresh).any()
        fan_in = np.prod(fresh.shape[:3])
        assert isinstance(layer.kernel_initializer, keras.initializers.HeNormal)
        if fresh.size > 500:
            assert fresh.std() == pytest.approx((2 / fan_in) ** 0.5, rel=0.15)
    gammas = [layer.gamma for layer in new.layers if hasattr(layer, "gamma")]
    assert gammas and all((keras.ops.convert_to_numpy(gamma) == 1).all() for gamma in gammas)


def test_the_penalty_on_scales_comes_and_goes():
    model = networks.anew(network(), 0.01)
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    channels = sum(int(x.gamma.shape[0]) for x in norms)
    with_it = sum(float(loss) for x in norms for loss in x.losses)
    assert with_it == pytest.approx(0.01 * channels)
    again = networks.anew(model)
    assert not any(x.losses for x in again.layers if isinstance(x, type(norms[0])))
    assert again.get_layer("stem").kernel.regularizer is not None


def test_masked_anew():
    """The same zeros, other values."""
    model = network()
    networks.pruned(model, "weights", 0.7, "depth")
    new = networks.masked_anew(model)
    for old, fresh in zip(kernels(model), kernels(new), strict=True):
        np.testing.assert_array_equal(old == 0, fresh == 0)
        assert not np.isclose(old, fresh)[old != 0].any()
    assert (keras.ops.convert_to_numpy(new.get_layer("head").kernel) != 0).all()


def test_a_run_of_each_kind(tmp_path):
    """Zeros are held by fine-tuning and from scratch, and scratch is none of what was."""

    def run(function, name, **settings):
        result = function(Place(tmp_path, name), **TRAINING, **settings)
        model = keras.models.load_model(tmp_path / f"{name}.keras", compile=False)
        return result, kernels(model)

    whole, first = run(recipe.large, "large", network="densenet7", width=0.25, kind="plain")
    small, tuned = run(
        recipe.tuned, "tuned", start="large", method="weights", ratio=0.6,
        allocation="uniform",
    )  # fmt: skip
    _, new = run(recipe.scratch, "new", start="tuned", method="weights")
    zeros = sum(int((kernel == 0).sum()) for kernel in tuned)
    assert whole["params"] - small["params"] == zeros
    assert zeros == pytest.approx(0.6 * sum(kernel.size for kernel in tuned), abs=1)
    assert small["macs"] == pytest.approx(0.4 * whole["macs"], rel=0.05)
    for before, kept, fresh in zip(first, tuned, new, strict=True):
        np.testing.assert_array_equal(kept == 0, fresh == 0)
        assert (kept != before)[kept != 0].all()  # it was trained
        assert np.abs(kept - fresh)[kept != 0].mean() > 0.1 * np.abs(kept[kept != 0]).mean()


def test_scratch_does_not_begin_as_the_large_network_did(tmp_path, monkeypatch):
    """With the seed of the large network, a masked one would."""
    seen = {}

    def look(bench, model, *_):
        seen[bench.place.name] = kernels(model)
        bench.save(model)

    monkeypatch.setattr(recipe, "trained", look)
    recipe.large(
        Place(tmp_path, "large"), network="densenet7", width=0.25, kind="plain", **TRAINING
    )
    recipe.scratch(Place(tmp_path, "new"), start="large", method="weights", **TRAINING)
    recipe.scratch(Place(tmp_path, "again"), start="large", method="weights", **TRAINING)
    for before, fresh, same in zip(*(seen[n] for n in ("large", "new", "again")), strict=True):
        assert not np.isclose(before, fresh).any()
        np.testing.assert_array_equal(fresh, same)  # Scratch-E and Scratch-B begin alike


# -- pruning --


def test_norms_leave_residual_streams_alone():
    small = networks.pruned(network(width=1), "norms", 0.5, "depth")
    filters = {layer.name: layer.filters for layer in convolutions(small)}
    assert filters == {
        "stem": 16, "stage1_block1_conv1": 8, "stage1_block1_conv2": 16,
        "stage2_block1_conv1": 16, "stage2_block1_conv2": 32,
        "stage3_block1_conv1": 32, "stage3_block1_conv2": 64,
    }  # fmt: skip


def test_streams_are_found_by_what_is_added():
    """Whatever layers are called, padded channels and projections included."""
    found = networks.streams(keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3)))
    ends = ("_0_conv", "_3_conv")
    assert len(found) == 20 and all(name.endswith(ends) for name in found)
    assert networks.streams(network("resnet8")) == [
        "stem", "stage1_block1_conv2", "stage2_block1_conv2", "stage3_block1_conv2"
    ]  # fmt: skip


@pytest.mark.parametrize("method", ["thinet", "channel"])
def test_what_stays_is_fitted_to_what_was(method):
    """Nearer to the whole network than where the smallest norms go and nothing is fitted."""
    model = randomised(network(width=1))
    images = np.random.default_rng(0).normal(size=(256, 8, 8, 1)).astype("float32")
    seen, others = images[:192], images[192:]
    expected = model.predict(others, verbose=0)
    small = networks.pruned(model, method, 0.5, "depth", seen)
    plain = networks.pruned(model, "norms", 0.5, "depth")
    assert [x.filters for x in convolutions(small)] == [x.filters for x in convolutions(plain)]
    off, plainly = (
        np.square(m.predict(others, verbose=0) - expected).sum() for m in (small, plain)
    )
    assert off < 0.5 * plainly


def test_norms_take_the_same_share_of_each_layer_elsewhere():
    model = zoo.vgg19(input_shape=(16, 16, 1), filters=[8] * 16)
    assert networks.streams(model) == []
    small = networks.pruned(model, "norms", 0.5, "depth")
    assert {layer.filters for layer in convolutions(small)} == {4}


def test_slimming_removes_the_smallest_scales_of_all_layers():
    model = zoo.vgg19(input_shape=(16, 16, 1), filters=[4] * 16)
    for i, layer in enumerate(convolutions(model)):
        norm = model.get_layer(f"{layer.name}_norm")
        norm.gamma.assign(np.full(4, 0.9) if i % 2 else [0.9, 0.1, 0.1, 0.1])
    small = networks.pruned(model, "slimming", 24 / 64, "depth")
    assert [layer.filters for layer in convolutions(small)] == [1, 4] * 8


def test_weights_together_or_each_alike():
    shares = {}
    for allocation in ("depth", "uniform"):
        model = network()
        networks.pruned(model, "weights", 0.5, allocation)
        table = sparsity.measure(model, convolutions_only=True)
        assert table.sparsity == pytest.approx(0.5, abs=1e-3)
        shares[allocation] = [row.sparsity for row in table.layers]
    assert max(shares["uniform"]) - min(shares["uniform"]) < 0.02
    assert max(shares["depth"]) - min(shares["depth"]) > 0.2


# -- counting, concluding --


def test_costs():
    """Zeros count as if multiplications with them were left out."""
    model = network()
    whole = networks.costs(model)
    profile = iplt.profile(model)
    assert whole == {"macs": profile.macs, "params": profile.params}
    layer = model.get_layer("stage2_block1_conv2")
    kernel = keras.ops.convert_to_numpy(layer.kernel).copy()
    kernel.reshape(-1)[: kernel.size // 2] = 0
    layer.kernel.assign(kernel)
    (row,) = [row for row in profile.layers if row.name == layer.name]
    assert networks.costs(model) == {
        "macs": whole["macs"] - row.macs // 2, "params": whole["params"] - kernel.size // 2
    }  # fmt: skip


@pytest.mark.parametrize(
    ("epochs", "before", "after", "expected"),
    [(160, 200, 100, 320), (160, 100, 66, 242), (1, 100, 90, 1), (10, 100, 4, 250)],
)
def test_epochs_of_scratch_b(epochs, before, after, expected):
    """Half of the FLOPs, twice the epochs; there is no limit."""
    assert recipe.budget(epochs, before, after) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0], "not told by one seed"),
        ([1.0, 1.1, 0.9], "better"),
        ([-1.0, -1.1, -0.9], "worse"),
        ([1.0, -1.0, 0.3], "within the noise"),
        ([0.0, 0.0], "within the noise"),
    ],
)
def test_verdicts(values, expected):
    assert Spread.of(values).difference.verdict(COMPARED) == expected


def test_differences_are_taken_seed_by_seed():
    runs, others = ([{"accuracy": x} for x in values] for values in ([90, 80, 70], [89, 79, 69]))
    found = tables.points_above(runs, others)
    assert found == (1.0, 0.0) and found.verdict(COMPARED) == "better"


def test_tally():
    found = [Spread.of(values).difference for values in ([1.0, 1.1], [2.0, 2.0], [-1.0, 1.0])]
    assert tables.tally(found) == ("2 better, 1 within the noise (points: +1.05, +2.00, +0.00)")
    assert tables.tally([]) == "not run"
