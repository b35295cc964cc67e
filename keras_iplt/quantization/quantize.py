"""Models that train as they will compute in integers, and what they were before."""

import contextlib
from collections.abc import Mapping
from typing import Annotated, Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.criteria.filters import check_finite
from keras_iplt.errors import ModelError, OptionError
from keras_iplt.graph.cloning import cloned
from keras_iplt.graph.recreate import recreate, with_values
from keras_iplt.graph.slices import numbers_of
from keras_iplt.quantization import quantizers
from keras_iplt.quantization.layouts import Layout, Place, layout_of
from keras_iplt.quantization.quantize_config import (
    Default8BitQuantizeConfig,
    DefaultNBitQuantizeConfig,
    QuantizeConfig,
)
from keras_iplt.quantization.schemes import Default8BitQuantizeScheme, DefaultNBitQuantizeScheme
from keras_iplt.quantization.separable import with_both_parts
from keras_iplt.quantization.wrapper import (
    QuantizeAnnotate,
    QuantizeLayer,
    QuantizeWrapper,
    Values,
    is_quantized,
)
from keras_iplt.support.arguments import Kind, checked, expect

__all__ = [
    "layout",
    "quantize_annotate_layer",
    "quantize_annotate_model",
    "quantize_apply",
    "quantize_model",
    "quantize_scope",
    "strip_clustering_cqat",
    "strip_quantization",
]

Pairs = list[tuple[list[keras.Variable], keras.Layer]]  # of variables, and of a layer like theirs
_GRAPHS = (keras.Sequential, private.Functional)


def _is_graph(model: keras.Model) -> bool:
    return isinstance(model, _GRAPHS) and private.function_of(model) is not None


_MODEL = Annotated[
    keras.Model,
    Kind(
        "a built Functional or Sequential model (keras.Model(inputs, model(inputs)) makes one of "
        "a subclassed one)",
        _is_graph,
        ModelError,
    ),
]
_Scheme = Annotated[
    DefaultNBitQuantizeScheme,
    Kind(
        "default_8bit.Default8BitQuantizeScheme(), default_n_bit.DefaultNBitQuantizeScheme(…) or "
        "one of combine "
        "(layers are annotated with a QuantizeConfig of your own)",
        lambda scheme: isinstance(scheme, DefaultNBitQuantizeScheme),
    ),
]
_SCHEME = Default8BitQuantizeScheme()


@checked
def layout(model: _MODEL, scheme: _Scheme = _SCHEME) -> Layout:
    """What of a model `quantize_model` rounds, and where; what stays in floating point, and why.

    Args:
        model: a Functional or built Sequential model, of plain or of annotated layers.
        scheme: how many bits there are, see `quantize_apply`.

    Returns:
        A `Layout`. Print it.

    Example:

    >>> from keras import layers
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)), layers.Conv2D(4, 3, use_bias=False, name="conv"),
    ...     layers.BatchNormalization(name="norm"), layers.ReLU(name="relu"),
    ...     layers.Flatten(name="flat"), layers.Dense(2, activation="softmax", name="head")])
    >>> print(layout(model))
    operation  weights  output
    conv       kernel   with norm
    norm       -        with relu
    relu       -        int8
    flat       -        int8, passed on
    head       kernel   int8
    """
    with private.restored_nodes(model):
        return _decided(model, _annotations(model), scheme)[1]


@checked
def quantize_model(
    to_quantize: _MODEL,
    quantized_layer_name_prefix: str | None = "quant_",
    scheme: _Scheme = _SCHEME,
) -> keras.Model:
    """A model that trains as it will compute in 8-bit integers.

    Args:
        to_quantize: a Functional or built Sequential model, trained as a rule. It stays as it is.
        quantized_layer_name_prefix: what the names of layers begin with that are quantised.
        scheme: how many bits there are, see `quantize_apply`.

    Returns:
        A new model with copies of the weights, uncompiled. Weights are rounded wherever they are
        used, and so is what layers pass on, to ranges that are found while it trains. What cannot
        be computed in integers stays as it is: `layout` tells. A separable convolution becomes the
        two that it is.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
    >>> quantized = quantize_model(model)
    >>> [layer.name for layer in quantized.layers]
    ['quantize_layer', 'quant_head']
    >>> quantized.compile("sgd", "mse")
    >>> _ = quantized.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0)
    """
    annotations = _annotations(to_quantize)
    if annotations:
        names = [layer.name for layer in private.all_layers(to_quantize)]
        annotations = {**dict.fromkeys(names), **annotations}
    return _applied(to_quantize, annotations, quantized_layer_name_prefix, scheme)


