"""Layers without a rule: read operation by operation, else probed with numbers, else frozen."""

import dataclasses
import itertools
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.channels import (
    SOLID,
    Arguments,
    Call,
    Channels,
    Outputs,
    Producer,
    Shape,
    covered_by,
)
from keras_iplt.graph.cut_layers import CutLayer
from keras_iplt.graph.flow import Flow, channels_in
from keras_iplt.graph.gains import ended
from keras_iplt.graph.inline import BATCH, Recording, inline
from keras_iplt.graph.learning import learn_to_recreate
from keras_iplt.graph.recordings import same_operations
from keras_iplt.graph.rules import activation, elementwise, spatial
from keras_iplt.graph.rules.registry import rule_for
from keras_iplt.graph.walk import accepts, kinds, needed

__all__ = ["inline_layer", "read_unknown", "settle"]

_TRANSPARENT = {activation.__name__, elementwise.__name__, spatial.__name__}


def read_unknown(flow: Flow, record: Call, specs: Arguments) -> Any:
    """The outputs of an operation that has no rule."""
    operation = record.operation
    if isinstance(operation, keras.Layer):
        symbols = [x for x in keras.tree.flatten(specs) if isinstance(x, keras.KerasTensor)]
        key = type(operation), *((tuple(x.shape), x.dtype) for x in symbols)
        inlined = inline_layer(operation, specs, False, flow.recordings.get(key))
        if inlined is not None:
            flow.recordings[key] = inlined
            return _read_inlined(flow, record, specs, inlined)
    return _probe(flow, record, specs)


# -- operation by operation --


def inline_layer(
    layer: keras.Layer, specs: Arguments, training: bool, like: Recording | None = None
) -> Recording | None:
    """The operations of a layer's `call` on `(args, kwargs)` of symbolic tensors, or None.

    `like` are those of a layer that may be like it."""
    args, kwargs = specs
    kwargs = {k: v for k, v in kwargs.items() if k != "training"}
    if accepts(layer.call, "training"):
        kwargs["training"] = training
    return inline(layer, args, kwargs, like)


def _read_inlined(flow: Flow, record: Call, specs: Arguments, inlined: Recording) -> Any:
    layer = record.operation
    before = len(flow.producers)
    inputs = channels_in((record.args, record.kwargs))
    nodes = [] if record.node is None else record.node.outputs
    wanted = [id(x) in flow.used for x in nodes] or [True] * len(flow.shapes)
    if inlined.lengths is None:
        outputs = flow.read(inlined, inputs, f"{flow.path}/", wanted)
    else:
        outputs = _read_at_lengths(flow, inputs, inlined, wanted)
    # Channels that the layer's own variables create are the layer's, whatever operation used them.
    own = {id(v) for v in private.own_variables(layer)}
    for i, made in enumerate(flow.producers[before:]):
        if not isinstance(made.layer, keras.Layer):
            own_part = Producer(record.path, layer, made.ids, made.convolution, i)
            flow.producers[before + i] = own_part
    record.inner = inlined
    fits_any = not layer.weights and _is_transparent(inlined) and not _scales(flow, inlined)
    if fits_any and not _reads_its_width(record, inlined):
        record.carry = "keep"
    elif own or isinstance(layer, CutLayer) or not _is_all(record, inlined, wanted):
        record.carry = "recreate"
    else:
        record.carry = "flatten"
    return outputs


def _is_all(record: Call, inlined: Recording, wanted: list[bool]) -> bool:
    """Whether the operations can take the place of a layer: it does and holds nothing else."""
    if not inlined.whole or _has_idle_weights(inlined, wanted):
        return False
    training = inline_layer(record.operation, record.specs, training=True)
    return training is not None and kinds(training) == kinds(inlined)


def _scales(flow: Flow, inlined: Recording) -> bool:
    """Whether numbers in the code change with what goes."""
    return any(flow.calls[id(node)].scaled for node in private.nodes(inlined))


def _has_idle_weights(inlined: Recording, wanted: list[bool]) -> bool:
    """Whether layers inside serve outputs only that nothing uses.
    They would not be there if the operations took the place of the code."""
    if all(wanted):
        return False
    used = needed(inlined, wanted)
    nodes = private.nodes(inlined)
    serving = {id(n.operation) for n in nodes if any(id(x) in used for x in n.outputs)}
    return any(getattr(n.operation, "weights", ()) and id(n.operation) not in serving
               for n in nodes)  # fmt: skip


def _read_at_lengths(
    flow: Flow, inputs: list[Channels], inlined: Recording, wanted: list[bool]
) -> Any:
    """Follows what was recorded at trial lengths, and forgets those again."""
    shapes, before = flow.shapes, len(flow.works)
    unknown = any(None in x.shape[1:] for x in inputs)
    tried = [
        dataclasses.replace(x, shape=tuple(symbol.shape))
        for x, symbol in zip(inputs, inlined.inputs, strict=False)
    ]
    outputs = flow.read(inlined, tried, f"{flow.path}/", wanted)
    for i, work in enumerate(flow.works[before:], before):
        factor = None if unknown else work.factor
        if factor is not None and factor % BATCH == 0:
            factor //= BATCH
        flow.works[i] = dataclasses.replace(work, factor=factor)
    several = zip(channels_in(outputs), shapes, strict=True)
    flat = [_at_shape(flow, y, shape) for y, shape in several]
    return keras.tree.pack_sequence_as(outputs, flat)


