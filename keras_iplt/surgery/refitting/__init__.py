"""What stays of a pruned model is fitted anew, in closed form, to what the whole model computed:
from data without labels, and with no training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any, TypeAlias

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.graph.channels import Call, Graph
from keras_iplt.graph.slices import kept_axes, numbers_of, zeroed
from keras_iplt.graph.unknown import inline_layer
from keras_iplt.running.observe import batches
from keras_iplt.running.relay import Relay, Weights
from keras_iplt.running.steps import Program, places, recorded
from keras_iplt.support.arguments import Data, Positive, checked, one_of
from keras_iplt.surgery.refitting.at_once import fit_at_once
from keras_iplt.surgery.refitting.by_layer import fit_by_layer, fits

__all__ = ["Compensate", "Refit", "distances", "refitted"]


@checked
@dataclasses.dataclass(frozen=True)
class Refit:
    """How the weights that stay are fitted anew: for `compensate`, where bare data are not enough.

    Args:
        data: what the model is to compute as before on: `x` or batches, as for `keras_iplt.plan`;
            labels are not looked at. Some hundred examples do; more are better.
        how: `"by layer"`: each layer is fitted, on the inputs that the pruned model gives it, to
            what it put out in the whole model. `"at once"`: what the removed channels held is told
            from those that stay; it takes a small part of the time, and brings back less.
        memory: how many bytes it may take, roughly. Examples that do not fit are left out where
            tensors are large, early in the model, and join later.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> small = iplt.prune(model, 0.5, compensate=iplt.Refit(x, how="at once"))
    >>> bool(np.allclose(small.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-4))
    True
    """

    data: Data
    how: Annotated[str, one_of("by layer", "at once")] = "by layer"
    memory: Positive = 2e9


Compensate: TypeAlias = Data | Refit | None


def refitted(graph: Graph, gone: np.ndarray, compensate: Any) -> dict[int, np.ndarray]:
    """What the variables are to hold before channels go, so that less is lost.

    The pruned model never comes out further from the whole one, on the data, than it was.

    Args:
        graph: the `Graph` of the model.
        gone: mask over all ids: True for those removed.
        compensate: a `Refit`, or its data.

    Returns:
        id(variable) -> array of the variable's shape, for those that change.
    """
    refit = compensate if isinstance(compensate, Refit) else Refit(compensate)
    plain = _masked(graph, gone)
    if not plain:
        return {}
    data = [*refit.data] if isinstance(refit.data, Iterator) else refit.data
    program = recorded(graph.function, graph.calls, _opened)
    fitted = dict(plain)
    several = {}
    if refit.how == "by layer":
        several = fits(program, graph, gone, plain, refit.memory)
    done = {id(fit.layer.kernel) for fit in several.values()}
    fit_at_once(program, graph, gone, fitted, data, refit.memory, done)
    versions: list[Weights] = [{}, fitted, plain]
    given = batches(graph.model, data)
    relay = Relay(program, given, versions, refit.memory, {*plain, *fitted})
    fit_by_layer(several, relay, fitted)
    relay.advance(len(program.steps))
    after, before = distances(program, relay)
    if not after < before:
        return {}
    return {key: value for key, (_, value) in fitted.items()}


def _opened(call: Call) -> keras.Function | None:
    """What an attention layer does inside: its projections are layers like others."""
    masks = (private.mask_of(x) is not None for x in keras.tree.flatten(call.specs))
    if type(call.operation) not in _ATTENTION or any(masks):
        return None
    return inline_layer(call.operation, call.specs, training=False)


_ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)


def distances(program: Program, relay: Relay) -> tuple[float, ...]:
    """How far the outputs of all versions but the first are from those of the first.
    On average over the outputs, as shares of their squares."""
    found = np.zeros(2)
    sums: dict[int, np.ndarray] = {}
    for versions in relay.batches():
        for place in places(program.outputs):
            whole, *others = (numbers_of(version[place]) for version in versions)
            if whole.dtype.kind == "f":
                whole = whole.astype(np.float64)
                squares = [np.sum((other - whole) ** 2) for other in others]
                sums[place] = sums.get(place, 0) + np.array([*squares, np.sum(whole**2)])
    for several in sums.values():
        found = found + several[:-1] / max(several[-1], np.finfo(np.float64).tiny)
    return tuple(found)


def _masked(graph: Graph, gone: np.ndarray) -> Weights:
    """What the variables of the masked model hold, as far as that is something else."""
    found: Weights = {}
    for pieces in graph.by_variable.values():
        variable = pieces[0].variable
        kept = kept_axes(variable, pieces, gone)
        if any(indices is not None for indices in kept):
            found[id(variable)] = variable, zeroed(numbers_of(variable), kept)
    return found
