"""Other callbacks of the same `fit`: what they hold has to survive when the model becomes smaller.

Those that remember the best epoch so far start anew at every step, since a smaller model is not
measured against a larger one. Best weights that wait to be restored follow the model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import OptionError

__all__ = ["Company"]


class Company:
    """The other callbacks of a `fit`.

    Args:
        kind: the class of all of ours, of which one fit has one.
        callback: ours; it is put in front of the others, so that what it adds to the logs reaches
            them, and what waits is carried out before best weights are restored.
    """

    def __init__(self, callback: keras.callbacks.Callback, kind: type) -> None:
        everyone = private.companions(callback)
        self._others = [other for other in everyone if other is not callback]
        for other in self._others:
            if isinstance(other, keras.callbacks.BackupAndRestore):
                raise OptionError(
                    "BackupAndRestore does not know what was pruned and cannot restore it: use "
                    f"{type(callback).__name__}(backup_dir=...) in its place"
                )
            if isinstance(other, kind):
                raise OptionError(
                    f"expected one {type(callback).__name__} in a fit, received beside it: "
                    f"{type(other).__name__}. Each would count what the other removes; give one of "
                    "them both tasks, or train twice"
                )
        everyone.sort(key=lambda one: one is not callback)  # stable
        self._first_best = {
            id(other): other.best
            for other in self._others
            if isinstance(other, keras.callbacks.ModelCheckpoint)
        }

    def hide(self, names: Collection[str]) -> None:
        """Keeps figures of ours out of Keras's progress bar.

        It shows any number as a mean with four decimals."""
        for bar in self._others:
            if isinstance(bar, keras.callbacks.ProgbarLogger):
                bar.on_epoch_end = _without(names, bar.on_epoch_end)

    def forget(self) -> None:
        """At a step: the best epoch so far was one of a larger model."""
        for other in self._others:
            if isinstance(other, keras.callbacks.EarlyStopping):
                other.best, other.best_weights, other.wait = None, None, 0
            elif isinstance(other, keras.callbacks.ReduceLROnPlateau):
                private.forget_plateau(other)
            elif isinstance(other, keras.callbacks.ModelCheckpoint):
                other.best = self._first_best[id(other)]

    def follow(self, smaller: Callable[[list[np.ndarray]], list[np.ndarray]]) -> None:
        """When zeros go physically: best weights that wait to be restored are of the same epochs.

        The model is otherwise the same.

        Args:
            smaller: turns the list of the model's weights into that of the smaller model.
        """
        for other in self._others:
            if isinstance(other, keras.callbacks.EarlyStopping) and other.best_weights is not None:
                other.best_weights = smaller(other.best_weights)


def _without(names: Collection[str], show: Callable[..., None]) -> Callable[..., None]:
    """The end of an epoch for who is not to see some entries of the logs."""

    def on_epoch_end(epoch: int, logs: dict[str, Any] | None = None) -> None:
        show(epoch, {name: value for name, value in (logs or {}).items() if name not in names})

    return on_epoch_end
