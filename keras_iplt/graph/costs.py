"""What a model costs with some of its channels gone: parameters and FLOPs, from ids alone."""

import math
from collections.abc import Callable

import numpy as np

from keras_iplt.errors import OptionError
from keras_iplt.graph.channels import Graph

__all__ = ["flops", "macs", "parameters", "share_removed"]


def parameters(graph: Graph, gone: np.ndarray | None = None) -> int:
    """Number of parameters left when the ids marked in `gone` go."""
    total = 0
    for variable in graph.weights:
        if gone is not None and id(variable) in graph.idle:
            continue
        shape = [int(n) for n in variable.shape]
        for piece in graph.by_variable.get(id(variable), ()):
            shape[piece.axis] -= _count(gone, piece.ids)
        total += math.prod(shape)
    return total


def _works(graph: Graph, gone: np.ndarray | None, adds: bool) -> int:
    total = 0
    for work in graph.works:
        if work.adds and not adds:
            continue
        if work.factor is None:
            raise OptionError(
                f"the FLOPs of {work.path!r} cannot be counted: the model's input has no fixed "
                "size. Build it with one, or use of='params'"
            )
        total += work.factor * math.prod(len(ids) - _count(gone, ids) for ids in work.axes)
    return total


def _count(gone: np.ndarray | None, ids: np.ndarray) -> int:
    return 0 if gone is None else int(np.count_nonzero(gone[ids]))


def macs(graph: Graph, gone: np.ndarray | None = None) -> int:
    """Multiply-adds per example."""
    return _works(graph, gone, adds=False)


def flops(graph: Graph, gone: np.ndarray | None = None) -> int:
    """2 × (multiply-adds + bias additions) per example."""
    return 2 * _works(graph, gone, adds=True)


def share_removed(measure: Callable[..., float], graph: Graph) -> Callable[[np.ndarray], float]:
    """A function of `gone`: the share of `measure` that goes, with the branches left out."""
    whole = measure(graph.whole)
    return lambda gone: 1 - measure(graph, gone) / whole
