"""Changes to live objects, every one of which can be taken back."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.slices import numbers_of

__all__ = ["Journal"]

_ABSENT = object()


class Journal:
    """Writes down how things were before it changes them.

    Attributes are set past the tracking of Keras and TensorFlow, which is about variables and
    layers: what is set here are numbers, shapes and lists of those.
    """

    def __init__(self) -> None:
        # Functions that take one change back, in order.
        self._entries: list[Callable[[], object]] = []

    def set(self, owner: object, name: str, value: Any) -> None:
        """Sets an attribute."""
        own = hasattr(owner, "__dict__") and name != "__class__"
        old = vars(owner).get(name, _ABSENT) if own else getattr(owner, name)
        if old is _ABSENT:
            self._entries.append(lambda: vars(owner).pop(name, None))
        else:
            self._entries.append(lambda: object.__setattr__(owner, name, old))
        object.__setattr__(owner, name, value)

    def resize(self, variable: keras.Variable, value: Any) -> None:
        """Gives a variable a value of any shape."""
        old = private.content(variable)
        self._entries.append(lambda: private.set_content(variable, old))
        private.replace_value(variable, value)

    def assign(self, variable: keras.Variable, value: Any) -> None:
        """Gives a variable a value of its own shape."""
        old = np.array(numbers_of(variable))
        self._entries.append(lambda: variable.assign(old))
        variable.assign(value)

    def undo(self) -> None:
        """Takes everything back, the last change first."""
        while self._entries:
            self._entries.pop()()
