"""Deciding what goes: a ratio, a ranking and constraints become a `Plan`."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import NothingToPruneError, OptionError, PlanMismatchError
from keras_iplt.graph.channels import Graph
from keras_iplt.graph.slices import Kept, kept_axes
from keras_iplt.graph.trace import trace, without_branches
from keras_iplt.graph.walk import is_graph_model
from keras_iplt.support.arguments import checked, is_integer, is_real
from keras_iplt.support.tables import Table, Tables
from keras_iplt.support.text import MALFORMED, printable

__all__ = ["Plan", "bound", "bound_graph", "filters_departed"]

_FORMAT = "keras_iplt.plan/1"
_ENTRY = ("path", "shape", "kept")  # what is known of a variable


@checked
@dataclasses.dataclass(frozen=True, eq=False)
class Plan(Tables):
    """Which channels go. Made by `keras_iplt.plan`, carried out by `mask` and `rewrite`.

    Attributes:
        branches: places of the residual branches that go as a whole, in the `branches` of the
            model's graph. All else is said of the model without them.
        removed: per group of the graph, the sorted channels that go.
        fpr: share of the prunable filters that go.
        ppr: share of the model's parameters that go.
        options: what the plan was asked for.
        architecture: what the plan was made for, operation by operation.
        variables: per variable its path, shape and what stays of each axis.
        graph: the model it is bound to, or None for a plan read from JSON.
    """

    removed: tuple[tuple[int, ...], ...]
    fpr: float
    ppr: float
    options: types.MappingProxyType[str, Any]
    architecture: tuple[str, ...]
    variables: tuple[dict[str, Any], ...] = dataclasses.field(repr=False)
    graph: Graph | None = dataclasses.field(default=None, repr=False)
    branches: tuple[int, ...] = ()

    @functools.cached_property
    def gone(self) -> np.ndarray:
        """Mask over the ids of the bound graph: True for what goes."""
        return _gone(bound_graph(self), self.removed)

    def kept(self, variable: Any) -> tuple[np.ndarray | None, ...]:
        """What stays of a variable.

        Args:
            variable: a variable of the model that the plan was made for (or, for a plan read
                from JSON, one of the same path and shape).

        Returns:
            A tuple with one entry per axis: None where the axis stays whole, else the sorted
            indices that stay: none, if it goes with a branch.
        """
        if self.graph is not None and any(variable is v for v in self.graph.whole.model.weights):
            return _kept(self.graph, variable, self.gone)
        path, shape = getattr(variable, "path", None), [*getattr(variable, "shape", ())]
        found = [e["kept"] for e in self.variables if (e["path"], e["shape"]) == (path, shape)]
        if not found:
            raise OptionError(
                "expected a variable of the model that the plan was made for, received: "
                + (repr(variable) if path is None else f"{path!r} of shape {tuple(shape)}")
            )
        if any(kept != found[0] for kept in found):
            raise OptionError(
                f"{len(found)} variables of the model are called {path!r}: use a plan that was "
                "made for this very model"
            )
        return tuple(None if k is None else np.array(k) for k in found[0])

    def to_json(self) -> str:
        """The plan as text that `from_json` reads."""
        content = {
            "format": _FORMAT,
            "fpr": self.fpr,
            "ppr": self.ppr,
            "options": dict(self.options),
            "removed": self.removed,
            "architecture": self.architecture,
            "variables": self.variables,
        }
        return json.dumps(content | ({"branches": self.branches} if self.branches else {}))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """A plan from the text that `to_json` wrote.

        Carry it out on any model of the same architecture."""
        try:
            content = json.loads(text, parse_constant=_no_number)
            if content["format"] != _FORMAT:
                raise KeyError(f"format {content['format']!r}")
            return cls(
                removed=tuple(tuple(map(_index, group)) for group in content["removed"]),
                fpr=_share(content["fpr"]),
                ppr=_share(content["ppr"]),
                options=types.MappingProxyType({**content["options"]}),
                architecture=tuple(map(str, content["architecture"])),
                variables=tuple({key: one[key] for key in _ENTRY} for one in content["variables"]),
                branches=tuple(map(_index, content.get("branches", ()))),
            )
        except MALFORMED as error:
            raise OptionError(
                f"expected the JSON text of a keras_iplt plan ({_FORMAT}); "
                f"{type(error).__name__}: {error}"
            ) from error

    def _blocks(self) -> list[str | Table]:
        shares = f"removes {self.fpr:.1%} of the filters, {self.ppr:.1%} of the parameters"
        if self.branches:
            shares += f"; branches that go: {', '.join(map(str, self._names_of_branches()))}"
        if self.graph is None:
            return [shares]
        rows = [("layers", "channels", "left")]
        for group, gone in zip(self.graph.groups, self.removed, strict=True):
            names = ", ".join(p.path for p in group.producers)
            rows.append((names, str(group.size), str(group.size - len(gone))))
        return [shares, Table(rows, left=1)]

    def _names_of_branches(self) -> Sequence[str | int]:
        if self.graph is None:
            return self.branches
        return [branch.name for branch in self.graph.without]

    def __str__(self) -> str:
        lines = [printable(str(self._blocks()[0]))]
        if self.graph is not None:
            for group, gone in zip(self.graph.groups, self.removed, strict=True):
                names = ", ".join(p.path for p in group.producers)
                lines.append(f"{group.size:>6} -> {group.size - len(gone):<6} {printable(names)}")
        return "\n".join(lines)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _index(value: Any) -> int:
    if not is_integer(value):
        raise ValueError(f"expected the index of a channel or branch, received: {value!r:.40}")
    return value


def _share(value: Any) -> float:
    if not is_real(value) or not 0 <= value <= 1:
        raise ValueError(f"expected a share in [0, 1], received: {value!r:.40}")
    return float(value)


def bound_graph(plan: Plan) -> Graph:
    """The graph of the model that a plan is bound to."""
    if plan.graph is None:
        raise PlanMismatchError("the plan is not bound to a model: pass it together with one")
    return plan.graph


def _gone(graph: Graph, removed: Sequence[Sequence[int]]) -> np.ndarray:
    groups = zip(graph.groups, removed, strict=True)
    return graph.gone([group.classes[list(chosen)] for group, chosen in groups])


def bound(plan: Plan, model: keras.Model) -> Plan:
    """The plan for this very model, after checking that it fits.

    Args:
        plan: a `Plan`.
        model: the model to carry it out on.

    Returns:
        A plan whose `graph` is that of `model`.
    """
    if plan.graph is not None and plan.graph.whole.model is model and _is_current(plan):
        return plan
    ways = {name: bool(plan.options.get(name, False)) for name in ("approximate", "heads")}
    graph = trace(model, **ways)
    _compare("operation", plan.architecture, graph.signature)
    if plan.branches:
        graph = without_branches(graph, plan.branches)
    _check_removed(plan.removed, graph)
    same = [{**entry, "path": ""} for entry in plan.variables]
    here = describe_variables(graph, _gone(graph, plan.removed))
    _compare("variable", same, [{**entry, "path": ""} for entry in here])
    return dataclasses.replace(plan, graph=graph)


def _compare(what: str, expected: Iterable[Any], received: Iterable[Any]) -> None:
    """Refuses a model that is not what the plan was made for."""
    pairs = itertools.zip_longest(expected, received, fillvalue="nothing")
    for index, (one, other) in enumerate(pairs):
        if one != other:
            raise PlanMismatchError(
                "the plan was made for another architecture, or the model has changed since. "
                f"First difference at {what} {index}: expected {one}, received {other}. Make a "
                "plan for this model"
            )


def _check_removed(removed: Sequence[Sequence[int]], graph: Graph) -> None:
    """Refuses indices that are not channels of their group, or all of them."""
    sizes = [group.size for group in graph.groups]
    if len(removed) != len(sizes) or any(
        gone and not (0 <= min(gone) <= max(gone) < size and len({*gone}) < size)
        for gone, size in zip(removed, sizes, strict=False)
    ):
        raise PlanMismatchError(
            "the plan was made for a model whose channels are connected otherwise: expected "
            f"{len(removed)} groups, received groups of sizes {sizes}. Make a plan for this model"
        )


def _is_current(plan: Plan) -> bool:
    """Whether the model that was read still has the same weights and operations."""
    graph = bound_graph(plan).whole
    weights = [(entry["path"], tuple(entry["shape"])) for entry in plan.variables]
    if weights != [(v.path, tuple(v.shape)) for v in graph.model.weights]:
        return False
    if is_graph_model(graph.model) and private.function_of(graph.model) is not graph.function:
        return False
    nested = (call.operation for call in graph.calls.values() if call.carry == "model")
    return all(
        any(id(node) in graph.calls for node in private.nodes(private.function_of(model)))
        for model in nested
    )


def describe_variables(graph: Graph, gone: np.ndarray) -> tuple[dict[str, Any], ...]:
    """Path, shape and what stays of each variable of a model that loses channels."""
    return tuple(
        {
            "path": variable.path,
            "shape": [int(n) for n in variable.shape],
            "kept": [
                None if kept is None else kept.tolist() for kept in _kept(graph, variable, gone)
            ],
        }
        for variable in graph.whole.model.weights
    )


def _kept(graph: Graph, variable: keras.Variable, gone: np.ndarray) -> Kept:
    """What stays of a variable of the whole model, per axis."""
    if id(variable) in graph.departed:
        return (np.zeros(0, np.int64),) * len(variable.shape)
    return kept_axes(variable, graph.by_variable.get(id(variable), ()), gone)


def finished(
    graph: Graph,
    removed: Sequence[Sequence[int]],
    filters: Sequence[np.ndarray],
    options: dict[str, Any],
    cost: Callable[[np.ndarray], float],
) -> Plan:
    """A `Plan` from the channels chosen per group, with the shares that it reaches."""
    gone, departed = _gone(graph, removed), filters_departed(graph)
    total = sum(int(counts.sum()) for counts in filters) + departed
    if not total and not graph.without:
        raise NothingToPruneError(f"model {graph.model.name!r} has no channel that may be pruned")
    lost = sum(int(counts[list(g)].sum()) for counts, g in zip(filters, removed, strict=True))
    return Plan(
        removed=tuple(tuple(int(i) for i in sorted(chosen)) for chosen in removed),
        fpr=(lost + departed) / max(1, total),
        ppr=cost(gone),
        options=types.MappingProxyType(
            options | {"approximate": graph.approximate, "heads": graph.heads}
        ),
        architecture=graph.whole.signature,
        variables=describe_variables(graph, gone),
        graph=graph,
        branches=tuple(branch.index for branch in graph.without),
    )


def filters_departed(graph: Graph) -> int:
    """How many prunable filters went with the branches left out."""
    whole, left = (sum(int(g.filters.sum()) for g in one.groups) for one in (graph.whole, graph))
    return max(0, whole - left)
