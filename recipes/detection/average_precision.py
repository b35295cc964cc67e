"""Mean average precision, as COCO measures it: at an overlap of 0.5, and from 0.5 to 0.95."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from .overlap import overlaps

__all__ = ["THRESHOLDS", "AveragePrecision", "average_precision"]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_MOST = 100  # boxes of a class in an image that count


@dataclasses.dataclass(frozen=True)
class AveragePrecision:
    """How precise boxes are, averaged over how many are found.

    Attributes:
        table: (classes, thresholds of overlap), from 0 to 1; NaN for classes that are not there.
    """

    table: np.ndarray

    @property
    def at_half(self) -> float:
        """The mean over classes where an overlap of 0.5 is enough: Pascal VOC's, Zuo et al.'s."""
        return float(np.nanmean(self.table[:, 0])) if self._any else 0.0

    @property
    def strict(self) -> float:
        """The mean over classes and ten overlaps from 0.5 to 0.95: COCO's."""
        return float(np.nanmean(self.table)) if self._any else 0.0

    @property
    def _any(self) -> bool:
        return bool(np.isfinite(self.table).any())


def average_precision(
    found: Iterable[np.ndarray], truths: Iterable[np.ndarray], classes: int
) -> AveragePrecision:
    """Measures what was found in images against what is there.

    As pycocotools does, whose numbers these are: in each image, best score first, each box takes
    the free one of its class that it overlaps with most.

    Args:
        found: for each image (n, 6): left, top, right, bottom, class and score.
        truths: for each image (m, 5): left, top, right, bottom and class; classes below 0 are no
            boxes.
        classes: how many there are.

    Returns:
        An `AveragePrecision`.

    Example:

    >>> there = np.array([[0.0, 0, 10, 10, 1]])
    >>> seen = np.array([[0.0, 0, 10, 8, 1, 0.9]])
    >>> score = average_precision([seen], [there], 3)
    >>> print(f"{score.at_half:.1f} {score.strict:.1f}")
    1.0 0.7
    """
    hits: list[list[np.ndarray]] = [[] for _ in range(classes)]
    scores: list[list[np.ndarray]] = [[] for _ in range(classes)]
    there = np.zeros(classes, int)
    for own, real in zip(found, truths, strict=True):
        for label in range(classes):
            boxes = own[own[:, 4] == label]
            boxes = boxes[np.argsort(-boxes[:, 5], kind="stable")][:_MOST]
            wanted = real[real[:, 4] == label]
            there[label] += len(wanted)
            hits[label].append(_hits(overlaps(boxes[:, :4], wanted[:, :4])))
            scores[label].append(boxes[:, 5])
    table = np.full((classes, len(THRESHOLDS)), np.nan)
    for label in map(int, np.flatnonzero(there)):
        order = np.argsort(-np.concatenate(scores[label]), kind="stable")
        table[label] = _averaged(np.concatenate(hits[label], axis=1)[:, order], there[label])
    return AveragePrecision(table)


def _hits(shared: np.ndarray) -> np.ndarray:
    """(thresholds, n): which boxes found one, of (n, m) overlaps; those with best scores first."""
    count, real = shared.shape
    hits = np.zeros((len(THRESHOLDS), count), bool)
    free = np.ones((len(THRESHOLDS), real), bool)
    rows = np.arange(len(THRESHOLDS))
    for index in range(count if real else 0):
        fits = np.where(free & (shared[index] >= THRESHOLDS[:, None]), shared[index], -1)
        best = real - 1 - np.argmax(fits[:, ::-1], axis=1)  # of equals pycocotools takes the last
        hits[:, index] = fits[rows, best] >= 0
        free[rows[hits[:, index]], best[hits[:, index]]] = False
    return hits


def _averaged(hits: np.ndarray, there: int) -> np.ndarray:
    """(thresholds,): the mean over 101 recalls of the best precision at that recall or above."""
    right = np.cumsum(hits, axis=1)
    recall = right / there
    precision = right / np.arange(1, hits.shape[1] + 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    means = np.zeros(len(hits))
    for row, (recalls, precisions) in enumerate(zip(recall, precision, strict=True)):
        places = np.searchsorted(recalls, _RECALLS, side="left")
        means[row] = np.append(precisions, 0.0)[places].mean()
    return means
