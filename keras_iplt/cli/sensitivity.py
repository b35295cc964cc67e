"""`keras-iplt sensitivity`: what each layer can lose by itself."""

import json
import pathlib

from keras_iplt.cli import work
from keras_iplt.cli.options import (
    add_command,
    add_data,
    add_loading,
    add_output,
    add_ranking,
    shares,
)
from keras_iplt.cli.outputs import check_outputs
from keras_iplt.cli.talk import Answer, say
from keras_iplt.errors import DataError

__all__ = ["add"]


def add(commands):
    parser = add_command(
        commands, "sensitivity", run,
        "Measures how a model does when one layer after the other loses filters.",
        ["keras-iplt sensitivity model.keras --data test.npz --take 500",
         "keras-iplt sensitivity model.keras --data test.npz --ratios 0.25,0.5,0.75 -o found.json",
         "keras-iplt sensitivity model.keras --data test.npz --plot found.png"],
    )  # fmt: skip
    add_loading(parser, ("model", {"help": "a .keras file"}))
    add_data(parser, "examples with labels", required=True)
    add_output(
        parser,
        "a JSON file for the result, written after each layer: after an interruption, the same "
        "command goes on where it ended",
        required=False,
    )
    parser.add_argument(
        "--plot", type=pathlib.Path, metavar="PNG", help="draw it: .png, .svg, .pdf"
    )
    parser.add_argument(
        "--ratios", type=shares, metavar="R,R,…", help="shares to try (default: 0.1,0.2,…,0.9)"
    )
    parser.add_argument("--metric", help="which one to show (default: the first there is)")
    add_ranking(parser)


def run(options):
    goes_on = options.output is not None and _goes_on(options.output)
    check_outputs(
        (None if goes_on else options.output, options.plot), (options.model, options.data),
        options.force,
    )  # fmt: skip
    if options.plot is not None:
        work.module("keras_iplt.support.extras").required("matplotlib", "plots", "--plot needs")
    iplt = work.library()
    found = work.examples(options)
    if found.y is None:
        raise DataError(f"{options.data}: expected labels as well as {found.names[0]!r}")
    model = work.compiled(work.loaded(options, options.model, compile=True), found)
    if options.output is not None and options.force:
        options.output.unlink(missing_ok=True)
    elif goes_on:
        say(f"going on with {options.output}")
    try:
        result = iplt.sensitivity(model, found.data, path=options.output, **_given(options))
    except KeyboardInterrupt:
        if options.output is not None:
            say(f"{options.output} holds what was measured: the same command goes on from there")
        raise
    if options.plot is not None:
        _plot(result, options.plot)
    written = [f"written to {path}" for path in (options.output, options.plot) if path is not None]
    return Answer("\n".join([str(result), *written]), json.loads(result.to_json()))


def _given(options):
    names = "ratios criterion metric ignore convolutions_only".split()
    given = {name: getattr(options, name, None) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def _goes_on(path):
    """Whether a file holds an analysis, of which `keras_iplt.sensitivity` tells whether it is this
    one."""
    try:
        return "fingerprint" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _plot(result, path):
    figure = work.module("keras_iplt.plots").sensitivity(result)
    with work.module("keras_iplt.support.files").replacing(path) as partial:
        figure.savefig(partial)
