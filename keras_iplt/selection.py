"""Choosing channels: one order over all of them, cut where the share asked for is reached.

Both scopes are one mechanism. `scope="global"` orders channels by their score; `scope="layer"`
orders them by their rank within their group divided by the group's size, so that any cut takes
the same share of every group. Groups give up channels in order of score until a constraint
holds them; the cut is then moved so that the share comes out within one channel.
"""

import dataclasses
import difflib
import math
import numbers

import keras
import numpy as np

from keras_iplt.cost import flops, parameters, share_removed
from keras_iplt.criteria import get as get_criterion
from keras_iplt.criteria import scores
from keras_iplt.errors import NothingToPruneError, OptionError
from keras_iplt.plan import as_graph, finished

__all__ = ["plan"]


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
    check_share("ratio", ratio)
    if of not in ("filters", "params", "flops"):
        raise OptionError(f"of: expected 'filters', 'params' or 'flops', received: {of!r}")
    if scope not in ("global", "layer"):
        raise OptionError(f"scope: expected 'global' or 'layer', received: {scope!r}")
    check_count("min_channels", min_channels)
    if round_to is not None:
        check_count("round_to", round_to)
    if max_ratio is not None:
        check_share("max_ratio", max_ratio)
    graph = as_graph(model)
    criterion = get_criterion(criterion)
    own = {k: check_share("per_layer", v) for k, v in groups_named(graph, per_layer or {}).items()}
    kept_whole = groups_named(graph, dict.fromkeys(as_list(ignore), True))
    candidates = prunable(graph, kept_whole, convolutions_only)
    values = scores(graph, criterion, data)
    for candidate in candidates:
        candidate.set_limits(min_channels, round_to, max_ratio)
        candidate.order = np.lexsort((np.arange(candidate.size), values[candidate.classes]))
    shared = [c for c in candidates if c.index not in own]
    for candidate in candidates:
        if candidate.index in own:
            wanted = own[candidate.index] * candidate.size
            candidate.taken = candidate.rounded(math.floor(wanted + 0.5))
    if ratio and shared:
        queue = Queue(graph, shared, candidates, values, scope)
        if of == "filters" and round_to is None:
            queue.cut_by_count(ratio)
        elif of == "filters":
            queue.cut(ratio, queue.share_of_filters)
        else:
            queue.cut(ratio, share_removed({"params": parameters, "flops": flops}[of], graph))
    options = {
        "ratio": ratio, "of": of, "criterion": criterion.name, "scope": scope,
        "min_channels": min_channels, "round_to": round_to, "max_ratio": max_ratio,
        "convolutions_only": convolutions_only,
    }  # fmt: skip
    removed: list = [()] * len(graph.groups)
    filters = [np.zeros(group.size, np.int64) for group in graph.groups]
    for candidate in candidates:
        removed[candidate.index] = tuple(candidate.order[: candidate.taken])
        filters[candidate.index] = candidate.filters
    return finished(graph, removed, filters, options, share_removed(parameters, graph))


# -- candidates --


@dataclasses.dataclass
class Candidate:
    """A group that may lose channels.

    Attributes:
        index: the group's place in the graph.
        classes, filters: its channels, and how many filters go with each.
        order: its channels, the least important first.
        most: how many may go.
        taken: how many do.
        multiple: what is left is a multiple of this.
    """

    index: int
    classes: np.ndarray
    filters: np.ndarray
    order: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))
    most: int = 0
    taken: int = 0
    multiple: int = 1

    @property
    def size(self):
        return len(self.classes)

    def set_limits(self, min_channels, round_to, max_ratio):
        self.multiple = round_to or 1
        least = max(min_channels, self.multiple)
        if max_ratio is not None:
            least = max(least, math.ceil(self.size * (1 - max_ratio) - 1e-9))
        self.most = max(0, self.size - least)

    def rounded(self, taken):
        """The number of channels to take that is nearest to `taken` and allowed."""
        taken = min(taken, self.most)
        if self.multiple == 1 or not taken:
            return taken
        left = self.size - taken
        left = self.multiple * max(1, math.floor(left / self.multiple + 0.5))
        if self.size - left > self.most:
            left += self.multiple
        return max(0, self.size - left)


def prunable(graph, kept_whole, convolutions_only):
    """The groups that may lose channels, with the filters that count."""
    candidates = []
    for group in graph.groups:
        filters = group.filters
        if convolutions_only:
            filters = np.zeros(len(graph.classes), np.int64)
            for producer in group.producers:
                if producer.convolution:
                    np.add.at(filters, graph.classes[producer.ids], 1)
            filters = filters[group.classes]
        if group.index not in kept_whole and filters.any():
            candidates.append(Candidate(group.index, group.classes, filters))
    if not candidates:
        reasons = "; ".join(f"{f.operation}: {f.reason}" for f in graph.frozen[:3])
        raise NothingToPruneError(
            f"model {graph.model.name!r} has no channel that may be pruned "
            f"({len(graph.groups)} groups, of which {len(kept_whole)} are ignored"
            + (f"; frozen: {reasons})" if reasons else ")")
        )
    return candidates


