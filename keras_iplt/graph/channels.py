"""A model read as channels: the data that `trace` produces and everything else consumes.

Every output channel of every weight-creating layer has an integer id. `Channels` says which id
stands at which position of a tensor; a `Slice` says which id owns which position of a variable
along one axis. Ids that must go together form a class, classes that always appear together
form a `Group`:

    conv1 (3, 3, 3, 16) ─┐
                         ├─ add ─ dense (16, 10)     Group: 16 channels, producers conv1 and conv2
    conv2 (3, 3, 3, 16) ─┘                           Frozen: 10 channels of dense, "model output"

A removed channel takes along its position in each `Slice` that holds it; masks, scores,
parameter counts and smaller weights all follow from that, with no knowledge of layers.
"""

import dataclasses
import functools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.support.tables import Table, Tables
from keras_iplt.support.text import printable, text_repr

__all__ = [
    "SOLID",
    "Affine",
    "Arguments",
    "Branch",
    "Call",
    "Channels",
    "Frozen",
    "Gain",
    "Graph",
    "Group",
    "Outputs",
    "Producer",
    "Recipe",
    "Rescale",
    "Shape",
    "Slice",
    "Work",
    "covered_by",
]

SOLID = 0  # the id of what always stays: inputs, constants

Shape = tuple[int | None, ...]  # None where a length is not known
Arguments = tuple[tuple[Any, ...], dict[str, Any]]  # args and kwargs of a call


class Gain(NamedTuple):
    """What a number is multiplied by in the smaller model: (all / kept of `ids`) ** `power`.

    A mean over channels is, some of which were zero."""

    ids: np.ndarray
    power: float

    def factor(self, gone: np.ndarray) -> float:
        """The number itself, for a mask over all ids of what goes."""
        left = np.count_nonzero(~gone[self.ids])
        return float((len(self.ids) / left) ** self.power)


class Affine(NamedTuple):
    """What becomes of values: `times` as much, `plus` a number."""

    times: float = 1.0
    plus: float = 0.0

    def of(self, value: np.ndarray) -> np.ndarray:
        """The values that come out, in the same dtype."""
        if self == Affine():
            return value
        return (value * self.times + self.plus).astype(value.dtype)


# Config entry, or (index of a layer inside, attribute) -> what it follows: (index of weight, axis),
# or a mean that it is compared with.
Recipe = dict[Any, "tuple[int, int] | Gain"]


@dataclasses.dataclass(frozen=True, eq=False)
class Channels:
    """The ids in a tensor.

    Attributes:
        ids: array of the tensor's rank. An axis along which ids do not change has length 1,
            whatever the tensor's own length there, so that image sizes cost nothing.
        shape: the tensor's shape, `None` where unknown.
        masked: the number that a channel holds here once it is masked, whatever the input: 0 where
            it is created, 0.5 behind a sigmoid. None where it is not one known number.
        gain: what all numbers are multiplied by in the smaller model, or None.
        source: `(variable, number)` where the tensor is a variable plus a number.
    """

    ids: np.ndarray
    shape: Shape
    masked: float | None = 0.0
    gain: Gain | None = None
    source: tuple[keras.Variable, float] | None = None

    @property
    def zero(self) -> bool:
        """Whether masking a channel leaves exact zeros here."""
        return self.masked == 0

    @property
    def varying(self) -> tuple[int, ...]:
        """The axes along which ids change."""
        return tuple(axis for axis, length in enumerate(self.ids.shape) if length > 1)


Outputs = Channels | list[Channels]  # of an operation: a tensor, or several of them


@text_repr
@dataclasses.dataclass(frozen=True, eq=False)
class Slice:
    """Position `i` of `variable` along `axis` belongs to channel `ids[i]`.

    `role` is "input" where the variable consumes the channels, "output" where it creates them
    (a kernel's filters), "follow" where it holds one entry per channel (bias, gamma …).
    """

    path: str
    variable: keras.Variable
    axis: int
    ids: np.ndarray
    role: str


@text_repr
@dataclasses.dataclass(frozen=True, eq=False)
class Producer:
    """A layer that creates channels, one id per filter.

    `place` tells several sets of one layer apart (the keys and values of attention, say)."""

    path: str
    layer: keras.Operation
    ids: np.ndarray
    convolution: bool
    place: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Work:
    """`factor` times the product of what is kept of each axis.

    That is multiply-adds of one call, or bias additions where `adds`. `factor` is `None` where the
    number of positions is unknown."""

    path: str
    factor: int | None
    axes: tuple[np.ndarray, ...]
    adds: bool = False


@text_repr
@dataclasses.dataclass(frozen=True, eq=False)
class Rescale:
    """`variable` + `offset` is multiplied by (kept / all of `ids`) ** `power` as channels go.

    For layers that divide by a number of channels (attention, RMS normalisation)."""

    variable: keras.Variable
    ids: np.ndarray
    power: float
    offset: float = 0.0

    def change(self, gone: np.ndarray) -> Affine:
        """What becomes of the values, for a mask over all ids of what goes."""
        times = Gain(self.ids, -self.power).factor(gone)
        return Affine(times, self.offset * (times - 1))


