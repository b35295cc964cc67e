"""Models for TFLite in int8 of which some operations stay in float, and what int8 costs in each.

TensorFlow's converter makes operations of layers (convolution, batch norm and activation are one)
and names each after what is in it. So that no name can mean two layers, every layer is called in a
scope of its own while the graph is recorded. Operations at the outputs are named after these; what
is in them the graph tells, from the output back to what another operation has in it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import OptionError
from keras_iplt.exporting.examples import Arrays, joined
from keras_iplt.exporting.formats import converter_of, converting, io_names, serving
from keras_iplt.exporting.runtimes import outputs_of, tflite_runtime
from keras_iplt.graph.selectors import Layers, as_list, described, matches, name_of, near
from keras_iplt.support.progress import told

__all__ = ["EXAMPLES", "Integer", "Operation"]

EXAMPLES = 32  # on which costs are measured
_SCOPE = re.compile(r"(?:^|/)iplt-layer-(\d+)(?:_\d+)?(?=/)")
_OUTPUT = re.compile(r"StatefulPartitionedCall:(\d+)")


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation of a .tflite file.

    Attributes:
        kind: "CONV_2D" for instance.
        node: what the converter calls it.
        layers: by path, those that are in it or around it.
    """

    kind: str
    node: str
    layers: dict[str, keras.Layer]

    @property
    def name(self) -> str:
        """The path of the layer in it that has most weights; without layers, what there is."""
        if not self.layers:
            return _SCOPE.sub("", self.node.partition(";")[0]).lstrip("/")
        around = {path.rpartition("/")[0] for path in self.layers}
        inner = [path for path in self.layers if path not in around]
        return max(inner, key=lambda path: self.layers[path].count_params())


class Integer:
    """A model in int8, of which any operations may stay in float.

    Args:
        model: a Functional or Sequential model.
        batch_size: of the file, None for any.
        samples: a list of lists of arrays, one per input, each of one example: ranges are measured
            on them.
    """

    def __init__(
        self, model: keras.Model, batch_size: int | None, samples: Sequence[Arrays]
    ) -> None:
        import tensorflow as tf

        self._model, self._batch_size, self._names = model, batch_size, io_names(model)
        self._options = tf.lite.experimental.QuantizationDebugOptions()
        module, layers = serving(model, batch_size), list[keras.Layer]()
        with converting(model, "tflite", "int8"), tempfile.TemporaryDirectory() as directory:
            with private.calls_through(_in_scopes_of(layers)):
                graph = module.serve.get_concrete_function().graph
            names = self._names[0]
            converter = converter_of(module, directory, "int8", names, list(samples))
            with _standard_error_silent():
                self._debugger = tf.lite.experimental.QuantizationDebugger(
                    converter=converter, debug_options=self._options
                )
        self.operations = _operations(self._debugger.calibrated_model, graph, layers)

    def content(self, in_float: Sequence[Operation] = ()) -> bytes:
        """The file, some operations of which stay in float."""
        self._options.denylisted_nodes = [operation.node for operation in in_float]
        with converting(self._model, "tflite", "int8"), _standard_error_silent():
            return self._debugger.get_nondebug_quantized_model()

    def kept(self, keep_float: int | Layers, samples: Sequence[Arrays]) -> list[Operation]:
        """The operations that are to stay in float: so many, or those of some layers."""
        if isinstance(keep_float, int):
            return [operation for _, operation in self.costs(samples)[1][:keep_float]]
        return self._of(keep_float)

    def _of(self, layers: Layers) -> list[Operation]:
        """The operations in which some layers are, those in nested models included."""
        found = []
        for key in as_list(layers, "keep_float"):
            key = name_of(key) if isinstance(key, keras.Layer) else key
            meant = [
                operation
                for operation in self.operations
                if any(matches(key, layer, path) for path, layer in operation.layers.items())
            ]
            if not meant:
                names = {path for operation in self.operations for path in operation.layers}
                raise OptionError(
                    f"keep_float: no operation of the .tflite is made of a layer {described(key)}. "
                    f"Close to it: {', '.join(map(repr, near(key, names)))}"
                )
            found += meant
        return list({operation.node: operation for operation in found}.values())

    def costs(self, samples: Sequence[Arrays]) -> tuple[float, list[tuple[float, Operation]]]:
        """What all in int8 cost, and what each costs if it alone is, the worst first.

        That is how far outputs are from those of the Keras model: the root of the mean square,
        relative to the standard deviation of that output; the largest where there are several.

        Args:
            samples: a list of lists of arrays, one per input, each of one example.
        """
        size = self._batch_size or 1
        given = [joined(list(samples[i : i + size]), size) for i in range(0, len(samples), size)]
        expected = [outputs_of(self._model, inputs) for inputs in given]

        def cost(in_float: Sequence[Operation]) -> float:
            runtime = tflite_runtime(self.content(in_float), 1, *self._names)
            return _distance(expected, [runtime(inputs) for inputs in given])

        alone = [
            (cost([other for other in self.operations if other is not one]), one)
            for one in told(self.operations, "operation")
        ]
        return cost([]), sorted(alone, key=lambda pair: -pair[0])


