"""The mean loss of a stretch of training, at no cost per batch."""

from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError

__all__ = ["LossMeter"]


class LossMeter:
    """The mean loss of the batches since some moment.

    It is from the metric in which Keras adds up the loss of an epoch, which is read at the ends of
    phases and epochs only.

    Args:
        model: a compiled model.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self._whole = np.zeros(2)  # of whole epochs of this phase: total, count
        self._mark = np.zeros(2)  # where the phase began in this epoch
        self._ended: Any = None  # where the training of this epoch ended

    def _now(self) -> np.ndarray:
        private.synchronize(self.model)
        tracker = next((m for m in self.model.metrics if isinstance(m, keras.metrics.Mean)), None)
        if tracker is None or tracker.name != "loss":
            raise ModelError(
                f"model {self.model.name!r}: expected a model whose first metric is the mean loss, "
                "as in a Keras model with its own train_step, received: none"
            )
        return np.array([float(keras.ops.convert_to_numpy(tracker.total)),
                         float(keras.ops.convert_to_numpy(tracker.count))])  # fmt: skip

    def begin_epoch(self) -> None:
        """The metric starts at zero."""
        self._mark, self._ended = np.zeros(2), None

    def read(self) -> None:
        """The training of this epoch has ended."""
        if self._ended is None:
            self._ended = self._now()

    def end_epoch(self) -> None:
        """Adds the epoch to the phase."""
        self.read()
        self._whole += self._ended - self._mark
        self._mark, self._ended = np.zeros(2), np.zeros(2)

    def mean(self) -> float | None:
        """The mean loss of this phase so far; None if no batch was trained."""
        now = self._now() if self._ended is None else self._ended
        total, count = self._whole + now - self._mark
        return float(total / count) if count else None

    def begin_phase(self) -> None:
        """A phase begins."""
        self._whole = np.zeros(2)
        self._mark = self._now() if self._ended is None else self._ended

    def state(self) -> tuple[float, float]:
        """What `set_state` needs to go on from the end of an epoch, as JSON takes it."""
        total, count = self._whole.tolist()
        return total, count

    def set_state(self, state: tuple[float, float] | None) -> None:
        """Goes on from there."""
        if state is None:
            raise ValueError("meter: expected the loss so far, received: None")
        self._whole = np.array(state)
