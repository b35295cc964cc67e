"""What drives wrapped layers while a model trains."""

from typing import Any

import keras

from keras_iplt.errors import OptionError
from keras_iplt.graph.trace import trace
from keras_iplt.tfmot_bridge.ranking import least_important, masks, ranked_by
from keras_iplt.tfmot_bridge.wrapper import wrappers_in

__all__ = ["UpdateFilters"]


class UpdateFilters(keras.callbacks.Callback):
    """Drives the `PruneFilters` layers of the model that is trained.

    At the start of every epoch each of them is ranked anew and brought to the share that its
    schedule asks for (filters that are zero come first, so what is gone stays gone), and after
    every batch the zeros are put back. Where all filters of a channel are zero, so is everything
    else that belongs to it: normalisation, and what later layers multiply it with. It is then
    as good as removed, and `strip_filters` removes it without changing the outputs. Of channels
    that a residual stream adds up, only those can go whose filter is zero in every layer.

    Inside an execution of several steps (`steps_per_execution`) zeros are put back at its end.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_iplt import tfmot_bridge
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    >>> wrapped = tfmot_bridge.prune_filters(model, 0.5)
    >>> wrapped.compile("sgd", "mse")
    >>> x, y = np.ones((8, 4)), np.ones((8, 2))
    >>> _ = wrapped.fit(x, y, callbacks=[tfmot_bridge.UpdateFilters()], verbose=0)
    """

    def __init__(self) -> None:
        super().__init__()
        if keras.backend.backend() != "tensorflow":
            raise OptionError(
                "keras_iplt.tfmot_bridge: expected the TensorFlow backend, received: "
                f"{keras.backend.backend()!r}"
            )
        self._graph: Any = None  # of the model that is trained
        self._layers: list[Any] = []
        self._ranked: list[Any] = []  # the filters of each
        self._masks: list[tuple[keras.Variable, Any]] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._layers = wrappers_in(self.model)
        if not self._layers:
            raise OptionError(
                f"model {self.model.name!r} has no PruneFilters layer that UpdateFilters could "
                "drive: wrap its layers with keras_iplt.tfmot_bridge.prune_filters(model, schedule)"
            )
        self._graph = trace(self.model)
        self._ranked = [ranked_by(layer, self._graph) for layer in self._layers]
        self._masks = []
        for layer in self._layers:
            layer.driven = True

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        step = int(self.model.optimizer.iterations)
        dead = [
            least_important(layer, filters, self._graph, layer.schedule(epoch, step))
            for layer, filters in zip(self._layers, self._ranked, strict=True)
        ]
        self._masks = masks(self._graph, self._layers, self._ranked, dead)
        self._hold()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._hold()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        for layer in self._layers:
            layer.driven = False
        self.model.train_function = None  # so that the next `fit` asks for its callback again

    def _hold(self) -> None:
        for variable, mask in self._masks:
            variable.assign(variable * mask)
