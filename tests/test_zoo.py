"""The papers' networks: counted as published, prunable, and with weights from files."""

import functools
import inspect
import re

import keras
import numpy as np
import pytest
from keras_iplt_recipes import zoo
from keras_iplt_recipes.zoo.building_blocks import initializer_of
from support.law import check_law

import keras_iplt as iplt

pytestmark = pytest.mark.slow

CIFAR, IMAGENET = (32, 32, 3), (224, 224, 3)


def small(name, **options):
    """A network as small as it gets."""
    shape, least = {
        "lenet_300_100": ((6, 6, 1), {}),
        "lenet_5": ((16, 16, 1), {}),
        "lenet_5_1998": ((12, 12, 1), {}),
        "mnist_cnn": ((8, 8, 1), {"filters": (4, 4, 4), "units": 8}),
        "vgg16": ((32, 32, 1), {"filters": [4] * 13}),
        "vgg16_hubens": ((32, 32, 1), {"filters": [4] * 13, "units": 8}),
        "vgg19": ((16, 16, 1), {"filters": [4] * 16}),
        "vgg_lite": ((8, 8, 1), {"filters": [4] * 8, "units": 8}),
        "cifar_resnet": ((8, 8, 1), {"depth": 8, "widths": (4, 6, 8)}),
        "densenet40": ((8, 8, 1), {"depth": 7, "growth": 4, "first": 4}),
        "mobilenet": (CIFAR, {"alpha": 0.125, "hidden": (8,)}),
    }[name]
    options = {"input_shape": shape, "classes": 3, **least, **options}
    return zoo.build(name, **options)


# -- as published ----------------------------------------------------------------------------------

COUNTS = [
    # name, input shape, classes, options, parameters, the trainable ones, multiply-adds, FLOPs
    ("lenet_300_100", None, 10, {}, 266_610, None, "266200", None),
    ("lenet_5", None, 10, {}, 431_080, None, "2293000", None),
    ("lenet_5_1998", None, 10, {}, 61_706, None, None, None),
    ("lenet_5_1998", (32, 32, 1), 10, {}, 61_706, None, None, None),
    ("mnist_cnn", None, 10, {}, 426_122, None, None, "4.69e+06"),
    ("vgg16", None, 10, {}, 14_736_714, None, "3.13e+08", None),
    ("vgg16_hubens", None, 10, {}, 14_982_474, None, None, "627481620"),
    ("vgg16_hubens", IMAGENET, 101, {}, None, None, None, "30720985290"),
    ("vgg19", None, 10, {}, 20_046_026, 20_035_018, "3.98e+08", None),
    ("vgg_lite", None, 10, {}, 2_469_962, None, None, None),
    ("cifar_resnet", None, 10, {"depth": 32}, 466_426, 464_154, "6.89e+07", None),
    ("resnet20", None, 10, {}, 271_098, 269_722, "4.06e+07", None),
    ("resnet20", None, 10, {"shortcut": "B"}, 274_042, 272_474, None, None),
    ("resnet56", None, 10, {}, 857_082, 853_018, "1.25e+08", None),
    ("resnet110", None, 10, {}, 1_736_058, 1_727_962, "2.53e+08", None),
    ("resnet50", None, 1000, {}, 25_636_712, 25_583_592, "3.86e+09", None),
    ("googlenet", None, 1000, {"batch_norm": False}, 6_998_552, None, "1.58e+09", None),
    ("inception_v2", None, 1000, {}, 10_183_192 + 1_025_000, None, "1.93e+09", None),
    ("densenet40", None, 10, {}, 1_037_818, 1_019_722, "2.65e+08", None),
    ("densenet121", None, 1000, {}, 8_062_504, 7_978_856, None, None),
    ("mobilenet", CIFAR, 10, {}, 3_758_794, None, None, "24231956"),
    ("mobilenet", None, 101, {}, None, None, None, "1136585930"),
    ("mobilenet", None, 1000, {"hidden": None}, 4_253_864, 4_231_976, "5.69e+08", None),
    # The dense layers see one position, not 49: 138,357,544 parameters for 224 x 224.
    ("vgg16_imagenet", CIFAR, 1000, {}, 138_357_544 - 48 * 512 * 4096, None, None, None),
]  # fmt: skip


