"""Models and examples, as the options of a command name them."""

import argparse
import importlib
import math
import os
import pathlib
import sys
from collections.abc import Sequence

import keras

from keras_iplt.errors import DataError, ModelError, OptionError
from keras_iplt.support.models import last_activation
from keras_iplt.support.text import reason_of
from keras_iplt_cli import loading
from keras_iplt_cli.talk import say

__all__ = ["compiled", "examples", "figures_of", "in_words", "labelled", "loaded"]


def loaded(options: argparse.Namespace, path: pathlib.Path, compile: bool = False) -> keras.Model:
    """A model from a .keras file."""
    for name in options.modules:
        _import(name)
    try:
        return loading.load_model(path, unsafe=options.unsafe, compile=compile)
    except ModelError as error:
        if not compile:
            raise
        model = loading.load_model(path, unsafe=options.unsafe, compile=False)
        say(f"left uncompiled, since what it was compiled with cannot be loaded: {error}")
        return model


def labelled(options: argparse.Namespace) -> loading.Examples:
    """Examples with labels, of a command that does not go without."""
    found = examples(options)
    assert found is not None  # the parser sees to it
    if found.y is None:
        raise DataError(f"{options.data}: expected labels as well as {found.names[0]!r}")
    return found


def examples(options: argparse.Namespace) -> loading.Examples | None:
    """Examples from the file that `--data` names, or None."""
    if options.data is None:
        return None
    found = loading.load_examples(options.data, options.take)
    shapes = ", ".join(
        f"{name} {array.shape}"
        for name, array in zip(found.names, (found.x, found.y), strict=False)
        if array is not None
    )
    say(f"data: {shapes} of {options.data}")
    if found.x.dtype.kind in "iu":
        say(
            f"{found.names[0]!r} holds integers up to {found.x.max()}, which go in as they are; if "
            "the model was trained on scaled ones, put these into the file"
        )
    return found


def compiled(model: keras.Model, found: loading.Examples) -> keras.Model:
    """The model, compiled by what its outputs and the labels suggest unless it is already."""
    if getattr(model, "compiled", False) or found.y is None:
        return model
    if len(model.outputs) != 1:
        raise ModelError(
            f"model {model.name!r} has {len(model.outputs)} outputs and is not compiled: compile "
            "it with the loss of each before saving it"
        )
    units, y = model.outputs[0].shape[-1], found.y
    activation = last_activation(model.outputs[0])
    logits = {"from_logits": activation not in ("softmax", "sigmoid")}
    one_each = y.ndim == 1 or y.shape[-1] == 1
    if one_each and units == 1 and set(y.ravel()[:1000].tolist()) <= {0, 1}:
        loss = keras.losses.BinaryCrossentropy(**logits)
    elif (
        one_each and y.dtype.kind in "biu" and units is not None and 0 <= y.min() <= y.max() < units
    ):
        loss = keras.losses.SparseCategoricalCrossentropy(**logits)
    elif y.ndim == 2 and y.shape[-1] == units and activation == "sigmoid":
        loss = keras.losses.BinaryCrossentropy(**logits)
    elif y.ndim == 2 and y.shape[-1] == units:
        loss = keras.losses.CategoricalCrossentropy(**logits)
    else:
        raise DataError(
            f"model {model.name!r} is not compiled, and its loss cannot be guessed from labels of "
            f"shape {y.shape}, {y.dtype}, between {y.min()} and {y.max()}, for outputs of shape "
            f"{tuple(model.outputs[0].shape)}: compile it before saving it"
        )
    model.compile(loss=loss, metrics=["accuracy"])
    say(
        f"{model.name} is not compiled: taking {type(loss).__name__} of "
        f"{'logits' if logits['from_logits'] else 'probabilities'}, and accuracy"
    )
    return model


def figures_of(
    models: Sequence[keras.Model], found: loading.Examples | None
) -> dict[str, list[float]]:
    """Loss and metrics of models on the examples; nothing where these do not tell."""
    if found is None or found.y is None:
        return {}
    try:
        each = [
            compiled(model, found).evaluate(found.x, found.y, return_dict=True, verbose=0)
            for model in models
        ]
    except Exception as error:  # whatever layers and losses raise
        say(f"not measured on the examples: {reason_of(error)}")
        return {}
    return {name: [values.get(name, math.nan) for values in each] for name in each[0]}


def in_words(figures: dict[str, list[float]], found: loading.Examples | None) -> list[str]:
    """What `figures_of` returned, as a line; none where it is nothing."""
    if found is None or not figures:
        return []
    said = (f"{name} {' -> '.join(f'{x:.4f}' for x in xs)}" for name, xs in figures.items())
    return [f"on {len(found.x):,} examples: {', '.join(said)}"]


def _import(name: str) -> None:
    """Imports a module of the user, from where the command was given as well."""
    if name.endswith(".py") or os.sep in name:
        hint = os.path.splitext(name)[0].strip("./").replace(os.sep, ".")
        raise OptionError(f"--import: expected the name of a module, such as {hint}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever a module of the user does
        raise OptionError(f"--import {name}: {type(error).__name__}: {error}") from error
