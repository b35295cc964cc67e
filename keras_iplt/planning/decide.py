"""Deciding which channels of a model go."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_iplt.criteria import DEFAULT, check_finite, scores_after
from keras_iplt.criteria.base import AnyCriterion, Criterion
from keras_iplt.errors import OptionError
from keras_iplt.graph.channels import Graph, Group
from keras_iplt.graph.costs import parameters, share_removed
from keras_iplt.graph.names import own_shares
from keras_iplt.graph.slices import numbers_of
from keras_iplt.graph.trace import trace, without_branches
from keras_iplt.planning.budgets import HALF, Unsaid, check_one, shown
from keras_iplt.planning.measures import (
    FILTERS,
    AnyMeasure,
    Exact,
    Rounding,
    cost_of,
    name_of_measure,
    resolved,
)
from keras_iplt.planning.options import PlanKeywords, PlanOptions, Scope
from keras_iplt.planning.plan import Plan, filters_departed, finished
from keras_iplt.planning.ranking import Candidate, Queue
from keras_iplt.support.arguments import (
    Count,
    Data,
    Share,
    Verbosity,
    blaming,
    checked,
    expect,
    said,
    several,
)
from keras_iplt.support.progress import silent
from keras_iplt.support.text import warn

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "Past",
    "candidates_of",
    "check_weights",
    "decide",
    "plan",
    "ranked",
]


@checked
def plan(
    model: keras.Model | Graph,
    ratio: Share = HALF,
    of: AnyMeasure = "filters",
    criterion: AnyCriterion = DEFAULT,
    scope: Scope = "global",
    per_layer: Any = None,
    data: Data | None = None,
    **more: Unpack[PlanKeywords],
) -> Plan:
    """Decides which channels of a model go. The model is left as it is.

    Args:
        model: a Keras model, or its `Graph` from `keras_iplt.trace`.
        ratio: the share to remove, in [0, 1); 0.5 unless a budget says how much is left.
        of: what `ratio` is a share of: `"filters"` (all prunable filters), `"params"`, `"macs"` or
            `"flops"` of the whole model, or `"latency"`: the time that it takes in TFLite on this
            machine, on one thread. For more threads, or not to measure each time, give a table
            made by `keras_iplt.latency_table`; or any object with a `name` and a method
            `cost(graph, gone)`.
        criterion: how important a channel is: a name, an object of `keras_iplt.criteria`, or a
            function of a `(filters, weights)` array that returns one number per filter.
        scope: `"global"` ranks all filters of the model together, `"layer"` takes the same share
            of every group.
        per_layer: `{layer or name: ratio}` for layers that get a share of their own; `ratio`, if it
            is given too, is then the share of all others, which else stay as they are. Several
            layers can be meant at once, as with `ignore`; their own names go first.
        data: what data-driven criteria look at: `(x, y)`, `x`, or batches of these.
        ignore: layers or names (a nested model stands for all its layers) that keep all their
            filters, and with them whatever must be pruned together with these. A pattern such as
            `"conv2*"` or `"*/ffn/*"`, a class, or a function of a layer stands for several.
        only: the only layers that lose filters, said in the same ways, and with them whatever must
            be pruned together with these.
        min_channels: how many channels every group keeps at least.
        round_to: what is left of each group is rounded to the nearest multiple of this, and is
            at least one multiple. `"auto"` (or a latency table): the number of channels that this
            processor computes at once in layers of that kind.
        max_ratio: no group loses more than this share, so that a global ranking cannot empty it.
        convolutions_only: prune and count the filters of convolutions only, as the papers do.
        approximate, heads: of a model, read it as `keras_iplt.trace` does with these.
        params, macs, flops, size, latency: a budget, in place of `ratio`: at most so many
            parameters, multiply-adds or FLOPs are left (`20_000`, `"20k"`), bytes of the .tflite
            file (`"200KB"`, `"200KB int8"`), or seconds (`"5ms"`). Of a model that is within its
            budget nothing goes.
        at_most: the same for whatever `of` measures.
        branches: residual branches that go as a whole, as `without` of `keras_iplt.trace` takes
            them; without `ratio` or a budget nothing else goes. What goes with them counts as part
            of `ratio`.
        verbose: 0 for no progress bar, which only terminals and notebooks get.

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
    verbose = expect("verbose", Verbosity, more.pop("verbose", 1))
    branches = several(more.pop("branches", ()))
    given = dict(of=of, criterion=criterion, scope=scope, per_layer=per_layer, **more)
    options = PlanOptions.of_keywords(given)
    check_one("ratio", ratio, options.at_most)
    if options.per_layer and isinstance(ratio, Unsaid):
        ratio = 0.0  # the others stay as they are
    if isinstance(model, Graph):
        graph = model
    else:
        graph = trace(model, options.approximate, verbose, heads=options.heads)
    for name in ("approximate", "heads"):
        if getattr(options, name) and not getattr(graph, name):
            raise OptionError(
                f"{name}: expected a model, or the graph of iplt.trace(model, {name}=True), "
                "received: a graph that was read without it"
            )
    with silent(when=not verbose):
        if branches:
            graph = without_branches(graph, branches)
            if isinstance(ratio, Unsaid) and options.at_most is None:
                nothing, asked = [()] * len(graph.groups), {"ratio": 0.0, **options.plain()}
                filters = [group.filters for group in graph.groups]
                return finished(graph, nothing, filters, asked, share_removed(parameters, graph))
        return decide(graph, ratio, options, data)


