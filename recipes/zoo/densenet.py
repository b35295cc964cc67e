"""DenseNet for CIFAR."""

from typing import Any

import keras
from keras import layers

from keras_iplt.errors import OptionError
from keras_iplt.support.arguments import check_count

from .building_blocks import Shape, Style, Weights, finished, image_input

__all__ = ["densenet40"]


def densenet40(
    classes: int = 10,
    input_shape: Shape = (32, 32, 3),
    weights: Weights = None,
    depth: int = 40,
    growth: int = 12,
    first: int = 16,
    dropout: float = 0.0,
    l2: float = 0.0,
    initializer: Any = "he_normal",
) -> keras.Model:
    """DenseNet-40 of growth 12 as Liu et al. have it: three dense blocks without bottlenecks.

    They have it in network slimming and in "Rethinking the value of network pruning".

    1,019,722 trainable parameters (published: 1.02 M) and 18,000 moving statistics; 2.65e8
    multiply-adds (published: 5.33e8 operations, an addition being one; twice 2.65e8 is 0.6 % less).

    Args:
        classes, input_shape, weights: see `build`; images are 4 x 4 at least.
        depth: 3n + 4, for n convolutions a block.
        growth: how many channels each convolution adds.
        first: how many there are to start with.
        dropout: the rate after each convolution.
        l2, initializer: the factor of a penalty on kernels, and what these start from.

    Example:

    >>> densenet40(depth=10, growth=4, input_shape=(8, 8, 1)).count_params()
    8778
    """
    style = Style(True, bias=False, dropout=dropout, l2=l2, initializer=initializer)
    if check_count("depth", depth) < 7 or (depth - 4) % 3:
        raise OptionError(f"depth: expected 3n + 4, such as 40 or 100, received: {depth!r}")
    growth, first = check_count("growth", growth), check_count("first", first)
    image = image_input(input_shape, 4)
    x = _conv(image, first, 3, "stem", style)
    for block in (1, 2, 3):
        for i in range(1, (depth - 4) // 3 + 1):
            name = f"block{block}_conv{i}"
            new = style.dropped(_ready(x, growth, 3, name, style), f"{name}_dropout")
            x = layers.Concatenate(name=f"block{block}_concat{i}")([x, new])
        if block < 3:
            x = _ready(x, x.shape[-1], 1, f"transition{block}", style)
            x = layers.AveragePooling2D(2, name=f"transition{block}_pool")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(style.activated(x, "last"))
    return finished("densenet40", image, x, classes, weights, style)


def _ready(x: Any, filters: int, size: int, name: str, style: Style) -> Any:
    """Batch norm and activation, then the convolution."""
    return _conv(style.activated(x, name), filters, size, name, style)


def _conv(x: Any, filters: int, size: int, name: str, style: Style) -> Any:
    return layers.Conv2D(filters, size, padding="same", name=name, **style.kernel(False))(x)
