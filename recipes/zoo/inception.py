"""GoogLeNet (InceptionV1) of Szegedy et al., and InceptionV2 of Ioffe and Szegedy."""

from typing import Any

import keras
from keras import layers

from .building_blocks import Shape, Style, Weights, finished, image_input

__all__ = ["googlenet", "inception_v2"]

# GoogLeNet, filters of each module: 1x1; before 3x3, 3x3; before 5x5, 5x5; behind the pooling.
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

# InceptionV2, of each module: the convolutions of each branch, size:filters, `/2` for a stride of
# 2, behind what it pools by, if it does.
BRANCHES = {
    "3b": ("1:64", "1:64 3:64", "1:64 3:96 3:96", "average 1:32"),
    "3c": ("1:64", "1:64 3:96", "1:64 3:96 3:96", "average 1:64"),
    "4a": ("1:128 3:160/2", "1:64 3:96 3:96/2", "max/2"),
    "4b": ("1:224", "1:64 3:96", "1:96 3:128 3:128", "average 1:128"),
    "4c": ("1:192", "1:96 3:128", "1:96 3:128 3:128", "average 1:128"),
    "4d": ("1:160", "1:128 3:160", "1:128 3:160 3:160", "average 1:96"),
    "4e": ("1:96", "1:128 3:192", "1:160 3:192 3:192", "average 1:96"),
    "5a": ("1:128 3:192/2", "1:192 3:256 3:256/2", "max/2"),
    "5b": ("1:352", "1:192 3:320", "1:160 3:224 3:224", "average 1:128"),
    "5c": ("1:352", "1:192 3:320", "1:192 3:224 3:224", "max 1:128"),
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


def inception_v2(
    classes: int = 10,
    input_shape: Shape = (224, 224, 3),
    weights: Weights = None,
    dropout: float = 0.2,
    l2: float = 0.0,
    initializer: Any = "glorot_uniform",
) -> keras.Model:
    """InceptionV2, or BN-Inception: pairs of 3 x 3 for 5 x 5, batch norm, a separable first layer.

    10,183,192 parameters before the head, and 1.93e9 multiply-adds for 224 x 224. TF-slim counts
    10,173,112 of the former: its batch norms have no factors (9,952 of ours), and its first
    convolution has a bias in place of one (128 less). The paper says 13.6 million.

    Layers are named by the scheme of TF-slim, with underscores: `Mixed_4b_Branch_1_Conv2d_0b_3x3`.

    Args:
        classes, input_shape, weights: see `build`; images are 32 x 32 at least.
        dropout: the rate before the head.
        l2, initializer: the factor of a penalty on kernels, and what these start from.

    Example:

    >>> model = inception_v2(input_shape=(32, 32, 3))
    >>> model.get_layer("Mixed_5c").output.shape
    (None, 1, 1, 1024)
    """
    style = Style(True, bias=False, dropout=dropout, l2=l2, initializer=initializer)
    image = image_input(input_shape, 32)
    x = _separable(image, 64, 7, "Conv2d_1a_7x7", style)
    x = layers.MaxPooling2D(3, 2, padding="same", name="MaxPool_2a_3x3")(x)
    x = style.conv(style.conv(x, 64, 1, "Conv2d_2b_1x1"), 192, 3, "Conv2d_2c_3x3")
    x = layers.MaxPooling2D(3, 2, padding="same", name="MaxPool_3a_3x3")(x)
    for module, branches in BRANCHES.items():
        name = f"Mixed_{module}"
        ends = [_branch(x, text, f"{name}_Branch_{i}", style) for i, text in enumerate(branches)]
        x = layers.Concatenate(name=name)(ends)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return finished("inception_v2", image, style.dropped(x, "dropout"), classes, weights, style)


def _separable(x: Any, filters: int, size: int, name: str, style: Style) -> Any:
    """Eight maps of each channel by themselves, then mixed."""
    kernel = style.kernel(bias=False)
    both = {f"{part}_{key.removeprefix('kernel_')}": value for key, value in kernel.items()
            if key.startswith("kernel_") for part in ("depthwise", "pointwise")}  # fmt: skip
    x = layers.SeparableConv2D(
        filters, size, 2, padding="same", depth_multiplier=8, use_bias=False, name=name, **both
    )(x)
    return style.activated(x, name)


def _branch(x: Any, text: str, name: str, style: Style) -> Any:
    """One branch of a module, see `BRANCHES`."""
    for letter, part in zip("abc", text.split(), strict=False):
        part, _, strides = part.partition("/")
        stride = int(strides or 1)
        number = f"{stride - 1}{'a' if stride == 2 else letter}"  # TF-slim's 0b, and 1a of strides
        if ":" in part:
            size, filters = map(int, part.split(":"))
            conv = f"{name}_Conv2d_{number}_{size}x{size}"
            x = style.conv(x, filters, size, conv, strides=stride)
        else:
            pool = layers.MaxPooling2D if part == "max" else layers.AveragePooling2D
            kind = "MaxPool" if part == "max" else "AvgPool"
            x = pool(3, stride, padding="same", name=f"{name}_{kind}_{number}_3x3")(x)
    return x
