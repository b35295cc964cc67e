"""Carrying a plan out: as zeros, or as a smaller model."""

from keras_iplt.surgery.mask import mask
from keras_iplt.surgery.rewrite import prune, rewrite

__all__ = ["mask", "prune", "rewrite"]
