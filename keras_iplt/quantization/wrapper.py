"""Layers with rounded weights and outputs."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import keras

from keras_iplt import _keras as private
from keras_iplt.errors import OptionError
from keras_iplt.graph.recreate import with_values
from keras_iplt.quantization.quantize_config import QuantizeConfig
from keras_iplt.quantization.quantizers import Quantizer, WeightsQuantizer
from keras_iplt.quantization.written import Written, as_convolution, fixed, in_few_bits
from keras_iplt.support.arguments import Kind, checked
from keras_iplt.support.around import Around
from keras_iplt.support.other_values import other_values

__all__ = [
    "QuantizeAnnotate",
    "QuantizeLayer",
    "QuantizeWrapper",
    "is_quantized",
    "rounding_layers",
]

_registered = keras.saving.register_keras_serializable("keras_iplt")
State = dict[str, Any]
Values = list[tuple[keras.Variable, Any]]
_LAYER = Kind("a layer that is not quantised yet", lambda layer: not is_quantized(layer))


class _Rounding:
    """What rounds, and what it keeps. Quantizers may call `add_weight` with the name first."""

    _rounding: dict[str, list[Any]]

    def rounded(self) -> Values:
        """Each weight that is rounded, and what it is rounded to."""
        return [
            (variable, quantizer(variable.value, False, weights=state))
            for variable, quantizer, state in self._rounding.get("weights", ())
        ]

    def forget_ranges(self) -> None:
        """Ranges that were found are none any longer."""
        for several in self._rounding.values():
            for *_, quantizer, state in several:
                if hasattr(quantizer, "forget"):
                    quantizer.forget(state)

    def add_weight(self, shape: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(shape, str):
            kwargs["name"], shape = shape, kwargs.pop("shape", None) or ()
        return super().add_weight(shape, *args, **kwargs)  # type: ignore[misc]


@_registered
class QuantizeWrapper(_Rounding, Around):
    """A layer that computes with rounded weights, and the outputs of which are rounded.

    Args:
        layer: any layer, built or not.
        quantize_config: a `QuantizeConfig`, which says what of it is rounded and how.
        **kwargs: of the Keras layer. It is called "quant_" and the name of the layer by default.

    Example:

    >>> import numpy as np
    >>> from keras_iplt.quantization import default_8bit
    >>> config = default_8bit.Default8BitQuantizeConfig({"kernel": (-1,)}, output=False)
    >>> wrapper = QuantizeWrapper(keras.layers.Dense(1, name="head"), config)
    >>> wrapper.build((None, 2))
    >>> _ = wrapper.layer.kernel.assign([[127.0], [1.4]])
    >>> wrapper.name, float(wrapper(np.ones((1, 2)))[0, 0])
    ('quant_head', 128.0)
    """

    @checked
    def __init__(
        self,
        layer: Annotated[keras.Layer, _LAYER],
        quantize_config: QuantizeConfig,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("name", f"quant_{layer.name}")
        super().__init__(layer, **kwargs)
        self.quantize_config = quantize_config
        # By quantizer, what it keeps; tracked as weights when they are made.
        self._rounding: dict[str, list[Any]] = {}

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        layer, config = self.layer, self.quantize_config
        with _kept_out_of_sight(self) as kept:
            kept["weights"] = [
                (variable, quantizer, quantizer.build(variable.shape, variable.name, self))
                for variable, quantizer in config.get_weights_and_quantizers(layer)
            ]
            for variable, _, _ in kept["weights"]:
                if not isinstance(variable, keras.Variable):
                    raise OptionError(
                        f"get_weights_and_quantizers: expected variables of layer {layer.name!r}, "
                        f"received: {variable!r}"
                    )
            for activation, _ in (pairs := config.get_activations_and_quantizers(layer)):
                if activation is not getattr(layer, "activation", None):
                    raise OptionError(
                        f"get_activations_and_quantizers: expected the activation of layer "
                        f"{layer.name!r}, received: {activation!r}. Split the layer, so that each "
                        "has one activation at its end"
                    )
            before = config.get_input_to_activation_quantizers(layer)
            after = config.get_output_quantizers(layer) or []  # tfmot lets None pass here
            kept["before"] = self._built(before, "pre_activation")
            kept["activation"] = self._built([one for _, one in pairs], "post_activation")
            kept["output"] = self._built(after, "output")

    @property
    def rounds_outputs(self) -> bool:
        """Whether anything but weights is rounded."""
        return any(self._rounding[where] for where in ("before", "activation", "output"))

    def _built(
        self, quantizers: Sequence[Quantizer], name: str
    ) -> list[tuple[Quantizer, State | None]]:
        return [
            (quantizer, quantizer.build(self._output_shape(), f"{name}{i or ''}", self))
            for i, quantizer in enumerate(quantizers)
        ]

    def _output_shape(self) -> Any:
        """What is known of it while the layer is built: its last axis."""
        width = getattr(self.layer, "filters", None) or getattr(self.layer, "units", None)
        return (None, width)

    def call(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        with self._rounded_before_activation(training), self._rounded_weights(training):
            outputs = super().call(*args, training=training, **kwargs)
        for quantizer, state in self._rounding["activation"]:
            outputs = quantizer(outputs, training, weights=state)
        flat = keras.tree.flatten(outputs)
        for i, (quantizer, state) in enumerate(self._rounding["output"]):
            flat[i] = quantizer(flat[i], training, weights=state)
        return keras.tree.pack_sequence_as(outputs, flat)

    @contextlib.contextmanager
    def _rounded_weights(self, training: bool | None) -> Iterator[None]:
        """Lets the layer find rounded numbers in its variables, which keep what they are."""
        if not self._rounding["weights"]:
            yield
            return
        with private.without_autocast():
            rounded = [
                (variable, quantizer(variable.value, training, weights=state))
                for variable, quantizer, state in self._rounding["weights"]
            ]
        with other_values(self, rounded):
            yield

    @contextlib.contextmanager
    def _rounded_before_activation(self, training: bool | None) -> Iterator[None]:
        """Lets the layer's activation find rounded numbers, if it is to."""
        if not self._rounding["before"]:
            yield
            return
        ((quantizer, state),) = self._rounding["before"]
        layer, activation = self.layer, self.layer.activation
        object.__setattr__(
            layer, "activation", lambda x: activation(quantizer(x, training, weights=state))
        )
        try:
            yield
        finally:
            object.__setattr__(layer, "activation", activation)

    def kept(self) -> tuple[Values, list[keras.Variable]]:
        """Each weight and its values with what is kept of it; the variables that tell of that."""
        kept = [one for one in self._rounding["weights"] if isinstance(one[1], WeightsQuantizer)]
        values = [(variable, one.kept(variable.value, state)) for variable, one, state in kept]
        return values, [x for _, _, state in kept for x in state.values()]

    def as_written(self) -> keras.Layer:
        """What `keras_iplt.export` writes in the place of this layer."""
        name, config = self.layer.name, self.quantize_config
        copy = with_values(self.layer, self.rounded())
        function: Any = copy
        if getattr(config, "as_convolution", False):
            copy, function = as_convolution(copy)
        elif (bits := getattr(config, "num_bits_weight", 8)) < 8:
            copy, function = in_few_bits(copy, bits)
        for quantizer, state in self._rounding["before"]:
            before, _ = fixed(self.name, quantizer, state)
            copy.activation = _after(before, copy.activation)
        after = [
            fixed(self.name, quantizer, state)
            for where in ("activation", "output")
            for quantizer, state in self._rounding[where]
        ]

        def call(*args: Any, **kwargs: Any) -> Any:
            y = function(*args, **kwargs)
            for rounding, _ in after:
                y = rounding(y)
            return y

        return Written(
            name, [copy], call, self.layer.compute_output_spec, after[-1][1] if after else None,
            getattr(config, "num_bits_activation", 8),
        )  # fmt: skip

    def get_config(self) -> dict[str, Any]:
        config = keras.saving.serialize_keras_object(self.quantize_config)
        return {**super().get_config(), "quantize_config": config}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "QuantizeWrapper":
        return cls(**_deserialized(config, custom_objects))


