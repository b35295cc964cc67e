"""`keras-iplt sensitivity`: what each layer can lose by itself."""

import argparse
import json
import pathlib

from keras_iplt_cli.files import check_inputs, check_outputs
from keras_iplt_cli.options import (
    Commands,
    add_command,
    add_data,
    add_loading,
    add_output,
    add_ranking,
    shares,
)
from keras_iplt_cli.talk import Answer

__all__ = ["add"]

_LARGEST = 1 << 24  # bytes of an analysis


def add(commands: Commands) -> None:
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


def run(options: argparse.Namespace) -> Answer:
    goes_on = options.output is not None and _goes_on(options.output)
    check_inputs(options.model, options.data)
    check_outputs(
        (None if goes_on else options.output, options.plot), (options.model, options.data),
        options.force,
    )  # fmt: skip
    from keras_iplt_cli.work.measuring import measured

    return measured(options, goes_on)


def _goes_on(path: pathlib.Path) -> bool:
    """Whether a file holds an analysis.
    `keras_iplt.sensitivity` tells whether it is this one."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return False
        return "fingerprint" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return False
