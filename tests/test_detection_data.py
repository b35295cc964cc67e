"""Images with boxes: made up, from folders of VOC and COCO, and from TensorFlow Datasets."""

import json
import sys

import keras
import numpy as np
import pytest
from keras_iplt_recipes import detection
from keras_iplt_recipes.data.source import Source
from keras_iplt_recipes.detection import loader
from keras_iplt_recipes.detection.batches import BoxedStream, flipped_boxes, moved_boxes

import keras_iplt as iplt

DataError, OptionError = iplt.errors.DataError, iplt.errors.OptionError
SMALL = {"size": 48, "take": {"train": 40, "validation": 8, "test": 12}, "batch_size": 8}


def message(kind, *arguments, **options):
    with pytest.raises(kind) as caught:
        detection.load(*arguments, **options)
    return str(caught.value)


def pictures(count=8, rows=30, columns=40):
    """Grey images with a bright rectangle or two each, and their boxes, the first of class 0."""
    random, found = np.random.default_rng(0), []
    for index in range(count):
        image, boxes = np.full((rows, columns, 3), 60, "uint8"), []
        for label in range(1 + index % 2):
            left, top = random.integers(0, columns - 12), random.integers(0, rows - 10)
            image[top : top + 10, left : left + 12] = 200 + 20 * label
            boxes.append([left, top, left + 12, top + 10, label])
        found.append((image, np.array(boxes, float)))
    return found


def write_image(path, image):
    import tensorflow as tf

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tf.io.encode_png(image).numpy())


def write_voc(path, names=("cell", "dot"), lists=True):
    """A folder of VOC; returns a function that writes one annotation anew, of other objects."""

    def annotate(index, objects):
        rows = "".join(
            f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x}</xmin>"
            f"<ymin>{y}</ymin><xmax>{X}</xmax><ymax>{Y}</ymax></bndbox></object>"
            for name, difficult, (x, y, X, Y) in objects
        )
        file = path / "Annotations" / f"{index:03}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"<annotation><filename>x</filename>{rows}</annotation>")

    for index, (image, boxes) in enumerate(pictures()):
        write_image(path / "JPEGImages" / f"{index:03}.png", image)
        annotate(index, [(names[int(label)], 0, box) for *box, label in boxes.tolist()])
    if lists:
        folder = path / "ImageSets" / "Main"
        folder.mkdir(parents=True)
        for part, own in (("train", range(5)), ("val", [5]), ("test", [6, 7])):
            (folder / f"{part}.txt").write_text("".join(f"{i:03}\n" for i in own))
    return annotate


def write_coco(path):
    for part, own in (("train", range(5)), ("val", range(5, 8))):
        content = {"images": [], "annotations": [],
                   "categories": [{"id": 7, "name": "dot"}, {"id": 3, "name": "cell"}]}  # fmt: skip
        for index in own:
            image, boxes = pictures()[index]
            write_image(path / f"{part}2017" / f"{index}.png", image)
            content["images"].append({"id": 10 + index, "file_name": f"{index}.png"})
            content["annotations"] += [
                {"image_id": 10 + index, "category_id": [3, 7][int(label)], "iscrowd": 0,
                 "bbox": [x, y, X - x, Y - y]} for x, y, X, Y, label in boxes.tolist()
            ]  # fmt: skip
        (path / "annotations").mkdir(exist_ok=True)
        (path / "annotations" / f"instances_{part}2017.json").write_text(json.dumps(content))
    (path / "annotations" / "captions_train2017.json").write_text("{}")
    return path


def bright(image, box):
    """The share of pixels in a box that are brighter than what is behind."""
    left, top, right, bottom = (round(float(v)) for v in box[:4])
    return (image[top:bottom, left:right].max(axis=-1) > 0.5).mean()


def check_shows(images, boxes, share=0.9):
    """Where there are boxes there is something bright, and nowhere else."""
    seen = 0
    for image, own in zip(images, boxes, strict=True):
        there = own[own[:, 4] >= 0]
        assert all(bright(image, box) > share for box in there)
        area = sum(np.prod(box[2:4] - box[:2]) for box in there)
        assert (image.max(axis=-1) > 0.5).sum() <= area * 1.4 + 30
        seen += len(there)
    return seen


# -- made up ---------------------------------------------------------------------------------------