@pytest.mark.parametrize("family", ["^lenet|cnn", "vgg", "resnet", "dense|google|inception|mobile"])
def test_counts_are_those_published(family):
    for name, *expected in COUNTS:
        if re.search(family, name):
            check_counts(name, *expected)


def check_counts(name, shape, classes, options, params, trainable, macs, flops):
    model = zoo.build(name, shape, classes, **options)
    found = iplt.profile(model)
    assert params in (None, found.params), name
    assert trainable in (None, found.trainable_params), name
    for text, count in ((macs, found.macs), (flops, found.flops)):
        assert text is None or text == (f"{count:.2e}" if "e" in text else str(count)), name
    assert model.name == name and [x.name for x in model.inputs] == ["image"]
    assert model.output_shape == (None, classes)
    assert getattr(model.get_layer("head"), "activation", None) is keras.activations.linear
    if name == "vgg16":
        assert f"{found.size_bytes / 1e6:.1f}" == "58.9"  # MB, in the IPLT paper


def test_every_network_is_counted_and_can_be_had_by_name():
    counted = {name for name, *_ in COUNTS} | {"inception_v3"}
    assert counted == set(zoo.names())
    assert sorted(zoo.__all__) == sorted([*zoo.names(), "build", "names"])
    for name in zoo.names():
        parameters = list(inspect.signature(getattr(zoo, name)).parameters)
        assert parameters[:3] == ["classes", "input_shape", "weights"]


def test_the_layers_of_inception_v3_are_those_that_zuo_et_al_name(tmp_path):
    """Table I: places and sizes of the layers that they probe. Keras's own have names that depend
    on what was made before, and the same weights in the same places."""
    path, theirs = tmp_path / "m.weights.h5", keras.applications.InceptionV3(False, None)
    theirs.save_weights(path)
    model = zoo.inception_v3(1000, (75, 75, 3), path)
    assert not [
        x.name for x in model.layers if re.match(r"[a-z_]+2d|batch_|activation|concat", x.name)
    ]
    assert model.count_params() == 23_851_784
    sizes = {x.name: x.kernel.shape for x in model.layers if isinstance(x, keras.layers.Conv2D)}
    for name, shape in sizes.items():
        assert name.endswith("x".join(map(str, shape[:2]))), f"{name}: {shape}"
    assert np.prod(sizes["Conv2d_4a_3x3"]) == 138_240
    assert np.prod(sizes["Mixed_5b_Branch_0_Conv2d_0a_1x1"]) == 12_288
    order = zoo.applications.slim_names()
    assert set(order) == set(sizes)
    assert order[4:6] == ["Conv2d_4a_3x3", "Mixed_5b_Branch_0_Conv2d_0a_1x1"]
    assert order.index("Mixed_6b_Branch_0_Conv2d_0a_1x1") + 1 == 31
    assert order.index("Mixed_6e_Branch_0_Conv2d_0a_1x1") + 1 == 61
    made = [x for x in theirs.layers if isinstance(x, keras.layers.Conv2D)]
    made.sort(key=lambda x: int(x.name.removeprefix("conv2d").strip("_") or 0))
    for layer, name in zip(made, order, strict=True):
        own = keras.ops.convert_to_numpy(model.get_layer(name).kernel)
        assert (own == keras.ops.convert_to_numpy(layer.kernel)).all()


def test_the_modules_of_googlenet_are_those_of_its_paper():
    """Thousands of parameters and millions of operations, Table 1 of Szegedy et al. Two figures of
    5a and one of 4c do not follow from the filters in their own rows: (1019, 51) and 498 would."""
    published = {
        "3a": (159, 128), "3b": (380, 304), "4a": (364, 73), "4b": (437, 88), "4c": (498, 100),
        "4d": (580, 119), "4e": (840, 170), "5a": (1019, 51), "5b": (1388, 71),
    }  # fmt: skip
    rows = iplt.profile(zoo.googlenet(1000, batch_norm=False)).layers
    for module, (params, macs) in published.items():
        own = [row for row in rows if row.name.startswith(f"inception_{module}")]
        assert sum(row.macs for row in own) / 1e6 == pytest.approx(macs, abs=1)
        found = sum(row.params for row in own) / 1024  # the paper's K
        assert found == pytest.approx(params, rel=0.02)


