"""Union-find over channel ids, vectorised: whole arrays of ids are joined at once."""

import numpy as np

__all__ = ["Partition"]


class Partition:
    """Ids 0, 1, 2 … in disjoint classes, each named by its smallest id.

    Example:

    >>> p = Partition()
    >>> ids = p.fresh(4)
    >>> p.union(ids[:2], ids[2:])
    >>> p.find(ids).tolist()
    [0, 1, 0, 1]
    """

    def __init__(self) -> None:
        self._parent = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._parent)

    def fresh(self, count: int) -> np.ndarray:
        """`count` new ids, each in a class of its own."""
        ids = np.arange(len(self), len(self) + count)
        self._parent = np.concatenate([self._parent, ids])
        return ids

    def find(self, ids: np.ndarray) -> np.ndarray:
        """The class of each id, in the shape of `ids`."""
        roots = self._parent[ids]
        while True:
            above = self._parent[roots]
            if np.array_equal(above, roots):
                break
            roots = above
        self._parent[ids] = roots  # shortens the way for the next search
        return roots

    def union(self, a: np.ndarray, b: np.ndarray) -> None:
        """Joins the classes of `a` and `b` position by position (shapes broadcast)."""
        a, b = np.broadcast_arrays(a, b)
        a, b = a.ravel(), b.ravel()
        while True:
            a, b = self.find(a), self.find(b)
            apart = a != b
            if not apart.any():
                return
            a, b = a[apart], b[apart]
            # Each larger root hangs below the smallest root it was paired with; pairs that lost
            # against a smaller one are still apart and meet again in the next round.
            np.minimum.at(self._parent, np.maximum(a, b), np.minimum(a, b))
