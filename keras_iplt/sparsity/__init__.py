"""Pruning single weights: zeros instead of smaller shapes.

Two ways that can be mixed with everything else in Keras:

- `SparsityCallback` masks an ordinary model while it trains and leaves no trace in it; `allocation`
  says how sparse each layer becomes, `patterns` which of its weights go.
- `prune_low_magnitude`, `UpdatePruningStep`, `strip_pruning` and the names that belong to them are
  those of tensorflow-model-optimization (`tfmot.sparsity.keras`), for Keras 3 and every backend.

`measure` counts zeros, `compressed_size` what they are worth, `remove_dead` turns channels that
have died into a smaller model.

>>> import keras
>>> import numpy as np
>>> from keras_iplt import sparsity
>>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(2)])
>>> pruned = sparsity.prune_low_magnitude(
...     model, sparsity.ConstantSparsity(0.5, begin_step=0, frequency=1))
>>> pruned.compile("adam", "mse")
>>> _ = pruned.fit(np.ones((4, 8)), np.ones((4, 2)), verbose=0,
...     callbacks=[sparsity.UpdatePruningStep()])
>>> sparsity.measure(sparsity.strip_pruning(pruned)).sparsity
0.5
"""

from keras_iplt.sparsity import allocation, patterns
from keras_iplt.sparsity.callback import SparsityCallback
from keras_iplt.sparsity.dead_weights import remove_dead
from keras_iplt.sparsity.progress import prune_weights
from keras_iplt.sparsity.sizes import CompressedSize, compressed_size
from keras_iplt.sparsity.table import Sparsity, measure
from keras_iplt.sparsity.tfmot_api.prunable_layer import PrunableLayer
from keras_iplt.sparsity.tfmot_api.prune import prune_low_magnitude, prune_scope, strip_pruning
from keras_iplt.sparsity.tfmot_api.pruning_callbacks import PruningSummaries, UpdatePruningStep
from keras_iplt.sparsity.tfmot_api.pruning_policy import PruneForLatencyOnXNNPack, PruningPolicy
from keras_iplt.sparsity.tfmot_api.pruning_schedule import (
    ConstantSparsity,
    PolynomialDecay,
    PruningSchedule,
)
from keras_iplt.sparsity.tfmot_api.pruning_wrapper import PruneLowMagnitude

__all__ = [
    # without wrappers
    "SparsityCallback",
    "allocation",
    "patterns",
    "prune_weights",
    # tfmot's names
    "ConstantSparsity",
    "PolynomialDecay",
    "PrunableLayer",
    "PruneForLatencyOnXNNPack",
    "PruneLowMagnitude",
    "PruningPolicy",
    "PruningSchedule",
    "PruningSummaries",
    "UpdatePruningStep",
    "prune_low_magnitude",
    "prune_scope",
    "strip_pruning",
    # measure, and go on
    "CompressedSize",
    "Sparsity",
    "compressed_size",
    "measure",
    "remove_dead",
]
