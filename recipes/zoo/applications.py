"""Networks of `keras.applications`, with ImageNet weights if wanted, and with a new head.

ImageNet's weights expect images that went through the `preprocess_input` of their module in
`keras.applications`.
"""

import functools
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from keras_iplt.errors import OptionError
from keras_iplt.support.arguments import check_count, check_share, is_real

from .building_blocks import Shape, Style, Weights, check_counts, finished, image_input
from .pretrained import load

__all__ = ["densenet121", "inception_v3", "mobilenet", "resnet50", "vgg16_imagenet"]


def mobilenet(
    classes: int = 10,
    input_shape: Shape = (224, 224, 3),
    weights: Weights = None,
    hidden: Sequence[int] | None = (512,),
    alpha: float = 1.0,
    dropout: float = 1e-3,
) -> keras.Model:
    """MobileNetV1, by default with the head of Hubens et al.

    3,758,794 parameters and 24.2320 M FLOPs for 32 x 32 images of 10 classes, 1,136.586 M for
    224 x 224 of 101, as Hubens et al. publish. Its own head gives 4,253,864 for 1,000 classes.

    Args:
        classes, input_shape, weights: see `build`; images are 32 x 32 at least.
        hidden: units of the dense layers between global average pooling and the outputs; None for
            the head that the network was published with (with which ImageNet's weights come whole
            if there are 1,000 classes).
        alpha: the share of the filters; ImageNet has weights of 0.25, 0.5, 0.75 and 1.
        dropout: the rate in its own head.

    Example:

    >>> mobilenet(input_shape=(32, 32, 3), alpha=0.25).count_params()
    355258
    """
    check_share("dropout", dropout)
    if not is_real(alpha) or int(8 * alpha) < 1:
        raise OptionError(f"alpha: expected a number of at least 0.125, received: {alpha!r}")
    if isinstance(weights, str) and weights == "imagenet" and alpha not in (0.25, 0.5, 0.75, 1):
        raise OptionError(
            f"alpha: ImageNet has weights of 0.25, 0.5, 0.75 and 1, received: {alpha!r}"
        )

    def head(x: Any) -> Any:
        x = layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
        x = layers.Dropout(dropout, name="dropout")(x)
        x = layers.Conv2D(classes, 1, padding="same", name="head", dtype=keras.config.floatx())(x)
        return layers.Reshape((classes,), name="logits")(x)

    make = functools.partial(keras.applications.MobileNet, alpha=alpha, dropout=dropout)
    sizes = [(side, side) for side in (128, 160, 192)]
    return _network(
        "mobilenet", make, 32, classes, input_shape, weights, hidden, head, sizes=sizes
    )  # fmt: skip


def vgg16_imagenet(
    classes: int = 10,
    input_shape: Shape = (224, 224, 3),
    weights: Weights = None,
    hidden: Sequence[int] | None = None,
) -> keras.Model:
    """VGG-16 of Simonyan and Zisserman, with two dense layers of 4,096 units.

    138,357,544 parameters (published: 138 M) and 1.55e10 multiply-adds for 1,000 classes of
    224 x 224.

    Args:
        classes, input_shape, weights: see `build`; images are 32 x 32 at least.
        hidden: None for its own head; else units of the dense layers between global average
            pooling and the outputs.

    Example: a head without hidden layers.

    >>> vgg16_imagenet(input_shape=(32, 32, 3), hidden=()).count_params()
    14719818
    """

    def head(x: Any) -> Any:
        if None in x.shape[1:]:
            raise OptionError(
                "input_shape: the head of this network needs images of one size, received: "
                f"{input_shape!r}; give hidden=() for global average pooling"
            )
        x = layers.Flatten(name="flatten")(x)
        for name in ("fc1", "fc2"):
            x = layers.Dense(4096, "relu", name=name)(x)
        return layers.Dense(classes, name="head", dtype=keras.config.floatx())(x)

    make = keras.applications.VGG16
    return _network("vgg16_imagenet", make, 32, classes, input_shape, weights, hidden, head)