def _at_shape(flow: Flow, x: Channels, shape: Shape) -> Channels:
    """A tensor with unknown lengths again where there were trial lengths."""
    if any(shape[axis] is None for axis in x.varying):
        flow.freeze(x, "its channels run along an axis of unknown length")
        return flow.solid(shape)
    return dataclasses.replace(x, shape=shape)


def _is_transparent(inlined: keras.Function) -> bool:
    """Whether every operation works channel by channel whatever channels there are."""
    for node in private.nodes(inlined):
        rule = rule_for(node.operation)
        constants = keras.tree.flatten(private.arguments(node))
        if rule is None or rule.trace.__module__ not in _TRANSPARENT:
            return False
        if any(np.ndim(c) > 0 for c in constants if not isinstance(c, (keras.KerasTensor, str))):
            return False
    return True


def _reads_its_width(record: Call, inlined: keras.Function) -> bool:
    """Whether a layer does something else on fewer channels.
    All, half, or all but one of them gone."""
    inputs = (record.args, record.kwargs)
    widths = [x.ids.shape[axis] for x in channels_in(inputs) for axis in x.varying]
    for share in {1 / max(widths), 0.5, 1 - 1 / max(widths)} if widths else ():

        def narrower(spec: Any, x: Any, share: float = share) -> Any:
            if not isinstance(spec, keras.KerasTensor):
                return spec
            shape = list(spec.shape)
            for axis in x.varying:
                shape[axis] = max(1, round(shape[axis] * share))
            return keras.KerasTensor(shape, spec.dtype)

        specs = keras.tree.map_structure(narrower, record.specs, inputs)
        again = inline_layer(record.operation, specs, training=False)
        if again is None or not same_operations(inlined, again):
            return True
    return False


def settle(flow: Flow) -> None:
    """Freezes what custom layers cannot be made again for.

    Found out by trying it on each of them with a few channels fewer."""
    recreated = [call for call in flow.calls.values() if call.carry == "recreate"]
    covered = {one for call in recreated for one in covered_by(flow.calls, call)}
    for call in recreated:
        if id(call) not in covered:  # else the layer around it is made anew, and this one with it
            flow.path = ""
            lesson = learn_to_recreate(flow, call)
            call.recipe, call.carry = lesson.recipe, lesson.carry
            for ids in lesson.stuck:
                reason = f"{call.path} ({type(call.operation).__name__}) {lesson.problem}"
                flow.freeze(ids, reason)


# -- with numbers --

_MOST_NUMBERS = 2_000_000


def _probe(flow: Flow, record: Call, specs: Arguments) -> Outputs:
    """Channel by channel or not: `f(x[S]) == f(x)[S]` for random numbers and a few S."""
    tensors = channels_in(ended(flow, (record.args, record.kwargs)))
    weighted = bool(getattr(record.operation, "weights", None))
    if not weighted and all((x.ids == SOLID).all() for x in tensors):
        return flow.solid_outputs()
    if not weighted and len(tensors) == len(flow.shapes) == 1:
        (x,) = tensors
        x = flow.only(x, max(x.varying, default=len(x.shape) - 1, key=lambda a: x.ids.shape[a]))
        if x.varying and _works_per_channel(record.operation, specs, x, flow.shapes[0]):
            record.carry = "keep"
            return Channels(x.ids, flow.shapes[0], masked=None)
    reason = (
        f"{type(record.operation).__name__} is not understood: it can neither be followed on "
        "symbolic tensors nor does it work channel by channel. keras_iplt.register_rule can "
        "teach it"
    )
    if weighted:
        return flow.refused(record.operation, tensors, reason)
    return flow.frozen(tensors, reason)


def _works_per_channel(
    operation: keras.Operation, specs: Arguments, x: Channels, shape: Shape
) -> bool:
    (axis,) = x.varying
    lengths = [3 if n is None else n for n in x.shape]
    if shape[axis : axis + 1] != x.shape[axis : axis + 1] or len(shape) != len(x.shape):
        return False
    if np.prod(lengths, dtype=np.float64) > _MOST_NUMBERS:
        return False
    random = np.random.default_rng(0)
    numbers = random.normal(size=lengths).astype("float32")
    masked = numbers.copy()
    masked[(slice(None),) * axis + (0,)] = x.masked or 0

    def run(values: np.ndarray) -> np.ndarray:
        tensor = keras.ops.convert_to_tensor(values)
        args, kwargs = keras.tree.map_structure(
            lambda s: tensor if isinstance(s, keras.KerasTensor) else s, specs
        )
        with keras.StatelessScope():
            return keras.ops.convert_to_numpy(operation(*args, **kwargs))

    count = x.ids.shape[axis]
    subsets = [np.arange(1, count), np.arange(0, count, 2), np.arange(count // 2)]
    try:
        whole = run(numbers)
        return np.isfinite(run(masked)).all() and all(
            np.allclose(whole.take(s, axis), run(numbers.take(s, axis)), 1e-5, 1e-6)
            for s in itertools.filterfalse(lambda s: len(s) == 0, subsets)
        )
    except Exception:
        # Code of others on shapes it was not written for: whatever it raises, the answer is no.
        return False
