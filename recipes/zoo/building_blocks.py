"""What the networks are made of: inputs that are checked, and layers in one style."""

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
from keras import layers

from keras_iplt.errors import OptionError
from keras_iplt.support.arguments import check_count, check_share, is_real

from .pretrained import load

__all__ = [
    "Shape", "Style", "Weights", "check_counts", "finished", "image_input", "initializer_of",
]  # fmt: skip

Shape: TypeAlias = Sequence[int | None]  # height, width and channels
Weights: TypeAlias = "str | os.PathLike[str] | None"  # a path, "imagenet", or none


def image_input(input_shape: Shape, least: int, free: bool = True) -> Any:
    """The input of a network, called `image`.

    Args:
        input_shape: height, width and channels.
        least: the smallest height and width that the network can take.
        free: whether height and width may be None, for images of any size.

    Returns:
        A `KerasTensor`.
    """
    if keras.config.image_data_format() != "channels_last":
        raise OptionError(
            "the networks of the zoo have their channels last, and Keras is set to "
            f"{keras.config.image_data_format()!r}: call "
            "keras.config.set_image_data_format('channels_last')"
        )
    try:
        height, width, channels = input_shape
        sides = [_side(x, free) for x in (height, width)]
        depth = int(_side(channels, free=False))
    except (TypeError, ValueError) as error:
        raise OptionError(
            "input_shape: expected (height, width, channels), positive whole numbers"
            f"{', height and width may be None' if free else ''}, received: {input_shape!r}"
        ) from error
    if min(sides) < least:
        raise OptionError(
            f"input_shape: the network needs images of at least {least} x {least}, received: "
            f"{input_shape!r}; enlarge the images, or take a network with less pooling"
        )
    return keras.Input((height, width, depth), name="image")


def _side(value: Any, free: bool) -> float:
    if value is None and free:
        return math.inf
    return check_count("side", value)


def check_counts(name: str, values: Any, length: int | None = None) -> tuple[int, ...]:
    """`values` as a tuple, if they are positive integers (and as many as there should be)."""
    expected = "positive integers" if length is None else f"{length} positive integers"
    problem = OptionError(f"{name}: expected {expected}, received: {values!r}")
    try:
        counts = tuple(check_count(name, value) for value in values)
    except (TypeError, OptionError) as error:
        raise problem from error
    if length not in (None, len(counts)):
        raise problem
    return counts


def initializer_of(initializer: Any) -> Any:
    """What kernels start from.

    Args:
        initializer: `"torch"`, PyTorch's start: uniform between ±1/sqrt(inputs of a filter), which
            gives all filters of a network about the same norm, as a global ranking by norms needs;
            or whatever Keras takes, such as `"glorot_uniform"`, `"he_normal"` or an object.

    Returns:
        A new `keras.initializers.Initializer`.

    Example:

    >>> initializer_of("torch").scale
    0.3333333333333333
    """
    if isinstance(initializer, str) and initializer == "torch":
        # Keras draws up to sqrt(3 * scale / inputs).
        return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    problem = OptionError(
        "initializer: expected 'torch' or an initializer of Keras, such as 'he_normal', received: "
        f"{initializer!r}"
    )
    try:
        found = keras.initializers.get(initializer)
    except (TypeError, ValueError) as error:
        raise problem from error
    if not callable(found):
        raise problem
    # One object draws the same numbers for each kernel of the same shape.
    return found.clone() if isinstance(found, keras.initializers.Initializer) else found


@dataclasses.dataclass(frozen=True)
class Style:
    """What all layers of a network have in common.

    Args:
        batch_norm: batch norm between a layer and its activation.
        bias: whether layers before a batch norm have one.
        dropout: the rate, where the network has dropout.
        l2: the factor of an L2 penalty on kernels, 0 for none.
        initializer: what kernels start from, see `initializer_of`.
        activation: the name of that of all layers but the head.
    """

    batch_norm: bool = False
    bias: bool = True
    dropout: float = 0.0
    l2: float = 0.0
    initializer: Any = "glorot_uniform"
    activation: str = "relu"

    def __post_init__(self) -> None:
        check_share("dropout", self.dropout)
        if not is_real(self.l2) or not self.l2 >= 0:
            raise OptionError(f"l2: expected a number of at least 0, received: {self.l2!r}")
        initializer_of(self.initializer)

    def kernel(self, bias: bool = True) -> dict[str, Any]:
        """The arguments of a layer about its weights."""
        return {
            "use_bias": bias,
            "kernel_initializer": initializer_of(self.initializer),
            "kernel_regularizer": keras.regularizers.L2(self.l2) if self.l2 else None,
        }

    def norm(self, x: Any, name: str) -> Any:
        """Batch norm, as PyTorch sets it.

        Keras's own forgets its start too slowly for the few epochs that pruning while training
        takes.
        """
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)

    def activated(self, x: Any, name: str) -> Any:
        """A batch norm, if there are any, and the activation."""
        x = self.norm(x, f"{name}_norm") if self.batch_norm else x
        return layers.Activation(self.activation, name=f"{name}_{self.activation}")(x)

    def conv(
        self, x: Any, filters: int, size: int, name: str, padding: str = "same", strides: int = 1
    ) -> Any:
        """A convolution and what follows it."""
        kernel = self.kernel(self.bias or not self.batch_norm)
        x = layers.Conv2D(filters, size, strides, padding=padding, name=name, **kernel)(x)
        return self.activated(x, name)

    def dense(self, x: Any, units: int, name: str, norm: bool = True) -> Any:
        """A hidden dense layer and what follows it."""
        style = self if norm else dataclasses.replace(self, batch_norm=False)
        kernel = style.kernel(style.bias or not style.batch_norm)
        return style.activated(layers.Dense(units, name=name, **kernel)(x), name)

    def dropped(self, x: Any, name: str, rate: float | None = None) -> Any:
        """Dropout, where there is any."""
        rate = self.dropout if rate is None else rate
        return layers.Dropout(rate, name=name)(x) if rate else x


def finished(
    name: str, image: Any, features: Any, classes: int, weights: Weights, style: Style
) -> keras.Model:
    """The model: a head on what a network makes of an image, and the weights asked for.

    Args:
        name: the name of the model.
        image, features: where it begins, and what the head looks at.
        classes: how many logits there are.
        weights: None or a path, see `recipes.zoo.pretrained.load`.
        style: how the head is made.

    Returns:
        A `keras.Model`.
    """
    # Logits in full precision, also where layers compute in half.
    precise = {"dtype": keras.config.floatx(), "name": "head"}
    head = layers.Dense(check_count("classes", classes), **precise, **style.kernel())
    model = keras.Model(image, head(features), name=name)
    return load(model, keras.Model(image, features, name=f"{name}_inner"), weights)
