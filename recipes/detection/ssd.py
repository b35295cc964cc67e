"""SSD of Liu et al., on any network."""

from collections.abc import Sequence

import keras

from keras_iplt.support.arguments import check_count

from .anchors import RATIOS, per_place
from .features import extended, feature_maps, frame_of, pyramid
from .heads import anchored, head

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
        heads = [head(kinds, classes, f"level{index}_") for index in range(len(maps))]
    else:
        width = check_count("shared", shared)
        maps = pyramid(maps, width)
        heads = [head(kinds, classes, "shared_", tower=2, width=width)] * len(maps)
    said = anchored(heads, maps, frame, smallest, ratios, "detections")
    return keras.Model(backbone.inputs[0], said, name="ssd")
