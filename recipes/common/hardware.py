"""What the machine is used for: precision, compilation, devices."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import keras

from keras_iplt.errors import OptionError

__all__ = ["Hardware"]


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What the machine is used for.

    Attributes:
        precision: Keras's policy of dtypes.
        xla: whether TensorFlow compiles with XLA too (JAX always does).
        devices: over how many devices each batch is spread: the GPUs, or as many logical CPUs
            where there are none.
        eager: whether TensorFlow's steps run without being compiled at all, which is the faster
            way for a handful of batches. Not over several devices, see `_mirrored`.
    """

    precision: str = "float32"
    xla: bool = False
    devices: int = 1
    eager: bool = False

    @contextlib.contextmanager
    def ready(self, seed: int) -> Iterator[None]:
        """Within it, models are built, compiled and trained: from a seed, on these devices."""
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(seed)
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.precision)
        try:
            with _spread(self.devices):
                yield
        finally:
            keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def _spread(devices: int) -> Iterator[None]:
    """Data parallel over several devices."""
    backend = keras.backend.backend()
    if devices == 1:
        yield
    elif backend == "tensorflow":
        with _mirrored(devices).scope():
            yield
    elif backend == "jax":
        import jax

        if jax.device_count() < devices:
            raise OptionError(
                f"--devices {devices}: JAX sees {jax.device_count()}. On a machine without GPUs: "
                f"XLA_FLAGS=--xla_force_host_platform_device_count={devices}"
            )
        before = keras.distribution.distribution()
        names = keras.distribution.list_devices()[:devices]
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
        )
        try:
            yield
        finally:
            keras.distribution.set_distribution(before)
    else:
        raise OptionError(f"--devices {devices}: expected the backend tensorflow or jax, "
                          f"received: {backend}")  # fmt: skip


@functools.cache
def _mirrored(devices: int) -> Any:
    """One strategy for all runs of a process.

    TensorFlow numbers what the devices add up, and each new strategy would begin with numbers that
    are known with other shapes.
    """
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(_logical_devices(tf, devices))


def _logical_devices(tf: Any, count: int) -> list[str]:
    """The names of so many GPUs, or of logical CPUs where there are none."""
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    physical = tf.config.list_physical_devices(kind)
    if kind == "CPU" and tf.config.get_logical_device_configuration(physical[0]) is None:
        with contextlib.suppress(RuntimeError):  # TensorFlow has begun: the devices are what
            parts = [tf.config.LogicalDeviceConfiguration()] * count  # they are, and counted below
            tf.config.set_logical_device_configuration(physical[0], parts)
    found = [device.name for device in tf.config.list_logical_devices(kind)]
    if len(found) < count:
        raise OptionError(f"--devices {count}: expected at most {len(found)}, the {kind}s that "
                          "TensorFlow sees")  # fmt: skip
    return found[:count]
