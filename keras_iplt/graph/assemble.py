"""From what was recorded while reading to a `Graph`: classes, groups, and reasons."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_iplt.graph.branches import residual_branches
from keras_iplt.graph.channels import SOLID, Call, Channels, Frozen, Graph, Group, Producer, Slice
from keras_iplt.graph.flow import Flow, channels_in
from keras_iplt.graph.partition import Partition

__all__ = ["assembled", "make_rectangular"]


def make_rectangular(flow: Flow) -> None:
    """Joins ids until, in every tensor, removed positions are whole slabs along one axis."""
    again = True
    while again:
        again = False
        for x in flow.seen:
            if len(x.varying) > 1:
                again |= _settle_axis(flow, x)


def _settle_axis(flow: Flow, x: Channels) -> bool:
    """Lets the ids of `x` vary along one axis only: the one that leaves most of them apart."""
    ids = flow.partition.find(x.ids)
    frozen = np.concatenate([[SOLID], *(some for some, _ in flow.freezes)])
    ids = np.where(np.isin(ids, flow.partition.find(frozen)), SOLID, ids)  # all of these stay
    varying = [a for a in x.varying if (ids != ids.take([0], a)).any()]
    if len(varying) < 2:
        return False
    _, numbers = np.unique(ids, return_inverse=True)
    numbers = numbers.reshape(ids.shape)

    def classes_left(axis: int) -> int:
        apart = Partition()
        apart.fresh(int(numbers.max()) + 1)
        slabs = np.moveaxis(numbers, axis, 0).reshape(numbers.shape[axis], -1)
        apart.union(slabs[:, :1], slabs)
        return len(np.unique(apart.find(np.arange(len(apart)))))

    axis = max(varying, key=lambda a: (classes_left(a), a))
    flow.vector(x, axis, "its channels share a tensor with positions that stay")
    return True


def assembled(flow: Flow, model: keras.Model, function: keras.Function) -> Graph:
    """The findings, frozen."""
    flow.path = ""
    ids = np.arange(len(flow.partition))
    roots = flow.partition.find(ids)
    reasons: dict[int, str] = {}
    for frozen_ids, reason in flow.freezes:
        for root in np.unique(roots[frozen_ids]):
            reasons.setdefault(int(root), reason)
    # A shared layer creates its channels at each call; they are joined, and count once.
    first = {(id(p.layer), p.place): p for p in reversed(flow.producers)}
    producers = list(first.values())[::-1]
    filters = np.zeros(len(roots), np.int64)
    for producer in producers:
        np.add.at(filters, roots[producer.ids], 1)
    prunable = filters > 0
    prunable[list(reasons)] = False
    prunable[SOLID] = False
    classes = np.where(prunable[roots], roots, SOLID)
    return Graph(
        model=model,
        function=function,
        groups=_groups(flow, producers, classes, filters),
        frozen=(*_frozen(producers, roots, reasons), *flow.refusals),
        classes=classes,
        slices=tuple(flow.slices.values()),
        producers=tuple(producers),
        works=tuple(flow.works),
        rescales=tuple(flow.rescales),
        calls=flow.calls,
        signature=_signature(flow.calls.values()),
        branches=residual_branches(flow.calls, function, producers, flow.works),
        approximate=flow.approximate,
        heads=flow.heads,
    )


def _groups(
    flow: Flow, producers: list[Producer], classes: np.ndarray, filters: np.ndarray
) -> tuple[Group, ...]:
    """Classes that appear in the same tensors and variables, in the order of the graph."""
    # Every tensor and variable draws a random number, and a class combines those of all that hold
    # it. Equal marks mean equal holders: a set of holders per class, at the price of a number.
    random = np.random.default_rng(0)
    marks = np.zeros(len(classes), np.uint64)
    holders: list[Channels | Slice] = [*flow.seen, *flow.slices.values()]
    seen = {id(x): x.ids for x in holders}
    for ids in seen.values():
        touched_classes = classes[ids]
        marks[touched_classes] = marks[touched_classes] ^ random.integers(0, 2**63, dtype=np.uint64)
    members: dict[int, list[int]] = {}
    for root in np.unique(classes):
        if root != SOLID:
            members.setdefault(int(marks[root]), []).append(int(root))
    index_of = np.full(len(classes), -1)
    for index, roots in enumerate(members.values()):
        index_of[roots] = index

    def touched(things: Iterable[Any]) -> list[list[Any]]:
        found: list[list[Any]] = [[] for _ in members]
        for thing in things:
            inside = np.bincount(index_of[classes[thing.ids]] + 1, minlength=1)[1:]
            for index in np.flatnonzero(inside):
                found[index].append(thing)
        return found

    creators = touched(producers)
    pieces = touched(flow.slices.values())
    least = np.ones(len(members), int)
    for ids, count in flow.minimums:
        inside = index_of[classes[ids]]
        np.maximum.at(least, inside[inside >= 0], count)
    return tuple(
        Group(
            index,
            np.array(roots),
            tuple(creators[index]),
            tuple(dict.fromkeys(piece.path for piece in pieces[index])),
            filters[roots],
            int(least[index]),
        )
        for index, roots in enumerate(members.values())
    )


def _frozen(
    producers: list[Producer], roots: np.ndarray, reasons: dict[int, str]
) -> Iterator[Frozen]:
    frozen = np.zeros(len(roots), bool)
    frozen[list(reasons)] = True
    for producer in producers:
        own = roots[producer.ids]
        counts: dict[str, int] = {}
        for root in own[frozen[own]]:
            counts[reasons[int(root)]] = counts.get(reasons[int(root)], 0) + 1
        for reason, count in counts.items():
            yield Frozen(producer.path, count, reason)


def _signature(calls: Iterable[Call]) -> tuple[str, ...]:
    """The operations in a form that is equal for equal architectures, whatever the names."""
    made_by: dict[int, int] = {}  # id(Channels) -> place of the operation that put them out
    described = []
    for place, call in enumerate(calls):
        weights = getattr(call.operation, "weights", []) if call.carry != "model" else []
        shapes = ", ".join(str(tuple(w.shape)) for w in weights)
        taken = [made_by.get(id(x), "input") for x in channels_in((call.args, call.kwargs))]
        outputs = channels_in(call.outputs)
        described.append(
            f"{type(call.operation).__name__}[{shapes}] of {', '.join(map(str, taken))} -> "
            + ", ".join(str(tuple(x.shape)) for x in outputs)
        )
        made_by.update((id(x), place) for x in outputs)
    return tuple(described)
