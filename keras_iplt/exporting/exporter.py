"""Writing a model, and checking it, before it takes its place."""

import dataclasses
import gzip
import pathlib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import keras
import numpy as np

from keras_iplt import _keras as private
from keras_iplt.errors import ExportError, ModelError, OptionError, WeightsError
from keras_iplt.exporting.accuracy import accuracies, in_words
from keras_iplt.exporting.comparing import (
    RANGES,
    difference_of,
    expected_of,
    found_by,
    to_compare,
    way_on,
)
from keras_iplt.exporting.examples import Arrays, examples
from keras_iplt.exporting.formats import FORMATS, INTEGER, TFLITE_PRECISIONS, io_names, write
from keras_iplt.exporting.io_dtypes import IO_DTYPES, check_io_dtype, with_io_dtype
from keras_iplt.exporting.mixed import EXAMPLES, Integer
from keras_iplt.exporting.onnx_files import check_installed
from keras_iplt.exporting.precision import in_float32, precisions_of
from keras_iplt.exporting.written import (
    apart_in_steps,
    as_written,
    check_asked,
    precision_of,
    says_how,
    steps_of,
)
from keras_iplt.graph.channels import Shape
from keras_iplt.graph.selectors import Layers
from keras_iplt.graph.slices import numbers_of
from keras_iplt.support.arguments import (
    Count,
    Data,
    Kind,
    NotNegative,
    Path,
    Verbosity,
    checked,
    one_of,
)
from keras_iplt.support.files import beside, put_in_place
from keras_iplt.support.progress import doing, silent
from keras_iplt.support.text import printable

__all__ = ["MODEL", "Export", "batch_size_of", "check_model", "export"]

# How far outputs may be off, relative to the largest: by how weights are written, and by what the
# Keras model itself computes in.
_TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "dynamic": 0.1, "int8": 0.2, "int16x8": 0.2}
_OWN_TOLERANCES = {"float16": 1e-2, "bfloat16": 0.1}


@dataclasses.dataclass(frozen=True)
class Export:
    """What was written, and how it was checked. Print it for a summary.

    Attributes:
        path, format, precision: what was written where.
        size, gzip: bytes, as it is and compressed.
        difference, tolerance: how far its outputs are from those of the Keras model, relative to
            the largest of that output, and how far they might have been.
        latency: seconds that one example takes, in TFLite and onnxruntime on one thread.
        runtime: what ran it.
        inputs, outputs: shapes by name.
        accuracy: of the Keras model and of what was written, on up to 256 examples; None without
            labels that say which output is right.
        in_float: the layers that `keep_float` left in float, one for each operation.
        io_dtype: of inputs and outputs of a .tflite of integers.
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
    inputs: dict[str, Shape]
    outputs: dict[str, Shape]
    accuracy: tuple[float, float] | None = None
    in_float: tuple[str, ...] = ()
    io_dtype: str = "float32"

    def to_dict(self) -> dict[str, Any]:
        """The same as dicts, lists, strings and numbers."""
        shapes = {
            name: {key: list(shape) for key, shape in getattr(self, name).items()}
            for name in ("inputs", "outputs")
        }
        return {**dataclasses.asdict(self), **shapes, "in_float": [*self.in_float]}

    def __str__(self) -> str:
        def listed(shapes: dict[str, Shape]) -> str:
            return ", ".join(f"{name} {shape}" for name, shape in shapes.items())

        lines = [
            f"{self.path}: {self.format}, {self.precision}",
            f"  {listed(self.inputs)} -> {listed(self.outputs)}",
            f"  {self.size:,} bytes, after gzip {self.gzip:,}",
            f"  outputs differ by {self.difference:.1e} (up to {self.tolerance:.0e} is allowed)",
            f"  {1e3 * self.latency:.2f} ms for one example in {self.runtime}",
        ]
        if self.accuracy is not None:
            lines.insert(4, f"  {in_words(self.accuracy)}")
        if self.io_dtype != "float32":
            lines[1] += f", {self.io_dtype}"
        if self.in_float:
            lines.append(f"  in float: {', '.join(self.in_float)}")
        return "\n".join(map(printable, lines))


MODEL = Kind("a built Functional or Sequential model", error=ModelError)


@checked
def export(
    model: Annotated[keras.Model, MODEL],
    path: Path,
    format: Annotated[str, one_of(*FORMATS)] | None = None,
    precision: Annotated[str, one_of(*TFLITE_PRECISIONS)] = "float32",
    data: Data | None = None,
    batch_size: Count | Literal["auto"] | None = "auto",
    tolerance: NotNegative | None = None,
    keep_float: Count | Layers = (),
    io_dtype: Annotated[str, one_of(*IO_DTYPES)] = "float32",
    verbose: Verbosity = 1,
) -> Export:
    """Writes a model for use elsewhere: as .tflite, .onnx, SavedModel or .keras.

    The model is written beside its place, loaded in the runtime that it is for, and compared with
    the Keras model on the same examples. Only then does it take its place; if anything goes wrong
    an error says so, and what was there before is as it was.

    A model of mixed precision is written in float32, and only as .keras as it is. One that was
    trained as it will compute in integers (`keras_iplt.quantization`) is written so, with the
    ranges that it was trained with, and compared in steps of what comes out.

    Args:
        model: a Functional or Sequential model.
        path: where: `.tflite`, `.onnx`, `.keras`, or a directory for a SavedModel.
        format: `"tflite"`, `"onnx"`, `"saved_model"` or `"keras"`; by default, what the path says.
        precision: of the weights, for .tflite: `"float32"`; `"float16"`; `"dynamic"`, int8 weights
            and float32 activations; `"int8"`, both, with inputs and outputs in float32;
            `"int16x8"`, int8 weights and int16 activations, which few runtimes compute fast.
        data: examples: `x`, `(x, y)` or batches of these. `"int8"` and `"int16x8"` measure ranges
            on them (100 are enough); for the others random numbers do, if all sizes are known. With
            labels, accuracy is measured as well.
        batch_size: of what is written: a number, None for any, or `"auto"`, which is any but for
            .tflite, where it is 1, since phones plan ahead for a size that they know. What the
            inputs of the model say comes first.
        tolerance: how far outputs may be off, relative to the largest; by default 1e-4, and for
            less precise weights 1e-2, 0.1 and 0.2.
        keep_float: of `"int8"`, layers that stay in float, with what is computed together with
            them: names, patterns, classes …; or how many, those in which int8 costs most.
        io_dtype: of the inputs and outputs of a .tflite that computes in integers: `"float32"`,
            which it converts itself, `"int8"` or `"uint8"`, and of `"int16x8"` `"int16"`. Inputs
            that are integers in the model, as tokens are, stay so.
        verbose: 0 for no word about what takes long, which only terminals and notebooks get.

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
    path = pathlib.Path(path)
    format = _format(path) if format is None else format
    _check(path, format, precision, keep_float)
    check_model(model, format)
    if says_how(model):
        check_asked(precision, keep_float)
    batch_size = batch_size_of(model, format, batch_size)
    with silent(when=not verbose):
        return _exported(
            model, path, format, precision, data, batch_size, tolerance, keep_float, io_dtype
        )


