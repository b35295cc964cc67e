"""Pretrained weights: from a file, or from the ImageNet weights that Keras offers."""

import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import keras

from keras_iplt.errors import OptionError, WeightsError
from keras_iplt.support.text import reason_of

__all__ = ["IMAGENET", "load"]

# Networks that Keras has weights for.
IMAGENET = (
    "vgg16_hubens", "vgg16_imagenet", "resnet50", "inception_v3", "densenet121", "mobilenet"
)  # fmt: skip


def load(
    model: keras.Model, inner: keras.Model, weights: Any,
    download: Callable[[], keras.Model] | None = None,
) -> keras.Model:  # fmt: skip
    """Gives a new model its weights.

    A file may come from the very same network, or from one with another head, or none: then the
    head stays as it is, new. What comes before the head has to fit.

    Args:
        model: the model; its weights are replaced.
        inner: a model of the same layers without the head.
        weights: None for none, `"imagenet"`, or the path of a `.weights.h5` or `.keras` file (or
            of an `.h5` file as Keras downloads them).
        download: a function without arguments that returns a model whose weights are those of
            the first layers of `model`; None if there are no ImageNet weights.

    Returns:
        The model.
    """
    if weights is None:
        return model
    if isinstance(weights, str) and weights == "imagenet":
        return _load_imagenet(model, download)
    try:
        path = pathlib.Path(os.fspath(weights))
    except TypeError as error:
        raise OptionError(
            f"weights: expected None, 'imagenet' or a path, received: {weights!r}"
        ) from error
    if not path.is_file():
        raise WeightsError(
            f"weights: there is no file {str(path)!r}; expected None, 'imagenet' or the path of a "
            ".weights.h5 or .keras file"
        )
    if path.suffix not in (".h5", ".keras"):
        raise WeightsError(
            f"weights: expected a .weights.h5, .h5 or .keras file, received: {str(path)!r}"
        )
    return _load_file(model, inner, path)


def _load_file(model: keras.Model, inner: keras.Model, path: pathlib.Path) -> keras.Model:
    known = {id(variable) for variable in inner.weights}
    head = [variable for variable in model.weights if id(variable) not in known]
    fresh = [keras.ops.convert_to_numpy(variable) for variable in head]
    try:
        _read(inner, path)
    except Exception as error:  # of Keras, h5py or zipfile: a file may be anything
        raise WeightsError(
            f"weights: {str(path)!r} does not fit {model.name!r} with inputs of shape "
            f"{model.input_shape[1:]}: {reason_of(error)}"
        ) from error
    try:
        _read(model, path)
    except Exception:  # another head, or none
        for variable, value in zip(head, fresh, strict=True):
            variable.assign(value)
    return model


def _read(model: keras.Model, path: pathlib.Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of optimizers and of what else a file may hold
        model.load_weights(path)


def _load_imagenet(model: keras.Model, download: Callable[[], keras.Model] | None) -> keras.Model:
    if download is None:
        raise OptionError(
            f"weights: there are no ImageNet weights of {model.name!r}, only of "
            f"{', '.join(IMAGENET)}; expected None or a path"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MobileNet's, of sizes that it was not trained with
            pretrained = download()
    except Exception as error:  # Keras raises a bare Exception offline
        raise WeightsError(
            f"the ImageNet weights of {model.name!r} are not in Keras's cache (models/ in "
            f"{_cache()}) and cannot be downloaded: {reason_of(error)}. Fetch the file on a "
            "machine with a network, and put it there or give its path as weights="
        ) from error
    theirs, ours = ([x for x in m.layers if x.weights] for m in (pretrained, model))
    for layer, own in zip(theirs, ours, strict=False):  # ours may have a head more
        values = layer.get_weights()
        found, expected = ([w.shape for w in x] for x in (values, own.get_weights()))
        if found != expected:
            raise WeightsError(
                f"weights: layer {own.name!r} of {model.name!r} has weights of shape {expected}, "
                f"those of ImageNet have {found}. They are for 3 channels"
                + (", and the classifier for 224 x 224" if layer in theirs[-3:] else "")
            )
        own.set_weights(values)
    return model


def _cache() -> str:
    return os.environ.get("KERAS_HOME") or os.path.join("~", ".keras")
