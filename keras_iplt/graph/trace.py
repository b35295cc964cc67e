"""Reading a model: ids flow through its graph, rule by rule."""

import inspect

import keras
import numpy as np

from keras_iplt import keras_private as private
from keras_iplt.errors import ModelError
from keras_iplt.graph.channels import SOLID, Call, Channels, Frozen, Graph, Group
from keras_iplt.graph.flow import Flow, channels_in
from keras_iplt.graph.partition import Partition
from keras_iplt.graph.rules import rule_for
from keras_iplt.graph.unknown import read_unknown, settle
from keras_iplt.graph.walk import inline, is_graph_model, walk

__all__ = ["trace"]


def trace(model, approximate=False):
    """Reads a model as channels.

    Args:
        model: a built Functional or Sequential model, or a subclassed one whose `call` can be
            followed on symbolic tensors. It is left as it is.
        approximate: also prune across layer normalisation, for which no exact answer exists:
            the smaller model then differs from the masked one.

    Returns:
        A `Graph`: what can be pruned (`groups`) and what cannot, and why (`frozen`). Print it.

    Example:

    >>> import keras
    >>> import keras_iplt as iplt
    >>> image = keras.Input((8, 8, 3))
    >>> x = keras.layers.Conv2D(16, 3, activation="relu", name="conv")(image)
    >>> x = keras.layers.GlobalAveragePooling2D()(x)
    >>> model = keras.Model(image, keras.layers.Dense(10, name="head")(x))
    >>> print(iplt.trace(model))
    channels  filters  created by
          16       16  conv
           -       10  head        frozen: it is an output of the model
    """
    function = graph_of(model)
    tracer = Tracer(approximate)
    outputs = tracer.read(function, [tracer.solid(t.shape) for t in function.inputs], prefix="")
    tracer.path = ""
    for x in channels_in(outputs):
        tracer.freeze(x, "it is an output of the model")
    make_rectangular(tracer)
    settle(tracer)
    return as_graph(tracer, model, function)


def graph_of(model):
    """The operations of a model: its own graph, or that of its `call` where it is subclassed."""
    if not isinstance(model, keras.Model):
        raise ModelError(f"expected a keras.Model, received: {model!r} of type {type(model)}")
    if not model.built or (isinstance(model, keras.Sequential) and not private.function_of(model)):
        raise ModelError(
            f"model {model.name!r} is not built: call it on a batch or give it a keras.Input first"
        )
    if is_graph_model(model):
        return private.function_of(model)
    shapes = private.shapes_built_with(model)
    specs = keras.tree.map_shape_structure(
        lambda shape: keras.KerasTensor((None, *shape[1:]), model.input_dtype), shapes or {}
    )
    specs = list(specs.values()) if isinstance(specs, dict) else [specs]
    keywords = {"training": False} if _takes_training(model) else {}
    inlined = inline(model, model.call, specs, keywords) if specs else None
    owned = private.own_variables(model)
    if inlined is None or owned:
        why = (
            f"it holds variables of its own ({owned[0].name})"
            if owned
            else "its call does not work on symbolic tensors"
        )
        raise ModelError(
            f"subclassed model {model.name!r} ({type(model).__name__}) cannot be read: {why}. "
            "Build it with the functional API, or move what cannot be followed into a layer"
        )
    return inlined


def _takes_training(layer):
    return "training" in inspect.signature(layer.call).parameters


# Layers with other weights than their rules know.
_ADAPTED = {
    "quantization_mode": "quantised: prune before quantising",
    "lora_enabled": "adapted by LoRA: prune before, or merge the adapter",
}


class Tracer(Flow):
    """A `Flow` that knows how to look at operations."""

    def __init__(self, approximate=False):
        super().__init__(approximate)
        self._prefix = ""

    def read(self, function, inputs, prefix):
        """Follows a graph; returns its outputs."""
        outer, self._prefix = self._prefix, prefix
        outputs = walk(function, inputs, self._apply)
        self._prefix = outer
        return outputs

    def _apply(self, node, args, kwargs):
        return self.call(node.operation, args, kwargs, node)

    def call(self, operation, args, kwargs, node=None):
        """What comes out of an operation. Rules of wrappers use it for the layer they wrap."""
        outer = self.path, self.shapes, self._prefix, self.created
        self.created = 0
        self.path = (self._prefix if node is not None else f"{self.path}/") + operation.name
        specs = _specs(operation, args, kwargs, node)
        if not is_graph_model(operation):  # those are read, whatever size they were built for
            self.shapes = _output_shapes(operation, specs, node)
        record = Call(operation, self.path, node, args, kwargs, specs)
        record.outputs = self._outcome(record, specs)
        self._remember(record, node)
        self.path, self.shapes, self._prefix, self.created = outer
        return record.outputs

    def _outcome(self, record, specs):
        operation, args, kwargs = record.operation, record.args, record.kwargs
        if is_graph_model(operation):
            record.carry = "model"
            function = private.function_of(operation)
            for earlier in self.calls_of(operation):  # one model must do for every call
                self._agree(channels_in((earlier.args, earlier.kwargs)), record)
            inputs = keras.tree.flatten(args[0] if args else kwargs["inputs"])
            return self.read(function, inputs, prefix=f"{self.path}/")
        for attribute, what in _ADAPTED.items():
            if getattr(operation, attribute, None):
                return self.refused([args, kwargs], f"it is {what}")
        rule = rule_for(operation)
        if rule is None:
            return read_unknown(self, record, specs)
        args = tuple(a for a in args if not isinstance(a, bool))
        accepted = inspect.signature(rule.trace).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
            for x in channels_in({k: v for k, v in kwargs.items() if k not in accepted}):
                self.freeze(x, "it steers an operation")
            kwargs = _renamed({k: v for k, v in kwargs.items() if v is not None}, accepted, args)
        try:
            inspect.signature(rule.trace).bind(self, operation, *args, **kwargs)
        except TypeError:
            return self.frozen([args, kwargs], "called with arguments that are not understood")
        return rule.trace(self, operation, *args, **kwargs)

    def _agree(self, before, record):
        """The tensors of a nested model that is called again lose the same channels."""
        for a, b in zip(before, channels_in((record.args, record.kwargs)), strict=True):
            self.join(a.ids, b.ids, "a shared model meets channels that stay")

    def call_function(self, function, x):
        """What comes out of a plain function of one tensor."""
        inlined = inline(None, function, (keras.KerasTensor(x.shape),), {})
        if inlined is None:
            self.freeze(x, "an activation function cannot be followed")
            return self.solid(x.shape)
        return self.read(inlined, [x], prefix=f"{self.path}/")

    def calls_of(self, operation):
        """Earlier calls of an operation."""
        return [call for call in self.calls.values() if call.operation is operation]

    def repeat_works(self, start, times):
        """Work counted since `start` is done `times` times."""
        for i in range(start, len(self.works)):
            work = self.works[i]
            factor = None if None in (work.factor, times) else work.factor * times
            self.works[i] = type(work)(work.path, factor, work.axes, work.adds)

    def _remember(self, record, node):
        key = (id(record.operation), "inner") if node is None else id(node)
        earlier = self.calls.get(key)
        pairs = [] if earlier is None else [(earlier.outputs, record.outputs)]
        for before, now in pairs:  # a nested model is called again: its tensors must agree
            for a, b in zip(channels_in(before), channels_in(now), strict=True):
                self.join(a.ids, b.ids, "a shared model meets channels that stay")
        self.calls[key] = record
        self.seen += channels_in(record.outputs)


