"""Versions and the machine: what figures depend on."""

import contextlib
import importlib.metadata
import os
import pathlib
import platform
import sys

import keras

import keras_iplt as iplt

__all__ = ["environment"]


def environment() -> dict[str, str]:
    """Names and versions of what had a part in a result, and the machine."""
    found = {
        "keras_iplt": iplt.__version__, "Python": platform.python_version(),
        "Keras": keras.__version__, "backend": keras.backend.backend(),
    }  # fmt: skip
    for name in ("TensorFlow", "JAX", "PyTorch", "NumPy", "matplotlib"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version({"PyTorch": "torch"}.get(name, name))
    machine = f"{_processor()}, {os.cpu_count()} cores{_gpus()}"
    return found | {"platform": platform.platform(), "machine": machine}


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
