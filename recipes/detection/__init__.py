"""Object detectors: what there is to see in images, and where.

>>> from recipes import detection
>>> digits = detection.load("digits")
>>> digits
<digits: 600 train, 100 validation, 200 test; images (96, 96, 3), 10 classes>
"""

from .average_precision import AveragePrecision, average_precision
from .loader import load

__all__ = ["AveragePrecision", "average_precision", "load"]
