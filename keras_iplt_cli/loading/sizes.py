"""How large a model would be, found out before memory is asked for."""

import math
import pathlib
from typing import Any

import keras

from keras_iplt.errors import ModelError
from keras_iplt.support.models import without_values

__all__ = ["check_sizes"]

_NO_SIZES = {"seed", "shared_object_id"}
_SMALL = 2**24  # numbers that any machine has room for


def check_sizes(path: pathlib.Path, config: dict[str, Any], stored: int, unsafe: bool) -> None:
    """Refuses a config that asks for more numbers than come with it.

    Args:
        path: what to call it in errors.
        config: of the model, as read from the file and checked.
        stored: how many numbers the file holds.
        unsafe: whether code of the file may run.
    """
    plain = {key: value for key, value in config.items() if key != "compile_config"}
    room = max(stored, _SMALL)
    with without_values() as made:
        try:
            keras.saving.deserialize_keras_object(plain, safe_mode=not unsafe)
            asked = 0
        except Exception:
            # Layers that compute with their variables while they are made cannot be made without
            # values (and what cannot be made at all, Keras is going to say): then no single number
            # in the config may be out of proportion.
            asked = _largest(plain)
        asked = max(asked, sum(math.prod(variable.shape) for variable in made))
    if asked > room:
        raise ModelError(
            f"{path}: its layers ask for {asked:,} numbers, and {stored:,} come with it: the file "
            "is damaged, or made to fill the memory"
        )


def _largest(config: dict[str, Any]) -> int:
    """The largest integer anywhere in a config."""
    waiting: list[Any] = [config]
    largest = 0
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting += [value for key, value in part.items() if key not in _NO_SIZES]
        elif isinstance(part, list):
            waiting += part
        elif isinstance(part, int):
            largest = max(largest, part)
    return largest
