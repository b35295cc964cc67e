"""Code that was recorded operation by operation, compared with another recording of it.

A size that is written into the code, or computed from the width of a tensor, is a constant in what
was recorded: on another width it is another one, or the operations are.
"""

import numbers
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private

__all__ = ["plain_differences", "resolved", "same", "same_constants", "same_operations"]


def same_operations(one: keras.Function, other: keras.Function, twins: bool = False) -> bool:
    """Whether two recordings are of the same operations with the same constants.

    `twins` are recordings of two layers, each with variables of its own."""
    pairs = list(zip(private.nodes(one), private.nodes(other), strict=False))
    return len(private.nodes(one)) == len(private.nodes(other)) and all(
        type(a.operation) is type(b.operation)
        and same_constants(private.arguments(a), private.arguments(b), twins)
        and (a.operation is b.operation or not [*plain_differences(a.operation, b.operation)])
        for a, b in pairs
    )


def same_constants(a: Any, b: Any, twins: bool = False) -> bool:
    """Whether two structures of arguments hold the same beside their tensors.

    Of `twins`, each variable is one of its own."""

    def constant(x: Any) -> Any:
        if isinstance(x, keras.Variable) and twins:
            return tuple(x.shape), x.dtype
        return None if isinstance(x, keras.KerasTensor) else x

    return same(*([*map(constant, keras.tree.flatten(x))] for x in (a, b)))


def resolved(arguments: Any, shape: Sequence[int | None]) -> Any:
    """Arguments in which a key of slices is written in one of the many ways to say the same.

    `:`, `0:4`, `:4`, `-4:` of four are."""
    args, kwargs = arguments
    key = args[1] if len(args) > 1 else kwargs.get("key")
    if not isinstance(key, tuple) or not any(isinstance(x, slice) or x is Ellipsis for x in key):
        return arguments
    if any(part is Ellipsis for part in key):
        at = next(i for i, part in enumerate(key) if part is Ellipsis)
        missing = len(shape) - sum(part is not None for part in key) + 1
        key = (*key[:at], *[slice(None)] * missing, *key[at + 1 :])
    lengths = iter(shape)
    found = list[Any]()
    for part in key:
        length = None if part is None else next(lengths)
        known = isinstance(part, slice) and length is not None
        found.append(slice(*part.indices(length)) if known else part)
    return args[:1], {**kwargs, "key": found}


def plain_differences(before: object, after: object) -> Iterator[tuple[str, Any]]:
    """Pairs `(attribute, value)` of what two objects of one class hold otherwise.

    Numbers, arrays and structures of these. Names, layers, variables and functions are not looked
    at."""
    for name, value in vars(after).items():
        old = vars(before).get(name)
        if _is_plain(value) and _is_plain(old) and not same(old, value):
            yield name, value


_PLAIN = (numbers.Number, np.ndarray, type(None))


def _is_plain(value: Any) -> bool:
    if isinstance(value, keras.InputSpec):
        return True
    leaves = keras.tree.flatten(value) if isinstance(value, (list, tuple, dict)) else [value]
    return all(isinstance(leaf, (*_PLAIN, keras.InputSpec)) for leaf in leaves)


def same(a: Any, b: Any) -> bool:
    """Whether two structures hold the same: tensors and objects by identity, numbers by value."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if a is b or isinstance(a, keras.KerasTensor) or isinstance(b, keras.KerasTensor):
        return a is b
    if isinstance(a, keras.InputSpec) and isinstance(b, keras.InputSpec):
        return vars(a) == vars(b)
    if any(isinstance(x, np.ndarray) or keras.ops.is_tensor(x) for x in (a, b)):
        return np.array_equal(*map(keras.ops.convert_to_numpy, (a, b)))
    return type(a) is type(b) and bool(a == b)
