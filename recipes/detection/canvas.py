"""A made-up set: scikit-learn's digits, of several sizes and colours, on canvases."""

from collections.abc import Iterator

import numpy as np

from ..data.images import resized
from ..data.in_memory import read_digits
from .overlap import overlaps

__all__ = ["digits_on_canvases"]

COUNTS = {"train": 600, "validation": 100, "test": 200}
_TRIES = 20


def digits_on_canvases(
    size: tuple[int, int], counts: dict[str, int] = COUNTS
) -> Iterator[tuple[str, np.ndarray, list[np.ndarray]]]:
    """Canvases with one to four digits on each, the same ones whenever they are made.

    A third of scikit-learn's digits is seen in tests only.

    Args:
        size: rows and columns of a canvas.
        counts: how many canvases each part has.

    Yields:
        The name of a part, its images (n, rows, columns, 3) as uint8, and the boxes of each.
    """
    images, labels = read_digits().parts["train"]
    images = images[..., None]
    held = len(labels) // 3
    for number, (part, count) in enumerate(counts.items()):
        random = np.random.default_rng(number)
        own = slice(None, held) if part == "test" else slice(held, None)
        drawn = [_canvas(size, images[own], labels[own], random) for _ in range(count)]
        yield part, np.stack([image for image, _ in drawn]), [boxes for _, boxes in drawn]


def _canvas(
    size: tuple[int, int], images: np.ndarray, labels: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One canvas, and the boxes of the digits on it."""
    canvas = random.uniform(0, 90, 3) + random.normal(0, 8, (*size, 3))
    boxes = np.zeros((0, 5), "float32")
    wanted, smallest = random.integers(1, 5), min(size)
    for _ in range(_TRIES):
        which, side = random.integers(len(labels)), int(smallest * random.uniform(0.2, 0.5))
        top, left = (int(random.integers(0, edge - side + 1)) for edge in size)
        box = np.array([[left, top, left + side, top + side, labels[which]]], "float32")
        if len(boxes) == wanted:
            break
        if overlaps(boxes[:, :4], box[:, :4]).max(initial=0) > 0.05:
            continue
        ink = resized(images[which : which + 1], (side, side))[0]
        place = canvas[top : top + side, left : left + side]
        place += ink * (random.uniform(150, 255, 3) - place)
        boxes = np.concatenate([boxes, box])
    return np.clip(canvas, 0, 255).astype("uint8"), boxes
