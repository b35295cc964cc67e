"""Dense layers, einsums and products of matrices."""

import string
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.channels import SOLID, Channels, Outputs, Shape
from keras_iplt.graph.flow import Flow, channels_in
from keras_iplt.graph.flow import product as product_of
from keras_iplt.graph.rules.activation import activate, follow_parameter
from keras_iplt.graph.rules.convolution import add_bias
from keras_iplt.graph.rules.elementwise import avoid_misplaced_sum
from keras_iplt.graph.rules.registry import After, layer_rule, operation_rule

__all__ = ["contract", "dense"]

Terms = tuple[tuple[str, ...], ...]  # the labels of each operand and of the result


def dense(
    flow: Flow, x: Channels, layer: keras.Layer, kernel: keras.Variable, bias: keras.Variable | None
) -> Channels:
    """`x @ kernel + bias` over the last axis."""
    inputs = flow.vector(x, -1, "a dense layer is applied along another axis")
    outputs = flow.create(layer, kernel.shape[-1])
    flow.consume(kernel, 0, inputs)
    flow.slice(kernel, 1, outputs, "output")
    flow.work(flow.positions(flow.shapes[0], -1), inputs, outputs)
    add_bias(flow, bias, outputs, -1)
    return flow.place(outputs, -1)


@layer_rule(
    "Dense", resize=lambda layer, after: {"units": after.size(private.kernel_of(layer), -1)}
)
def dense_layer(flow: Flow, layer: keras.Layer, x: Channels) -> Any:
    y = dense(flow, x, layer, private.kernel_of(layer), layer.bias)
    return activate(flow, layer.activation, y)


def contract(flow: Flow, layer: keras.Operation, terms: Terms, a: Any, b: Any) -> Channels:
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
        for x in channels_in([a, b]):
            flow.freeze(x, "it is contracted with a constant")
        return flow.solid(flow.shapes[0])
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
    flow.work(product_of(solid), *found.values())
    carrying = [label for label in labels_out if label in found]
    if not carrying:
        return flow.solid(flow.shapes[0])
    *others, last = carrying
    for label in others:
        flow.freeze(found[label], "two axes of one tensor carry channels")
    # Any factor that is zero makes the product so; a variable is zero along its own channels.
    zero = (last in labels_a and a.zero) or (
        last in labels_b and (isinstance(b, keras.Variable) or b.zero)
    )
    return flow.place(found[last], labels_out.index(last), masked=0.0 if zero else None)


def _count_solid(flow: Flow, terms: Terms, operands: tuple[Any, Any]) -> None:
    """The multiply-adds of a product in which nothing can be pruned."""
    lengths: dict[str, int | None] = {}
    for labels, x in zip(terms, operands, strict=False):
        shape = x.shape if hasattr(x, "shape") else np.shape(x)
        first = 1 if isinstance(x, Channels) and labels[0] == terms[-1][0] else 0  # the batch
        lengths |= dict(zip(labels[first:], shape[first:], strict=True))
    flow.work(product_of(lengths.values()))


def _filled_in(shape: Shape, labels: Sequence[str], lengths: Mapping[str, int | None]) -> Shape:
    """A shape, with what the operands know where it says None."""
    return tuple(lengths[label] if n is None else n for label, n in zip(labels, shape, strict=True))


def _weigh(
    flow: Flow,
    layer: keras.Operation,
    of_a: dict[str, np.ndarray],
    terms: Terms,
    a: Channels,
    kernel: keras.Variable,
) -> dict[str, np.ndarray]:
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


def _meet(
    flow: Flow,
    of_a: dict[str, np.ndarray],
    of_b: dict[str, np.ndarray],
    terms: Terms,
    a: Channels,
    b: Channels,
) -> dict[str, np.ndarray]:
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


def _vectors(flow: Flow, x: Channels, labels: Sequence[str]) -> dict[str, np.ndarray]:
    """label -> ids along its axis, for the one axis that channels run along."""
    if not x.varying:
        return {}
    axis = max(x.varying, key=lambda a: x.ids.shape[a])
    return {labels[axis]: flow.vector(x, axis)}


def einsum_terms(equation: str, *ranks: int) -> Terms:
    """Splits an equation into one tuple of labels per operand and one for the result."""
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    free = [c for c in string.ascii_letters if c not in equation]
    hidden = max(
        (rank - len(term) + 3 for term, rank in zip(terms, ranks, strict=True) if "..." in term),
        default=0,
    )

    def labels(term: str) -> tuple[str, ...]:
        width = hidden
        return tuple(term.replace("...", "".join(free[:width])))

    return tuple(labels(term) for term in (*terms, right))


def _resize_einsum(layer: keras.Layer, after: After) -> dict[str, Any]:
    shape = list(layer.partial_output_shape)
    kernel_labels = layer.equation.replace(" ", "").split("->")[0].split(",")[1]
    out_labels = layer.equation.replace(" ", "").split("->")[1].replace("...", "")
    for i in range(1, len(shape) + 1):
        if shape[-i] is not None and out_labels[-i] in kernel_labels:
            shape[-i] = after.size(private.kernel_of(layer), kernel_labels.index(out_labels[-i]))
        elif shape[-i] is not None:
            shape[-i] = after.lengths(after.call.outputs)[-i]
    return {"output_shape": tuple(shape)}


@layer_rule("EinsumDense", resize=_resize_einsum)
def einsum_dense(flow: Flow, layer: keras.Layer, x: Channels) -> Any:
    kernel = private.kernel_of(layer)
    terms = einsum_terms(layer.equation, len(x.shape), len(kernel.shape))
    y = contract(flow, layer, terms, x, kernel)
    if layer.bias is not None and y.varying:
        followed = follow_parameter(flow, layer.bias, y)
        avoid_misplaced_sum(flow, y, tuple(layer.bias.shape))
        (axis,) = y.varying
        flow.work(flow.positions(y.shape, axis), flow.vector(y, axis), adds=True)
        y = Channels(y.ids, y.shape, y.masked if followed else None)
    elif layer.bias is not None:
        flow.work(flow.positions(y.shape), adds=True)
    return activate(flow, layer.activation, y)


@operation_rule("Einsum")
def einsum(flow: Flow, operation: keras.Operation, *operands: Any, **_: Any) -> Outputs:
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
def matmul(flow: Flow, operation: keras.Operation, a: Any, b: Any) -> Outputs:
    if not hasattr(a, "shape") or not hasattr(b, "shape") or min(len(a.shape), len(b.shape)) < 2:
        flow.work(None)
        return flow.frozen([a, b], "a product of this form is not understood")
    rank = max(len(a.shape), len(b.shape))
    batch = tuple(string.ascii_lowercase[: rank - 2])

    def labels(x: Any, other: Any, last: str) -> tuple[str, ...]:
        lengths = dict(zip(batch[rank - len(other.shape) :], other.shape, strict=False))
        own = batch[rank - len(x.shape) :]
        return tuple(
            label.upper() if n == 1 != lengths.get(label, 1) else label
            for label, n in zip(own, x.shape, strict=False)
        ) + tuple(last)

    out = batch + ("x", "z")
    return contract(flow, operation, (labels(a, b, "xy"), labels(b, a, "yz"), out), a, b)


@layer_rule("Dot")
def dot(flow: Flow, layer: keras.Layer, inputs: Sequence[Any]) -> Outputs:
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
def product(flow: Flow, operation: keras.Operation, a: Any, b: Any) -> Outputs:
    flow.work(None)
    return flow.frozen([a, b], "a product of this form is not understood")