@pytest.mark.quick
@pytest.mark.any_backend
def test_digits_on_canvases():
    """As many as asked for, the same ones each time, in frames of the size asked for."""
    digits = detection.load("digits", scaling=None, **SMALL)
    assert digits.counts == {"train": 40, "validation": 8, "test": 12}
    assert digits.input_shape == (48, 48, 3) and len(digits.classes) == 10
    images, boxes = digits.arrays()
    assert images.shape == (40, 48, 48, 3) and boxes.shape == (40, 4, 5)
    labels = boxes[..., 4]
    assert set(np.unique(labels)) == set(range(-1, 10))
    there = boxes[labels >= 0]
    assert (there[:, 2] - there[:, 0] >= 9).all() and there[:, :4].max() <= 48
    for image, own in zip(images, boxes, strict=True):
        for left, top, right, bottom, label in own.astype(int):
            assert label < 0 or np.ptp(image[top:bottom, left:right], axis=(0, 1)).max() > 40
    again = detection.load("digits", scaling=None, **SMALL)
    np.testing.assert_array_equal(again.arrays("test")[1], digits.arrays("test")[1])
    first, second = (np.concatenate([y for _, y in digits.train]) for _ in range(2))
    np.testing.assert_array_equal(np.sort(first, axis=0), np.sort(second, axis=0))
    with pytest.raises(OptionError, match=r"from 1 .* to 40 examples, received: 99"):
        digits.arrays("train", take=99)


@pytest.mark.quick
def test_boxes_go_with_their_images(tmp_path):
    """Mirrored and moved; those of which too little is left become padding."""
    write_voc(tmp_path)
    options = dict(size=(40, 44), batch_size=5, augment="crop_flip")
    moving = detection.load(tmp_path, **options).train
    seen, places = 0, set()
    for epoch in range(6):
        moving.epoch = epoch
        images, boxes = moving[0]
        seen += check_shows(images, boxes, 0.8)
        places |= {tuple(box) for own in boxes for box in own[own[:, 4] >= 0].round().tolist()}
    assert 30 < seen <= 6 * 7 and len(places) > 20
    box = np.array([[[0.0, 0, 8, 8, 1], [10, 10, 14, 14, 2], [0, 0, 0, 0, -1]]])
    moved = moved_boxes(box, np.array([[-7, -7]]), (20, 20))
    assert moved.tolist() == [[[0, 0, 0, 0, -1], [3, 3, 7, 7, 2], [0, 0, 0, 0, -1]]]
    np.testing.assert_array_equal(flipped_boxes(flipped_boxes(box, 20), 20), box)


@pytest.mark.quick
def test_what_boxes_show_can_be_cut_out(tmp_path):
    """An image for each box, as large as the images were, with its class: for classifiers."""
    write_voc(tmp_path)
    boxed = detection.load(tmp_path, size=(30, 40), batch_size=2, augment=None, scaling=None)
    cut = detection.cutouts(boxed)
    assert cut.counts == {"train": 7, "validation": 2, "test": 3}
    images, labels = cut.arrays()
    assert images.shape == (7, 30, 40, 3) and labels.tolist() == [0, 0, 1, 0, 0, 1, 0]
    assert (images[labels == 1].mean(axis=(1, 2, 3)) > 215).all()
    assert (images[labels == 0].mean(axis=(1, 2, 3)) > 180).all()


# -- folders ---------------------------------------------------------------------------------------


@pytest.mark.quick
@pytest.mark.any_backend
def test_voc(tmp_path):
    """Images keep their aspect, boxes their place; parts are those of the lists."""
    write_voc(tmp_path / "blood")
    loaded = detection.load(tmp_path / "blood", size=(40, 60), batch_size=2, augment=None)
    assert loaded.classes == ("cell", "dot") and loaded.name == "blood"
    assert loaded.counts == {"train": 5, "validation": 1, "test": 2}
    images, boxes = loaded.arrays()
    assert boxes.shape == (5, 2, 5) and check_shows(images, boxes) == 7
    assert (images[:, :, 54:] == 0).all() and images[:, :, :53].min() > 0.1  # 40 / 30 of 40
    original = np.concatenate([boxes for _, boxes in pictures()[:5]])
    np.testing.assert_allclose(boxes[boxes[..., 4] >= 0][:, :4], original[:, :4] * 4 / 3, atol=0.3)
    assert loaded.handling.augment is None
    (tmp_path / "blood" / "ImageSets" / "Main" / "train.txt").unlink()
    assert detection.load(tmp_path / "blood", size=40, batch_size=2).counts["train"] == 5
    ordered = detection.load(tmp_path / "blood", size=40, batch_size=2, classes=["dot", "cell"])
    assert ordered.classes == ("dot", "cell") and ordered.arrays("test")[1][0, 0, 4] == 1