def test_inception_v2_has_the_variables_of_tf_slims():
    """10,173,112 of them, which scale no batch norm, and whose first layer has a bias in place of
    one: https://github.com/tensorflow/models, research/slim/nets/inception_v2_test.py."""
    model = zoo.inception_v2(10)
    weights = {weight.path: int(np.prod(weight.shape)) for weight in model.weights}
    theirs = {k: v for k, v in weights.items() if "gamma" not in k and not k.startswith("head")}
    first = [count for path, count in theirs.items() if path.startswith("Conv2d_1a_7x7_norm/")]
    assert sum(theirs.values()) - sum(first) + 64 == 10_173_112
    shapes = {x.name: x.output.shape[1:] for x in model.layers if x.name.startswith("Mixed_5c")}
    assert shapes["Mixed_5c_Branch_2_Conv2d_0c_3x3"] == (7, 7, 224)
    assert "Mixed_5c_Branch_3_MaxPool_0a_3x3" in shapes


# -- what one does with them -----------------------------------------------------------------------

SMALL = [
    ("lenet_300_100", {"batch_norm": True, "dropout": 0.2, "l2": 1e-4}),
    ("lenet_5", {"batch_norm": True, "dropout": 0.2, "l2": 1e-4}),
    ("lenet_5_1998", {"dropout": 0.2}),
    ("mnist_cnn", {"batch_norm": True}),
    ("vgg16", {"dropout": 0.2}),
    ("vgg16_hubens", {}),
    ("vgg19", {}),
    ("vgg_lite", {}),
    ("cifar_resnet", {}),
    ("cifar_resnet", {"shortcut": "B", "widths": (6, 4, 8)}),
    ("densenet40", {"dropout": 0.2}),
    ("mobilenet", {"hidden": None}),
]


@pytest.mark.parametrize(("name", "options"), SMALL)
def test_half_of_each_layer_goes_and_the_rest_trains(name, options):
    model = small(name, **options)
    plan = iplt.plan(model, ratio=0.5, scope="layer")
    assert plan.fpr == pytest.approx(0.5, abs=0.02)
    _, _, left = check_law(model, plan=plan)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    left.compile(keras.optimizers.SGD(0.01), loss, run_eagerly=True)
    before = [keras.ops.convert_to_numpy(v) for v in left.trainable_variables]
    x = np.random.default_rng(0).normal(size=(4, *left.input_shape[1:])).astype("float32")
    assert np.isfinite(left.train_on_batch(x, np.array([0, 1, 2, 0])))
    after = left.trainable_variables
    assert any(
        np.any(a != keras.ops.convert_to_numpy(b)) for a, b in zip(before, after, strict=True)
    )


@pytest.mark.parametrize("name", ["googlenet", "inception_v2"])
def test_the_branches_of_inceptions_can_be_pruned(name):
    graph = iplt.trace(zoo.build(name, (32, 32, 3), 3))
    assert [frozen.operation for frozen in graph.frozen] == ["head"]
    assert iplt.plan(graph, ratio=0.5, scope="layer").fpr == pytest.approx(0.5, abs=0.02)


def test_what_sarkar_et_al_add_is_where_they_say():
    """Batch norm and dropout after each dense layer of the one, each convolution of the other."""

    def kinds(model):
        found = [type(layer).__name__ for layer in model.layers]
        return found.count("BatchNormalization"), found.count("Dropout")

    options = {"batch_norm": True, "dropout": 0.3, "l2": 1e-3}
    assert kinds(zoo.lenet_300_100(**options)) == kinds(zoo.lenet_5(**options)) == (2, 2)
    assert kinds(zoo.lenet_300_100()) == kinds(zoo.lenet_5()) == (0, 0)
    assert kinds(zoo.vgg_lite()) == (9, 7) and kinds(zoo.vgg_lite(dropout=0.0)) == (9, 0)
    assert len(zoo.lenet_5(**options).losses) == 4 and not zoo.lenet_5().losses


