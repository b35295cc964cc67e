"""Every test starts from Keras's defaults, on fresh names and a fixed seed."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# What XLA compiles here runs once or twice: making it fast takes longer than it saves.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import keras
import pytest


def pytest_collection_finish(session):
    """What is imported by now stays: the collector, which would look through it again and again,
    takes more than half of the time otherwise."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh_keras():
    # Collecting garbage after every test would take most of the time.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
