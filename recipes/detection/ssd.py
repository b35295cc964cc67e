"""SSD of Liu et al., on any network."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_iplt.support.arguments import check_count

from .anchors import RATIOS, Anchors, per_place
from .features import STYLE, extended, feature_maps, frame_of, pyramid

__all__ = ["ssd"]


def ssd(
    backbone: keras.Model, classes: int, strides: Sequence[int] = (8, 16, 32), extra: int = 2,
    extra_filters: int = 256, smallest: float = 0.1, shared: int | None = None,
    ratios: Sequence[float] = RATIOS,
) -> keras.Model:  # fmt: skip
    """A single shot detector: from feature maps of several sizes straight to boxes and classes.

    Its output, `(batch, anchors, 9 + classes)`, is what `DetectionLoss` takes; `with_boxes` makes
    boxes and scores of it. The layers of the backbone are taken over, with their weights.

    Args:
        backbone: a network of the zoo or of `keras.applications`, of images of one size.
        classes: how many there are.
        strides: pixels of the image to one of the map, of the maps of the backbone.
        extra: how many more maps follow, each of half the resolution.
        extra_filters: their width.
        smallest: the side of the smallest anchors, as a share of the shorter side of the image.
        shared: None for heads of their own for each map, as published; else the width of a feature
            pyramid whose maps share one head with two more convolutions.
        ratios: widths by heights of the anchors.

    Returns:
        A `keras.Model` called "ssd".

    Example:

    >>> from recipes import detection, zoo
    >>> backbone = zoo.mobilenet(10, (96, 96, 3), alpha=0.25)
    >>> detection.ssd(backbone, classes=3).output_shape
    (None, 776, 12)
    """
    classes = check_count("classes", classes)
    frame = frame_of(backbone)
    maps = extended(feature_maps(backbone, strides), extra, extra_filters)
    kinds = per_place(ratios)
    if shared is None:
        heads = [_head(kinds, classes, f"level{index}_") for index in range(len(maps))]
    else:
        maps = pyramid(maps, check_count("shared", shared))
        heads = [_head(kinds, classes, "shared_", shared)] * len(maps)
    boxes, logits = zip(*(head(x) for head, x in zip(heads, maps, strict=True)), strict=True)
    said = [_joined(boxes, "boxes"), _joined(logits, "classes")]
    x = layers.Concatenate(axis=-1, name="said", dtype=keras.config.floatx())(said)
    scales = np.linspace(smallest, 0.9, len(maps)).tolist() + [1.0]
    grids = [tuple(x.shape[1:3]) for x in maps]
    x = Anchors(frame, grids, scales, tuple(ratios), name="detections",
                dtype=keras.config.floatx())(x)  # fmt: skip
    return keras.Model(backbone.inputs, x, name="ssd")


def _head(kinds: int, classes: int, name: str, width: int | None = None) -> Any:
    """What says of each place of a map, for each kind of anchor, how it changes and what it is."""
    tower = [
        layers.Conv2D(width, 3, padding="same", activation="relu", name=f"{name}tower{index}",
                      **STYLE.kernel())
        for index in range(2 if width else 0)
    ]  # fmt: skip
    ends = [
        layers.Conv2D(kinds * each, 3, padding="same", name=f"{name}{what}",
                      dtype=keras.config.floatx(),
                      kernel_initializer=keras.initializers.RandomNormal(stddev=0.01))
        for what, each in (("boxes", 4), ("classes", 1 + classes))
    ]  # fmt: skip

    def said(x: Any) -> tuple[Any, Any]:
        for layer in tower:
            x = layer(x)
        one, two = (
            layers.Reshape((-1, end.filters // kinds), dtype=keras.config.floatx())(end(x))
            for end in ends
        )
        return one, two

    return said


def _joined(parts: Sequence[Any], name: str) -> Any:
    if len(parts) == 1:
        return parts[0]
    return layers.Concatenate(axis=1, name=name, dtype=keras.config.floatx())(list(parts))
