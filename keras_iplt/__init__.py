"""keras_iplt: pruning for Keras 3 that makes models physically smaller.

>>> import keras
>>> import keras_iplt as iplt
>>> model = keras.Sequential([
...     keras.Input((8, 8, 3)), keras.layers.Conv2D(16, 3, activation="relu"),
...     keras.layers.Flatten(), keras.layers.Dense(10)])
>>> small = iplt.prune(model, ratio=0.5)
>>> small.count_params(), model.count_params()
(3114, 6218)

Importing this package imports keras and numpy, neither TensorFlow (unless it is Keras's backend)
nor tensorflow-model-optimization.
"""

from keras_iplt import (
    baselines,
    clustering,
    criteria,
    errors,
    plots,
    quantization,
    schedules,
    sparsity,
)
from keras_iplt.analysis.comparison import Comparison, compare
from keras_iplt.analysis.guided import Guided, prune_guided
from keras_iplt.analysis.profiles import Profile, profile
from keras_iplt.analysis.searching import Smallest, smallest
from keras_iplt.analysis.sensitivities import Sensitivity
from keras_iplt.analysis.zeroing import sensitivity
from keras_iplt.callbacks import Guard, IPLTCallback
from keras_iplt.criteria.branches import branch_scores
from keras_iplt.errors import PruningError
from keras_iplt.exporting import Export, QuantizationErrors, export, quantization_errors
from keras_iplt.graph.channels import Branch, Frozen, Graph, Group
from keras_iplt.graph.rules import register_rule
from keras_iplt.graph.trace import trace
from keras_iplt.latency import LatencyTable, latency_table
from keras_iplt.planning.by_channel import plan_channels
from keras_iplt.planning.decide import plan
from keras_iplt.planning.plan import Plan
from keras_iplt.pruning import prune
from keras_iplt.reporting import report
from keras_iplt.sparsity.callback import SparsityCallback
from keras_iplt.surgery import Refit, mask, rebuild, recalibrate, rewrite, shrink

__all__ = [
    # read
    "Branch",
    "Frozen",
    "Graph",
    "Group",
    "register_rule",
    "trace",
    # decide
    "Plan",
    "branch_scores",
    "criteria",
    "plan",
    "plan_channels",
    # carry out
    "mask",
    "Guided",
    "Refit",
    "Smallest",
    "prune",
    "prune_guided",
    "rebuild",
    "recalibrate",
    "rewrite",
    "shrink",
    "smallest",
    # train
    "Guard",
    "IPLTCallback",
    "SparsityCallback",
    "baselines",
    "clustering",
    "quantization",
    "schedules",
    "sparsity",
    # measure
    "Comparison",
    "LatencyTable",
    "Profile",
    "Sensitivity",
    "compare",
    "latency_table",
    "plots",
    "profile",
    "report",
    "sensitivity",
    # ship
    "Export",
    "QuantizationErrors",
    "export",
    "quantization_errors",
    # errors
    "PruningError",
    "errors",
]

__version__ = "0.2.0"
