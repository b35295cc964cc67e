"""Networks for MNIST: LeCun's, and a plain CNN.

LeNet-300-100 and the LeNet-5 of Caffe are what pruning papers since Han et al. measure with, and so
does Sarkar et al., with batch norm, dropout and L2; the LeNet-5 of 1998 is LeCun et al.'s own.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_iplt.errors import OptionError

from .building_blocks import Shape, Style, Weights, check_counts, finished, image_input

__all__ = ["lenet_300_100", "lenet_5", "lenet_5_1998", "mnist_cnn"]


def lenet_300_100(
    classes: int = 10,
    input_shape: Shape = (28, 28, 1),
    weights: Weights = None,
    batch_norm: bool = False,
    dropout: float = 0.0,
    l2: float = 0.0,
    initializer: Any = "glorot_uniform",
) -> keras.Model:
    """Two hidden layers of 300 and 100 units.

    266,610 parameters (Han et al.: 267 thousand) and 532,400 FLOPs without biases (532 thousand).

    Args:
        classes, weights: see `build`.
        input_shape: a shape of any rank; what comes in is flattened.
        batch_norm: after each hidden layer, as Sarkar et al. have it.
        dropout: the rate after each hidden layer (Sarkar et al. do not tell theirs).
        l2: the factor of an L2 penalty on kernels (nor this).
        initializer: what kernels start from.

    Example: as Sarkar et al. train it.

    >>> model = lenet_300_100(batch_norm=True, dropout=0.2, l2=1e-4)
    >>> [layer.name for layer in model.layers][2:6]
    ['hidden1', 'hidden1_norm', 'hidden1_relu', 'hidden1_dropout']
    """
    style = Style(batch_norm, dropout=dropout, l2=l2, initializer=initializer)
    try:
        shape = check_counts("input_shape", input_shape)
    except OptionError as error:
        raise OptionError(
            "input_shape: expected the shape of one example, positive whole numbers, received: "
            f"{input_shape!r}"
        ) from error
    image = keras.Input(shape, name="image")
    x = layers.Flatten(name="flatten")(image)
    for i, units in enumerate((300, 100), start=1):
        x = style.dropped(style.dense(x, units, f"hidden{i}"), f"hidden{i}_dropout")
    return finished("lenet_300_100", image, x, classes, weights, style)


def lenet_5(
    classes: int = 10,
    input_shape: Shape = (28, 28, 1),
    weights: Weights = None,
    batch_norm: bool = False,
    dropout: float = 0.0,
    l2: float = 0.0,
    initializer: Any = "glorot_uniform",
) -> keras.Model:
    """The LeNet-5 of Caffe: 20 and 50 filters of 5 x 5 and 500 units.

    431,080 parameters (Han et al.: 431 thousand) and 4.586 M FLOPs without biases (4,586
    thousand). It has a ReLU after each convolution as well, which Caffe's has not.

    Args:
        classes, input_shape, weights: see `build`; images are 16 x 16 at least.
        batch_norm: after each convolution, as Sarkar et al. have it.
        dropout: the rate after each convolution and its pooling (not told).
        l2: the factor of an L2 penalty on kernels (not told).
        initializer: what kernels start from.

    Example:

    >>> lenet_5().count_params()
    431080
    """
    style = Style(batch_norm, dropout=dropout, l2=l2, initializer=initializer)
    image = image_input(input_shape, 16, free=False)
    x = image
    for i, filters in enumerate((20, 50), start=1):
        x = style.conv(x, filters, 5, f"conv{i}", padding="valid")
        x = layers.MaxPooling2D(name=f"pool{i}")(x)
        x = style.dropped(x, f"dropout{i}")
    x = style.dense(layers.Flatten(name="flatten")(x), 500, "hidden", norm=False)
    return finished("lenet_5", image, x, classes, weights, style)


def lenet_5_1998(
    classes: int = 10,
    input_shape: Shape = (28, 28, 1),
    weights: Weights = None,
    batch_norm: bool = False,
    dropout: float = 0.0,
    l2: float = 0.0,
    initializer: Any = "glorot_uniform",
    activation: str = "tanh",
) -> keras.Model:
    """LeCun et al.'s LeNet-5 as it is built today: 6 and 16 filters of 5 x 5, 120 and 84 units.

    61,706 parameters. LeCun et al. publish 60,000. Their second convolution sees some of the maps
    only (900 weights less), their poolings have weights (44), and their outputs compare with fixed
    patterns (850 less). Images smaller than 32 x 32 are padded, as theirs were.

    Args:
        classes, input_shape, weights: see `build`; images are 12 x 12 at least.
        batch_norm: after each convolution.
        dropout: the rate after each convolution and its pooling.
        l2, initializer: the factor of a penalty on kernels, and what these start from.
        activation: `"tanh"`, theirs but for a factor; or `"relu"`.

    Example:

    >>> lenet_5_1998().count_params()
    61706
    >>> lenet_5_1998(input_shape=(32, 32, 1)).count_params()
    61706
    """
    if activation not in ("tanh", "relu"):
        raise OptionError(f"activation: expected 'tanh' or 'relu', received: {activation!r}")
    style = Style(batch_norm, True, dropout, l2, initializer, activation)
    image = image_input(input_shape, 12, free=False)
    padding = "same" if min(image.shape[1:3]) < 32 else "valid"
    x = style.conv(image, 6, 5, "conv1", padding=padding)
    x = style.dropped(layers.AveragePooling2D(2, name="pool1")(x), "dropout1")
    x = style.conv(x, 16, 5, "conv2", padding="valid")
    x = style.dropped(layers.AveragePooling2D(2, name="pool2")(x), "dropout2")
    x = layers.Flatten(name="flatten")(x)
    for i, units in enumerate((120, 84), start=1):
        x = style.dense(x, units, f"hidden{i}", norm=False)
    return finished("lenet_5_1998", image, x, classes, weights, style)


def mnist_cnn(
    classes: int = 10,
    input_shape: Shape = (28, 28, 1),
    weights: Weights = None,
    filters: Sequence[int] = (16, 32, 64),
    units: int = 128,
    batch_norm: bool = False,
    l2: float = 0.0,
    initializer: Any = "torch",
) -> keras.Model:
    """A plain CNN for MNIST, as in Table 1 of the IPLT paper.

    The paper says of its own that they "construct [it] randomly", and prints neither layers nor
    counts: this one, convolutions of 3 x 3 with a hidden layer behind them, stands for it. Its
    kernels start as PyTorch's do, since the paper ranks the filters of all layers by their norms.

    Args:
        classes, input_shape, weights: see `build`; images are 4 x 4 at least.
        filters: the numbers of filters of the three convolutions; the first two are followed by
            pooling.
        units: the number of units of the hidden layer.
        batch_norm: after each convolution.
        l2, initializer: the factor of a penalty on kernels, and what these start from.

    Example:

    >>> mnist_cnn().count_params()
    426122
    """
    style = Style(batch_norm, l2=l2, initializer=initializer)
    image = image_input(input_shape, 4, free=False)
    x = image
    for i, count in enumerate(check_counts("filters", filters, 3), start=1):
        x = style.conv(x, count, 3, f"conv{i}")
        if i < 3:
            x = layers.MaxPooling2D(name=f"pool{i}")(x)
    (units,) = check_counts("units", [units])
    x = style.dense(layers.Flatten(name="flatten")(x), units, "hidden", norm=False)
    return finished("mnist_cnn", image, x, classes, weights, style)
