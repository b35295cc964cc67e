"""Mean average precision: as pycocotools measures it, and where that is plain to see."""

import contextlib
import io

import numpy as np
import pytest
from keras_iplt_recipes.detection import average_precision
from keras_iplt_recipes.detection.overlap import overlaps, without_duplicates

pytestmark = pytest.mark.quick


def boxes(random, count, size=60):
    corner = random.uniform(0, size, (count, 2))
    return np.concatenate([corner, corner + random.uniform(1, size, (count, 2))], axis=1)


def scene(seed, classes=4, images=12):
    """Boxes that are there, some of them twice, and what was found: near them, or anywhere."""
    random = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(images):
        real = np.concatenate(
            [boxes(random, n := random.integers(0, 7)), random.integers(0, classes - 1, (n, 1))], 1
        )
        if len(real) > 3:
            real[0] = real[1]
        near = np.repeat(real, 3, axis=0)
        near[:, :4] += random.normal(0, 4, (len(near), 4))
        near = near[(near[:, 2:4] > near[:, :2]).all(axis=1)]
        other = np.concatenate([boxes(random, 5), random.integers(0, classes, (5, 1))], axis=1)
        own = np.concatenate([near, other])
        scores = np.round(random.uniform(0, 1, (len(own), 1)), 1)  # equal ones among them
        truths.append(real)
        found.append(np.concatenate([own, scores], axis=1))
    return found, truths, classes


def by_pycocotools(found, truths, classes):
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")

    def rows(images):
        for image, own in enumerate(images):
            for left, top, right, bottom, label, *score in own.tolist():
                box = [left, top, right - left, bottom - top]
                row = {"image_id": image, "category_id": int(label), "bbox": box, "iscrowd": 0}
                yield row | {"area": box[2] * box[3], **dict(zip(["score"], score, strict=False))}

    with contextlib.redirect_stdout(io.StringIO()):
        there = coco.COCO()
        there.dataset = {
            "images": [{"id": i} for i in range(len(truths))], "info": {},
            "categories": [{"id": i} for i in range(classes)],
            "annotations": [{"id": i + 1, **row} for i, row in enumerate(rows(truths))],
        }  # fmt: skip
        there.createIndex()
        judge = evaluation.COCOeval(there, there.loadRes(list(rows(found))), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    table = judge.eval["precision"][:, :, :, 0, 2].mean(axis=1).T  # classes, thresholds
    return np.where(table < 0, np.nan, table), judge.stats


@pytest.mark.parametrize("seed", range(6))
def test_it_is_what_pycocotools_measures(seed):
    """On random boxes, equal scores, equal boxes and classes that are not there among them."""
    found, truths, classes = scene(seed)
    table, (strict, half, *_) = by_pycocotools(found, truths, classes)
    score = average_precision(found, truths, classes)
    np.testing.assert_allclose(score.table, table, atol=1e-9)
    assert np.isnan(score.table[-1]).all() and 0.05 < half < 0.95
    assert score.at_half == pytest.approx(half) and score.strict == pytest.approx(strict)


def test_what_is_found_counts_as_far_as_it_overlaps():
    """A box that covers 0.72 of what is there is found at five of the ten thresholds."""
    there = [np.array([[0.0, 0, 10, 10, 0], [0, 0, 0, 0, -1]])]
    seen = np.array([[0.0, 0, 10, 7.2, 0, 0.5]])
    score = average_precision([seen], there, 2)
    assert (score.at_half, score.strict) == (1.0, pytest.approx(0.5))
    twice = np.concatenate([seen, seen + [0, 0, 0, 0, 0, 0.1]])
    assert average_precision([twice], there, 2).at_half == 1.0  # found before the second
    wrong = np.array([[50.0, 50, 60, 60, 0, 0.9]])
    assert average_precision([np.concatenate([seen, wrong])], there, 2).at_half == 0.5
    nothing = np.zeros((0, 6))
    assert average_precision([nothing], there, 2).at_half == 0.0
    assert average_precision([seen], [np.zeros((0, 5))], 2).at_half == 0.0


def test_duplicates_go_within_a_class():
    random = np.random.default_rng(0)
    own, labels, scores = boxes(random, 40), random.integers(0, 2, 40), random.uniform(size=40)
    left = without_duplicates(own, scores, labels, 0.3, 40)
    assert (np.diff(scores[left]) < 0).all() and 2 < len(left) < 40
    same = labels[left][:, None] == labels[left]
    np.fill_diagonal(same, False)
    assert overlaps(own[left], own[left])[same].max() <= 0.3
    for gone in np.setdiff1d(np.arange(40), left):
        before = left[(scores[left] > scores[gone]) & (labels[left] == labels[gone])]
        assert overlaps(own[[gone]], own[before]).max() > 0.3
    assert len(without_duplicates(own, scores, labels, 0.3, 3)) == 3
