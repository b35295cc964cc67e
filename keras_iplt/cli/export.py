"""`keras-iplt export`: a model for use elsewhere."""

from keras_iplt.cli import work
from keras_iplt.cli.options import add_command, add_data, add_loading, add_output
from keras_iplt.cli.outputs import check_outputs
from keras_iplt.cli.talk import Answer, say

__all__ = ["add"]


def add(commands):
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
        "--format", help="tflite, onnx, saved_model or keras (default: what PATH says)"
    )
    parser.add_argument(
        "--precision", default="float32",
        help="of a .tflite: float32, float16, dynamic or int8 (default: %(default)s)",
    )  # fmt: skip
    add_data(parser, "examples, on which int8 measures ranges")


def run(options):
    check_outputs((options.output,), (options.model, options.data), options.force)
    iplt = work.library()
    found = work.examples(options)
    model = work.loaded(options, options.model)
    say("converting, and checking what comes out")
    with work.held_back():
        done = iplt.export(
            model, options.output, format=options.format, precision=options.precision,
            data=None if found is None else found.x,
        )  # fmt: skip
    return Answer(str(done), done.to_dict())