@text_repr
@dataclasses.dataclass(eq=False)
class Call:
    """One operation applied once: what went in and what came out, as channels.

    Attributes:
        operation, path, node: what was called, its name with the models around it, and where in
            the graph (None inside wrappers).
        args, kwargs, outputs: with `Channels` where tensors are.
        specs: `(args, kwargs)` with symbolic tensors where tensors are.
        carry: how `rewrite` makes the operation anew: by its "rule", as a "model", "keep" (the
            config as it is), "flatten" (the operations in `inner` take its place) or "recreate"
            (the config entries in `recipe` follow the weights) or "resize" (the attributes in
            `recipe` do, in a layer that keeps its code).
        scaled: numbers among the arguments, by place or name, that the smaller model multiplies.
        works: places in `Graph.works` of what it computes.
        approximate: whether the smaller operation may compute something else.
    """

    operation: keras.Operation
    path: str
    node: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    specs: Arguments
    outputs: Any = None
    carry: str = "rule"
    inner: keras.Function | None = None
    recipe: Recipe | None = None
    scaled: dict[int | str, Gain] = dataclasses.field(default_factory=dict)
    works: tuple[int, ...] = ()
    approximate: bool = False

    @property
    def inside(self) -> keras.Function | None:
        """The operations inside, if numbers can be sent through them.

        That is if no constant among them depends on a length that is not known."""
        return self.inner if getattr(self.inner, "lengths", None) is None else None

    @property
    def inputs(self) -> list[Any]:
        """What goes into a nested model, flat: not the masks that it may be called with."""
        return keras.tree.flatten(self.args[0] if self.args else self.kwargs["inputs"])


