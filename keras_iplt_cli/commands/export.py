"""`keras-iplt export`: a model for use elsewhere."""

import argparse

from keras_iplt_cli.errors import CommandError
from keras_iplt_cli.files import check_inputs, check_outputs
from keras_iplt_cli.options import (
    Commands,
    add_command,
    add_data,
    add_loading,
    add_output,
    not_negative,
)
from keras_iplt_cli.talk import Answer

__all__ = ["FORMATS", "IO_DTYPES", "PRECISIONS", "add"]

# Known here so that what cannot be is found out at once.
FORMATS = {"tflite": ".tflite", "onnx": ".onnx", "saved_model": "", "keras": ".keras"}
PRECISIONS = ("float32", "float16", "dynamic", "int8", "int16x8")
IO_DTYPES = ("float32", "int8", "uint8", "int16")


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "export", run,
        "Writes a model as .tflite, .onnx, SavedModel or .keras, and checks what it computes.",
        ["keras-iplt export small.keras -o small.tflite",
         "keras-iplt export small.keras -o small.tflite --precision int8 --data test.npz",
         "keras-iplt export small.keras -o small_saved_model"],
    )  # fmt: skip
    add_loading(parser, ("model", {"help": "a .keras file"}))
    add_output(parser, "where it goes: .tflite, .onnx, .keras, or a directory for a SavedModel")
    parser.add_argument(
        "--format", choices=FORMATS, metavar="FORMAT",
        help="tflite, onnx, saved_model or keras (default: what PATH says)",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32", metavar="PRECISION",
        help="of a .tflite: float32, float16, dynamic, int8 or int16x8 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--tolerance", type=not_negative, metavar="SHARE",
        help="how far outputs may be off, relative to the largest (default: 1e-4, for less precise "
        "weights more)",
    )  # fmt: skip
    parser.add_argument(
        "--keep-float", action="append", metavar="N|NAME",
        help="of int8, what stays in float: a number of layers, those in which int8 costs most, or "
        "the name of one, or a pattern such as 'conv_dw_*'; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--io-dtype", choices=IO_DTYPES, default="float32", metavar="DTYPE",
        help="of inputs and outputs of a .tflite of integers: float32, int8, uint8, or int16 of "
        "int16x8 (default: %(default)s)",
    )  # fmt: skip
    add_data(parser, "examples, on which int8 measures ranges, and accuracy if they have labels")


def run(options: argparse.Namespace) -> Answer:
    _check(options)
    check_inputs(options.model, options.data)
    check_outputs((options.output,), (options.model, options.data), options.force)
    from keras_iplt_cli.work.shipping import exported

    return exported(options)


def _check(options: argparse.Namespace) -> None:
    """Refuses what no model can be written as."""
    suffix = options.output.suffix
    by_suffix = {end: name for name, end in FORMATS.items()}
    format = options.format or by_suffix.get(suffix)
    if format is None:
        raise CommandError(
            f"-o: expected one that ends with .tflite, .onnx or .keras, or a directory for a "
            f"SavedModel (or --format {', '.join(FORMATS)}), received: {str(options.output)!r}"
        )
    if options.precision != "float32" and format != "tflite":
        raise CommandError(
            f"--precision: expected float32 for {format}, received: {options.precision}; only "
            ".tflite has others"
        )
    if options.keep_float and options.precision != "int8":
        raise CommandError("--keep-float: it is for --precision int8")
    if options.precision in ("int8", "int16x8") and options.data is None:
        raise CommandError(
            f"--precision {options.precision} measures the ranges of activations on examples: name "
            "them with --data FILE.npz, as with --data test.npz --take 100"
        )
