"""All at once: what the removed channels held is told from those that stay, as a linear map.

    removed channels ≈ kept channels · A + c        on the inputs of a layer in the whole model
    weights of the kept += A · weights of the removed;    bias += c · weights of the removed

One pass over the data, and a matrix as large as there are channels: for whatever consumes channels
by its weights, recurrent layers and layers that are used several times included. Exact where a
channel is a combination of others (but for a constant at image borders that are padded).
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np

from keras_iplt.graph.channels import Call, Channels, Graph, Slice
from keras_iplt.graph.flow import channels_in
from keras_iplt.running.linear import Linear, linear
from keras_iplt.running.observe import batches, observe
from keras_iplt.running.relay import Weights
from keras_iplt.running.steps import Program
from keras_iplt.support.progress import told
from keras_iplt.surgery.refitting.behind import Behind
from keras_iplt.surgery.refitting.channel_map import ChannelMap, Taker

__all__ = ["fit_at_once"]


def fit_at_once(
    program: Program,
    graph: Graph,
    gone: np.ndarray,
    weights: Weights,
    data: Any,
    memory: float,
    done: Container[int] = (),
) -> None:
    """Changes what the consumers of removed channels hold in a pruned model.

    Args:
        program: the steps of the model.
        graph, gone: its channels, and those that go.
        weights: what the variables of the pruned model hold, zeros where channels go. What is
            fitted is put there.
        data: as for `Refit`.
        memory: how many bytes the sums over samples of one consumer may take.
        done: ids of kernels to leave alone.
    """
    maps: dict[int, list[ChannelMap]] = {}  # by id(call)
    known: dict[int, ChannelMap] = {}  # by id(variable): of a layer that is used several times, one
    products = _products(program)
    for call in graph.calls.values():
        if call.carry == "model" or call.inside is not None:
            continue  # the calls inside are visited instead
        for variable in getattr(call.operation, "weights", ()):
            for piece in graph.by_variable.get(id(variable), ()):
                if id(variable) in done or not _consumes(call, piece, graph):
                    continue
                if not gone[piece.ids].any() or getattr(variable, "constraint", None) is not None:
                    continue
                _, taker = products.get(id(variable), (None, None))
                one = known.get(id(variable)) or ChannelMap(piece, graph, gone, taker)
                if one.bytes <= memory:
                    known[id(variable)] = one
                    maps.setdefault(id(call), []).append(one)
    rng = np.random.default_rng(0)

    def visit(call: Call, inputs: list[tuple[Channels, np.ndarray]]) -> None:
        for one in maps[id(call)]:
            axis, x = next(
                (axis, numbers)
                for channels, numbers in inputs
                if (axis := _runs_along(channels, one.piece, graph)) is not None
            )
            product, _ = products.get(id(one.piece.variable), (None, None))
            if product is not None:
                x = product.prepared(x, lambda variable: variable.value)
            one.see(x, x, axis, rng)

    if maps:
        given = told(batches(graph.model, data), "batch")
        observe(graph, given, visit, wanted=lambda call: id(call) in maps)
    for one in known.values():
        one.put(weights)


def _consumes(call: Call, piece: Slice, graph: Graph) -> bool:
    """Whether a call's inputs have the channels that a variable consumes."""
    if piece.role != "input" or piece.variable.name == "recurrent_kernel":
        return False  # it consumes what its own layer put out a step before
    inputs = channels_in((call.args, call.kwargs))
    return any(_runs_along(x, piece, graph) is not None for x in inputs)


def _runs_along(x: Channels, piece: Slice, graph: Graph) -> int | None:
    """The axis of a tensor along which stand the channels of a piece, and no others."""
    classes = graph.classes[x.ids].ravel()
    same = len(x.varying) == 1 and np.array_equal(classes, graph.classes[piece.ids])
    return next(iter(x.varying)) if same else None


def _products(program: Program) -> dict[int, tuple[Linear, Taker | None]]:
    """By id(kernel): the layer as a product, and what takes up a constant for it."""
    behind, found = Behind(program), dict[int, tuple[Linear, Taker | None]]()
    for step in program.steps:
        product = linear(step.operation)
        if product is not None:
            absorber = behind.absorber(step, product)
            found[id(product.kernel)] = product, absorber and (product, *absorber)
    return found