@pytest.mark.quick
def test_voc_that_is_wrong(tmp_path):
    """Named: the file, and what is wrong with it."""
    annotate = write_voc(tmp_path)
    options = dict(size=32, batch_size=2)
    good = [("cell", 0, (1, 2, 10, 12))]
    annotate(6, [("whale", 0, (1, 1, 5, 5))])
    assert "006.xml: expected one of the classes cell, dot, received: 'whale'" in message(
        DataError, tmp_path, **options
    )
    annotate(6, good)
    assert "received: 'cell'" in message(DataError, tmp_path, classes=["dot", "cat"], **options)
    annotate(0, [("cell", 0, ("nan", 1, 5, 5))])
    assert "000.png: expected boxes of finite numbers" in message(DataError, tmp_path, **options)
    annotate(0, [("cell", 0, ("one", 1, 5, 5))])
    assert "000.xml: expected XML" in message(DataError, tmp_path, **options)
    file = tmp_path / "Annotations" / "000.xml"
    file.write_text(file.read_text()[:40])
    assert "it is cut off or something else" in message(DataError, tmp_path, **options)
    file.write_text("<!DOCTYPE x [<!ENTITY a 'aa'>]><annotation>&a;</annotation>")
    assert "without entities of its own" in message(DataError, tmp_path, **options)
    annotate(0, [("cell", 0, (1, 1, 5, 5))] * 1001)
    assert "at most 1,000 boxes, received: 1,001" in message(DataError, tmp_path, **options)
    for index in range(5):
        annotate(index, [])
    assert "expected boxes in images to train on, received: none" in message(
        DataError, tmp_path, classes=["cell", "dot"], **options
    )
    file.unlink()
    assert "000.xml: expected an annotation for each image" in message(
        DataError, tmp_path, **options
    )
    annotate(0, good)
    (tmp_path / "JPEGImages" / "000.png").unlink()
    assert "000.xml: its image is not in" in message(DataError, tmp_path, **options)


@pytest.mark.quick
def test_boxes_that_are_not_taken_as_they_are_are_told_of(tmp_path):
    """Once, with how many and where; images without a box stay, as images of nothing."""
    annotate = write_voc(tmp_path)
    annotate(0, [("cell", 0, (-20, 2, 10, 12)), ("cell", 0, (50, 2, 60, 12)),
                 ("dot", 0, (9, 9, 9, 12)), ("dot", 1, (1, 1, 5, 5))])  # fmt: skip
    annotate(1, [])
    annotate(2, [("cell", 0, (30, 20, 41, 30)), ("dot", 1, (1, 1, 5, 5))])  # one pixel: a habit
    with pytest.warns(UserWarning, match="boxes") as caught:
        loaded = detection.load(tmp_path, size=(30, 40), batch_size=2, augment=None)
    (text,) = (str(warning.message) for warning in caught)
    for words in ("2 boxes that are called difficult are left out (first in", "000.xml",
                  "2 boxes without an area inside the image are left out",
                  "1 box that reach"):  # fmt: skip
        assert words in text, text
    boxes = loaded.arrays()[1]
    assert boxes[0].tolist() == [[0, 2, 10, 12, 0], [0, 0, 0, 0, -1]]
    assert (boxes[1, :, 4] == -1).all() and boxes[2, 0].tolist() == [30, 20, 40, 30, 0]


@pytest.mark.quick
@pytest.mark.any_backend
def test_coco(tmp_path):
    """Classes by their numbers in the file; the validation part is a part, test is split off."""
    loaded = detection.load(write_coco(tmp_path), size=(30, 40), batch_size=2, augment=None)
    assert loaded.classes == ("cell", "dot")
    assert loaded.counts == {"train": 4, "validation": 3, "test": 1}
    images, boxes = loaded.arrays("validation")
    assert check_shows(images, boxes) == 5
    expected = np.concatenate([own for _, own in pictures()[5:]])
    np.testing.assert_array_equal(boxes[boxes[..., 4] >= 0], expected)


@pytest.mark.quick
def test_coco_that_is_wrong(tmp_path):
    options = dict(size=32, batch_size=2)
    file = write_coco(tmp_path) / "annotations" / "instances_val2017.json"
    whole = file.read_text()
    for cut in (len(whole) // 2, 5, 0):
        file.write_text(whole[:cut])
        assert f"{file}: expected COCO's JSON; it is cut off" in message(
            DataError, tmp_path, **options
        )
    for change, says in (
        (lambda c: c.pop("images"), "lists of images, annotations, categories"),
        (lambda c: c["images"][0].pop("id"), "images: expected an id and a file_name"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2]), "annotations[1]: expected image_id"),
        (lambda c: c["annotations"][1].update(bbox="abcd"), "annotations[1]: expected image_id"),
        (lambda c: c["annotations"].append(3), "annotations[5]: expected image_id"),
        (lambda c: c["annotations"][0].update(category_id=4), "one of its categorys, received: 4"),
        (lambda c: c["annotations"][0].update(image_id=4), "one of its images, received: 4"),
        (lambda c: c["categories"].append({"id": 9, "name": "cat"}), "cell, dot, received: 'cat'"),
        (lambda c: c["images"][1].update(file_name="../x.png"), "'../x.png' is not in"),
        (lambda c: c["images"][0].update(file_name="none.png"), "'none.png' is in none of"),
        (lambda c: c["annotations"][0].update(bbox=[1, 1, float("nan"), 3]), "finite numbers"),
    ):
        content = json.loads(whole)
        change(content)
        file.write_text(json.dumps(content))
        assert says in message(DataError, tmp_path, **options)
    file.write_text(whole)
    content = json.loads(whole)
    content["annotations"][0]["iscrowd"] = 1
    file.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="1 box around crowds are left out"):
        assert (detection.load(tmp_path, **options).arrays("validation")[1][..., 4] >= 0).sum() == 4


