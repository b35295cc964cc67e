"""What says of each anchor of a map how it changes, and what it is."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import layers

from .anchors import Anchors
from .features import STYLE

__all__ = ["Head", "anchored", "head", "precise"]

Head: TypeAlias = Callable[[Any], tuple[Any, Any]]


def precise() -> dict[str, Any]:
    """What layers are told whose numbers are coordinates.

    They have full precision, also where others compute in half."""
    return {"dtype": keras.config.floatx()}


def head(
    kinds: int, classes: int, name: str, size: int = 3, tower: int = 0, width: int = 0
) -> Head:
    """Layers that make changes and logits of a map.

    These are `(batch, anchors, 4)` and `(batch, anchors, 1 + classes)`. Called again, the layers
    make them with the same weights.

    Args:
        kinds: how many anchors stand at each place.
        classes: how many there are, without the background.
        name: what the names of the layers begin with.
        size: of the convolutions at the end.
        tower: how many convolutions of 3 x 3 come before.
        width: their filters.
    """
    before = [
        layers.Conv2D(width, 3, padding="same", activation="relu", name=f"{name}tower{index}",
                      **STYLE.kernel())
        for index in range(tower)
    ]  # fmt: skip
    start = keras.initializers.RandomNormal(stddev=0.01)
    ends = [
        layers.Conv2D(kinds * each, size, padding="same", name=f"{name}{what}",
                      kernel_initializer=start.clone(), **precise())
        for what, each in (("boxes", 4), ("classes", 1 + classes))
    ]  # fmt: skip

    def said(x: Any) -> tuple[Any, Any]:
        for layer in before:
            x = layer(x)
        one, two = (layers.Reshape((-1, end.filters // kinds), **precise())(end(x)) for end in ends)
        return one, two

    return said


def anchored(
    heads: Sequence[Head], maps: Sequence[Any], frame: tuple[int, int], smallest: float,
    ratios: Sequence[float], name: str,
) -> Any:  # fmt: skip
    """What heads say of maps: `(batch, anchors, 4 + 4 + 1 + classes)`, the anchors first.

    Args:
        heads: one for each map.
        maps: from fine to coarse, for anchors from small to large.
        frame: rows and columns of the image.
        smallest: the side of the smallest anchors, as a share of the shorter side of the image.
        ratios: widths by heights of the anchors.
        name: of the last layer.
    """
    boxes, logits = zip(*(one(x) for one, x in zip(heads, maps, strict=True)), strict=True)
    said = [_joined(boxes, f"{name}_boxes"), _joined(logits, f"{name}_classes")]
    x = layers.Concatenate(axis=-1, name=f"{name}_said", **precise())(said)
    scales = [*np.linspace(smallest, 0.9, len(maps)).tolist(), 1.0]
    grids = [tuple(x.shape[1:3]) for x in maps]
    return Anchors(frame, grids, scales, tuple(ratios), name=name, **precise())(x)


def _joined(parts: Sequence[Any], name: str) -> Any:
    if len(parts) == 1:
        return parts[0]
    return layers.Concatenate(axis=1, name=name, **precise())(list(parts))