def test_the_torch_start_gives_all_filters_about_the_same_norm():
    """What a ranking of the filters of all layers by their norms needs."""

    def norms(model):
        kernels = [x.kernel for x in model.layers if isinstance(x, keras.layers.Conv2D)]
        values = (keras.ops.convert_to_numpy(k).reshape(-1, k.shape[-1]) for k in kernels)
        return [np.linalg.norm(k, axis=0).mean() for k in values]

    assert np.ptp(norms(zoo.mnist_cnn())) < 0.05 * np.mean(norms(zoo.mnist_cnn()))
    assert np.ptp(norms(zoo.mnist_cnn(initializer="glorot_uniform"))) > 0.2
    drawn = keras.ops.convert_to_numpy(initializer_of("torch")((3, 3, 8, 500)))
    assert abs(np.abs(drawn).max() * np.sqrt(72) - 1) < 1e-2


def test_one_initializer_draws_anew_for_each_layer():
    model = small("vgg16", initializer=keras.initializers.HeNormal())
    one, two = (model.get_layer(f"block2_conv{i}").get_weights()[0] for i in (1, 2))
    assert one.shape == two.shape and np.any(one != two)


def test_inputs_of_other_sizes():
    for name, shape in [
        ("resnet20", (40, 24, 1)), ("resnet20", (None, None, 3)), ("vgg_lite", (28, 28, 1)),
        ("vgg_lite", (None, None, 4)), ("mobilenet", (40, 72, 1)), ("mobilenet", (None, None, 5)),
        ("lenet_300_100", (64,)), ("lenet_5", (32, 20, 3)),
    ]:  # fmt: skip
        model = zoo.build(name, shape, 7)
        assert model.input_shape[1:] == shape and model.output_shape == (None, 7)


def test_logits_are_precise_where_layers_are_not():
    keras.config.set_dtype_policy("mixed_bfloat16")
    for model in (small("cifar_resnet"), small("mobilenet", hidden=None)):
        assert model.get_layer("head").compute_dtype == "float32"


# -- weights from files ----------------------------------------------------------------------------


def values(model):
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights]


def same(a, b, of=slice(None)):
    a, b = values(a)[of], values(b)[of]
    return all(x.shape == y.shape and (x == y).all() for x, y in zip(a, b, strict=True))


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("name", "suffix"), [("cifar_resnet", ".weights.h5"), ("vgg16_hubens", ".keras")]
)
def test_a_file_of_the_same_network(name, suffix, tmp_path):
    path, model = tmp_path / f"m{suffix}", small(name)
    model.save_weights(path) if suffix == ".weights.h5" else model.save(path)
    assert not same(small(name), model)
    assert same(small(name, weights=path), model)
    assert same(small(name, weights=str(path)), model)


def test_a_file_with_another_head_leaves_the_head_new(tmp_path):
    path, model = tmp_path / "m.weights.h5", small("cifar_resnet", classes=5)
    model.save_weights(path)
    keras.utils.set_random_seed(1)
    fresh = small("cifar_resnet")
    keras.utils.set_random_seed(1)
    loaded = small("cifar_resnet", weights=path)
    assert same(loaded, model, slice(-2)) and same(loaded, fresh, slice(-2, None))


def begins_with(model, expected):
    return all((a == b).all() for a, b in zip(values(model), expected))  # noqa: B905, shorter


@functools.cache
def keras_mobilenet(alpha=0.25, include_top=True):
    return keras.applications.MobileNet(CIFAR, alpha, include_top=include_top, weights=None)


def mobilenet(**options):
    return zoo.mobilenet(input_shape=CIFAR, alpha=0.25, **options)


def test_files_of_keras_applications_with_or_without_its_top(tmp_path):
    path = tmp_path / "m.weights.h5"
    whole, inner = keras_mobilenet(), keras_mobilenet(include_top=False)
    whole.save_weights(path)
    assert begins_with(mobilenet(weights=path), values(whole)[:-2])
    assert same(mobilenet(hidden=None, classes=1000, weights=path), whole)
    inner.save_weights(path)
    assert begins_with(mobilenet(weights=path), values(inner))


