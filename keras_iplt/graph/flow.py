"""The verbs with which rules describe an operation: create, consume, follow, join, freeze.

A rule sees an operation and the `Channels` that go in, says with these verbs what happens to
them, and returns the `Channels` that come out. For a fully connected layer that is

    ids = flow.create(layer, layer.units)
    flow.consume(layer.kernel, 0, flow.vector(x, -1))
    flow.slice(layer.kernel, 1, ids, "output")
    return flow.place(ids, axis=-1)
"""

import abc
import math
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any, TypeGuard

import keras
import numpy as np

from keras_iplt.graph.channels import (
    SOLID,
    Call,
    Channels,
    Frozen,
    Outputs,
    Producer,
    Rescale,
    Shape,
    Slice,
    Work,
)
from keras_iplt.graph.masked import Outcome
from keras_iplt.graph.partition import Partition

__all__ = ["Flow", "all_known", "channel_axis", "channels_in", "product", "spread"]


class Flow(abc.ABC):
    """What is known while a model is being read.

    Attributes:
        path: name of the operation being read, with the models it is nested in.
        shapes: shapes of that operation's outputs, in flat order.
        approximate: whether layer normalisation may compute something else on fewer channels.
        heads: whether heads of attention may go as a whole.
    """

    def __init__(self, approximate: bool = False, heads: bool = False) -> None:
        self.partition = Partition()
        self.partition.fresh(1)  # SOLID
        self.slices: dict[tuple[int, int], Slice] = {}  # by id(variable) and axis
        self.producers: list[Producer] = []
        self.works: list[Work] = []
        self.rescales: list[Rescale] = []
        self.uses: list[Any] = []  # of variables by operations, see `gains`
        # Variables used as tensors, and their axis; None if how they are used is not understood.
        self.spread_out: list[tuple[keras.Variable, int | None]] = []
        self.minimums: list[tuple[np.ndarray, int]] = []  # (ids, how many of them have to stay)
        # Rows for layers that create channels in a way not understood.
        self.refusals: list[Frozen] = []
        self.freezes: list[tuple[np.ndarray, str]] = []  # (ids, reason)
        self.calls: dict[Hashable, Call] = {}
        # What operations were found to make of masked channels.
        self.trials: dict[Hashable, Outcome] = {}
        # What was found out about custom layers, which holds for others like them.
        self.recordings: dict[Hashable, Any] = {}
        self.lessons: list[Any] = []
        self.seen: list[Channels] = []  # all ever put out, for the final tidying
        self.used = set[int]()  # ids of the tensors that outputs of the graph being read need
        self.created = 0  # how many sets of channels the operation being read has created
        self.path = ""
        self.shapes: tuple[Shape, ...] = ()
        self.approximate = approximate
        self.heads = heads

    # -- channels come into being --

    def create(
        self, layer: keras.Operation, count: int, convolution: bool = False, part: str = ""
    ) -> np.ndarray:
        """New channels, one for each of `count` filters of `layer`, or of its `part`."""
        ids, path = self.partition.fresh(count), f"{self.path}/{part}" if part else self.path
        self.producers.append(Producer(path, layer, ids, convolution, self.created))
        self.created += 1
        return ids

    def solid(self, shape: Sequence[int | None]) -> Channels:
        """A tensor in which nothing can be pruned."""
        return Channels(np.full((1,) * len(shape), SOLID), tuple(shape))

    def place(
        self, ids: np.ndarray, axis: int, output: int = 0, masked: float | None = 0.0
    ) -> Channels:
        """The output tensor whose channels along `axis` are `ids`.

        `masked` is what they hold once they are masked (see `Channels`)."""
        shape = self.shapes[output]
        lengths = [1] * len(shape)
        lengths[axis] = len(ids)
        return Channels(self.partition.find(ids).reshape(lengths), shape, masked)

    def tensor_of(self, variable: keras.Variable) -> Channels:
        """A variable that operations take for a tensor.

        With what is known of its channels, or with one entry per channel along its last axis."""
        rank = len(variable.shape)
        known = [axis for axis in range(rank) if (id(variable), axis) in self.slices]
        axis = known[-1] if known else rank - 1
        if not rank or variable.shape[axis] == 1:
            return self.solid(variable.shape)
        if not known:
            self.follow(variable, axis, self.partition.fresh(variable.shape[axis]))
        self.spread_out.append((variable, axis))
        lengths = [variable.shape[axis] if a == axis else 1 for a in range(rank)]
        ids = self.partition.find(self.slices[id(variable), axis].ids)
        return Channels(ids.reshape(lengths), tuple(variable.shape))

    def settle_variables(self) -> None:
        """Variables that operations take for tensors lose nothing along their other axes."""
        for variable, axis in self.spread_out:
            for (key, other), piece in self.slices.items():
                if key == id(variable) and other != axis:
                    self.freeze(piece.ids, "a weight of its layer is used outside of it, too")

    # -- channels meet --

    def join(self, a: np.ndarray, b: np.ndarray, reason: str) -> None:
        """The ids of `a` and `b` stand or fall together, position by position."""
        a, b = np.broadcast_arrays(a, b)
        meets_solid = (a == SOLID) != (b == SOLID)
        if meets_solid.any():
            self.freeze(np.maximum(a, b)[meets_solid], reason)
        both = (a != SOLID) & (b != SOLID)
        if both.any():
            self.partition.union(a[both], b[both])

    def freeze(self, ids: np.ndarray | Channels, reason: str) -> None:
        """These ids stay. `reason` continues the sentence "cannot be pruned: …"."""
        several = np.unique(ids.ids if isinstance(ids, Channels) else ids)
        several = several[several != SOLID]
        if len(several):
            self.freezes.append((several, f"{reason} ({self.path})" if self.path else reason))

    def at_least(self, ids: np.ndarray, count: int) -> None:
        """`count` of these channels have to stay."""
        self.minimums.append((np.asarray(ids), count))

    def frozen(self, x: Any, reason: str) -> Outputs:
        """Freezes `x`, any structure of channels, and returns the output as a solid tensor.

        Several outputs are a list of them."""
        for one in channels_in(x):
            self.freeze(one, reason)
        return self.solid_outputs()

    def refused(self, layer: keras.Layer, x: Any, reason: str) -> Outputs:
        """As `frozen`, for a layer whose own filters are not understood: it is listed too.

        Weights that it shares with other layers stay whole there."""
        self.spread_out += [(variable, None) for variable in layer.weights]
        channels = int(self.shapes[0][-1] or 0) if self.shapes and self.shapes[0] else 0
        self.refusals.append(Frozen(self.path, channels, reason))
        return self.frozen(x, reason)

    def solid_outputs(self) -> Outputs:
        """Outputs in which nothing can be pruned: one, or a list."""
        outputs = [self.solid(shape) for shape in self.shapes]
        return outputs[0] if len(outputs) == 1 else outputs

    def vector(
        self,
        x: Channels,
        axis: int,
        reason: str = "it is contracted together with positions that differ",
    ) -> np.ndarray:
        """The ids along one axis. Ids that differ elsewhere are joined, slab by slab."""
        axis %= len(x.shape)
        ids = self.partition.find(x.ids)
        length = x.shape[axis]
        if ids.size > 1 and ids.shape[axis] == 1:
            # Channels run along other axes only: this operation mixes or repeats them.
            self.freeze(ids, reason)
            ids = np.full((1,), SOLID)
        else:
            slabs = np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)
            if slabs.shape[1] > 1:
                self.join(slabs[:, :1], slabs, reason)
            ids = self.partition.find(slabs[:, 0])
        if len(ids) == 1 and length not in (None, 1):
            ids = np.repeat(ids, length)
        return ids

    def only(
        self,
        x: Channels,
        axis: int,
        reason: str = "another axis than that of its channels is pruned",
    ) -> Channels:
        """`x` with its channels along `axis` alone; ids along other axes are joined or frozen."""
        axis %= len(x.shape)
        ids = self.vector(x, axis, reason)
        if (ids == ids[0]).all():
            ids = ids[:1]
        lengths = [1] * len(x.shape)
        lengths[axis] = len(ids)
        return Channels(ids.reshape(lengths), x.shape, x.masked)

    # -- variables and costs --

    def slice(self, variable: keras.Variable | None, axis: int, ids: np.ndarray, role: str) -> None:
        """Records that position `i` of `variable` along `axis` belongs to `ids[i]`."""
        if variable is None:
            return
        axis %= len(variable.shape)
        if len(ids) != variable.shape[axis]:
            raise AssertionError(
                f"{self.path}: {len(ids)} ids for axis {axis} of shape {tuple(variable.shape)}"
            )
        key = (id(variable), axis)
        earlier = self.slices.get(key)
        if earlier is None:
            self.slices[key] = Slice(self.path, variable, axis, np.asarray(ids), role)
        else:  # the layer is shared: both of its inputs must lose the same channels
            self.join(earlier.ids, ids, "a shared layer meets channels that stay")
            if not (earlier.ids != SOLID).all():
                known = np.where(earlier.ids == SOLID, ids, earlier.ids)
                self.slices[key] = Slice(earlier.path, variable, axis, known, earlier.role)

    def consume(self, variable: keras.Variable | None, axis: int, ids: np.ndarray) -> None:
        """`variable` takes these channels in along `axis`."""
        self.slice(variable, axis, ids, "input")

    def follow(self, variable: keras.Variable | None, axis: int, ids: np.ndarray) -> None:
        """`variable` holds one entry per channel along `axis`."""
        self.slice(variable, axis, ids, "follow")

    def work(self, factor: int | None, *axes: np.ndarray, adds: bool = False) -> None:
        """Counts `factor` × the lengths of `axes` multiply-adds (or bias additions)."""
        self.works.append(Work(self.path, factor, tuple(axes), adds))

    def rescale(
        self, variable: keras.Variable | None, ids: np.ndarray, power: float, offset: float = 0.0
    ) -> None:
        """`variable` + `offset` changes by (kept / all) ** `power` when some of `ids` go."""
        if variable is not None:
            self.rescales.append(Rescale(variable, np.asarray(ids), power, offset))

    def positions(self, shape: Shape, *channel_axes: int) -> int | None:
        """How many positions a tensor has per example, leaving out the given axes."""
        left_out = {0, *(axis % len(shape) for axis in channel_axes)}
        lengths = [n for axis, n in enumerate(shape) if axis not in left_out]
        return product(lengths)

    def repeat_works(self, start: int, times: int | None) -> None:
        """Work counted since `start` is done `times` times."""
        for i in range(start, len(self.works)):
            work = self.works[i]
            factor = None if work.factor is None or times is None else work.factor * times
            self.works[i] = Work(work.path, factor, work.axes, work.adds)

    # -- operations inside the one being read --

    @abc.abstractmethod
    def call(
        self,
        operation: keras.Operation,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        node: Any = None,
    ) -> Any:
        """What comes out of an operation. Rules of wrappers use it for the layer they wrap."""

    @abc.abstractmethod
    def call_function(self, function: Callable[[Any], Any], x: Channels) -> Any:
        """What comes out of a plain function of one tensor."""

    @abc.abstractmethod
    def read(
        self,
        function: keras.Function,
        inputs: Sequence[Channels],
        prefix: str,
        wanted: Sequence[bool] | None = None,
    ) -> Any:
        """Follows a graph; returns its outputs. `wanted` says which of these anything uses."""

    def calls_of(self, operation: keras.Operation) -> list[Call]:
        """Earlier calls of an operation."""
        return [call for call in self.calls.values() if call.operation is operation]


def all_known(lengths: Collection[int | None]) -> TypeGuard[Collection[int]]:
    """Whether no length is None."""
    return None not in lengths


def product(lengths: Collection[int | None]) -> int | None:
    """The product of lengths, or None if one of them is not known."""
    return math.prod(lengths) if all_known(lengths) else None


def channel_axis(operation: keras.Operation) -> int:
    """Where an operation's `data_format` puts the channels; last if it has none."""
    return 1 if getattr(operation, "data_format", None) == "channels_first" else -1


def channels_in(structure: Any) -> list[Channels]:
    """All `Channels` in a structure of arguments."""
    return [x for x in keras.tree.flatten(structure) if isinstance(x, Channels)]


def spread(ids: np.ndarray, lengths: Sequence[int | None]) -> np.ndarray:
    """`ids` with collapsed axes repeated to the given lengths (None leaves an axis alone)."""
    target = [have if want is None else want for have, want in zip(ids.shape, lengths, strict=True)]
    return np.broadcast_to(ids, target)
