"""Images and their labels, for training and for being looked at by criteria.

>>> from recipes import data
>>> digits = data.load("digits", batch_size=32)
>>> digits
<digits: 1,294 train, 144 validation, 359 test; images (8, 8, 1), 10 classes>
>>> images, labels = digits.train[0]
>>> images.shape, labels.shape
((32, 8, 8, 1), (32,))

`fit` and `evaluate` take `digits.train`, `digits.validation` and `digits.test` on every backend.
"""

from .dataset import Data
from .loader import load

__all__ = ["Data", "load"]
