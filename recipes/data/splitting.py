"""Which examples: some of each class, the same ones for the same seed."""

import numpy as np

__all__ = ["picked", "split_off"]


def picked(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` examples with about as large a share of every class, and at least one of each.

    What a smaller count picks, a larger one picks too.

    Args:
        labels: the labels of all examples.
        count: how many, at least as many as there are classes among the labels.
        seed: an integer.

    Returns:
        Their sorted indices.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        own = order[labels[order] == label]
        # Evenly through the queue, from a random start; the first of each class goes ahead.
        place[own] = (np.arange(len(own)) + random.random()) / len(own)
        place[own[0]] = -1
    return np.sort(np.argsort(place, kind="stable")[:count])


def split_off(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of two parts: what stays, with every class in it, and `share` of them all."""
    count = round(share * len(labels))
    stays = picked(labels, len(labels) - count, seed)
    return stays, np.setdiff1d(np.arange(len(labels)), stays, assume_unique=True)
