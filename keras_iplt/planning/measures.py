"""What a ratio can be a share of, and what widths can be rounded to: by name, or as objects.

A measure says what a model costs with some of its channels gone, a rounding what the width of a
group is best a multiple of. Planning knows no more of them than that: whoever can measure
something else registers a name for it, as `keras_iplt.latency` does for "latency" and "auto". A
name may have variants, "size:int8".
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from keras_iplt.errors import OptionError
from keras_iplt.graph.channels import Graph, Group
from keras_iplt.graph.costs import flops, macs, parameters
from keras_iplt.support.arguments import Kind, blaming, expect, is_integer, said

__all__ = [
    "FILTERS",
    "AnyMeasure",
    "Exact",
    "Measure",
    "Rounding",
    "check_measure",
    "check_rounding",
    "cost_of",
    "is_registered",
    "name_of_measure",
    "name_of_rounding",
    "register_measure",
    "register_rounding",
    "resolved",
]

_Cost = Annotated[float, Kind("a number", math.isfinite)]
FILTERS = "filters"  # counted by planning itself, with what `ignore` and the like leave out


@runtime_checkable
class Measure(Protocol):
    """What a model costs."""

    @property
    def name(self) -> str:
        """What it is called in a plan that is written down."""

    def cost(self, graph: Graph, gone: np.ndarray | None = None) -> float:
        """The cost when the ids marked in `gone` go."""


@runtime_checkable
class Exact(Measure, Protocol):
    """A measure whose cost is an estimate, and which can find out."""

    def exact(self, graph: Graph, gone: np.ndarray) -> float:
        """What is left when the ids marked in `gone` go. Takes its time."""


@runtime_checkable
class Rounding(Protocol):
    """What the width of a group is best a multiple of."""

    @property
    def rounding(self) -> str:
        """What it is called in a plan that is written down."""

    def multiple(self, graph: Graph, group: Group) -> int:
        """The number for one group."""


@dataclasses.dataclass(frozen=True)
class _Counted:
    name: str
    cost: Callable[..., float]


# What `of` takes: a name of those that are registered, or an object.
AnyMeasure: TypeAlias = Annotated[
    str | Measure,
    Kind("a measure ('filters', 'params', …, or an object that measures: a latency table)"),
]
_MEASURES: dict[str, Callable[[Graph], Any]] = {
    "params": lambda graph: _Counted("params", parameters),
    "macs": lambda graph: _Counted("macs", macs),
    "flops": lambda graph: _Counted("flops", flops),
}
_ROUNDINGS: dict[str, Callable[[Graph], Any]] = {}


def register_measure(name: str, make: Callable[[Graph], Any]) -> None:
    """Lets `of` take a name: `make(graph)` returns the `Measure`."""
    _MEASURES[name] = make


def register_rounding(name: str, make: Callable[[Graph], Any]) -> None:
    """Lets `round_to` take a name: `make(graph)` returns the `Rounding`.

    An object that is the measure asked for as well is made once."""
    _ROUNDINGS[name] = make


def is_registered(name: str) -> bool:
    """Whether something is measured by that name."""
    return name in _MEASURES


def cost_of(of: Measure, graph: Graph, gone: np.ndarray | None = None) -> float:
    """What a measure says, held to be a number; an estimate may be below zero."""
    with blaming(f"of: {said(of)}"):
        return float(expect("its cost", _Cost, of.cost(graph, gone)))


def check_measure(of: Any) -> Any:
    """`of` if it is a name or a measure."""
    known = isinstance(of, str) and (of == FILTERS or is_registered(of))
    if not known and (isinstance(of, (str, type)) or not isinstance(of, Measure)):
        names = ", ".join(repr(name) for name in [FILTERS, *_MEASURES] if ":" not in name)
        raise OptionError(
            f"of: expected {names} or an object that measures (a latency table), received: "
            f"{said(of)}"
        )
    return of


def check_rounding(round_to: Any) -> Any:
    """`round_to` if it is a number, a name or a rounding."""
    if round_to is None or (isinstance(round_to, str) and round_to in _ROUNDINGS):
        return round_to
    if isinstance(round_to, Rounding) and not isinstance(round_to, (str, type)):
        return round_to
    if is_integer(round_to) and round_to >= 1:
        return int(round_to)
    names = ", ".join(map(repr, _ROUNDINGS))
    raise OptionError(
        f"round_to: expected a positive integer, {names} or an object that rounds (a latency "
        f"table), received: {said(round_to)}"
    )


def name_of_measure(of: Any) -> str:
    """A measure as it is written down."""
    return of if isinstance(of, str) else of.name


def name_of_rounding(round_to: Any) -> int | str | None:
    """A rounding as it is written down."""
    return round_to if round_to is None or isinstance(round_to, (int, str)) else round_to.rounding


def resolved(graph: Graph, of: Any, round_to: Any) -> tuple[Any, Any]:
    """Both with objects in place of names; "filters" and numbers stay as they are."""
    if isinstance(of, str) and of != FILTERS:
        given = isinstance(round_to, Measure) and round_to.name == of  # it does for both
        of = round_to if given else _MEASURES[of](graph)
    if isinstance(round_to, str):
        given = isinstance(of, Rounding) and of.rounding == round_to
        round_to = of if given else _ROUNDINGS[round_to](graph)
    return of, round_to
