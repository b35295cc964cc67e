"""Which weights of a model are pruned, in the order in which data flows through them."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.criteria.filters import check_finite
from keras_iplt.errors import ModelError, NothingToPruneError, OptionError
from keras_iplt.graph.held import wraps_models
from keras_iplt.graph.selectors import Layers, Selector, as_list, matches, name_of, near
from keras_iplt.graph.slices import numbers_of
from keras_iplt.graph.trace import trace
from keras_iplt.graph.walk import is_graph_model
from keras_iplt.sparsity.tfmot_api.prune_registry import prunable_weights
from keras_iplt.support.arguments import checked
from keras_iplt.support.text import text_repr

__all__ = ["PoolOptions", "Prunable", "bias_of", "pool_of"]

_TRANSPOSED = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
_CONVOLUTIONS = tuple(
    getattr(keras.layers, name)
    for name in (
        *_TRANSPOSED, "Conv1D", "Conv2D", "Conv3D", "SeparableConv1D", "SeparableConv2D",
    )
)  # fmt: skip


@text_repr
@checked
@dataclasses.dataclass(frozen=True)
class PoolOptions:
    """Which weights of a model are pruned. See `keras_iplt.SparsityCallback` for each entry."""

    layers: Layers | None = None
    ignore: Layers = ()
    convolutions_only: bool | None = None
    keep_zeros: bool = False


@text_repr
@dataclasses.dataclass(frozen=True, eq=False)
class Prunable:
    """A variable whose weights are pruned.

    Attributes:
        path: the name of its layer with the models around it and, where the layer has several,
            that of the variable.
        layer, variable: what it is of, and itself.
    """

    path: str
    layer: Any
    variable: Any

    @property
    def size(self) -> int:
        """The number of weights."""
        return int(np.prod(self.variable.shape))

    @property
    def convolution(self) -> bool:
        """Whether this is the kernel of a convolution."""
        return isinstance(self.layer, _CONVOLUTIONS)

    @property
    def filter_axis(self) -> int:
        """The axis that counts output channels."""
        transposed = type(self.layer).__name__ in _TRANSPOSED
        return len(self.variable.shape) - (2 if transposed else 1)

    def magnitudes(self) -> np.ndarray:
        """The absolute values of the weights; a `WeightsError` if they are not finite."""
        value = numbers_of(self.variable)
        if value.dtype not in (np.float32, np.float64):
            value = value.astype(np.float32)
        magnitudes = np.abs(value)
        if not np.isfinite(magnitudes.sum(dtype=np.float64)):
            check_finite(value, self.variable, self.path)
        return magnitudes


def bias_of(one: Prunable, pool: Iterable[Prunable]) -> keras.Variable | None:
    """The bias of a layer whose one kernel this is, if it has a number for each filter."""
    bias = getattr(one.layer, "bias", None)
    if not isinstance(bias, keras.Variable) or sum(other.layer is one.layer for other in pool) > 1:
        return None
    return bias if tuple(bias.shape) == (one.variable.shape[one.filter_axis],) else None


def pool_of(
    model: keras.Model,
    layers: Layers | None = None,
    ignore: Layers = (),
    convolutions_only: bool = False,
) -> list[Prunable]:
    """The weights that are pruned: kernels and embeddings, not biases, norms and depthwise kernels.

    Of custom layers those that `get_prunable_weights` names; none of models that a subclassed model
    holds and never calls, as a distiller's teacher.

    Args:
        model: any built model.
        layers: layers or their names (a model in the model stands for all in it), or None for all.
        ignore: layers or names of those that stay as they are.
        convolutions_only: whether dense layers and others stay as they are.

    Returns:
        A list of `Prunable`, each variable once.
    """
    if not (model.built or wraps_models(model)):
        raise ModelError(f"model {model.name!r} is not built: call it on data, or build it, first")
    aside = _never_called(model)
    found = {id(one.variable): one for one in _walk(model, ())}
    everything = [one for key, one in found.items() if key not in aside]
    wanted = everything if layers is None else _named(model, everything, layers, "layers")
    spared = {id(one) for one in _named(model, everything, ignore, "ignore")}
    pool = [
        one
        for one in wanted
        if id(one) not in spared and (one.convolution or not convolutions_only)
    ]
    if not pool:
        kind = "a convolution" if convolutions_only else "a layer with a kernel"
        raise NothingToPruneError(
            f"model {model.name!r}: expected {kind} that is not ignored, received: none among "
            f"{len(everything)} variables that can be pruned"
            + (". Dense layers are pruned with convolutions_only=False" if everything else "")
        )
    return pool


def _never_called(model: keras.Model) -> set[int]:
    """ids of variables that the `call` of a subclassed model never uses, if it can be followed."""
    if is_graph_model(model) or not private.models_of(model)[1:]:
        return set()
    try:
        called = {id(weight) for weight in trace(model).weights}
    except ModelError:
        return set()
    return {id(weight) for weight in model.weights} - called


def _walk(layer: keras.Layer, around: tuple[str, ...]) -> Iterator[Prunable]:
    """Layers in the order of the graph where there is one, else in which they were made."""
    own = prunable_weights(layer)
    path = "/".join(around)
    for variable in own:
        yield Prunable(f"{path}/{variable.name}" if len(own) > 1 else path, layer, variable)
    if own:
        return
    function = private.function_of(layer) if isinstance(layer, keras.Model) else None
    if function is None:
        inside = private.sublayers(layer)
    else:
        inside = [node.operation for node in private.nodes(function)]
    for one in inside:
        if isinstance(one, keras.Layer):
            yield from _walk(one, (*around, one.name))


def _named(
    model: keras.Model, everything: list[Prunable], keys: Layers, argument: str
) -> list[Prunable]:
    """Those in the layers that were asked for."""
    found = []
    for key in as_list(keys, argument):
        heads = set(_ancestors(everything, key, model))
        inside = [one for one in everything if one.path in heads]
        if not inside:
            names = {part for one in everything for part in (one.path, one.layer.name)}
            close = near(key, names)
            raise OptionError(
                f"{argument}: expected layers with prunable weights in model {model.name!r}, "
                f"received: {name_of(key)!r}. Close to it: {', '.join(map(repr, close))}"
            )
        found += inside
    return list({id(one): one for one in found}.values())


def _ancestors(everything: list[Prunable], key: Selector, model: keras.Model) -> list[str]:
    """Paths of what lies in a layer, or is meant by a name or the path of a layer."""
    if isinstance(key, keras.Layer):
        inside = {id(variable) for variable in key.variables}
        return [one.path for one in everything if id(one.variable) in inside]
    return [
        one.path
        for one in everything
        if (isinstance(key, str) and f"/{key}/" in f"/{one.path}/")
        or matches(key, one.layer, one.path)
    ]
