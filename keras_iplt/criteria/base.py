"""What all criteria share."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeAlias

import numpy as np

from keras_iplt.criteria.filters import Filters, filters_of
from keras_iplt.errors import CriterionError
from keras_iplt.graph.channels import Graph
from keras_iplt.graph.slices import numbers_of
from keras_iplt.support.arguments import Kind, blaming, checked, one_of, said
from keras_iplt.support.configurable import Configurable

__all__ = ["AnyCriterion", "Criterion", "Reduction"]

Reduction: TypeAlias = Annotated[str, one_of("mean", "sum", "max", "l2", error=CriterionError)]


class Criterion(Configurable):
    """Base of all criteria: override `score`.

    Args:
        reduce: how the numbers of several filters of one channel become one: "mean", "sum",
            "max" or "l2".

    Example:

    >>> from keras_iplt import criteria
    >>> class Spread(criteria.Criterion):
    ...     def score(self, filters):
    ...         return filters.weights.std(axis=1)
    >>> criteria.get(Spread(reduce="max"))
    Spread(reduce='max')
    """

    needs_data = False
    sees_zeros = False  # whether filters that are zero change the scores of others
    adds_up = False  # whether numbers are -log of shares left, to which comes what went before
    missing = "their layer records no weights of theirs: see keras_iplt.register_rule"

    @checked
    def __init__(self, reduce: Reduction = "mean") -> None:
        self.reduce = reduce

    @property
    def name(self) -> str:
        """What the criterion is called in plans and messages."""
        return type(self).__name__.lower()

    def score(self, filters: Filters) -> np.ndarray:
        """One number per filter of a layer.

        Args:
            filters: a `Filters`; `filters.weights` is an array with one row
                per filter.
        """
        raise NotImplementedError(f"{type(self).__name__} must override score(filters)")

    def collect(
        self, graph: Graph, wanted: np.ndarray, data: Any
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs `(ids, numbers)`: what is known about the channels marked in `wanted`.

        That is a mask over all ids. An id may appear any number of times."""
        for filters in filters_of(graph, wanted):
            whose = f"criterion {self.name!r} on layer {filters.path!r}"
            with blaming(whose, CriterionError):
                values = numbers_of(self.score(filters))
            yield filters.ids, self._checked(values, filters)

    def _checked(self, values: Any, filters: Filters) -> np.ndarray:
        values = np.asarray(values)
        if values.dtype.kind not in "biuf":
            raise CriterionError(
                f"criterion {self.name!r} on layer {filters.path!r}: expected an array of real "
                f"numbers, one per filter, received: {said(values)}"
            )
        values = values.astype(np.float64)
        if values.shape != (len(filters),):
            raise CriterionError(
                f"criterion {self.name!r} on layer {filters.path!r}: expected shape "
                f"({len(filters)},), one number per filter, received: {values.shape}"
            )
        if not np.isfinite(values).all():
            raise CriterionError(
                f"criterion {self.name!r} on layer {filters.path!r}: expected finite numbers, "
                f"received: {values[~np.isfinite(values)][0]} for filter "
                f"{np.flatnonzero(~np.isfinite(values))[0]}"
            )
        return values


# What a criterion can be given as: see `keras_iplt.criteria.get`.
AnyCriterion: TypeAlias = Annotated[
    str | Criterion | type[Criterion] | Callable[[np.ndarray], Any],
    Kind(
        "the name of a criterion, a keras_iplt.criteria object or a function of an array "
        "(filters, weights)",
        error=CriterionError,
    ),
]
