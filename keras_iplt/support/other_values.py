"""A layer that computes with other numbers than its variables hold."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from keras_iplt import _keras as private

__all__ = ["other_values"]


@contextlib.contextmanager
def other_values(
    layer: keras.Layer, values: Iterable[tuple[keras.Variable, Any]]
) -> Iterator[None]:
    """Lets what is called within find other values in some variables, which keep what they hold.

    Args:
        layer: one that holds them, and all else that is called within.
        values: pairs of a variable and a tensor.
    """
    with private.without_autocast():
        # All of them: a scope hides those around it, in which JAX holds what is trained.
        found = {id(v): (v, v.value) for v in layer.variables}
    found.update((id(variable), (variable, value)) for variable, value in values)
    scope = keras.StatelessScope([*found.values()], collect_losses=True)
    held = dict(scope.state_mapping)
    with scope:
        yield
    for loss in scope.losses:
        layer.add_loss(loss)
    for variable, _ in found.values():
        new = scope.get_current_value(variable)
        if new is not held[id(variable)]:
            variable.assign(new)
