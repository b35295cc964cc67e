"""Variables that take values of other shapes, or none at all."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common.global_state import get_global_attribute

__all__ = [
    "content",
    "replace_value",
    "set_content",
    "stored_dtype",
    "variable_scope",
    "without_values",
]

Content = tuple[Any, tuple[int, ...], int]  # the value of a variable, its shape and rank


def content(variable: keras.Variable) -> Content:
    """What a variable holds, for `set_content`."""
    return variable._value, variable._shape, variable._ndim


def set_content(variable: keras.Variable, saved: Content) -> None:
    """Makes a variable hold again what `content` returned."""
    variable._value, variable._shape, variable._ndim = saved


def replace_value(variable: keras.Variable, value: Any) -> None:
    """Gives a variable a value of any shape. On TensorFlow that is a new `tf.Variable` inside."""
    if value.dtype.name != variable._dtype or keras.backend.backend() != "tensorflow":
        value = keras.ops.convert_to_tensor(value, dtype=variable._dtype)
    variable._initialize(value)
    variable._shape = variable._validate_shape(value.shape)
    variable._ndim = len(variable._shape)


def stored_dtype(variable: keras.Variable) -> str:
    """The dtype that a variable is kept in; what it is computed with may be another."""
    return variable._dtype


@contextlib.contextmanager
def without_values() -> Iterator[list[keras.Variable]]:
    """Variables that are made inside have a shape and take no memory. Yields the list of them."""
    waiting = get_global_attribute("uninitialized_variables", [], set_to_default=True)
    before = list(waiting)
    waiting.clear()
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield waiting
    finally:
        waiting[:] = before  # nobody is going to give the others values


def variable_scope(model: keras.Model) -> contextlib.AbstractContextManager[Any]:
    """Where variables of the model are created: on every replica of a TensorFlow strategy."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()
