"""The bytes of a model's .tflite file, and how many are left when channels go.

    bytes = kernels + what each of their filters has + everything else

The first two follow from shapes and the precision; everything else is the difference to the file of
the whole model, and hardly changes. That is an estimate to find one's way by, good to a percent for
ordinary convolutional networks: what a budget ends with is written as well.
"""

from __future__ import annotations

import math
import pathlib
import tempfile

import keras
import numpy as np

from keras_iplt.errors import OptionError
from keras_iplt.exporting.examples import examples
from keras_iplt.exporting.formats import write
from keras_iplt.exporting.precision import in_float32
from keras_iplt.graph.channels import Graph
from keras_iplt.graph.cloning import cloned
from keras_iplt.graph.slices import numbers_of
from keras_iplt.support.progress import doing
from keras_iplt.surgery.rewriter import Rewriter

__all__ = ["FileSize", "left_of"]

# Of a weight, and of a filter: its bias and, where these are integers, scales and zero points.
_BYTES = {"float32": (4, 4), "float16": (2, 2), "dynamic": (1, 16), "int8": (1, 28)}
_LARGE = 1024  # weights: "dynamic" keeps smaller kernels in float32


class FileSize:
    """Measures a model by its .tflite file.

    Args:
        graph: the `Graph` of the whole model.
        precision: of the file, as for `keras_iplt.export`.
    """

    def __init__(self, graph: Graph, precision: str = "float32") -> None:
        self.name = "size" if precision == "float32" else f"size:{precision}"
        self._precision = precision
        nothing = np.zeros(len(graph.classes), bool)
        self._rest = _written(graph.model, precision) - self._kernels(graph, nothing)

    def cost(self, graph: Graph, gone: np.ndarray | None = None) -> float:
        """About how many bytes are left when the ids marked in `gone` go."""
        gone = np.zeros(len(graph.classes), bool) if gone is None else gone
        return self._rest + self._kernels(graph, gone)

    def exact(self, graph: Graph, gone: np.ndarray) -> float:
        """How many are left."""
        return _written(left_of(graph, gone), self._precision)

    def _kernels(self, graph: Graph, gone: np.ndarray) -> int:
        total = 0
        for variable in graph.model.weights:
            shape, filters = [int(n) for n in variable.shape], 0
            if len(shape) < 2:
                continue
            for piece in graph.by_variable.get(id(variable), ()):
                shape[piece.axis] = int(np.count_nonzero(~gone[piece.ids]))
                if piece.role != "input":
                    filters = shape[piece.axis]
            weights = math.prod(shape)
            small = self._precision == "dynamic" and weights < _LARGE
            each, own = _BYTES["float32" if small else self._precision]
            total += each * weights + own * filters
        return total


def left_of(graph: Graph, gone: np.ndarray) -> keras.Model:
    """The model without the ids marked in `gone`."""
    rewriter = Rewriter(graph, gone)
    small = rewriter.model(graph.model)
    rewriter.carry_weights()
    return small


def _written(model: keras.Model, precision: str) -> int:
    """The bytes of its file.

    Converters store equal arrays once, such as biases before training, all zero. They are moved
    apart, as training will move them, so that no file grows by being trained.
    """
    if keras.backend.backend() != "tensorflow":
        raise OptionError(
            "size: expected the TensorFlow backend, which writes .tflite, received: "
            f"{keras.backend.backend()!r}. Use params=…, or KERAS_BACKEND=tensorflow"
        )
    copy = in_float32(cloned(model, lambda layer: type(layer).from_config(layer.get_config())))
    random = np.random.default_rng(0)
    for variable, own in zip(copy.weights, model.weights, strict=True):
        value = numbers_of(own)
        if value.ndim == 1 and value.dtype.kind == "f":
            value = value + random.uniform(0, 1e-3, value.shape)
        variable.assign(value)
    samples = examples(copy, None, 1, needed=False)[0] if precision == "int8" else []
    with doing("writing a .tflite file, for its size"), tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "model.tflite"
        write(copy, path, "tflite", precision, 1, samples)
        return path.stat().st_size