@text_repr
@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Channels that are pruned alike: `size` classes over the same layers.

    Attributes:
        index: the place of the group in `Graph.groups`.
        classes: one class of ids per channel.
        producers: the layers that create the channels.
        layers: names of all layers that hold a slice of them.
        filters: how many filters go with each channel (one per producer as a rule).
        least: how many channels have to stay.
    """

    index: int
    classes: np.ndarray
    producers: tuple[Producer, ...]
    layers: tuple[str, ...]
    filters: np.ndarray
    least: int = 1

    @property
    def size(self) -> int:
        return len(self.classes)

    def __repr__(self) -> str:
        names = ", ".join(p.path for p in self.producers)
        return f"Group({self.index}: {self.size} channels of {names})"


@dataclasses.dataclass(frozen=True)
class Frozen:
    """`channels` filters that `operation` creates and that cannot go, and why."""

    operation: str
    channels: int
    reason: str


@text_repr
@dataclasses.dataclass(frozen=True, eq=False)
class Branch:
    """A residual branch: all between a stream of tensors and where it is added back to it.

    Or a layer whose code stays and whose output is its input and what branches in it add.

    Attributes:
        index: the place of the branch in `Graph.branches`.
        name: that of the addition, or of the layer.
        layers: names of the layers in it.
        parameters: how many go with it; weights that are used elsewhere, too, stay.
        flops: those of its layers per example, None where the model's input has no fixed size.
        call: the addition, or the layer.
        places: which of its arguments, flat, go. One is left of a layer: its output then.
        nodes: its operations where they stand in the graph, in order.
        inputs, output: the symbolic tensors that it begins with, and that end.
        holds: ids of all calls in it.
        variables: those that nothing else uses.
        inside: of a layer, the branches in it.
    """

    index: int
    name: str
    layers: tuple[str, ...]
    parameters: int
    flops: int | None
    call: Call
    places: frozenset[int]
    nodes: tuple[Any, ...]
    inputs: tuple[keras.KerasTensor, ...]
    output: keras.KerasTensor
    holds: frozenset[int]
    variables: tuple[keras.Variable, ...]
    inside: tuple["Branch", ...] = ()

    def __repr__(self) -> str:
        flops = "" if self.flops is None else f", {self.flops:,} FLOPs"
        names = ", ".join(self.layers)
        return f"Branch({self.index}: {self.name}, {self.parameters:,} parameters{flops}: {names})"


@text_repr
@dataclasses.dataclass(frozen=True, eq=False)
class Graph(Tables):
    """What `trace` found. Print it for a table.

    Attributes:
        model: the model that was read.
        groups: what can be pruned, in the order of the graph.
        frozen: what cannot be pruned, with reasons.
        branches: the residual branches, which can be left out as a whole.
        approximate: whether layer normalisation may compute something else on fewer channels.
        heads: whether heads of attention may go as a whole.
        without: the branches that were left out: `model` is one of its own then, over the same
            layers, and `whole` the graph of the model that was given.
    """

    model: keras.Model
    function: keras.Function = dataclasses.field(repr=False)  # the operations of the model
    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...]
    classes: np.ndarray = dataclasses.field(repr=False)  # id -> class; SOLID where frozen
    slices: tuple[Slice, ...] = dataclasses.field(repr=False)
    producers: tuple[Producer, ...] = dataclasses.field(repr=False)
    works: tuple[Work, ...] = dataclasses.field(repr=False)
    rescales: tuple[Rescale, ...] = dataclasses.field(repr=False)
    # By id(node), or by (id(layer), "inner") for what is called inside a wrapper.
    calls: dict[Hashable, Call] = dataclasses.field(repr=False)
    signature: tuple[str, ...] = dataclasses.field(repr=False)
    branches: tuple[Branch, ...] = dataclasses.field(default=(), repr=False)
    approximate: bool = False
    heads: bool = False
    without: tuple[Branch, ...] = ()
    longer: "Graph | None" = dataclasses.field(default=None, repr=False)

    @property
    def whole(self) -> "Graph":
        """The graph of the model with all its branches."""
        return self.longer or self

    @functools.cached_property
    def departed(self) -> set[int]:
        """ids of the variables that went with the branches left out."""
        left = {id(v) for v in self.model.weights}
        return {id(v) for v in self.whole.model.weights} - left

    @functools.cached_property
    def by_variable(self) -> dict[int, list[Slice]]:
        """id(variable) -> its slices."""
        found: dict[int, list[Slice]] = {}
        for piece in self.slices:
            found.setdefault(id(piece.variable), []).append(piece)
        return found

    @functools.cached_property
    def by_operation(self) -> dict[int, list[Call]]:
        """id(operation) -> its calls."""
        found: dict[int, list[Call]] = {}
        for call in self.calls.values():
            found.setdefault(id(call.operation), []).append(call)
        return found

    @functools.cached_property
    def covered(self) -> set[int]:
        """ids of the calls that are made by code that stays."""
        kept = (call for call in self.calls.values() if call.carry in ("recreate", "resize"))
        return {one for call in kept for one in covered_by(self.calls, call)}

    @functools.cached_property
    def by_path(self) -> dict[str, list[Slice]]:
        """path of an operation -> the slices of its variables."""
        found: dict[str, list[Slice]] = {}
        for piece in self.slices:
            found.setdefault(piece.path, []).append(piece)
        return found

    @functools.cached_property
    def weights(self) -> list[keras.Variable]:
        """Those of the model, but not of models that it never calls, as a distiller's teacher."""
        models = private.models_of(self.model)[1:]
        aside = {
            id(w) for each in models if id(each) not in self.by_operation for w in each.weights
        }
        operations = [call.operation for call in self.calls.values()]
        used = {id(w) for each in operations for w in getattr(each, "weights", ())}
        return [w for w in self.model.weights if id(w) not in aside - used]

    @functools.cached_property
    def idle(self) -> set[int]:
        """ids of variables that no operation uses: the smaller model is without them.

        They are in layers that their operations take the place of."""
        calls = self.calls.values()
        flattened = [call for call in calls if call.carry == "flatten"]
        used = {
            id(weight)
            for call in calls
            if call.carry not in ("flatten", "model")
            for weight in getattr(call.operation, "weights", ())
        }
        return {id(w) for call in flattened for w in call.operation.weights} - used

    def gone(self, classes: Sequence[np.ndarray]) -> np.ndarray:
        """A mask over all ids: True for the ids of the given arrays of classes."""
        chosen = np.zeros(len(self.classes), bool)
        for some in classes:
            chosen[some] = True
        chosen[SOLID] = False
        return chosen[self.classes]

    def _rows(self) -> list[tuple[str, str, str, str]]:
        rows = [("channels", "filters", "created by", "")]
        rows += [
            (str(g.size), str(int(g.filters.sum())), ", ".join(p.path for p in g.producers), "")
            for g in self.groups
        ]
        rows += [("-", str(f.channels), f.operation, f"frozen: {f.reason}") for f in self.frozen]
        return [(a, b, printable(c), printable(d)) for a, b, c, d in rows]

    def _blocks(self) -> list[str | Table]:
        return [Table([(c, d, a, b) for a, b, c, d in self._rows()], left=2)]

    def __str__(self) -> str:
        rows = self._rows()
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        names = min(60, max(len(row[2]) for row in rows))
        lines = [
            f"{a:>{widths[0]}}  {b:>{widths[1]}}  {_shorten(c, names):<{names}}  {d}".rstrip()
            for a, b, c, d in rows
        ]
        return "\n".join(lines)


def covered_by(calls: Mapping[Hashable, Call], call: Call) -> Iterator[int]:
    """ids of the calls that a layer's code makes, and of those in them."""
    for node in private.nodes(call.inner) if call.inner is not None else ():
        inside = calls[id(node)]
        yield id(inside)
        yield from covered_by(calls, inside)


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
