"""Versions and the machine: what figures depend on."""

import contextlib
import os
import pathlib
import platform
import sys

import keras

from keras_iplt.support.versions import versions

__all__ = ["environment"]


def environment() -> dict[str, str]:
    """Names and versions of what had a part in a result, and the machine."""
    return versions() | {"machine": f"{_processor()}, {os.cpu_count()} cores{_gpus()}"}


def _processor() -> str:
    """The name of the processor, where the system tells it."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpus() -> str:
    """How many of what kind there are, if any."""
    backend = keras.backend.backend()
    names = []
    if backend == "tensorflow":
        tf = sys.modules["tensorflow"]
        for device in tf.config.list_physical_devices("GPU"):
            names.append(
                tf.config.experimental.get_device_details(device).get("device_name", "GPU")
            )
    elif backend == "jax":
        jax = sys.modules["jax"]
        names = [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    return f", {len(names)} × {names[0]}" if names else ""