_NEARLY_ALL = 0.9  # of a group's channels


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
    graph: Graph, ratio: float, options: PlanOptions, data: Any = None, past: Past | None = None
) -> Plan:
    """The `Plan` that `plan` promises; with a `Past`, the one that leads on from there."""
    options = options.meant(graph)
    of, round_to = resolved(graph, options.of, options.round_to)
    check_weights(graph)
    filters = options.countable(graph)
    own = own_shares(graph, options.per_layer, filters)
    groups = [graph.groups[index] for index in filters]
    values = ranked(graph, options.criterion, data, groups, past)
    candidates = candidates_of(
        graph, filters, values, past, min_channels=options.min_channels, round_to=round_to,
        max_ratio=options.max_ratio,
    )  # fmt: skip
    shared = [c for c in candidates if c.index not in own]
    for candidate in candidates:
        candidate.take_share(own.get(candidate.index, 0.0))
    queue = Queue(shared, values, options.scope)
    if options.at_most is not None or (ratio and shared):
        whole, left = amount(of, graph, candidates, shared, past)
        if options.at_most is None:
            queue.cut(ratio, whole, left)
        else:
            looked = of.exact if isinstance(of, Exact) else None
            exact = left if looked is None else lambda: looked(graph, taken(graph, candidates))
            check_reached(of, options.at_most, queue.cut_within(options.at_most, left, exact))
            ratio = max(0.0, 1 - options.at_most / whole)
    _tell_of_emptied(graph, shared, options)
    removed: list[tuple[int, ...]] = [()] * len(graph.groups)
    counted = [np.zeros(group.size, np.int64) for group in graph.groups]
    for candidate in candidates:
        removed[candidate.index] = tuple(candidate.chosen.tolist())
        counted[candidate.index] = candidate.filters
    asked = {"ratio": ratio, **options.plain()}
    return finished(graph, removed, counted, asked, share_removed(parameters, graph))


def _tell_of_emptied(graph: Graph, shared: Sequence[Candidate], options: PlanOptions) -> None:
    """A ranking that leaves next to nothing of a layer, while others stay, ruins a network."""
    lost = [(c.before + c.taken) / c.whole for c in shared]
    usual = sum(lost) / max(1, len(lost))
    emptied = [
        f"{graph.groups[c.index].producers[0].path}: {c.size - c.taken} of {c.whole} channels are "
        "left"
        for c, share in zip(shared, lost, strict=True)
        if share > max(_NEARLY_ALL, usual + 0.1)
    ]
    if emptied:
        warn(
            f"criterion {options.criterion.name!r} takes nearly all of some layers. "
            f"{'; '.join(emptied[:3])}. Use criterion='energy', scope='layer' or max_ratio",
            stacklevel=5,
        )


