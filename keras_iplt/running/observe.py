"""Looking at what flows through a model: data in batches, and a model run operation by operation.

`observe` is the third pass that `walk` makes possible: the tracer carries ids, the rewriter
symbolic tensors, and this one real numbers.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import DataError
from keras_iplt.graph.channels import SOLID, Call, Channels, Graph
from keras_iplt.graph.flow import channels_in
from keras_iplt.graph.slices import numbers_of
from keras_iplt.graph.trace import graph_of
from keras_iplt.graph.walk import is_graph_model
from keras_iplt.running.steps import Step, last_uses, recorded
from keras_iplt.support.arguments import blaming, said

__all__ = ["Batch", "batches", "consumers", "marked", "observe", "without_gradients"]

_BATCH_SIZE = 32

Visit = Callable[[Call, list[tuple[Channels, np.ndarray]]], None]
Wanted = Callable[[Call], bool]


# -- data ------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """One batch as tensors.

    Attributes:
        inputs: one tensor per input of the model's graph.
        x: the same in the structure that the model takes.
        y, sample_weight: labels and weights, or None.
    """

    inputs: list[Any]
    x: Any
    y: Any = None
    sample_weight: Any = None


def batches(model: keras.Model, data: Any) -> Iterator[Batch]:
    """Cuts data into batches that fit a model.

    Args:
        model: the model that the data are for.
        data: `x`, `(x, y)` or `(x, y, sample_weight)` as arrays (`x` may be a list or dict of
            arrays for a model with several inputs), which are cut in batches of 32; or a
            `keras.utils.PyDataset`, a `tf.data.Dataset` or any other iterable of such batches.

    Yields:
        One `Batch` after the other.
    """
    function = graph_of(model)
    names = _input_names(function)
    empty = True
    for batch in _raw_batches(data, len(names)):
        empty = False
        try:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        except ValueError as error:
            raise DataError(
                "data: expected batches x, (x, y) or (x, y, sample_weight), received: "
                f"a {type(batch).__name__} of {len(batch)} entries"
            ) from error
        graph_model = is_graph_model(model)
        flat = _flat(names, x) if graph_model else keras.tree.flatten(x)
        if len(flat) != len(names):
            raise DataError(
                f"data: expected {len(names)} inputs {names}, received: {len(flat)} arrays"
            )
        inputs = [
            _input_tensor(name, want, value)
            for name, want, value in zip(names, function.inputs, flat, strict=True)
        ]
        structure = private.input_structure(function) if graph_model else x
        packed = keras.tree.pack_sequence_as(structure, inputs)
        yield Batch(inputs, packed, _tensors(y), _tensors(sample_weight))
    if empty:
        raise DataError("data: expected at least one batch, received none")


def _raw_batches(data: Any, number_of_inputs: int) -> Iterator[Any]:
    """What the user gave, batch by batch."""
    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        if count is None:
            raise DataError("data: expected a PyDataset that ends, received an endless one")
        return map(data.__getitem__, range(count))
    if hasattr(data, "cardinality") and int(data.cardinality()) == -1:
        raise DataError("data: expected a dataset that ends; use dataset.take(number of batches)")
    several = (
        isinstance(data, list)
        and len(data) == number_of_inputs > 1
        and all(hasattr(part, "shape") for part in data)
    )
    if several:
        return _cut((data,))
    if isinstance(data, tuple):
        return _cut(data)
    if isinstance(data, dict) or hasattr(data, "shape"):
        return _cut((data,))
    if isinstance(data, str) or not hasattr(data, "__iter__"):
        raise DataError(
            "data: expected x, (x, y), a PyDataset, a tf.data.Dataset or an iterable of batches, "
            f"received: {data!r} of type {type(data).__name__}"
        )
    return iter(data)


def _cut(arrays: Any) -> Iterator[Any]:
    """Slices of all arrays together."""
    flat = [a for a in keras.tree.flatten(arrays) if a is not None]
    lengths = [len(a) if np.ndim(a) else 0 for a in flat]
    if len(set(lengths)) != 1:
        raise DataError(
            "data: expected arrays with the same number of examples, received lengths: "
            f"{', '.join(map(str, lengths)) or 'nothing'}"
        )
    for start in range(0, lengths[0], _BATCH_SIZE):
        yield keras.tree.map_structure(
            lambda a: a if a is None else a[start : start + _BATCH_SIZE],  # noqa: B023
            arrays,
        )


def _tensors(structure: Any) -> Any:
    def tensor(y: Any) -> Any:
        if y is None or keras.ops.is_tensor(y):
            return y
        return keras.ops.convert_to_tensor(_numbers("the labels", y))

    return keras.tree.map_structure(tensor, structure)


def _numbers(what: str, given: Any) -> np.ndarray:
    """An array of them."""
    with blaming(f"data: {what}: numpy.asarray", DataError):
        array = np.asarray(given)
    if array.dtype.kind not in "biufcV":  # V: those of JAX
        raise DataError(f"data: {what}: expected numbers, received: {said(given)}")
    return array


def _flat(names: list[str], x: Any) -> list[Any]:
    """The inputs in the order of the graph's."""
    if not isinstance(x, dict):
        return keras.tree.flatten(x)
    if missing := [name for name in names if name not in x]:
        raise DataError(f"data: expected inputs {names}, received: {[*x]}, which lacks {missing}")
    return [x[name] for name in names]