def resnet50(
    classes: int = 10,
    input_shape: Shape = (224, 224, 3),
    weights: Weights = None,
    hidden: Sequence[int] | None = None,
) -> keras.Model:
    """ResNet-50 of He et al.

    25,636,712 parameters and 3.86e9 multiply-adds (published: 3.8e9) for 1,000 classes of
    224 x 224.

    Args:
        classes, input_shape, weights: see `build`; images are 32 x 32 at least.
        hidden: None for its own head, global average pooling and one dense layer; or units of
            dense layers between the two.
    """
    make = keras.applications.ResNet50
    return _network("resnet50", make, 32, classes, input_shape, weights, hidden)


def inception_v3(
    classes: int = 10,
    input_shape: Shape = (299, 299, 3),
    weights: Weights = None,
    hidden: Sequence[int] | None = None,
) -> keras.Model:
    """InceptionV3 of Szegedy et al.

    23,851,784 parameters (published: less than 25 M) and 5.71e9 multiply-adds (published: 5
    billion) for 1,000 classes of 299 x 299.

    Its convolutions are named by the scheme of TF-slim, with underscores: what Zuo et al. call
    `Mixed_6b/Branch_0/Conv2d_0a_1x1` is `Mixed_6b_Branch_0_Conv2d_0a_1x1`, the 31st of 94.

    Args:
        classes, input_shape, weights: see `build`; images are 75 x 75 at least.
        hidden: None for its own head, global average pooling and one dense layer; or units of
            dense layers between the two.
    """
    make = keras.applications.InceptionV3
    return _network("inception_v3", make, 75, classes, input_shape, weights, hidden, name=_slim)


def densenet121(
    classes: int = 10,
    input_shape: Shape = (224, 224, 3),
    weights: Weights = None,
    hidden: Sequence[int] | None = None,
) -> keras.Model:
    """DenseNet-121 of Huang et al.

    8,062,504 parameters and 2.83e9 multiply-adds for 1,000 classes of 224 x 224.

    Args:
        classes, input_shape, weights: see `build`; images are 32 x 32 at least.
        hidden: None for its own head, global average pooling and one dense layer; or units of
            dense layers between the two.
    """
    make = keras.applications.DenseNet121
    return _network("densenet121", make, 32, classes, input_shape, weights, hidden)


def _network(
    kind: str, make: Callable[..., keras.Model], least: int, classes: int, input_shape: Shape,
    weights: Weights, hidden: Sequence[int] | None, own_head: Callable[[Any], Any] | None = None,
    name: Callable[[keras.Model], keras.Model] | None = None, sizes: Sequence[tuple[int, int]] = (),
) -> keras.Model:  # fmt: skip
    """A backbone of `keras.applications` and a head.

    Args:
        kind: the name of the model.
        make: the function of `keras.applications`.
        least: the smallest size that it takes.
        own_head: what the network was published with, if not pooling and a dense layer.
        name: a function that gives the layers of the backbone better names.
        sizes: heights and widths that ImageNet has weights of their own for.
    """
    check_count("classes", classes)
    whole = hidden is None and classes == 1000
    own_head = own_head if hidden is None else None
    units = check_counts("hidden", () if hidden is None else hidden)
    image = image_input(input_shape, least)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This model usually expects 1 or 3 input channels")
        inner = make(
            include_top=False, weights=None, input_tensor=image, input_shape=image.shape[1:]
        )  # fmt: skip
    if name is not None:
        inner = name(inner)
    image, x = inner.inputs[0], inner.outputs[0]
    if own_head is not None:
        model = keras.Model(image, own_head(x), name=kind)
    else:
        x, style = layers.GlobalAveragePooling2D(name="pool")(x), Style()
        for i, count in enumerate(units, start=1):
            x = style.dense(x, count, f"hidden{i}" if len(units) > 1 else "hidden")
        model = finished(kind, image, x, classes, None, style)
    size = image.shape[1:3] if image.shape[1:3] in sizes else None
    return load(model, inner, weights, lambda: _imagenet(make, whole, size))


