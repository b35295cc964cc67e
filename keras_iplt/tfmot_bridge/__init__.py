"""The one door to tensorflow-model-optimization (tfmot), for users of the TensorFlow backend.

tfmot prunes single weights of Keras 2 models. What is here carries over both ways:

- `EpochSchedule` lets tfmot's own `prune_low_magnitude` follow a schedule of `keras_iplt`
  (`keras_iplt.schedules.get` takes tfmot's schedules the other way round);
- `PruneFilters` is a tfmot `PrunableLayer` for Keras 3 that zeroes whole filters while a model
  trains; `prune_filters` wraps a model's layers, `UpdateFilters` drives them in `fit`, and
  `strip_filters` takes out what is zero.

Importing tfmot switches `tf.keras` to Keras 2 for this process and its children; importing it
through this module does not.

>>> import keras
>>> import numpy as np
>>> from keras_iplt import schedules, tfmot_bridge
>>> model = keras.Sequential([
...     keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2)])
>>> model.compile("sgd", "mse")
>>> wrapped = tfmot_bridge.prune_filters(model, schedules.OneShot(0.5, epoch=1))
>>> x, y = np.ones((8, 4)), np.ones((8, 2))
>>> _ = wrapped.fit(x, y, epochs=2, callbacks=[tfmot_bridge.UpdateFilters()], verbose=0)
>>> tfmot_bridge.strip_filters(wrapped).layers[0].units
4
"""

from keras_iplt.tfmot_bridge.door import PrunableLayer, PruningSchedule
from keras_iplt.tfmot_bridge.models import prune_filters, strip_filters
from keras_iplt.tfmot_bridge.schedule import EpochSchedule
from keras_iplt.tfmot_bridge.update import UpdateFilters
from keras_iplt.tfmot_bridge.wrapper import PruneFilters

__all__ = [
    "EpochSchedule",
    "PrunableLayer",
    "PruneFilters",
    "PruningSchedule",
    "UpdateFilters",
    "prune_filters",
    "strip_filters",
]
