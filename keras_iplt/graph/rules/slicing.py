"""Operations that cut tensors or pad them: the cut moves when channels before it go."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt.graph.channels import SOLID, Channels, Outputs
from keras_iplt.graph.flow import Flow
from keras_iplt.graph.rules.movement import moved
from keras_iplt.graph.rules.registry import After, Resized, layer_rule, operation_rule

__all__ = ["pad"]


# -- indexing --


def _full_key(key: Any, rank: int) -> list[Any]:
    """The key as a list with one entry per axis (and None for each new axis), no Ellipsis."""
    key = list(key) if isinstance(key, (tuple, list)) else [key]
    if not any(k is Ellipsis for k in key):
        key.append(Ellipsis)
    at = next(i for i, k in enumerate(key) if k is Ellipsis)
    missing = rank - sum(k is not None for i, k in enumerate(key) if i != at)
    return [*key[:at], *[slice(None)] * missing, *key[at + 1 :]]


def _resize_getitem(
    operation: keras.Operation, after: After, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Resized:
    x = after.call.args[0]
    key = _full_key(_key_of(after.call.args, after.call.kwargs), len(x.shape))
    axis, new = 0, list[Any]()
    for part in key:
        if part is None:
            new.append(part)
            continue
        if axis in x.varying and len(kept := after.kept_along(x, axis)) < x.shape[axis]:
            part = _moved_cut(part, kept, x.shape[axis])
        new.append(part)
        axis += 1
    return {}, (args[0], tuple(new)), {}


def _moved_cut(part: Any, kept: np.ndarray, length: int) -> Any:
    """The same entries as `part` selects, counted among those that are kept."""
    if isinstance(part, slice):
        chosen = np.flatnonzero(np.isin(kept, np.arange(length)[part]))
        if len(chosen) == len(kept) and part.step in (None, 1):
            return slice(None)
        if part.step in (None, 1):
            return slice(int(chosen[0]), int(chosen[-1]) + 1)
        if part.step == -1:
            low = int(chosen[0]) - 1
            return slice(int(chosen[-1]), low if low >= 0 else None, -1)
        raise AssertionError("uneven steps are frozen when the model is read")
    return int(np.searchsorted(kept, part % length))


def _key_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[1] if len(args) > 1 else kwargs["key"]


@operation_rule("GetItem", resize=_resize_getitem)
def getitem(flow: Flow, operation: keras.Operation, x: Channels, key: Any) -> Outputs:
    axis, ids_key, cut = 0, [], False
    for part in _full_key(key, len(x.shape)):
        if not (part is None or isinstance(part, (int, np.integer, slice))):
            return flow.frozen(x, "it is indexed with a tensor")
        if part is not None:
            varies = axis in x.varying
            if varies and isinstance(part, slice) and part.step not in (None, 1, -1):
                return flow.frozen(x, "its channels are taken in steps")
            if not varies:
                part = slice(None) if isinstance(part, slice) else 0
            elif not isinstance(part, slice):
                flow.freeze(x.ids.take([int(part)], axis), "it is picked by its index")
            cut |= varies
            axis += 1
        ids_key.append(part)
    return moved(flow, x.ids[tuple(ids_key)], x.masked)


def _resize_slice(
    operation: keras.Operation, after: After, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Resized:
    x = after.call.args[0]
    starts, lengths = [*after.call.args[1]], [*_lengths_of(operation, after.call.args)]
    for axis in x.varying:
        kept, stop = after.kept_along(x, axis), starts[axis] + lengths[axis]
        lengths[axis] = int(((kept >= starts[axis]) & (kept < stop)).sum())
        starts[axis] = int((kept < starts[axis]).sum())
    if hasattr(operation, "shape"):
        return {"shape": tuple(lengths)}, (args[0], tuple(starts)), kwargs
    return {}, (args[0], tuple(starts), tuple(lengths)), kwargs


def _lengths_of(operation: keras.Operation, args: tuple[Any, ...]) -> Sequence[int]:
    """The lengths that are cut out: an attribute, or an argument before Keras 3.12."""
    found: Sequence[int] = operation.shape if hasattr(operation, "shape") else args[2]
    return found


@operation_rule("Slice", resize=_resize_slice)
def sliced(
    flow: Flow, operation: keras.Operation, x: Channels, start_indices: Any, *shape: Any
) -> Outputs:
    ids, lengths = x.ids, _lengths_of(operation, (x, start_indices, *shape))
    for axis in x.varying:
        start = start_indices[axis] if isinstance(start_indices, (tuple, list)) else None
        if not isinstance(start, (int, np.integer)):
            return flow.frozen(x, "it is sliced from where a tensor says")
        ids = ids.take(range(start, start + lengths[axis]), axis)
    return moved(flow, ids, x.masked)


def _resize_split(
    operation: keras.Operation, after: After, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Resized:
    x = after.call.args[0]
    axis = operation.axis % len(x.shape)
    if axis not in x.varying or len(keras.tree.flatten(after.call.outputs)) == 1:
        return {}, args, kwargs
    lengths = [after.lengths(part)[axis] for part in keras.tree.flatten(after.call.outputs)]
    if isinstance(operation.indices_or_sections, int) and len(set(lengths)) == 1:
        return {}, args, kwargs
    return {"indices_or_sections": [int(n) for n in np.cumsum(lengths)[:-1]]}, args, kwargs


@operation_rule("Split", "ArraySplit", resize=_resize_split)
def split(flow: Flow, operation: keras.Operation, x: Channels) -> list[Channels]:
    axis = operation.axis % len(x.shape)
    start, parts = 0, []
    for i, shape in enumerate(flow.shapes):
        ids = x.ids
        if axis in x.varying:
            stop = start + shape[axis]
            ids = ids.take(range(start, stop), axis)
            start = stop
        parts.append(moved(flow, ids, x.masked, output=i))
    return parts


@operation_rule("Unstack")
def unstack(
    flow: Flow, operation: keras.Operation, x: Channels, *_: Any, **__: Any
) -> list[Channels]:
    axis = operation.axis % len(x.shape)
    flow_ids = x.ids
    if axis in x.varying:
        flow.freeze(x, "it is picked by its index")
        flow_ids = np.full((1,) * x.ids.ndim, SOLID)
    return [Channels(np.squeeze(flow_ids, axis), shape, x.masked) for shape in flow.shapes]


# -- padding --


def pad(
    flow: Flow, x: Channels, widths: Sequence[tuple[int, int]], number: float | None
) -> Channels:
    """Pads by `widths` (before, after) per axis with `number` (None: with what is there).

    New positions along an axis of channels are channels of their own (constants), that go when
    something they are combined with goes."""
    ids = x.ids
    for axis, widths_here in enumerate(widths):
        if axis in x.varying:
            before, behind = (_constants(flow, ids, axis, count) for count in widths_here)
            ids = np.concatenate([before, ids, behind], axis)
    return moved(flow, ids, x.masked if number in (None, x.masked) else None)


def _constants(flow: Flow, ids: np.ndarray, axis: int, count: int) -> np.ndarray:
    """`count` new positions along `axis`, one id each, shaped to stand beside `ids`."""
    new = np.expand_dims(flow.partition.fresh(count), [i for i in range(ids.ndim) if i != axis])
    return np.broadcast_to(new, [count if i == axis else n for i, n in enumerate(ids.shape)])


def _layer_widths(layer: keras.Layer, rank: int) -> list[tuple[int, int]]:
    """(before, after) per axis of what a zero padding layer gets."""
    pads = layer.padding if isinstance(layer.padding[0], (tuple, list)) else (layer.padding,)
    first = getattr(layer, "data_format", None) == "channels_first"
    widths = [(0, 0), (0, 0), *pads] if first else [(0, 0), *pads, (0, 0)]
    assert len(widths) == rank
    return widths


def _resize_zero_padding(layer: keras.Layer, after: After) -> dict[str, Any]:
    widths = _widths_left(_layer_widths(layer, len(after.call.outputs.shape)), after)
    first = getattr(layer, "data_format", None) == "channels_first"
    widths = widths[2:] if first else widths[1:-1]
    return {"padding": widths if isinstance(layer.padding[0], (tuple, list)) else widths[0]}


@layer_rule("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D", resize=_resize_zero_padding)
def zero_padding(flow: Flow, layer: keras.Layer, x: Channels) -> Channels:
    # Some pad channels with it, by a `data_format` that is not that of the tensor.
    return pad(flow, x, _layer_widths(layer, len(x.shape)), 0)


def _widths_left(widths: Sequence[tuple[int, int]], after: After) -> list[tuple[int, int]]:
    """Padding widths after some of the padded channels went."""
    x, y = after.call.args[0], after.call.outputs
    left = []
    for axis, (before, behind) in enumerate(widths):
        if axis in y.varying and (before or behind):
            kept = after.kept_along(y, axis)
            behind = int((kept >= before + x.shape[axis]).sum())
            before = int((kept < before).sum())
        left.append((before, behind))
    return left


def _pad_widths(operation: keras.Operation, rank: int) -> list[tuple[int, int]]:
    width = operation.pad_width
    if isinstance(width, int):
        return [(width, width)] * rank
    width = [tuple(w) if isinstance(w, (tuple, list)) else (w, w) for w in width]
    return width * rank if len(width) == 1 else width


def _resize_pad(
    operation: keras.Operation, after: After, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Resized:
    widths = _pad_widths(operation, len(after.call.outputs.shape))
    return {"pad_width": _widths_left(widths, after)}, args, kwargs


@operation_rule("Pad", resize=_resize_pad)
def pad_operation(
    flow: Flow, operation: keras.Operation, x: Channels, constant_values: float | None = None
) -> Outputs:
    widths = _pad_widths(operation, len(x.shape))
    touched = {axis for axis, width in enumerate(widths) if any(width)}
    if operation.mode != "constant" and touched & set(x.varying):
        return flow.frozen(x, f"its channels are padded with mode {operation.mode!r}")
    number = constant_values or 0 if operation.mode == "constant" else None
    return pad(flow, x, widths, number)
