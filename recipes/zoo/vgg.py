"""VGG-16 and VGG-19 for small images, and VGG-Lite.

Layers are named as in `keras.applications`: `block1_conv1` … `block5_pool`.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from .building_blocks import Shape, Style, Weights, check_counts, finished, image_input
from .pretrained import load

__all__ = ["vgg16", "vgg16_hubens", "vgg19", "vgg_lite"]

VGG16 = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGG19 = (64,) * 2 + (128,) * 2 + (256,) * 4 + (512,) * 8
BLOCKS16, BLOCKS19, BLOCKS_LITE = (2, 2, 3, 3, 3), (2, 2, 4, 4, 4), (2, 2, 4)


def vgg16(
    classes: int = 10,
    input_shape: Shape = (32, 32, 3),
    weights: Weights = None,
    filters: Sequence[int] = VGG16,
    dropout: float = 0.0,
    l2: float = 0.0,
    initializer: Any = "torch",
) -> keras.Model:
    """VGG-16 for CIFAR as in the IPLT paper: 13 convolutions with batch norm and one dense layer.

    14,736,714 parameters, moving statistics included, which is the paper's 58.9 MB; 3.13e8
    multiply-adds, which it calls FLOPs. Kernels start as PyTorch's do, as the paper ranks filters
    by their norms.

    Args:
        classes, input_shape, weights: see `build`; images are 32 x 32 at least.
        filters: the numbers of filters of the 13 convolutions.
        dropout: the rate before the dense layer.
        l2, initializer: the factor of a penalty on kernels, and what these start from.

    Example:

    >>> small = vgg16(filters=[8] * 13)
    >>> [layer.name for layer in small.layers if "block1_conv1" in layer.name]
    ['block1_conv1', 'block1_conv1_norm', 'block1_conv1_relu']
    """
    style = Style(True, dropout=dropout, l2=l2, initializer=initializer)
    image = image_input(input_shape, 32)
    x = _blocks(image, filters, BLOCKS16, style)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return finished("vgg16", image, style.dropped(x, "dropout"), classes, weights, style)


def vgg16_hubens(
    classes: int = 10,
    input_shape: Shape = (32, 32, 3),
    weights: Weights = None,
    filters: Sequence[int] = VGG16,
    units: int = 512,
    l2: float = 0.0,
    initializer: Any = "glorot_uniform",
) -> keras.Model:
    """VGG-16 as in Hubens et al.: no batch norm, global average pooling and two dense layers.

    14,982,474 parameters and 627.4816 M FLOPs for 32 x 32 images of 10 classes, 30,720.985 M for
    224 x 224 of 101 (published: 14.98 M, 627.48 M, 30,720.99 M).

    Args:
        classes: how many there are.
        input_shape: height, width and channels, 32 x 32 at least.
        weights: None (the paper's Network-B), `"imagenet"` (its Network-A) or a path, see
            `recipes.zoo.build`. ImageNet's are for images that went through
            `keras.applications.vgg16.preprocess_input`.
        filters: the numbers of filters of the 13 convolutions.
        units: the number of units of the hidden dense layer.
        l2, initializer: the factor of a penalty on kernels, and what these start from.

    Example:

    >>> vgg16_hubens(filters=[64] * 4 + [8] * 9, units=16).count_params()
    122178
    """
    style = Style(l2=l2, initializer=initializer)
    image = image_input(input_shape, 32)
    features = _blocks(image, filters, BLOCKS16, style)
    (units,) = check_counts("units", [units])
    x = layers.GlobalAveragePooling2D(name="pool")(features)
    x = style.dense(x, units, "hidden")
    model = finished("vgg16_hubens", image, x, classes, None, style)
    return load(model, keras.Model(image, features), weights, _imagenet)


def vgg19(
    classes: int = 10,
    input_shape: Shape = (32, 32, 3),
    weights: Weights = None,
    filters: Sequence[int] = VGG19,
    dropout: float = 0.0,
    l2: float = 0.0,
    initializer: Any = "he_normal",
) -> keras.Model:
    """VGG-19 for CIFAR as Liu et al. have it, in two papers.

    Those are network slimming, and "Rethinking the value of network pruning": 16 convolutions with
    batch norm and without bias, four poolings, one dense layer.

    20,035,018 trainable parameters (published: 20.04 M) and 11,008 moving statistics; 3.98e8
    multiply-adds (published: 7.97e8 operations, an addition being one).

    Args:
        classes, input_shape, weights: see `build`; images are 16 x 16 at least.
        filters: the numbers of filters of the 16 convolutions.
        dropout: the rate before the dense layer.
        l2, initializer: the factor of a penalty on kernels, and what these start from.

    Example:

    >>> vgg19(filters=[8] * 16).name
    'vgg19'
    """
    style = Style(True, bias=False, dropout=dropout, l2=l2, initializer=initializer)
    image = image_input(input_shape, 16)
    x = _blocks(image, filters, BLOCKS19, style, last_pool=False)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return finished("vgg19", image, style.dropped(x, "dropout"), classes, weights, style)


def vgg_lite(
    classes: int = 10,
    input_shape: Shape = (32, 32, 3),
    weights: Weights = None,
    filters: Sequence[int] = (64, 64, 128, 128, 256, 256, 256, 256),
    units: int = 512,
    dropout: float = 0.3,
    l2: float = 5e-4,
    initializer: Any = "glorot_uniform",
) -> keras.Model:
    """A reconstruction of the VGG-Lite of Sarkar et al., of which the figure is missing.

    The text says: "adapted from the standard VGG-19 model and VGG-like", for 28 x 28 images of
    MNIST and 32 x 32 of CIFAR; and of the paper's networks, that they have batch norm, dropout and
    L2. The rest is assumption: the first three blocks of VGG-19 (with all five, 28 pixels would be
    pooled to none, and "Lite" promises less); batch norm after each layer and dropout after each
    but the last of a block, as VGG-like has them; its hidden layer of 512 units; global average
    pooling, so that size does not matter; and all rates.

    Args:
        classes, input_shape, weights: see `build`; images are 8 x 8 at least.
        filters: the numbers of filters of the 8 convolutions.
        units: the number of units of the hidden dense layer.
        dropout: the rate after convolutions; around the hidden layer it is 0.5, or 0 if this is.
        l2, initializer: the factor of a penalty on kernels, and what these start from.

    Example:

    >>> vgg_lite(input_shape=(28, 28, 1)).count_params()
    2468810
    """
    style = Style(True, dropout=dropout, l2=l2, initializer=initializer)
    image = image_input(input_shape, 8)
    (units,) = check_counts("units", [units])
    x = _blocks(image, filters, BLOCKS_LITE, style, drop=True)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    rate = 0.5 if dropout else 0.0
    x = style.dense(style.dropped(x, "dropout1", rate), units, "hidden")
    return finished(
        "vgg_lite", image, style.dropped(x, "dropout2", rate), classes, weights, style
    )  # fmt: skip


def _blocks(
    x: Any, filters: Sequence[int], blocks: Sequence[int], style: Style, last_pool: bool = True,
    drop: bool = False,
) -> Any:  # fmt: skip
    """Blocks of convolutions of 3 x 3, with pooling behind each."""
    counts = iter(check_counts("filters", filters, sum(blocks)))
    for block, size in enumerate(blocks, start=1):
        for i, count in enumerate(itertools.islice(counts, size), start=1):
            name = f"block{block}_conv{i}"
            x = style.conv(x, count, 3, name)
            if drop and i < size:
                x = style.dropped(x, f"{name}_dropout")
        if last_pool or block < len(blocks):
            x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return x


def _imagenet() -> keras.Model:
    return keras.applications.VGG16(
        include_top=False, weights="imagenet", input_shape=(224, 224, 3)
    )  # fmt: skip