@_registered
class QuantizeAnnotate(Around):
    """A layer that is to be quantised, and computes as ever until `quantize_apply` does so.

    Args:
        layer: any layer.
        quantize_config: a `QuantizeConfig`, or None for the default of such a layer.
        **kwargs: of the Keras layer.
    """

    @checked
    def __init__(
        self,
        layer: Annotated[keras.Layer, _LAYER],
        quantize_config: QuantizeConfig | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("name", f"quantize_annotate_{layer.name}")
        super().__init__(layer, **kwargs)
        self.quantize_config = quantize_config

    def get_config(self) -> dict[str, Any]:
        config = self.quantize_config and keras.saving.serialize_keras_object(self.quantize_config)
        return {**super().get_config(), "quantize_config": config}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "QuantizeAnnotate":
        return cls(**_deserialized(config, custom_objects))


@_registered
class QuantizeLayer(_Rounding, keras.layers.Layer):
    """Rounds what passes through: the inputs of a model, and what comes out of no layer.

    Args:
        quantizer: a `Quantizer`.
        **kwargs: of the Keras layer.
    """

    @checked
    def __init__(self, quantizer: Quantizer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.quantizer, self.supports_masking = quantizer, True
        self._rounding: dict[str, list[Any]] = {}

    def build(self, input_shape: Any) -> None:
        with _kept_out_of_sight(self) as kept:
            kept["output"] = [(self.quantizer, self.quantizer.build(input_shape, "input", self))]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        ((quantizer, state),) = self._rounding["output"]
        return quantizer(inputs, training, weights=state)

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def as_written(self) -> keras.Layer:
        """What `keras_iplt.export` writes in the place of this layer."""
        rounding, step = fixed(self.name, *self._rounding["output"][0])
        bits = getattr(self.quantizer, "num_bits", 8)
        return Written(self.name, [], rounding, self.compute_output_spec, step, bits)

    def get_config(self) -> dict[str, Any]:
        quantizer = keras.saving.serialize_keras_object(self.quantizer)
        return {**super().get_config(), "quantizer": quantizer}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "QuantizeLayer":
        return cls(**_deserialized(config, custom_objects))


def _after(first: Any, second: Any) -> Any:
    """One function after another."""
    return lambda x: second(first(x))


def _deserialized(config: dict[str, Any], custom_objects: dict[str, Any] | None) -> dict[str, Any]:
    """The config with the objects that it describes."""
    return {
        name: keras.saving.deserialize_keras_object(value, custom_objects)
        if name in ("layer", "quantizer", "quantize_config") and isinstance(value, dict)
        else value
        for name, value in config.items()
    }


@contextlib.contextmanager
def _kept_out_of_sight(layer: Any) -> Iterator[dict[str, list[Any]]]:
    """A dict to fill, which becomes the layer's `_rounding`.
    Variables in it are weights of the layer or of the one in it already: Keras need not look."""
    kept: dict[str, list[Any]] = {}
    yield kept
    object.__setattr__(layer, "_rounding", kept)


def rounding_layers(layer: keras.Layer) -> list[Any]:
    """What rounds in a model or layer."""
    return [one for one in private.all_layers(layer) if isinstance(one, _Rounding)]


def is_quantized(layer: keras.Layer) -> bool:
    """Whether a layer is rounded already, by wrappers or by Keras itself."""
    by_keras = (getattr(one, "quantization_mode", None) for one in private.all_layers(layer))
    return bool(rounding_layers(layer)) or any(by_keras)