def _distance(expected: list[Arrays], found: list[Arrays]) -> float:
    worst = 0.0
    for both in zip(zip(*expected, strict=True), zip(*found, strict=True), strict=True):
        a, b = (np.concatenate([np.ravel(x) for x in parts]).astype("float64") for parts in both)
        spread = a.std() or np.abs(a).max(initial=0) or 1.0
        worst = max(worst, float(np.sqrt(np.mean((a - b) ** 2)) / spread))
    return worst


# -- which layers are in an operation --


def _in_scopes_of(layers: list[keras.Layer]) -> Any:
    """A handler of calls that gives each layer a scope with its number in a list."""
    import tensorflow as tf

    numbers: dict[int, int] = {}

    def call(original: Any, layer: keras.Layer, args: Any, kwargs: Any) -> Any:
        if id(layer) not in numbers:
            numbers[id(layer)] = len(layers)
            layers.append(layer)
        with tf.name_scope(f"iplt-layer-{numbers[id(layer)]}"):
            return original(layer, *args, **kwargs)

    return call


def _operations(content: bytes, graph: Any, layers: list[keras.Layer]) -> list[Operation]:
    """The operations of a .tflite file that was made of a graph."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(content)
    tensors = model.subgraphs[0].tensors
    found = []
    for one in model.subgraphs[0].operators:
        kind = flatbuffer_utils.opcode_to_name(model, one.opcodeIndex)
        found.append((kind, tensors[one.outputs[0]].name.decode()))
    known = {part for _, node in found for part in node.split(";")}
    return [
        Operation(kind, node, _layers_in(_parts(node, graph, known), layers))
        for kind, node in found
    ]


def _parts(node: str, graph: Any, known: set[str]) -> list[str]:
    """The names of what an operation of a .tflite file was made of."""
    output = _OUTPUT.fullmatch(node)
    if output is None:
        return node.split(";")
    names, todo = [], [graph.outputs[int(output[1])].op]
    for operation in todo:
        if operation.name not in known and operation.name not in names:
            names.append(operation.name)
            todo += [tensor.op for tensor in operation.inputs]
    return names


def _layers_in(names: list[str], layers: list[keras.Layer]) -> dict[str, keras.Layer]:
    """By path, the layers in whose scopes names are, but for the model itself."""
    found = {}
    for name in names:
        chain = [layers[int(number)] for number in _SCOPE.findall(name)][1:]
        for i, layer in enumerate(chain):
            found["/".join(one.name for one in chain[: i + 1])] = layer
    return found


@contextlib.contextmanager
def _standard_error_silent() -> Iterator[None]:
    """Without the lines that the converter writes past Python whenever it quantises."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
