"""TensorFlow as a reader of image files: it decodes and resizes, whatever computes afterwards."""

import contextlib
from typing import Any

import keras

__all__ = ["fitting", "tensorflow"]


def tensorflow() -> Any:
    """The module. Where it only reads, it leaves the GPUs' memory to the one that computes."""
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        with contextlib.suppress(RuntimeError):  # it computes already
            tf.config.set_visible_devices([], "GPU")
    return tf


def fitting(image: Any, size: tuple[int, int] | None) -> Any:
    """An image, uint8 before and after, of another size: its aspect may change.

    Args:
        image: a tensor (rows, columns, channels).
        size: (rows, columns), or None to leave it as it is.
    """
    tf = tensorflow()
    if size is None:
        return image
    image = tf.image.resize(tf.cast(image, tf.float32), size, antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(image, 0, 255)), tf.uint8)
