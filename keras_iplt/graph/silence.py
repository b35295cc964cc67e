"""Residual branches whose end is zero, whatever goes in."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_iplt.errors import ModelError
from keras_iplt.graph.channels import SOLID, Branch, Channels, Slice
from keras_iplt.graph.slices import kept_axes, numbers_of, zeroed
from keras_iplt.graph.trace import Tracer
from keras_iplt.graph.walk import walk_on

__all__ = ["silenced"]


def silenced(branch: Branch) -> Iterator[tuple[keras.Variable, np.ndarray]]:
    """Which variables have to hold which numbers for a branch to add zeros.

    The branch is read on its own, with everything that goes in as unknown: what creates the
    channels at its end, and what follows them, is zero then. Of a layer, all branches in it are.
    """
    for one in branch.inside:
        yield from silenced(one)
    if branch.inside:
        return
    tracer = Tracer(approximate=True)  # all of a layer norm's channels go, whatever they are
    tracer.used = {id(x) for node in branch.nodes for x in node.outputs}
    values: dict[int, Any] = {id(x): tracer.solid(tuple(x.shape)) for x in branch.inputs}
    walk_on(
        branch.nodes, values, lambda node, args, kw: tracer.call(node.operation, args, kw, node)
    )
    end: Channels = values[id(branch.output)]
    ids = tracer.partition.find(end.ids)
    gone = np.zeros(len(tracer.partition), bool)
    gone[ids] = True
    pieces: dict[int, list[Slice]] = {}
    for piece in tracer.slices.values():
        found = dataclasses.replace(piece, ids=tracer.partition.find(piece.ids))
        pieces.setdefault(id(piece.variable), []).append(found)
    own = {id(v) for v in branch.variables}
    touched = {key for key, some in pieces.items() if any(gone[one.ids].any() for one in some)}
    if gone[SOLID] or not end.zero or not touched <= own:
        raise ModelError(
            f"branch {branch.name!r} cannot be masked: zeros in weights of its own do not make it "
            "add zeros. Use keras_iplt.rewrite, which leaves it out"
        )
    for key in touched:
        variable = pieces[key][0].variable
        yield variable, zeroed(numbers_of(variable), kept_axes(variable, pieces[key], gone))
