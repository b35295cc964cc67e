"""Reading a model: ids flow through its graph, rule by rule."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeAlias

import keras

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError, OptionError
from keras_iplt.graph.assemble import assembled, make_rectangular
from keras_iplt.graph.channels import Arguments, Call, Channels, Graph, Shape
from keras_iplt.graph.flow import Flow, channels_in
from keras_iplt.graph.gains import ended, followed, settle_gains, without
from keras_iplt.graph.held import freeze_seen, inputs_of, wraps_models
from keras_iplt.graph.inline import Recording, inline
from keras_iplt.graph.penalties import freeze_penalised
from keras_iplt.graph.rules import rule_for
from keras_iplt.graph.shortening import branches_for, shortened
from keras_iplt.graph.unknown import read_unknown, settle
from keras_iplt.graph.walk import accepts, is_graph_model, needed, output_spec, walk
from keras_iplt.support.arguments import Kind, Verbosity, checked, several
from keras_iplt.support.progress import silent

__all__ = ["Branches", "graph_for", "graph_of", "trace", "without_branches"]

# One branch, or several: themselves, their places, or selectors of the additions.
Branches: TypeAlias = Annotated[Any, Kind("residual branches, their names or their places")]


@checked
def trace(
    model: keras.Model,
    approximate: bool = False,
    verbose: Verbosity = 1,
    without: Branches = (),
    heads: bool = False,
) -> Graph:
    """Reads a model as channels.

    Args:
        model: a built Functional or Sequential model, or a subclassed one whose `call` can be
            followed on symbolic tensors. It is left as it is.
        approximate: leave layer normalisation over channels that go a layer of Keras's own, which
            does not count them, and let them go where they are not zero when masked, too: the
            smaller model then differs from the masked one.
        verbose: 0 for no progress bar, which only terminals and notebooks get.
        without: residual branches to leave out, as a plan made of the graph then does: from the
            `branches` of another graph of this model, or by their places there, or by the names of
            the additions that they end in (or patterns of these).
        heads: whole heads of attention may go, too, beside channels within all of them: in
            `MultiHeadAttention` and, with the heads that share their keys and values, in
            `GroupQueryAttention`. They are called `"…/heads"` after their layer.

    Returns:
        A `Graph`: what can be pruned (`groups`) and what cannot, and why (`frozen`), and what can
        be left out as a whole (`branches`). Print it.

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
    with silent(when=not verbose):
        graph = _traced(model, approximate, heads)
        return without_branches(graph, several(without)) if several(without) else graph


def without_branches(graph: Graph, keys: Iterable[Any]) -> Graph:
    """The graph of a model with some of its residual branches left out.

    Args:
        graph: a `Graph` of a whole model.
        keys: see `trace`.
    """
    if graph.without:
        raise OptionError(
            f"expected the graph of a whole model, received: one without "
            f"{', '.join(branch.name for branch in graph.without)}. Name all branches at once"
        )
    branches = branches_for(graph, keys)
    short = _traced(shortened(graph, branches), graph.approximate, graph.heads)
    return dataclasses.replace(short, without=branches, longer=graph, branches=())


def _traced(model: keras.Model, approximate: bool, heads: bool) -> Graph:
    tracer, function = Tracer(approximate, heads), graph_of(model)
    outputs = tracer.read(function, [tracer.solid(t.shape) for t in function.inputs], prefix="")
    tracer.path = ""
    for x in channels_in(outputs):
        tracer.freeze(x, "it is an output of the model")
    ended(tracer, outputs)
    freeze_seen(tracer, model)
    tracer.settle_variables()
    freeze_penalised(tracer)
    make_rectangular(tracer)
    settle_gains(tracer)
    settle(tracer)
    return assembled(tracer, model, function)


def graph_for(model_or_graph: keras.Model | Graph) -> Graph:
    """The `Graph` of a model, or the one given."""
    return model_or_graph if isinstance(model_or_graph, Graph) else trace(model_or_graph)


