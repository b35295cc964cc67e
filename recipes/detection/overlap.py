"""How much boxes have in common, in NumPy. A box is left, top, right and bottom."""

import numpy as np

__all__ = ["overlaps", "without_duplicates"]


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The area that two boxes share over the area that they cover, of each of some with others.

    Args:
        boxes: (n, 4).
        others: (m, 4).

    Returns:
        (n, m), from 0 to 1.

    >>> overlaps(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [5, 5, 6, 6]])).round(3)
    array([[0.333, 0.   ]])
    """
    boxes, others = np.asarray(boxes, float), np.asarray(others, float)
    corner = np.maximum(boxes[:, None, :2], others[None, :, :2])
    opposite = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.maximum(0, opposite - corner).prod(axis=-1)
    covered = _areas(boxes)[:, None] + _areas(others)[None] - shared
    return np.divide(shared, covered, out=np.zeros_like(shared), where=covered > 0)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)


def without_duplicates(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, overlap: float, most: int
) -> np.ndarray:
    """Non-maximum suppression: the best box of each class goes before those that overlap with it.

    Args:
        boxes, scores, labels: (n, 4), (n,) and (n,).
        overlap: how much two boxes of a class may have in common.
        most: how many are left at most.

    Returns:
        The indices of those that are left, best first.

    >>> boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 8], [0, 0, 9, 8]])
    >>> without_duplicates(boxes, np.array([0.8, 0.9, 0.7]), np.array([0, 0, 1]), 0.5, 10)
    array([1, 2])
    """
    left = np.argsort(-scores, kind="stable")
    found: list[int] = []
    while len(left) and len(found) < most:
        best, left = left[0], left[1:]
        found.append(best)
        same = labels[left] == labels[best]
        left = left[~(same & (overlaps(boxes[best : best + 1], boxes[left])[0] > overlap))]
    return np.array(found, int)