@checked
def quantize_annotate_layer(
    to_annotate: keras.Layer, quantize_config: QuantizeConfig | None = None
) -> QuantizeAnnotate:
    """A layer that `quantize_apply` is to quantise; until then it computes as ever.

    Args:
        to_annotate: a layer.
        quantize_config: how, or None for the default.
    """
    if isinstance(to_annotate, keras.Model):
        raise OptionError(
            f"to_annotate: expected a layer, received: model {to_annotate.name!r}. For models "
            "there is quantize_annotate_model"
        )
    return QuantizeAnnotate(to_annotate, quantize_config)


@checked
def quantize_annotate_model(to_annotate: _MODEL) -> keras.Model:
    """A model all layers of which `quantize_apply` is to quantise, by default or as they say.

    Args:
        to_annotate: a Functional or built Sequential model. It stays as it is.
    """
    pairs: Pairs = []

    def annotated(operation: keras.Operation) -> list[keras.Operation]:
        if not isinstance(operation, keras.Layer):
            return [private.copied(operation)]
        if isinstance(operation, QuantizeAnnotate):
            copy = _copy(operation.layer, pairs)
            return [QuantizeAnnotate(copy, operation.quantize_config, name=operation.name)]
        copy = _copy(operation, pairs)
        return [copy if isinstance(copy, keras.layers.InputLayer) else QuantizeAnnotate(copy)]

    return _with_weights(cloned(to_annotate, annotated), pairs)


@checked
def quantize_apply(
    model: _MODEL,
    scheme: _Scheme = _SCHEME,
    quantized_layer_name_prefix: str | None = "quant_",
) -> keras.Model:
    """A model the annotated layers of which train as they will compute in 8-bit integers.

    Args:
        model: a Functional or built Sequential model with annotated layers. It stays as it is.
        scheme: `default_8bit.Default8BitQuantizeScheme()`, or, for weights of 4 or activations of
            16 bits, `default_n_bit.DefaultNBitQuantizeScheme(…)`; those of `combine` keep what was
            pruned or clustered.
        quantized_layer_name_prefix: what the names of layers begin with that are quantised.

    Returns:
        A new model with copies of the weights, uncompiled. See `quantize_model`.
    """
    annotations = _annotations(model)
    if not annotations:
        raise OptionError(
            f"model: expected at least one layer that quantize_annotate_layer was called on, "
            f"received: {model.name!r}, which has none. quantize_model takes all layers"
        )
    return _applied(model, annotations, quantized_layer_name_prefix, scheme)


