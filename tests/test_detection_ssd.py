"""SSD: anchors and boxes matched, hard negatives, a model that `fit` trains, boxes out of it."""

import keras
import numpy as np
import pytest
from keras import ops
from keras_iplt_recipes import detection, zoo
from keras_iplt_recipes.detection.anchors import anchor_boxes
from keras_iplt_recipes.detection.features import feature_maps
from keras_iplt_recipes.detection.matching import changed, changes, matched
from keras_iplt_recipes.detection.overlap import overlaps
from support.detectors import SIZE, backbone, scenes

import keras_iplt as iplt


def small(**options):
    options = {"strides": (4, 8), "extra": 1, "extra_filters": 16, "smallest": 0.3, **options}
    return detection.ssd(backbone(), 2, **options)


def random_boxes(random, count, size=SIZE):
    corner = random.uniform(0, size * 0.7, (count, 2))
    return np.concatenate([corner, corner + random.uniform(3, size * 0.4, (count, 2))], axis=1)


# -- anchors, matching, loss -----------------------------------------------------------------------


@pytest.mark.quick
def test_anchors():
    """At the middle of each place, of the asked for size and shape, whatever the frame."""
    boxes = anchor_boxes((20, 40), [(2, 4), (1, 1)], [0.2, 0.8, 1.0], [1.0, 4.0])
    assert boxes.shape == (2 * 4 * 3 + 3, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_allclose(sides[:3], [[4, 4], [8, 2], [8, 8]], rtol=1e-6)
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2
    np.testing.assert_allclose(centres[:24:3, 0], [5, 15, 25, 35] * 2, atol=1e-5)
    np.testing.assert_allclose(centres[:24:3, 1], [5] * 4 + [15] * 4, atol=1e-5)
    np.testing.assert_allclose(centres[24:], [[20, 10]] * 3, atol=1e-5)


def matched_one_by_one(references, truths, least, every):
    """The same as `matched`, in loops."""
    real = truths[truths[:, 4] >= 0]
    labels, boxes = np.zeros(len(references), int), np.zeros((len(references), 4))
    shared = overlaps(references, real[:, :4])
    for row, own in enumerate(shared):
        if len(real) and own.max() >= least:
            labels[row], boxes[row] = real[own.argmax(), 4] + 1, real[own.argmax(), :4]
    for column in range(len(real) if every else 0):
        row = shared[:, column].argmax()
        labels[row], boxes[row] = real[column, 4] + 1, real[column, :4]
    return boxes, labels


@pytest.mark.quick
@pytest.mark.any_backend
@pytest.mark.parametrize("every", [True, False])
def test_boxes_are_matched(every):
    random = np.random.default_rng(3)
    references = np.stack([random_boxes(random, 60) for _ in range(6)]).astype("float32")
    truths = np.full((6, 4, 5), -1, "float32")
    for index in range(6):  # the first image shows nothing
        truths[index, :index, :4] = random_boxes(random, min(index, 4))[:4].astype("float32")
        truths[index, :index, 4] = random.integers(0, 3, min(index, 4))
    found = matched(ops.convert_to_tensor(references), ops.convert_to_tensor(truths), 0.5, every)
    boxes, labels = map(ops.convert_to_numpy, found)
    for index in range(6):
        real, classes = matched_one_by_one(references[index], truths[index], 0.5, every)
        assert labels[index].tolist() == classes.tolist()
        own = classes > 0
        np.testing.assert_allclose(boxes[index][own], real[own])
    assert (labels[0] == 0).all() and (labels[5] > 0).sum() >= (4 if every else 1)


@pytest.mark.quick
@pytest.mark.any_backend
def test_changes_lead_to_the_boxes():
    random = np.random.default_rng(0)
    references, boxes = (random_boxes(random, 30)[None].astype("float32") for _ in range(2))
    there = changed(references, changes(references, boxes))
    np.testing.assert_allclose(ops.convert_to_numpy(there), boxes, rtol=1e-4, atol=1e-3)


@pytest.mark.quick
@pytest.mark.any_backend
def test_the_loss_is_that_of_the_paper():
    """Log losses of what stands for a box and of three times as many of the hardest others, and
    smooth distances of the former, over their number."""
    random = np.random.default_rng(1)
    truths = np.full((2, 3, 5), -1, "float32")
    truths[0, :2] = np.concatenate([random_boxes(random, 2), [[1], [0]]], axis=1)
    references = np.stack([random_boxes(random, 50) for _ in range(2)])
    said = np.concatenate([references, random.normal(size=(2, 50, 4 + 3))], 2).astype("float32")
    found = float(detection.DetectionLoss()(truths, said))
    total, count = 0.0, 0
    for image in range(2):
        boxes, labels = matched_one_by_one(references[image], truths[image], 0.5, True)
        wanted = ops.convert_to_numpy(changes(references[image], boxes))
        logits = said[image, :, 8:].astype(float)
        surprise = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(50), labels]
        own = labels > 0
        distance = np.abs(wanted - said[image, :, 4:8])[own]
        smooth = np.where(distance < 1, distance**2 / 2, distance - 0.5).sum()
        hardest = np.sort(surprise[~own])[::-1][: 3 * max(1, own.sum())].sum()
        total, count = total + smooth + surprise[own].sum() + hardest, count + own.sum()
    assert found == pytest.approx(total / count, rel=1e-4)
    config = detection.DetectionLoss(negatives=2, objects=True).get_config()
    assert detection.DetectionLoss.from_config(config).negatives == 2


