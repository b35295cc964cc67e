"""Carrying a plan out: as zeros, as a smaller model, or in place."""

from keras_iplt.surgery.mask import mask
from keras_iplt.surgery.rewrite import prune, rewrite
from keras_iplt.surgery.shrink import shrink

__all__ = ["mask", "prune", "rewrite", "shrink"]
