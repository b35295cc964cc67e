"""Operations that consume channels and create others: convolutions, dense layers, einsums."""

import math
import string

import keras
import numpy as np

from keras_iplt.graph.channels import SOLID, Channels
from keras_iplt.graph.rules.activation import activate
from keras_iplt.graph.rules.registry import layer_rule, operation_rule

__all__ = ["contract", "convolve", "dense"]

_DIMS = ("1D", "2D", "3D")


def channel_axis(layer):
    """Where a layer's `data_format` puts the channels."""
    return 1 if layer.data_format == "channels_first" else -1


# -- convolutions --


def convolve(flow, x, layer, kernel, bias, axis, transposed=False):
    """A convolution with `kernel` (…, in / groups, out), or (…, out, in) where transposed.

    Returns the output, before any activation.
    """
    inputs = flow.vector(x, axis, "a convolution mixes its positions")
    *window, consumed, created = kernel.shape
    if transposed:
        consumed, created = created, consumed
    # What a transposed convolution does per input position, a plain one does per output position.
    positions = flow.positions(x.shape if transposed else flow.shapes[0], axis)
    positions = None if positions is None else positions * math.prod(window)
    groups = len(inputs) // consumed
    in_axis, out_axis = (-1, -2) if transposed else (-2, -1)
    if groups == len(inputs) and groups > 1:  # depthwise, spelt as a grouped convolution
        outputs = np.repeat(inputs, created // groups)
        flow.follow(kernel, out_axis, outputs)
        flow.work(positions, outputs)
    else:
        outputs = flow.create(layer, created, convolution=True)
        if groups > 1:  # every group must keep equally many inputs and outputs
            inputs, members = inputs.reshape(groups, -1), outputs.reshape(groups, -1)
            flow.join(inputs[:1], inputs, "one group of a grouped convolution must stay")
            flow.join(members[:1], members, "")
            inputs = inputs[0]
        flow.consume(kernel, in_axis, inputs)
        flow.slice(kernel, out_axis, outputs, "output")
        flow.work(positions, inputs, outputs)
    add_bias(flow, bias, outputs, axis)
    return flow.place(outputs, axis)


def add_bias(flow, bias, outputs, axis):
    """One bias per output channel, added at each position."""
    if bias is not None:
        flow.follow(bias, 0, outputs)
        flow.work(flow.positions(flow.shapes[0], axis), outputs, adds=True)


def depthwise(flow, x, kernel, bias, axis):
    """One filter (or `multiplier` of them) per input channel; kernel (…, in, multiplier)."""
    inputs = flow.vector(x, axis, "a convolution mixes its positions")
    *window, _, multiplier = kernel.shape
    outputs = np.repeat(inputs, multiplier)
    positions = flow.positions(flow.shapes[0], axis)
    flow.follow(kernel, -2, inputs)
    flow.work(None if positions is None else positions * math.prod(window), outputs)
    add_bias(flow, bias, outputs, axis)
    return flow.place(outputs, axis)


def resize_filters(layer, after):
    filters = after.size(layer.kernel, -1)
    if layer.groups > 1 and layer.kernel.shape[-2] == 1:
        # Depthwise: whole groups go, each with its filters.
        return {"filters": filters, "groups": after.size_of_input(channel_axis(layer))}
    return {"filters": filters}


@layer_rule(*(f"Conv{d}" for d in _DIMS), resize=resize_filters)
def conv(flow, layer, x):
    y = convolve(flow, x, layer, layer.kernel, layer.bias, channel_axis(layer))
    return activate(flow, layer.activation, y)


@layer_rule(
    *(f"Conv{d}Transpose" for d in _DIMS),
    resize=lambda layer, after: {"filters": after.size(layer.kernel, -2)},
)
def conv_transpose(flow, layer, x):
    axis = channel_axis(layer)
    y = convolve(flow, x, layer, layer.kernel, layer.bias, axis, transposed=True)
    return activate(flow, layer.activation, y)


@layer_rule("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise_conv(flow, layer, x):
    y = depthwise(flow, x, layer.kernel, layer.bias, channel_axis(layer))
    return activate(flow, layer.activation, y)


@layer_rule(
    "SeparableConv1D",
    "SeparableConv2D",
    resize=lambda layer, after: {"filters": after.size(layer.pointwise_kernel, -1)},
)
def separable_conv(flow, layer, x):
    axis = channel_axis(layer)
    between = x.shape[axis] * layer.depth_multiplier
    outer, flow.shapes = flow.shapes, (_with_length(flow.shapes[0], axis, between),)
    y = depthwise(flow, x, layer.depthwise_kernel, None, axis)
    flow.shapes = outer
    y = convolve(flow, y, layer, layer.pointwise_kernel, layer.bias, axis)
    return activate(flow, layer.activation, y)


def _with_length(shape, axis, length):
    shape = list(shape)
    shape[axis] = length
    return tuple(shape)


def _op_axis(operation):
    return 1 if operation.data_format == "channels_first" else -1


@operation_rule("Conv")
def conv_operation(flow, operation, x, kernel):
    if not isinstance(kernel, keras.Variable):
        return _computed_kernel(flow, operation, x, kernel)
    return convolve(flow, x, operation, kernel, None, _op_axis(operation))


@operation_rule("DepthwiseConv")
def depthwise_operation(flow, operation, x, kernel):
    if not isinstance(kernel, keras.Variable):
        return _computed_kernel(flow, operation, x, kernel)
    return depthwise(flow, x, kernel, None, _op_axis(operation))


@operation_rule("SeparableConv")
def separable_operation(flow, operation, x, *kernels):
    return _computed_kernel(flow, operation, x, *kernels)


@operation_rule("ConvTranspose")
def transposed_operation(flow, operation, x, kernel):
    return _computed_kernel(flow, operation, x, kernel, shape=x.shape)


def _computed_kernel(flow, operation, x, *kernels, shape=None):
    """Nothing can go, but it costs as many multiply-adds per position as the kernels have
    numbers."""
    positions = flow.positions(shape or flow.shapes[0], _op_axis(operation))
    numbers = sum(math.prod(k.shape if hasattr(k, "shape") else np.shape(k)) for k in kernels)
    flow.work(None if positions is None else positions * numbers)
    return flow.frozen([x, *kernels], "the kernel of a convolution is computed")


# -- dense layers and einsums --


def dense(flow, x, layer, kernel, bias):
    """`x @ kernel + bias` over the last axis."""
    inputs = flow.vector(x, -1, "a dense layer is applied along another axis")
    outputs = flow.create(layer, kernel.shape[-1])
    flow.consume(kernel, 0, inputs)
    flow.slice(kernel, 1, outputs, "output")
    flow.work(flow.positions(flow.shapes[0], -1), inputs, outputs)
    add_bias(flow, bias, outputs, -1)
    return flow.place(outputs, -1)


@layer_rule("Dense", resize=lambda layer, after: {"units": after.size(layer._kernel, -1)})
def dense_layer(flow, layer, x):
    y = dense(flow, x, layer, layer._kernel, layer.bias)
    return activate(flow, layer.activation, y)


def contract(flow, layer, terms, a, b):
    """An einsum of two operands; `terms` are their labels and those of the result.

    A `keras.Variable` among the operands consumes what it shares with the other one and creates
    what is its own.
    """
    labels_a, labels_b, labels_out = terms
    if isinstance(a, keras.Variable):
        a, b, labels_a, labels_b = b, a, labels_b, labels_a
    terms = (labels_a, labels_b, labels_out)
    if not isinstance(a, Channels) or not isinstance(b, (Channels, keras.Variable)):
        _count_solid(flow, terms, (a, b))
        return flow.frozen([a, b], "it is contracted with a constant")
    lengths = dict(zip(labels_b, b.shape, strict=True)) | dict(zip(labels_a, a.shape, strict=True))
    if isinstance(b, Channels):
        found = _meet(flow, _vectors(flow, a, labels_a), _vectors(flow, b, labels_b), terms, a, b)
    else:
        found = _weigh(flow, layer, _vectors(flow, a, labels_a), terms, a, b)
    found = {label: ids for label, ids in found.items() if (ids != SOLID).any()}
    firsts = {labels[0] for labels, x in ((labels_a, a), (labels_b, b)) if isinstance(x, Channels)}
    batch = labels_out[0] if labels_out[0] in firsts else None
    flow.shapes = (_filled_in(flow.shapes[0], labels_out, lengths),)
    solid = [n for label, n in lengths.items() if label not in found and label != batch]
    flow.work(None if None in solid else math.prod(solid), *found.values())
    *others, last = [label for label in labels_out if label in found] or [None]
    for label in others:
        flow.freeze(found[label], "two axes of one tensor carry channels")
    if last is None:
        return flow.solid(flow.shapes[0])
    zero = a.zero if last in labels_a else getattr(b, "zero", True)
    return flow.place(found[last], labels_out.index(last), zero=zero)


def _count_solid(flow, terms, operands):
    """The multiply-adds of a product in which nothing can be pruned."""
    lengths: dict = {}
    for labels, x in zip(terms, operands, strict=False):
        shape = x.shape if hasattr(x, "shape") else np.shape(x)
        first = 1 if isinstance(x, Channels) and labels[0] == terms[-1][0] else 0  # the batch
        lengths |= dict(zip(labels[first:], shape[first:], strict=True))
    known = None not in lengths.values()
    flow.work(math.prod(lengths.values()) if known else None)


def _filled_in(shape, labels, lengths):
    """A shape, with what the operands know where it says None."""
    return tuple(lengths[label] if n is None else n for label, n in zip(labels, shape, strict=True))


def _weigh(flow, layer, of_a, terms, a, kernel):
    """label -> ids where a variable is one of the operands."""
    labels_a, labels_b, labels_out = terms
    found = dict(of_a)
    own = [label for label in labels_b if label not in labels_a and label in labels_out]
    for axis, label in enumerate(labels_b):
        if label in labels_a:
            found[label] = of_a.get(label, np.full(kernel.shape[axis], SOLID))
            role = "follow" if label in labels_out else "input"
        elif own and label == own[-1]:  # of several (heads, size of a head) the last is pruned
            found[label] = flow.create(layer, kernel.shape[axis])
            role = "output"
        else:
            continue
        flow.slice(kernel, axis, found[label], role)
    return found


def _meet(flow, of_a, of_b, terms, a, b):
    """label -> ids where both operands are tensors."""
    labels_a, labels_b, labels_out = terms
    summed = (set(labels_a) | set(labels_b)) - set(labels_out)
    exact = a.zero or b.zero
    found = {}
    for label, ids in [*of_a.items(), *of_b.items()]:
        if label in of_a and label in of_b:
            flow.join(of_a[label], of_b[label], "the other operand of a product must stay")
        elif label in labels_a and label in labels_b:
            flow.freeze(ids, "the other operand of a product must stay")
            continue
        if label in summed and not exact:
            flow.freeze(ids, "it is summed over where a masked channel is not zero")
            continue
        found[label] = ids
    return found


def _vectors(flow, x, labels):
    """label -> ids along its axis, for the one axis that channels run along."""
    if not x.varying:
        return {}
    axis = max(x.varying, key=lambda a: x.ids.shape[a])
    return {labels[axis]: flow.vector(x, axis)}


def einsum_terms(equation, *ranks):
    """Splits an equation into one tuple of labels per operand and one for the result."""
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    free = [c for c in string.ascii_letters if c not in equation]
    hidden = max(
        (rank - len(term) + 3 for term, rank in zip(terms, ranks, strict=True) if "..." in term),
        default=0,
    )

    def labels(term):
        width = hidden
        return tuple(term.replace("...", "".join(free[:width])))

    return tuple(labels(term) for term in (*terms, right))


def _resize_einsum(layer, after):
    shape = list(layer.partial_output_shape)
    kernel_labels = layer.equation.replace(" ", "").split("->")[0].split(",")[1]
    out_labels = layer.equation.replace(" ", "").split("->")[1].replace("...", "")
    for i in range(1, len(shape) + 1):
        if shape[-i] is not None and out_labels[-i] in kernel_labels:
            shape[-i] = after.size(layer._kernel, kernel_labels.index(out_labels[-i]))
        elif shape[-i] is not None:
            shape[-i] = after.lengths(after.call.outputs)[-i]
    return {"output_shape": tuple(shape)}


@layer_rule("EinsumDense", resize=_resize_einsum)
def einsum_dense(flow, layer, x):
    terms = einsum_terms(layer.equation, len(x.shape), len(layer._kernel.shape))
    y = contract(flow, layer, terms, x, layer._kernel)
    if layer.bias is not None and y.varying:
        (axis,) = y.varying
        shift = len(y.shape) - len(layer.bias.shape)
        if axis >= shift and layer.bias.shape[axis - shift] == y.shape[axis]:
            flow.follow(layer.bias, axis - shift, flow.vector(y, axis))
            if len(layer.bias.shape) > 1:  # see the projections of attention
                flow.at_least(flow.vector(y, axis), 2)
        positions = flow.positions(y.shape, axis)
        flow.work(positions, flow.vector(y, axis), adds=True)
    elif layer.bias is not None:
        flow.work(flow.positions(y.shape), adds=True)
    return activate(flow, layer.activation, y)


@operation_rule("Einsum")
def einsum(flow, operation, *operands, **_):
    subscripts = operation.subscripts
    if len(operands) != 2 or "->" not in subscripts:
        flow.work(None)
        return flow.frozen(operands, "an einsum of this form is not understood")
    terms = einsum_terms(subscripts, *(len(x.shape) for x in operands))
    if any(len(set(term)) != len(term) for term in terms):
        flow.work(None)
        return flow.frozen(operands, "an einsum with a repeated label is not understood")
    return contract(flow, operation, terms, *operands)


@operation_rule("Matmul")
def matmul(flow, operation, a, b):
    if not hasattr(a, "shape") or not hasattr(b, "shape") or min(len(a.shape), len(b.shape)) < 2:
        flow.work(None)
        return flow.frozen([a, b], "a product of this form is not understood")
    rank = max(len(a.shape), len(b.shape))
    batch = tuple(string.ascii_lowercase[: rank - 2])

    def labels(x, other, last):
        lengths = dict(zip(batch[rank - len(other.shape) :], other.shape, strict=False))
        own = batch[rank - len(x.shape) :]
        return tuple(
            label.upper() if n == 1 != lengths.get(label, 1) else label
            for label, n in zip(own, x.shape, strict=False)
        ) + tuple(last)

    out = batch + ("x", "z")
    return contract(flow, operation, (labels(a, b, "xy"), labels(b, a, "yz"), out), a, b)


@layer_rule("Dot")
def dot(flow, layer, inputs):
    a, b = inputs
    axes = layer.axes if isinstance(layer.axes, (list, tuple)) else (layer.axes, layer.axes)
    if layer.normalize and not (a.zero and b.zero):
        return flow.frozen(inputs, "it is normalised over its channels")
    labels_a = ["b", *string.ascii_lowercase[2 : len(a.shape) + 1]]
    labels_b = ["b", *string.ascii_uppercase[2 : len(b.shape) + 1]]
    labels_a[axes[0]] = labels_b[axes[1]] = "z"
    out = [x for x in labels_a + labels_b[1:] if x != "z"]
    if len(out) == 1:
        out.append("o")  # Dot keeps a last axis of length 1
    return contract(flow, layer, (tuple(labels_a), tuple(labels_b), tuple(out)), a, b)


@operation_rule("Dot", "Tensordot", "Vdot", "Inner", "Outer")
def product(flow, operation, a, b):
    flow.work(None)
    return flow.frozen([a, b], "a product of this form is not understood")
