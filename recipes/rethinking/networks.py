"""Pruned networks from scratch: what is pruned, what is built anew, and what both cost."""

import inspect
from typing import Any

import keras
import numpy as np

import keras_iplt as iplt
from keras_iplt.errors import OptionError

from .. import zoo
from .names import zoo_name
from .scales import selected

__all__ = ["anew", "costs", "masked_anew", "pruned", "shape", "streams", "with_whole_streams"]

DECAY = 5e-5  # Keras's L2 is not halved: the gradient is that of a weight decay of 1e-4


def shape(network: str, width: float) -> tuple[str, dict[str, Any]]:
    """The name in the zoo and the options of a network with a share of its filters."""
    name, depth = zoo_name(network)
    options: dict[str, Any] = {} if depth is None else {"depth": depth}
    known = inspect.signature(getattr(zoo, name)).parameters
    widths = [key for key in ("filters", "widths", "growth", "first", "units") if key in known]
    if width != 1 and not widths:
        raise OptionError(f"width: expected 1 for {network}, received: {width:g}")
    for key in widths:
        whole = known[key].default
        scaled = [max(1, round(width * n)) for n in ([whole] if isinstance(whole, int) else whole)]
        options[key] = scaled[0] if isinstance(whole, int) else scaled
    if "l2" in known:
        options["l2"] = DECAY
    return name, options


def anew(model: keras.Model, penalty: float = 0.0) -> keras.Model:
    """The same architecture with new values, drawn by the layers' own initializers.

    Args:
        model: the network, which stays as it is.
        penalty: the factor of an l1 penalty on the scales of batch norm; there is none by default,
            whatever the model has.
    """

    def again(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            config["gamma_regularizer"] = keras.regularizers.L1(penalty) if penalty else None
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=again)


def masked_anew(model: keras.Model) -> keras.Model:
    """The same with the zeros of the model's convolutions."""
    new = anew(model)
    for old, fresh in zip(model.layers, new.layers, strict=True):
        if isinstance(old, keras.layers.Conv2D):
            stays = keras.ops.not_equal(old.kernel, 0)
            fresh.kernel.assign(fresh.kernel * keras.ops.cast(stays, fresh.kernel.dtype))
    return new


def with_whole_streams(model: keras.Model) -> keras.Model:
    """The network with residual streams that stay as wide as they are, if it has any."""
    return iplt.baselines.full_width(model) if is_residual(model) else model


def is_residual(model: keras.Model) -> bool:
    return any(isinstance(layer, keras.layers.Add) for layer in model.layers)


def streams(model: keras.Model) -> list[str]:
    """The layers whose channels are added to others: those that write to residual streams."""
    graph = iplt.trace(model)
    added = [
        graph.classes[x.ids].ravel()
        for call in graph.calls.values() if isinstance(call.operation, keras.layers.Add)
        for x in keras.tree.flatten((call.args, call.kwargs)) if hasattr(x, "ids")
    ]  # fmt: skip
    theirs = np.concatenate([*added, np.zeros(0, int)])
    return [one.path for one in graph.producers if np.isin(graph.classes[one.ids], theirs).any()]


# By the smallest of each layer, streams of residual networks left alone.
INSIDE = {"norms": "l1", "thinet": "thinet", "channel": "lasso"}


def pruned(
    model: keras.Model, method: str, ratio: float, allocation: str, images: Any = None
) -> keras.Model:
    """What a method leaves of a large network.

    Args:
        model, method, ratio: the network, the method, and the share that goes.
        allocation: for single weights only.
        images: for ThiNet and channel pruning only: what the outputs of layers are told of.
    """
    if method in INSIDE:
        return iplt.prune(
            model, ratio, criterion=INSIDE[method], scope="layer", ignore=streams(model),
            convolutions_only=True, data=images, compensate=images,
        )  # fmt: skip
    if method == "slimming":
        model = with_whole_streams(model)
        return iplt.prune(
            model, ratio, criterion="bn_scale", scope="global", convolutions_only=True
        )
    if method == "sss":
        return selected(model)
    if method == "weights":
        iplt.sparsity.prune_weights(model, ratio, allocation, convolutions_only=True)
    return model  # of soft filter pruning as it is: smaller since its training ended


def costs(model: keras.Model) -> dict[str, int]:
    """Multiply-adds and parameters without those of weights that are zero."""
    whole = iplt.profile(model)
    table = {row.name: row for row in iplt.sparsity.measure(model, convolutions_only=True).layers}
    rows = [row for row in whole.layers if row.name in table]
    idle = sum(row.macs * table[row.name].sparsity for row in rows if row.macs is not None)
    zeros = sum(row.zeros for row in table.values())
    assert whole.macs is not None  # the sizes of images are known
    return {"macs": round(whole.macs - idle), "params": whole.params - zeros}
