"""Faster R-CNN: proposals, what a map shows in them, and two stages that `fit` trains."""

import keras
import numpy as np
import pytest
from keras import ops
from keras_iplt_recipes import detection
from keras_iplt_recipes.detection.overlap import overlaps, without_duplicates
from keras_iplt_recipes.detection.regions import Proposals, RegionAlign, distinct
from support.detectors import SIZE, backbone, scenes

import keras_iplt as iplt


def small(**options):
    options = {"stride": 8, "proposals": 16, "width": 16, "hidden": (32,), "scales": 2,
               "smallest": 0.3, "size": 4, **options}  # fmt: skip
    return detection.faster_rcnn(backbone(), 2, **options)


def random_boxes(random, count, size=SIZE):
    corner = random.uniform(0, size * 0.7, (count, 2))
    return np.concatenate([corner, corner + random.uniform(3, size * 0.4, (count, 2))], axis=1)


@pytest.mark.quick
@pytest.mark.any_backend
def test_distinct_boxes_are_those_without_duplicates():
    random = np.random.default_rng(0)
    boxes = np.stack([random_boxes(random, 40) for _ in range(5)]).astype("float32")
    left = ops.convert_to_numpy(distinct(ops.convert_to_tensor(boxes), 0.4))
    for own, one in zip(boxes, left, strict=True):
        expected = without_duplicates(own, -np.arange(40.0), np.zeros(40), 0.4, 40)
        assert np.flatnonzero(one).tolist() == sorted(expected) and 5 < len(expected) < 35


@pytest.mark.quick
@pytest.mark.any_backend
def test_proposals_are_always_as_many():
    """The best ones first, none that overlaps with a better one as long as there are others."""
    random = np.random.default_rng(1)
    boxes = random_boxes(random, 60)[None]
    scores = random.normal(size=(1, 60, 1))
    said = np.concatenate([boxes, np.zeros((1, 60, 5)), scores], axis=2).astype("float32")
    layer = Proposals((SIZE, SIZE), 8, overlap=0.3, looked_at=8)
    found = ops.convert_to_numpy(layer(said))[0]
    clipped = np.minimum(boxes[0], SIZE)
    expected = without_duplicates(clipped, scores[0, :, 0], np.zeros(60), 0.3, 8)
    np.testing.assert_allclose(found, clipped[expected], rtol=1e-4)
    same = np.tile(said[:, :1], (1, 60, 1))
    assert ops.convert_to_numpy(layer(same)).shape == (1, 8, 4)
    assert Proposals.from_config(layer.get_config()).looked_at == 8


def seen_point_by_point(image, box, frame, size, samples):
    """RoI align by its definition."""
    rows, columns, channels = image.shape
    result = np.zeros((size, size, channels))
    for part_y, part_x in np.ndindex(size, size):
        for sub_y, sub_x in np.ndindex(samples, samples):
            share = [(part + (sub + 0.5) / samples) / size
                     for part, sub in ((part_x, sub_x), (part_y, sub_y))]  # fmt: skip
            x = (box[0] + share[0] * (box[2] - box[0])) * columns / frame[1] - 0.5
            y = (box[1] + share[1] * (box[3] - box[1])) * rows / frame[0] - 0.5
            x, y = np.clip(x, 0, columns - 1), np.clip(y, 0, rows - 1)
            left, top = min(int(x), columns - 2), min(int(y), rows - 2)
            for row in (top, top + 1):
                for column in (left, left + 1):
                    weight = (1 - abs(y - row)) * (1 - abs(x - column))
                    result[part_y, part_x] += weight * image[row, column] / samples**2
    return result


@pytest.mark.quick
@pytest.mark.any_backend
def test_what_a_map_shows_in_a_box():
    random = np.random.default_rng(2)
    maps = random.normal(size=(2, 5, 8, 3)).astype("float32")
    boxes = np.stack([random_boxes(random, 4) for _ in range(2)]).astype("float32")
    boxes[0, 0] = [0, 0, 32, 20]  # all of it
    found = ops.convert_to_numpy(RegionAlign((20, 32), 3, 2)(maps, boxes))
    assert found.shape == (2, 4, 3, 3, 3)
    for image, box in np.ndindex(2, 4):
        expected = seen_point_by_point(maps[image], boxes[image, box], (20, 32), 3, 2)
        np.testing.assert_allclose(found[image, box], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.quick
def test_two_stages():
    """What is said of anchors, and of proposals; the loss is that of both."""
    model = small()
    assert model.output_shape == (None, 2 * 16 * 4 + 16, 4 + 4 + 3)
    images, boxes = scenes(3)
    said = ops.convert_to_numpy(model(images))
    assert (said[:, :-16, 10:] == 0).all()
    both = float(detection.TwoStageLoss(16)(boxes, said))
    first = float(detection.DetectionLoss(objects=True)(boxes, said[:, :-16, :10]))
    second = float(detection.DetectionLoss(every=False)(boxes, said[:, -16:]))
    assert both == pytest.approx(first + second, rel=1e-5) and second > 0
    found = detection.with_boxes(model)(images)
    assert found["boxes"].shape == (3, 16, 4) and found["scores"].shape == (3, 16, 2)
    within = overlaps(ops.convert_to_numpy(found["boxes"])[0], np.array([[0, 0, SIZE, SIZE]]))
    assert within.min() > 0
    with pytest.raises(iplt.errors.OptionError, match="proposals: expected a positive integer"):
        small(proposals=0)


@pytest.mark.slow
@pytest.mark.any_backend
def test_fit_trains_it(tmp_path):
    """It finds what it has not seen, and is the same from a file."""
    images, boxes = scenes(96)
    model = small()
    model.compile(keras.optimizers.Adam(0.01), detection.TwoStageLoss(16))
    logs = model.fit(images, boxes, batch_size=16, epochs=12, verbose=0).history
    assert logs["loss"][-1] < logs["loss"][0] / 2
    other, there = scenes(40, 2)
    score = detection.average_precision(detection.found(model, other), there, 2)
    assert score.at_half > 0.35
    model.save(tmp_path / "two.keras")
    loaded = keras.models.load_model(tmp_path / "two.keras")
    assert loaded.loss.proposals == 16
    np.testing.assert_allclose(
        loaded.predict(other, verbose=0), model.predict(other, verbose=0), rtol=1e-3, atol=1e-3
    )
