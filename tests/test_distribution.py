"""More than one device: the replicas prune alike, and the result is that of a single device."""

import importlib.util
import os
import pathlib
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest

pytestmark = pytest.mark.slow

TESTS = pathlib.Path(__file__).parent

# Batches are of twelve, so that they divide by two devices. Under MirroredStrategy batch norms see
# the half batch of their replica, so there is none.
TRAIN = """
import sys
sys.path.insert(0, {tests!r})
import keras
import numpy as np
from support.training import X, Y, callback, compiled, residual, sigmoid, widths
def train(mode="shrink", build=residual):
    model = compiled(build, keras.optimizers.SGD(0.05, momentum=0.9))
    ours = callback(0.5, 0.25, mode=mode)
    history = model.fit(X, Y, epochs=4, batch_size=12, shuffle=False, verbose=0,
                        validation_data=(X[:12], Y[:12]), validation_batch_size=12,
                        callbacks=[ours])
    return model, history.history
def all_of(model):
    variables = [*model.weights, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(v.value) for v in variables]
"""


def script(body):
    return TRAIN.format(tests=str(TESTS)) + textwrap.dedent(body)


def started(code, directory, *arguments, backend="tensorflow", **environment):
    environment = {
        **os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(TESTS.parent),
        "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", **environment,
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=directory, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finished(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def assert_alike(directory, *names):
    one, *others = (dict(np.load(directory / name)) for name in names)
    for other in others:
        assert one.keys() == other.keys()
        for key, value in one.items():
            np.testing.assert_allclose(value, other[key], rtol=2e-4, atol=2e-5, err_msg=key)


def test_several_workers_of_tensorflow_are_refused(tmp_path):
    """Keras's own `fit` does not work there: `shrink`, and with it the callback before the first
    epoch, says so and what to use."""
    needs("tensorflow")
    code = script("""
        import json, os
        address = sys.argv[1]
        os.environ["TF_CONFIG"] = json.dumps(
            {"cluster": {"worker": [address]}, "task": {"type": "worker", "index": 0}})
        import tensorflow as tf
        import keras_iplt as iplt
        with tf.distribute.MultiWorkerMirroredStrategy().scope():
            model = compiled(sigmoid)
            ours = callback(0.5, 0.25)
            ours.set_params({"epochs": 4, "steps": 6})
            ours.set_model(model)
            for refused in (ours.on_train_begin,
                            lambda: iplt.shrink(model, iplt.plan(model, 0.5))):
                try:
                    refused()
                except iplt.errors.ModelError as error:
                    assert "20585" in str(error) and "MirroredStrategy" in str(error)
                else:
                    raise AssertionError("not refused")
    """)
    finished(started(code, tmp_path, free_address()))


def free_address():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def needs(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")


def test_mirrored_strategy(tmp_path):
    """TensorFlow over two logical devices: what is on them is equal to the bit, and equal to what
    one device computes."""
    needs("tensorflow")
    code = script("""
        import tensorflow as tf
        [cpu] = tf.config.list_physical_devices("CPU")
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
        keras.utils.disable_interactive_logging()
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])  # a second one would fail
        for mode in ("shrink", "mask"):
            alone, history = train(mode, sigmoid)
            with strategy.scope():
                model, several = train(mode, sigmoid)
            assert strategy.num_replicas_in_sync == 2
            _, _, *momenta = model.optimizer.variables  # the first are counters, on no device
            for variable in [*model.weights, *momenta]:
                one, other = variable.value.values
                assert one.device != other.device
                np.testing.assert_array_equal(one.numpy(), other.numpy())
            assert widths(model) == widths(alone) and widths(model)["hidden"] < 12
            for name, values in history.items():
                np.testing.assert_allclose(several[name], values, rtol=1e-4, err_msg=name)
            for a, b in zip(all_of(model), all_of(alone), strict=True):
                np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
    """)
    finished(started(code, tmp_path))


def test_jax_over_two_devices_and_two_processes(tmp_path):
    """`keras.distribution.DataParallel` over two devices of one process, and over two processes:
    every process ends with the weights that one device computes."""
    needs("jax")
    code = script("""
        where = sys.argv[1]
        import jax
        if where.startswith("process"):
            jax.config.update("jax_cpu_collectives_implementation", "gloo")
            keras.distribution.initialize(sys.argv[2], 2, int(where[-1]))
        if where != "one":
            assert len(jax.devices()) == 2
            keras.distribution.set_distribution(
                keras.distribution.DataParallel(auto_shard_dataset=False))
        model, history = train()
        assert widths(model)["hidden"] < 12
        np.savez(where + ".npz", *all_of(model), **history)
    """)
    address = free_address()
    two = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    finished(started(code, tmp_path, "one", backend="jax"))
    finished(started(code, tmp_path, "devices", backend="jax", **two))
    assert_alike(tmp_path, "one.npz", "devices.npz")
    both = [started(code, tmp_path, f"process{i}", address, backend="jax") for i in (0, 1)]
    for process in both:
        finished(process)
    assert_alike(tmp_path, "one.npz", "process0.npz", "process1.npz")
