"""Operations that only move numbers: what they do to ids is what they do to numbers.

Most are evaluated on the ids themselves. Axes along which ids do not change stay collapsed, so
that a reshape of an image costs as much as one of a single pixel.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt.graph.channels import SOLID, Channels, Outputs, Shape
from keras_iplt.graph.flow import Flow, all_known, channels_in, product, spread
from keras_iplt.graph.rules.registry import After, Resize, Resized, layer_rule, operation_rule

__all__ = ["reshape"]


def moved(flow: Flow, ids: np.ndarray, masked: float | None = 0.0, output: int = 0) -> Channels:
    """The output with these ids; axes along which they do not change are collapsed."""
    ids = flow.partition.find(np.asarray(ids))
    for axis, length in enumerate(ids.shape):
        if length > 1 and (ids == ids.take([0], axis)).all():
            ids = ids.take([0], axis)
    return Channels(ids, flow.shapes[output], masked)


# -- reshape --


def reshape(flow: Flow, x: Channels, shape: Shape) -> Channels:
    """Row-major reshape.

    Axes are matched from the right into the smallest groups of equal product; a group along which
    ids do not change stays collapsed."""
    source, target = list(x.shape), list(shape)
    ids = x.ids
    # Pairs of an axis and the length of ids along it.
    before: list[tuple[int, int]] = []
    after: list[tuple[int, int]] = []
    for old, new in _matching_axes(source, target):
        lengths_old, lengths_new = [source[i] for i in old], [target[i] for i in new]
        if all(ids.shape[i] == 1 for i in old):
            before += [(i, 1) for i in old]
            after += [(i, 1) for i in new]
        elif all_known(lengths_old) and all_known(lengths_new):
            before += zip(old, lengths_old, strict=True)
            after += zip(new, lengths_new, strict=True)
        else:
            flow.freeze(x, "its channels are reshaped together with an axis of unknown length")
            return flow.solid(shape)
    full = np.broadcast_to(ids, [n for _, n in sorted(before)])
    return Channels(full.reshape([n for _, n in sorted(after)]), tuple(shape), x.masked)


def _matching_axes(
    source: Sequence[int | None], target: Sequence[int | None]
) -> Iterator[tuple[list[int], list[int]]]:
    """Pairs of axis lists (of source, of target) with equal products, from the right."""
    i, j = len(source) - 1, len(target) - 1
    while i >= 0 or j >= 0:
        old, new = [], []
        if i >= 0:
            old.append(i)
            i -= 1
        if j >= 0:
            new.append(j)
            j -= 1
        while True:
            lengths_old, lengths_new = [source[k] for k in old], [target[k] for k in new]
            a, b = product(lengths_old), product(lengths_new)
            if a is None or b is None:
                if lengths_old == lengths_new == [None]:
                    break  # the batch, or one unknown axis kept as it is
                if i < 0 and j < 0:
                    break
                old += range(i, -1, -1)
                new += range(j, -1, -1)
                i = j = -1
                break
            if a == b and ((old and new) or a == 1):
                break
            if (a < b or (a == b and not old)) and i >= 0:
                old.append(i)
                i -= 1
            elif j >= 0:
                new.append(j)
                j -= 1
            else:
                old += range(i, -1, -1)
                i = -1
                break
        yield old, new


def _new_shape(shape: Shape, x: Channels, after: After) -> Shape:
    """A target shape (without the batch where `shape` has none) after channels went."""
    lengths = after.lengths(x)[-len(shape) :] if shape else ()
    whole = x.shape[-len(shape) :] if shape else ()
    return tuple(
        old if old == -1 or new == was else new
        for old, new, was in zip(shape, lengths, whole, strict=True)
    )


def _resize_reshape(layer: keras.Layer, after: After) -> dict[str, Any]:
    return {"target_shape": _new_shape(layer.target_shape, after.call.outputs, after)}


@layer_rule("Reshape", resize=_resize_reshape)
def reshape_layer(flow: Flow, layer: keras.Layer, x: Channels) -> Channels:
    y = reshape(flow, x, flow.shapes[0])
    for call in flow.calls_of(layer):  # one target shape must do for every use
        flow.join(_squeezed(call.outputs), _squeezed(y), "a shared reshape meets other channels")
    return y


def _squeezed(x: Channels) -> np.ndarray:
    return spread(x.ids, x.shape[:1] and [None] * len(x.shape))


@layer_rule("Flatten")
def flatten(flow: Flow, layer: keras.Layer, x: Channels) -> Channels:
    if layer.data_format == "channels_first" and len(x.shape) > 1:
        last = [*range(2, len(x.shape)), 1]  # Flatten puts the channels last before it flattens
        x = Channels(
            x.ids.transpose([0, *last]), (x.shape[0], *(x.shape[i] for i in last)), x.masked
        )
    return reshape(flow, x, flow.shapes[0])


def _resize_operation(name: str) -> Resize:
    def resize(
        operation: keras.Operation, after: After, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Resized:
        shape = getattr(operation, name)
        return {name: _new_shape(tuple(shape), after.call.outputs, after)}, args, kwargs

    return resize


@operation_rule("Reshape", resize=_resize_operation("newshape"))
def reshape_operation(flow: Flow, operation: keras.Operation, x: Channels) -> Channels:
    return reshape(flow, x, flow.shapes[0])


@operation_rule("Ravel")
def ravel(flow: Flow, operation: keras.Operation, x: Channels) -> Channels:
    return reshape(flow, x, flow.shapes[0])


@operation_rule("BroadcastTo", resize=_resize_operation("shape"))
def broadcast_to(flow: Flow, operation: keras.Operation, x: Channels) -> Channels:
    shape = flow.shapes[0]
    missing = len(shape) - len(x.shape)
    if any(a == 1 != b for a, b in zip(x.shape, shape[missing:], strict=True)) and not x.varying:
        flow.freeze(x, "each of its channels is broadcast over several others")
    return Channels(x.ids.reshape((1,) * missing + x.ids.shape), shape, x.masked)


# -- axes change places --


@layer_rule("Permute")
def permute(flow: Flow, layer: keras.Layer, x: Channels) -> Channels:
    return moved(flow, x.ids.transpose((0, *layer.dims)), x.masked)


@operation_rule("Transpose")
def transpose(flow: Flow, operation: keras.Operation, x: Channels) -> Channels:
    return moved(flow, x.ids.transpose(operation.axes), x.masked)


@operation_rule("Swapaxes")
def swapaxes(flow: Flow, operation: keras.Operation, x: Channels) -> Channels:
    return moved(flow, np.swapaxes(x.ids, operation.axis1, operation.axis2), x.masked)


@operation_rule("Moveaxis")
def moveaxis(flow: Flow, operation: keras.Operation, x: Channels) -> Channels:
    return moved(flow, np.moveaxis(x.ids, operation.source, operation.destination), x.masked)


@operation_rule("ExpandDims")
def expand_dims(flow: Flow, operation: keras.Operation, x: Channels) -> Channels:
    return moved(flow, np.expand_dims(x.ids, operation.axis), x.masked)


@operation_rule("Squeeze")
def squeeze(flow: Flow, operation: keras.Operation, x: Channels) -> Channels:
    axis = operation.axis
    if axis is None:
        axis = tuple(i for i, n in enumerate(x.shape) if n == 1)
    return moved(flow, np.squeeze(x.ids, tuple(axis) if isinstance(axis, list) else axis), x.masked)


@operation_rule("Flip")
def flip(flow: Flow, operation: keras.Operation, x: Channels) -> Channels:
    return moved(flow, np.flip(x.ids, operation.axis), x.masked)


# -- tensors are put together --


def concatenate(flow: Flow, tensors: Sequence[Channels], axis: int) -> Outputs:
    """Tensors side by side along `axis`."""
    tensors = [x for x in tensors if isinstance(x, Channels)]
    axis %= len(flow.shapes[0])
    numbers = {x.masked for x in tensors if (x.ids != SOLID).any()}
    masked = numbers.pop() if len(numbers) == 1 else None
    along = any(axis in x.varying for x in tensors)
    across = {other for x in tensors for other in x.varying} - {axis}
    if across and not along:
        # Along an axis without channels of its own: those of the other axes must agree.
        ids = tensors[0].ids
        for x in tensors[1:]:
            flow.join(ids, x.ids, "it is concatenated with a tensor whose channels stay")
            ids = np.where(*np.broadcast_arrays(ids != SOLID, ids, x.ids))
        return moved(flow, ids, masked)
    if any(x.shape[axis] is None for x in tensors):
        return flow.frozen(tensors, "it is concatenated along an axis of unknown length")
    parts = [
        spread(x.ids, [x.shape[i] if i == axis or i in across else None for i in range(x.ids.ndim)])
        for x in tensors
    ]
    return moved(flow, np.concatenate(parts, axis), masked)


@layer_rule("Concatenate")
def concatenate_layer(flow: Flow, layer: keras.Layer, inputs: list[Channels]) -> Outputs:
    return concatenate(flow, inputs, layer.axis)


def _as_channels(flow: Flow, x: Any) -> Channels:
    """A tensor, or a variable or constant seen as one."""
    if isinstance(x, Channels):
        return x
    if isinstance(x, keras.Variable):
        return flow.tensor_of(x)
    return flow.solid(np.shape(x))


def _side_by_side(flow: Flow, operation: keras.Operation, tensors: Sequence[Any]) -> Outputs:
    tensors = [_as_channels(flow, x) for x in tensors]
    axis = {"Hstack": 1, "Vstack": 0, "Dstack": 2}.get(type(operation).__name__)
    return concatenate(flow, tensors, operation.axis if axis is None else axis)


@operation_rule("Concatenate")
def concatenate_operation(flow: Flow, operation: keras.Operation, xs: Sequence[Any]) -> Outputs:
    return _side_by_side(flow, operation, xs)


@operation_rule("Hstack", "Dstack")
def stacks_of_axes(flow: Flow, operation: keras.Operation, xs: Sequence[Any]) -> Outputs:
    if len({len(x.shape) for x in xs}) > 1 or len(xs[0].shape) < 3:
        return flow.frozen(xs, "a stack of this form is not understood")
    return _side_by_side(flow, operation, xs)


@operation_rule("Append")
def append(flow: Flow, operation: keras.Operation, a: Any, b: Any) -> Outputs:
    if operation.axis is None:
        return flow.frozen([a, b], "it is flattened and appended to")
    return _side_by_side(flow, operation, [a, b])


@operation_rule("Stack")
def stack(flow: Flow, operation: keras.Operation, xs: Sequence[Any]) -> Outputs:
    axis = operation.axis % len(flow.shapes[0])
    parts = [
        Channels(np.expand_dims(x.ids, axis), (*x.shape[:axis], 1, *x.shape[axis:]), x.masked)
        for x in (_as_channels(flow, x) for x in xs)
    ]
    return concatenate(flow, parts, axis)


# -- tensors are repeated --


@layer_rule("RepeatVector")
def repeat_vector(flow: Flow, layer: keras.Layer, x: Channels) -> Channels:
    return moved(flow, np.expand_dims(x.ids, 1), x.masked)


@operation_rule("Repeat")
def repeat(flow: Flow, operation: keras.Operation, x: Channels) -> Outputs:
    if operation.axis is None or not isinstance(operation.repeats, int):
        return flow.frozen(x, "it is repeated unevenly")
    axis = operation.axis % len(x.shape)
    if axis not in x.varying and (x.varying or x.shape[axis] != 1):
        return Channels(x.ids, flow.shapes[0], x.masked)
    return moved(flow, np.repeat(x.ids, operation.repeats, axis), x.masked)


@operation_rule("Tile")
def tile(flow: Flow, operation: keras.Operation, x: Channels) -> Channels:
    repeats = operation.repeats
    repeats = (repeats,) if isinstance(repeats, int) else tuple(repeats)
    rank = max(len(repeats), len(x.shape))
    repeats = (1,) * (rank - len(repeats)) + repeats
    ids = x.ids.reshape((1,) * (rank - x.ids.ndim) + x.ids.shape)
    return moved(
        flow,
        np.tile(ids, [r if n > 1 else 1 for r, n in zip(repeats, ids.shape, strict=True)]),
        x.masked,
    )


@operation_rule("DepthToSpace", "SpaceToDepth")
def pixel_shuffle(flow: Flow, operation: keras.Operation, x: Channels) -> Channels:
    """Evaluated on one block of pixels."""
    size = operation.block_size
    first = operation.data_format == "channels_first"
    axis = 1 if first else len(x.shape) - 1
    x = flow.only(x, axis)
    if not x.varying:
        return Channels(x.ids, flow.shapes[0], x.masked)
    spatial = 1 if type(operation).__name__ == "DepthToSpace" else size
    lengths = [spatial] * 4
    lengths[0], lengths[axis] = 1, x.shape[axis]
    ids = keras.ops.convert_to_tensor(spread(x.ids, lengths).astype("int32"))
    ids = keras.ops.convert_to_numpy(operation.call(ids)).astype(np.int64)
    shape, flow.shapes = flow.shapes, ((1, *ids.shape[1:]),)
    y = flow.only(moved(flow, ids), axis)
    flow.shapes = shape
    return Channels(y.ids, shape[0], x.masked)


@operation_rule("Roll", "Rot90", "Diagonal", "TakeAlongAxis", "Tril", "Triu")
def rearranged(flow: Flow, operation: keras.Operation, x: Any, *_: Any, **__: Any) -> Outputs:
    """Fine along axes without channels."""
    axes = getattr(operation, "axis", None)
    if type(operation).__name__ in ("Tril", "Triu"):
        axes = (-1, -2)
    elif type(operation).__name__ == "Rot90":
        axes = operation.axes
    if axes is None or type(operation).__name__ == "Diagonal" or not channels_in(x):
        return flow.frozen(x, "it is rearranged")
    axes = {axis % len(x.shape) for axis in (axes if isinstance(axes, (tuple, list)) else [axes])}
    if axes & set(x.varying) or len(flow.shapes[0]) != len(x.shape):
        return flow.frozen(x, "its channels are rearranged")
    fills = type(operation).__name__ in ("Tril", "Triu")  # with zeros
    return Channels(x.ids, flow.shapes[0], None if fills and not x.zero else x.masked)


@operation_rule("Take")
def take(flow: Flow, operation: keras.Operation, x: Any, indices: Any) -> Outputs:
    """Entries along an axis without channels, or rows of a table of weights: an embedding."""
    if isinstance(x, keras.Variable) and operation.axis in (0, -len(x.shape)) and len(x.shape) > 1:
        if (id(x), len(x.shape) - 1) not in flow.slices:
            flow.slice(x, -1, flow.create(operation, x.shape[-1]), "output")
        x = flow.tensor_of(x)
    if not isinstance(x, Channels) or operation.axis is None:
        return flow.frozen([x, indices], "it is rearranged")
    axis = operation.axis % len(x.shape)
    if axis in x.varying or any(one.varying for one in channels_in(indices)):
        return flow.frozen([x, indices], "its channels are rearranged")
    rank = len(indices.shape) if isinstance(indices, Channels) else np.ndim(indices)
    ids = x.ids.reshape(x.ids.shape[:axis] + (1,) * rank + x.ids.shape[axis + 1 :])
    # Beyond the end of an axis stand other numbers.
    return Channels(ids, flow.shapes[0], 0.0 if x.zero else None)