def _input_names(function: keras.Function) -> list[str]:
    """What the user calls the inputs: the keys of a dict of inputs, else their own names."""
    structure = private.input_structure(function)
    keys = {id(v): k for k, v in structure.items()} if isinstance(structure, dict) else {}
    return [keys.get(id(tensor), tensor.name) for tensor in function.inputs]


def _input_tensor(name: str, want: keras.KerasTensor, value: Any) -> Any:
    text = want.dtype == "string"
    given = value if text or keras.ops.is_tensor(value) else _numbers(f"input {name!r}", value)
    shape = tuple(given.shape)
    # As Keras does: a last axis of length 1 may be there or not.
    if len(shape) == len(want.shape) + 1 and shape[-1] == 1:
        shape = shape[:-1]
    elif len(shape) == len(want.shape) - 1 and want.shape[-1] == 1:
        shape = (*shape, 1)
    fits = len(shape) == len(want.shape) and all(
        b is None or a == b for a, b in zip(shape[1:], want.shape[1:], strict=True)
    )
    if not fits:
        raise DataError(
            f"data: input {name!r} expected shape {tuple(want.shape)}, "
            f"received: {tuple(given.shape)}"
        )
    if "float" in want.dtype and not np.isfinite(numbers_of(given)).all():
        raise DataError(f"data: input {name!r} expected finite numbers, received NaN or infinity")
    return keras.ops.reshape(keras.ops.convert_to_tensor(given, dtype=want.dtype), shape)


# -- a model, operation by operation ---------------------------------------------------------------


def observe(
    graph: Graph, given: Iterable[Batch], visit: Visit, wanted: Wanted | None = None
) -> None:
    """Runs a model as for inference and shows what goes into its operations.

    Nested models and custom layers are entered; what happens inside other layers (attention,
    recurrent) is not seen. No state of the model changes.

    Args:
        graph: the `Graph` of the model.
        given: `Batch`es.
        visit: `visit(call, inputs)` is called for each `Call` in the order of computation, with
            one pair `(Channels, array)` per tensor that goes in.
        wanted: `wanted(call)` says whether to visit a call; without it all are visited. Numbers
            are only taken out of the backend for those visited.
    """
    program = recorded(graph.function, graph.calls)
    drop = last_uses(program.steps, ())
    with keras.StatelessScope(), without_gradients():
        for batch in given:
            values = dict(zip(program.inputs, batch.inputs, strict=True))
            for index, step in enumerate(program.steps):
                if step.call is not None and (wanted is None or wanted(step.call)):
                    visit(step.call, _given(step, step.call, values))
                step.run(values)
                for place in drop.get(index, ()):
                    values.pop(place, None)


def _given(step: Step, call: Call, values: dict[int, Any]) -> list[tuple[Channels, np.ndarray]]:
    """What goes into a step: channels and numbers."""
    channels = channels_in((call.args, call.kwargs))
    numbers = [numbers_of(values[place]) for place in step.inputs]
    return list(zip(channels, numbers, strict=True))


def without_gradients() -> contextlib.AbstractContextManager[Any]:
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()


# -- who sees a channel ----------------------------------------------------------------------------


def consumers(graph: Graph, wanted: np.ndarray) -> dict[int, np.ndarray]:
    """Which calls, of those that `observe` visits, take in which channels.

    A call consumes the channels that its weights take in. Channels that meet no such call
    (attention without weights, a sum over channels) are consumed where they enter a call and do
    not leave it.

    Args:
        graph: a `Graph`.
        wanted: mask over all ids: the channels to look for.

    Returns:
        id(call) -> mask over all ids.
    """
    found, met = {}, np.zeros(len(wanted), bool)
    for call in graph.calls.values():
        if call.carry == "model" or call.inside is not None:
            continue  # the calls inside are visited instead
        entering = wanted & marked(graph, [x.ids for x in channels_in((call.args, call.kwargs))])
        if entering.any():
            pieces = [p for v in _variables(call) for p in graph.by_variable.get(id(v), ())]
            taken_in = entering & marked(graph, [p.ids for p in pieces if p.role == "input"])
            leaving = marked(graph, [x.ids for x in channels_in(call.outputs)])
            found[id(call)] = taken_in, entering & ~leaving
            met |= taken_in
    masks = {key: taken_in | (ends & ~met) for key, (taken_in, ends) in found.items()}
    return {key: mask for key, mask in masks.items() if mask.any()}


def marked(graph: Graph, arrays: Iterable[np.ndarray]) -> np.ndarray:
    """A mask over all ids: those whose class has an id in one of the arrays."""
    classes = np.zeros(len(graph.classes), bool)
    for ids in arrays:
        classes[graph.classes[ids]] = True
    classes[SOLID] = False
    return classes[graph.classes]


def _variables(call: Call) -> list[keras.Variable]:
    """The variables that an operation computes with."""
    if isinstance(call.operation, keras.Layer):
        return call.operation.weights
    leaves = keras.tree.flatten((call.args, call.kwargs))
    return [x for x in leaves if isinstance(x, keras.Variable)]