def test_weights_of_imagenet_come_through_keras(monkeypatch, tmp_path):
    """Which would download them: here it finds files."""
    whole, inner = keras_mobilenet(), keras_mobilenet(include_top=False)
    asked = []

    def get_file(name, *args, **kwargs):
        asked.append(name)
        path = tmp_path / f"{name}.weights.h5"
        (inner if "no_top" in name else whole).save_weights(path)
        return str(path)

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    loaded = mobilenet(weights="imagenet")
    assert begins_with(loaded, values(inner))
    assert same(mobilenet(weights="imagenet", hidden=None, classes=1000), whole)
    zoo.mobilenet(input_shape=(160, 160, 3), alpha=0.25, weights="imagenet")
    assert asked == [f"mobilenet_2_5_{size}.h5" for size in ("224_tf_no_top", "224_tf",
                                                            "160_tf_no_top")]  # fmt: skip
    with pytest.raises(iplt.errors.WeightsError, match=r"'conv1' .* They are for 3 channels"):
        zoo.mobilenet(input_shape=(32, 32, 1), alpha=0.25, weights="imagenet")


@pytest.mark.parametrize("name", ["mobilenet", "vgg16_hubens"])
def test_offline_the_error_says_what_to_do(name, monkeypatch):
    def get_file(name, origin, **kwargs):
        raise Exception(f"URL fetch failure on {origin}: None -- [Errno -3] no such host")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    with pytest.raises(iplt.errors.WeightsError) as caught:
        zoo.build(name, CIFAR, weights="imagenet")
    text = str(caught.value)
    assert "https://" in text and "no such host" in text
    assert "Fetch the file" in text and "weights=" in text


def test_networks_that_imagenet_has_no_weights_of():
    for name in ("lenet_5", "vgg16", "cifar_resnet", "densenet40"):
        with pytest.raises(
            iplt.errors.OptionError, match=r"no ImageNet weights of .*only of .*mobilenet"
        ):
            small(name, weights="imagenet")


def test_wrong_files_are_refused(tmp_path):
    path = tmp_path / "m.weights.h5"
    small("cifar_resnet", depth=14).save_weights(path)
    for wrong in ({}, {"depth": 20}, {"depth": 14, "widths": (4, 6, 10)}):
        with pytest.raises(
            iplt.errors.WeightsError, match=r"m.weights.h5' does not fit 'cifar_resnet'"
        ):
            small("cifar_resnet", **wrong, weights=path)
    with pytest.raises(iplt.errors.WeightsError, match="does not fit 'lenet_300_100'"):
        zoo.lenet_300_100(weights=path)
    keras_mobilenet(include_top=False).save_weights(path)
    with pytest.raises(iplt.errors.WeightsError, match="does not fit 'mobilenet'"):
        small("mobilenet", weights=path)
    for name in ("noise.weights.h5", "noise.h5", "noise.keras"):
        (tmp_path / name).write_bytes(b"noise")
        with pytest.raises(iplt.errors.WeightsError, match=f"{name}' does not fit"):
            small("lenet_300_100", weights=tmp_path / name)
    with pytest.raises(iplt.errors.WeightsError, match="there is no file"):
        small("lenet_300_100", weights=tmp_path / "missing.weights.h5")
    with pytest.raises(iplt.errors.WeightsError, match="there is no file"):
        small("lenet_300_100", weights=tmp_path)
    (tmp_path / "m.npz").write_bytes(b"noise")
    with pytest.raises(
        iplt.errors.WeightsError, match=r"expected a .weights.h5, .h5 or .keras file"
    ):
        small("lenet_300_100", weights=tmp_path / "m.npz")
    with pytest.raises(iplt.errors.OptionError, match=r"expected None, 'imagenet' or a path.*: 3"):
        small("lenet_300_100", weights=3)


# -- what is refused -------------------------------------------------------------------------------


def test_unknown_names_are_answered_with_known_ones():
    for name, close in [
        ("lenet5", "lenet_5"), ("resnet-18", "resnet"), ("VGG", "vgg16"), ("mobilnet", "mobilenet"),
        ("xyz", "lenet_300_100"), (None, "lenet_5"), (["vgg16"], "vgg16"),
    ]:  # fmt: skip
        with pytest.raises(
            iplt.errors.OptionError, match=f"there is no network .*Close to it.*{close}"
        ):
            zoo.build(name)


