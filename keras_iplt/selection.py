"""Deciding which channels of a model go: what `plan` is asked for, checked and carried out."""

import collections.abc
import dataclasses
import difflib
import math
import numbers

import keras
import numpy as np

from keras_iplt.cost import flops, parameters, share_removed
from keras_iplt.criteria import check_finite, scores
from keras_iplt.criteria import get as get_criterion
from keras_iplt.errors import NothingToPruneError, OptionError
from keras_iplt.graph.channels import SOLID
from keras_iplt.graph.weights import numbers_of
from keras_iplt.plan import as_graph, finished
from keras_iplt.queue import Candidate, Queue

__all__ = [
    "MEASURES",
    "Past",
    "as_dict",
    "as_list",
    "by_layer",
    "candidates_of",
    "countable",
    "decide",
    "name_of",
    "plan",
    "ranked",
]


def plan(
    model,
    ratio=0.5,
    of="filters",
    criterion="l2",
    scope="global",
    per_layer=None,
    ignore=(),
    min_channels=1,
    round_to=None,
    max_ratio=None,
    convolutions_only=False,
    data=None,
):
    """Decides which channels of a model go. The model is left as it is.

    Args:
        model: a Keras model, or its `Graph` from `keras_iplt.trace`.
        ratio: the share to remove, in [0, 1).
        of: what `ratio` is a share of: `"filters"` (all prunable filters), `"params"` or
            `"flops"` of the whole model.
        criterion: how important a channel is: a name, an object of `keras_iplt.criteria`, or a
            function of a `(filters, weights)` array that returns one number per filter.
        scope: `"global"` ranks all filters of the model together, `"layer"` takes the same share
            of every group.
        per_layer: `{layer or name: ratio}` for layers that get a share of their own; `ratio` is
            then the share of all others.
        ignore: layers or names (a nested model stands for all its layers) that keep all their
            filters, and with them whatever must be pruned together with these.
        min_channels: how many channels every group keeps at least.
        round_to: what is left of each group is rounded to the nearest multiple of this, and is
            at least one multiple.
        max_ratio: no group loses more than this share, so that a global ranking cannot empty it.
        convolutions_only: prune and count the filters of convolutions only, as the papers do.
        data: what data-driven criteria look at: `(x, y)`, `x`, or batches of these.

    Returns:
        A `Plan`.

    Example:

    >>> import keras
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8, name="hidden"), keras.layers.Dense(2)])
    >>> plan = iplt.plan(model, ratio=0.25)
    >>> len(plan.kept(model.get_layer("hidden").kernel)[1])
    6
    """
    return decide(
        model, data=data, ratio=ratio, of=of, criterion=criterion, scope=scope,
        per_layer=per_layer, ignore=ignore, min_channels=min_channels, round_to=round_to,
        max_ratio=max_ratio, convolutions_only=convolutions_only,
    )  # fmt: skip


@dataclasses.dataclass
class Past:
    """What went before, for plans that go on: all shares are of the model as it was at first.

    Attributes:
        sizes: how many channels each group had.
        filters: how many filters that count each group had.
        whole: what the ratio is a share of, in FLOPs or parameters (unused for filters).
        masked: per group, the channels that are zero already; these go first. May be empty.
    """

    sizes: list[int]
    filters: list[float]
    whole: float
    masked: tuple[tuple[int, ...], ...] = ()


def decide(
    model, ratio, of, criterion, scope, per_layer, ignore, min_channels, round_to, max_ratio,
    convolutions_only, data, past=None,
):  # fmt: skip
    """The `Plan` that `plan` promises; with a `Past`, the one that leads on from there."""
    options = checked_options(
        ratio=ratio, of=of, scope=scope, min_channels=min_channels, round_to=round_to,
        max_ratio=max_ratio, convolutions_only=convolutions_only,
    )  # fmt: skip
    criterion = get_criterion(criterion)
    graph = as_graph(model)
    ignore, per_layer = as_list(ignore), as_dict(per_layer)
    check_weights(graph)
    filters = countable(graph, ignore, convolutions_only)
    own = own_shares(graph, per_layer, filters)
    groups = [graph.groups[index] for index in filters]
    values = ranked(graph, criterion, data, groups, past)
    candidates = candidates_of(
        graph, filters, values, past, min_channels=min_channels, round_to=round_to,
        max_ratio=max_ratio,
    )  # fmt: skip
    shared = [c for c in candidates if c.index not in own]
    for candidate in candidates:
        candidate.take_share(own.get(candidate.index, 0.0))
    if ratio and shared:
        Queue(shared, values, scope).cut(ratio, *amount(of, graph, candidates, shared, past))
    removed: list = [()] * len(graph.groups)
    counted = [np.zeros(group.size, np.int64) for group in graph.groups]
    for candidate in candidates:
        removed[candidate.index] = tuple(candidate.chosen)
        counted[candidate.index] = candidate.filters
    options |= {
        "criterion": criterion.name,
        "per_layer": {name_of(key): float(share) for key, share in per_layer.items()},
        "ignore": [name_of(key) for key in ignore],
    }
    return finished(graph, removed, counted, options, share_removed(parameters, graph))


