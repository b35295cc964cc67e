"""Models of other precisions in float32."""

from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.graph.cloning import cloned

__all__ = ["in_float32", "precisions_of"]


def precisions_of(model: keras.Model) -> set[str]:
    """The types that the layers of a model compute in or keep their weights in."""
    return {
        str(dtype)
        for layer in private.all_layers(model)
        for dtype in (layer.dtype_policy.compute_dtype, layer.dtype_policy.variable_dtype)
        if dtype
    }


def in_float32(model: keras.Model) -> keras.Model:
    """The model itself if it computes in float32, else a copy that does, with the same weights.

    What computes in float16 on a GPU trains faster there; phones get float32, and how small it is
    to be is said by the precision of the export.
    """
    if not precisions_of(model) & {"float16", "bfloat16", "float64"}:
        return model
    copy = cloned(model, lambda layer: type(layer).from_config(_plain(layer.get_config())))
    copy.set_weights(model.get_weights())
    return copy


def _plain(config: Any) -> Any:
    """The config with float32 wherever it names a policy, in inner layers too."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return "float32"
        return {
            key: "float32" if key == "dtype" and isinstance(x, str) else _plain(x)
            for key, x in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(map(_plain, config))
    if isinstance(config, keras.DTypePolicy) and not hasattr(config, "mode"):
        return keras.DTypePolicy("float32")
    return config
