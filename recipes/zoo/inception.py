"""GoogLeNet (InceptionV1) of Szegedy et al."""

from typing import Any

import keras
from keras import layers

from .building_blocks import Shape, Style, Weights, finished, image_input

__all__ = ["googlenet"]

# Filters of each module: 1x1; before 3x3, 3x3; before 5x5, 5x5; behind the pooling.
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet(
    classes: int = 10,
    input_shape: Shape = (224, 224, 3),
    weights: Weights = None,
    batch_norm: bool = True,
    dropout: float = 0.4,
    l2: float = 0.0,
    initializer: Any = "glorot_uniform",
) -> keras.Model:
    """GoogLeNet, or InceptionV1: nine modules of four branches.

    Without batch norm, as published, 6,998,552 parameters and 1.58e9 multiply-adds for 1,000
    classes of 224 x 224. Module by module they are those of the paper's Table 1, but for two (4c
    and 5a) that do not follow from their own rows. Its sum, 1.5 billion, is less since it gives
    the first convolution 34 million, where 64 filters of 7 x 7 take 118.

    What is left out: the two auxiliary classifiers, which are there for training only, and local
    response normalisation, which batch norm replaced.

    Args:
        classes, input_shape, weights: see `build`; images are 32 x 32 at least.
        batch_norm: after each convolution, as TF-slim's InceptionV1 has it (the paper has none).
        dropout: the rate before the head.
        l2, initializer: the factor of a penalty on kernels, and what these start from.

    Example:

    >>> model = googlenet(input_shape=(32, 32, 3))
    >>> model.get_layer("inception_3a").output.shape
    (None, 4, 4, 256)
    """
    style = Style(batch_norm, bias=False, dropout=dropout, l2=l2, initializer=initializer)
    image = image_input(input_shape, 32)
    x = style.conv(image, 64, 7, "conv1", strides=2)
    x = _pool(x, "pool1")
    x = style.conv(style.conv(x, 64, 1, "conv2_reduce"), 192, 3, "conv2")
    x = _pool(x, "pool2")
    for name, filters in MODULES.items():
        x = _module(x, filters, f"inception_{name}", style)
        if name in ("3b", "4e"):
            x = _pool(x, f"pool{name[0]}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return finished("googlenet", image, style.dropped(x, "dropout"), classes, weights, style)


def _pool(x: Any, name: str) -> Any:
    return layers.MaxPooling2D(3, 2, padding="same", name=name)(x)


def _module(x: Any, filters: tuple[int, ...], name: str, style: Style) -> Any:
    """Four branches side by side."""
    one, before3, three, before5, five, pooled = filters
    pool = layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    branches = [
        style.conv(x, one, 1, f"{name}_1x1"),
        style.conv(style.conv(x, before3, 1, f"{name}_3x3_reduce"), three, 3, f"{name}_3x3"),
        style.conv(style.conv(x, before5, 1, f"{name}_5x5_reduce"), five, 5, f"{name}_5x5"),
        style.conv(pool, pooled, 1, f"{name}_pool_proj"),
    ]
    return layers.Concatenate(name=name)(branches)