def _exported(
    model: keras.Model,
    path: pathlib.Path,
    format: str,
    precision: str,
    data: Any,
    batch_size: int | None,
    tolerance: float | None,
    keep_float: int | Layers,
    io_dtype: str,
) -> Export:
    trained = format != "keras" and says_how(model)  # to compute in integers
    rounded = trained and format == "tflite"
    shipped = model if format == "keras" else as_written(in_float32(model))
    precision = precision_of(shipped) if rounded else precision
    check_io_dtype(io_dtype, format, precision)
    # Ranges that stand in the graph need no examples.
    measured = precision in INTEGER and not rounded
    most = RANGES if measured else 4
    found, labels = examples(model, data, most, needed=measured)
    given = to_compare(found[: RANGES if trained else min(most, 8)], batch_size)
    expected = expected_of(model, given, data)
    wanted = "int8" if trained else precision
    allowed = _tolerance(model, wanted) if tolerance is None else float(tolerance)
    integer, kept = None, []
    if keep_float:
        integer = Integer(shipped, batch_size, found[:most])
        kept = integer.kept(keep_float, found[:EXAMPLES])
    with beside(path, ExportError) as partial:
        with doing(f"writing {path}"):
            if integer is not None:
                partial.write_bytes(integer.content(kept))
            else:
                write(
                    shipped,
                    partial,
                    format,
                    precision,
                    batch_size,
                    found[:most] if measured else [],
                )
            if io_dtype != "float32":
                partial.write_bytes(with_io_dtype(model, partial.read_bytes(), io_dtype))
        with doing("running it beside the model"):
            runtime, received = found_by(shipped, partial, format, given)
            difference = difference_of(expected, received)
            if trained and tolerance is None:
                steps = steps_of(shipped)
                difference, allowed = apart_in_steps(expected, received, steps) or (
                    difference,
                    allowed,
                )
            accuracy = accuracies(model, runtime, found, labels, batch_size)
        if not difference <= allowed:
            worst = _worst(
                shipped, precision if measured else None, integer, batch_size, found, len(kept) + 3
            )
            raise ExportError(
                f"{path}: expected outputs within {allowed:.3g} of those of model {model.name!r}, "
                f"received: {difference:.3g} as {format}, {precision}. Nothing was written"
                + way_on(
                    "trained" if trained else precision,
                    difference,
                    len(found),
                    labels is not None,
                    accuracy,
                    worst,
                )
            )
        with doing("measuring it"):
            done = Export(
                str(path), format, precision, *_sizes(partial), difference, allowed,
                runtime.latency(given[0]) / (batch_size or 1), runtime.name,
                *_shapes(shipped, batch_size), accuracy, tuple(one.name for one in kept), io_dtype,
            )  # fmt: skip
        put_in_place(partial, path)
    return done


