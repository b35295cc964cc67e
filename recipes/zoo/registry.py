"""Networks by name."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import keras

from keras_iplt.errors import OptionError

from . import applications, densenet, inception, lenet, resnet, vgg
from .building_blocks import Shape, Weights

__all__ = ["build", "names"]

NETWORKS: dict[str, Callable[..., keras.Model]] = {
    name: getattr(module, name)
    for module in (lenet, vgg, resnet, inception, densenet, applications)
    for name in module.__all__
}


def names() -> list[str]:
    """The names that `build` knows.

    Returns:
        A list of strings.

    Example:

    >>> names()[:3]
    ['lenet_300_100', 'lenet_5', 'lenet_5_1998']
    """
    return list(NETWORKS)


def build(
    name: str, input_shape: Shape | None = None, classes: int = 10, weights: Weights = None,
    **options: Any,
) -> keras.Model:  # fmt: skip
    """A network by its name.

    Args:
        name: one of `names()`, also as papers spell it: `"LeNet-300-100"`.
        input_shape: height, width and channels; by default what the network was made for.
        classes: how many there are.
        weights: None for a fresh start; the path of a `.weights.h5` or `.keras` file, whose head
            may be another; or `"imagenet"`, for networks of `keras.applications`.
        **options: what else the function of that name takes.

    Returns:
        A `keras.Model` whose outputs are logits.

    Example:

    >>> build("LeNet-5", (32, 32, 3), classes=100, batch_norm=True).output_shape
    (None, 100)
    """
    network = NETWORKS[_known("network", _plain(name), NETWORKS, name)]
    known = list(inspect.signature(network).parameters)
    for option in options:
        _known(f"option of {network.__name__}", option, known, option)
    if input_shape is not None:
        options["input_shape"] = input_shape
    return network(classes=classes, weights=weights, **options)


def _plain(name: Any) -> Any:
    return name.lower().replace("-", "_").replace(" ", "_") if isinstance(name, str) else name


def _known(what: str, key: Any, keys: Iterable[str], received: Any) -> str:
    """The key, if it is one of these; else an error with those that are like it."""
    if isinstance(key, str) and key in keys:
        return key
    close = difflib.get_close_matches(str(key), keys, 3) or list(keys)
    raise OptionError(f"there is no {what} {received!r}. Close to it: {', '.join(close)}")
