"""What a model costs: parameters, multiply-adds, FLOPs and bytes, in total and layer by layer.

FLOPs = 2 · (multiply-adds + bias additions), per example. Convolutions (depthwise ones too), dense
layers, einsums, attention and recurrent layers count, "same" padding in full; batch norm,
activations, pooling and softmax do not. Papers that print "FLOPs" half as large quote `macs`.
"""

import collections
import dataclasses
import json
import math
import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt.errors import OptionError
from keras_iplt.graph.channels import SOLID, Call, Graph, Shape, Work
from keras_iplt.graph.flow import channels_in
from keras_iplt.graph.rules import rule_for
from keras_iplt.graph.trace import Tracer, trace
from keras_iplt.support.arguments import checked
from keras_iplt.support.tables import Table, Tables, mebibytes, thousands
from keras_iplt.support.text import printable

__all__ = ["LayerProfile", "Profile", "profile"]

_MODEL = "model"  # `Call.carry` of a nested model
_PRODUCTS = {  # what costs multiply-adds, whatever its operands are
    *("AdditiveAttention", "Attention", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"),
    *("Conv", "ConvTranspose", "DepthwiseConv", "SeparableConv", "DotProductAttention"),
    *("Dot", "Einsum", "Inner", "Matmul", "Outer", "Tensordot", "Vdot"),
}


@dataclasses.dataclass(frozen=True)
class LayerProfile:
    """What one layer costs.

    Attributes:
        name: the layer's name, with those of the models and layers around it ("backbone/conv1").
        type: its class.
        output_shape: the shape of its (first) output; a tuple of shapes where there are several.
        params: its weights, each counted at the first layer that holds it.
        filters: the output channels that its weights create; depthwise layers have none.
        prunable: how many of them pruning may remove.
        macs, flops: per example, all calls together; None where they are not known.
    """

    name: str
    type: str
    output_shape: Shape | tuple[Shape, ...]
    params: int
    filters: int
    prunable: int
    macs: int | None
    flops: int | None


@dataclasses.dataclass(frozen=True)
class Profile(Tables):
    """What a model costs. Print it for a table.

    Attributes:
        name: the model's name.
        params, trainable_params: numbers, `params` being `model.count_params()`.
        macs: multiply-adds per example, or None where they depend on an unknown size.
        flops: 2 × (multiply-adds + bias additions), or None.
        size_bytes: all weights in their own dtypes.
        layers: a `LayerProfile` per layer, in the order of the graph.
        input_shape: the shape of each input, batch axis included, that this was counted at.
    """

    name: str
    params: int
    trainable_params: int
    macs: int | None
    flops: int | None
    size_bytes: int
    layers: tuple[LayerProfile, ...]
    input_shape: tuple[tuple[int | None, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """The profile as dicts, lists, strings and numbers, as it would come back from JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def _blocks(self) -> list[str | Table]:
        rows: list[tuple[str, ...]] = [("layer", "type", "output shape", "params", "MACs", "FLOPs")]
        for x in self.layers:
            counts = (x.params, x.macs, x.flops)
            rows.append((x.name, x.type, str(x.output_shape), *map(thousands, counts)))
        counts = (self.params, self.macs, self.flops)
        rows.append(("total", "", "", *map(thousands, counts)))
        trainable, size = thousands(self.trainable_params), mebibytes(self.size_bytes)
        note = f"{trainable} trainable parameters, {size} MiB"
        return [Table(rows, left=3), note, *self._unknown()]

    def _unknown(self) -> Iterator[str]:
        """A line that says why something was not counted."""
        if self.flops is not None:
            return
        if any(None in shape[1:] for shape in self.input_shape):
            yield "FLOPs unknown: give input_shape"
        else:
            names = ", ".join(
                f"{printable(x.name)} ({x.type})" for x in self.layers if x.flops is None
            )
            rest = thousands(sum(x.flops for x in self.layers if x.flops is not None))
            yield f"FLOPs unknown: {names} cannot be counted; all other layers take {rest}"


@checked
def profile(model: keras.Model | Graph, input_shape: Any = None) -> Profile:
    """Counts parameters, multiply-adds, FLOPs and bytes.

    FLOPs are 2 × (multiply-adds + bias additions) per example: "same" padding in full, no batch
    norm, activation, pooling or softmax. A layer called twice works twice and is stored once.

    Args:
        model: a Keras model, or the `Graph` that `trace` made of it.
        input_shape: the size to count at, for models that take any: `(height, width, channels)`,
            with or without a batch axis; a list of shapes or a dict by input name for several
            inputs. By default the sizes that the model was built with; where these are unknown,
            `macs` and `flops` are None.

    Returns:
        A `Profile`. Print it for a table.

    Example:

    >>> import keras
    >>> import keras_iplt as iplt
    >>> image = keras.Input((None, None, 3))
    >>> x = keras.layers.Conv2D(16, 3, activation="relu", name="conv")(image)
    >>> x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    >>> model = keras.Model(image, keras.layers.Dense(10, name="head")(x))
    >>> print(iplt.profile(model, input_shape=(8, 8, 3)))
    layer  type                    output shape      params    MACs   FLOPs
    conv   Conv2D                  (None, 6, 6, 16)     448  15,552  32,256
    pool   GlobalAveragePooling2D  (None, 16)             0       0       0
    head   Dense                   (None, 10)           170     160     340
    total                                               618  15,712  32,596
    618 trainable parameters, 0.00 MiB
    >>> iplt.profile(model).flops is None
    True
    """
    graph = model if isinstance(model, Graph) else trace(model)
    model = graph.model
    function = graph.function
    source: Graph | Tracer = graph
    if input_shape is None:
        shapes = tuple(tuple(x.shape) for x in function.inputs)
    else:
        shapes = _given_shapes(function, input_shape)
        source = _read_again(function, shapes)
    layers = tuple(_layers(graph, source.calls.values(), source.works))
    macs, flops = _cost(source.works)
    return Profile(
        name=model.name,
        params=model.count_params(),
        trainable_params=sum(math.prod(w.shape) for w in model.trainable_weights),
        macs=None if any(x.macs is None for x in layers) else macs,
        flops=None if any(x.flops is None for x in layers) else flops,
        size_bytes=sum(math.prod(w.shape) * _bits(w.dtype) for w in model.weights) // 8,
        layers=layers,
        input_shape=shapes,
    )


# -- counting --------------------------------------------------------------------------------------


def _layers(graph: Graph, calls: Iterable[Call], works: Collection[Work]) -> Iterator[LayerProfile]:
    """A `LayerProfile` per row."""
    calls = [call for call in calls if call.carry != _MODEL]
    working = {work.path for work in works}
    uncounted = {call.path for call in calls if _is_uncounted(call, working)}
    rows = _rows(calls, working | uncounted)
    outputs = [piece for piece in graph.slices if piece.role == "output"]
    works_of, outputs_of = _by_row(works, rows), _by_row(outputs, rows)
    unknown = {_owner(path, rows) for path in uncounted}
    counted: set[int] = set()
    for path, call in rows.items():
        macs, flops = (None, None) if path in unknown else _cost(works_of[path])
        ids = np.unique([n for piece in outputs_of[path] for n in piece.ids]).astype(np.int64)
        # A grouped convolution with one input per group creates no channels, but has filters.
        filters = len(ids) or getattr(call.operation, "filters", 0)
        shapes = tuple(tuple(x.shape) for x in channels_in(call.outputs))
        yield LayerProfile(
            name=path,
            type=type(call.operation).__name__,
            output_shape=shapes[0] if len(shapes) == 1 else shapes,
            params=_not_yet(counted, getattr(call.operation, "weights", ())),
            filters=filters,
            prunable=int((graph.classes[ids] != SOLID).sum()),
            macs=macs,
            flops=flops,
        )


def _rows(calls: Iterable[Call], costly: Container[str]) -> dict[str, Call]:
    """path -> first call, for each layer, and each operation outside of any that costs something.
    Nested models are gone into; wrappers and attention stand for the layers inside them."""
    layers = {
        call.path
        for call in calls
        if isinstance(call.operation, keras.Layer) and call.node is not None
    }
    rows: dict[str, Call] = {}
    for call in calls:
        if call.path in layers or (call.path in costly and not _owner(call.path, layers)):
            rows.setdefault(call.path, call)
    return rows


def _by_row(things: Iterable[Any], rows: Container[str]) -> Mapping[str, list[Any]]:
    """row -> the works (or slices) that belong to it."""
    found = collections.defaultdict(list)
    for thing in things:
        found[_owner(thing.path, rows)].append(thing)
    return found


def _owner(path: str, rows: Container[str]) -> str:
    """The row that something at `path` belongs to: its own, or that of the layer around it."""
    while path and path not in rows:
        path = path.rpartition("/")[0]
    return path


def _not_yet(counted: set[int], weights: Iterable[keras.Variable]) -> int:
    """How many numbers the weights hold that are not counted yet."""
    new = [w for w in weights if id(w) not in counted]
    counted.update(map(id, new))
    return sum(math.prod(w.shape) for w in new)


def _is_uncounted(call: Call, working: Container[str]) -> bool:
    """Whether an operation multiplies, but nobody said how often.
    Its weights could not be read, or it is a product of a form that no rule understands."""
    operation = call.operation
    if type(operation).__name__ in _PRODUCTS:
        return call.path not in working
    weights = getattr(operation, "weights", ())
    return bool(weights) and call.inner is None and rule_for(operation) is None


def _cost(works: Collection[Work]) -> tuple[int | None, int | None]:
    """`(multiply-adds, FLOPs)` of some works."""
    macs = _total([work for work in works if not work.adds])
    everything = _total(works)
    return macs, None if everything is None else 2 * everything


def _total(works: Collection[Work]) -> int | None:
    """The number of operations, or None where the number of positions is unknown."""
    total = 0
    for work in works:
        if work.factor is None:
            return None
        total += work.factor * math.prod(map(len, work.axes))
    return total


def _bits(dtype: str) -> int:
    """The size of a number: "bfloat16" -> 16, "float8_e4m3fn" -> 8, "bool" -> 8."""
    digits = re.search(r"\d+", keras.backend.standardize_dtype(dtype))
    return int(digits.group()) if digits else 8


# -- other sizes -----------------------------------------------------------------------------------


def _read_again(function: keras.Function, shapes: Sequence[Shape]) -> Tracer:
    """A `Tracer` that read the graph at these shapes."""
    tracer = Tracer()
    try:
        tracer.read(function, [tracer.solid(shape) for shape in shapes], prefix="")
    except Exception as error:
        # Whatever layer it is that does not take this size, it says so in its own way.
        raise OptionError(
            f"the model does not take input_shape={_readable(shapes)}: "
            f"{tracer.path}: {type(error).__name__}: {error}"
        ) from error
    return tracer


def _given_shapes(function: keras.Function, given: Any) -> tuple[Shape, ...]:
    """One shape per flat input, with an unknown batch."""
    recorded = [tuple(x.shape) for x in function.inputs]
    names = [x.name for x in function.inputs]
    wanted = recorded[0] if len(recorded) == 1 else dict(zip(names, recorded, strict=True))
    shapes = _one_per_input(given, names)
    if shapes is None or not all(map(_fits, shapes, recorded)):
        raise OptionError(
            "input_shape: expected positive whole numbers, with or without a batch axis, for "
            f"{wanted} ({'a list or dict of shapes' if len(names) > 1 else 'one shape'}), "
            f"received: {given!r}"
        )
    return tuple(
        (None, *map(int, shape[len(shape) - len(known) + 1 :]))
        for shape, known in zip(shapes, recorded, strict=True)
    )


def _one_per_input(given: Any, names: list[str]) -> list[Any] | None:
    """A list with an entry per input, or None where the structure does not fit."""
    if isinstance(given, dict):
        return [given[name] for name in names] if set(given) == set(names) else None
    if not isinstance(given, (list, tuple)):
        return None
    if not any(isinstance(entry, (list, tuple)) for entry in given):
        given = [given]
    return list(given) if len(given) == len(names) else None


def _fits(shape: Any, known: Shape) -> bool:
    """Whether this is a shape, with or without a batch axis, for an input of that rank."""
    if not isinstance(shape, (list, tuple)) or len(shape) not in (len(known), len(known) - 1):
        return False
    sizes = shape[len(shape) - len(known) + 1 :]
    return all(
        isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n > 0 for n in sizes
    )


def _readable(shapes: Sequence[Shape]) -> Any:
    return shapes[0] if len(shapes) == 1 else list(shapes)
