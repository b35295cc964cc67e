"""How far the pruning of a model has come, whatever calls for the next step."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.criteria.base import AnyCriterion, Criterion
from keras_iplt.errors import DataError, OptionError
from keras_iplt.graph.channels import Affine, Graph
from keras_iplt.graph.costs import flops, parameters
from keras_iplt.graph.slices import kept_axes, numbers_of, take, zeroed
from keras_iplt.graph.trace import trace
from keras_iplt.planning.decide import Past, decide
from keras_iplt.planning.measures import FILTERS, cost_of, resolved
from keras_iplt.planning.options import PlanOptions
from keras_iplt.planning.plan import Plan, bound
from keras_iplt.support.text import printable
from keras_iplt.surgery.masking import mask
from keras_iplt.surgery.refitting import refitted
from keras_iplt.surgery.rewriter import Rewriter
from keras_iplt.surgery.shrinking import shrunk

__all__ = ["Progress", "ProgressState", "WayBack"]


Kept: TypeAlias = "tuple[np.ndarray | None, ...]"  # what stays of each axis of a variable


@dataclasses.dataclass(frozen=True)
class ProgressState:
    """How far the pruning of a model had come, of what JSON takes.

    Attributes:
        plans: those carried out, in order.
        masked: the plan whose channels are zero but still there, or None.
    """

    plans: list[str]
    masked: str | None


class Progress:
    """A model on its way to a target, step by step. All shares are of the model as it was first.

    What has been decided may be carried out at once or wait as zeros (`masked`); either way the
    outputs are the same, and so is what is decided next.

    Args:
        model: the model, at full size.
        target: the share that goes in the end; a budget among the options takes its place.
        options: `PlanOptions`.
        data: what data-driven criteria look at.
        compensate: what weights that stay are fitted anew on, or None.

    Attributes:
        target: the share that goes in the end.
        graph: the model as it is now, read as channels.
        masked: the `Plan` whose channels are zero but still there, or None.
        plans: those carried out, in order.
    """

    def __init__(
        self,
        model: keras.Model,
        target: float | None,
        options: PlanOptions,
        data: Any = None,
        compensate: Any = None,
    ) -> None:
        self.model, self.target, self.data, self.compensate = model, target, data, compensate
        if options.criterion.needs_data and data is None:
            raise DataError(
                f"criterion {options.criterion.name!r} expected data=(x, y), x or batches of "
                "these, received: None"
            )
        self.graph = trace(model, approximate=options.approximate, heads=options.heads)
        of, round_to = resolved(self.graph, options.of, options.round_to)
        self.options = options.meant(self.graph).replace(of=of, round_to=round_to)
        self.architecture = self.graph.signature  # at full size
        self.masked: Any = None
        self.plans: list[Plan] = []
        self._texts: list[str] = []  # of plans, as JSON
        self._sizes = [group.size for group in self.graph.groups]  # at full size, as all below
        counts = self.options.countable(self.graph)
        self._filters = [
            float(counts[group.index].sum()) if group.index in counts else 0.0
            for group in self.graph.groups
        ]
        self._flops = _flops(self.graph)
        self._whole = sum(self._filters) if self._of == FILTERS else cost_of(self._of, self.graph)
        if options.at_most is not None:
            self.target = max(0.0, 1 - options.at_most / self._whole)

    @property
    def criterion(self) -> Criterion:
        """What ranks the filters."""
        return self.options.criterion

    @property
    def _of(self) -> Any:
        """What shares are shares of."""
        return self.options.of

    # -- where things stand --

    @property
    def gone(self) -> np.ndarray | None:
        """Mask over the ids of the graph: what is zero already, or None."""
        return None if self.masked is None else self.masked.gone

    @property
    def ratio(self) -> float:
        """The share that is gone, or waits as zeros."""
        return self.share(self.masked)

    def share(self, plan: Plan | None = None) -> float:
        """The share that is gone once a plan is carried out."""
        if self._of != FILTERS:
            gone = None if plan is None else plan.gone
            return 1 - cost_of(self._of, self.graph, gone) / self._whole
        left = 0
        for index, counts in self.options.countable(self.graph).items():
            left += int(counts.sum())
            if plan is not None:
                left -= int(counts[list(plan.removed[index])].sum())
        return 1 - left / sum(self._filters)

    @property
    def params(self) -> int:
        """Parameters left."""
        return parameters(self.graph, self.gone)

    @property
    def flops(self) -> int | None:
        """FLOPs left, or None where the input has no fixed size."""
        return _flops(self.graph, self.gone)

    # -- deciding --

    def plan(
        self, ratio: float, criterion: AnyCriterion | None = None, masked: bool = True
    ) -> Plan:
        """What goes so that `ratio` is gone: a `Plan` for the model as it is now.

        Args:
            ratio: share of the model as it was first.
            criterion: another one than that of the options.
            masked: whether what is zero has to go first.
        """
        share = min(1.0, ratio / self.target) if self.target else 0.0
        own = {key: part * share for key, part in self.options.per_layer.items()}
        options = self.options.replace(per_layer=own, criterion=criterion or self.criterion)
        if share < 1:
            options = options.replace(at_most=None)  # the budget is for the last step
        past = Past(
            sizes=self._sizes,
            filters=self._filters,
            whole=self._whole,
            masked=self.masked.removed if masked and self.masked is not None else (),
        )
        return decide(self.graph, ratio, options, self.data, past)

    def lost_most(self, plan: Plan, most: int = 3) -> str:
        """Of which groups of layers a plan takes the largest share of what they have now."""
        before = self.masked.removed if self.masked is not None else ((),) * len(self.graph.groups)
        left = [
            (group.size - len(zeros), group.size - len(gone), group.producers[0].path)
            for group, zeros, gone in zip(self.graph.groups, before, plan.removed, strict=True)
        ]
        left = [one for one in left if one[1] < one[0]]
        left.sort(key=lambda one: one[1] / one[0])
        return ", ".join(f"{printable(name)} ({old} -> {new})" for old, new, name in left[:most])

    # -- carrying out --

    def mask(self, plan: Plan) -> None:
        """Sets to zero what a plan takes away, and the optimizer's momentum for it.

        With both at zero, training leaves them there."""
        if self.compensate is not None:
            fitted = refitted(self.graph, plan.gone, self.compensate)
            for variable in self.model.variables:
                if id(variable) in fitted:
                    variable.assign(fitted[id(variable)])
        mask(self.model, plan)
        self.masked = plan
        for slot, kept in self._slots(plan):
            slot.assign(zeroed(numbers_of(slot), kept))

    def _slots(self, plan: Plan) -> Iterator[tuple[keras.Variable, Kept]]:
        optimizer = getattr(self.model, "optimizer", None)
        for inner in () if optimizer is None else private.inner_optimizers(optimizer):
            for slot, variable, axes in private.driving_slots(inner):
                kept = self._kept(variable, plan)
                kept = tuple(kept[axis] for axis in axes)
                if any(indices is not None for indices in kept):
                    yield slot, kept

    def _kept(self, variable: keras.Variable, plan: Plan) -> Kept:
        pieces = self.graph.by_variable.get(id(variable), ())
        return kept_axes(variable, pieces, plan.gone)

    def drifting(self) -> list[keras.Variable]:
        """Masked variables that training has moved away from zero.

        That happens where the gradient of a masked channel is not zero, as behind a sigmoid."""
        found = []
        for pieces in self.graph.by_variable.values():
            variable = pieces[0].variable
            kept = self._kept(variable, self.masked)
            if any(indices is not None for indices in kept):
                value = numbers_of(variable)
                if np.count_nonzero(value) != np.count_nonzero(take(value, kept)):
                    found.append(variable)
        return found

    def hold(self, variables: Iterable[keras.Variable]) -> None:
        """Sets the masked parts of these variables to zero again."""
        for variable in variables:
            variable.assign(zeroed(numbers_of(variable), self._kept(variable, self.masked)))

    def soften(self, plan: Plan) -> None:
        """Zeroes the kernels of the filters that a plan takes away, and nothing else.

        Gradients still reach them, so that they may come back. (With its bias at zero too, a filter
        before a ReLU never would.)"""
        for layer in {id(p.layer): p.layer for p in self.graph.producers}.values():
            for variable in layer.weights:
                pieces = self.graph.by_variable.get(id(variable), ())
                if len(variable.shape) < 2:
                    continue
                filters = [piece for piece in pieces if piece.role != "input"]
                kept = kept_axes(variable, filters, plan.gone)
                if any(indices is not None for indices in kept):
                    variable.assign(zeroed(numbers_of(variable), kept))

    def carry_out(
        self, plan: Plan | None = None, also: Sequence[keras.Model] = (), fit: bool = True
    ) -> Callable[[], None]:
        """What a plan takes away goes physically: the one given, or the one that waits as zeros.

        Args:
            plan: the plan, or None.
            also: other models over the same layers.
            fit: whether what stays is fitted anew, where that is asked for. What waits as zeros
                was when it became so.

        Returns:
            A function that takes it back.
        """
        saved = self.graph, self.masked, self._sizes, self._filters
        plan = plan or self.masked
        compensate = None if plan is self.masked or not fit else self.compensate
        undo = shrunk(self.model, plan, also, compensate)
        self.plans.append(plan)
        self.masked = None
        self.look_again()

        def back() -> None:
            undo()
            self.graph, self.masked, self._sizes, self._filters = saved
            self.plans.pop()
            del self._texts[len(self.plans) :]

        return back

    def weights_left(self) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
        """A function that cuts a list of the model's weights to what the zeros leave of it.

        The weights are as they are now."""
        plan, factors = self.masked, Rewriter(self.graph, self.masked.gone).factors
        parts = [(self._kept(v, plan), factors.get(id(v), Affine())) for v in self.model.weights]

        def left(values: list[np.ndarray]) -> list[np.ndarray]:
            pairs = zip(values, parts, strict=True)
            return [change.of(take(value, kept)) for value, (kept, change) in pairs]

        return left

    def look_again(self) -> None:
        """Reads the model after it has become smaller, here or elsewhere.

        Its groups are those from before, as a rule."""
        self.graph = trace(
            self.model, approximate=self.options.approximate, heads=self.options.heads
        )
        sizes = [group.size for group in self.graph.groups]
        same = len(sizes) == len(self._sizes)
        if same and all(now <= then for now, then in zip(sizes, self._sizes, strict=True)):
            return
        # A grouped convolution that is down to one channel per group is a depthwise one, and
        # channels hang together otherwise. Only the totals can be carried on.
        whole = sum(self._sizes) / sum(sizes)
        self._sizes = [round(size * whole) for size in sizes]
        counts = self.options.countable(self.graph)
        whole = sum(self._filters) / sum(int(c.sum()) for c in counts.values())
        self._filters = [
            float(counts[index].sum() * whole) if index in counts else 0.0
            for index in range(len(sizes))
        ]

    # -- a training that goes on elsewhere --

    def state(self) -> ProgressState:
        """What `replay` needs."""
        done = len(self._texts)
        self._texts += [plan.to_json() for plan in self.plans[done:]]
        masked = None if self.masked is None else self.masked.to_json()
        return ProgressState(self._texts, masked)

    def replay(
        self, state: ProgressState, also: Sequence[keras.Model], undo: contextlib.ExitStack
    ) -> None:
        """Gives a model at full size the structure of another time; values are for the caller.

        Args:
            state: that of the other time.
            also: other models over the same layers.
            undo: gets what takes it back.
        """
        for text in state.plans:
            plan = bound(Plan.from_json(text), self.model)
            undo.callback(self.carry_out(plan, also, fit=False))
        if state.masked is not None:
            self.masked = bound(Plan.from_json(state.masked), self.model)


class WayBack:
    """Call it to make a model as it was: weights and the optimizer's state included.

    Attributes:
        undo: what makes the structure as it was; for whoever changes it to set.
    """

    def __init__(self, progress: Any) -> None:
        self.undo = lambda: None
        self._progress, self._masked = progress, progress.masked
        model = progress.model
        inside = private.inner_optimizers(model.optimizer)
        slots = [slot for one in inside for slot, *_ in private.slots(one)]
        several = {id(v): v for v in (*model.variables, *slots)}
        self._values = [(v, np.array(numbers_of(v))) for v in several.values()]

    def __call__(self) -> None:
        self.undo()
        for variable, value in self._values:
            variable.assign(value)
        self._progress.masked = self._masked


def _flops(graph: Graph, gone: np.ndarray | None = None) -> int | None:
    try:
        return flops(graph, gone)
    except OptionError:
        return None