def groups_named(graph, named):
    """`{group index: value}` from `{layer or name: value}`."""
    found: dict = {}
    for key, value in named.items():
        paths = paths_of(graph, key)
        for group in graph.groups:
            own = {p.path for p in group.producers} | followers(graph, group)
            if own & paths:
                if found.get(group.index, value) != value:
                    raise OptionError(
                        f"per_layer asks for both {found[group.index]} and {value} for channels "
                        f"that must be pruned together: {sorted(p.path for p in group.producers)}"
                    )
                found[group.index] = value
    return found


def followers(graph, group):
    """Layers that hold one entry per channel of a group (batch norm, depthwise …)."""
    classes = set(group.classes.tolist())
    return {
        piece.path
        for path in group.layers
        for piece in graph.by_path.get(path, ())
        if piece.role == "follow" and classes & set(graph.classes[piece.ids].tolist())
    }


def paths_of(graph, key):
    """Paths of the operations that a layer object or a name stands for."""
    calls = graph.calls.values()
    if isinstance(key, keras.Layer):
        heads = {call.path for call in calls if call.operation is key}
        wanted = key.name
    elif isinstance(key, str):
        heads = {call.path for call in calls if key in (call.path, call.operation.name)}
        wanted = key
    else:
        raise OptionError(f"expected a layer or the name of one, received: {key!r}")
    if not heads:
        names = sorted({call.path for call in calls})
        close = difflib.get_close_matches(wanted, names, 3) or names[:3]
        raise OptionError(
            f"model {graph.model.name!r} has no layer {wanted!r}. Close to it: {', '.join(close)}"
        )
    inside = tuple(f"{head}/" for head in heads)
    return heads | {call.path for call in calls if call.path.startswith(inside)}


# -- the cut --


class Queue:
    """All channels that may go, in the order in which they go."""

    def __init__(self, graph, shared, candidates, values, scope):
        self.graph, self.shared, self.candidates = graph, shared, candidates
        owner, key, filters = [], [], []
        for place, candidate in enumerate(shared):
            ranked = candidate.order[: candidate.most]
            owner.append(np.full(len(ranked), place))
            filters.append(candidate.filters[ranked])
            if scope == "global":
                key.append(values[candidate.classes[ranked]])
            else:
                key.append((np.arange(len(ranked)) + 0.5) / candidate.size)
        order = np.argsort(np.concatenate(key), kind="stable")
        self.owner = np.concatenate(owner)[order]
        self.filters = np.concatenate(filters)[order]
        self.total = sum(int(c.filters.sum()) for c in shared)

    def take(self, count):
        """The first `count` channels go."""
        taken = np.bincount(self.owner[:count], minlength=len(self.shared))
        for candidate, number in zip(self.shared, taken, strict=True):
            candidate.taken = candidate.rounded(int(number))

    def gone(self):
        return self.graph.gone([c.classes[c.order[: c.taken]] for c in self.candidates])

    def share_of_filters(self, gone):
        """The share of the filters in question that goes."""
        lost = sum(int(c.filters[gone[c.classes]].sum()) for c in self.shared)
        return lost / self.total

    def cut(self, wanted, share):
        """Takes as many channels as bring `share` nearest to `wanted`."""
        low, high = 0, len(self.owner)
        reach = self._share_after(high, share)
        if reach < wanted and not self._within_one_channel(wanted, reach, high, share):
            raise OptionError(
                f"{wanted:.1%} cannot be removed: with these constraints at most {reach:.1%} can"
            )
        while low < high:  # the first count that reaches the share
            middle = (low + high) // 2
            if self._share_after(middle, share) < wanted:
                low = middle + 1
            else:
                high = middle
        nearest = min(
            (low, max(0, low - 1)), key=lambda n: abs(self._share_after(n, share) - wanted)
        )
        self.take(nearest)

    def _share_after(self, count, share):
        self.take(count)
        return share(self.gone())

    def _within_one_channel(self, wanted, reach, count, share):
        return count > 0 and wanted - reach <= reach - self._share_after(count - 1, share)

    def cut_by_count(self, wanted):
        """Takes filters until their number is the share wanted. Channels with more filters than
        are still to go are passed over."""
        left = math.floor(wanted * self.total + 0.5)
        fits = np.cumsum(self.filters) <= left
        prefix = int(fits.sum())
        chosen = np.zeros(len(self.owner), bool)
        chosen[:prefix] = True
        left -= int(self.filters[:prefix].sum())
        stopped = set()  # groups give up channels in order: after a gap, no more of that group
        for i in range(prefix, len(self.owner)):
            if left <= 0:
                break
            if self.owner[i] in stopped or self.filters[i] > left:
                stopped.add(self.owner[i])
                continue
            chosen[i] = True
            left -= int(self.filters[i])
        skipped = np.flatnonzero(~chosen)
        if left > 0 and not len(skipped):
            reach = 1 - (left + self.total - math.floor(wanted * self.total + 0.5)) / self.total
            raise OptionError(
                f"{wanted:.1%} of the filters cannot be removed: with these constraints at most "
                f"{reach:.1%} can"
            )
        taken = np.bincount(self.owner[chosen], minlength=len(self.shared))
        for candidate, number in zip(self.shared, taken, strict=True):
            candidate.taken = int(number)


# -- checks --


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


def as_list(value):
    """One layer or name, or several, as a list."""
    return [value] if isinstance(value, (str, keras.Layer)) else list(value)
