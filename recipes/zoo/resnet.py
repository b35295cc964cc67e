"""The residual networks of He et al. for CIFAR."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_iplt.errors import OptionError
from keras_iplt.support.arguments import check_count

from .building_blocks import Shape, Style, Weights, check_counts, finished, image_input

__all__ = ["cifar_resnet", "resnet20", "resnet56", "resnet110"]


def cifar_resnet(
    classes: int = 10,
    input_shape: Shape = (32, 32, 3),
    weights: Weights = None,
    depth: int = 20,
    shortcut: str = "A",
    widths: Sequence[int] = (16, 32, 64),
    l2: float = 0.0,
    initializer: Any = "he_normal",
) -> keras.Model:
    """A ResNet of basic blocks in three stages.

    Args:
        classes, input_shape, weights: see `build`; images are 4 x 4 at least.
        depth: 6n + 2, for n blocks a stage: 8, 14, 20, 32, 44, 56, 110 …
        shortcut: between stages. `"A"`, the papers': every other position, and zeros for new
            channels, half of them on either side. `"B"`: a convolution of 1 x 1 with batch norm.
        widths: the channels of the stages.
        l2, initializer: the factor of a penalty on kernels, and what these start from.

    Example:

    >>> cifar_resnet(depth=8, widths=(8, 16, 32), input_shape=(8, 8, 1)).count_params()
    19314
    """
    return _resnet("cifar_resnet", classes, input_shape, weights, depth, shortcut, widths, l2,
                   initializer)  # fmt: skip


def resnet20(
    classes: int = 10,
    input_shape: Shape = (32, 32, 3),
    weights: Weights = None,
    shortcut: str = "A",
    l2: float = 0.0,
    initializer: Any = "he_normal",
) -> keras.Model:
    """ResNet-20: 271,098 parameters (published: 0.27 M), 4.06e7 multiply-adds (published: 4.06e7).

    Args:
        classes, input_shape, weights: see `build`; images are 4 x 4 at least.
        shortcut: `"A"` without parameters, or `"B"`, see `cifar_resnet`.
        l2, initializer: the factor of a penalty on kernels, and what these start from.

    Example:

    >>> resnet20().count_params(), resnet20(shortcut="B").count_params()
    (271098, 274042)
    """
    return _resnet("resnet20", classes, input_shape, weights, 20, shortcut, (16, 32, 64), l2,
                   initializer)  # fmt: skip


def resnet56(
    classes: int = 10,
    input_shape: Shape = (32, 32, 3),
    weights: Weights = None,
    shortcut: str = "A",
    l2: float = 0.0,
    initializer: Any = "he_normal",
) -> keras.Model:
    """ResNet-56: 857,082 parameters (published: 0.85 M), 1.25e8 multiply-adds (published: 1.25e8).

    Args:
        classes, input_shape, weights: see `build`; images are 4 x 4 at least.
        shortcut: `"A"` without parameters, or `"B"`, see `cifar_resnet`.
        l2, initializer: the factor of a penalty on kernels, and what these start from.

    Example:

    >>> resnet56(input_shape=(8, 8, 3)).output_shape
    (None, 10)
    """
    return _resnet("resnet56", classes, input_shape, weights, 56, shortcut, (16, 32, 64), l2,
                   initializer)  # fmt: skip


def resnet110(
    classes: int = 10,
    input_shape: Shape = (32, 32, 3),
    weights: Weights = None,
    shortcut: str = "A",
    l2: float = 0.0,
    initializer: Any = "he_normal",
) -> keras.Model:
    """ResNet-110: 1,736,058 parameters (published: 1.7 M), 2.53e8 multiply-adds (as published).

    The 3.9e8 in Table 3 of the IPLT paper contradict its own pruned columns.

    Args:
        classes, input_shape, weights: see `build`; images are 4 x 4 at least.
        shortcut: `"A"` without parameters, or `"B"`, see `cifar_resnet`.
        l2, initializer: the factor of a penalty on kernels, and what these start from.

    Example:

    >>> resnet110(classes=100, input_shape=(8, 8, 3)).output_shape
    (None, 100)
    """
    return _resnet("resnet110", classes, input_shape, weights, 110, shortcut, (16, 32, 64), l2,
                   initializer)  # fmt: skip


def _resnet(
    name: str, classes: int, input_shape: Shape, weights: Weights, depth: int, shortcut: str,
    widths: Sequence[int], l2: float, initializer: Any,
) -> keras.Model:  # fmt: skip
    style = Style(True, bias=False, l2=l2, initializer=initializer)
    if check_count("depth", depth) < 8 or (depth - 2) % 6:
        raise OptionError(f"depth: expected 6n + 2, such as 20, 56 or 110, received: {depth!r}")
    if shortcut not in ("A", "B"):
        raise OptionError(f"shortcut: expected 'A' or 'B', received: {shortcut!r}")
    widths = check_counts("widths", widths, 3)
    if shortcut == "A" and sorted(widths) != list(widths):
        raise OptionError(
            f"widths: with shortcut='A', no stage may be narrower than the one before, received: "
            f"{widths}"
        )
    image = image_input(input_shape, 4)
    x = style.conv(image, widths[0], 3, "stem")
    for stage, filters in enumerate(widths, start=1):
        for block in range(1, (depth - 2) // 6 + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            x = _block(x, filters, strides, f"stage{stage}_block{block}", shortcut, style)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return finished(name, image, x, classes, weights, style)


def _block(x: Any, filters: int, strides: int, name: str, shortcut: str, style: Style) -> Any:
    """Two convolutions and a way around them."""
    y = x
    if strides > 1:
        # As PyTorch pads, so that the convolution is centred where the shortcut looks.
        y = layers.ZeroPadding2D(name=f"{name}_pad")(y)
    padding = "same" if strides == 1 else "valid"
    y = style.conv(y, filters, 3, f"{name}_conv1", padding, strides)
    y = layers.Conv2D(filters, 3, padding="same", name=f"{name}_conv2", **style.kernel(False))(y)
    y = style.norm(y, f"{name}_conv2_norm")
    if strides > 1 and shortcut == "B":
        x = layers.Conv2D(filters, 1, strides, name=f"{name}_shortcut", **style.kernel(False))(x)
        x = style.norm(x, f"{name}_shortcut_norm")
    elif strides > 1:
        x = _widened(x, filters, strides, name)
    x = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=f"{name}_relu")(x)


def _widened(x: Any, filters: int, strides: int, name: str) -> Any:
    """Every other position, with channels of zeros on either side."""
    x = layers.AveragePooling2D(1, strides, name=f"{name}_shortcut")(x)
    new = filters - x.shape[-1]
    if not new:
        return x
    # With the last axes swapped, what pads an image pads channels.
    x = layers.Permute((1, 3, 2), name=f"{name}_shortcut_swap")(x)
    sides = ((0, 0), (new // 2, new - new // 2))
    x = layers.ZeroPadding2D(sides, name=f"{name}_shortcut_widen")(x)
    return layers.Permute((1, 3, 2), name=f"{name}_shortcut_swap_back")(x)
