"""Which layers of a model are wrapped, and whether that is of use where the model will run."""

import abc
from collections.abc import Callable, Iterable

import keras
from keras import layers

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError
from keras_iplt.sparsity.tfmot_api.pruning_wrapper import PruneLowMagnitude
from keras_iplt.support.arguments import checked

__all__ = ["PruneForLatencyOnXNNPack", "PruningPolicy"]


class PruningPolicy(abc.ABC):
    """Base of policies for `prune_low_magnitude`.

    Example:

    >>> class Kernels(PruningPolicy):
    ...     def allow_pruning(self, layer):
    ...         return hasattr(layer, "kernel")
    ...     def ensure_model_supports_pruning(self, model):
    ...         pass
    >>> Kernels().allow_pruning(layers.ReLU())
    False
    """

    @abc.abstractmethod
    def allow_pruning(self, layer: keras.Layer) -> bool:
        """Whether a layer is wrapped."""
        raise NotImplementedError(f"{type(self).__name__} must override allow_pruning(layer)")

    @abc.abstractmethod
    def ensure_model_supports_pruning(self, model: keras.Model) -> None:
        """Raises a `ValueError` if the model is none that this policy is for."""
        raise NotImplementedError(
            f"{type(self).__name__} must override ensure_model_supports_pruning(model)"
        )


class PruneForLatencyOnXNNPack(PruningPolicy):
    """Wraps 1x1 convolutions, in models that XNNPACK can run with sparse kernels.

    These begin, on every path from an input, with a 3x3 convolution of stride 2 over three channels
    behind a `ZeroPadding2D` of 1, and end, on every path to an output, with global average pooling.
    Between them stand only layers that XNNPACK has sparse versions of.

    Example:

    >>> policy = PruneForLatencyOnXNNPack()
    >>> policy.allow_pruning(layers.Conv2D(8, 1)), policy.allow_pruning(layers.Conv2D(8, 3))
    (True, False)
    """

    @checked
    def allow_pruning(self, layer: keras.Layer) -> bool:
        return isinstance(layer, layers.Conv2D) and tuple(layer.kernel_size) == (1, 1)

    def ensure_model_supports_pruning(self, model: keras.Model) -> None:
        if not isinstance(model, (keras.Sequential, private.Functional)):
            raise ModelError("Subclassed models are not supported currently.")
        if not model.built:
            raise ModelError("Unbuilt models are not supported currently.")
        flow = _Flow(model)
        starts = _first(flow.inputs, lambda one: _is_start(one, flow), flow.after)
        if not starts:
            raise ModelError(
                "Could not find `Conv2D 3x3` layer with stride 2x2, `input filters == 3` and "
                "`VALID` padding and preceding `ZeroPadding2D` with `padding == 1` in all input "
                "branches of the model"
            )
        ends = _first(
            flow.outputs, lambda one: isinstance(one, layers.GlobalAveragePooling2D), flow.before
        )
        if not ends:
            raise ModelError(
                "Could not find a `GlobalAveragePooling2D` layer in all output branches"
            )

        def is_end(one: keras.Operation) -> bool:
            if one not in ends and not _is_supported(one, flow):
                raise ModelError(
                    f"Layer {type(one).__name__} is not supported for the {type(self).__name__} "
                    "pruning policy"
                )
            return one in ends

        _first([after for one in starts for after in flow.after(one)], is_end, flow.after)


