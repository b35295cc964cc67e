"""Feature maps of a network: what detectors look at."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_iplt.errors import ModelError, OptionError

from ..zoo.building_blocks import Style

__all__ = ["STYLE", "extended", "feature_maps", "frame_of", "pyramid"]

STYLE = Style(batch_norm=True, bias=False, initializer="he_normal")


def frame_of(backbone: keras.Model) -> tuple[int, int]:
    """Rows and columns of the images that a network takes."""
    shape = tuple(backbone.inputs[0].shape) if getattr(backbone, "inputs", None) else ()
    if len(shape) != 4 or None in shape[1:] or len(backbone.inputs) > 1:
        raise ModelError(
            "backbone: expected a network of one input, images of a known size with channels last, "
            f"received one of inputs of shape {shape}; build it with input_shape="
        )
    return shape[1], shape[2]


def feature_maps(backbone: keras.Model, strides: Sequence[int]) -> list[Any]:
    """The last tensor of about each resolution.

    Args:
        backbone: a network of convolutions, with or without a head.
        strides: pixels of the image to one of the map, from fine to coarse.
    """
    frame = frame_of(backbone)
    last: dict[tuple[int, int], Any] = {}
    for layer in backbone.layers:
        output = getattr(layer, "output", None)
        shape = tuple(getattr(output, "shape", ()))
        if len(shape) == 4 and not isinstance(layer, (layers.ZeroPadding2D, layers.Cropping2D)):
            last[shape[1], shape[2]] = output
    found = []
    for stride in strides:

        def far(size: tuple[int, int], stride: int = stride) -> float:
            return max(abs(math.log(n * stride / m)) for n, m in zip(size, frame, strict=True))

        size = min(last, key=far)
        if far(size) > math.log(1.5):
            there = ", ".join(f"{h} x {w}" for h, w in last)
            raise OptionError(
                f"strides: the backbone has nothing near a stride of {stride} for images of "
                f"{frame[0]} x {frame[1]}, only maps of {there}"
            )
        found.append(last[size])
    if len({tuple(x.shape[1:3]) for x in found}) < len(found):
        raise OptionError(f"strides: expected strides of different maps, received: {strides!r}")
    return found


def extended(maps: list[Any], count: int, filters: int) -> list[Any]:
    """`maps` and up to `count` more, each of half the resolution, until there is one place left."""
    maps = list(maps)
    for index in range(1, count + 1):
        x = maps[-1]
        if max(x.shape[1:3]) == 1:
            break
        x = STYLE.conv(x, max(1, filters // 2), 1, f"extra{index}_reduce")
        maps.append(STYLE.conv(x, filters, 3, f"extra{index}", strides=2))
    return maps


def pyramid(maps: list[Any], filters: int) -> list[Any]:
    """A feature pyramid: maps of one width, where coarse ones are added to fine ones."""
    merged: list[Any] = []
    for index, x in reversed(list(enumerate(maps))):
        x = STYLE.conv(x, filters, 1, f"lateral{index}")
        if merged:
            size = tuple(x.shape[1:3])
            above = layers.Resizing(*size, interpolation="nearest", name=f"enlarged{index}")
            x = layers.Add(name=f"merged{index}")([x, above(merged[0])])
        merged.insert(0, x)
    return merged
