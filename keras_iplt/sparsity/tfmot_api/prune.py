"""Wrapping layers and models, and taking the wrappers off."""

import contextlib
import functools
from typing import Any

import keras

from keras_iplt import _keras as private
from keras_iplt.graph.cloning import cloned, wrapped
from keras_iplt.sparsity.patterns import Pair, Pooling
from keras_iplt.sparsity.tfmot_api.pruning_policy import PruningPolicy
from keras_iplt.sparsity.tfmot_api.pruning_schedule import ConstantSparsity
from keras_iplt.sparsity.tfmot_api.pruning_wrapper import MbyN, PruneLowMagnitude
from keras_iplt.support.arguments import checked

__all__ = ["prune_low_magnitude", "prune_scope", "strip_pruning"]

_GRAPHS = (keras.Sequential, private.Functional)
_HALF = ConstantSparsity(0.5, 0)


@checked
def prune_low_magnitude(
    to_prune: Any,
    pruning_schedule: Any = _HALF,
    block_size: Pair = (1, 1),
    block_pooling_type: Pooling = "AVG",
    pruning_policy: PruningPolicy | None = None,
    sparsity_m_by_n: MbyN | None = None,
    **kwargs: Any,
) -> Any:
    """Wraps a layer, or those of a model: their smallest weights become zero while they train.

    Train with `UpdatePruningStep` among the callbacks.

    Args:
        to_prune: a Functional or Sequential model, a layer, or a list of layers. It stays as it is;
            what is returned is made of the same layers, with the same weights.
        pruning_schedule: how sparse at which batch; half of the weights by default.
        block_size: `(height, width)` of what is pruned together, in matrices only.
        block_pooling_type: "AVG" or "MAX": what stands for a block, its mean or its largest
            magnitude.
        pruning_policy: a `PruningPolicy` that says which layers of a model are wrapped; by default
            all are.
        sparsity_m_by_n: `(m, n)` for m zeros in every n consecutive weights along the inputs.
        **kwargs: of the wrapper, where `to_prune` is a layer.

    Returns:
        A model (uncompiled), a layer or a list. Layers that are wrapped already are left so.

    Raises:
        ValueError: a layer is not supported: neither one of Keras's that `PruneRegistry` knows nor
            one with a method `get_prunable_weights`.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
    >>> pruned = prune_low_magnitude(model, ConstantSparsity(0.75, begin_step=1))
    >>> [layer.name for layer in pruned.layers], pruned.layers[0].layer is model.layers[0]
    (['prune_low_magnitude_head'], True)
    """
    options = {
        "pruning_schedule": pruning_schedule,
        "block_size": block_size,
        "block_pooling_type": block_pooling_type,
        "sparsity_m_by_n": sparsity_m_by_n,
    }

    def wrap(layer: keras.Layer, **more: Any) -> keras.Layer:
        if isinstance(layer, PruneLowMagnitude):
            return layer
        return PruneLowMagnitude(layer, **{**options, **more})

    def wrap_if_allowed(layer: keras.Layer) -> keras.Layer:
        allowed = pruning_policy is None or pruning_policy.allow_pruning(layer)
        return wrap(layer) if allowed else layer

    if pruning_policy is not None and isinstance(to_prune, _GRAPHS):
        pruning_policy.ensure_model_supports_pruning(to_prune)
    return wrapped(
        to_prune, wrap, wrap_if_allowed, kwargs,
        "`prune_low_magnitude` can only prune an object of the following types: "
        "keras.models.Sequential, keras functional model, keras.layers.Layer, list of "
        "keras.layers.Layer. You passed an object of type: ",
    )  # fmt: skip


@checked
def strip_pruning(model: keras.Model) -> keras.Model:
    """The model without its wrappers, and with the zeros that training left in its weights.

    Args:
        model: a Functional or Sequential model with `PruneLowMagnitude` layers. It stays as it is;
            what is returned is made of the same layers.

    Returns:
        A model, uncompiled, of the architecture that there was before wrapping.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
    >>> strip_pruning(prune_low_magnitude(model)).get_config() == model.get_config()
    True
    """
    return cloned(model, _bare)


def prune_scope() -> contextlib.AbstractContextManager[Any]:
    """A scope in which models with wrapped layers are loaded, in whatever format they were saved.
    Importing `keras_iplt` is enough for what this version saves.

    Returns:
        A context manager.

    Example:

    >>> model = prune_low_magnitude(keras.Sequential([keras.layers.Dense(2, name="head")]))
    >>> with prune_scope():
    ...     again = keras.models.model_from_json(model.to_json())
    >>> again.layers[0].name
    'prune_low_magnitude_head'
    """
    return keras.saving.custom_object_scope({"PruneLowMagnitude": PruneLowMagnitude})


def _bare(operation: keras.Operation) -> keras.Operation:
    """A layer without wrapper and without what the wrapper left on it."""
    if not isinstance(operation, keras.Layer):
        return private.copied(operation)
    if not isinstance(operation, PruneLowMagnitude):
        return operation
    driver, layer = operation.driver, operation.layer
    if driver is not None and not private.companions(driver):
        driver.release()  # its training was interrupted: what it holds is held no more
    if isinstance(vars(layer).get("get_prunable_weights"), functools.partial):
        del layer.get_prunable_weights
    return layer
