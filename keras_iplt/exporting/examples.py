"""Examples to measure and to compare on."""

import itertools
from typing import Any

import keras
import numpy as np

from keras_iplt.errors import DataError
from keras_iplt.running.observe import batches

__all__ = ["Arrays", "examples", "joined"]

Arrays = list[np.ndarray]  # one per input or output


_LABELLED = 256  # examples, to compare how often a model and its file are right


def examples(
    model: keras.Model, data: Any, most: int, needed: bool
) -> tuple[list[Arrays], np.ndarray | None]:
    """Examples, as lists of arrays with a batch axis of 1, one per input, and their labels.

    The labels are None where there are none, or no single array.

    Args:
        model: the model that they are for.
        data: what the user gave; without it they are random, if all sizes are known.
        most: how many at least, if there are so many; a few more where there are labels.
        needed: whether random ones will not do.
    """
    if data is not None:
        found: list[Arrays] = []
        labels: list[np.ndarray] = []
        for batch in batches(model, data):
            arrays = [keras.ops.convert_to_numpy(x) for x in batch.inputs]
            found += [[x[i : i + 1] for x in arrays] for i in range(len(arrays[0]))]
            if len(getattr(batch.y, "shape", ())):
                labels += [*keras.ops.convert_to_numpy(batch.y)]
            if len(found) >= (max(most, _LABELLED) if labels else most):
                break
        if not found:
            raise DataError("data: expected at least one example, received none")
        return found, np.stack(labels) if len(labels) == len(found) else None
    if needed:
        raise DataError("data: expected examples to measure ranges on for 'int8', received: None")
    random = np.random.default_rng(0)
    return [[_random(random, x) for x in keras.tree.flatten(model.inputs)] for _ in range(4)], None


def _random(random: np.random.Generator, x: keras.KerasTensor) -> np.ndarray:
    shape = (1, *x.shape[1:])
    if None in shape:
        raise DataError(
            f"data: expected examples, since input {x.name!r} has no fixed size: "
            f"{tuple(x.shape)}; received: None"
        )
    if "int" in x.dtype or x.dtype == "bool":
        return random.integers(0, 2, shape).astype(x.dtype)
    if "float" not in x.dtype:
        raise DataError(f"data: expected examples, since input {x.name!r} is of {x.dtype}")
    return keras.ops.convert_to_numpy(keras.ops.cast(random.normal(size=shape), x.dtype))


def joined(samples: list[Arrays], batch_size: int) -> Arrays:
    """One batch of so many of the examples, as long as they are of the same size as the first."""
    alike = [s for s in samples if [x.shape for x in s] == [x.shape for x in samples[0]]]
    several = list(itertools.islice(itertools.cycle(alike), batch_size))
    return [np.concatenate(arrays) for arrays in zip(*several, strict=True)]
