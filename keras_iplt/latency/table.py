"""The seconds that a model takes, as a function of the channels that are left.

    seconds = layers that are measured by themselves + everything else

Everything else (additions, pooling, products of other kinds) is the difference to the whole model,
which is measured too. It shrinks as its tensors do.
"""

import collections
import dataclasses
import json
import math
import pathlib
import tempfile
from collections.abc import Sequence

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import OptionError
from keras_iplt.exporting.formats import write
from keras_iplt.exporting.runtimes import tflite_runtime
from keras_iplt.graph.channels import Call, Graph, Group, Work
from keras_iplt.graph.flow import channels_in
from keras_iplt.graph.slices import kept_lengths
from keras_iplt.graph.trace import graph_for
from keras_iplt.latency.file_size import left_of
from keras_iplt.latency.probes import WIDTHS, Shape, Stairs, seconds, shortest, stairs
from keras_iplt.support.arguments import Count, Verbosity, checked, is_real
from keras_iplt.support.progress import doing, silent, told
from keras_iplt.support.text import MALFORMED, printable

__all__ = ["Entry", "LatencyTable", "latency_table"]

_FORMAT = "keras_iplt.latency/1"


@dataclasses.dataclass(frozen=True)
class Entry:
    """What one product, a layer applied once, takes.

    Attributes:
        path, kind: the layer, and which `Stairs` are its.
        inputs, outputs: how many channels it had when it was measured.
        half, whole: seconds with half of the inputs, and with all.
    """

    path: str
    kind: str
    inputs: int
    outputs: int
    half: float
    whole: float

    def seconds(self, stairs: Stairs, inputs: int, outputs: int) -> float:
        """What it takes with other numbers of channels."""
        slope = (self.whole - self.half) / (self.inputs - self.inputs // 2)
        time = max(0.0, self.whole - slope * (self.inputs - inputs))
        return time * stairs(outputs) / stairs(self.outputs)


@dataclasses.dataclass(frozen=True, eq=False)
class LatencyTable:
    """How long a model and its layers take in TFLite, measured here, and with fewer channels.

    `of` and `round_to` of `keras_iplt.plan` take it.

    Attributes:
        model: its name.
        runtime, threads: what was measured.
        seconds: of the whole model, for one example.
        entries: per product in the graph an `Entry`, or None where it is of a kind that is not
            measured by itself.
        stairs: the `Stairs` of each kind.
        elements: how many numbers everything else computed.
    """

    model: str
    runtime: str
    threads: int
    seconds: float
    entries: tuple[Entry | None, ...]
    stairs: dict[str, Stairs]
    elements: int

    name = "latency"
    rounding = "auto"

    @property
    def layers(self) -> float:
        """Seconds of all that was measured by itself; not more than the whole."""
        return min(self.seconds, sum(entry.whole for entry in self.entries if entry is not None))

    def cost(self, graph: Graph, gone: np.ndarray | None = None) -> float:
        """The seconds for one example when the ids marked in `gone` go."""
        works = _products(graph)
        fits = len(works) == len(self.entries) and all(
            entry is None or entry.path == work.path
            for entry, work in zip(self.entries, works, strict=True)
        )
        if not fits:
            raise OptionError(
                f"expected a latency table of model {graph.model.name!r}, received: one of "
                f"{self.model!r}, which is another. Make one with keras_iplt.latency_table"
            )
        alone = measured = 0.0
        for entry, work in zip(self.entries, works, strict=True):
            if entry is not None:
                lengths = [_left(ids, gone) for ids in work.axes]
                alone += entry.whole
                measured += entry.seconds(self.stairs[entry.kind], lengths[0], lengths[-1])
        rest = (self.seconds - self.layers) * _elements(graph, self.entries, gone)
        return measured * (self.layers / alone if alone else 0) + rest / max(1, self.elements)

    def multiple(self, graph: Graph, group: Group) -> int:
        """What the width of a group is best rounded to.

        The blocks that a processor computes, as far as the group has several."""
        paths = {producer.path for producer in group.producers}
        kinds = {entry.kind for entry in self.entries if entry is not None and entry.path in paths}
        step = max((self.stairs[kind].step for kind in kinds), default=1)
        while step > 1 and step > group.size // 2:
            step //= 2
        return step

    def to_json(self) -> str:
        """The table as text that `from_json` reads."""
        return json.dumps({"format": _FORMAT, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> "LatencyTable":
        """A table from the text that `to_json` wrote."""
        try:
            content = json.loads(text)
            if content.pop("format") != _FORMAT:
                raise ValueError("of another format")
            content["entries"] = tuple(e and Entry(**e) for e in content["entries"])
            content["stairs"] = {
                kind: Stairs(tuple(found["times"])) for kind, found in content["stairs"].items()
            }
            table = cls(**content)
            table._check_numbers()
            return table
        except MALFORMED as error:
            raise OptionError(
                f"expected the JSON text of a latency table ({_FORMAT}); "
                f"{type(error).__name__}: {error}"
            ) from error

    def _check_numbers(self) -> None:
        """Refuses what nothing can be computed with."""
        entries = [entry for entry in self.entries if entry is not None]
        numbers = [self.seconds, self.elements, self.threads]
        for entry in entries:
            numbers += [entry.inputs, entry.outputs, entry.half, entry.whole]
        for found in [*self.stairs.values(), *(self.stairs[entry.kind] for entry in entries)]:
            numbers += found.times
            if len(found.times) != len(WIDTHS):
                raise ValueError(f"{len(found.times)} times, and {len(WIDTHS)} widths")
        if not all(is_real(number) and math.isfinite(number) for number in numbers):
            raise ValueError("a time or a size is no number")

    def __str__(self) -> str:
        times: dict[str, float] = collections.defaultdict(float)
        for entry in self.entries:
            if entry is not None:
                times[entry.kind] += entry.whole
        times["everything else"] = self.seconds - self.layers
        lines = [
            f"{1e3 * self.seconds:.2f} ms in {printable(self.runtime)}, threads: {self.threads}"
        ]
        for kind, time in times.items():
            step = f", in blocks of {self.stairs[kind].step}" if kind in self.stairs else ""
            lines.append(f"{1e3 * time:10.2f} ms  {printable(kind)}{step}")
        return "\n".join(lines)


class _MeasuredHere(LatencyTable):
    """A table of this machine, where what it tells can be looked at."""

    def exact(self, graph: Graph, gone: np.ndarray) -> float:
        """The seconds for one example when the ids marked in `gone` go, measured."""
        return _whole(left_of(graph, gone), self.threads)[1]


@checked
def latency_table(
    model: keras.Model | Graph, threads: Count = 1, verbose: Verbosity = 1
) -> LatencyTable:
    """Measures what a model and its layers take in TFLite's interpreter, on this machine.

    Each layer shape is measured twice, and each kind of layer at sixteen widths: some ten seconds
    for MobileNet, half a minute for InceptionV3. Another processor needs a table of its own.

    Args:
        model: a Keras model with inputs of fixed size, or its `Graph`.
        threads: how many threads to compute with.
        verbose: 0 for no progress bar, which only terminals and notebooks get.

    Returns:
        A `LatencyTable`. Print it for a summary.

    Example:

    >>> import keras
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((16, 16, 8)), keras.layers.Conv2D(64, 3), keras.layers.Conv2D(64, 3)])
    >>> table = iplt.latency_table(model, verbose=0)
    >>> small = iplt.plan(model, ratio=0.4, of=table)
    >>> bool(0.3 < 1 - table.cost(small.graph, small.gone) / table.cost(small.graph) < 0.6)
    True
    """
    if keras.backend.backend() != "tensorflow":
        raise OptionError(
            "latency: expected the TensorFlow backend, which writes .tflite, received: "
            f"{keras.backend.backend()!r}. Make the table with KERAS_BACKEND=tensorflow, keep it "
            "by to_json, and read it here"
        )
    with silent(when=not verbose):
        return _measured_here(graph_for(model), threads)


def _measured_here(graph: Graph, threads: int) -> LatencyTable:
    if any(None in x.shape[1:] for x in graph.function.inputs):
        raise OptionError(
            f"the latency of model {graph.model.name!r} cannot be measured: its inputs have no "
            "fixed size. Build it with one, or use of='params'"
        )
    works = _products(graph)
    shapes = _shapes(graph, works)
    entries, found = [], {}
    for work, shape in told([*zip(works, shapes, strict=True)], "layer"):
        entry = None
        if shape is not None:
            entry = _measured(work, shape, threads)
            if shape.kind not in found:
                found[shape.kind] = stairs(shape, entry.inputs, threads)
        entries.append(entry)
    runtime, whole = _whole(graph.model, threads)
    return _MeasuredHere(
        graph.model.name, runtime, threads, whole, tuple(entries), found,
        _elements(graph, entries, None),
    )  # fmt: skip


# -- measuring -------------------------------------------------------------------------------------


def _measured(work: Work, shape: Shape, threads: int) -> Entry:
    inputs, outputs = len(work.axes[0]), len(work.axes[-1])
    whole = half = seconds(shape, inputs, outputs, threads)
    if shape.kind != "depthwise" and inputs > 1:
        half = seconds(shape, inputs // 2, outputs, threads)
    return Entry(work.path, shape.kind, inputs, outputs, min(half, whole), whole)


def _whole(model: keras.Model, threads: int) -> tuple[str, float]:
    """What ran it, and the seconds for one example."""
    random = np.random.default_rng(0)
    inputs = [
        random.uniform(0, 2, (1, *x.shape[1:])).astype(x.dtype)
        for x in private.known_function(model).inputs
    ]
    with doing("measuring the whole model"), tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "model.tflite"
        write(model, path, "tflite", "float32", 1, [inputs])
        runtime = tflite_runtime(str(path), threads)
        return runtime.name, shortest(runtime.ready(inputs))


# -- what there is to measure ----------------------------------------------------------------------


def _products(graph: Graph) -> list[Work]:
    """Multiply-adds, in order."""
    return [work for work in graph.works if not work.adds]


def _shapes(graph: Graph, works: Sequence[Work]) -> list[Shape | None]:
    """Per product, its `Shape`, or None where it is of a kind that is not measured by itself."""
    calls, own = collections.defaultdict(list), collections.defaultdict(list)
    for call in graph.calls.values():
        calls[call.path].append(call)
    for index, work in enumerate(works):
        own[work.path].append(index)
    found: list[Shape | None] = [None] * len(works)
    for path, indices in own.items():
        several = calls[path]
        each = len(indices) // max(1, len(several))
        for n, index in enumerate(indices):
            if each and len(several) * each == len(indices):
                found[index] = _shape(several[n // each], works[index])
    return found


def _shape(call: Call, work: Work) -> Shape | None:
    layer, kinds = call.operation, keras.layers
    flat = [x for x in keras.tree.flatten(call.specs) if isinstance(x, keras.KerasTensor)]
    if type(layer) is kinds.Dense:
        return Shape("dense", (math.prod(flat[0].shape[1:-1]),))
    depthwise = type(layer) is kinds.DepthwiseConv2D
    if not depthwise and not (type(layer) is kinds.Conv2D and layer.groups == 1):
        return None
    size = flat[0].shape[1:3] if layer.data_format == "channels_last" else flat[0].shape[2:4]
    point = layer.kernel_size == (1, 1)
    kind = "depthwise" if depthwise else "pointwise" if point else "convolution"
    return Shape(
        kind, tuple(size), tuple(layer.kernel_size), tuple(layer.strides),
        tuple(layer.dilation_rate), layer.padding,
    )  # fmt: skip


def _elements(graph: Graph, entries: Sequence[Entry | None], gone: np.ndarray | None) -> int:
    """How many numbers are computed by all that is not measured by itself."""
    alone = {entry.path for entry in entries if entry is not None}
    total = 0
    for work, entry in zip(_products(graph), entries, strict=True):
        if entry is None and work.factor is not None:  # inputs of fixed size
            total += work.factor * math.prod(_left(ids, gone) for ids in work.axes)
    for call in graph.calls.values():
        if call.path not in alone and call.carry != "model" and call.inner is None:
            for x in channels_in(call.outputs):
                shape = x.shape if gone is None else kept_lengths(x, gone)
                total += math.prod(n for n in shape[1:] if n is not None)
    return total


def _left(ids: np.ndarray, gone: np.ndarray | None) -> int:
    return len(ids) if gone is None else int(np.count_nonzero(~gone[ids]))
