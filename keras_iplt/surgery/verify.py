"""Is a model that was made smaller in place what the plan says? Found out without numbers.

Every operation is asked for the shape of its output. What runs code of its own - custom layers,
subclassed models - is recorded once more, operation by operation, and compared with what was
recorded before: a shape or a number written into that code would be of the old size.
"""

import math

import keras

from keras_iplt import keras_private as private
from keras_iplt.errors import ModelError
from keras_iplt.graph.flow import channels_in
from keras_iplt.graph.recordings import plain_differences, same_constants
from keras_iplt.graph.trace import graph_of
from keras_iplt.graph.unknown import inline_layer
from keras_iplt.graph.walk import is_graph_model
from keras_iplt.graph.weights import kept_lengths

__all__ = ["verify"]


def verify(live):
    """Raises a `ModelError` where the live model is not what the plan says.

    Args:
        live: the `Live` that was carried out.
    """
    for node in live.nodes:
        if not is_graph_model(node.operation):
            _check_shapes(live, node)
    for node in live.edited:
        _check_on_numbers(node)
    for call in live.recordable:
        if inline_layer(call.operation, live.symbols(call, live.gone), training=False) is None:
            raise ModelError(
                f"layer {call.path!r} ({type(call.operation).__name__}) does not work any more "
                "once it is smaller: its parts do not fit together. keras_iplt.register_rule can "
                "teach how"
            )
    for call in live.graph.calls.values():
        if call.inner is not None and live.loses(call.operation):
            again = inline_layer(call.operation, live.symbols(call, live.gone), training=False)
            _check_recording(live, call.inner, again, f"layer {call.path!r}")
    model = live.graph.model
    if not is_graph_model(model):
        _check_recording(live, live.graph.function, _recorded(model), f"model {model.name!r}")


def _recorded(model):
    """The operations of a subclassed model, or None if it no longer works."""
    try:
        return graph_of(model)
    except ModelError:
        return None


def _check_shapes(live, node):
    operation = node.operation
    args, kwargs = private.arguments(node)
    try:
        outputs = operation.compute_output_spec(*args, **kwargs)
    except Exception as error:
        # Code of others on shapes it may not be written for: whatever it raises.
        raise ModelError(
            f"{operation.name!r} ({type(operation).__name__}) does not work on what is left of its "
            f"inputs: a size seems to be written into its code ({error})"
        ) from error
    found = [tuple(x.shape) for x in keras.tree.flatten(outputs)]
    expected = [tuple(x.shape) for x in node.outputs]
    if found != expected:
        raise ModelError(
            f"{operation.name!r} ({type(operation).__name__}) puts out {found} where {expected} "
            "was expected"
        )


_MOST_NUMBERS = 1_000_000  # in a tensor that an operation is tried on


def _check_on_numbers(node):
    """An operation that was given other arguments says what shape it puts out without looking at
    all of them: it is carried out."""

    def zeros(x):
        if not isinstance(x, keras.KerasTensor):
            return x
        return keras.ops.zeros([2 if n is None else n for n in x.shape], x.dtype)

    if any(math.prod(n or 2 for n in x.shape) > _MOST_NUMBERS for x in node.input_tensors):
        return
    operation = node.operation
    args, kwargs = keras.tree.map_structure(zeros, private.arguments(node))
    try:
        results = keras.tree.flatten(operation(*args, **kwargs))
    except Exception as error:  # whatever a backend says of arguments that do not fit
        raise ModelError(
            f"{operation.name!r} ({type(operation).__name__}) does not work on what is left of its "
            f"inputs ({error})"
        ) from error
    for result, expected in zip(results, node.outputs, strict=True):
        wanted = [2 if n is None else n for n in expected.shape]
        if None not in expected.shape[1:] and list(result.shape[1:]) != wanted[1:]:
            raise ModelError(
                f"{operation.name!r} ({type(operation).__name__}) puts out {tuple(result.shape)} "
                f"where {tuple(expected.shape)} was expected"
            )


def _check_recording(live, before, again, what):
    """Compares the operations of two recordings of the same code."""
    stale = (
        f"{what} does something else once its layers are smaller{{}}: a size seems to be written "
        "into its code. Compute it from the tensor's shape; or use keras_iplt.rewrite"
    )
    old = private.nodes(before)
    new = [] if again is None else private.nodes(again)
    if [type(n.operation) for n in old] != [type(n.operation) for n in new]:
        raise ModelError(stale.format(""))
    for one, other in zip(old, new, strict=True):
        where = stale.format(f" (at {one.operation.name!r})")
        call = live.graph.calls[id(one)]
        shapes = [kept_lengths(x, live.gone) for x in channels_in(call.outputs)]
        if shapes != [tuple(x.shape) for x in other.outputs]:
            raise ModelError(where)
        if isinstance(one.operation, keras.Layer):
            continue
        changes, *arguments = live.expected(one)
        if not same_constants(arguments, private.arguments(other)):
            raise ModelError(where)
        wanted = private.remade(one.operation, changes)
        if list(plain_differences(wanted, other.operation)):
            raise ModelError(where)
