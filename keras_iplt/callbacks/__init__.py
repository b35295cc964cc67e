"""Pruning inside `model.fit`."""

from keras_iplt.callbacks.guard import Guard
from keras_iplt.callbacks.iplt import IPLTCallback

__all__ = ["Guard", "IPLTCallback"]