def graph_of(model: keras.Model) -> keras.Function:
    """The operations of a model: its own graph, or that of its `call` where it is subclassed."""
    if not _is_built(model):
        raise ModelError(
            f"model {model.name!r} is not built: call it on a batch or give it a keras.Input first"
        )
    if is_graph_model(model):
        return private.known_function(model)
    specs = _specs_of_inputs(model)
    keywords = {"training": False} if accepts(model.call, "training") else {}
    inlined = inline(model, specs, keywords) if specs else None
    if why := _unreadable(model, inlined):
        raise ModelError(
            f"subclassed model {model.name!r} ({type(model).__name__}) cannot be read: {why}. "
            "Build it with the functional API, or move what cannot be followed into a layer"
        )
    return inlined


def _is_built(model: keras.Model) -> bool:
    if isinstance(model, keras.Sequential):
        return private.function_of(model) is not None
    return model.built or wraps_models(model)


def _specs_of_inputs(model: keras.Model) -> tuple[Any, ...]:
    """The arguments of the `call` of a subclassed model, as symbolic tensors."""
    shapes = private.shapes_built_with(model)
    if not shapes and not model.built:
        return (keras.tree.map_structure(_of_any_batch, inputs_of(model)),)
    return tuple(_symbols(one, model.input_dtype) for one in (shapes or {}).values())


def _of_any_batch(tensor: keras.KerasTensor) -> keras.KerasTensor:
    return keras.KerasTensor((None, *tensor.shape[1:]), tensor.dtype)


def _symbols(shapes: Any, dtype: str) -> Any:
    """Symbolic tensors of these shapes, in plain dicts (Keras's own are others to it)."""
    if isinstance(shapes, dict):
        return {name: _symbols(shape, dtype) for name, shape in shapes.items()}
    return keras.tree.map_shape_structure(
        lambda shape: keras.KerasTensor((None, *shape[1:]), dtype), shapes
    )


def _unreadable(model: keras.Model, inlined: Recording | None) -> str | None:
    """Why the operations of a subclassed model's `call` cannot take its place, or None."""
    if owned := private.own_variables(model):
        return f"it holds variables of its own ({owned[0].name})"
    if inlined is None:
        return "its call does not work on symbolic tensors"
    if inlined.lengths is not None:
        return "its call computes with the length of a batch, or another one that is not known"
    for given in inlined.given:
        if isinstance(given, keras.Variable):
            return f"its call uses the variable {given.path} outside of the layer that holds it"
        return "its call calls a layer that has weights on numbers instead of tensors"
    return None


# Layers with other weights than their rules know.
_ADAPTED = {
    "quantization_mode": "quantised: prune before quantising",
    "lora_enabled": "adapted by LoRA: prune before, or merge the adapter",
}


