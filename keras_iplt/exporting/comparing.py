"""How far what a file computes is from what the Keras model computes."""

import math
import pathlib
from typing import Any

import keras
import numpy as np

from keras_iplt.errors import DataError, ExportError, PruningError
from keras_iplt.exporting.accuracy import in_words
from keras_iplt.exporting.examples import Arrays, joined
from keras_iplt.exporting.formats import INTEGER, one_line
from keras_iplt.exporting.runtimes import Runtime, load, outputs_of

__all__ = ["RANGES", "difference_of", "expected_of", "found_by", "to_compare", "way_on"]

RANGES = 100  # examples on which int8 measures ranges
_CLOSER = {"int8": "dynamic", "int16x8": "dynamic", "dynamic": "float16", "float16": "float32"}


def to_compare(samples: list[Arrays], batch_size: int | None) -> list[Arrays]:
    """Batches: of each example alone and of two, if any size is to do, else of that many."""
    if batch_size is None:
        return [*samples, joined(samples, 2)]
    return [joined(samples[i:] + samples[:i], batch_size) for i in range(len(samples))]


def expected_of(model: keras.Model, given: list[Arrays], data: Any) -> list[Arrays]:
    """What the Keras model computes."""
    try:
        expected = [outputs_of(model, inputs) for inputs in given]
    except Exception as error:  # the model's own
        raise DataError(
            f"data: model {model.name!r} fails on "
            + ("random numbers; give it examples" if data is None else "these examples")
            + f" ({one_line(error)})"
        ) from error
    for outputs in zip(*expected, strict=True):
        if not any(np.isfinite(_numbers(x)).any() for x in outputs):
            raise ExportError(
                f"model {model.name!r}: expected outputs to compare, received only NaN or infinity"
            )
    return expected


def found_by(
    model: keras.Model, path: pathlib.Path, format: str, given: list[Arrays]
) -> tuple[Runtime, list[Arrays]]:
    """The runtime, and what it computes."""
    try:
        runtime = load(model, path, format)
        return runtime, [runtime(inputs) for inputs in given]
    except (PruningError, OSError):
        raise
    except Exception as error:  # runtimes raise whatever they like
        raise ExportError(
            f"model {model.name!r} does not run as {format!r}: {one_line(error)}. Nothing was "
            "written"
        ) from error


def difference_of(expected: list[Arrays], found: list[Arrays]) -> float:
    """How far outputs are apart, relative to the largest number of that output."""
    worst = 0.0
    pairs = [zip(*both, strict=True) for both in zip(expected, found, strict=True)]
    for output in zip(*pairs, strict=True):
        largest, apart = 1e-6, 0.0
        for a, b in output:
            if a.shape != b.shape:
                return float("inf")
            a, b = _numbers(a), _numbers(b)
            finite = np.isfinite(a)
            if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
                return float("inf")
            if not np.isfinite(b[finite]).all():
                return float("inf")
            largest = max(largest, float(np.abs(a[finite]).max(initial=0)))
            apart = max(apart, float(np.abs(a[finite] - b[finite]).max(initial=0)))
        worst = max(worst, apart / largest)
    return worst


def way_on(
    precision: str,
    difference: float,
    given: int,
    labelled: bool,
    accuracy: tuple[float, float] | None,
    worst: list[str],
) -> str:
    """What to do about a file whose outputs are too far off, as sentences.

    Args:
        precision, difference: of the file; "trained" for one of a model trained in integers.
        given: how many examples there were.
        labelled: whether with labels.
        accuracy: of model and file, where the labels tell.
        worst: the layers that are to be in float instead, as far as that is known.
    """
    ways = []
    if accuracy is not None:
        ways.append(f"{in_words(accuracy)}, on {given} examples")
    if precision in INTEGER and given < RANGES:
        ways.append(f"give more examples as data: {given} were given, {RANGES} are of use")
    if precision in INTEGER:
        ways.append(
            "take off what rounding shifts: keras_iplt.quantization.quantize_model, then calibrate"
        )
    if worst:
        ways.append(
            f"leave what int8 costs most in float: keep_float={len(worst)} (--keep-float "
            f"{len(worst)}: {', '.join(dict.fromkeys(worst))}; keras_iplt.quantization_errors "
            "tells of all layers)"
        )
    if precision in _CLOSER:
        ways.append(f"take precision={_CLOSER[precision]!r}, which is closer")
    if math.isfinite(difference):
        more = f"{1.1 * difference:.2g}"
        ways.append(f"allow more: tolerance={more} (--tolerance {more} on the command line)")
    if not labelled:
        ways.append("give labels too, data=(x, y), to see what it costs in accuracy")
    if precision in (*INTEGER, "dynamic"):
        ways.append(
            "train with weights rounded as they will be: keras_iplt.quantization.quantize_model"
        )
    return "".join(f". {way[0].upper()}{way[1:]}" for way in ways)


def _numbers(x: Any) -> np.ndarray:
    """As float64: differences of booleans and of unsigned integers are none."""
    return np.asarray(x, "float64")
