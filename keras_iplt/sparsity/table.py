"""How sparse a model is, layer by layer."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt.graph.selectors import Layers
from keras_iplt.graph.slices import numbers_of
from keras_iplt.sparsity.pool import Prunable, pool_of
from keras_iplt.support.arguments import checked
from keras_iplt.support.tables import Table, Tables, thousands

__all__ = ["LayerSparsity", "Sparsity", "measure"]


@dataclasses.dataclass(frozen=True)
class LayerSparsity:
    """One variable: `weights` of them, of which `zeros` are zero."""

    name: str
    weights: int
    zeros: int

    @property
    def sparsity(self) -> float:
        """The share that is zero."""
        return self.zeros / self.weights


@dataclasses.dataclass(frozen=True)
class Sparsity(Tables):
    """How sparse the prunable weights of a model are. Print it for a table.

    Attributes:
        layers: a `LayerSparsity` for each variable, in the order in which data flows.
    """

    layers: tuple[LayerSparsity, ...]

    @property
    def weights(self) -> int:
        """How many there are."""
        return sum(row.weights for row in self.layers)

    @property
    def zeros(self) -> int:
        """How many of them are zero."""
        return sum(row.zeros for row in self.layers)

    @property
    def sparsity(self) -> float:
        """The share that is zero."""
        return self.zeros / self.weights

    def to_dict(self) -> dict[str, Any]:
        """The table as dicts, lists, strings and numbers."""
        layers = [{**dataclasses.asdict(row), "sparsity": row.sparsity} for row in self.layers]
        return {"sparsity": self.sparsity, "weights": self.weights, "layers": layers}

    def _blocks(self) -> list[str | Table]:
        rows = [("layer", "weights", "zeros", "sparsity")]
        for row in (*self.layers, LayerSparsity("total", self.weights, self.zeros)):
            rows.append(
                (row.name, thousands(row.weights), thousands(row.zeros), f"{row.sparsity:.1%}")
            )
        return [Table(rows, left=1)]


@checked
def measure(
    model: keras.Model,
    layers: Layers | None = None,
    ignore: Layers = (),
    convolutions_only: bool = False,
) -> Sparsity:
    """Counts the zeros among the weights of a model that can be pruned.

    Args:
        model: any built model.
        layers: layers or their names, or None for all.
        ignore: layers or names of those that do not count.
        convolutions_only: whether only convolutions count.

    Returns:
        A `Sparsity`.

    Example:

    >>> import keras
    >>> from keras_iplt import sparsity
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="conv"),
    ...     keras.layers.Flatten(), keras.layers.Dense(2, name="head")])
    >>> _ = sparsity.prune_weights(model, 0.5)
    >>> print(sparsity.measure(model))
    layer  weights  zeros  sparsity
    conv        36     18     50.0%
    head       288    144     50.0%
    total      324    162     50.0%
    """
    return of_pool(pool_of(model, layers, ignore, convolutions_only))


def of_pool(pool: Sequence[Prunable]) -> Sparsity:
    """The same for a list of `Prunable`."""
    left = [int(np.count_nonzero(numbers_of(one.variable))) for one in pool]
    rows = (LayerSparsity(o.path, o.size, o.size - n) for o, n in zip(pool, left, strict=True))
    return Sparsity(tuple(rows))
