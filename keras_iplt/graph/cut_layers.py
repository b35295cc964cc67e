"""A layer made for more channels than it has."""

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import ModelError
from keras_iplt.graph.channels import Call, Gain, Recipe
from keras_iplt.graph.classes import class_with
from keras_iplt.graph.left import Left, attributes_left
from keras_iplt.graph.recordings import same
from keras_iplt.graph.recreate import config_of, forgotten, from_config, recreate
from keras_iplt.graph.rules import rule_for
from keras_iplt.graph.slices import Kept, lengths_left
from keras_iplt.support.around import Around

__all__ = ["CutLayer", "inside_of", "numbers_left", "cut"]

Place = tuple[int, str]  # of a layer among those inside, and an attribute of it


@keras.saving.register_keras_serializable("keras_iplt")
class CutLayer(Around):
    """A custom layer whose config cannot say how many channels it has.

    It is made as it was, and its weights are cut then. Its own code computes on them.

    Args:
        layer: the layer as it was, not built; or what `get_config` says of it.
        called_with: `(args, kwargs)`, tensors as symbols of the shapes that it was made for.
        shapes: those of its variables now, in order.
        numbers: `((index of layer inside, attribute), value)`s: what its code computes with.
    """

    def __init__(
        self,
        layer: keras.Layer | dict[str, Any],
        called_with: Any,
        shapes: Sequence[Sequence[int]],
        numbers: Sequence[tuple[Place, Any]] = (),
        **options: Any,
    ) -> None:
        super().__init__(layer if isinstance(layer, keras.Layer) else _read(layer), **options)
        self._made_like = _written(self.layer)
        self._called_with = keras.tree.map_structure(_plain, called_with)
        args, kwargs = called_with
        with private.restored_nodes(self.layer):
            self.layer(*args, **kwargs)
        inside = private.all_layers(self.layer)
        for variable, shape in zip(self.layer.variables, shapes, strict=True):
            _check_smaller(variable, shape)
            if tuple(variable.shape) != tuple(shape):
                private.replace_value(variable, np.zeros(shape, "float32"))
        for one in inside:
            _demand_less(one)
        self._places: list[Place] = [(index, name) for (index, name), _ in numbers]
        for (index, name), value in numbers:
            layer = _owner_of(inside, index, name)
            object.__setattr__(layer, "__class__", class_with(layer, [name]))
            object.__setattr__(layer, name, _tuples(value))
        self.built = True

    def get_config(self) -> dict[str, Any]:
        inside = private.all_layers(self.layer)
        return {
            **keras.Layer.get_config(self),  # a wrapper's asks the layer, which may have none
            "layer": self._made_like,
            "called_with": keras.saving.serialize_keras_object(self._called_with),
            "shapes": [list(variable.shape) for variable in self.layer.variables],
            "numbers": [[list(at), getattr(inside[at[0]], at[1])] for at in self._places],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "CutLayer":
        called_with = keras.saving.deserialize_keras_object(config["called_with"])
        return cls(**{**config, "called_with": called_with})


def inside_of(layer: keras.Layer) -> list[keras.Layer]:
    """The layer whose code stays, and those inside."""
    return private.all_layers(layer.layer if isinstance(layer, CutLayer) else layer)


def cut(
    call: Call, shapes: Sequence[Sequence[int]], numbers: Sequence[tuple[Place, Any]], name: str
) -> CutLayer:
    """The layer of a call, smaller, without the values of its weights."""
    layer = call.operation
    if isinstance(layer, CutLayer):
        config = layer.get_config()
        known = {tuple(place): value for place, value in config["numbers"]}
        numbers = [*(known | dict(numbers)).items()]
        changes = {"name": name, "shapes": shapes, "numbers": numbers}
        return CutLayer.from_config({**config, **changes})
    new = recreate(layer)
    return CutLayer(new, call.specs, shapes, numbers, name=name, dtype=layer.dtype_policy,
                   trainable=layer.trainable)  # fmt: skip


def numbers_left(
    call: Call,
    recipe: Recipe,
    calls_of: Callable[[keras.Layer], Sequence[Call]],
    kept: Callable[[keras.Variable], Kept],
    gone: np.ndarray,
) -> list[tuple[Place, Any]]:
    """What the attributes of a layer and of those inside are, once channels are gone."""
    inside = inside_of(call.operation)
    places = {id(layer): index for index, layer in enumerate(inside)}
    numbers: dict[Place, Any] = {}
    for layer in inside[1:]:
        rule, inner = rule_for(layer), next(iter(calls_of(layer)), None)
        if rule is None or rule.resize is None or inner is None:
            continue
        config, changes = config_of(layer), rule.resize(layer, Left(inner, kept, gone))
        changes = {n: new for n, new in changes.items() if not same(config.get(n), new)}
        for owner, name, value in attributes_left(inner, changes, gone) if changes else ():
            if not isinstance(value, keras.InputSpec):
                numbers[places[id(owner)], name] = value
    for (index, name), follows in recipe.items():
        if isinstance(follows, Gain):
            numbers[index, name] = getattr(inside[index], name) * follows.factor(gone)
        else:
            weight, axis = follows
            weights = call.operation.weights
            numbers[index, name] = lengths_left(weights[weight], kept(weights[weight]))[axis]
    return list(numbers.items())


def _plain(x: Any) -> Any:
    """A symbol without the graph that it comes from."""
    return keras.KerasTensor(x.shape, x.dtype) if isinstance(x, keras.KerasTensor) else x


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _written(layer: keras.Layer) -> dict[str, Any]:
    """What a layer is made again from, in a form that goes into a file."""
    config = keras.saving.serialize_keras_object(config_of(layer) | forgotten(layer))
    return {"module": type(layer).__module__, "class_name": type(layer).__name__, "config": config}


def _read(written: Mapping[str, Any]) -> keras.Layer:
    """The layer. Only what has been imported already is looked for."""
    module, name = written["module"], written["class_name"]
    kind = getattr(sys.modules.get(module), name, None)
    kind = kind or keras.saving.get_registered_object(name)
    if not isinstance(kind, type) or not issubclass(kind, keras.Layer):
        raise ModelError(
            f"expected layer {name!r} of module {module!r}; it is not there. Import the package "
            "that it comes from before the model is loaded"
        )
    return from_config(kind, keras.saving.deserialize_keras_object(written["config"]))


def _check_smaller(variable: keras.Variable, shape: Sequence[int]) -> None:
    """Refuses what a file may ask for and no smaller layer is."""
    whole = tuple(variable.shape)
    if len(shape) != len(whole) or not all(0 < n <= m for n, m in zip(shape, whole, strict=True)):
        raise ModelError(
            f"variable {variable.path!r}: expected a shape within {whole}, received: {tuple(shape)}"
        )


def _owner_of(inside: Sequence[keras.Layer], index: int, name: str) -> keras.Layer:
    """The layer that has such an attribute, or will have; other wishes of a file are refused."""
    layer = inside[index] if 0 <= index < len(inside) and not name.startswith("__") else None
    if layer is None or not (hasattr(layer, name) or class_with(layer, [name]) is not type(layer)):
        raise ModelError(
            f"expected an attribute of one of {len(inside)} layers, received: {name!r}"
        )
    return layer


def _demand_less(layer: keras.Layer) -> None:
    """Lets a layer take any number of channels."""
    name, spec = private.input_spec_of(layer)
    if isinstance(spec, keras.InputSpec):
        new = copy.copy(spec)
        new.shape, new.axes = None, {}
        object.__setattr__(layer, name, new)
