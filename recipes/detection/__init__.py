"""Object detectors: what there is to see in images, and where."""

from .average_precision import AveragePrecision, average_precision

__all__ = ["AveragePrecision", "average_precision"]
