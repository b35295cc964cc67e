"""Writing a model, and checking it, before it takes its place."""

import contextlib
import dataclasses
import gzip
import os
import pathlib
import shutil
import tempfile

import keras
import numpy as np

from keras_iplt import keras_private as private
from keras_iplt.errors import DataError, ExportError, ModelError, OptionError
from keras_iplt.observe import batches
from keras_iplt.shipping.formats import FORMATS, PRECISIONS, io_names, write
from keras_iplt.shipping.runtimes import load, outputs_of

__all__ = ["Export", "export"]

# How far outputs may be off, relative to the largest.
_TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "dynamic": 0.1, "int8": 0.2}


@dataclasses.dataclass(frozen=True)
class Export:
    """What was written, and how it was checked. Print it for a summary.

    Attributes:
        path, format, precision: what was written where.
        size, gzip: bytes, as it is and compressed.
        difference, tolerance: how far its outputs are from those of the Keras model, relative to
            the largest, and how far they might have been.
        latency: seconds that one example takes, on one thread in TFLite.
        runtime: what ran it.
        inputs, outputs: shapes by name.
    """

    path: str
    format: str
    precision: str
    size: int
    gzip: int
    difference: float
    tolerance: float
    latency: float
    runtime: str
    inputs: dict
    outputs: dict

    def to_dict(self):
        """The same as dicts, lists, strings and numbers."""
        shapes = {
            name: {key: list(shape) for key, shape in getattr(self, name).items()}
            for name in ("inputs", "outputs")
        }
        return {**dataclasses.asdict(self), **shapes}

    def __str__(self):
        def listed(shapes):
            return ", ".join(f"{name} {shape}" for name, shape in shapes.items())

        return "\n".join([
            f"{self.path}: {self.format}, {self.precision}",
            f"  {listed(self.inputs)} -> {listed(self.outputs)}",
            f"  {self.size:,} bytes, after gzip {self.gzip:,}",
            f"  outputs differ by {self.difference:.1e} (up to {self.tolerance:.0e} is allowed)",
            f"  {1e3 * self.latency:.2f} ms for one example in {self.runtime}",
        ])  # fmt: skip


def export(model, path, format=None, precision="float32", data=None, batch_size=1, tolerance=None):
    """Writes a model for use elsewhere: as .tflite, SavedModel or .keras.

    The model is written beside its place, loaded in the runtime that it is for, and compared with
    the Keras model on the same examples. Only then does it take its place; if anything goes wrong
    an error says so, and what was there before is as it was.

    Args:
        model: a Functional or Sequential model.
        path: where: `.tflite`, `.keras`, or a directory for a SavedModel.
        format: `"tflite"`, `"saved_model"` or `"keras"`; by default, what the path says.
        precision: of the weights, for .tflite: `"float32"`; `"float16"`; `"dynamic"`, int8 weights
            and float32 activations; `"int8"`, both, with inputs and outputs in float32.
        data: examples: `x`, `(x, y)` or batches of these. `"int8"` measures ranges on them (100 are
            enough); for the others random numbers do, if all sizes are known.
        batch_size: of what is written, for .tflite: a fixed one lets runtimes plan ahead; None for
            any. A SavedModel takes any, unless the model says otherwise.
        tolerance: how far outputs may be off, relative to the largest; by default 1e-4, and for
            less precise weights 1e-2, 0.1 and 0.2.

    Returns:
        An `Export`. Print it for a summary.

    Example:

    >>> import os, tempfile
    >>> import keras
    >>> import keras_iplt as iplt
    >>> model = keras.Sequential([
    ...     keras.Input((4,), name="x"), keras.layers.Dense(2, name="scores")])
    >>> path = os.path.join(tempfile.mkdtemp(), "model.keras")
    >>> done = iplt.export(model, path)
    >>> done.inputs, done.outputs, done.size == os.path.getsize(path)
    ({'x': (None, 4)}, {'scores': (None, 2)}, True)
    """
    path, format = pathlib.Path(path), _format(path, format)
    _check(model, path, format, precision, batch_size, tolerance)
    batch_size = batch_size if format == "tflite" else None
    quantized = precision == "int8"
    samples = _samples(model, data, 100 if quantized else 4, needed=quantized)
    tolerance = _TOLERANCES[precision] if tolerance is None else float(tolerance)
    with _beside(path) as partial:
        write(model, partial, format, precision, batch_size, samples)
        runtime = load(model, partial, format)
        difference = _difference(model, runtime, samples[:8], batch_size or 1)
        if not difference <= tolerance:
            raise ExportError(
                f"{path}: expected outputs within {tolerance:g} of those of model {model.name!r}, "
                f"received: {difference:.3g} as {format}, {precision}. Nothing was written"
            )
        latency = runtime.latency(samples[0]) if batch_size in (None, 1) else runtime.latency(
            _repeated(samples[0], batch_size)) / batch_size  # fmt: skip
        size, compressed = _sizes(partial)
        _put_in_place(partial, path)
    names, tensors = io_names(model), (model.inputs, model.outputs)
    inputs, outputs = (
        {name: (batch_size, *x.shape[1:]) for name, x in zip(*pair, strict=True)}
        for pair in zip(names, map(keras.tree.flatten, tensors), strict=True)
    )
    return Export(
        str(path), format, precision, size, compressed, difference, tolerance, latency,
        runtime.name, inputs, outputs,
    )  # fmt: skip