def _worst(
    model: keras.Model,
    precision: str | None,
    integer: Integer | None,
    batch_size: int | None,
    samples: list[Arrays],
    count: int,
) -> list[str]:
    """The layers in which int8 costs most; none where that is not to be had."""
    if precision != "int8":
        return []
    try:
        integer = integer or Integer(model, batch_size, samples[:RANGES])
        return [one.name for _, one in integer.costs(samples[:EXAMPLES])[1][:count]]
    except ExportError:
        return []


# -- what is asked for --


def _format(path: pathlib.Path) -> str:
    """The format that a path says."""
    known = {end: name for name, end in FORMATS.items()}
    if path.suffix not in known:
        raise OptionError(
            f"path: expected one that ends with .tflite, .onnx or .keras, or a directory for a "
            f"SavedModel (or format={', '.join(map(repr, FORMATS))}), received: {str(path)!r}"
        )
    return known[path.suffix]


def check_model(model: keras.Model, format: str) -> None:
    """Refuses models that cannot be written in a format."""
    if not isinstance(model, (keras.Sequential, private.Functional)) or not model.built:
        raise ModelError(
            f"model: expected a built Functional or Sequential model, received: {model!r}. A "
            "subclassed model becomes one by keras.Model(inputs, model(inputs))"
        )
    if format != "keras" and keras.backend.backend() != "tensorflow":
        raise OptionError(
            f"format {format!r}: expected the TensorFlow backend, received: "
            f"{keras.backend.backend()!r}. Export a .keras file, and from there with "
            "KERAS_BACKEND=tensorflow"
        )
    if format == "onnx":
        check_installed()
    _check_contents(model)


def _check(path: pathlib.Path, format: str, precision: str, keep_float: int | Layers) -> None:
    """Refuses what cannot work before anything is written."""
    if precision != "float32" and format != "tflite":
        raise OptionError(
            f"precision: expected 'float32' for format {format!r}, received: {precision!r}; only "
            ".tflite has others"
        )
    if keep_float and precision != "int8":
        raise OptionError(
            f"keep_float: expected none for precision {precision!r}, received: {keep_float!r}; it "
            "is for 'int8'"
        )
    _check_place(path, format)


def _check_place(path: pathlib.Path, format: str) -> None:
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


def _check_contents(model: keras.Model) -> None:
    for layer in private.all_layers(model):
        if getattr(layer, "stateful", False):
            raise ModelError(
                f"layer {layer.name!r}: expected stateful=False, since no format keeps what a "
                "layer remembers from one call to the next"
            )
    for variable in model.variables:
        numbers = numbers_of(variable)
        if numbers.dtype.kind == "f" and np.isnan(numbers).any():
            raise WeightsError(f"weights: expected numbers, received NaN in {variable.path}")


def batch_size_of(model: keras.Model, format: str, batch_size: int | str | None) -> int | None:
    """What is asked for, or what the inputs of the model say, or what suits the format."""
    auto = batch_size == "auto"
    wanted = batch_size if isinstance(batch_size, int) else None
    fixed = {x.shape[0] for x in keras.tree.flatten(model.inputs)} - {None}
    own = min(fixed, default=None)
    if auto:
        return 1 if own is None and format == "tflite" else own
    if wanted != own and (fixed or format == "keras"):
        raise OptionError(
            f"batch_size: expected that of the model's inputs, {own}"
            + (", which a .keras file keeps" if format == "keras" else "")
            + f"; received: {batch_size!r}"
        )
    return wanted


def _tolerance(model: keras.Model, precision: str) -> float:
    own = [_OWN_TOLERANCES.get(dtype, 0) for dtype in precisions_of(model)]
    return max(_TOLERANCES[precision], *own, 0)


def _sizes(path: pathlib.Path) -> tuple[int, int]:
    """Bytes of a file or of all files in a directory, as they are and after gzip."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    contents = [file.read_bytes() for file in files]
    return sum(map(len, contents)), sum(len(gzip.compress(c, 6)) for c in contents)


def _shapes(
    model: keras.Model, batch_size: int | None
) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Of inputs and of outputs, by name."""

    def named(names: Iterable[str], tensors: Any) -> dict[str, Shape]:
        flat = keras.tree.flatten(tensors)
        return {name: (batch_size, *x.shape[1:]) for name, x in zip(names, flat, strict=True)}

    inputs, outputs = io_names(model)
    return named(inputs, model.inputs), named(outputs, model.outputs)
