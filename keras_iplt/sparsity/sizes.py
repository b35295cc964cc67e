"""What zeros are worth in bytes: compressed files, and compressed rows."""

import contextlib
import dataclasses
import gzip
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_iplt.errors import OptionError
from keras_iplt.graph.slices import numbers_of
from keras_iplt.sparsity.pool import pool_of
from keras_iplt.support.arguments import checked
from keras_iplt.support.tables import Table, Tables, thousands

__all__ = ["CompressedSize", "LayerSize", "compressed_size"]


@dataclasses.dataclass(frozen=True)
class LayerSize:
    """Bytes of one variable, as it is and in compressed rows."""

    name: str
    dense: int
    csr: int


@dataclasses.dataclass(frozen=True)
class CompressedSize(Tables):
    """How many bytes the weights of a model take. Print it for a table.

    Attributes:
        layers: a `LayerSize` for each variable that can be pruned.
        dense: bytes of all weights as they are, biases and all others included.
        csr: the same with the variables in `layers` in compressed rows wherever these are smaller.
        file, gzip: bytes of the file that `save_weights` writes, without what an optimizer
            remembers, and of that file after gzip; or of the file that was asked for.
    """

    layers: tuple[LayerSize, ...]
    dense: int
    csr: int
    file: int
    gzip: int

    def to_dict(self) -> dict[str, Any]:
        """The sizes as dicts, lists, strings and numbers."""
        return {**dataclasses.asdict(self), "layers": [*map(dataclasses.asdict, self.layers)]}

    def _blocks(self) -> list[str | Table]:
        if not self.layers:
            return [f"file {self.file:,} bytes, after gzip {self.gzip:,}"]
        rows = [("layer", "dense", "CSR", "CSR / dense")]
        for row in (*self.layers, LayerSize("all weights", self.dense, self.csr)):
            share = f"{row.csr / row.dense:.1%}"
            rows.append((row.name, thousands(row.dense), thousands(row.csr), share))
        files = f"weight file {self.file:,} bytes, after gzip {self.gzip:,}"
        return [Table(rows, left=1), files]


@checked
def compressed_size(model: keras.Model | str | os.PathLike[str]) -> CompressedSize:
    """Measures what the zeros in the weights of a model save where it is stored.

    CSR holds, of a matrix with one row per filter, the weights that are not zero, the column of
    each (in as few bytes as the number of columns needs) and where each row begins (4 bytes): a
    variable becomes smaller only beyond a sparsity that the table shows. Files are compressed with
    gzip at its default level, 6; formats that store zeros as such, .tflite among them, are as
    large as before.

    Args:
        model: any built model, wrappers of `prune_low_magnitude` stripped; or the path of a file,
            whatever its format, of which nothing but `file` and `gzip` is known.

    Returns:
        A `CompressedSize`.

    Example:

    >>> import keras
    >>> from keras_iplt import sparsity
    >>> model = keras.Sequential([
    ...     keras.Input((100,)), keras.layers.Dense(50, name="hidden"),
    ...     keras.layers.Dense(2, name="head")])
    >>> _ = sparsity.prune_weights(model, 0.9, layers="hidden")
    >>> size = sparsity.compressed_size(model)
    >>> size.dense, size.csr, size.gzip < 0.4 * size.file
    (20608, 3312, True)
    """
    if isinstance(model, (str, os.PathLike)):
        return CompressedSize((), 0, 0, *_sizes_of_file(pathlib.Path(model)))
    pool = pool_of(model)
    layers = tuple(
        LayerSize(one.path, *_sizes(numbers_of(one.variable), one.filter_axis)) for one in pool
    )
    dense = sum(numbers_of(variable).nbytes for variable in model.weights)
    saved = sum(max(0, row.dense - row.csr) for row in layers)
    return CompressedSize(layers, dense, dense - saved, *_file_sizes(model))


def _sizes(value: np.ndarray, filter_axis: int) -> tuple[int, int]:
    """Bytes of an array as it is, and in compressed rows."""
    rows = value.shape[filter_axis]
    columns = value.size // rows
    nonzeros = int(np.count_nonzero(value))
    index = np.min_scalar_type(columns - 1).itemsize
    return value.nbytes, nonzeros * (value.itemsize + index) + 4 * (rows + 1)


def _file_sizes(model: keras.Model) -> tuple[int, int]:
    with tempfile.TemporaryDirectory() as directory, _without_optimizer(model):
        path = pathlib.Path(directory, "model.weights.h5")
        model.save_weights(path)
        return _sizes_of_file(path)


def _sizes_of_file(path: pathlib.Path) -> tuple[int, int]:
    """Bytes as it is, and after gzip."""
    if not path.is_file():
        raise OptionError(f"expected a model or the path of a file, received: {str(path)!r}")
    content = path.read_bytes()
    return len(content), len(gzip.compress(content, compresslevel=6))


@contextlib.contextmanager
def _without_optimizer(model: keras.Model) -> Iterator[None]:
    """Keras writes into weight files whatever hangs on a model."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        yield
        return
    model.optimizer = None
    try:
        yield
    finally:
        model.optimizer = optimizer