# -- the network -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.any_backend
def test_fit_trains_it(tmp_path):
    """With ordinary callbacks; it then finds what it has not seen; and is the same from a file."""
    images, boxes = scenes(96)
    model = small()
    model.compile(keras.optimizers.Adam(0.02), detection.DetectionLoss())
    stop = keras.callbacks.EarlyStopping("loss", patience=50, restore_best_weights=True)
    logs = model.fit(images, boxes, batch_size=16, epochs=5, verbose=0, callbacks=[stop]).history
    assert logs["loss"][-1] < logs["loss"][0] / 2
    other, there = scenes(40, 2)
    score = detection.average_precision(detection.found(model, other), there, 2)
    assert score.at_half > 0.8 and score.strict > 0.3
    model.save(tmp_path / "ssd.keras")
    loaded = keras.models.load_model(tmp_path / "ssd.keras")
    np.testing.assert_allclose(
        loaded.predict(other, verbose=0), model.predict(other, verbose=0), atol=1e-4
    )
    assert loaded.evaluate(other, there, verbose=0) == pytest.approx(
        model.evaluate(other, there, verbose=0), rel=1e-4
    )


@pytest.mark.quick
def test_boxes_come_out_best_first():
    """In the frame, once each, with a score that is high enough."""
    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [20, 20, 30, 30]], float)
    scores = np.array([[0.6, 0.3], [0.7, 0.01], [0.02, 0.2]])
    assert detection.chosen(boxes, scores).round(2).tolist() == [
        [1, 0, 10, 10, 0, 0.7], [0, 0, 10, 10, 1, 0.3], [20, 20, 30, 30, 1, 0.2]
    ]  # fmt: skip
    assert len(detection.chosen(boxes, scores, least=0.5, overlap=0.95)) == 2
    assert detection.chosen(boxes, scores, least=0.9).shape == (0, 6)
    model = small()
    said = detection.with_boxes(model).predict(scenes(2)[0], verbose=0)
    assert said["boxes"].min() >= 0 and said["boxes"].max() <= SIZE
    assert said["scores"].shape == (2, model.output_shape[1], 2)


@pytest.mark.quick
def test_heads_of_their_own_and_a_shared_one():
    """Of the same anchors; a shared head has the same weights on all maps of the pyramid."""
    own, shared = small(), small(shared=12)
    assert own.output_shape == shared.output_shape == (None, (64 + 16 + 4) * 4, 4 + 4 + 3)
    names = [layer.name for layer in own.layers]
    assert {"level0_boxes", "level1_classes", "level2_boxes", "extra1"} <= set(names)
    assert not {"head", "pool"} & set(names)
    names = [layer.name for layer in shared.layers]
    assert names.count("shared_boxes") == 1 and "lateral2" in names
    assert len(shared.get_layer("shared_tower0")._inbound_nodes) == 3


@pytest.mark.slow
def test_any_backbone():
    """Of keras.applications, the last map of each stride; and the zoo's."""
    shape = (96, 96, 3)
    for name, ends in {
        "MobileNetV2": ("block_6_expand_relu", "block_13_expand_relu", "out_relu"),
        "ResNet50": ("conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
        "EfficientNetB0": ("block4a_expand_activation", "block6a_expand_activation",
                           "top_activation"),
        "DenseNet121": ("pool3_conv", "pool4_conv", "relu"),
    }.items():  # fmt: skip
        made = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=shape)
        maps = feature_maps(made, (8, 16, 32))
        assert [tuple(x.shape[1:3]) for x in maps] == [(12, 12), (6, 6), (3, 3)], name
        found = [next(x.name for x in made.layers if x.output is y) for y in maps]
        assert tuple(found) == ends, found
    for name in ("inception_v2", "mobilenet"):
        model = detection.ssd(zoo.build(name, shape, 10), 20)
        assert model.output_shape == (None, (144 + 36 + 9 + 4 + 1) * 4, 29), name


@pytest.mark.quick
def test_what_is_no_backbone():
    for other, kind, says in (
        (zoo.resnet20(10, (None, None, 3)), iplt.errors.ModelError, "of a known size"),
        (keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]),
         iplt.errors.ModelError, "images of a known size"),
        (zoo.resnet20(10, (32, 32, 3)), iplt.errors.OptionError, "nothing near a stride of 8 "),
    ):  # fmt: skip
        with pytest.raises(kind, match=says):
            detection.ssd(other, 3)
    with pytest.raises(iplt.errors.OptionError, match="classes: expected a positive integer"):
        detection.ssd(backbone(), 0)
    with pytest.raises(iplt.errors.OptionError, match="strides of different maps"):
        small(strides=(8, 9))


@pytest.mark.quick
def test_a_detector_of_other_classes_or_images_is_refused():
    digits = detection.load("digits", size=SIZE, take={"train": 16, "test": 4})
    with pytest.raises(iplt.errors.OptionError, match=r"of the 10 classes of digits, .* of 2"):
        detection.evaluated(small(), digits)
    model = detection.ssd(backbone(64), 10, strides=(4, 8), extra=0)
    with pytest.raises(iplt.errors.OptionError, match=r"images of \(32, 32\) as digits"):
        detection.evaluated(model, digits)
