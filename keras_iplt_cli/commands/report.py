"""`keras-iplt report`: a page about a model, or about what pruning did to it."""

import argparse
import pathlib

from keras_iplt_cli.files import check_inputs, check_outputs
from keras_iplt_cli.options import Commands, add_command, add_data, add_loading, add_output
from keras_iplt_cli.talk import Answer

__all__ = ["add"]


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "report", run,
        "Writes an HTML page about a model, or about two, before and after pruning.",
        ["keras-iplt report model.keras small.keras -o report.html",
         "keras-iplt report model.keras -o report.html --sensitivity found.json"],
    )  # fmt: skip
    add_loading(
        parser,
        ("before", {"help": "a .keras file"}),
        ("after", {"help": "a .keras file: the same model, pruned", "nargs": "?"}),
    )
    add_output(parser, "where the page goes, an .html file")
    add_data(parser, "examples with labels, to tell how good the models are")
    for name in ("plan", "sensitivity"):
        parser.add_argument(
            f"--{name}", type=pathlib.Path, metavar="JSON",
            help=f"a {name} to show, as {'prune --plan-out' if name == 'plan' else name} writes it",
        )  # fmt: skip


def run(options: argparse.Namespace) -> Answer:
    check_inputs(options.before, options.after, options.data)
    inputs = (options.before, options.after, options.plan, options.sensitivity, options.data)
    check_outputs((options.output,), inputs, options.force)
    from keras_iplt_cli.work.shipping import reported

    return reported(options)
