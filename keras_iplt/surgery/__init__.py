"""Carrying a plan out: as zeros, as a smaller model, or in place; and what keeps its accuracy."""

from keras_iplt.surgery.masking import mask
from keras_iplt.surgery.rebuilding import rebuild
from keras_iplt.surgery.recalibration import recalibrate
from keras_iplt.surgery.refitting import Refit
from keras_iplt.surgery.rewriting import rewrite
from keras_iplt.surgery.shrinking import shrink

__all__ = ["Refit", "mask", "rebuild", "recalibrate", "rewrite", "shrink"]