@pytest.mark.quick
def test_what_is_no_set(tmp_path):
    for source, kind, says in (
        (tmp_path, DataError, "expected a folder of Pascal VOC"),
        (tmp_path / "none", DataError, "expected a folder; there is none"),
        (3, OptionError, "source: expected a name or a path"),
    ):
        assert says in message(kind, source)
    for options, says in (
        (dict(augment="zoom_flip"), "augment: expected 'usual', 'crop', 'flip', 'crop_flip'"),
        (dict(size=0), "size: expected a positive integer"),
        (dict(take=10**6), "take: train: expected from 1"),
        (dict(seed=-1), "seed: expected an integer from 0"),
    ):
        assert says in message(OptionError, "digits", **options)
    assert "at least one batch of 700" in message(DataError, "digits", batch_size=700)


@pytest.mark.quick
def test_names_without_tensorflow_datasets(monkeypatch):
    """What is missing is said of sets that are known; of others what there is."""
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert "pip install 'keras-iplt[data]'" in message(iplt.errors.MissingExtraError, "coco/2017")
    text = message(OptionError, "digit")
    assert "expected digits, coco, voc, another name" in text and "did you mean 'digits'?" in text


# -- TensorFlow Datasets ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.any_backend
def test_tensorflow_datasets(tmp_path):
    """Sets that are prepared are streamed, boxes through resizing and flips."""
    tfds = pytest.importorskip("tensorflow_datasets")
    import tensorflow as tf

    classes = tfds.features.ClassLabel(names=["cell", "dot"])
    features = tfds.features.FeaturesDict({
        "image": tfds.features.Image(encoding_format="png"),
        "objects": tfds.features.Sequence({
            "bbox": tfds.features.BBoxFeature(), "label": classes, "is_difficult": tf.bool,
        }),
    })  # fmt: skip

    def example(image, boxes):
        left, top, right, bottom, label = boxes.T
        corners = np.stack([top / 30, left / 40, bottom / 30, right / 40], axis=1)
        boxes = [tfds.features.BBox(*row) for row in corners.tolist()]
        return {"image": image, "objects": [
            {"bbox": box, "label": int(own), "is_difficult": False}
            for box, own in zip(boxes, label, strict=True)
        ]}  # fmt: skip

    examples = [example(*picture) for picture in pictures()]

    class TinyBoxes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Eight images."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {"train": self._generate_examples(0, 6), "test": self._generate_examples(6, 8)}

        def _generate_examples(self, start, stop):
            yield from enumerate(examples[start:stop])

    builder = TinyBoxes(data_dir=tmp_path)
    builder.download_and_prepare()
    loaded = detection.load(
        builder.name, data_dir=tmp_path, size=(45, 60), batch_size=3, validation=0
    )
    assert loaded.counts == {"train": 6, "test": 2} and loaded.classes == ("cell", "dot")
    images, boxes = loaded.arrays("test")
    assert boxes.shape == (2, 100, 5) and check_shows(images, boxes) == 3
    places = set()
    for _ in range(4):
        for images, boxes in loaded.train:
            images, boxes = keras.ops.convert_to_numpy(images), keras.ops.convert_to_numpy(boxes)
            check_shows(images, boxes, 0.8)
            places |= {tuple(box) for own in boxes for box in own[own[:, 4] >= 0].tolist()}
    assert 9 < len(places) <= 18  # each box, and mirrored


def test_streams_are_not_moved(monkeypatch):
    """It is said before anything is read."""
    part = BoxedStream(None, None, "train", (32, 32, 3), 0, 64)
    source = Source("coco/2017", {"train": part, "test": part}, ("a", "b"), "flip")
    monkeypatch.setattr(loader, "_found", lambda *_: source)
    with pytest.raises(OptionError, match=r"augment: expected .flip. or None.*.crop."):
        detection.load("coco/2017", augment="crop")
