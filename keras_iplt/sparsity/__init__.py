"""Pruning single weights: tfmot's API on Keras 3 models, and callbacks that need no wrapper."""

from keras_iplt.sparsity.callback import SparsityCallback
from keras_iplt.sparsity.dead import remove_dead
from keras_iplt.sparsity.progress import prune_weights
from keras_iplt.sparsity.pruning_schedule import (
    ConstantSparsity,
    PolynomialDecay,
    PruningSchedule,
)
from keras_iplt.sparsity.sizes import CompressedSize, compressed_size
from keras_iplt.sparsity.table import Sparsity, measure

__all__ = [
    "CompressedSize",
    "ConstantSparsity",
    "PolynomialDecay",
    "PruningSchedule",
    "Sparsity",
    "SparsityCallback",
    "compressed_size",
    "measure",
    "prune_weights",
    "remove_dead",
]
