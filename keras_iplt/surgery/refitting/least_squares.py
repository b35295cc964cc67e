"""Linear least squares from sums over samples, with a ridge that is chosen by what was held out.

Asked for are weights `w` such that `features @ w` comes near `wanted`. All that has to be known of
the samples are three sums, so that there may be any number of them:

    G = features' features      C = features' wanted      r = sum of wanted²

Three quarters of the examples are fitted for each of a few ridges; the others show which of these
is best. Where none does better than nothing at all, nothing is what comes out.
"""

import dataclasses

import numpy as np

__all__ = ["Sums"]

_RIDGES = (1e-9, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the mean square of a feature
_HELD_OUT = 4  # every fourth example


@dataclasses.dataclass
class _Part:
    """The sums over some of the samples, group by group."""

    products: np.ndarray  # (groups, features, features)
    targets: np.ndarray  # (groups, features, outputs)
    square: float = 0.0

    def add(self, features: np.ndarray, wanted: np.ndarray) -> None:
        for group in range(len(self.products)):
            a = features[:, group].astype(np.float64)
            b = wanted[:, group].astype(np.float64)
            self.products[group] += a.T @ a
            self.targets[group] += a.T @ b
            self.square += float(np.vdot(b, b))

    def error(self, weights: np.ndarray) -> float:
        """The sum of squares that is left."""
        explained = np.vdot(weights, 2 * self.targets - self.products @ weights)
        return self.square - float(explained)

    def fitted(self, ridge: float) -> np.ndarray:
        """The weights for a ridge."""
        products = self.products.copy()
        diagonal = np.einsum("gii->gi", products)
        diagonal += ridge * max(float(diagonal.mean()), np.finfo(np.float64).tiny)
        return np.linalg.solve(products, self.targets)


class Sums:
    """What a fit has to know of its samples.

    Args:
        groups, features, outputs: how many; groups are fitted apart from each other.
    """

    def __init__(self, groups: int, features: int, outputs: int) -> None:
        self._fitted, self._held_out = (
            _Part(np.zeros((groups, features, features)), np.zeros((groups, features, outputs)))
            for _ in range(2)
        )
        self._seen = 0  # examples

    @staticmethod
    def bytes(groups: int, features: int, outputs: int) -> int:
        """What the sums and a fit take."""
        return 8 * groups * features * (4 * features + 6 * outputs)

    def add(self, features: np.ndarray, wanted: np.ndarray, per_example: int) -> None:
        """Some more samples.

        Args:
            features: (samples, groups, features).
            wanted: (samples, groups, outputs).
            per_example: how many samples in a row are of one example.
        """
        examples = self._seen + np.arange(len(features)) // per_example
        self._seen += len(features) // per_example
        held_out = examples % _HELD_OUT == _HELD_OUT - 1
        self._fitted.add(features[~held_out], wanted[~held_out])
        self._held_out.add(features[held_out], wanted[held_out])

    def fit(self) -> np.ndarray | None:
        """The weights (groups, features, outputs), or None if nothing is better."""
        fitted, held_out = self._fitted, self._held_out
        judge = held_out if held_out.square else fitted  # a single example cannot be shared out
        best, least = None, judge.square
        for ridge in _RIDGES:
            try:
                error = judge.error(fitted.fitted(ridge))
            except np.linalg.LinAlgError:  # singular: it takes a larger ridge
                continue
            if error < least:
                best, least = ridge, error
        if best is None:
            return None
        fitted.products += held_out.products  # in place: these may be large
        fitted.targets += held_out.targets
        fitted.square += held_out.square
        weights = fitted.fitted(best)
        return weights if fitted.error(weights) < fitted.square else None
