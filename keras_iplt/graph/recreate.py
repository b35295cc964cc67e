"""Making a layer again from its config, smaller or not."""

import inspect
import types
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError
from keras_iplt.graph.classes import class_with
from keras_iplt.graph.slices import numbers_of
from keras_iplt.graph.walk import is_graph_model

__all__ = [
    "config_of",
    "forgotten",
    "from_config",
    "is_custom",
    "model_class",
    "recreate",
    "with_values",
]


def is_custom(layer: keras.Layer) -> bool:
    """Whether a layer's class is not one of Keras's own."""
    return not private.is_keras_layer(layer)


def config_of(layer: keras.Layer) -> dict[str, Any]:
    """A layer's config, without the warning that a lambda in it is unsafe in a file.

    No file is written here. A variable in it, which took the place of the number that it was made
    from, is that number again: two layers must not share it."""
    config = _own_config(layer)
    return {
        name: numbers_of(x) if isinstance(x, keras.Variable) else x for name, x in config.items()
    }


def _own_config(layer: keras.Layer) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*includes a `lambda`", UserWarning)
        try:
            return layer.get_config()
        except NotImplementedError:
            if is_custom(layer) or type(layer).get_config is not keras.Layer.get_config:
                raise
            # Add, Identity … made with a DTypePolicy cannot write themselves down (Keras 3.15).
            policy = keras.dtype_policies.serialize(layer.dtype_policy)
            return {"name": layer.name, "trainable": layer.trainable, "dtype": policy}
        except Exception:  # code of others, that asks for attributes which are not there, say
            return _arguments_held(layer)


def _arguments_held(layer: keras.Layer) -> dict[str, Any]:
    """The arguments of a layer's constructor, which it holds under their own names.

    Raises the error of its `get_config` if one is missing."""
    config = {"name": layer.name, "trainable": layer.trainable, "dtype": layer.dtype_policy}
    for one in [*inspect.signature(type(layer).__init__).parameters.values()][1:]:
        if one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL):
            continue
        if hasattr(layer, one.name):
            config[one.name] = getattr(layer, one.name)
        elif one.default is one.empty:
            layer.get_config()
    return config


def forgotten(layer: keras.Layer) -> dict[str, Any]:
    """The arguments of a layer's constructor that its config lacks and the layer itself holds.

    Under their own names, where they are not the defaults."""
    if private.is_keras_layer(layer) or not private.is_from_keras(type(layer).from_config):
        return {}
    config, held = config_of(layer), vars(layer)
    return {
        name: held[name]
        for name, one in inspect.signature(type(layer).__init__).parameters.items()
        if name not in config
        and isinstance(held.get(name), (str, int, float, tuple))
        and held[name] != one.default
    }


def recreate(
    layer: keras.Layer,
    changes: dict[str, Any] | None = None,
    shared: Mapping[int, keras.Layer] = types.MappingProxyType({}),
) -> keras.Layer:
    """A new layer of the same class (but see `class_with`) and config, but for `changes`.

    Args:
        layer: the layer. It stays as it is.
        changes: entries of its config.
        shared: by id(layer inside), the layers to take instead of making those anew.
    """
    if type(layer) is keras.layers.Lambda:  # its config would carry code as text
        return keras.layers.Lambda(
            layer.function,
            output_shape=private.lambda_output_shape(layer),
            mask=layer.mask,
            arguments=layer.arguments,
            name=layer.name,
            dtype=layer.dtype_policy,
        )
    try:
        with private.shared_objects(shared):
            config = config_of(layer)
        config = forgotten(layer) | config
        config |= {name: getattr(layer, name) for name in config if _goes_along(layer, name)}
        with private.shared_objects(shared):
            return from_config(class_with(layer, changes or ()), {**config, **(changes or {})})
    except Exception as error:
        raise ModelError(
            f"layer {layer.name!r} ({type(layer).__name__}) cannot be recreated from its config: "
            f"{type(error).__name__}: {error}. Implement get_config and from_config so that "
            "they round-trip"
        ) from error


def with_values(layer: keras.Layer, values: Iterable[tuple[keras.Variable, Any]]) -> keras.Layer:
    """A copy of a layer in which some variables have other values.

    Args:
        layer: the layer. It stays as it is.
        values: pairs of a variable of it and what it is to be.
    """
    copy = recreate(layer)
    if layer.built and not copy.built:
        copy.build_from_config(layer.get_build_config())
    changed = {id(variable): value for variable, value in values}
    for old, new in zip(layer.variables, copy.variables, strict=True):
        # As numbers of its own: JAX would share the memory, and give it away in training.
        new.assign(np.array(numbers_of(changed.get(id(old), old))))
    return copy


def _goes_along(layer: keras.Layer, name: str) -> bool:
    """Whether what an entry of the config says goes along as it is.
    Functions do, whose code is not in it, and regularisers and constraints of others, which need
    not be registered."""
    value = getattr(layer, name, None)
    return isinstance(value, types.FunctionType) or (
        name.endswith(("_regularizer", "_constraint"))
        and value is not None
        and not private.is_from_keras(value)
    )


def from_config(kind: type[keras.Layer], config: dict[str, Any]) -> keras.Layer:
    """A layer of a config, or of those entries of it that the layer's class takes."""
    try:
        return kind.from_config(config)
    except TypeError:
        taken = {"name", "trainable", "dtype", *inspect.signature(kind.__init__).parameters}
        return kind.from_config({name: x for name, x in config.items() if name in taken})


def model_class(model: keras.Layer) -> type[keras.Model]:
    """The class for the new model: a subclass that is made from inputs and outputs is kept."""
    kind = type(model)
    if is_graph_model(model) and not isinstance(model, keras.Sequential):
        plain = inspect.signature(private.Functional.__init__).parameters
        if list(inspect.signature(kind.__init__).parameters) == list(plain):
            return kind
    return keras.Model
