"""Is a model that was made smaller in place what the plan says? Found out without numbers.

Every operation is asked for the shape of its output. What runs code of its own - custom layers,
subclassed models - is recorded once more, operation by operation, and compared with what was
recorded before: a shape or a number written into that code would be of the old size.
"""

from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError
from keras_iplt.graph.channels import Shape
from keras_iplt.graph.flow import channels_in
from keras_iplt.graph.recordings import plain_differences, resolved, same_constants
from keras_iplt.graph.slices import kept_lengths
from keras_iplt.graph.trace import graph_of
from keras_iplt.graph.unknown import inline_layer
from keras_iplt.graph.walk import is_graph_model, output_spec
from keras_iplt.surgery.live import Live
from keras_iplt.surgery.zeros import works_on_zeros

__all__ = ["verify"]


def verify(live: Live) -> None:
    """Raises a `ModelError` where the live model is not what the plan says.

    Args:
        live: the `Live` that was carried out.
    """
    for node in live.nodes:
        if not is_graph_model(node.operation):
            _check_shapes(live, node)
    for node in live.tried:
        _check_on_zeros(node)
    for call in live.graph.calls.values():
        if call.inner is not None and live.loses(call.operation):
            again = inline_layer(call.operation, live.symbols(call), training=False)
            _check_recording(live, call.inner, again, f"layer {call.path!r}")
    model = live.graph.model
    if not is_graph_model(model):
        _check_recording(live, live.graph.function, _recorded(model), f"model {model.name!r}")


def _recorded(model: keras.Model) -> keras.Function | None:
    """The operations of a subclassed model, or None if it no longer works."""
    try:
        return graph_of(model)
    except ModelError:
        return None


def _check_shapes(live: Live, node: Any) -> None:
    operation = node.operation
    args, kwargs = private.arguments(node)
    try:
        outputs = output_spec(operation, args, kwargs)
    except Exception as error:
        # Code of others on shapes it may not be written for: whatever it raises.
        raise ModelError(
            f"{operation.name!r} ({type(operation).__name__}) does not work on what is left of its "
            f"inputs: a size seems to be written into its code ({error})"
        ) from error
    found = [tuple(x.shape) for x in keras.tree.flatten(outputs)]
    expected = [tuple(x.shape) for x in node.outputs]
    recorded = live.graph.calls[id(node)].inner is not None  # compared below: its own word is less
    if found != expected and not recorded:
        raise ModelError(
            f"{operation.name!r} ({type(operation).__name__}) puts out {found} where {expected} "
            "was expected"
        )


def _check_on_zeros(node: Any) -> None:
    operation = node.operation
    try:
        works = works_on_zeros(node)
    except Exception as error:  # whatever a backend says of shapes that do not fit
        works, reason = False, f" ({error})"
    else:
        reason = ""
    if not works:
        raise ModelError(
            f"{operation.name!r} ({type(operation).__name__}) does not work on what is left of its "
            f"inputs, or its parts do not fit together{reason}. keras_iplt.register_rule can teach "
            "how to make it smaller"
        )


def _as_recorded(left: Shape, recorded: Shape) -> Shape:
    """What is left of a shape, without lengths that reading found out and a recording does not."""
    return tuple(None if was is None else n for n, was in zip(left, recorded, strict=True))


def _check_recording(
    live: Live, before: keras.Function, again: keras.Function | None, what: str
) -> None:
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
        several = zip(channels_in(call.outputs), one.outputs, strict=True)
        shapes = [_as_recorded(kept_lengths(x, live.gone), y.shape) for x, y in several]
        if any(0 not in a and a != tuple(b.shape)
               for a, b in zip(shapes, other.outputs, strict=True)):  # fmt: skip
            raise ModelError(where)
        if isinstance(one.operation, keras.Layer):
            continue
        changes, *arguments = live.expected(one)
        actual = private.arguments(other)
        shape = other.input_tensors[0].shape
        if not same_constants(resolved(arguments, shape), resolved(actual, shape)):
            raise ModelError(where)
        wanted = private.remade(one.operation, changes)
        if list(plain_differences(wanted, other.operation)):
            raise ModelError(where)
