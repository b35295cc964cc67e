"""What int8 costs in which layer."""

import dataclasses
from typing import Annotated, Any

import keras

from keras_iplt.errors import ModelError
from keras_iplt.exporting.comparing import RANGES
from keras_iplt.exporting.examples import examples
from keras_iplt.exporting.exporter import MODEL, batch_size_of, check_model
from keras_iplt.exporting.mixed import EXAMPLES, Integer
from keras_iplt.exporting.precision import in_float32
from keras_iplt.exporting.written import says_how
from keras_iplt.support.arguments import Data, Verbosity, checked
from keras_iplt.support.progress import doing, silent
from keras_iplt.support.tables import Table, Tables

__all__ = ["OperationError", "QuantizationErrors", "quantization_errors"]


@dataclasses.dataclass(frozen=True)
class OperationError:
    """What int8 costs in one operation of the .tflite.

    Attributes:
        layer: the path of the layer in it that has most weights.
        layers: those of all layers that are in it or around it.
        operation: what TFLite calls it.
        error: how far outputs are off if it alone computes in int8.
    """

    layer: str
    layers: tuple[str, ...]
    operation: str
    error: float


@dataclasses.dataclass(frozen=True)
class QuantizationErrors(Tables):
    """What int8 costs in which operation. Print it for a table, worst first.

    Errors are the root of the mean square of what outputs are off, relative to their standard
    deviation.

    Attributes:
        operations: an `OperationError` for each, worst first.
        error: of all in int8.
    """

    operations: tuple[OperationError, ...]
    error: float

    def to_dict(self) -> dict[str, Any]:
        """The same as dicts, lists, strings and numbers."""
        return dataclasses.asdict(self)

    def _blocks(self) -> list[str | Table]:
        rows = [("layer", "operation", "error alone")]
        rows += [(one.layer, one.operation, f"{one.error:.4f}") for one in self.operations]
        return [Table([*rows, ("all in int8", "", f"{self.error:.4f}")], left=2)]


@checked
def quantization_errors(
    model: Annotated[keras.Model, MODEL], data: Data, verbose: Verbosity = 1
) -> QuantizationErrors:
    """Measures what int8 costs in each layer of a model.

    The model is converted once for each operation of the .tflite, with that one in int8 and all
    others in float, and its outputs are compared with those of the Keras model. Those that cost
    most are left in float by `export(..., precision="int8", keep_float=)`. TensorFlow only.

    Args:
        model: a Functional or Sequential model.
        data: examples: `x`, `(x, y)` or batches of these. Ranges are measured on the first 100,
            errors on the first 32.
        verbose: 0 for no word about what takes long, which only terminals and notebooks get.

    Returns:
        A `QuantizationErrors`. Print it for a table.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(2, "relu", name="hidden"),
    ...     keras.layers.Dense(2, name="head")])
    >>> found = quantization_errors(model, np.random.default_rng(0).normal(size=(50, 4)))
    >>> sorted((one.layer, one.operation) for one in found.operations)
    [('head', 'FULLY_CONNECTED'), ('hidden', 'FULLY_CONNECTED')]
    """
    check_model(model, "tflite")
    if says_how(model):
        raise ModelError(
            f"model: expected one in floating point, received: model {model.name!r}, which was "
            "trained in integers. keras_iplt.quantization.strip_quantization makes it plain again"
        )
    found, _ = examples(model, data, RANGES, needed=True)
    with silent(when=not verbose):
        with doing("converting"):
            integer = Integer(
                in_float32(model), batch_size_of(model, "tflite", "auto"), found[:RANGES]
            )
        error, costs = integer.costs(found[:EXAMPLES])
    rows = [OperationError(one.name, (*one.layers,), one.kind, cost) for cost, one in costs]
    return QuantizationErrors(tuple(rows), error)