@checked
def quantize_scope(*args: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
    """A scope in which quantised models are loaded, in whatever format they were saved.
    Importing `keras_iplt` is enough for those without classes of your own.

    Args:
        *args: dicts of your own classes, by their names.

    Returns:
        A context manager.
    """
    for one in args:
        expect("args", dict, one)
    configs = (Default8BitQuantizeConfig, DefaultNBitQuantizeConfig)
    own = (QuantizeAnnotate, QuantizeLayer, QuantizeWrapper, *configs)
    ours = {one.__name__: one for one in own}
    ours |= {name: getattr(quantizers, name) for name in quantizers.__all__}
    ours["QuantizeWrapperV2"] = QuantizeWrapper
    return keras.saving.custom_object_scope({k: v for one in (ours, *args) for k, v in one.items()})


@checked
def strip_quantization(model: _MODEL) -> keras.Model:
    """The plain model that was quantised, in floating point, with the weights that it has now.

    Args:
        model: one that `quantize_model` or `quantize_apply` returned. It stays as it is.

    Returns:
        A new model with copies of the weights, uncompiled. A separable convolution stays two.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
    >>> strip_quantization(quantize_model(model)).get_config() == model.get_config()
    True
    """
    return stripped(model)[0]


def stripped(model: keras.Model) -> tuple[keras.Model, Pairs]:
    """The plain model, and pairs of a layer, or its variables, and the copy that stands there."""
    pairs: Pairs = []
    kept, _ = _kept(model)

    def plain(operation: keras.Operation) -> list[keras.Operation]:
        if isinstance(operation, QuantizeLayer):
            return []
        return [_copy(getattr(operation, "layer", operation)
                      if isinstance(operation, QuantizeWrapper) else operation, pairs)]  # fmt: skip

    return _with_weights(cloned(model, plain), pairs, kept), pairs


@checked
def strip_clustering_cqat(to_strip: _MODEL) -> keras.Model:
    """The quantised model, once nothing keeps its zeros and clusters any longer but its weights.

    Args:
        to_strip: one that was quantised by a scheme of `combine`. It stays as it is.

    Returns:
        A new model, quantised as before, with the ranges and weights that it has now: what equals
        is equal in its kernels. There is no need to before `export` or `strip_quantization`.
    """
    pairs: Pairs = []
    kept, told = _kept(to_strip)
    gone = set(map(id, told))

    def without(operation: keras.Operation) -> list[keras.Operation]:
        if not isinstance(operation, QuantizeWrapper):
            return [_copy(operation, pairs)]
        config = operation.quantize_config
        if isinstance(config, Default8BitQuantizeConfig):
            nothing = {"keep_zeros": False, "keep_clusters": False}
            config = config.from_config({**config.get_config(), **nothing})
        copy = recreate(operation, {"quantize_config": config})
        pairs.append(([x for x in operation.variables if id(x) not in gone], copy))
        return [copy]

    return _with_weights(cloned(to_strip, without), pairs, kept)


# -- how --


def _kept(model: keras.Model) -> tuple[Values, list[keras.Variable]]:
    """The weights of which zeros or clusters are kept, and the variables that tell of those."""
    values: Values = []
    told: list[keras.Variable] = []
    for layer in private.all_layers(model):
        if isinstance(layer, QuantizeWrapper):
            more, variables = layer.kept()
            values += more
            told += variables
    return values, told


def _annotations(model: keras.Model) -> dict[str, QuantizeConfig | None] | None:
    """By the name of an annotated layer what it was annotated with; None if there is none."""
    found = [x for x in private.all_layers(model) if isinstance(x, QuantizeAnnotate)]
    return {one.layer.name: one.quantize_config for one in found} or None


def _bare(model: keras.Model) -> keras.Model:
    """The model over its own layers, without annotations."""
    if _annotations(model) is None:
        return model

    def without(operation: keras.Operation) -> list[keras.Operation]:
        if not isinstance(operation, keras.Layer):
            return [private.copied(operation)]
        return [operation.layer if isinstance(operation, QuantizeAnnotate) else operation]

    return cloned(model, without)


def _decided(
    model: keras.Model,
    annotated: Mapping[str, QuantizeConfig | None] | None,
    scheme: DefaultNBitQuantizeScheme,
) -> tuple[keras.Model, Layout]:
    """What is quantised where, and the model that this is about, over the same layers.
    They note that they are called in it."""
    if is_quantized(model):
        raise ModelError(
            f"model {model.name!r}: expected one that is not quantised yet, received: one that is. "
            "strip_quantization makes it plain again; what keras.Model.quantize did is for good"
        )
    model, annotated = with_both_parts(_bare(model), annotated)
    return model, layout_of(model, annotated, scheme)


def _applied(
    model: keras.Model,
    annotated: Mapping[str, QuantizeConfig | None] | None,
    prefix: str | None,
    scheme: DefaultNBitQuantizeScheme,
) -> keras.Model:
    for variable in model.variables:
        check_finite(numbers_of(variable), variable, variable.path)
    pairs: Pairs = []

    def quantized(operation: keras.Operation) -> list[keras.Operation]:
        return _quantized(operation, places.get(id(operation)), prefix or "", pairs)

    def rounded(model: keras.Model, i: int) -> list[keras.Operation]:
        return [QuantizeLayer(scheme.for_inputs())] if found.inputs[id(model)][i] else []

    with private.restored_nodes(model):
        bare, found = _decided(model, annotated, scheme)
        places = {id(place.operation): place for place in found.places}
        return _with_weights(cloned(bare, quantized, rounded), pairs)


def _quantized(
    operation: keras.Operation,
    place: Place | None,
    prefix: str,
    pairs: Pairs,
) -> list[keras.Operation]:
    if place is None or place.config is None:
        return [_copy(operation, pairs)]
    if isinstance(operation, keras.Layer):
        config: Any = place.config
        # What is kept of weights is read off them when the layer is wrapped.
        keeps = getattr(config, "keep_zeros", False) or getattr(config, "keep_clusters", False)
        layer = with_values(operation, ()) if keeps else _copy(operation, pairs)
        return [QuantizeWrapper(layer, config, name=prefix + operation.name)]
    copy = _copy(operation, pairs)
    (quantizer,) = place.config.get_output_quantizers(copy)
    return [copy, QuantizeLayer(quantizer, name=prefix + operation.name)]


def _copy(operation: keras.Operation, pairs: Pairs) -> keras.Operation:
    if not isinstance(operation, keras.Layer):
        return private.copied(operation)
    copy = recreate(operation)
    pairs.append((operation.variables, copy))
    return copy


def _with_weights(model: keras.Model, pairs: Pairs, kept: Values | None = None) -> keras.Model:
    """The model, once its layers have the weights of those that they are copies of.
    Or what was kept in the place of these."""
    values = {id(variable): value for variable, value in (kept or ())}
    for olds, copy in pairs:
        for old, new in zip(olds, copy.variables, strict=True):
            # a copy: JAX gives arrays away when it trains
            new.assign(np.array(numbers_of(values.get(id(old), old))))
    return model