def test_names_may_be_written_as_papers_do():
    assert zoo.build("LeNet-300-100").name == "lenet_300_100"
    assert zoo.build("VGG-Lite", (8, 8, 1)).name == "vgg_lite"


LEAST = {
    "lenet_5": 16, "lenet_5_1998": 12, "mnist_cnn": 4, "vgg16": 32, "vgg16_hubens": 32, "vgg19": 16,
    "vgg_lite": 8, "cifar_resnet": 4, "densenet40": 4, "googlenet": 32, "mobilenet": 32,
    "inception_v2": 32, "resnet50": 32, "inception_v3": 75,
}  # fmt: skip


def test_images_that_are_too_small_and_those_that_just_fit():
    for name, least in LEAST.items():
        for shape in ((least - 1, 100, 3), (100, least - 1, 3)):
            with pytest.raises(iplt.errors.OptionError, match=f"at least {least} x {least}"):
                zoo.build(name, shape)
        if name not in ("googlenet", "resnet50", "inception_v2", "inception_v3"):
            assert small(name, input_shape=(least, least, 3)).output_shape == (None, 3)


def test_what_is_no_shape():
    for shape in [32, "32", (32, 32), (32, 32, 0), (32.0, 32, 3), (32, 32, None), (True, 32, 3),
                  (1, 32, 32, 3), (-32, 32, 3), ("32", 32, 3)]:  # fmt: skip
        for name in ("resnet20", "mobilenet"):
            with pytest.raises(iplt.errors.OptionError, match="input_shape: expected "):
                zoo.build(name, shape)


WRONG = [
    ("resnet20", {"classes": 0}, "classes: expected a positive integer"),
    ("mobilenet", {"classes": 2.5}, "classes: expected a positive integer"),
    ("resnet20", {"short_cut": "A"}, "no option of resnet20 'short_cut'. Close to it: shortcut"),
    ("resnet20", {"shortcut": "C"}, "shortcut: expected 'A' or 'B'"),
    ("cifar_resnet", {"depth": 18}, "depth: expected 6n"),
    ("cifar_resnet", {"widths": (16, 8, 32)}, "widths: with shortcut='A'"),
    ("cifar_resnet", {"widths": 16}, "widths: expected 3 positive integers"),
    ("densenet40", {"depth": 41}, "depth: expected 3n"),
    ("vgg16", {"filters": [8] * 12}, "filters: expected 13 positive integers"),
    ("vgg16", {"filters": [8] * 12 + [0]}, "filters: expected 13 positive integers"),
    ("vgg16_hubens", {"units": 0}, "units: expected positive integers"),
    ("lenet_5", {"dropout": 1}, "dropout: expected a number in"),
    ("lenet_5", {"l2": -1}, "l2: expected a number of at least 0"),
    ("lenet_5", {"l2": "1"}, "l2: expected a number of at least 0"),
    ("lenet_5", {"l2": float("nan")}, "l2: expected a number of at least 0"),
    ("lenet_5", {"initializer": "pytorch"}, "initializer: expected 'torch'"),
    ("lenet_5", {"input_shape": (None, None, 1)}, "input_shape: expected"),
    ("lenet_5_1998", {"activation": "gelu"}, "activation: expected"),
    ("lenet_300_100", {"input_shape": (None, 28)}, "input_shape: expected"),
    ("mobilenet", {"alpha": 0}, "alpha: expected"),
    ("mobilenet", {"alpha": "1"}, "alpha: expected"),
    ("mobilenet", {"alpha": 0.3, "weights": "imagenet"}, "alpha: ImageNet has weights of"),
    ("mobilenet", {"hidden": 512}, "hidden: expected positive integers"),
    ("vgg16_imagenet", {"input_shape": (None, None, 3)}, "needs images of one size"),
]


def test_options_that_are_wrong():
    for name, options, words in WRONG:
        with pytest.raises(iplt.errors.OptionError, match=words):
            zoo.build(name, **options)


def test_channels_have_to_be_last():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(iplt.errors.OptionError, match="set_image_data_format"):
            zoo.resnet20()
    finally:
        keras.config.set_image_data_format("channels_last")
