"""One page about one run: before and after, layer by layer, with pictures, to keep and to repeat.

The page is one HTML file that needs nothing else: no network, no JavaScript.

>>> import os, tempfile
>>> import keras
>>> from keras_iplt import prune, reporting
>>> model = keras.Sequential([
...     keras.Input((8, 8, 3)), keras.layers.Conv2D(16, 3, name="conv"),
...     keras.layers.Flatten(), keras.layers.Dense(10, name="head")])
>>> path = os.path.join(tempfile.mkdtemp(), "run.html")
>>> os.path.basename(reporting.report(path, model, prune(model, 0.5)))
'run.html'
"""

from keras_iplt.reporting.contents import report

__all__ = ["report"]
