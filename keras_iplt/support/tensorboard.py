"""What callbacks of this package write for TensorBoard beside what Keras does."""

import os
from typing import Any

import keras

__all__ = ["Summaries"]


class Summaries(keras.callbacks.TensorBoard):
    """Base of callbacks that write something of their own. Needs TensorFlow.

    Args:
        log_dir: a directory.
        **kwargs: see `keras.callbacks.TensorBoard`.

    Attributes:
        own_writer: for a subdirectory `metrics`.
    """

    def __init__(self, log_dir: str | os.PathLike[str], **kwargs: Any) -> None:
        try:
            import tensorflow as tf
        except ImportError as error:
            raise ImportError(
                f"{type(self).__name__} needs TensorFlow, which cannot be imported ({error}): "
                "pip install tensorflow"
            ) from error
        super().__init__(log_dir=os.fspath(log_dir), **kwargs)
        self._tf = tf
        self.own_writer = tf.summary.create_file_writer(f"{os.fspath(log_dir)}/metrics")

    def write(self, tag: str, value: Any, step: int, plugin: str = "scalars") -> None:
        """What `tf.summary` does for a plugin of TensorBoard, which it needs itself."""
        summary = self._tf.compat.v1.SummaryMetadata
        metadata = summary(plugin_data=summary.PluginData(plugin_name=plugin))
        self._tf.summary.write(tag, self._tf.constant(value, "float32"), step, metadata)
