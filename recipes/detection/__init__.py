"""Object detectors: what there is to see in images, and where.

>>> from recipes import detection, zoo
>>> digits = detection.load("digits")
>>> digits
<digits: 600 train, 100 validation, 200 test; images (96, 96, 3), 10 classes>
>>> model = detection.ssd(zoo.mobilenet(10, digits.input_shape, alpha=0.25), classes=10)
>>> model.compile("adam", detection.DetectionLoss())

`model.fit(digits.train)` trains it like any other model, and `evaluated(model, digits)` says how
well it finds what is there.
"""

from .average_precision import AveragePrecision, average_precision
from .cutouts import cutouts
from .faster_rcnn import TwoStageLoss, faster_rcnn
from .finding import chosen, evaluated, found, with_boxes
from .loader import load
from .loss import DetectionLoss
from .objectness import ObjectnessLoss
from .ssd import ssd
from .yolox import yolox

__all__ = [
    "AveragePrecision",
    "DetectionLoss",
    "ObjectnessLoss",
    "TwoStageLoss",
    "average_precision",
    "chosen",
    "cutouts",
    "evaluated",
    "faster_rcnn",
    "found",
    "load",
    "ssd",
    "with_boxes",
    "yolox",
]
