"""Carrying a plan out: as zeros, as a smaller model, or in place."""

from keras_iplt.surgery.masking import mask
from keras_iplt.surgery.rewriting import rewrite
from keras_iplt.surgery.shrinking import shrink

__all__ = ["mask", "rewrite", "shrink"]
