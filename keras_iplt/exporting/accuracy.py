"""How often a model and the file that was written from it are right, where labels are given."""

import keras
import numpy as np

from keras_iplt.exporting.examples import Arrays, joined
from keras_iplt.exporting.runtimes import Runtime, outputs_of
from keras_iplt.support.models import last_activation

__all__ = ["accuracies", "in_words"]


def accuracies(
    model: keras.Model,
    runtime: Runtime,
    samples: list[Arrays],
    labels: np.ndarray | None,
    batch_size: int | None,
) -> tuple[float, float] | None:
    """The share of the labels that the model finds, and the one that the file finds.

    Args:
        model: the Keras model.
        runtime: of the file.
        samples, labels: examples, and what is right for each, if that is known.
        batch_size: of the file, None for any.

    Returns:
        Both shares, or None where no labels say which output is to be the largest.
    """
    if labels is None or len(model.outputs) != 1:
        return None
    size = batch_size or 1
    groups = [samples[i : i + size] for i in range(0, len(samples), size)]
    given = [joined(group, size) for group in groups]  # the last one filled up
    found = []
    for compute in (lambda x: outputs_of(model, x), runtime):
        outputs = np.concatenate([compute(inputs)[0] for inputs in given])[: len(labels)]
        right = _right(outputs, labels, last_activation(model.outputs[0]))
        if right is None:
            return None
        found.append(float(right.mean()))
    return found[0], found[1]


def in_words(accuracy: tuple[float, float]) -> str:
    """Both, in words."""
    return f"accuracy {accuracy[0]:.4f} in Keras, {accuracy[1]:.4f} as written"


def _right(outputs: np.ndarray, labels: np.ndarray, activation: str) -> np.ndarray | None:
    """Which outputs are right: the largest, or for a single one, on which side it is."""
    if outputs.ndim != 2 or labels.dtype.kind not in "biuf":
        return None
    if outputs.shape[1] > 1 and labels.shape == outputs.shape:
        return outputs.argmax(1) == labels.argmax(1)
    if labels.size != len(outputs) or not np.array_equal(labels, np.round(labels)):
        return None
    labels = labels.reshape(-1)
    if not 0 <= labels.min() <= labels.max() < max(2, outputs.shape[1]):
        return None
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > (0.5 if activation == "sigmoid" else 0)) == labels
    return outputs.argmax(1) == labels