class _Flow:
    """What comes before and after each layer and operation.
    Models in the model are looked into, wrappers are looked through."""

    def __init__(self, model: keras.Model) -> None:
        self._before: dict[int, dict[int, keras.Operation]] = {}
        self._after: dict[int, dict[int, keras.Operation]] = {}
        function = private.known_function(model)
        sources = {id(x): private.producer_of(x) for x in function.inputs}
        self.inputs = list(sources.values())
        self.outputs = self._walk(function, sources)

    def before(self, operation: keras.Operation) -> list[keras.Operation]:
        return list(self._before.get(id(operation), {}).values())

    def after(self, operation: keras.Operation) -> list[keras.Operation]:
        return list(self._after.get(id(operation), {}).values())

    def _walk(
        self, function: keras.Function, sources: dict[int, keras.Operation]
    ) -> list[keras.Operation]:
        """Notes down a graph, given what its inputs come from; what its outputs come from."""
        for node in private.nodes(function):
            operation = node.operation
            if isinstance(operation, PruneLowMagnitude):
                operation = operation.layer
            come_from = [sources[id(x)] for x in node.input_tensors]
            inner = private.function_of(operation)
            if inner is None:
                for source in come_from:
                    self._before.setdefault(id(operation), {})[id(source)] = source
                    self._after.setdefault(id(source), {})[id(operation)] = operation
                made = [operation] * len(node.outputs)
            else:
                inputs = {id(x): s for x, s in zip(inner.inputs, come_from, strict=False)}
                made = self._walk(inner, inputs)
            sources.update({id(x): s for x, s in zip(node.outputs, made, strict=True)})
        return [sources[id(x)] for x in function.outputs]


def _first(
    operations: Iterable[keras.Operation],
    stops: Callable[[keras.Operation], bool],
    onward: Callable[[keras.Operation], list[keras.Operation]],
) -> list[keras.Operation]:
    """The first operations on every way from those given that are what is looked for.
    None at all if there is a way without one."""
    found, seen, ahead = [], set(), list(operations)
    while ahead:
        one = ahead.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if stops(one):
            found.append(one)
        else:
            following = onward(one)
            if not following:
                return []
            ahead += following
    return found


def _is_start(layer: keras.Operation, flow: _Flow) -> bool:
    return (
        isinstance(layer, layers.Conv2D)
        and tuple(layer.kernel.shape[:3]) == (3, 3, 3)
        and tuple(layer.strides) == (2, 2)
        and layer.padding == "valid"
        and _padded_by(layer, flow) == 1
    )


def _padded_by(layer: keras.Operation, flow: _Flow) -> int:
    """By how much a `ZeroPadding2D` right before a layer pads on each side; 0 if there is none."""
    before = flow.before(layer)
    if len(before) != 1 or not isinstance(before[0], layers.ZeroPadding2D):
        return 0
    amounts = {amount for pair in before[0].padding for amount in pair}
    return amounts.pop() if len(amounts) == 1 else 0


_PLAIN = (
    layers.Add, layers.Multiply, layers.ZeroPadding2D, layers.ReLU, layers.LeakyReLU, layers.ELU,
    layers.Dropout, layers.Identity,
)  # fmt: skip
_OPERATIONS = {"Identity", "Add", "Subtract", "Multiply"}
_ACTIVATIONS = {"relu", "relu6", "leaky_relu", "elu", "sigmoid"}


def _is_supported(layer: keras.Operation, flow: _Flow) -> bool:
    """Whether XNNPACK has a sparse version of it, as its `subgraph.c` says."""
    if private.is_keras_operation(layer):
        return type(layer).__name__ in _OPERATIONS
    if isinstance(layer, layers.DepthwiseConv2D):
        return _is_supported_depthwise(layer, flow)
    if isinstance(layer, layers.Conv2D):
        plain = tuple(layer.strides) == tuple(layer.dilation_rate) == (1, 1) and layer.groups == 1
        return plain and tuple(layer.kernel_size) == (1, 1)
    if isinstance(layer, layers.GlobalAveragePooling2D):
        return layer.keepdims
    if isinstance(layer, layers.BatchNormalization):
        return layer.axis in (-1, 3)
    if isinstance(layer, layers.UpSampling2D):
        return layer.interpolation == "bilinear"
    if isinstance(layer, layers.Activation):
        return getattr(layer.activation, "__name__", "") in _ACTIVATIONS
    return isinstance(layer, _PLAIN)


def _is_supported_depthwise(layer: keras.Operation, flow: _Flow) -> bool:
    size, strides = tuple(layer.kernel_size), tuple(layer.strides)
    around = {(3, 3): 1, (5, 5): 2}.get(size)  # what makes up for the kernel's edges
    if around is None or layer.depth_multiplier != 1 or tuple(layer.dilation_rate) != (1, 1):
        return False
    if layer.padding == "same":
        return strides == (1, 1)
    return strides in ((1, 1), (2, 2)) and _padded_by(layer, flow) == around