# -- checks --


def _format(path, format):
    """The format that was asked for, or that a path says."""
    if format is None:
        suffix = pathlib.Path(path).suffix
        known = {end: name for name, end in FORMATS.items()}
        format = known.get(suffix)
    if format not in FORMATS:
        raise OptionError(
            f"path: expected one that ends with .tflite or .keras, or a directory for a "
            f"SavedModel (or format={', '.join(map(repr, FORMATS))}), received: {str(path)!r}"
            + ("" if format is None else f" with format={format!r}")
        )
    return format


def _check(model, path, format, precision, batch_size, tolerance):
    if not isinstance(model, (keras.Sequential, private.Functional)) or not model.built:
        raise ModelError(
            f"model: expected a built Functional or Sequential model, received: {model!r}. A "
            "subclassed model becomes one by keras.Model(inputs, model(inputs))"
        )
    if precision not in PRECISIONS:
        raise OptionError(f"precision: expected one of {PRECISIONS}, received: {precision!r}")
    if precision != "float32" and format != "tflite":
        raise OptionError(
            f"precision: expected 'float32' for format {format!r}, received: {precision!r}"
        )
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise OptionError(
            f"batch_size: expected a positive integer or None, received: {batch_size!r}"
        )
    if tolerance is not None and not (isinstance(tolerance, (int, float)) and tolerance >= 0):
        raise OptionError(
            f"tolerance: expected a number that is not negative, received: {tolerance!r}"
        )
    if not path.parent.is_dir():
        raise OptionError(f"path: expected one in a directory that exists, received: {str(path)!r}")
    if format == "saved_model":
        if path.exists() and not (path / "saved_model.pb").exists():
            raise OptionError(
                "path: expected a new directory or an earlier SavedModel, received: "
                f"{str(path)!r}, which is something else"
            )
    elif path.is_dir():
        raise OptionError(f"path: expected a file, received: the directory {str(path)!r}")


# -- examples --


def _samples(model, data, most, needed):
    """Up to so many examples: lists of arrays with a batch axis of 1, one per input."""
    if data is not None:
        found = []
        for batch in batches(model, data):
            arrays = [keras.ops.convert_to_numpy(x) for x in batch.inputs]
            found += [[x[i : i + 1] for x in arrays] for i in range(len(arrays[0]))]
            if len(found) >= most:
                break
        return found[:most]
    if needed:
        raise DataError("data: expected examples to measure ranges on for 'int8', received: None")
    random = np.random.default_rng(0)
    return [[_random(random, x) for x in keras.tree.flatten(model.inputs)] for _ in range(4)]


def _random(random, x):
    shape = (1, *x.shape[1:])
    if None in shape:
        raise DataError(
            f"data: expected examples, since input {x.name!r} has no fixed size: "
            f"{tuple(x.shape)}; received: None"
        )
    if "int" in x.dtype or x.dtype == "bool":
        return random.integers(0, 2, shape).astype(x.dtype)
    return random.normal(size=shape).astype(x.dtype)


def _repeated(sample, batch_size):
    return [np.repeat(x, batch_size, axis=0) for x in sample]


def _difference(model, runtime, samples, batch_size):
    """How far outputs are apart, relative to the largest there is of each."""
    largest, apart = 1e-6, 0.0
    for sample in samples:
        given = _repeated(sample, batch_size)
        for a, b in zip(outputs_of(model, given), runtime(given), strict=True):
            if a.shape != b.shape or not np.isfinite(b[np.isfinite(a)]).all():
                return float("inf")
            largest = max(largest, float(np.abs(a).max()))
            apart = max(apart, float(np.abs(a - b).max()))
    return apart / largest


# -- files --


@contextlib.contextmanager
def _beside(path):
    """A place next to `path` that is gone afterwards."""
    try:
        directory = tempfile.mkdtemp(prefix=".export-", dir=path.parent)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error}") from error
    try:
        yield pathlib.Path(directory) / path.name
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _put_in_place(partial, path):
    """Replaces what is at `path`; a directory is first moved aside, and back if that fails."""
    if not path.is_dir():
        os.replace(partial, path)
        return
    old = partial.with_name("old")
    os.replace(path, old)
    try:
        os.replace(partial, path)
    except OSError:
        os.replace(old, path)
        raise


def _sizes(path):
    """Bytes of a file or of all files in a directory, as they are and after gzip."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    contents = [file.read_bytes() for file in files]
    return sum(map(len, contents)), sum(len(gzip.compress(c, 6)) for c in contents)