def candidates_of(graph, filters, values, past=None, min_channels=1, round_to=None, max_ratio=None):
    """A `Candidate` per group that may lose channels."""
    candidates = []
    for index, counts in filters.items():
        group = graph.groups[index]
        before = 0 if past is None else past.sizes[index] - group.size
        candidates.append(
            Candidate(
                index, group.classes, counts,
                order=np.lexsort((np.arange(group.size), values[group.classes])),
                most=most_of(group, min_channels, round_to, max_ratio, before),
                multiple=round_to or 1,
                before=before,
                filters_before=0 if past is None else past.filters[index] - int(counts.sum()),
            )
        )  # fmt: skip
    return candidates


def countable(graph, ignore, convolutions_only):
    """group index -> how many filters that count go with each channel, for the groups that may
    lose any."""
    filters = {g.index: filters_of(graph, g, convolutions_only) for g in graph.groups}
    for key in ignore:
        for index in groups_of(graph, key):
            filters.pop(index, None)
    filters = {index: counts for index, counts in filters.items() if counts.any()}
    if not filters:
        raise NothingToPruneError(nothing_to_prune(graph))
    return filters


def ranked(graph, criterion, data, groups, past):
    """The importance of every channel; what is masked already comes first."""
    values = scores(graph, criterion, data, groups)
    if past is not None and past.masked:
        for group in groups:
            values[group.classes[list(past.masked[group.index])]] = -np.inf
    return values


def most_of(group, min_channels, round_to, max_ratio, before=0):
    """How many channels a group may lose, after it has lost some `before`."""
    least = max(group.least, min_channels, round_to or 1)
    if max_ratio is not None:
        least = max(least, math.ceil((group.size + before) * (1 - max_ratio) - 1e-9))
    return max(0, group.size - least)


def filters_of(graph, group, convolutions_only):
    """How many filters that count go with each channel of a group."""
    if not convolutions_only:
        return group.filters
    counts = np.zeros(len(graph.classes), np.int64)
    for producer in group.producers:
        if producer.convolution:
            np.add.at(counts, graph.classes[producer.ids], 1)
    return counts[group.classes]


MEASURES = {"params": parameters, "flops": flops}


def amount(of, graph, candidates, shared, past=None):
    """What `ratio` is a share of: how much there is, and a function that tells how much goes,
    what has gone before included."""
    if of == "filters":
        before = sum(c.filters_before for c in shared)
        return (
            before + sum(int(c.filters.sum()) for c in shared),
            lambda: before + sum(int(c.filters[c.chosen].sum()) for c in shared),
        )
    measure = MEASURES[of]
    whole = measure(graph) if past is None else past.whole

    def lost():
        return whole - measure(graph, graph.gone([c.classes[c.chosen] for c in candidates]))

    return whole, lost


def nothing_to_prune(graph):
    reasons = "; ".join(f"{f.operation}: {f.reason}" for f in graph.frozen[:3])
    return (
        f"model {graph.model.name!r} has no channel that may be pruned: {len(graph.groups)} groups "
        "of channels, all of them left out by ignore or convolutions_only"
        if graph.groups
        else f"model {graph.model.name!r} has no channel that may be pruned; frozen: {reasons}"
    )


# -- layers by name --


def own_shares(graph, per_layer, prunable):
    """`{group index: share}` from `{layer or name: share}`."""
    found: dict[int, float] = {}
    for key, share in per_layer.items():
        indices = [index for index in groups_of(graph, key) if index in prunable]
        if share and not indices:
            raise OptionError(
                f"per_layer: {name_of(key)!r} has no channel that may be pruned"
                + "".join(
                    f"; frozen: {f.reason}"
                    for f in graph.frozen
                    if f.operation in paths_of(graph, key)
                )
            )
        for index in indices:
            if found.setdefault(index, share) != share:
                names = ", ".join(p.path for p in graph.groups[index].producers)
                raise OptionError(
                    f"per_layer: expected one ratio for channels that must be pruned together, "
                    f"received: {found[index]} and {share} for {names}"
                )
    return found


