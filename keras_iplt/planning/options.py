"""What a plan is asked for, beside the share that goes: one value, checked once.

`plan`, `IPLTCallback`, the command line and plans that are written down all carry it; people give
its entries as keywords.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypedDict

import numpy as np

from keras_iplt.criteria import DEFAULT
from keras_iplt.criteria import get as get_criterion
from keras_iplt.criteria.base import AnyCriterion
from keras_iplt.errors import OptionError
from keras_iplt.graph.channels import Graph
from keras_iplt.graph.names import names_for, shares_by_name
from keras_iplt.graph.selectors import Layers, as_dict, as_list, name_of
from keras_iplt.planning.budgets import amount_of, spelled_out
from keras_iplt.planning.countable import countable
from keras_iplt.planning.measures import (
    Measure,
    Rounding,
    check_measure,
    check_rounding,
    name_of_measure,
    name_of_rounding,
)
from keras_iplt.support.arguments import Count, Share, checked, one_of
from keras_iplt.support.text import text_repr

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Keywords", "MoreKeywords", "PlanKeywords", "PlanOptions", "Scope"]

Scope: TypeAlias = Annotated[str, one_of("global", "layer")]


class _Limits(TypedDict, total=False):
    ignore: Layers
    only: Layers | None
    min_channels: int
    round_to: int | str | Rounding | None
    max_ratio: float | None
    convolutions_only: bool
    approximate: bool
    heads: bool
    at_most: float | str | None


class MoreKeywords(_Limits, total=False):
    """The options of `keras_iplt.plan` that are not spelled out in its signature."""

    params: int | str | None
    macs: int | str | None
    flops: int | str | None
    size: int | str | None
    latency: float | str | None


class PlanKeywords(MoreKeywords, total=False):
    """The same, what goes as a whole, and whether to show how far it has come."""

    branches: Any
    verbose: int


class Keywords(_Limits, total=False):
    """The entries of `PlanOptions`."""

    of: str | Measure
    criterion: AnyCriterion
    scope: str
    per_layer: Mapping[Any, float] | None


@text_repr
@checked
@dataclasses.dataclass(frozen=True)
class PlanOptions:
    """How to decide what goes, whatever the share. See `keras_iplt.plan` for each entry.

    Attributes:
        of, criterion, scope, per_layer, ignore, only, min_channels, round_to,
            max_ratio, convolutions_only: as for `keras_iplt.plan`.
        approximate, heads: as for `keras_iplt.trace`.
        at_most: how much of what `of` measures may be left, whatever the share that goes.
    """

    of: Any = "filters"
    criterion: Any = DEFAULT
    scope: Scope = "global"
    per_layer: Any = None
    ignore: Any = ()
    only: Any = None
    min_channels: Count = 1
    round_to: Any = None
    max_ratio: Share | None = None
    convolutions_only: bool = False
    approximate: bool = False
    heads: bool = False
    at_most: Any = None

    def __post_init__(self) -> None:
        normalised = {
            "of": check_measure(self.of),
            "criterion": get_criterion(self.criterion),
            "per_layer": as_dict(self.per_layer),
            "ignore": tuple(as_list(self.ignore)),
            "only": None if self.only is None else tuple(as_list(self.only, "only")),
            "round_to": check_rounding(self.round_to),
            "at_most": None if self.at_most is None else amount_of(self.of, self.at_most),
        }
        for name, value in normalised.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of_keywords(cls, keywords: Mapping[str, Any]) -> PlanOptions:
        """From what somebody gave by name."""
        keywords = spelled_out(keywords)
        names = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(set(keywords) - set(names)):
            hint = ". The share that goes is called target here" if "ratio" in unknown else ""
            if "branches" in unknown:
                hint += ". Whole branches go by keras_iplt.prune, before or after this"
            raise OptionError(
                f"expected options of keras_iplt.plan ({', '.join(names)}), received: "
                f"{', '.join(map(repr, unknown))}{hint}"
            )
        return cls(**keywords)

    def replace(self, **changes: Unpack[Keywords]) -> PlanOptions:
        """The same but for some entries."""
        return dataclasses.replace(self, **changes)

    def countable(self, graph: Graph) -> dict[int, np.ndarray]:
        """group index -> how many filters that count go with each channel.

        Of the groups that may lose any."""
        return countable(graph, self.ignore, self.convolutions_only, self.only)

    def meant(self, graph: Graph) -> PlanOptions:
        """The same for a model: layers by name, whatever else stood for them."""
        return self.replace(
            per_layer=shares_by_name(graph, self.per_layer, self.countable(graph)),
            ignore=names_for(graph, self.ignore),
            only=None if self.only is None else names_for(graph, self.only),
        )

    def plain(self) -> dict[str, Any]:
        """The entries by name, as JSON takes them; `only` and a budget where there are any."""
        entries = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.at_most is None:
            del entries["at_most"]
        if entries.pop("only") is not None:
            entries["only"] = [name_of(key) for key in self.only]
        return {
            **entries,
            "of": name_of_measure(self.of),
            "round_to": name_of_rounding(self.round_to),
            "criterion": self.criterion.name,
            "per_layer": {name_of(key): float(share) for key, share in self.per_layer.items()},
            "ignore": [name_of(key) for key in self.ignore],
        }