def _renamed(kwargs, accepted, args):
    """Keyword arguments that the rule takes; a layer's `inputs` are a rule's `x`."""
    if not args and "inputs" in kwargs and "inputs" not in accepted:
        kwargs = {("x" if k == "inputs" else k): v for k, v in kwargs.items()}
    return {k: v for k, v in kwargs.items() if k in accepted}


def _specs(operation, args, kwargs, node):
    """The arguments with symbolic tensors of the shapes at hand in place of `Channels`."""
    recorded = private.arguments(node) if node is not None else (args, kwargs)
    default = getattr(operation, "compute_dtype", None) or keras.config.floatx()

    def spec(x, was):
        if not isinstance(x, Channels):
            return x
        dtype = was.dtype if isinstance(was, keras.KerasTensor) else default
        dtype = default if "float" in dtype else dtype
        return keras.KerasTensor(x.shape, dtype)

    return keras.tree.map_structure(spec, (args, kwargs), recorded)


def _output_shapes(operation, specs, node):
    """Shapes of the outputs: those recorded, or computed where a nested model meets others."""
    if node is not None:
        recorded = [x.shape for x in node.input_tensors]
        given = [x.shape for x in keras.tree.flatten(specs) if isinstance(x, keras.KerasTensor)]
        if recorded == given:
            return tuple(tuple(x.shape) for x in node.outputs)
    args, kwargs = specs
    outputs = operation.compute_output_spec(*args, **kwargs)
    return tuple(tuple(x.shape) for x in keras.tree.flatten(outputs))


# -- tidying --


def make_rectangular(flow):
    """Joins ids until, in every tensor, removed positions are whole slabs along one axis."""
    again = True
    while again:
        again = False
        for x in flow.seen:
            if len(x.varying) > 1:
                again |= _settle_axis(flow, x)


def _settle_axis(flow, x):
    """Lets the ids of `x` vary along one axis only: the one that leaves most of them apart."""
    ids = flow.partition.find(x.ids)
    frozen = np.concatenate([[SOLID], *(some for some, _ in flow.freezes)])
    ids = np.where(np.isin(ids, flow.partition.find(frozen)), SOLID, ids)  # all of these stay
    varying = [a for a in x.varying if (ids != ids.take([0], a)).any()]
    if len(varying) < 2:
        return False
    _, numbers = np.unique(ids, return_inverse=True)
    numbers = numbers.reshape(ids.shape)

    def classes_left(axis):
        apart = Partition()
        apart.fresh(int(numbers.max()) + 1)
        slabs = np.moveaxis(numbers, axis, 0).reshape(numbers.shape[axis], -1)
        apart.union(slabs[:, :1], slabs)
        return len(np.unique(apart.find(np.arange(len(apart)))))

    axis = max(varying, key=lambda a: (classes_left(a), a))
    flow.vector(x, axis, "its channels share a tensor with positions that stay")
    return True


def as_graph(flow, model, function):
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
        approximate=flow.approximate,
    )


def _groups(flow, producers, classes, filters):
    """Classes that appear in the same tensors and variables, in the order of the graph."""
    random = np.random.default_rng(0)
    marks = np.zeros(len(classes), np.uint64)
    seen = {id(x): x.ids for x in [*flow.seen, *flow.slices.values()]}
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

    def touched(things):
        found: list[list] = [[] for _ in members]
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


def _frozen(producers, roots, reasons):
    frozen = np.zeros(len(roots), bool)
    frozen[list(reasons)] = True
    for producer in producers:
        own = roots[producer.ids]
        counts: dict[str, int] = {}
        for root in own[frozen[own]]:
            counts[reasons[int(root)]] = counts.get(reasons[int(root)], 0) + 1
        for reason, count in counts.items():
            yield Frozen(producer.path, count, reason)


def _signature(calls):
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