def candidates_of(
    graph: Graph,
    filters: dict[int, np.ndarray],
    values: np.ndarray,
    past: Past | None = None,
    min_channels: int = 1,
    round_to: int | Rounding | None = None,
    max_ratio: float | None = None,
) -> list[Candidate]:
    """A `Candidate` per group that may lose channels."""
    candidates = []
    for index, counts in filters.items():
        group = graph.groups[index]
        before = 0 if past is None else past.sizes[index] - group.size
        multiple: Any = round_to
        if isinstance(round_to, Rounding):
            with blaming(f"round_to: {said(round_to)}"):
                multiple = expect("its multiple", Count, round_to.multiple(graph, group))
        candidates.append(
            Candidate(
                index, group.classes, counts,
                order=np.lexsort((np.arange(group.size), values[group.classes])),
                most=most_of(group, min_channels, multiple or 1, max_ratio, before),
                multiple=multiple or 1,
                before=before,
                filters_before=0 if past is None else past.filters[index] - int(counts.sum()),
            )
        )  # fmt: skip
    return candidates


def ranked(
    graph: Graph, criterion: Criterion, data: Any, groups: list[Group], past: Past | None
) -> np.ndarray:
    """The importance of every channel; what is masked already comes first."""
    times = np.ones(len(graph.classes))
    masked: list[int] = []
    if past is not None:
        for group in groups:
            zero = past.masked[group.index] if past.masked else ()
            masked += group.classes[list(zero)].tolist()
            times[group.classes] = past.sizes[group.index] / max(1, group.size - len(zero))
    values = scores_after(times, graph, criterion, data, groups)
    values[masked] = -np.inf
    return values


def most_of(
    group: Group, min_channels: int, multiple: int, max_ratio: float | None, before: int = 0
) -> int:
    """How many channels a group may lose, after it has lost some `before`."""
    least = max(group.least, min_channels, multiple)
    if max_ratio is not None:
        least = max(least, math.ceil((group.size + before) * (1 - max_ratio) - 1e-9))
    return max(0, group.size - least)


def amount(
    of: Any,
    graph: Graph,
    candidates: list[Candidate],
    shared: list[Candidate],
    past: Past | None = None,
) -> tuple[float, Callable[[], float]]:
    """What `ratio` is a share of: how much there was, and what tells how much is left.

    That is a function: less what has been taken by then."""
    if of == FILTERS:
        before = filters_departed(graph) + sum(c.filters_before for c in shared)
        now = sum(int(c.filters.sum()) for c in shared)
        return before + now, lambda: now - sum(int(c.filters[c.chosen].sum()) for c in shared)
    return (
        cost_of(of, graph.whole) if past is None else past.whole,
        lambda: cost_of(of, graph, taken(graph, candidates)),
    )


def taken(graph: Graph, candidates: Iterable[Candidate]) -> np.ndarray:
    """A mask over all ids: True for those of the channels taken."""
    return graph.gone([c.classes[c.chosen] for c in candidates])


def check_reached(of: Any, at_most: float, least: float) -> None:
    """Refuses a budget that is out of reach."""
    if least > at_most:
        raise OptionError(
            f"{name_of_measure(of)}: expected at least {shown(of, least)}, which is left when all "
            "goes that may, or less of ignore, per_layer, min_channels, round_to and max_ratio; "
            f"received: {shown(of, at_most)}"
        )


def check_weights(graph: Graph) -> None:
    """Refuses NaN and infinity wherever channels pass, scored or not."""
    for pieces in graph.by_variable.values():
        value = numbers_of(pieces[0].variable)
        with np.errstate(all="ignore"):
            suspicious = not np.isfinite(value.sum())  # a sum needs no second array
        if suspicious:
            check_finite(value, pieces[0].variable, pieces[0].path)
