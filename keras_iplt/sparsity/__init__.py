"""Pruning single weights: tfmot's API on Keras 3 models, and callbacks that need no wrapper."""

from keras_iplt.sparsity.callback import SparsityCallback
from keras_iplt.sparsity.progress import prune_weights
from keras_iplt.sparsity.pruning_schedule import (
    ConstantSparsity,
    PolynomialDecay,
    PruningSchedule,
)
from keras_iplt.sparsity.table import Sparsity, measure

__all__ = [
    "ConstantSparsity",
    "PolynomialDecay",
    "PruningSchedule",
    "Sparsity",
    "SparsityCallback",
    "measure",
    "prune_weights",
]
