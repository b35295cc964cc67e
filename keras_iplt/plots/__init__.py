"""Pictures of models, plans and measurements, as `matplotlib.figure.Figure`s.

    of a model          groups  norms  kernels  sparsity
    before and after    filters
    of measurements     sensitivity  smallest  tradeoff  loss  history

Nothing opens a window, and pyplot is not needed: show a figure in a notebook by naming it in the
last line of a cell, or save it.

>>> import io
>>> import keras
>>> import keras_iplt as iplt
>>> from keras_iplt import plots
>>> model = keras.Sequential([
...     keras.Input((8, 8, 3)), keras.layers.Conv2D(16, 3, name="conv"),
...     keras.layers.Flatten(), keras.layers.Dense(10, name="head")])
>>> figure = plots.filters(model, iplt.prune(model, 0.5))
>>> figure.savefig(io.BytesIO(), format="svg")

matplotlib is an extra: `pip install 'keras-iplt[plots]'`.
"""

from keras_iplt.plots.bars import filters, sparsity
from keras_iplt.plots.curves import norms, sensitivity
from keras_iplt.plots.diagram import groups
from keras_iplt.plots.images import kernels
from keras_iplt.plots.runs import history, loss, tradeoff
from keras_iplt.plots.search import smallest

__all__ = [
    "filters",
    "groups",
    "history",
    "kernels",
    "loss",
    "norms",
    "sensitivity",
    "smallest",
    "sparsity",
    "tradeoff",
]
