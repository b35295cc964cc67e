"""What YOLOX is made of: separable convolutions, and blocks that half of the channels go round."""

from typing import Any

from keras import layers

from ..zoo.building_blocks import Style

__all__ = ["csp_block", "focused", "pooled_at_scales", "separable"]


def focused(x: Any, name: str) -> Any:
    """Half of the rows and columns, and four times the channels: nothing is lost.

    The channels are those of even rows and columns, odd rows, odd columns, and both odd.
    """
    height, width, channels = x.shape[1:]
    halves = (height // 2, 2, width // 2, 2, channels)
    x = layers.Reshape(halves, name=f"{name}_pairs")(x)
    x = layers.Permute((1, 3, 4, 2, 5), name=f"{name}_turned")(x)
    return layers.Reshape((height // 2, width // 2, 4 * channels), name=name)(x)


def separable(x: Any, filters: int, name: str, style: Style, strides: int = 1) -> Any:
    """A convolution of 3 x 3 for each channel, and one of 1 x 1 for all, each activated."""
    padding = "same"
    if strides > 1:  # as PyTorch pads: on all sides
        x, padding = layers.ZeroPadding2D(1, name=f"{name}_pad")(x), "valid"
    kernel = style.kernel(not style.batch_norm)
    x = layers.DepthwiseConv2D(
        3, strides, padding, use_bias=kernel["use_bias"],
        depthwise_initializer=kernel["kernel_initializer"], name=f"{name}_depthwise",
    )(x)  # fmt: skip
    x = style.activated(x, f"{name}_depthwise")
    return style.conv(x, filters, 1, f"{name}_pointwise")


def csp_block(
    x: Any, filters: int, repeats: int, name: str, style: Style, residual: bool = True
) -> Any:
    """Half of the channels go through a few bottlenecks, the others round them.

    Args:
        x: what comes in.
        filters: how many go out.
        repeats: how many bottlenecks there are.
        name: what the names of the layers begin with.
        style: what they have in common.
        residual: whether what comes into a bottleneck is added to what leaves it.
    """
    half = filters // 2
    inner = style.conv(x, half, 1, f"{name}_in")
    beside = style.conv(x, half, 1, f"{name}_beside")
    for index in range(repeats):
        block = f"{name}_block{index}"
        y = separable(style.conv(inner, half, 1, f"{block}_reduce"), half, block, style)
        inner = layers.Add(name=f"{block}_sum")([y, inner]) if residual else y
    both = layers.Concatenate(name=f"{name}_both")([inner, beside])
    return style.conv(both, filters, 1, f"{name}_out")


def pooled_at_scales(x: Any, filters: int, name: str, style: Style) -> Any:
    """A map beside the largest of what is near, within 5, 9 and 13 places."""
    x = style.conv(x, x.shape[-1] // 2, 1, f"{name}_reduce")
    pools = [
        layers.MaxPooling2D(size, 1, padding="same", name=f"{name}_pool{size}")(x)
        for size in (5, 9, 13)
    ]
    both = layers.Concatenate(name=f"{name}_scales")([x, *pools])
    return style.conv(both, filters, 1, f"{name}_out")