class Tracer(Flow):
    """A `Flow` that knows how to look at operations."""

    def __init__(self, approximate: bool = False, heads: bool = False) -> None:
        super().__init__(approximate, heads)
        self._prefix = ""
        self._paths: dict[int, str] = {}

    def read(
        self,
        function: keras.Function,
        inputs: Sequence[Channels],
        prefix: str,
        wanted: Sequence[bool] | None = None,
    ) -> Any:
        outer = self._prefix, self.used, self._paths
        everything = [True] * len(keras.tree.flatten(private.output_structure(function)))
        self._prefix, self.used = prefix, needed(function, wanted or everything)
        self._paths = getattr(function, "paths", {})
        given = [self._given(x) for x in getattr(function, "given", ())]
        outputs = walk(function, [*inputs, *given], self._apply)
        self._prefix, self.used, self._paths = outer
        return outputs

    def _given(self, x: Any) -> Any:
        return x if isinstance(x, keras.Variable) else self.solid(tuple(x.shape))

    def _apply(self, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.call(node.operation, args, kwargs, node)

    def call(
        self,
        operation: keras.Operation,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        node: Any = None,
    ) -> Any:
        outer = self.path, self.shapes, self._prefix, self.created
        self.created = 0
        name = self._paths.get(id(operation), operation.name)
        self.path = (self._prefix if node is not None else f"{self.path}/") + name
        specs = _specs(operation, args, kwargs, node)
        if not is_graph_model(operation):  # those are read, whatever size they were built for
            self.shapes = _output_shapes(operation, specs, node)
        record, before = Call(operation, self.path, node, args, kwargs, specs), len(self.works)
        record.approximate = self.approximate
        record.outputs = self._outcome(record, specs)
        record.works = (*range(before, len(self.works)),)
        self._remember(record, node)
        self.path, self.shapes, self._prefix, self.created = outer
        return record.outputs

    def _outcome(self, record: Call, specs: Arguments) -> Any:
        operation, args, kwargs = record.operation, record.args, record.kwargs
        if is_graph_model(operation):
            record.carry = "model"
            function = private.known_function(operation)
            for earlier in self.calls_of(operation):  # one model must do for every call
                self._agree(channels_in(earlier.inputs), channels_in(record.inputs))
            return self.read(function, record.inputs, prefix=f"{self.path}/")
        for attribute, what in _ADAPTED.items():
            if getattr(operation, attribute, None):
                return self.refused(operation, [args, kwargs], f"it is {what}")
        rule = rule_for(operation)
        if rule is None:
            return read_unknown(self, record, specs)
        args, kwargs = without((args, kwargs))
        if not isinstance(operation, keras.Layer) and not channels_in((args, kwargs)):
            args, kwargs = keras.tree.map_structure(self._as_tensor, (args, kwargs))
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
        outputs = rule.trace(self, operation, *args, **kwargs)
        return followed(self, record, rule.trace, outputs)

    def _as_tensor(self, x: Any) -> Any:
        return self.tensor_of(x) if isinstance(x, keras.Variable) else x

    def _agree(self, before: list[Channels], now: list[Channels]) -> None:
        """The tensors of a nested model that is called again lose the same channels."""
        for a, b in zip(before, now, strict=True):
            self.join(a.ids, b.ids, "a shared model meets channels that stay")

    def call_function(self, function: Callable[[Any], Any], x: Channels) -> Any:
        inlined = inline(function, (keras.KerasTensor(x.shape),), {})
        if inlined is None:
            self.freeze(x, "an activation function cannot be followed")
            return self.solid(x.shape)
        return self.read(inlined, [x], prefix=f"{self.path}/")

    def _remember(self, record: Call, node: Any) -> None:
        key = (id(record.operation), "inner") if node is None else id(node)
        earlier = self.calls.get(key)
        if earlier is not None:  # a nested model is called again
            self._agree(channels_in(earlier.outputs), channels_in(record.outputs))
            record.works = earlier.works + record.works
        self.calls[key] = record
        self.seen += channels_in(record.outputs)


def _renamed(
    kwargs: dict[str, Any], accepted: Mapping[str, inspect.Parameter], args: tuple[Any, ...]
) -> dict[str, Any]:
    """Keyword arguments that the rule takes; a layer's `inputs` are a rule's `x`."""
    if not args and "inputs" in kwargs and "inputs" not in accepted:
        kwargs = {("x" if k == "inputs" else k): v for k, v in kwargs.items()}
    return {k: v for k, v in kwargs.items() if k in accepted}


def _specs(
    operation: keras.Operation, args: tuple[Any, ...], kwargs: dict[str, Any], node: Any
) -> Arguments:
    """The arguments with symbolic tensors of the shapes at hand in place of `Channels`."""
    recorded = private.arguments(node) if node is not None else (args, kwargs)
    default = getattr(operation, "compute_dtype", None) or keras.config.floatx()

    def spec(x: Any, was: Any) -> Any:
        symbolic = isinstance(was, keras.KerasTensor) and isinstance(x, keras.Variable)
        if not isinstance(x, Channels) and not symbolic:
            return x
        dtype = was.dtype if isinstance(was, keras.KerasTensor) else default
        dtype = default if "float" in dtype else dtype
        return keras.KerasTensor(tuple(x.shape), dtype)

    return keras.tree.map_structure(spec, (args, kwargs), recorded)


def _output_shapes(operation: keras.Operation, specs: Arguments, node: Any) -> tuple[Shape, ...]:
    """Shapes of the outputs: those recorded, or computed where a nested model meets others."""
    if node is not None:
        recorded = [x.shape for x in node.input_tensors]
        given = [x.shape for x in keras.tree.flatten(specs) if isinstance(x, keras.KerasTensor)]
        if recorded == given:
            return tuple(tuple(x.shape) for x in node.outputs)
    args, kwargs = specs
    outputs = output_spec(operation, args, kwargs)
    return tuple(tuple(x.shape) for x in keras.tree.flatten(outputs))
