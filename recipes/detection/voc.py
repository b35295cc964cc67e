"""Folders in the format of Pascal VOC: Annotations, JPEGImages and perhaps ImageSets/Main."""

import pathlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

import numpy as np

from keras_iplt.errors import DataError
from keras_iplt.support.files import read_text

from .annotated import Annotated, Annotations, Reports

__all__ = ["is_voc", "read_voc"]

_LISTS = {"train": ("train", "trainval"), "validation": ("val",), "test": ("test",)}
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")

Objects = list[tuple[str, list[float]]]  # what each is called, and its corners


def is_voc(path: pathlib.Path) -> bool:
    """Whether a folder has what VOC's have."""
    return (path / "Annotations").is_dir()


def read_voc(path: pathlib.Path, classes: Sequence[str] | None = None) -> Annotations:
    """Images with boxes.

    Args:
        path: has Annotations with an .xml for each image, JPEGImages, and perhaps ImageSets/Main
            with train.txt (or trainval.txt), val.txt and test.txt; without, all are for training.
        classes: the names in the order that labels follow; by default those that occur in what is
            trained on, sorted.
    """
    reports, read = Reports(), {}
    for part, names in _names(path).items():
        read[part] = [_read(path, name, reports) for name in names]
    if classes is None:
        classes = sorted({name for _, objects in read["train"] for name, _ in objects})
    parts = {
        part: [Annotated(_image(path, file), _labelled(file, objects, classes))
               for file, objects in examples]
        for part, examples in read.items()
    }  # fmt: skip
    return Annotations(parts, tuple(classes), reports)


def _names(path: pathlib.Path) -> dict[str, list[str]]:
    """The names of the images of each part."""
    lists, found = path / "ImageSets" / "Main", {}
    for part, stems in _LISTS.items():
        for stem in stems:
            if part not in found and (lists / f"{stem}.txt").is_file():
                lines = read_text(lists / f"{stem}.txt", DataError).splitlines()
                found[part] = [line.split()[0] for line in lines if line.strip()]
    if not found.get("train"):
        found = {"train": sorted(p.stem for p in (path / "Annotations").glob("*.xml"))}
    if not found["train"]:
        raise DataError(f"{path}/Annotations: expected an .xml for each image, received: none")
    return found


def _read(path: pathlib.Path, name: str, reports: Reports) -> tuple[pathlib.Path, Objects]:
    """The annotation file of an image, and what it says."""
    file = path / "Annotations" / f"{name}.xml"
    if "/" in name or "\\" in name or not file.is_file():
        raise DataError(f"{file}: expected an annotation for each image that is listed; not there")
    text = read_text(file, DataError)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # which can grow without end
        raise DataError(f"{file}: expected an annotation without entities of its own")
    try:
        found = [_object(node) for node in ElementTree.fromstring(text).iter("object")]
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(
            f"{file}: expected XML with an <object> for each box, <name> and <bndbox> in it: it is "
            f"cut off or something else: {error}"
        ) from error
    easy = [(label, box) for label, box, difficult in found if not difficult]
    reports.add("that are called difficult are left out", len(found) - len(easy), file)
    return file, easy


def _object(node: ElementTree.Element) -> tuple[str, list[float], bool]:
    """What an object is called, its corners, and whether it is difficult."""
    name, box = node.findtext("name", "").strip(), node.find("bndbox")
    if not name or box is None:
        raise ValueError(f"an object has no {'bndbox' if name else 'name'}")
    corners = [float(box.findtext(corner, "nothing")) for corner in _CORNERS]
    return name, corners, node.findtext("difficult", "0").strip() == "1"


def _labelled(file: pathlib.Path, objects: Objects, classes: Sequence[str]) -> np.ndarray:
    for name, _ in objects:
        if name not in classes:
            raise DataError(
                f"{file}: expected one of the classes {', '.join(classes)}, received: {name!r}"
            )
    rows = [[*corners, classes.index(name)] for name, corners in objects]
    return np.array(rows, float).reshape(-1, 5)


def _image(path: pathlib.Path, annotation: pathlib.Path) -> pathlib.Path:
    for suffix in (*_SUFFIXES, *map(str.upper, _SUFFIXES)):
        file = path / "JPEGImages" / f"{annotation.stem}{suffix}"
        if file.is_file():
            return file
    raise DataError(f"{annotation}: its image is not in {path}/JPEGImages")
