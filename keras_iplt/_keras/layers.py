"""What Keras keeps of a layer: what is in it, how it was built, what it demands of its inputs."""

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute
from keras.src.backend.common.variables import AutocastScope
from keras.src.utils.python_utils import is_default

__all__ = [
    "all_layers",
    "attention_axes",
    "attention_denses",
    "attention_gates",
    "builds_from_one_shape",
    "input_spec_of",
    "is_from_keras",
    "is_keras_layer",
    "kernel_of",
    "lambda_output_shape",
    "models_of",
    "own_variables",
    "remembered",
    "set_flag_of_its_own",
    "shared_objects",
    "shapes_built_with",
    "sublayers",
    "take_inputs_like",
    "weight_called",
    "without_autocast",
]


def all_layers(model: keras.Layer) -> list[keras.Layer]:
    """The model and every layer in it, however deep."""
    return model._flatten_layers()


def models_of(model: keras.Model) -> list[keras.Model]:
    """The model and those nested in it."""
    return [layer for layer in all_layers(model) if isinstance(layer, keras.Model)]


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers directly inside a layer."""
    return list(layer._layers)


def own_variables(layer: keras.Layer) -> list[keras.Variable]:
    """The variables a layer holds itself: not those of its sublayers, not random seeds."""
    return list(layer._trainable_variables) + list(layer._non_trainable_variables)


def weight_called(layer: keras.Layer, name: str) -> Any:
    """The variable of a built layer behind a property that may dress it up (with LoRA, say)."""
    bare = getattr(layer, f"_{name}", None)
    return getattr(layer, name) if bare is None else bare


def kernel_of(layer: keras.Layer) -> keras.Variable:
    """The kernel of a built dense layer, an einsum's too."""
    return weight_called(layer, "kernel")


def remembered(layer: keras.Operation) -> list[keras.Variable]:
    """The states that a stateful recurrent layer carries from one batch to the next."""
    states = keras.tree.flatten(getattr(layer, "states", None))
    return [state for state in states if isinstance(state, keras.Variable)]


def set_flag_of_its_own(model: keras.Layer, trainable: bool) -> None:
    """Says whether a model is trained: of itself, not of the layers in it."""
    model._trainable = trainable


class _Fixed(dict[int, Any]):
    """A dict that Keras may look into and not write to: ids of what it makes are given again."""

    def __setitem__(self, key: int, value: Any) -> None:
        pass


@contextlib.contextmanager
def shared_objects(replacements: Mapping[int, Any]) -> Iterator[None]:
    """Lets configs that are written and read inside refer to some objects, by their ids.
    Reading gives their replacements."""
    maps = {"config": _Fixed((key, {}) for key in replacements), "obj": _Fixed(replacements)}
    names = {f"shared_objects/id_to_{kind}_map": one for kind, one in maps.items()}
    before = {name: get_global_attribute(name) for name in names}
    for name, one in names.items():
        set_global_attribute(name, one)
    try:
        yield
    finally:
        for name, old in before.items():
            set_global_attribute(name, old)


def shapes_built_with(layer: keras.Layer) -> dict[str, Any] | None:
    """The input shapes that the layer was built with, as a dict by argument name, or None."""
    return getattr(layer, "_build_shapes_dict", None)


def input_spec_of(layer: keras.Layer) -> tuple[str, Any]:
    """`(attribute, spec)`: what a layer demands of its inputs, and where it keeps that."""
    name = "_input_spec" if "_input_spec" in vars(layer) else "input_spec"
    return name, vars(layer).get(name)


def builds_from_one_shape(layer: keras.Layer) -> bool:
    """Whether a layer has a `build` method that takes the shape of its first input and no more."""
    return not is_default(layer.build) and len(inspect.signature(layer.build).parameters) == 1


def is_from_keras(thing: object) -> bool:
    """Whether an object's class, or a function, is one of Keras's own."""
    return (getattr(thing, "__module__", None) or "").startswith(("keras.src.", "keras."))


def is_keras_layer(layer: keras.Operation) -> bool:
    """Whether a layer's class is one of Keras's own."""
    return type(layer).__module__.startswith("keras.src.layers")


def lambda_output_shape(layer: keras.Layer) -> Any:
    """What a `Lambda` layer was told of the shape of its output, or None."""
    return layer._output_shape


def take_inputs_like(wrapper: keras.layers.Wrapper, layer: keras.Layer) -> None:
    """Lets a wrapper convert its inputs as the layer in it does.
    It stands first in a Sequential model, too, where that one could."""
    wrapper._convert_input_args = layer._convert_input_args
    wrapper._allow_non_tensor_positional_args = layer._allow_non_tensor_positional_args
    shape = getattr(layer, "_input_shape_arg", None)
    if shape is not None and getattr(wrapper, "_input_shape_arg", None) is None:
        wrapper._input_shape_arg = shape


def attention_denses(
    layer: keras.Layer,
) -> tuple[keras.Layer, keras.Layer, keras.Layer, keras.Layer]:
    """The query, key, value and output projections of an attention layer."""
    return layer._query_dense, layer._key_dense, layer._value_dense, layer._output_dense


def attention_axes(layer: keras.Layer) -> tuple[int, ...] | None:
    """The axes of positions that an attention layer looks along, or None for all of them."""
    return getattr(layer, "_attention_axes", None)


def attention_gates(layer: keras.Layer) -> list[keras.Layer]:
    """The projection that gates an attention layer's output, as a list: empty if there is none."""
    gate = getattr(layer, "_gate_dense", None)
    return [] if gate is None else [gate]


def without_autocast() -> contextlib.AbstractContextManager[Any]:
    """Within it, variables are what they are, whatever a layer around computes in."""
    return AutocastScope(None)
