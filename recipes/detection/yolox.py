"""YOLOX-Nano of Ge et al.: a detector without anchors, small enough for phones."""

import os
from typing import Any

import keras
from keras import layers

from keras_iplt.errors import OptionError
from keras_iplt.support.arguments import check_count

from ..zoo.building_blocks import Shape, Style, image_input
from .anchors import Cells
from .csp import csp_block, focused, pooled_at_scales, separable
from .heads import precise
from .onnx_weights import load_onnx

__all__ = ["yolox"]

STRIDES = (8, 16, 32)


def yolox(
    classes: int = 80, input_shape: Shape = (416, 416, 3), filters: int = 16, repeats: int = 1,
    weights: str | os.PathLike[str] | None = None,
) -> keras.Model:  # fmt: skip
    """YOLOX-Nano: CSPDarknet, a pyramid that goes down and up again, and heads that are apart.

    896,754 weights without batch norm for 80 classes, as many as published (0.91 M with).

    Its output, `(batch, places, 9 + classes)`, is what `ObjectnessLoss` takes; `with_boxes` makes
    boxes and scores of it.

    Args:
        classes: how many there are.
        input_shape: height and width, both multiples of 32, and channels.
        filters: of the first convolution; all others have multiples of it.
        repeats: bottlenecks of a block; blocks in the middle of the backbone have three times as
            many.
        weights: the path of an ONNX file with the weights of this network, as others wrote it. Its
            batch norms are part of its convolutions, so that the model has none. If it is of other
            classes, those start anew. (Those of YOLOX itself expect BGR from 0 to 255.)

    Returns:
        A `keras.Model` called "yolox".

    Example:

    >>> from recipes import detection
    >>> detection.yolox(classes=3, input_shape=(64, 96, 3)).output_shape
    (None, 126, 12)
    """
    classes, filters = check_count("classes", classes), check_count("filters", filters)
    repeats = check_count("repeats", repeats)
    image = image_input(input_shape, STRIDES[-1], free=False)
    frame = tuple(image.shape[1:3])
    if any(side % STRIDES[-1] for side in frame):
        raise OptionError(
            f"input_shape: expected sides that are multiples of {STRIDES[-1]}, received: "
            f"{input_shape!r}"
        )
    style = Style(weights is None, bias=False, initializer="he_normal", activation="silu")
    maps = _pyramid(_backbone(image, filters, repeats, style), repeats, style)
    said = [_head(x, 4 * filters, classes, f"level{index}", style) for index, x in enumerate(maps)]
    x = layers.Concatenate(axis=1, name="detections_said", **precise())(said)
    model = keras.Model(
        image, Cells(frame, STRIDES, name="detections", **precise())(x), name="yolox"
    )
    if weights is not None:
        load_onnx(model, weights, fresh=tuple(f"level{index}_classes" for index in range(3)))
    return model


def _backbone(image: Any, filters: int, repeats: int, style: Style) -> list[Any]:
    """CSPDarknet's maps of the strides 8, 16 and 32."""
    x = style.conv(focused(image, "focus"), filters, 3, "stem")
    maps = []
    for stage in range(4):
        name, width, last = f"dark{stage + 2}", filters * 2 ** (stage + 1), stage == 3
        x = separable(x, width, f"{name}_down", style, strides=2)
        if last:
            x = pooled_at_scales(x, width, f"{name}_spp", style)
        deep = repeats if stage in (0, 3) else 3 * repeats
        x = csp_block(x, width, deep, name, style, residual=not last)
        maps.append(x)
    return maps[1:]


def _pyramid(maps: list[Any], repeats: int, style: Style) -> list[Any]:
    """Coarse maps are joined to fine ones, and these to coarse ones again."""
    fine, middle, coarse = maps
    small, medium = fine.shape[-1], middle.shape[-1]
    top = style.conv(coarse, medium, 1, "lateral2")
    x = _joined(layers.UpSampling2D(2, name="enlarged2")(top), middle, "down1")
    centre = style.conv(csp_block(x, medium, repeats, "down1", style, False), small, 1, "lateral1")
    x = _joined(layers.UpSampling2D(2, name="enlarged1")(centre), fine, "down0")
    found = [csp_block(x, small, repeats, "down0", style, False)]
    for index, beside in ((1, centre), (2, top)):
        x = separable(found[-1], found[-1].shape[-1], f"reduced{index}", style, strides=2)
        x = _joined(x, beside, f"up{index}")
        found.append(csp_block(x, maps[index].shape[-1], repeats, f"up{index}", style, False))
    return found


def _joined(x: Any, other: Any, name: str) -> Any:
    return layers.Concatenate(name=f"{name}_joined")([x, other])


def _head(x: Any, width: int, classes: int, name: str, style: Style) -> Any:
    """What is said of the places of a map: `(batch, places, 4 + 1 + classes)`.

    Two branches: one tells what is there, the other where, and whether there is anything.
    """
    x = style.conv(x, width, 1, f"{name}_stem")
    branches = []
    for branch in ("what", "where"):
        y = x
        for index in range(2):
            y = separable(y, width, f"{name}_{branch}{index}", style)
        branches.append(y)
    what, where = branches
    ends = [_end(where, 4, f"{name}_boxes"), _end(where, 1, f"{name}_objects", rare=True),
            _end(what, classes, f"{name}_classes", rare=True)]  # fmt: skip
    x = layers.Concatenate(name=f"{name}_ends", **precise())(ends)
    return layers.Reshape((-1, x.shape[-1]), name=f"{name}_said", **precise())(x)


def _end(x: Any, filters: int, name: str, rare: bool = False) -> Any:
    """The last convolution of a branch; what is rare starts at a probability of 0.01."""
    start = {
        "kernel_initializer": keras.initializers.RandomNormal(stddev=0.01),
        "bias_initializer": keras.initializers.Constant(-4.6 if rare else 0.0),
    }
    return layers.Conv2D(filters, 1, name=name, **start, **precise())(x)
