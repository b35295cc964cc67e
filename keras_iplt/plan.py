"""Deciding what goes: a ratio, a ranking and constraints become a `Plan`."""

import dataclasses
import functools
import json
import types
from typing import Any

import numpy as np

from keras_iplt.errors import ModelError, OptionError, PlanMismatchError
from keras_iplt.graph.channels import Graph
from keras_iplt.graph.trace import trace
from keras_iplt.graph.weights import kept_axes

__all__ = ["Plan", "as_graph", "bound"]

_FORMAT = "keras_iplt.plan/1"


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Which channels go. Made by `keras_iplt.plan`, carried out by `mask` and `rewrite`.

    Attributes:
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
    options: types.MappingProxyType
    architecture: tuple[str, ...]
    variables: tuple[dict, ...] = dataclasses.field(repr=False)
    graph: Graph | None = dataclasses.field(default=None, repr=False)

    @functools.cached_property
    def gone(self):
        """Mask over the ids of the bound graph: True for what goes."""
        return _gone(_required(self), self.removed)

    def kept(self, variable):
        """What stays of a variable.

        Args:
            variable: a variable of the model that the plan was made for (or, for a plan read
                from JSON, one of the same path and shape).

        Returns:
            A tuple with one entry per axis: None where the axis stays whole, else the sorted
            indices that stay.
        """
        if self.graph is not None:
            slices = self.graph.by_variable.get(id(variable))
            if slices is not None:
                return kept_axes(variable, slices, self.gone)
        path, shape = getattr(variable, "path", None), tuple(getattr(variable, "shape", ()))
        for entry in self.variables:
            if entry["path"] == path and tuple(entry["shape"]) == shape:
                return tuple(None if k is None else np.array(k) for k in entry["kept"])
        raise OptionError(
            f"expected a variable of the model that the plan was made for, received: {path!r} "
            f"with shape {shape}"
        )

    def to_json(self):
        """The plan as text that `from_json` reads."""
        return json.dumps(
            {
                "format": _FORMAT,
                "fpr": self.fpr,
                "ppr": self.ppr,
                "options": dict(self.options),
                "removed": self.removed,
                "architecture": self.architecture,
                "variables": self.variables,
            }
        )

    @classmethod
    def from_json(cls, text):
        """A plan from the text that `to_json` wrote; carry it out on any model of the same
        architecture."""
        try:
            content = json.loads(text)
            if content["format"] != _FORMAT:
                raise KeyError(f"format {content['format']!r}")
            return cls(
                removed=tuple(tuple(int(i) for i in group) for group in content["removed"]),
                fpr=float(content["fpr"]),
                ppr=float(content["ppr"]),
                options=types.MappingProxyType(dict(content["options"])),
                architecture=tuple(content["architecture"]),
                variables=tuple(content["variables"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise OptionError(
                f"expected the JSON text of a keras_iplt plan ({_FORMAT}); "
                f"{type(error).__name__}: {error}"
            ) from error

    def __str__(self):
        lines = [f"removes {self.fpr:.1%} of the filters, {self.ppr:.1%} of the parameters"]
        if self.graph is not None:
            for group, gone in zip(self.graph.groups, self.removed, strict=True):
                names = ", ".join(p.path for p in group.producers)
                lines.append(f"{group.size:>6} -> {group.size - len(gone):<6} {names}")
        return "\n".join(lines)


def _required(plan):
    if plan.graph is None:
        raise PlanMismatchError("the plan is not bound to a model: pass it together with one")
    return plan.graph


def _gone(graph, removed):
    groups = zip(graph.groups, removed, strict=True)
    return graph.gone([group.classes[list(chosen)] for group, chosen in groups])


def as_graph(model_or_graph):
    """The graph of a model, or the graph itself."""
    return model_or_graph if isinstance(model_or_graph, Graph) else trace(model_or_graph)


def bound(plan, model):
    """The plan for this very model, after checking that it fits.

    Args:
        plan: a `Plan`.
        model: the model to carry it out on.

    Returns:
        A plan whose `graph` is that of `model`.
    """
    if not isinstance(plan, Plan):
        raise OptionError(f"expected a keras_iplt.Plan, received: {plan!r} of type {type(plan)}")
    if plan.graph is not None and plan.graph.model is model and _is_current(plan.graph):
        return plan
    approximate = bool(plan.options.get("approximate", False))
    graph = trace(model, approximate=approximate)
    for index, (expected, received) in enumerate(_pairs(plan.architecture, graph.signature)):
        if expected != received:
            raise PlanMismatchError(
                f"the plan was made for another architecture. First difference at operation "
                f"{index}: expected {expected}, received {received}"
            )
    sizes = [group.size for group in graph.groups]
    if len(sizes) != len(plan.removed) or any(
        gone and max(gone) >= size for gone, size in zip(plan.removed, sizes, strict=True)
    ):
        raise PlanMismatchError(
            "the plan was made for a model whose channels are connected otherwise: expected "
            f"{len(plan.removed)} groups, received groups of sizes {sizes}"
        )
    return dataclasses.replace(plan, graph=graph)


def _pairs(a, b):
    longest = max(len(a), len(b))
    padded = (tuple(x) + ("nothing",) * (longest - len(x)) for x in (a, b))
    return zip(*padded, strict=True)


def _is_current(graph):
    """Whether the variables still have the shapes they were read with."""
    return all(len(piece.ids) == piece.variable.shape[piece.axis] for piece in graph.slices)


def describe_variables(graph, gone):
    """Path, shape and what stays of each variable of a model that loses channels."""
    return tuple(
        {
            "path": variable.path,
            "shape": [int(n) for n in variable.shape],
            "kept": [
                None if kept is None else kept.tolist()
                for kept in kept_axes(variable, graph.by_variable.get(id(variable), ()), gone)
            ],
        }
        for variable in graph.model.weights
    )


def finished(graph, removed, filters, options: dict[str, Any], cost):
    """A `Plan` from the channels chosen per group, with the shares that it reaches."""
    gone = _gone(graph, removed)
    total = sum(int(counts.sum()) for counts in filters)
    if not total:
        raise ModelError("nothing to prune")
    lost = sum(int(counts[list(g)].sum()) for counts, g in zip(filters, removed, strict=True))
    return Plan(
        removed=tuple(tuple(int(i) for i in sorted(chosen)) for chosen in removed),
        fpr=lost / total,
        ppr=cost(gone),
        options=types.MappingProxyType(options),
        architecture=graph.signature,
        variables=describe_variables(graph, gone),
        graph=graph,
    )
