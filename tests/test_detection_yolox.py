"""YOLOX: boxes without anchors, places that answer for boxes, weights of others, and pruning."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from keras_iplt_recipes import detection
from keras_iplt_recipes.detection.anchors import Cells, cell_boxes
from keras_iplt_recipes.detection.matching import VARIANCE
from keras_iplt_recipes.detection.onnx_weights import load_onnx
from keras_iplt_recipes.detection.overlap import overlaps
from support.detectors import SIZE, backbone, scenes
from support.law import check_law

import keras_iplt as iplt


def one_level(stride=8):
    """A small detector that says of one map what YOLOX says of three."""
    network = backbone(head=False)
    x = layers.Conv2D(5 + 2, 1, name="level0_ends")(network.output)
    x = layers.Reshape((-1, 5 + 2), name="level0_said")(x)
    x = Cells((SIZE, SIZE), (stride,), name="detections")(x)
    return keras.Model(network.inputs[0], x, name="one_level")


# -- boxes -----------------------------------------------------------------------------------------


@pytest.mark.quick
def test_what_is_said_in_cells_becomes_boxes():
    """The middle from the corner of the cell, the logarithms of the sides, all in cells."""
    model = one_level()
    said = np.random.default_rng(0).normal(size=(2, 16, 7)).astype("float32")
    columns, rows = np.meshgrid(np.arange(4), np.arange(4))
    corner = 8 * np.stack([columns, rows], axis=-1).reshape(16, 2)
    middle, half = corner + 8 * said[..., :2], 4 * np.exp(said[..., 2:4])
    expected = np.clip(np.concatenate([middle - half, middle + half], axis=-1), 0, SIZE)
    decoded = detection.with_boxes(model).get_layer("decoded")
    boxes, scores = map(ops.convert_to_numpy, decoded(model.get_layer("detections")(said)))
    np.testing.assert_allclose(boxes, expected, rtol=1e-4, atol=1e-4)
    sure = 1 / (1 + np.exp(-said[..., 4:]))
    np.testing.assert_allclose(scores, sure[..., :1] * sure[..., 1:], rtol=1e-5)


def surprise(probable, wanted):
    return -(wanted * np.log(probable) + (1 - wanted) * np.log(1 - probable))


def loss_one_by_one(truths, said, cells, side, radius=2.5):
    """The loss and its assignment in loops, of one image and cells of one size."""
    sure = 1 / (1 + np.exp(-said[:, 8:].astype(float)))
    change = said[:, 4:8] * np.array(VARIANCE)
    middle, half = cells + side * (change[:, :2] - 0.5), side / 2 * np.exp(change[:, 2:])
    boxes = np.concatenate([middle - half, middle + half], axis=1)
    shared = overlaps(boxes, truths[:, :4])
    cost = np.zeros(shared.shape)
    answers = np.zeros(shared.shape, bool)
    for column, (left, top, right, bottom, label) in enumerate(truths):
        wanted = np.eye(sure.shape[1] - 1)[int(label)]
        for row, (x, y) in enumerate(cells):
            joint = np.sqrt(sure[row, :1] * sure[row, 1:])
            cost[row, column] = surprise(joint, wanted).sum() - 3 * np.log(
                shared[row, column] + 1e-7
            )
            away = max(abs((left + right) / 2 - x), abs((top + bottom) / 2 - y))
            cost[row, column] += 1e5 * (not (left < x < right and top < y < bottom))
            cost[row, column] += 1e5 * (away >= radius * side)
        count = max(1, int(np.sort(shared[:, column])[-10:].sum()))
        answers[np.argsort(cost[:, column])[:count], column] = True
    total = surprise(sure[:, 0], answers.any(axis=1)).sum()
    for row in np.flatnonzero(answers.any(axis=1)):
        column = np.where(answers[row], cost[row], np.inf).argmin()
        wanted = np.eye(sure.shape[1] - 1)[int(truths[column, 4])] * shared[row, column]
        total += 5 * (1 - shared[row, column] ** 2) + surprise(sure[row, 1:], wanted).sum()
    return total, answers.any(axis=1).sum()


@pytest.mark.quick
@pytest.mark.any_backend
def test_the_loss_chooses_who_answers():
    """As many places as overlap, the cheapest in the middle of the box, each for one box."""
    random = np.random.default_rng(4)
    truths = np.full((6, 4, 5), -1, "float32")
    corner = random.uniform(0, 20, (5, 4, 2))
    truths[:5, :, :2], truths[:5, :, 2:4] = corner, corner + random.uniform(2, 16, (5, 4, 2))
    truths[:5, :, 4] = random.integers(0, 2, (5, 4))  # the last image shows nothing
    references = cell_boxes((SIZE, SIZE), (4,))
    said = random.normal(size=(6, 64, 4 + 4 + 3)).astype("float32")
    said[..., :4], said[..., 6:8] = references, said[..., 6:8] + 7
    sums = [loss_one_by_one(own[own[:, 4] >= 0], each, references[:, 2:], 4)
            for own, each in zip(truths, said, strict=True)]  # fmt: skip
    total, count = map(sum, zip(*sums, strict=True))
    assert count > 30 and sums[5][1] == 0
    loss = detection.ObjectnessLoss()
    assert float(loss(truths, said)) == pytest.approx(total / count, rel=1e-4)
    assert detection.ObjectnessLoss.from_config({**loss.get_config(), "radius": 1}).radius == 1


@pytest.mark.slow
def test_fit_trains_it():
    """It finds what it has not seen; pruned in the middle of it, too."""
    images, boxes = scenes(192)
    model = one_level()
    model.compile(keras.optimizers.Adam(0.005), detection.ObjectnessLoss())
    callback = iplt.IPLTCallback(0.3, 0.3, every=6, verbose=0)
    model.fit(images, boxes, batch_size=16, epochs=16, verbose=0, callbacks=[callback])
    other, there = scenes(40, 2)
    score = detection.average_precision(detection.found(model, other), there, 2)
    assert score.at_half > 0.8
    assert model.get_layer("conv3").filters < 32


# -- the network -----------------------------------------------------------------------------------


def test_masked_is_rewritten():
    """All convolutions lose half of their filters but those whose outputs are the detector's;
    boxes come out of the smaller one."""
    model = detection.yolox(2, (SIZE, SIZE, 3), 8)
    graph = iplt.trace(model)
    kinds = ("boxes", "objects", "classes")
    ends = {f"level{index}_{kind}" for index in range(3) for kind in kinds}
    assert {one.operation for one in graph.frozen} == ends
    plan = iplt.plan(graph, ratio=0.5, scope="layer")
    images = scenes(2)[0]
    _, _, small = check_law(model, plan=plan, inputs=[images])
    assert plan.fpr == 0.5 and small.output_shape == (None, 16 + 4 + 1, 9 + 2)
    assert small.get_layer("dark4_block2_pointwise").filters == 16
    assert iplt.profile(small).flops < 0.35 * iplt.profile(model).flops
    boxes = detection.with_boxes(small)(images)["boxes"]
    assert boxes.shape == (2, 21, 4)


@pytest.mark.quick
def test_what_it_is_not_built_of():
    for options, says in (
        ({"input_shape": (100, 96, 3)}, "multiples of 32"),
        ({"input_shape": (None, None, 3)}, "positive whole numbers"),
        ({"classes": 0}, "classes: expected a positive integer"),
    ):
        with pytest.raises(iplt.errors.OptionError, match=says):
            detection.yolox(**options)


# -- weights of others -----------------------------------------------------------------------------


def branches(classes=3):
    """A network with two branches that only their places tell apart."""
    image = keras.Input((8, 8, 2), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="stem")(image)
    one = layers.Conv2D(4, 1, name="one")(layers.DepthwiseConv2D(3, padding="same")(x))
    other = layers.Conv2D(4, 1, name="other")(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.Concatenate()([layers.Add()([one, x]), other])
    return keras.Model(image, layers.Conv2D(classes, 1, name="end")(x), name="branches")


def branches_in_a_file(path):
    """The same as an ONNX file, in which the other branch comes first; what it computes."""
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    random, nodes, numbers = np.random.default_rng(0), [], []

    def conv(before, after, shape, groups=1):
        for name, size in ((f"{after}.w", shape), (f"{after}.b", shape[:1])):
            value = random.normal(size=size).astype("float32")
            numbers.append(onnx.numpy_helper.from_array(value, name))
        nodes.append(onnx.helper.make_node(
            "Conv", [before, f"{after}.w", f"{after}.b"], [after], group=groups,
            kernel_shape=shape[2:], pads=[shape[2] // 2] * 4))  # fmt: skip

    conv("image", "x", (4, 2, 3, 3))
    for branch in "ba":
        conv("x", f"{branch}0", (4, 1, 3, 3), 4)
        conv(f"{branch}0", branch, (4, 4, 1, 1))
    nodes.append(onnx.helper.make_node("Add", ["a", "x"], ["sum"]))
    nodes.append(onnx.helper.make_node("Concat", ["sum", "b"], ["both"], axis=1))
    conv("both", "y", (3, 8, 1, 1))
    ends = [onnx.helper.make_tensor_value_info(name, 1, (1, count, 8, 8))
            for name, count in (("image", 2), ("y", 3))]  # fmt: skip
    graph = onnx.helper.make_graph(nodes, "branches", ends[:1], ends[1:], numbers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 15)])
    onnx.save(model, path)
    return lambda x: ReferenceEvaluator(path).run(None, {"image": x.transpose(0, 3, 1, 2)})[0]


@pytest.mark.quick
def test_weights_from_an_onnx_file(tmp_path):
    """Layers are told apart by where they stand, whatever they are called and listed."""
    path = str(tmp_path / "branches.onnx")
    computed, x = branches_in_a_file(path), np.random.default_rng(1).normal(size=(1, 8, 8, 2))
    model = load_onnx(branches(), path)
    expected = computed(x.astype("float32")).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
    other = branches(classes=5)
    before = other.get_layer("end").get_weights()[0]
    with pytest.raises(iplt.errors.WeightsError, match="'end' of 'branches', received"):
        load_onnx(other, path)
    assert (other.get_layer("stem").bias.numpy() == 0).all()
    load_onnx(other, path, fresh=("end",))
    assert (other.get_layer("end").get_weights()[0] == before).all()
    np.testing.assert_array_equal(other.get_layer("one").kernel, model.get_layer("one").kernel)
    with pytest.raises(
        iplt.errors.WeightsError, match="the 113 convolutions of 'yolox', received 6"
    ):
        detection.yolox(3, (32, 32, 3), weights=path)
    (tmp_path / "text.onnx").write_text("no network")
    for wrong in ("text.onnx", "nothing.onnx"):
        with pytest.raises(iplt.errors.WeightsError, match="expected an ONNX file, received"):
            load_onnx(other, tmp_path / wrong)
