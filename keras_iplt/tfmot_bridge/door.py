"""Importing tfmot without what it does to others: Keras 3 stays Keras 3."""

import os
import warnings
from typing import Any

__all__ = ["PrunableLayer", "PruningSchedule"]

_LEGACY = "TF_USE_LEGACY_KERAS"


def _classes_of_tfmot() -> tuple[Any, Any]:
    """tfmot's `PruningSchedule` and `PrunableLayer`; what importing it changes is put back."""
    before = os.environ.get(_LEGACY)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # tfmot uses distutils
            import tensorflow as tf

            getattr(tf.keras, "__version__", None)  # settles it, before tfmot asks for Keras 2
            from tensorflow_model_optimization.sparsity.keras import (
                PrunableLayer,
                PruningSchedule,
            )
    except ImportError as error:
        raise ImportError(
            "keras_iplt.tfmot_bridge needs tensorflow-model-optimization, which cannot be imported "
            f"({error}): pip install tensorflow tensorflow-model-optimization tf-keras, and "
            "setuptools from Python 3.12 on"
        ) from error
    finally:
        if before is None:
            os.environ.pop(_LEGACY, None)
        else:
            os.environ[_LEGACY] = before
    return PruningSchedule, PrunableLayer


PruningSchedule: Any
PrunableLayer: Any
PruningSchedule, PrunableLayer = _classes_of_tfmot()