def _imagenet(
    make: Callable[..., keras.Model], whole: bool, size: tuple[int, int] | None
) -> keras.Model:
    """The network with ImageNet's weights: with its classifier, which is for one size, or without.

    Args:
        make: the function of `keras.applications`.
        whole: whether the classifier is wanted.
        size: height and width, where weights differ by that; else None.
    """
    if whole:
        return make(weights="imagenet")
    return make(include_top=False, weights="imagenet", input_shape=size and (*size, 3))


# -- names of InceptionV3's layers --

STEM = "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 Conv2d_3b_1x1 Conv2d_4a_3x3"
EARLY = "0:0a_1x1 1:0a_1x1 1:0b_5x5 2:0a_1x1 2:0b_3x3 2:0c_3x3 3:0b_1x1"
MIDDLE = "0:0a_1x1 1:0a_1x1 1:0b_1x7 1:0c_7x1 2:0a_1x1 2:0b_7x1 2:0c_1x7 2:0d_7x1 2:0e_1x7 3:0b_1x1"
LATE = "0:0a_1x1 1:0a_1x1 1:0b_1x3 1:0b_3x1 2:0a_1x1 2:0b_3x3 2:0c_1x3 2:0d_3x1 3:0b_1x1"
MIXED = {
    **dict.fromkeys(("5b", "5c", "5d"), EARLY),
    "6a": "0:1a_3x3 1:0a_1x1 1:0b_3x3 1:1a_3x3",
    **dict.fromkeys(("6b", "6c", "6d", "6e"), MIDDLE),
    "7a": "0:0a_1x1 0:1a_3x3 1:0a_1x1 1:0b_1x7 1:0c_7x1 1:1a_3x3",
    **dict.fromkeys(("7b", "7c"), LATE),
}


def slim_names() -> list[str]:
    """The names of InceptionV3's convolutions in the order in which Keras makes them.

    >>> len(slim_names()), slim_names()[30]
    (94, 'Mixed_6b_Branch_0_Conv2d_0a_1x1')
    """
    found = STEM.split()
    for module, convolutions in MIXED.items():
        for branch, name in (text.split(":") for text in convolutions.split()):
            found.append(f"Mixed_{module}_Branch_{branch}_Conv2d_{name}")
    return found


def _slim(model: keras.Model) -> keras.Model:
    """The model with TF-slim's names, the same ones whenever it is made.

    Keras's own count up from model to model.
    """
    names: dict[str, str] = {}
    for kind, new in (
        (layers.Conv2D, slim_names()),
        (layers.BatchNormalization, [f"{name}_norm" for name in slim_names()]),
        (layers.Activation, [f"{name}_relu" for name in slim_names()]),
        (layers.MaxPooling2D, [f"max_pool{i}" for i in range(1, 5)]),
        (layers.AveragePooling2D, [f"average_pool{i}" for i in range(1, 10)]),
    ):
        made = sorted((x for x in model.layers if type(x) is kind), key=_counted)
        names.update((layer.name, name) for layer, name in zip(made, new, strict=True))
    unnamed = (x for x in model.layers if x.name.startswith("concatenate"))
    for i, layer in enumerate(sorted(unnamed, key=_counted)):
        names[layer.name] = f"mixed9_{i}_double"

    def renamed(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        return type(layer).from_config({**config, "name": names.get(layer.name, layer.name)})

    return keras.models.clone_model(model, clone_function=renamed)


def _counted(layer: keras.Layer) -> int:
    """The number that Keras put behind a name: 0 of `conv2d`, 1 of `conv2d_1`."""
    found = re.search(r"_(\d+)$", layer.name)
    return int(found[1]) if found else 0
