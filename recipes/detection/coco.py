"""Folders in the format of COCO: files of JSON, and images beside them."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_iplt.errors import DataError

from .annotated import Annotated, Annotations, Reports

__all__ = ["is_coco", "read_coco"]

_LARGEST = 2**31  # bytes of JSON
_WORDS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}


def is_coco(path: pathlib.Path) -> bool:
    """Whether a folder has what COCO's have."""
    return bool(_files(path))


def read_coco(path: pathlib.Path, classes: Sequence[str] | None = None) -> Annotations:
    """Images with boxes.

    Args:
        path: has annotations/instances_train2017.json and train2017 (or images/train2017) with the
            images, and so for val and test; or train/_annotations.coco.json beside the images.
        classes: the names in the order that labels follow; by default all of the file that is
            trained on, by their numbers.
    """
    files, reports, parts = _files(path), Reports(), {}
    if "train" not in files:
        raise DataError(f"{path}: expected annotations to train on, received: "
                        f"{', '.join(str(file) for file in files.values())}")  # fmt: skip
    for part, file in sorted(files.items(), key=lambda item: item[0] != "train"):
        content = _content(file)
        names = _by_id(file, content, "categories", "name")
        if classes is None:
            classes = [names[number] for number in sorted(names)]
        for name in names.values():
            if name not in classes:
                raise DataError(
                    f"{file}: expected the classes {', '.join(classes)}, received: {name!r}"
                )
        labels = {number: list(classes).index(name) for number, name in names.items()}
        parts[part] = _examples(path, file, content, labels, reports)
    return Annotations(parts, tuple(classes or ()), reports)


def _files(path: pathlib.Path) -> dict[str, pathlib.Path]:
    """The file of each part that there is."""
    there = sorted(path.glob("annotations/instances_*.json")) or [
        *sorted(path.glob("annotations/*.json")), *sorted(path.glob("*/_annotations.coco.json"))
    ]  # fmt: skip
    found: dict[str, pathlib.Path] = {}
    for file in there:
        stem = file.parent.name if file.name.startswith("_") else file.stem
        plain = stem.removeprefix("instances_").rstrip("0123456789").strip("_-")
        for part, words in _WORDS.items():
            if plain in words:
                found.setdefault(part, file)
    return found


def _content(file: pathlib.Path) -> dict[str, Any]:
    if not file.is_file() or file.stat().st_size > _LARGEST:
        raise DataError(f"{file}: expected a file of less than {_LARGEST:,} bytes")
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{file}: expected COCO's JSON; it is cut off or something else: {error}. Fetch it "
            "again"
        ) from error
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in lists):
        raise DataError(f"{file}: expected JSON with lists of {', '.join(lists)}")
    return content


def _by_id(file: pathlib.Path, content: dict[str, Any], key: str, what: str) -> dict[Any, str]:
    """What the entries of a list are called, by their numbers."""
    try:
        return {entry["id"]: str(entry[what]) for entry in content[key]}
    except (KeyError, TypeError) as error:
        raise DataError(f"{file}: {key}: expected an id and a {what} of each") from error


def _examples(
    path: pathlib.Path, file: pathlib.Path, content: dict[str, Any], labels: dict[Any, int],
    reports: Reports,
) -> list[Annotated]:  # fmt: skip
    images = _by_id(file, content, "images", "file_name")
    boxes: dict[Any, list[list[float]]] = {number: [] for number in images}
    for index, entry in enumerate(content["annotations"]):
        where = f"{file}: annotations[{index}]"
        try:
            image, label = entry["image_id"], entry["category_id"]
            left, top, width, height = map(float, entry["bbox"])
            crowd = bool(entry.get("iscrowd", 0))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{where}: expected image_id, category_id and a bbox of four numbers"
            ) from error
        if image not in boxes or label not in labels:
            kind, number = ("image", image) if image not in boxes else ("category", label)
            raise DataError(f"{where}: expected the id of one of its {kind}s, received: {number!r}")
        reports.add("around crowds are left out", crowd, where)
        if not crowd:
            boxes[image].append([left, top, left + width, top + height, labels[label]])
    folder = _folder(path, file, next(iter(images.values()), ""))
    return [
        Annotated(_inside(folder, name, file), np.array(boxes[number], float).reshape(-1, 5))
        for number, name in images.items()
    ]


def _folder(path: pathlib.Path, file: pathlib.Path, first: str) -> pathlib.Path:
    """Where the images of a file are."""
    stem = file.stem.removeprefix("instances_")
    places = [path / stem, path / "images" / stem, file.parent, path / "images", path]
    for place in places:
        if (place / first).is_file():
            return place
    raise DataError(f"{file}: its image {first!r} is in none of {', '.join(map(str, places))}")


def _inside(folder: pathlib.Path, name: str, file: pathlib.Path) -> pathlib.Path:
    image = folder / name
    if ".." in image.parts or pathlib.PurePath(name).is_absolute() or not image.is_file():
        raise DataError(f"{file}: its image {name!r} is not in {folder}")
    return image
