"""A layer around another one, which it is called, built and saved like."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras

from keras_iplt import _keras as private

__all__ = ["Around"]


class Around(keras.layers.Wrapper):
    """Base of wrappers that take and give what the layer in them takes and gives.

    Args:
        layer: any layer, built or not.
        **kwargs: of the Keras layer; type and `trainable` are those of the layer by default.

    Attributes:
        comes_off: whether it is there for training only, and stripped before what comes next.
    """

    comes_off = False

    def __init__(self, layer: keras.Layer, **kwargs: Any) -> None:
        object.__setattr__(self, "call", _with_arguments_of(layer.call, self.call))
        kwargs.setdefault("dtype", layer.dtype_policy)
        kwargs.setdefault("trainable", layer.trainable)
        super().__init__(layer, **kwargs)
        private.take_inputs_like(self, layer)
        self.autocast, self.supports_masking = layer.autocast, layer.supports_masking

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.layer.built and not private.builds_from_one_shape(self.layer):
            _build(self.layer, args, kwargs)
        return super().__call__(*args, **kwargs)

    def call(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        if training is not None and "training" in self.layer.call_signature_parameters:
            kwargs["training"] = training
        return self.layer(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        if "training" not in self.layer.call_signature_parameters:
            kwargs.pop("training", None)
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)

    def get_build_config(self) -> Any:
        return self.layer.get_build_config()

    def build_from_config(self, config: Any) -> None:
        if not self.layer.built:
            self.layer.build_from_config(config)
        self.build()


def _build(layer: keras.Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Lets a layer build itself as it sees fit, on symbolic tensors like those it will get."""

    def like(x: Any) -> Any:
        is_tensor = hasattr(x, "shape") and hasattr(x, "dtype")
        return keras.KerasTensor(tuple(x.shape), x.dtype) if is_tensor else x

    with private.restored_nodes(layer):
        layer(*keras.tree.map_structure(like, args), **keras.tree.map_structure(like, kwargs))


def _with_arguments_of(other: Callable[..., Any], call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, to Keras with the arguments of another, which it goes by, and `training`."""
    parameters = dict(inspect.signature(other).parameters)
    training = inspect.Parameter("training", inspect.Parameter.KEYWORD_ONLY, default=None)
    parameters.setdefault("training", training)

    @functools.wraps(call)
    def same(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    in_order = sorted(parameters.values(), key=lambda parameter: parameter.kind)
    vars(same)["__signature__"] = inspect.Signature(in_order)
    return same
