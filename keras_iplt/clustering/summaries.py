"""What clustered layers write for TensorBoard."""

from typing import Any, Literal

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.clustering.wrapper import ClusterWeights
from keras_iplt.graph.slices import numbers_of
from keras_iplt.support.arguments import Count, Path, checked
from keras_iplt.support.tensorboard import Summaries

__all__ = ["ClusteringSummaries"]

_BINS = 30


class ClusteringSummaries(Summaries):
    """Writes for TensorBoard how the weights and centroids of clustered layers are distributed.

    Beside what `keras.callbacks.TensorBoard` writes. Needs TensorFlow.

    Args:
        log_dir: a directory.
        cluster_update_freq: "epoch", "batch", or after how many batches.
        **kwargs: see `keras.callbacks.TensorBoard`.

    Example:

        clustered.fit(x, y, callbacks=[ClusteringSummaries("logs")])
    """

    @checked
    def __init__(
        self,
        log_dir: Path = "logs",
        cluster_update_freq: Count | Literal["epoch", "batch"] = "epoch",
        **kwargs: Any,
    ) -> None:
        super().__init__(log_dir, **kwargs)
        self.cluster_update_freq = 1 if cluster_update_freq == "batch" else cluster_update_freq
        self._batches = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_train_batch_end(batch, logs)
        self._batches += 1
        every = self.cluster_update_freq
        if isinstance(every, int) and self._batches % every == 0:
            self._write_all()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if self.cluster_update_freq == "epoch":
            self._write_all()

    def _write_all(self) -> None:
        private.synchronize(self.model)
        with self.own_writer.as_default():
            for layer in private.all_layers(self.model):
                for variable in layer.variables if isinstance(layer, ClusterWeights) else ():
                    if "float" in keras.backend.standardize_dtype(variable.dtype):
                        self._write(f"clustering/{variable.path}", numbers_of(variable))
        self.own_writer.flush()

    def _write(self, tag: str, values: np.ndarray) -> None:
        counts, edges = np.histogram(values.astype("float64"), _BINS)
        self.write(
            tag, np.stack([edges[:-1], edges[1:], counts], axis=1), self._batches, "histograms"
        )
