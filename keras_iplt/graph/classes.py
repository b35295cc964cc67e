"""Layers that are of another class once channels of them went."""

from collections.abc import Collection

import keras

from keras_iplt.layers import PaddedLayerNormalization

__all__ = ["class_with", "name_before"]

_PADDED = {keras.layers.LayerNormalization: PaddedLayerNormalization}


def class_with(layer: keras.Layer, entries: Collection[str]) -> type[keras.Layer]:
    """The class of a layer once its config has these entries: its own, or one with a `width`."""
    return _PADDED.get(type(layer), type(layer)) if "width" in entries else type(layer)


def name_before(name: str) -> str:
    """The name of the class that a layer was of before channels of it went."""
    return next((old.__name__ for old, new in _PADDED.items() if new.__name__ == name), name)