def groups_of(graph, key):
    """The groups whose channels a layer creates, or holds one entry each of (batch norm …)."""
    paths = paths_of(graph, key)
    touched = np.zeros(len(graph.classes), bool)
    for producer in graph.producers:
        if producer.path in paths:
            touched[graph.classes[producer.ids]] = True
    for path in paths:
        for piece in graph.by_path.get(path, ()):
            if piece.role == "follow":
                touched[graph.classes[piece.ids]] = True
    touched[SOLID] = False
    return [group.index for group in graph.groups if touched[group.classes].any()]


def by_layer(graph, prunable):
    """The path of a layer -> the groups that it stands for in `per_layer`, until all groups have
    a layer."""
    found: dict[str, list[int]] = {}
    for index in prunable:
        if not any(index in indices for indices in found.values()):
            path = graph.groups[index].producers[0].path
            found[path] = [i for i in groups_of(graph, path) if i in prunable]
    return found


def paths_of(graph, key):
    """Paths of the operations that a layer object or a name stands for."""
    calls = graph.calls.values()
    if isinstance(key, keras.Layer):
        heads = {call.path for call in calls if call.operation is key}
    else:
        heads = {call.path for call in calls if key in (call.path, call.operation.name)}
    if not heads:
        names = sorted({name for call in calls for name in (call.path, call.operation.name)})
        close = difflib.get_close_matches(name_of(key), names, 3) or names[:3]
        raise OptionError(
            f"model {graph.model.name!r} has no layer {name_of(key)!r}"
            + (" that is this very object" if isinstance(key, keras.Layer) else "")
            + f". Close to it: {', '.join(map(repr, close))}"
        )
    inside = tuple(f"{head}/" for head in heads)
    return heads | {call.path for call in calls if call.path.startswith(inside)}


def name_of(key):
    """A layer's name, or the name itself."""
    return key.name if isinstance(key, keras.Layer) else key


# -- checks --


def checked_options(ratio, of, scope, min_channels, round_to, max_ratio, convolutions_only):
    """The options as a dict that can be written down, if they are what is expected."""
    if of not in ("filters", "params", "flops"):
        raise OptionError(f"of: expected 'filters', 'params' or 'flops', received: {of!r}")
    if scope not in ("global", "layer"):
        raise OptionError(f"scope: expected 'global' or 'layer', received: {scope!r}")
    if not isinstance(convolutions_only, (bool, np.bool_)):
        raise OptionError(f"convolutions_only: expected a bool, received: {convolutions_only!r}")
    return {
        "ratio": check_share("ratio", ratio),
        "of": of,
        "scope": scope,
        "min_channels": check_count("min_channels", min_channels),
        "round_to": None if round_to is None else check_count("round_to", round_to),
        "max_ratio": None if max_ratio is None else check_share("max_ratio", max_ratio),
        "convolutions_only": bool(convolutions_only),
    }


def check_share(name, value):
    """`value` if it is a number in [0, 1)."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        raise OptionError(f"{name}: expected a number in [0, 1), received: {value!r}")
    return float(value)


def check_count(name, value):
    """`value` if it is a positive integer."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise OptionError(f"{name}: expected a positive integer, received: {value!r}")
    return int(value)


def as_list(ignore):
    """One layer or name, or several, as a list."""
    several = [ignore] if isinstance(ignore, (str, keras.Layer)) else ignore
    if not isinstance(several, collections.abc.Iterable):
        raise OptionError(f"ignore: expected layers or names of layers, received: {ignore!r}")
    several = list(several)
    for key in several:
        if not isinstance(key, (str, keras.Layer)):
            raise OptionError(f"ignore: expected layers or names of layers, received: {key!r}")
    return several


def as_dict(per_layer):
    """Shares by layer or name."""
    if per_layer is None:
        return {}
    if not isinstance(per_layer, collections.abc.Mapping):
        raise OptionError(f"per_layer: expected {{layer or name: ratio}}, received: {per_layer!r}")
    for key, share in per_layer.items():
        if not isinstance(key, (str, keras.Layer)):
            raise OptionError(f"per_layer: expected layers or names of layers, received: {key!r}")
        check_share(f"per_layer of {name_of(key)!r}", share)
    return dict(per_layer)


def check_weights(graph):
    """Refuses NaN and infinity wherever channels pass, scored or not."""
    for pieces in graph.by_variable.values():
        value = numbers_of(pieces[0].variable)
        with np.errstate(all="ignore"):
            suspicious = not np.isfinite(value.sum())  # a sum needs no second array
        if suspicious:
            check_finite(value, pieces[0].variable, pieces[0].path)
